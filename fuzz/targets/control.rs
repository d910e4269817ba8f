//! Fuzzes [`wirewitness_fuzz::targets::control`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wirewitness_fuzz::targets::control(data));
