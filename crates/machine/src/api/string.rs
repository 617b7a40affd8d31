//! Bytes, strings, numbers in strings, bits.

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
use crate::abi::Arguments;
use crate::abi::VaList;
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
    call("kstrtoint", |call| convert(call, 32, true)),
    call("kstrtouint", |call| convert(call, 32, false)),
    call("kstrtoll", |call| convert(call, 64, true)),
    call("kstrtoull", |call| convert(call, 64, false)),
    call("kstrtol", |call| {
        let bits = call.machine.layout.pointer as u32 * 8;
        convert(call, bits, true)
    }),
    call("kstrtoul", |call| {
        let bits = call.machine.layout.pointer as u32 * 8;
        convert(call, bits, false)
    }),
    call("_kstrtol", |call| {
        let bits = call.machine.layout.pointer as u32 * 8;
        convert(call, bits, true)
    }),
    call("_kstrtoul", |call| {
        let bits = call.machine.layout.pointer as u32 * 8;
        convert(call, bits, false)
    }),
    call("kstrtos16", |call| convert(call, 16, true)),
    call("kstrtou16", |call| convert(call, 16, false)),
    call("kstrtos8", |call| convert(call, 8, true)),
    call("kstrtou8", |call| convert(call, 8, false)),
    call("kstrtobool", |call| {
        let (text, to) = (call.word(), call.word());
        let text = call.text(text)?;
        match to_bool(&text) {
            Some(value) => {
                call.put(to, &[u8::from(value)])?;
                Ok(0)
            }
            None => Ok(call.error(Errno::EINVAL)),
        }
    }),
    call("simple_strtoul", simple),
    call("simple_strtoull", simple),
    call("simple_strtol", simple),
    call("simple_strtoll", simple),
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
    call("sscanf", |call| {
        let (text, format) = (call.word(), call.word());
        let arguments = call.arguments;
        scan(call, text, format, arguments)
    }),
    call("vsscanf", |call| {
        let (text, format, list) = (call.word(), call.word(), call.word());
        let arguments = VaList::from_argument(call.machine.arch, call.machine.cpu.as_ref(), list);
        scan(call, text, format, arguments)
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
fn is_space(byte: u8) -> bool {
    matches!(byte, 9..=13 | 0x20 | 0xa0)
}

pub(crate) fn to_bool(text: &[u8]) -> Option<bool> {
    match *text {
        [b'y' | b'Y' | b't' | b'T' | b'1', ..] => Some(true),
        [b'n' | b'N' | b'f' | b'F' | b'0', ..] => Some(false),
        [b'o' | b'O', b'n' | b'N', ..] => Some(true),
        [b'o' | b'O', b'f' | b'F', ..] => Some(false),
        _ => None,
    }
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

/// The value and the number of bytes of a number at the start of a text. Base 0 asks the prefix.
pub(crate) fn leading_number(text: &[u8], base: u32) -> (u64, usize, bool) {
    let hex = matches!(text, [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit());
    let (base, skip) = match base {
        0 if hex => (16, 2),
        0 if text.first() == Some(&b'0') => (8, 0),
        0 => (10, 0),
        16 if hex => (16, 2),
        base => (base.clamp(2, 36), 0),
    };
    let (mut value, mut length, mut overflow) = (0_u64, skip, false);
    for &byte in text.iter().skip(skip) {
        let Some(digit) = char::from(byte).to_digit(base) else { break };
        let next = value.checked_mul(u64::from(base)).and_then(|value| value.checked_add(u64::from(digit)));
        overflow |= next.is_none();
        value = next.unwrap_or_else(|| value.wrapping_mul(u64::from(base)).wrapping_add(u64::from(digit)));
        length += 1;
    }
    if length == skip && skip == 0 { (0, 0, false) } else { (value, length, overflow) }
}

/// `kstrto*`: the whole text but one newline at its end, in the range of a type.
pub(crate) fn whole_number(text: &[u8], base: u32, bits: u32, signed: bool) -> Result<u64, Errno> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] if signed => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        text => (false, text),
    };
    let (value, length, overflow) = leading_number(digits, base);
    let rest = digits.get(length..).unwrap_or_default();
    if length == 0 || !(rest.is_empty() || rest == b"\n") {
        return Err(if overflow { Errno::ERANGE } else { Errno::EINVAL });
    }
    let limit = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    let fits = match (signed, negative) {
        (false, _) => value <= limit,
        (true, false) => value <= limit >> 1,
        (true, true) => value <= (limit >> 1) + 1,
    };
    if overflow || !fits {
        return Err(Errno::ERANGE);
    }
    Ok(if negative { value.wrapping_neg() } else { value })
}

fn convert(call: &mut Call<'_>, bits: u32, signed: bool) -> Done {
    let (text, base, to) = (call.word(), call.u32(), call.word());
    let text = call.text(text)?;
    match whole_number(&text, base, bits, signed) {
        Ok(value) => {
            let bytes = value.to_le_bytes();
            call.put(to, bytes.get(..bits as usize / 8).unwrap_or_default())?;
            Ok(0)
        }
        Err(errno) => Ok(call.error(errno)),
    }
}

fn simple(call: &mut Call<'_>) -> Done {
    let (at, end, base) = (call.word(), call.word(), call.u32());
    let text = call.text(at)?;
    let negative = text.first() == Some(&b'-') && call.name.ends_with(['l']) && !call.name.contains('u');
    let skip = usize::from(negative);
    let (value, length, _) = leading_number(text.get(skip..).unwrap_or_default(), base);
    if end != 0 {
        let used = if length == 0 { 0 } else { skip + length };
        call.machine.write_word(end, at.wrapping_add(used as u64));
    }
    Ok(if negative { value.wrapping_neg() } else { value })
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

/// `sscanf`: the number of values stored.
fn scan(call: &mut Call<'_>, text: u64, format: u64, mut arguments: impl Arguments) -> Done {
    let (text, format) = (call.text(text)?, call.text(format)?);
    let (mut at, mut f, mut stored) = (0, 0, 0);
    let byte = |bytes: &[u8], n: usize| bytes.get(n).copied().unwrap_or(0);
    while f < format.len() {
        let letter = byte(&format, f);
        f += 1;
        if is_space(letter) {
            while is_space(byte(&text, at)) {
                at += 1;
            }
            continue;
        }
        if letter != b'%' || byte(&format, f) == b'%' {
            f += usize::from(letter == b'%');
            if byte(&text, at) != letter {
                break;
            }
            at += 1;
            continue;
        }
        let skip = byte(&format, f) == b'*';
        f += usize::from(skip);
        let (width, digits, _) = leading_number(format.get(f..).unwrap_or_default(), 10);
        f += digits;
        let width = if digits == 0 { None } else { Some(usize::try_from(width).unwrap_or(usize::MAX)) };
        let mut size = 4;
        let word = call.machine.layout.pointer as usize;
        match (byte(&format, f), byte(&format, f + 1)) {
            (b'h', b'h') => (size, f) = (1, f + 2),
            (b'h', _) => (size, f) = (2, f + 1),
            (b'l', b'l') => (size, f) = (8, f + 2),
            (b'L', _) => (size, f) = (8, f + 1),
            (b'l' | b'z' | b't', _) => (size, f) = (word, f + 1),
            _ => {}
        }
        let conversion = byte(&format, f);
        f += 1;
        if conversion == b'n' {
            if !skip {
                let to = arguments.word(call.machine.cpu.as_ref());
                call.put(to, (at as u64).to_le_bytes().get(..size).unwrap_or_default())?;
            }
            continue;
        }
        if !matches!(conversion, b'c' | b'[') {
            while is_space(byte(&text, at)) {
                at += 1;
            }
        }
        let rest = text.get(at..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        let rest = rest.get(..width.unwrap_or(rest.len()).min(rest.len())).unwrap_or_default();
        let (bytes, used) = match conversion {
            b'c' => {
                let count = width.unwrap_or(1).min(rest.len());
                (rest.get(..count).unwrap_or_default().to_vec(), count)
            }
            b's' => {
                let count = rest.iter().take_while(|&&byte| !is_space(byte)).count();
                let mut bytes = rest.get(..count).unwrap_or_default().to_vec();
                bytes.push(0);
                (bytes, count)
            }
            b'[' => {
                let set_end = format.get(f + 1..).and_then(|rest| rest.iter().position(|&byte| byte == b']'));
                let Some(set_end) = set_end.map(|n| n + f + 1) else { break };
                let mut set = format.get(f..set_end).unwrap_or_default();
                f = set_end + 1;
                let negated = set.first() == Some(&b'^');
                if negated {
                    set = set.get(1..).unwrap_or_default();
                }
                let count = rest.iter().take_while(|byte| set.contains(byte) != negated).count();
                if count == 0 {
                    break;
                }
                let mut bytes = rest.get(..count).unwrap_or_default().to_vec();
                bytes.push(0);
                (bytes, count)
            }
            b'd' | b'i' | b'u' | b'x' | b'X' | b'o' => {
                let base = match conversion {
                    b'i' => 0,
                    b'x' | b'X' => 16,
                    b'o' => 8,
                    _ => 10,
                };
                let negative = rest.first() == Some(&b'-') && matches!(conversion, b'd' | b'i');
                let skip = usize::from(negative);
                let (value, length, _) = leading_number(rest.get(skip..).unwrap_or_default(), base);
                if length == 0 {
                    break;
                }
                let value = if negative { value.wrapping_neg() } else { value };
                (value.to_le_bytes().get(..size).unwrap_or_default().to_vec(), skip + length)
            }
            _ => break,
        };
        at += used;
        if !skip {
            let to = arguments.word(call.machine.cpu.as_ref());
            call.put(to, &bytes)?;
            stored += 1;
        }
    }
    Ok(stored)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_kstrto() {
        assert_eq!(whole_number(b"0x1F\n", 0, 32, true), Ok(31));
        assert_eq!(whole_number(b"017", 0, 32, true), Ok(15));
        assert_eq!(whole_number(b"-1", 0, 32, true), Ok(u64::MAX));
        assert_eq!(whole_number(b"-1", 0, 32, false), Err(Errno::EINVAL));
        assert_eq!(whole_number(b"+7", 10, 8, false), Ok(7));
        assert_eq!(whole_number(b"256", 10, 8, false), Err(Errno::ERANGE));
        assert_eq!(whole_number(b"-128", 10, 8, true), Ok((-128_i64).cast_unsigned()));
        assert_eq!(whole_number(b"128", 10, 8, true), Err(Errno::ERANGE));
        assert_eq!(whole_number(b"18446744073709551615", 0, 64, false), Ok(u64::MAX));
        assert_eq!(whole_number(b"18446744073709551616", 0, 64, false), Err(Errno::ERANGE));
        for bad in [&b""[..], b"\n", b"1 ", b"x", b"0x", b"1\n\n"] {
            assert_eq!(whole_number(bad, 0, 32, true), Err(Errno::EINVAL), "{bad:?}");
        }
    }
}
