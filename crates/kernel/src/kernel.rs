//! The books of one kernel.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use crate::Module;
use crate::ModuleId;
use crate::Profile;
use crate::State;
use crate::Taints;
use crate::idempotent::LoadingFiles;
use crate::module::MODULE_REF_BASE;

/// What the caller of a system call may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `CAP_SYS_MODULE`: load and remove modules.
    pub sys_module: bool,
    /// `CAP_SYSLOG`: see kernel addresses.
    pub syslog: bool,
}

/// How far the kernel is locked down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lockdown {
    /// Not at all.
    #[default]
    None,
    /// `lockdown=integrity`
    Integrity,
    /// `lockdown=confidentiality`
    Confidentiality,
}

/// What the kernel command line and sysctl say about modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootOptions {
    /// `module_blacklist=`: names, compared exactly.
    pub module_blacklist: Vec<String>,
    /// `initcall_blacklist=`: names of init functions.
    pub initcall_blacklist: Vec<String>,
    /// `module.sig_enforce`
    pub sig_enforce: bool,
    /// `lockdown=`
    pub lockdown: Lockdown,
    /// `nomodule`, or `kernel.modules_disabled` = 1.
    pub modules_disabled: bool,
    /// `kernel.kptr_restrict`
    pub kptr_restrict: u8,
}

/// Lines that are printed once per boot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Once {
    lockdep: Cell<bool>,
    no_symbol_version: Cell<bool>,
    verification_failed: Cell<bool>,
    livepatch: Cell<bool>,
    btf_mismatch: Cell<bool>,
}

impl Once {
    fn first(flag: &Cell<bool>) -> bool {
        !flag.replace(true)
    }

    pub(crate) fn first_taint_of_lockdep(&self) -> bool {
        Once::first(&self.lockdep)
    }

    pub(crate) fn first_missing_version(&self) -> bool {
        Once::first(&self.no_symbol_version)
    }

    pub(crate) fn first_unverified(&self) -> bool {
        Once::first(&self.verification_failed)
    }

    pub(crate) fn first_livepatch(&self) -> bool {
        Once::first(&self.livepatch)
    }

    pub(crate) fn first_btf_mismatch(&self) -> bool {
        Once::first(&self.btf_mismatch)
    }
}

/// The books of one kernel: its profile, its modules and what ties them, its taints.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Which kernel this is.
    pub profile: Profile,
    /// Its command line.
    pub options: BootOptions,
    /// Who calls.
    pub capabilities: Capabilities,
    /// Its taints.
    pub taints: Taints,
    /// Name and taints of the module that went last.
    pub last_unloaded: Option<(Vec<u8>, Taints)>,
    /// Latest first, as the kernel's list.
    pub(crate) modules: Vec<Module>,
    pub(crate) once: Once,
    /// Files that are being loaded.
    pub(crate) loading: LoadingFiles,
    next_id: u64,
}

impl Kernel {
    /// A kernel that has just booted.
    pub fn new(profile: Profile) -> Kernel {
        Kernel {
            profile,
            options: BootOptions::default(),
            capabilities: Capabilities { sys_module: true, syslog: true },
            taints: Taints::empty(),
            last_unloaded: None,
            modules: Vec::new(),
            once: Once::default(),
            loading: LoadingFiles::new(),
            next_id: 1,
        }
    }

    pub(crate) fn new_id(&mut self) -> ModuleId {
        let id = ModuleId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    /// All modules in any state, latest first.
    pub fn modules(&self) -> impl DoubleEndedIterator<Item = &Module> {
        self.modules.iter()
    }

    /// A module in any state.
    pub fn module(&self, id: ModuleId) -> Option<&Module> {
        self.modules.iter().find(|module| module.id == id)
    }

    pub(crate) fn module_mut(&mut self, id: ModuleId) -> Option<&mut Module> {
        self.modules.iter_mut().find(|module| module.id == id)
    }

    /// `find_module_all()`: a module of exactly that name in any state.
    pub fn find_module_all(&self, name: &[u8]) -> Option<&Module> {
        self.modules.iter().find(|module| module.name == name)
    }

    /// `find_module()`: a module of exactly that name that is formed.
    pub fn find_module(&self, name: &[u8]) -> Option<&Module> {
        self.find_module_all(name).filter(|module| module.state != State::Unformed)
    }

    /// `__module_address()`: the formed module that an address belongs to.
    pub fn module_at(&self, address: u64) -> Option<&Module> {
        self.modules.iter().find(|module| module.state != State::Unformed && module.contains(address))
    }

    /// The module whose `struct module` lies at an address, as code names it by `THIS_MODULE`.
    pub fn module_by_struct(&self, this_module: u64) -> Option<&Module> {
        self.modules.iter().find(|module| module.this_module == this_module)
    }

    /// `try_module_get()`: takes a reference unless the module is going.
    pub fn try_module_get(&mut self, id: ModuleId) -> bool {
        match self.module_mut(id) {
            Some(module) if module.state != State::Going && module.refcnt > 0 => {
                module.refcnt = module.refcnt.saturating_add(1);
                true
            }
            _ => false,
        }
    }

    /// `strong_try_module_get()`: as [`Kernel::try_module_get`], and only a module whose init is over.
    pub fn strong_try_module_get(&mut self, id: ModuleId) -> bool {
        self.module(id).is_some_and(|module| module.state == State::Live) && self.try_module_get(id)
    }

    /// `module_put()`: gives a reference back. `false` if there was none to give back, which is a bug of the caller
    /// that the kernel warns of.
    pub fn module_put(&mut self, id: ModuleId) -> bool {
        match self.module_mut(id) {
            Some(module) if module.refcnt > 0 => {
                module.refcnt -= 1;
                true
            }
            _ => false,
        }
    }

    /// `try_release_module_ref()`: what is left of the counter after the base is taken off; 0 means released.
    pub(crate) fn try_release_module_ref(&mut self, id: ModuleId) -> i32 {
        let Some(module) = self.module_mut(id) else { return 0 };
        let left = module.refcnt - MODULE_REF_BASE;
        module.refcnt = left;
        if left > 0 {
            module.refcnt += MODULE_REF_BASE;
        }
        left
    }
}
