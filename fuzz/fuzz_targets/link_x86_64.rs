//! The fuzz target `link_x86_64`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lkm_fuzz::link_x86_64(data));
