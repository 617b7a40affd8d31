//! Bytes, strings, bits.

use core::cmp::Ordering;

use lkm_module::Errno;

use super::Call;
use super::Done;
use super::Function;
use super::call;
use super::int;
use super::raw;
use super::slab::buffer;
use crate::abi;
use crate::cpu::Register;

pub(crate) const FUNCTIONS: &[Function] = &[
    call("memcpy", copy_bytes),
    call("__memcpy", copy_bytes),
    call("memmove", copy_bytes),
    call("__memmove", copy_bytes),
    call("memcpy_orig", copy_bytes),
    call("memset", set_bytes),
    call("__memset", set_bytes),
    call("memset32", |call| {
        let (to, value, count) = (call.word(), call.u32(), call.word());
        let Some(bytes) = buffer(count.saturating_mul(4)) else { return Err(call.bad_pointer(to)) };
        let bytes: Vec<u8> = value.to_le_bytes().into_iter().cycle().take(bytes.len()).collect();
        if call.write_checked(to, &bytes) { Ok(to) } else { Err(call.bad_pointer(to)) }
    }),
    call("memcmp", |call| {
        let (a, b, size) = (call.word(), call.word(), call.word());
        let (a, b) = (call.bytes(a, size)?, call.bytes(b, size)?);
        Ok(int(order(a.cmp(&b))))
    }),
    call("bcmp", |call| {
        let (a, b, size) = (call.word(), call.word(), call.word());
        let (a, b) = (call.bytes(a, size)?, call.bytes(b, size)?);
        Ok(int(order(a.cmp(&b))))
    }),
    call("memchr", |call| {
        let (at, byte, size) = (call.word(), call.u32() as u8, call.word());
        let bytes = call.bytes(at, size)?;
        Ok(bytes.iter().position(|&other| other == byte).map_or(0, |n| at.wrapping_add(n as u64)))
    }),
    call("memchr_inv", |call| {
        let (at, byte, size) = (call.word(), call.u32() as u8, call.word());
        let bytes = call.bytes(at, size)?;
        Ok(bytes.iter().position(|&other| other != byte).map_or(0, |n| at.wrapping_add(n as u64)))
    }),
    call("strlen", |call| {
        let text = call.word();
        Ok(call.text(text)?.len() as u64)
    }),
    call("strnlen", |call| {
        let (text, limit) = (call.word(), call.word());
        Ok(call.string_checked(text, limit).len() as u64)
    }),
    call("strcmp", |call| {
        let (a, b) = (call.word(), call.word());
        let (a, b) = (call.text(a)?, call.text(b)?);
        Ok(int(order(a.cmp(&b))))
    }),
    call("strncmp", |call| {
        let (a, b, limit) = (call.word(), call.word(), call.word());
        let (a, b) = (call.string_checked(a, limit), call.string_checked(b, limit));
        Ok(int(order(a.cmp(&b))))
    }),
    call("strcasecmp", |call| {
        let (a, b) = (call.word(), call.word());
        let (a, b) = (call.text(a)?.to_ascii_lowercase(), call.text(b)?.to_ascii_lowercase());
        Ok(int(order(a.cmp(&b))))
    }),
    call("strncasecmp", |call| {
        let (a, b, limit) = (call.word(), call.word(), call.word());
        let (a, b) = (call.string_checked(a, limit), call.string_checked(b, limit));
        Ok(int(order(a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase()))))
    }),
    call("sysfs_streq", |call| {
        let (a, b) = (call.word(), call.word());
        let (a, b) = (call.text(a)?, call.text(b)?);
        let cut = |text: &[u8]| text.strip_suffix(b"\n").unwrap_or(text).to_vec();
        Ok(u64::from(cut(&a) == cut(&b)))
    }),
    call("strcpy", |call| {
        let (to, from) = (call.word(), call.word());
        let mut text = call.text(from)?;
        text.push(0);
        call.put(to, &text)?;
        Ok(to)
    }),
    call("stpcpy", |call| {
        let (to, from) = (call.word(), call.word());
        let mut text = call.text(from)?;
        text.push(0);
        call.put(to, &text)?;
        Ok(to.wrapping_add(text.len() as u64 - 1))
    }),
    call("strncpy", |call| {
        let (to, from, size) = (call.word(), call.word(), call.word());
        let text = call.string_checked(from, size);
        let Some(mut bytes) = buffer(size) else { return Err(call.bad_pointer(to)) };
        for (to, from) in bytes.iter_mut().zip(text) {
            *to = from;
        }
        call.put(to, &bytes)?;
        Ok(to)
    }),
    call("strlcpy", |call| {
        let (to, from, size) = (call.word(), call.word(), call.word());
        let text = call.text(from)?;
        if size > 0 {
            let mut kept = text.get(..text.len().min(size as usize - 1)).unwrap_or_default().to_vec();
            kept.push(0);
            call.put(to, &kept)?;
        }
        Ok(text.len() as u64)
    }),
    call("strscpy", |call| {
        let (to, from, size) = (call.word(), call.word(), call.word());
        copy_string(call, to, from, size, false)
    }),
    call("strscpy_pad", |call| {
        let (to, from, size) = (call.word(), call.word(), call.word());
        copy_string(call, to, from, size, true)
    }),
    call("strcat", |call| {
        let (to, from) = (call.word(), call.word());
        let length = call.text(to)?.len() as u64;
        let mut text = call.text(from)?;
        text.push(0);
        call.put(to.wrapping_add(length), &text)?;
        Ok(to)
    }),
    call("strncat", |call| {
        let (to, from, limit) = (call.word(), call.word(), call.word());
        let length = call.text(to)?.len() as u64;
        let mut text = call.string_checked(from, limit);
        text.push(0);
        call.put(to.wrapping_add(length), &text)?;
        Ok(to)
    }),
    call("strlcat", |call| {
        let (to, from, size) = (call.word(), call.word(), call.word());
        let length = call.text(to)?.len() as u64;
        let text = call.text(from)?;
        let whole = length + text.len() as u64;
        if let Some(room) = size.checked_sub(length + 1) {
            let mut kept = text.get(..text.len().min(room as usize)).unwrap_or_default().to_vec();
            kept.push(0);
            call.put(to.wrapping_add(length), &kept)?;
        }
        Ok(whole)
    }),
    call("strchr", |call| {
        let (at, byte) = (call.word(), call.u32() as u8);
        let text = call.text(at)?;
        let found = if byte == 0 { Some(text.len()) } else { text.iter().position(|&other| other == byte) };
        Ok(found.map_or(0, |n| at.wrapping_add(n as u64)))
    }),
    call("strchrnul", |call| {
        let (at, byte) = (call.word(), call.u32() as u8);
        let text = call.text(at)?;
        let found = text.iter().position(|&other| other == byte).unwrap_or(text.len());
        Ok(at.wrapping_add(found as u64))
    }),
    call("strrchr", |call| {
        let (at, byte) = (call.word(), call.u32() as u8);
        let text = call.text(at)?;
        let found = if byte == 0 { Some(text.len()) } else { text.iter().rposition(|&other| other == byte) };
        Ok(found.map_or(0, |n| at.wrapping_add(n as u64)))
    }),
    call("strstr", |call| {
        let (at, wanted) = (call.word(), call.word());
        let (text, wanted) = (call.text(at)?, call.text(wanted)?);
        Ok(find(&text, &wanted).map_or(0, |n| at.wrapping_add(n as u64)))
    }),
    call("strnstr", |call| {
        let (at, wanted, limit) = (call.word(), call.word(), call.word());
        let (text, wanted) = (call.string_checked(at, limit), call.text(wanted)?);
        Ok(find(&text, &wanted).map_or(0, |n| at.wrapping_add(n as u64)))
    }),
    call("strpbrk", |call| {
        let (at, set) = (call.word(), call.word());
        let (text, set) = (call.text(at)?, call.text(set)?);
        Ok(text.iter().position(|byte| set.contains(byte)).map_or(0, |n| at.wrapping_add(n as u64)))
    }),
    call("strspn", |call| {
        let (at, set) = (call.word(), call.word());
        let (text, set) = (call.text(at)?, call.text(set)?);
        Ok(text.iter().take_while(|byte| set.contains(byte)).count() as u64)
    }),
    call("strcspn", |call| {
        let (at, set) = (call.word(), call.word());
        let (text, set) = (call.text(at)?, call.text(set)?);
        Ok(text.iter().take_while(|byte| !set.contains(byte)).count() as u64)
    }),
    call("strsep", |call| {
        let (place, set) = (call.word(), call.word());
        let at = call.machine.read_word(place);
        if at == 0 {
            return Ok(0);
        }
        let (text, set) = (call.text(at)?, call.text(set)?);
        let next = match text.iter().position(|byte| set.contains(byte)) {
            Some(n) => {
                call.put(at.wrapping_add(n as u64), &[0])?;
                at.wrapping_add(n as u64 + 1)
            }
            None => 0,
        };
        call.machine.write_word(place, next);
        Ok(at)
    }),
    call("skip_spaces", |call| {
        let at = call.word();
        let text = call.text(at)?;
        Ok(at.wrapping_add(text.iter().take_while(|&&byte| is_space(byte)).count() as u64))
    }),
    call("strim", |call| {
        let at = call.word();
        let text = call.text(at)?;
        let end = text.iter().rposition(|&byte| !is_space(byte)).map_or(0, |n| n + 1);
        call.put(at.wrapping_add(end as u64), &[0])?;
        let start = text.iter().take(end).take_while(|&&byte| is_space(byte)).count();
        Ok(at.wrapping_add(start as u64))
    }),
    call("match_string", |call| {
        let (array, count, text) = (call.word(), call.word(), call.word());
        let text = call.text(text)?;
        let size = call.machine.layout.pointer;
        for n in 0..count.min(1 << 16) {
            let item = call.machine.read_word(array.wrapping_add(n * size));
            if item == 0 {
                break;
            }
            if call.text(item)? == text {
                return Ok(n);
            }
        }
        Ok(call.error(Errno::EINVAL))
    }),
    call("hex_to_bin", |call| {
        let byte = call.u32() as u8;
        Ok(int(char::from(byte).to_digit(16).map_or(-1, u32::cast_signed)))
    }),
    call("hex2bin", |call| {
        let (to, from, count) = (call.word(), call.word(), call.word());
        let digits = call.bytes(from, count.saturating_mul(2))?;
        let mut bytes = Vec::new();
        for pair in digits.chunks_exact(2) {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Ok(call.error(Errno::EINVAL));
            };
            bytes.push((high << 4 | low) as u8);
        }
        call.put(to, &bytes)?;
        Ok(0)
    }),
    call("_find_first_bit", |call| {
        let (at, size) = (call.word(), call.word());
        next_bit(call, at, size, 0, true)
    }),
    call("_find_first_bit_le", |call| {
        let (at, size) = (call.word(), call.word());
        next_bit(call, at, size, 0, true)
    }),
    call("_find_first_zero_bit", |call| {
        let (at, size) = (call.word(), call.word());
        next_bit(call, at, size, 0, false)
    }),
    call("_find_first_zero_bit_le", |call| {
        let (at, size) = (call.word(), call.word());
        next_bit(call, at, size, 0, false)
    }),
    call("_find_next_bit", |call| {
        let (at, size, from) = (call.word(), call.word(), call.word());
        next_bit(call, at, size, from, true)
    }),
    call("_find_next_bit_le", |call| {
        let (at, size, from) = (call.word(), call.word(), call.word());
        next_bit(call, at, size, from, true)
    }),
    call("_find_next_zero_bit", |call| {
        let (at, size, from) = (call.word(), call.word(), call.word());
        next_bit(call, at, size, from, false)
    }),
    call("_find_next_zero_bit_le", |call| {
        let (at, size, from) = (call.word(), call.word(), call.word());
        next_bit(call, at, size, from, false)
    }),
    call("_set_bit", |call| change_bit(call, |old, bit| old | bit)),
    call("_clear_bit", |call| change_bit(call, |old, bit| old & !bit)),
    call("_change_bit", |call| change_bit(call, |old, bit| old ^ bit)),
    call("_test_and_set_bit", |call| change_bit(call, |old, bit| old | bit)),
    call("_test_and_clear_bit", |call| change_bit(call, |old, bit| old & !bit)),
    call("_test_and_change_bit", |call| change_bit(call, |old, bit| old ^ bit)),
    // These keep every register but the result.
    raw("__sw_hweight32", |machine| {
        let value = machine.cpu.get(Register::Argument(0)) as u32;
        machine.cpu.set(Register::Return, u64::from(value.count_ones()));
        abi::leave_without_value(machine.arch, machine.cpu.as_mut());
        Ok(())
    }),
    raw("__sw_hweight64", |machine| {
        let low = machine.cpu.get(Register::Argument(0));
        let high = if machine.layout.pointer == 4 { machine.cpu.get(Register::Argument(1)) } else { 0 };
        machine.cpu.set(Register::Return, u64::from(low.count_ones() + high.count_ones()));
        abi::leave_without_value(machine.arch, machine.cpu.as_mut());
        Ok(())
    }),
    call("fortify_panic", |call| {
        let name = call.word();
        let name = call.machine.read_name(name);
        let text = format!("detected buffer overflow in {name}");
        Err(call.machine.panic(call.kernel, text))
    }),
];

fn order(ordering: Ordering) -> i32 {
    ordering as i32
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() { Some(0) } else { text.windows(wanted.len()).position(|window| window == wanted) }
}

/// `isspace()`
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, 9..=13 | 0x20 | 0xa0)
}

fn copy_bytes(call: &mut Call<'_>) -> Done {
    let (to, from, size) = (call.word(), call.word(), call.word());
    let bytes = call.bytes(from, size)?;
    call.put(to, &bytes)?;
    Ok(to)
}

fn set_bytes(call: &mut Call<'_>) -> Done {
    let (to, byte, size) = (call.word(), call.u32() as u8, call.word());
    let Some(mut bytes) = buffer(size) else { return Err(call.bad_pointer(to)) };
    bytes.fill(byte);
    call.put(to, &bytes)?;
    Ok(to)
}

fn copy_string(call: &mut Call<'_>, to: u64, from: u64, size: u64, pad: bool) -> Done {
    if size == 0 || size > i32::MAX as u64 {
        return Ok(call.error(Errno::E2BIG));
    }
    let text = call.string_checked(from, size);
    let fits = (text.len() as u64) < size;
    let mut kept = if fits { text } else { text.get(..size as usize - 1).unwrap_or_default().to_vec() };
    let length = kept.len() as u64;
    let end = if pad { size as usize } else { kept.len() + 1 };
    kept.resize(end, 0);
    call.put(to, &kept)?;
    Ok(if fits { length } else { call.error(Errno::E2BIG) })
}

fn next_bit(call: &mut Call<'_>, at: u64, size: u64, from: u64, set: bool) -> Done {
    let size = size.min(1 << 24);
    let bytes =
        call.bytes(at, size.div_ceil(call.machine.layout.pointer * 8) * call.machine.layout.pointer)?;
    let is_set = |n: u64| bytes.get((n / 8) as usize).is_some_and(|byte| byte >> (n % 8) & 1 != 0);
    Ok((from..size).find(|&n| is_set(n) == set).unwrap_or(size))
}

fn change_bit(call: &mut Call<'_>, change: fn(u8, u8) -> u8) -> Done {
    let (bit, at) = (call.word(), call.word());
    let place = at.wrapping_add(bit / 8);
    let mut byte = [0];
    if !call.read_checked(place, &mut byte) {
        return Err(call.bad_pointer(place));
    }
    let mask = 1 << (bit % 8);
    let old = byte[0];
    call.put(place, &[change(old, mask)])?;
    Ok(u64::from(old & mask != 0))
}

impl Call<'_> {
    /// Guest memory read for the caller.
    pub(crate) fn bytes(&mut self, at: u64, size: u64) -> Result<Vec<u8>, crate::report::Stop> {
        let Some(mut bytes) = buffer(size) else { return Err(self.bad_pointer(at)) };
        if self.read_checked(at, &mut bytes) { Ok(bytes) } else { Err(self.bad_pointer(at)) }
    }

    /// Guest memory written for the caller.
    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), crate::report::Stop> {
        if self.write_checked(at, bytes) { Ok(()) } else { Err(self.bad_pointer_write(at)) }
    }

    /// A NUL-terminated string read for the caller; what is not there is an oops.
    pub(crate) fn text(&mut self, at: u64) -> Result<Vec<u8>, crate::report::Stop> {
        if self.machine.cpu.access(at).is_none_or(|access| !access.read) {
            return Err(self.bad_pointer(at));
        }
        Ok(self.string_checked(at, u64::MAX))
    }
}
