//! What a machine offers to the loader.

use alloc::vec::Vec;
use core::fmt;
use core::ops::DerefMut;

use lkm_link::Region;
use lkm_link::RegionKind;
use lkm_link::post::KernelFacts;
use lkm_link::post::PvOp;
use lkm_link::post::Retpolines;
use lkm_link::post::ReturnThunk;
use lkm_link::post::StaticCallTarget;
use lkm_link::post::StaticKey;
use lkm_link::post::Trampoline;
use lkm_link::relocate::RelocEvent;
use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::signature::AppendedSignature;

use crate::DecompressFault;
use crate::Event;
use crate::Kernel;
use crate::Stage;
use crate::profile::Decompress;

/// A symbol that the kernel image itself exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelExport<'a> {
    /// Its address.
    pub address: u64,
    /// Its CRC, where the kernel has `CONFIG_MODVERSIONS` and the value is known.
    pub crc: Option<u32>,
    /// It is in the GPL-only table.
    pub gpl_only: bool,
    /// Its symbol namespace; empty for none.
    pub namespace: &'a [u8],
}

/// What memory may be used for once the module is formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permissions {
    /// Data.
    ReadWrite,
    /// Constants.
    Read,
    /// Code.
    ReadExecute,
    /// Kernels without `CONFIG_STRICT_MODULE_RWX`.
    ReadWriteExecute,
}

/// Memory that is not there, or not for this use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first address that could not be used.
    pub address: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no access to address {:#x}", self.address)
    }
}

impl core::error::Error for Fault {}

/// Code of a module that the loader calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// A constructor (`.ctors` or `.init_array`); no arguments, returns nothing.
    Constructor,
    /// The init function; no arguments, returns int.
    Init,
    /// The exit function; no arguments, returns nothing.
    Exit,
    /// `set` of a `struct kernel_param_ops`: (value text, `struct kernel_param *`), returns int.
    ParamSet,
    /// `get` of a `struct kernel_param_ops`: (page, `struct kernel_param *`), returns int.
    ParamGet,
    /// `free` of a `struct kernel_param_ops`: (argument), returns nothing.
    ParamFree,
}

/// What the kernel's security modules are asked, with the kernel's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// `kernel_load_data(LOADING_MODULE)`: before `init_module()` copies the module.
    LoadModule,
    /// `kernel_post_load_data()`: after that.
    ModuleLoaded,
    /// `kernel_read_file(READING_MODULE)`: before `finit_module()` reads the file.
    ReadFile,
    /// `kernel_post_read_file()`: after that.
    FileRead,
}

/// Code did not return: it oopsed, ran out of its budget, or called an import that has no implementation. The host
/// keeps the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallError;

/// The machine under a [`Kernel`]: memory, protection, icache, code, the log.
///
/// Functions that run code get the books back, so that what the code calls (`request_module`, `try_module_get`,
/// `%pS`) finds them.
pub trait Host {
    /// Bytes of module memory while it is being linked: a `Vec<u8>` that [`Host::module_commit`] copies, or a handle
    /// to the memory itself.
    type Memory: DerefMut<Target = [u8]>;

    /// Allocates zeroed, page-aligned module memory inside the architecture's range for it: address and bytes.
    /// `None` ends the load with ENOMEM.
    fn module_alloc(&mut self, kind: RegionKind, size: u64) -> Option<(u64, Self::Memory)>;

    /// Takes the linked bytes of an allocation; from here on the loader reaches them by address only.
    fn module_commit(&mut self, region: Region<Self::Memory>);

    /// Gives module memory back, committed or not.
    fn module_free(&mut self, base: u64);

    /// Sets what a page-aligned range of committed module memory may be used for.
    fn protect(&mut self, base: u64, size: u64, permissions: Permissions);

    /// As [`Host::protect`], for a host that may fail to.
    fn try_protect(&mut self, base: u64, size: u64, permissions: Permissions) -> Result<(), Errno> {
        self.protect(base, size, permissions);
        Ok(())
    }

    /// Makes written code visible to instruction fetches.
    fn flush_icache(&mut self, base: u64, size: u64) {
        let _ = (base, size);
    }

    /// Copies kernel memory out.
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Fault>;

    /// Copies into kernel memory, whatever its permissions (the kernel's own alias mapping).
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault>;

    /// Allocates general memory (`kmalloc`), as for the copy of a `charp` parameter.
    fn kmalloc(&mut self, size: u64) -> Option<u64>;

    /// Frees general memory.
    fn kfree(&mut self, address: u64);

    /// Reserves static per-cpu memory: the cookie that is added to symbols of `.data..percpu`.
    fn percpu_alloc(&mut self, size: u64, align: u64) -> Option<u64>;

    /// Writes the template into every possible CPU's copy.
    fn percpu_copy(&mut self, cookie: u64, template: &[u8]);

    /// Gives per-cpu memory back.
    fn percpu_free(&mut self, cookie: u64);

    /// Address that the temporary copy of a file of this size gets (`vmalloc`). Symbols of sections without module
    /// memory point into it. Nothing is ever read there.
    fn copy_address(&mut self, size: u64) -> u64;

    /// Looks a name up among the exports of the kernel image.
    fn kernel_export(&self, name: &[u8]) -> Option<KernelExport<'_>>;

    /// Last resort for an import that nothing exports: an address to stand for it, as an embedded kernel gives to
    /// functions that it does not implement. `None` leaves it unknown.
    fn stand_in(&mut self, name: &[u8]) -> Option<u64> {
        let _ = name;
        None
    }

    /// Runs code of a module until it returns; the value is the return register, as wide as a pointer.
    fn call(
        &mut self,
        kernel: &mut Kernel,
        callee: Callee,
        address: u64,
        arguments: &[u64],
    ) -> Result<u64, CallError>;

    /// The loader must sleep until a module of that name changes its state. `false`: nothing will ever change it
    /// here (or a signal came), so that the wait ends.
    fn wait(&mut self, kernel: &mut Kernel, name: &[u8]) -> bool {
        let _ = (kernel, name);
        false
    }

    /// The caller must sleep until the load of a file is over that another has begun; by its inode. `false`: a signal came,
    /// or it will never be over.
    fn wait_for_file(&mut self, kernel: &mut Kernel, inode: u64) -> bool {
        let _ = (kernel, inode);
        false
    }

    /// Takes a line of the kernel log.
    fn log(&mut self, level: Level, line: fmt::Arguments<'_>);

    /// Listens to the loader.
    fn event(&mut self, event: &Event<'_>) {
        let _ = event;
    }

    /// Whether a stage may start. `false` ends the load as a failure does: everything is given back.
    fn go_on(&mut self, stage: Stage) -> bool {
        let _ = stage;
        true
    }

    /// Whether [`Host::relocated`] is to be called.
    fn wants_relocations(&self) -> bool {
        false
    }

    /// A relocation was applied.
    fn relocated(&mut self, event: &RelocEvent<'_>) {
        let _ = event;
    }

    /// Whether [`Event::Patches`] is to carry each change of the bytes.
    fn wants_patches(&self) -> bool {
        false
    }

    /// What the kernel knows and the later changes of the bytes depend on.
    fn facts(&self) -> &dyn KernelFacts {
        &NoFacts
    }

    /// Checks the signature of a module: ENOKEY if its key is not known, EKEYREJECTED if it is wrong.
    fn verify_signature(&mut self, signature: &AppendedSignature<'_>) -> Result<(), Errno> {
        let _ = signature;
        Err(Errno::ENOKEY)
    }

    /// Decompresses a module for flag 4 of `finit_module`: an xz stream, a zstd frame, or for gzip the deflate stream behind
    /// the header. What follows the end of the stream does not count, and the kernel does not look at gzip's check sum.
    fn decompress(&mut self, format: Decompress, stream: &[u8]) -> Result<Vec<u8>, DecompressFault> {
        let _ = (format, stream);
        Err(DecompressFault::NotBuilt)
    }

    /// Asks the kernel's security modules: `LoadPin` and its kin log their own words.
    fn security(&mut self, hook: Security) -> Result<(), Errno> {
        let _ = hook;
        Ok(())
    }

    /// Whether there is memory for the temporary copy of a file of this size. `false` ends the load with ENOMEM.
    fn room_for_copy(&mut self, size: u64) -> bool {
        let _ = size;
        true
    }

    /// Name of the process that calls (`current->comm`), as lockdown names it.
    fn comm(&self) -> &str {
        "insmod"
    }

    /// `dump_stack()`: logs what the kernel shows of its own state behind a warning.
    fn dump_stack(&mut self, kernel: &mut Kernel) {
        let _ = kernel;
    }

    /// Whether code inside the kernel image has made `/sys/module/NAME`.
    fn has_builtin(&self, name: &[u8]) -> bool {
        let _ = name;
        false
    }
}

/// The facts of a host that has none: an SMP machine without optional features, whose static keys are as they were
/// declared.
#[derive(Debug)]
struct NoFacts;

impl KernelFacts for NoFacts {
    fn symbol(&self, _: &str) -> Option<u64> {
        None
    }

    fn cpu_has(&self, _: u16) -> bool {
        false
    }

    fn pv_op(&self, _: u8) -> Option<PvOp> {
        None
    }

    fn pv_slot(&self, _: u64) -> Option<PvOp> {
        None
    }

    fn retpolines(&self) -> Retpolines {
        Retpolines::Keep
    }

    fn return_thunk(&self) -> ReturnThunk {
        ReturnThunk::Ret
    }

    fn up_patched(&self) -> bool {
        false
    }

    fn is_smp(&self) -> bool {
        true
    }

    fn pv_offset(&self) -> Option<i64> {
        None
    }

    fn static_key(&self, _: u64) -> Option<StaticKey> {
        None
    }

    fn static_call(&self, _: u64) -> Option<StaticCallTarget> {
        None
    }

    fn static_call_trampoline(&self, _: u64) -> Trampoline {
        Trampoline::NotText
    }
}
