//! The loader's refusals: errno, log line and taints as measured on the kernels.

mod damaged;
mod entry;
mod idempotent;
mod nested;
mod old_kernels;
mod sections;
mod symbols;
mod taints;
mod versions;
mod world;
