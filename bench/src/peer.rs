//! The published crate `kmod-loader`, doing what it can.

use std::ffi::CString;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use kmod_loader::KernelModuleHelper;
use kmod_loader::ModuleLoader;
use kmod_loader::SectionMemOps;
use kmod_loader::SectionPerm;

use crate::memory::Pages;
use crate::tree::Exports;

/// Where symbols are said to be: in reach of memory that is below 2 GiB.
pub const EXPORTS_BASE: u64 = 0x1000_0000;

static EXPORTS: OnceLock<Exports> = OnceLock::new();
/// Memory as the crate's own example takes it: wherever the system gives it.
static ANYWHERE: AtomicBool = AtomicBool::new(false);

/// Prepares the host's side.
pub fn prepare(exports: Exports, anywhere: bool) {
    let _ = EXPORTS.set(exports);
    ANYWHERE.store(anywhere, Ordering::Relaxed);
}

/// Loads a module up to where its init function would be called.
pub fn link(file: &[u8]) -> Result<(), String> {
    let loader = ModuleLoader::<Host>::new(file).map_err(|error| format!("{error:?}"))?;
    loader.load_module(CString::default()).map(drop).map_err(|error| format!("{error:?}"))
}

struct Host;

impl KernelModuleHelper for Host {
    fn vmalloc(size: usize) -> Box<dyn SectionMemOps> {
        Box::new(Memory(Pages::new(size, !ANYWHERE.load(Ordering::Relaxed))))
    }

    fn resolve_symbol(name: &str) -> Option<usize> {
        EXPORTS.get()?.get(name.as_bytes()).map(|&address| address as usize)
    }
}

struct Memory(Option<Pages>);

impl SectionMemOps for Memory {
    fn as_ptr(&self) -> *const u8 {
        self.0.as_ref().map_or(std::ptr::null(), |pages| pages.as_ptr())
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut().map_or(std::ptr::null_mut(), |pages| pages.as_mut_ptr())
    }

    fn change_perms(&mut self, _perms: SectionPerm) -> bool {
        true
    }
}
