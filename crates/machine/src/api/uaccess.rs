//! User memory: copies in and out, and the window that stands for a program's buffers.

use lkm_kernel::numbers::kstrto;
use lkm_kernel::numbers::kstrtobool;
use lkm_link::Arch;
use lkm_module::Errno;

use super::Call;
use super::Done;
use super::Function;
use super::call;
use super::raw;
use super::slab::buffer;
use super::value;
use crate::abi;
use crate::cpu::Register;
use crate::machine::Machine;
use crate::report::Stop;

pub(crate) const FUNCTIONS: &[Function] = &[
    call("_copy_from_user", copy_from_user),
    call("__copy_from_user", copy_from_user),
    call("arm_copy_from_user", copy_from_user),
    call("raw_copy_from_user", copy_from_user),
    call("_copy_to_user", copy_to_user),
    call("arm_copy_to_user", copy_to_user),
    call("raw_copy_to_user", copy_to_user),
    call("copy_user_generic_unrolled", copy_either),
    call("copy_user_generic_string", copy_either),
    call("copy_user_enhanced_fast_string", copy_either),
    call("clear_user", clear_user),
    call("__clear_user", clear_user),
    call("arm_clear_user", clear_user),
    call("strncpy_from_user", |call| {
        let (to, from, limit) = (call.word(), call.word(), call.word());
        match call.user_string(from, limit) {
            Some(text) => {
                let length = text.len() as u64;
                let mut bytes = text;
                if length < limit {
                    bytes.push(0);
                }
                call.put(to, &bytes)?;
                Ok(length)
            }
            None => Ok(call.error(Errno::EFAULT)),
        }
    }),
    call("strnlen_user", |call| {
        let (from, limit) = (call.word(), call.word());
        Ok(call.user_string(from, limit).map_or(0, |text| text.len() as u64 + 1))
    }),
    call("memdup_user", |call| {
        let (from, size) = (call.word(), call.word());
        let bytes =
            buffer(size).and_then(|mut bytes| call.machine.read_user(from, &mut bytes).then_some(bytes));
        let Some(bytes) = bytes else { return Ok(call.error(Errno::EFAULT)) };
        let to = call.kmalloc(size)?;
        if to == 0 {
            return Ok(call.error(Errno::ENOMEM));
        }
        call.put(to, &bytes)?;
        Ok(to)
    }),
    call("memdup_user_nul", |call| {
        let (from, size) = (call.word(), call.word());
        let bytes =
            buffer(size).and_then(|mut bytes| call.machine.read_user(from, &mut bytes).then_some(bytes));
        let Some(bytes) = bytes else { return Ok(call.error(Errno::EFAULT)) };
        match call.duplicate(&bytes)? {
            0 => Ok(call.error(Errno::ENOMEM)),
            to => Ok(to),
        }
    }),
    call("simple_read_from_buffer", |call| {
        // (to, count, ppos, from, available)
        let (to, count, place) = (call.word(), call.word(), call.word());
        let (from, available) = (call.word(), call.word());
        let pos = call.position(place);
        if pos < 0 {
            return Ok(call.error(Errno::EINVAL));
        }
        let pos = pos.cast_unsigned();
        if pos >= available || count == 0 {
            return Ok(0);
        }
        let bytes = call.bytes(from.wrapping_add(pos), count.min(available - pos))?;
        if !call.machine.write_user(to, &bytes) {
            return Ok(call.error(Errno::EFAULT));
        }
        call.set_position(place, (pos + bytes.len() as u64).cast_signed());
        Ok(bytes.len() as u64)
    }),
    call("simple_write_to_buffer", |call| {
        // (to, available, ppos, from, count)
        let (to, available, place) = (call.word(), call.word(), call.word());
        let (from, count) = (call.word(), call.word());
        let pos = call.position(place);
        if pos < 0 {
            return Ok(call.error(Errno::EINVAL));
        }
        let pos = pos.cast_unsigned();
        if pos >= available || count == 0 {
            return Ok(0);
        }
        let Some(mut bytes) = buffer(count.min(available - pos)) else { return Ok(0) };
        if !call.machine.read_user(from, &mut bytes) {
            return Ok(call.error(Errno::EFAULT));
        }
        call.put(to.wrapping_add(pos), &bytes)?;
        call.set_position(place, (pos + bytes.len() as u64).cast_signed());
        Ok(bytes.len() as u64)
    }),
    call("kstrtoint_from_user", |call| from_user(call, 32, true)),
    call("kstrtouint_from_user", |call| from_user(call, 32, false)),
    call("kstrtoll_from_user", |call| from_user(call, 64, true)),
    call("kstrtoull_from_user", |call| from_user(call, 64, false)),
    call("kstrtol_from_user", |call| {
        let bits = call.machine.layout.pointer as u32 * 8;
        from_user(call, bits, true)
    }),
    call("kstrtoul_from_user", |call| {
        let bits = call.machine.layout.pointer as u32 * 8;
        from_user(call, bits, false)
    }),
    call("kstrtou8_from_user", |call| from_user(call, 8, false)),
    call("kstrtou16_from_user", |call| from_user(call, 16, false)),
    call("kstrtobool_from_user", |call| {
        let (from, count, to) = (call.word(), call.word(), call.word());
        let Some(mut bytes) = buffer(count.min(3)) else { return Ok(0) };
        if !call.machine.read_user(from, &mut bytes) {
            return Ok(call.error(Errno::EFAULT));
        }
        match kstrtobool(&bytes) {
            Ok(value) => {
                call.put(to, &[u8::from(value)])?;
                Ok(0)
            }
            Err(errno) => Ok(call.error(errno)),
        }
    }),
    call("__check_object_size", |call| {
        // (address, size, to_user): what CONFIG_HARDENED_USERCOPY makes of objects of the heap.
        let (address, size, to_user) = (call.word(), call.word(), call.u32() & 0xff != 0);
        if call.report_access(address, size, !to_user) {
            return Ok(0);
        }
        let what = if to_user { "exposure" } else { "overwrite" };
        let (direction, preposition) = if to_user { ("from", "of") } else { ("to", "of") };
        let text = format!(
            "usercopy: Kernel memory {what} attempt detected {direction} SLUB object (size {size}) {preposition} a shorter one!"
        );
        Err(call.machine.panic(call.kernel, text))
    }),
    value("__virt_addr_valid", 1),
    raw("__get_user_1", |machine| get_user(machine, 1)),
    raw("__get_user_2", |machine| get_user(machine, 2)),
    raw("__get_user_4", |machine| get_user(machine, 4)),
    raw("__get_user_8", |machine| get_user(machine, 8)),
    raw("__get_user_nocheck_1", |machine| get_user(machine, 1)),
    raw("__get_user_nocheck_2", |machine| get_user(machine, 2)),
    raw("__get_user_nocheck_4", |machine| get_user(machine, 4)),
    raw("__get_user_nocheck_8", |machine| get_user(machine, 8)),
    raw("__put_user_1", |machine| put_user(machine, 1)),
    raw("__put_user_2", |machine| put_user(machine, 2)),
    raw("__put_user_4", |machine| put_user(machine, 4)),
    raw("__put_user_8", |machine| put_user(machine, 8)),
    raw("__put_user_nocheck_1", |machine| put_user(machine, 1)),
    raw("__put_user_nocheck_2", |machine| put_user(machine, 2)),
    raw("__put_user_nocheck_4", |machine| put_user(machine, 4)),
    raw("__put_user_nocheck_8", |machine| put_user(machine, 8)),
];

fn copy_from_user(call: &mut Call<'_>) -> Done {
    let (to, from, size) = (call.word(), call.word(), call.word());
    let Some(mut bytes) = buffer(size) else { return Ok(size) };
    if call.machine.read_user(from, &mut bytes) {
        call.put(to, &bytes)?;
        return Ok(0);
    }
    // What could not be copied is zeroed.
    bytes.fill(0);
    call.put(to, &bytes)?;
    Ok(size)
}

fn copy_to_user(call: &mut Call<'_>) -> Done {
    let (to, from, size) = (call.word(), call.word(), call.word());
    if buffer(size).is_none() {
        return Ok(size);
    }
    let bytes = call.bytes(from, size)?;
    Ok(if call.machine.write_user(to, &bytes) { 0 } else { size })
}

/// x86: one function for both directions.
fn copy_either(call: &mut Call<'_>) -> Done {
    let arguments = call.arguments;
    let to = call.word();
    call.arguments = arguments;
    if call.machine.plan.user.contains(&to) { copy_to_user(call) } else { copy_from_user(call) }
}

fn clear_user(call: &mut Call<'_>) -> Done {
    let (to, size) = (call.word(), call.word());
    let Some(bytes) = buffer(size) else { return Ok(size) };
    Ok(if call.machine.write_user(to, &bytes) { 0 } else { size })
}

fn from_user(call: &mut Call<'_>, bits: u32, signed: bool) -> Done {
    // (from, count, base, result): the number has to fit a small buffer.
    let (from, count, base, to) = (call.word(), call.word(), call.u32(), call.word());
    let Some(mut bytes) = buffer(count.min(67)) else { return Ok(0) };
    if !call.machine.read_user(from, &mut bytes) {
        return Ok(call.error(Errno::EFAULT));
    }
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    match kstrto(text, base, bits, signed) {
        Ok(value) => {
            call.put(to, value.to_le_bytes().get(..bits as usize / 8).unwrap_or_default())?;
            Ok(0)
        }
        Err(errno) => Ok(call.error(errno)),
    }
}

/// x86_64: address in rax, value in rdx, result in eax. ARM: address in r0, value in r2 and r3, result in r0.
fn get_user(machine: &mut Machine, size: usize) -> Result<(), Stop> {
    let arm = machine.arch == Arch::Arm;
    let address = machine.cpu.get(Register::Return);
    let mut bytes = [0; 8];
    let good = machine.read_user(address, bytes.get_mut(..size).unwrap_or_default());
    let value = if good { u64::from_le_bytes(bytes) } else { 0 };
    let result = if good { 0 } else { machine.error(Errno::EFAULT) };
    machine.cpu.set(Register::General(2), if arm { value & 0xffff_ffff } else { value });
    if arm && size == 8 {
        machine.cpu.set(Register::General(3), value >> 32);
    }
    machine.cpu.set(Register::Return, result);
    abi::leave_without_value(machine.arch, machine.cpu.as_mut());
    Ok(())
}

/// x86_64: value in rax, address in rcx, result in ecx. ARM: address in r0, value in r2 and r3, result in r0.
fn put_user(machine: &mut Machine, size: usize) -> Result<(), Stop> {
    let arm = machine.arch == Arch::Arm;
    let (address, value) = if arm {
        let high = if size == 8 { machine.cpu.get(Register::General(3)) << 32 } else { 0 };
        (machine.cpu.get(Register::General(0)), machine.cpu.get(Register::General(2)) | high)
    } else {
        (machine.cpu.get(Register::General(1)), machine.cpu.get(Register::General(0)))
    };
    let bytes = value.to_le_bytes();
    let good = machine.write_user(address, bytes.get(..size).unwrap_or_default());
    let result = if good { 0 } else { machine.error(Errno::EFAULT) };
    machine.cpu.set(Register::General(if arm { 0 } else { 1 }), result);
    abi::leave_without_value(machine.arch, machine.cpu.as_mut());
    Ok(())
}

impl Machine {
    fn in_user(&self, address: u64, size: usize) -> bool {
        self.plan.user.contains(&address) && self.plan.user.end - address >= size as u64
    }

    /// Reads a user program's memory; `false` if it has none there.
    pub(crate) fn read_user(&self, address: u64, bytes: &mut [u8]) -> bool {
        bytes.is_empty() || self.in_user(address, bytes.len()) && self.cpu.read(address, bytes).is_ok()
    }

    /// Writes a user program's memory.
    pub(crate) fn write_user(&mut self, address: u64, bytes: &[u8]) -> bool {
        bytes.is_empty() || self.in_user(address, bytes.len()) && self.cpu.write(address, bytes).is_ok()
    }
}

impl Call<'_> {
    fn user_string(&mut self, from: u64, limit: u64) -> Option<Vec<u8>> {
        let room = self.machine.plan.user.end.checked_sub(from).filter(|_| self.machine.in_user(from, 1))?;
        Some(self.machine.read_string(from, limit.min(room).min(1 << 20) as usize))
    }

    /// A `loff_t` that is passed by its address.
    pub(crate) fn position(&self, place: u64) -> i64 {
        let mut bytes = [0; 8];
        let _ = self.machine.cpu.read(place, &mut bytes);
        i64::from_le_bytes(bytes)
    }

    /// Sets it.
    pub(crate) fn set_position(&mut self, place: u64, value: i64) {
        self.write_checked(place, &value.to_le_bytes());
    }
}
