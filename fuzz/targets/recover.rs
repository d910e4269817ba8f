//! Fuzzes [`wirewitness_fuzz::targets::recover_folder`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wirewitness_fuzz::targets::recover_folder(data));
