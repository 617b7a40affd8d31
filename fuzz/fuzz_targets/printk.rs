//! The fuzz target `printk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lkm_fuzz::printk(data));
