//! Fuzzes [`wirewitness_fuzz::targets::slot_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wirewitness_fuzz::targets::slot_file(data));
