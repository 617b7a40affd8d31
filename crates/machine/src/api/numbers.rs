//! Numbers in texts: `kstrto*`, `simple_strto*`, `sscanf`.

use lkm_kernel::numbers::Leading;
use lkm_kernel::numbers::kstrto;
use lkm_kernel::numbers::kstrtobool;
use lkm_kernel::numbers::leading_number;

use super::Call;
use super::Done;
use super::Function;
use super::call;
use super::string::is_space;
use crate::abi::Arguments;
use crate::abi::VaList;

pub(crate) const FUNCTIONS: &[Function] = &[
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
        match kstrtobool(&text) {
            Ok(value) => {
                call.put(to, &[u8::from(value)])?;
                Ok(0)
            }
            Err(errno) => Ok(call.error(errno)),
        }
    }),
    call("simple_strtoul", simple),
    call("simple_strtoull", simple),
    call("simple_strtol", simple),
    call("simple_strtoll", simple),
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
];

fn convert(call: &mut Call<'_>, bits: u32, signed: bool) -> Done {
    let (text, base, to) = (call.word(), call.u32(), call.word());
    let text = call.text(text)?;
    match kstrto(&text, base, bits, signed) {
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
    let Leading { value, length, .. } = leading_number(text.get(skip..).unwrap_or_default(), base);
    if end != 0 {
        let used = if length == 0 { 0 } else { skip + length };
        call.machine.write_word(end, at.wrapping_add(used as u64));
    }
    Ok(if negative { value.wrapping_neg() } else { value })
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
        let Leading { value: width, length: digits, .. } =
            leading_number(format.get(f..).unwrap_or_default(), 10);
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
                let Leading { value, length, .. } =
                    leading_number(rest.get(skip..).unwrap_or_default(), base);
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
