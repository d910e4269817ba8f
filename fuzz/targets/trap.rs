//! Fuzzes [`wirewitness_fuzz::targets::trigger::trap`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wirewitness_fuzz::targets::trigger::trap(data));
