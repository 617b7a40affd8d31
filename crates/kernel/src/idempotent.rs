//! Kernels from 6.5 on load a file once at a time: whoever comes while another loads it waits, and gets that one's result.

use alloc::vec::Vec;

use crate::Host;
use crate::Kernel;
use crate::LoadError;
use crate::ModuleId;
use crate::Reason;

/// A file that is being loaded, by its inode.
#[derive(Clone, Debug)]
pub(crate) struct Loading {
    file: u64,
    /// How many wait for the result.
    waiting: usize,
    /// What the load came to, once it is over; kept until all have it.
    result: Option<Result<ModuleId, LoadError>>,
}

/// The files that are being loaded.
pub(crate) type LoadingFiles = Vec<Loading>;

/// How often a load of the same file is waited for, should the host's wait return without any change.
const WAITS: usize = 1 << 16;

/// `idempotent()` and `idempotent_wait_for_completion()`: `None` for the first, who has to load the file and to call
/// [`complete`]; the others get what it came to. Their own parameters and flags do not count.
pub(crate) fn wait_for_other<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    file: u64,
) -> Result<Option<Result<ModuleId, LoadError>>, Reason> {
    let under_way = |loading: &&mut Loading| loading.file == file && loading.result.is_none();
    match kernel.loading.iter_mut().find(under_way) {
        Some(loading) => loading.waiting += 1,
        None => {
            kernel.loading.push(Loading { file, waiting: 0, result: None });
            return Ok(None);
        }
    }
    for _ in 0..WAITS {
        if let Some(result) = take(kernel, file) {
            return Ok(Some(result));
        }
        if !host.wait_for_file(kernel, file) {
            break;
        }
    }
    if let Some(result) = take(kernel, file) {
        return Ok(Some(result));
    }
    // A signal came; the first goes on without this one.
    if let Some(loading) = kernel.loading.iter_mut().find(|loading| loading.file == file) {
        loading.waiting = loading.waiting.saturating_sub(1);
    }
    Err(Reason::Interrupted)
}

/// The result for one who has waited for it.
fn take(kernel: &mut Kernel, file: u64) -> Option<Result<ModuleId, LoadError>> {
    let over = |loading: &Loading| loading.file == file && loading.result.is_some();
    let index = kernel.loading.iter().position(over)?;
    let loading = kernel.loading.get_mut(index)?;
    loading.waiting = loading.waiting.saturating_sub(1);
    if loading.waiting == 0 { kernel.loading.remove(index).result } else { loading.result.clone() }
}

/// `idempotent_complete()`: the load is over; those who wait may have its result.
pub(crate) fn complete(kernel: &mut Kernel, file: u64, result: &Result<ModuleId, LoadError>) {
    let under_way = |loading: &Loading| loading.file == file && loading.result.is_none();
    let Some(index) = kernel.loading.iter().position(under_way) else { return };
    match kernel.loading.get_mut(index) {
        Some(loading) if loading.waiting > 0 => loading.result = Some(result.clone()),
        _ => _ = kernel.loading.remove(index),
    }
}
