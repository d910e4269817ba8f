//! Fuzzes [`wirewitness_fuzz::targets::trigger::logfile`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wirewitness_fuzz::targets::trigger::logfile(data));
