//! Fuzzes [`wirewitness_fuzz::targets::trigger::webhook`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wirewitness_fuzz::targets::trigger::webhook(data));
