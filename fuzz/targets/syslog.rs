//! Fuzzes [`wirewitness_fuzz::targets::syslog`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wirewitness_fuzz::targets::syslog(data));
