//! The fuzz target `load`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lkm_fuzz::load(data));
