//! Everything that a module says.

/// Reads all that `lkm-module` can tell of a file, and lets the checks of every kernel generation see it.
pub fn module(data: &[u8]) {
    lkm_module::testing::walk::everything(data);
}
