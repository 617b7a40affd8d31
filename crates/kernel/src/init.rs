//! `do_init_module()`: the init function and what follows it.

use alloc::vec::Vec;

use lkm_module::Level;
use lkm_module::Text;

use crate::Callee;
use crate::Event;
use crate::Host;
use crate::Kernel;
use crate::ModuleId;
use crate::ModuleMemory;
use crate::Reason;
use crate::State;
use crate::event::Numbers;
use crate::formation;
use crate::memory::Words;
use crate::params;
use crate::this_module;
use crate::unload;

/// Runs the init function. A module whose init fails is taken down completely.
pub(crate) fn do_init_module<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    if let Some(module) = kernel.module(id) {
        host.event(&Event::BeforeInit { module });
    }
    let init = kernel.module(id).and_then(|module| module.init);
    let constructed = do_mod_ctors(kernel, host, id);
    match constructed.and_then(|()| init.map_or(Ok(0), |init| do_one_initcall(kernel, host, init))) {
        Ok(0) => {}
        Ok(value) => {
            let Some(module) = kernel.module(id) else { return Ok(()) };
            let name = module.name.clone();
            host.log(
                Level::Warning,
                format_args!(
                    "do_init_module: '{}'->init suspiciously returned {value}, it should follow 0/-E convention\n\
                     do_init_module: loading module anyway...",
                    Text(&name)
                ),
            );
            host.dump_stack(kernel);
        }
        Err(reason) => {
            fail_free_freeinit(kernel, host, id);
            return Err(reason);
        }
    }
    unload::set_state(kernel, host, id, State::Live);
    kernel.module_put(id);
    free_init(kernel, host, id, numbers);
    Ok(())
}

/// `do_mod_ctors()`: calls the constructors, on kernels that have them.
fn do_mod_ctors<H: Host>(kernel: &mut Kernel, host: &mut H, id: ModuleId) -> Result<(), Reason> {
    let words = Words::of(kernel.profile.arch);
    let (table, count) = kernel.module(id).map_or((0, 0), |module| module.ctors);
    for index in 0..count {
        let at = table.wrapping_add(index.wrapping_mul(words.size()));
        let address = words.read_pointer(host, at).map_err(|_| Reason::InitDied)?;
        host.call(kernel, Callee::Constructor, address, &[]).map_err(|_| Reason::InitDied)?;
    }
    Ok(())
}

/// `do_one_initcall()`: a negative value is an error, any other is success.
fn do_one_initcall<H: Host>(kernel: &mut Kernel, host: &mut H, init: u64) -> Result<i32, Reason> {
    if initcall_blacklisted(kernel, init) {
        return Err(Reason::InitcallBlacklisted);
    }
    let value = host.call(kernel, Callee::Init, init, &[]).map_err(|_| Reason::InitDied)?;
    let value = value as u32 as i32;
    host.event(&Event::InitReturned { value });
    if value < 0 { Err(Reason::Init(value)) } else { Ok(value) }
}

/// `initcall_blacklisted()`: by the symbol that an oops would name for the init function.
fn initcall_blacklisted(kernel: &Kernel, init: u64) -> bool {
    let names = &kernel.options.initcall_blacklist;
    if names.is_empty() {
        return false;
    }
    let Some(place) = kernel.module_address_lookup(init) else { return false };
    names.iter().any(|name| name.as_bytes() == place.symbol)
}

/// The init function failed.
fn fail_free_freeinit<H: Host>(kernel: &mut Kernel, host: &mut H, id: ModuleId) {
    unload::set_state(kernel, host, id, State::Going);
    unload::free_module(kernel, host, id);
}

/// Gives the init memory back and seals what was writable for init.
fn free_init<H: Host>(kernel: &mut Kernel, host: &mut H, id: ModuleId, numbers: &mut Numbers) {
    let Some(module) = kernel.module_mut(id) else { return };
    let (init, core): (Vec<_>, Vec<_>) =
        module.memory.iter().copied().partition(|memory| memory.layout.kind.is_init());
    module.memory.clone_from(&core);
    module.kallsyms.switch_to_core();
    trim_init_extable(kernel, host, id, &init);
    let sealed = core.iter().try_for_each(|memory| formation::protect(kernel, host, memory, true));
    if let Err(errno) = sealed
        && kernel.profile.rules.protect_may_fail
        && let Some(module) = kernel.module(id)
    {
        host.log(
            Level::Warning,
            format_args!(
                "{}: module_enable_rodata_ro_after_init() returned -{}, ro_after_init data might still be writable",
                Text(&module.name),
                errno.raw()
            ),
        );
    }
    for memory in &init {
        host.module_free(memory.base);
    }
    numbers.bytes("init memory freed", init.iter().map(|memory| memory.layout.size).sum());
    if let Some(module) = kernel.module(id) {
        this_module::update_after_init(host, &kernel.profile, module);
    }
}

/// `trim_init_extable()`: the sorted table loses the entries of init code at both its ends.
fn trim_init_extable<H: Host>(kernel: &mut Kernel, host: &mut H, id: ModuleId, init: &[ModuleMemory]) {
    let words = Words::of(kernel.profile.arch);
    let relative = kernel.profile.patch.extable_relative();
    let size = if relative { 12 } else { 2 * words.size() };
    let Some((mut base, mut count)) = kernel.module(id).map(|module| module.extable) else { return };
    let mut of_init = |index: u64, base: u64| {
        let at = base.wrapping_add(index.wrapping_mul(size));
        let instruction = match relative {
            true => words.read_u32(host, at).map(|offset| at.wrapping_add(offset as i32 as i64 as u64)),
            false => words.read_pointer(host, at),
        };
        let within =
            |address: u64| init.iter().any(|memory| address.wrapping_sub(memory.base) < memory.layout.size);
        instruction.is_ok_and(within)
    };
    while count > 0 && of_init(0, base) {
        base = base.wrapping_add(size);
        count -= 1;
    }
    while count > 0 && of_init(count - 1, base) {
        count -= 1;
    }
    if let Some(module) = kernel.module_mut(id) {
        module.extable = (base, count);
    }
}

/// Takes a formed module down whose load failed before its init function ran.
pub(crate) fn unwind<H: Host>(kernel: &mut Kernel, host: &mut H, id: ModuleId) {
    if let Some(module) = kernel.module_mut(id) {
        module.in_sysfs = false;
    }
    if kernel.module(id).is_some_and(|module| module.state == State::Coming) {
        unload::set_state(kernel, host, id, State::Going);
    }
    params::destroy_params(kernel, host, id);
    kernel.module_unload_free(id);
    unload::remove(kernel, host, id);
}
