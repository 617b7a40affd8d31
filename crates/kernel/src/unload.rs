//! `delete_module()`, and giving back what a module had.

use alloc::vec::Vec;
use core::mem;

use crate::Callee;
use crate::Event;
use crate::Host;
use crate::Kernel;
use crate::Module;
use crate::ModuleId;
use crate::Stage;
use crate::State;
use crate::Taints;
use crate::UnloadError;
use crate::params;
use crate::profile::LongName;
use crate::taint::Lockdep;
use crate::this_module;

/// Flags of `delete_module()`: those of `open()`.
pub const O_NONBLOCK: u32 = 0o4000;
/// Remove by force.
pub const O_TRUNC: u32 = 0o1000;

/// `delete_module(name, flags)`. `None` for the name: it cannot be read.
pub fn delete_module<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    name: Option<&[u8]>,
    flags: u32,
) -> Result<(), UnloadError> {
    host.event(&Event::Begin { stage: Stage::DeleteModule });
    let checked = may_delete(kernel, host, name, flags);
    let result = checked.as_ref().map(|_| ()).map_err(UnloadError::errno);
    host.event(&Event::End { stage: Stage::DeleteModule, result, numbers: &[] });
    let id = checked?;

    host.event(&Event::Begin { stage: Stage::Exit });
    let exit = kernel.module(id).and_then(|module| module.exit);
    let exited = match exit {
        Some(exit) => host.call(kernel, Callee::Exit, exit, &[]).map(|_| ()),
        None => Ok(()),
    };
    let result = exited.map_err(|_| UnloadError::ExitDied);
    let errno = result.as_ref().map(|_| ()).map_err(UnloadError::errno);
    host.event(&Event::End { stage: Stage::Exit, result: errno, numbers: &[] });
    // The kernel's thread died in the exit function: the module hangs in its state GOING until the next boot.
    result?;

    if let Some(module) = kernel.module(id) {
        kernel.last_unloaded = Some((module.name.clone(), module.taints));
    }
    host.event(&Event::Begin { stage: Stage::FreeModule });
    free_module(kernel, host, id);
    host.event(&Event::End { stage: Stage::FreeModule, result: Ok(()), numbers: &[] });
    Ok(())
}

/// Removes a module by its identity, as [`delete_module`] does by its name.
pub fn delete_module_by_id<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    flags: u32,
) -> Result<(), UnloadError> {
    let name = kernel.module(id).map(|module| module.name.clone()).ok_or(UnloadError::NotFound)?;
    delete_module(kernel, host, Some(&name), flags)
}

/// The checks; the module is GOING after them.
fn may_delete<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    name: Option<&[u8]>,
    flags: u32,
) -> Result<ModuleId, UnloadError> {
    if !kernel.profile.link.unload {
        return Err(UnloadError::NotBuilt);
    }
    if !kernel.capabilities.sys_module || kernel.options.modules_disabled {
        return Err(UnloadError::NotPermitted);
    }
    let name = name.ok_or(UnloadError::NameFault)?;
    let mut name = name.split(|&byte| byte == 0).next().unwrap_or(&[]);
    let longest = kernel.profile.module_name_len() - 1;
    match kernel.profile.rules.long_name {
        LongName::Refuse if name.is_empty() || name.len() > longest => return Err(UnloadError::NotFound),
        _ => name = name.get(..longest).unwrap_or(name),
    }
    let module = kernel.find_module(name).ok_or(UnloadError::NotFound)?;
    let id = module.id;
    if !module.users.is_empty() {
        let users = module.users.iter().filter_map(|&user| kernel.module(user));
        return Err(UnloadError::Used(users.map(|user| user.name.clone()).collect()));
    }
    if module.state != State::Live {
        return Err(UnloadError::Busy);
    }
    let permanent = module.is_permanent();
    if permanent && !try_force_unload(kernel, host, flags) {
        return Err(UnloadError::Permanent);
    }
    try_stop_module(kernel, host, id, flags)?;
    Ok(id)
}

/// `try_force_unload()`
fn try_force_unload<H: Host>(kernel: &mut Kernel, host: &mut H, flags: u32) -> bool {
    let force = flags & O_TRUNC != 0 && kernel.profile.config.force_unload;
    if force {
        kernel.add_taint(host, Taints::FORCED_RMMOD, Lockdep::NowUnreliable);
    }
    force
}

/// `try_stop_module()`
fn try_stop_module<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    flags: u32,
) -> Result<(), UnloadError> {
    let left = kernel.try_release_module_ref(id);
    if left != 0 && !try_force_unload(kernel, host, flags) {
        return Err(UnloadError::Referenced(left));
    }
    set_state(kernel, host, id, State::Going);
    Ok(())
}

/// Changes the state of a module, in its memory too.
pub(crate) fn set_state<H: Host>(kernel: &mut Kernel, host: &mut H, id: ModuleId, state: State) {
    let Some(module) = kernel.module_mut(id) else { return };
    module.state = state;
    if let Some(module) = kernel.module(id) {
        this_module::update(host, &kernel.profile, module);
        host.event(&Event::State { module });
    }
}

/// `free_module()`: takes a module whose code has ended out of everything and gives its memory back.
pub(crate) fn free_module<H: Host>(kernel: &mut Kernel, host: &mut H, id: ModuleId) {
    if let Some(module) = kernel.module_mut(id) {
        module.in_sysfs = false;
        module.state = State::Unformed;
    }
    // The functions of custom types are code of this module, which is still there.
    params::destroy_params(kernel, host, id);
    kernel.module_unload_free(id);
    remove(kernel, host, id);
}

/// Takes a module out of the list and gives its memory back.
pub(crate) fn remove<H: Host>(kernel: &mut Kernel, host: &mut H, id: ModuleId) {
    let Some(index) = kernel.modules.iter().position(|module| module.id == id) else { return };
    let mut module: Module = kernel.modules.remove(index);
    if let Some(args) = module.args.take() {
        host.kfree(args);
    }
    if let Some((cookie, _)) = module.percpu.take() {
        host.percpu_free(cookie);
    }
    // Init parts first, the core last, as the kernel does.
    let (init, core): (Vec<_>, Vec<_>) =
        mem::take(&mut module.memory).into_iter().partition(|memory| memory.layout.kind.is_init());
    for memory in init.iter().chain(&core) {
        host.module_free(memory.base);
    }
    this_module::chain(host, kernel, index);
    host.event(&Event::Removed { name: &module.name });
}
