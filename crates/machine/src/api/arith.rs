//! Division and 64-bit arithmetic that compilers call on ARM, atomics, and the kernel's own division helpers.

use lkm_link::Arch;

use super::Call;
use super::Done;
use super::Function;
use super::call;
use super::int;
use super::raw;
use crate::abi;
use crate::cpu::Register;
use crate::machine::Machine;
use crate::report::Stop;

pub(crate) const FUNCTIONS: &[Function] = &[
    call("__aeabi_uidiv", |call| {
        let (a, b) = (call.u32(), call.u32());
        Ok(u64::from(a.checked_div(b).unwrap_or(0)))
    }),
    call("__udivsi3", |call| {
        let (a, b) = (call.u32(), call.u32());
        Ok(u64::from(a.checked_div(b).unwrap_or(0)))
    }),
    call("__umodsi3", |call| {
        let (a, b) = (call.u32(), call.u32());
        Ok(u64::from(a.checked_rem(b).unwrap_or(0)))
    }),
    call("__aeabi_idiv", |call| {
        let (a, b) = (call.i32(), call.i32());
        Ok(word(if b == 0 { 0 } else { a.wrapping_div(b) }))
    }),
    call("__divsi3", |call| {
        let (a, b) = (call.i32(), call.i32());
        Ok(word(if b == 0 { 0 } else { a.wrapping_div(b) }))
    }),
    call("__modsi3", |call| {
        let (a, b) = (call.i32(), call.i32());
        Ok(word(if b == 0 { 0 } else { a.wrapping_rem(b) }))
    }),
    // Quotient in r0, remainder in r1.
    call("__aeabi_uidivmod", |call| {
        let (a, b) = (call.u32(), call.u32());
        Ok(u64::from(a.checked_div(b).unwrap_or(0)) | u64::from(a.checked_rem(b).unwrap_or(a)) << 32)
    }),
    call("__aeabi_idivmod", |call| {
        let (a, b) = (call.i32(), call.i32());
        let (quotient, rest) = if b == 0 { (0, a) } else { (a.wrapping_div(b), a.wrapping_rem(b)) };
        Ok(word(quotient) | word(rest) << 32)
    }),
    call("__aeabi_lmul", |call| {
        let (a, b) = (call.u64(), call.u64());
        Ok(a.wrapping_mul(b))
    }),
    call("__muldi3", |call| {
        let (a, b) = (call.u64(), call.u64());
        Ok(a.wrapping_mul(b))
    }),
    call("__aeabi_llsl", |call| {
        let (a, n) = (call.u64(), call.u32());
        Ok(a.checked_shl(n).unwrap_or(0))
    }),
    call("__ashldi3", |call| {
        let (a, n) = (call.u64(), call.u32());
        Ok(a.checked_shl(n).unwrap_or(0))
    }),
    call("__aeabi_llsr", |call| {
        let (a, n) = (call.u64(), call.u32());
        Ok(a.checked_shr(n).unwrap_or(0))
    }),
    call("__lshrdi3", |call| {
        let (a, n) = (call.u64(), call.u32());
        Ok(a.checked_shr(n).unwrap_or(0))
    }),
    call("__aeabi_lasr", |call| {
        let (a, n) = (call.u64().cast_signed(), call.u32());
        Ok((a >> n.min(63)).cast_unsigned())
    }),
    call("__ashrdi3", |call| {
        let (a, n) = (call.u64().cast_signed(), call.u32());
        Ok((a >> n.min(63)).cast_unsigned())
    }),
    call("__aeabi_ulcmp", |call| {
        let (a, b) = (call.u64(), call.u64());
        Ok(int(a.cmp(&b) as i32))
    }),
    call("__ucmpdi2", |call| {
        let (a, b) = (call.u64(), call.u64());
        Ok(int(a.cmp(&b) as i32 + 1))
    }),
    // Dividend in r0 and r1, divisor in r4; quotient in r2 and r3, remainder in r0 and r1.
    raw("__do_div64", |machine| {
        let low = machine.cpu.get(Register::General(0)) | machine.cpu.get(Register::General(1)) << 32;
        let divisor = machine.cpu.get(Register::General(4));
        set_pair(machine, 2, low.checked_div(divisor).unwrap_or(0));
        set_pair(machine, 0, low.checked_rem(divisor).unwrap_or(0));
        abi::leave_without_value(machine.arch, machine.cpu.as_mut());
        Ok(())
    }),
    raw("__aeabi_uldivmod", |machine| long_division(machine, false)),
    raw("__aeabi_ldivmod", |machine| long_division(machine, true)),
    call("div64_u64", |call| {
        let (a, b) = (call.u64(), call.u64());
        Ok(a.checked_div(b).unwrap_or(0))
    }),
    call("div64_s64", |call| {
        let (a, b) = (call.u64().cast_signed(), call.u64().cast_signed());
        Ok(if b == 0 { 0 } else { a.wrapping_div(b).cast_unsigned() })
    }),
    call("div_s64_rem", |call| {
        let (a, b, to) = (call.u64().cast_signed(), i64::from(call.i32()), call.word());
        let (quotient, rest) = if b == 0 { (0, 0) } else { (a.wrapping_div(b), a.wrapping_rem(b)) };
        call.put(to, &(rest as i32).to_le_bytes())?;
        Ok(quotient.cast_unsigned())
    }),
    call("div64_u64_rem", |call| {
        let (a, b, to) = (call.u64(), call.u64(), call.word());
        call.put(to, &a.checked_rem(b).unwrap_or(0).to_le_bytes())?;
        Ok(a.checked_div(b).unwrap_or(0))
    }),
    call("int_sqrt", |call| {
        let value = call.word();
        Ok(value.isqrt())
    }),
    call("gcd", |call| {
        let (mut a, mut b) = (call.word(), call.word());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Ok(a)
    }),
    call("int_pow", |call| {
        let (base, power) = (call.u64(), call.u32());
        Ok(base.wrapping_pow(power))
    }),
    call("__bitmap_weight", |call| {
        let (at, bits) = (call.word(), u64::from(call.u32()));
        let bytes = call.bytes(at, bits.div_ceil(8))?;
        let set = |n: &u64| bytes.get((n / 8) as usize).is_some_and(|byte| byte >> (n % 8) & 1 != 0);
        Ok((0..bits).filter(set).count() as u64)
    }),
    call("atomic64_read", |call| {
        let at = call.word();
        load(call, at)
    }),
    call("generic_atomic64_read", |call| {
        let at = call.word();
        load(call, at)
    }),
];

/// An `int` in the low half of a pair of registers.
fn word(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

fn load(call: &mut Call<'_>, at: u64) -> Done {
    let mut bytes = [0; 8];
    if !call.read_checked(at, &mut bytes) {
        return Err(call.bad_pointer(at));
    }
    Ok(u64::from_le_bytes(bytes))
}

fn set_pair(machine: &mut Machine, first: u8, value: u64) {
    machine.cpu.set(Register::General(first), value & 0xffff_ffff);
    machine.cpu.set(Register::General(first + 1), value >> 32);
}

/// Dividend in r0 and r1, divisor in r2 and r3; quotient in r0 and r1, remainder in r2 and r3.
fn long_division(machine: &mut Machine, signed: bool) -> Result<(), Stop> {
    if machine.arch == Arch::Arm {
        let pair =
            |n| machine.cpu.get(Register::General(n)) | machine.cpu.get(Register::General(n + 1)) << 32;
        let (a, b) = (pair(0), pair(2));
        let (quotient, rest) = if b == 0 {
            (0, a)
        } else if signed {
            let (a, b) = (a.cast_signed(), b.cast_signed());
            (a.wrapping_div(b).cast_unsigned(), a.wrapping_rem(b).cast_unsigned())
        } else {
            (a / b, a % b)
        };
        set_pair(machine, 0, quotient);
        set_pair(machine, 2, rest);
    }
    abi::leave_without_value(machine.arch, machine.cpu.as_mut());
    Ok(())
}
