//! The fuzz target `link_arm`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lkm_fuzz::link_arm(data));
