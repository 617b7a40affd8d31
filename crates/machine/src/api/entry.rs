//! What compilers and tracers call: entry hooks, return thunks, indirect branches, stack protection.

use lkm_link::Arch;

use super::Function;
use super::call;
use super::raw;
use super::value;
use crate::abi;
use crate::cpu::Register;
use crate::machine::Machine;
use crate::report::Stop;
use crate::report::StopKind;

pub(crate) const FUNCTIONS: &[Function] = &[
    raw("__fentry__", back),
    raw("__gnu_mcount_nc", mcount),
    raw("__x86_return_thunk", back),
    raw("__x86_indirect_thunk_rax", thunk::<0>),
    raw("__x86_indirect_thunk_rcx", thunk::<1>),
    raw("__x86_indirect_thunk_rdx", thunk::<2>),
    raw("__x86_indirect_thunk_rbx", thunk::<3>),
    raw("__x86_indirect_thunk_rbp", thunk::<5>),
    raw("__x86_indirect_thunk_rsi", thunk::<6>),
    raw("__x86_indirect_thunk_rdi", thunk::<7>),
    raw("__x86_indirect_thunk_r8", thunk::<8>),
    raw("__x86_indirect_thunk_r9", thunk::<9>),
    raw("__x86_indirect_thunk_r10", thunk::<10>),
    raw("__x86_indirect_thunk_r11", thunk::<11>),
    raw("__x86_indirect_thunk_r12", thunk::<12>),
    raw("__x86_indirect_thunk_r13", thunk::<13>),
    raw("__x86_indirect_thunk_r14", thunk::<14>),
    raw("__x86_indirect_thunk_r15", thunk::<15>),
    value("__aeabi_unwind_cpp_pr0", 0),
    value("__aeabi_unwind_cpp_pr1", 0),
    value("__aeabi_unwind_cpp_pr2", 0),
    value("lkm_nothing", 0),
    // Questions about a machine that has nothing special.
    value("x86_match_cpu", 0),
    value("dmi_check_system", 0),
    value("dmi_first_match", 0),
    value("dmi_match", 0),
    value("hv_is_hyperv_initialized", 0),
    value("kvm_para_available", 0),
    value("cpu_has_xfeatures", 0),
    value("drm_firmware_drivers_only", 0),
    value("usb_disabled", 0),
    value("efivar_supports_writes", 0),
    value("pci_get_device", 0),
    value("ipv6_mod_enabled", 1),
    value("__platform_driver_probe", -19),
    value("register_btf_kfunc_id_set", 0),
    value("static_key_count", 0),
    value("arm_heavy_mb", 0),
    value("__SCT__might_resched", 0),
    value("__SCT__cond_resched", 0),
    value("__SCT__preempt_schedule", 0),
    value("__SCT__preempt_schedule_notrace", 0),
    // CONFIG_DEBUG_LIST: the list is in order.
    value("__list_add_valid", 1),
    value("__list_del_entry_valid", 1),
    value("ida_destroy", 0),
    value("idr_destroy", 0),
    value("rtnl_lock", 0),
    value("rtnl_unlock", 0),
    value("rtnl_trylock", 1),
    value("rtnl_is_locked", 1),
    // Paravirtual operations that were not patched to plain instructions.
    call("lkm_pv_trap", |call| {
        let kind = StopKind::UnknownFunction { name: String::from("pv_ops") };
        Err(call.machine.stop(call.kernel, kind))
    }),
    call("__stack_chk_fail", |call| {
        let at = call.site().symbol.to_string();
        let text = format!("stack-protector: Kernel stack is corrupted in: {at}");
        Err(call.machine.panic(call.kernel, text))
    }),
];

/// `__fentry__` and the return thunk: nothing but a return.
fn back(machine: &mut Machine) -> Result<(), Stop> {
    abi::leave_without_value(machine.arch, machine.cpu.as_mut());
    Ok(())
}

/// The caller has pushed its own return address; it wants it back in the link register.
fn mcount(machine: &mut Machine) -> Result<(), Stop> {
    if machine.arch != Arch::Arm {
        return back(machine);
    }
    let sp = machine.cpu.get(Register::Sp);
    let link = machine.read_word(sp);
    abi::leave_without_value(machine.arch, machine.cpu.as_mut());
    machine.cpu.set(Register::Link, link);
    machine.cpu.set(Register::Sp, sp.wrapping_add(4));
    Ok(())
}

/// A branch to the address in a register.
fn thunk<const N: u8>(machine: &mut Machine) -> Result<(), Stop> {
    let to = machine.cpu.get(Register::General(N));
    machine.cpu.set(Register::Pc, to);
    Ok(())
}
