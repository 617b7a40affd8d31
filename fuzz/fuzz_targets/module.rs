//! The fuzz target `module`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lkm_fuzz::module(data));
