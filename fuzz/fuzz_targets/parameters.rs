//! The fuzz target `parameters`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lkm_fuzz::parameters(data));
