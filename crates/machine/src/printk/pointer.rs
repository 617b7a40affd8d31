//! The `%p` extensions.

use super::Environment;
use super::number::Style;
use super::number::number;
use super::render::Field;
use super::render::Output;
use super::render::bad_pointer;
use super::render::is_error;
use super::render::nested;
use super::render::read_string;
use super::render::string;
use super::render::truncate;

mod net;
mod time;

use net::internet;
use net::mac;
use time::time;

/// Prints what a pointer is or points to. The letters behind `%p` choose; unknown ones are ignored.
pub(super) fn pointer(
    out: &mut Output,
    at: u64,
    extension: &[u8],
    field: Field,
    environment: &dyn Environment,
    depth: u8,
) {
    let at = truncate(at, environment);
    let letter = |n: usize| extension.get(n).copied().unwrap_or(0);
    let follows: Extension = match letter(0) {
        b'S' | b's' | b'B' => return symbol(out, at, letter(0), field, environment),
        b'x' => return plain(out, at, field, environment),
        b'K' => return restricted(out, at, field, environment),
        b'e' => return error_name(out, at, field, environment),
        b'R' | b'r' => resource,
        b'h' => hex_string,
        b'b' if letter(1) == b'l' => bitmap_list,
        b'b' => bitmap,
        b'M' | b'm' => mac,
        b'I' | b'i' => internet,
        b'E' => escaped,
        b'U' => uuid,
        b'N' if letter(1) == b'F' => features,
        b'4' => fourcc,
        b'a' => address,
        b'd' => dentry,
        b'D' => file,
        b't' => time,
        b'G' => flags,
        b'k' | b'u' if letter(1) == b's' => probed_string,
        b'V' => {
            if let Some(text) = bad_pointer(at, environment) {
                return field.text(out, text);
            }
            let Some(mut inner) = environment.nested(at) else { return field.text(out, b"(efault)") };
            return nested(out, &inner.format, inner.arguments.as_mut(), environment, depth + 1);
        }
        _ => return hashed(out, at, field, environment),
    };
    match bad_pointer(at, environment) {
        Some(text) => Field { precision: -1, ..field }.text(out, text),
        None => follows(out, at, extension, field, environment),
    }
}

type Extension = fn(&mut Output, u64, &[u8], Field, &dyn Environment);

fn read<const N: usize>(at: u64, environment: &dyn Environment) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    environment.read(at, &mut bytes).then_some(bytes)
}

fn read_pointer(at: u64, environment: &dyn Environment) -> Option<u64> {
    read_size(at, environment.pointer_size(), environment)
}

fn read_size(at: u64, size: u8, environment: &dyn Environment) -> Option<u64> {
    let mut bytes = [0; 8];
    environment.read(at, bytes.get_mut(..usize::from(size))?).then_some(u64::from_le_bytes(bytes))
}

fn unreadable(out: &mut Output, field: Field) {
    Field { precision: -1, ..field }.text(out, b"(efault)");
}

fn pointer_style(field: Field, environment: &dyn Environment) -> Style {
    let mut style = field.hex();
    if style.width == -1 {
        style.width = i32::from(environment.pointer_size()) * 2;
        style.zero = true;
    }
    style
}

/// `%px`
fn plain(out: &mut Output, at: u64, field: Field, environment: &dyn Environment) {
    number(out, at, false, false, pointer_style(field, environment));
}

/// `%p`: no address leaves the kernel, but what is none is shown.
fn hashed(out: &mut Output, at: u64, field: Field, environment: &dyn Environment) {
    let shown = if at == 0 || is_error(at, environment) { at } else { u64::from(environment.hash(at)) };
    plain(out, shown, field, environment);
}

/// `%pK`: by `kernel.kptr_restrict`; the caller is privileged.
fn restricted(out: &mut Output, at: u64, field: Field, environment: &dyn Environment) {
    match environment.kptr_restrict() {
        0 => hashed(out, at, field, environment),
        1 => plain(out, at, field, environment),
        _ => plain(out, 0, field, environment),
    }
}

/// `%pe`
fn error_name(out: &mut Output, at: u64, field: Field, environment: &dyn Environment) {
    if !is_error(at, environment) {
        return hashed(out, at, field, environment);
    }
    let code = (at as u32).cast_signed();
    match u16::try_from(code.unsigned_abs()).ok().and_then(|code| environment.error_name(code)) {
        Some(name) => field.text(out, format!("-{name}").as_bytes()),
        None => {
            let style = Style { base: 10, ..field.hex() };
            number(out, u64::from(code.unsigned_abs()), code < 0, true, style);
        }
    }
}

/// `%pS` `%ps` `%pB`
fn symbol(out: &mut Output, at: u64, kind: u8, field: Field, environment: &dyn Environment) {
    // A return address may be behind the last instruction of a function that does not return.
    let back = u64::from(kind == b'B');
    let mut text = Vec::new();
    match environment.symbol(at.wrapping_sub(back)) {
        Some(symbol) => {
            text.extend_from_slice(&symbol.name);
            if kind != b's' {
                let offset = symbol.offset.wrapping_add(back);
                text.extend_from_slice(format!("+{offset:#x}/{:#x}", symbol.size).as_bytes());
            }
            if let Some(module) = &symbol.module {
                text.extend_from_slice(b" [");
                text.extend_from_slice(module);
                text.push(b']');
            }
        }
        None => text.extend_from_slice(format!("{at:#x}").as_bytes()),
    }
    field.text(out, &text);
}

/// `%*ph` with C, D, N for the separator.
fn hex_string(out: &mut Output, at: u64, extension: &[u8], field: Field, environment: &dyn Environment) {
    let separator = match extension.get(1) {
        Some(b'C') => Some(b':'),
        Some(b'D') => Some(b'-'),
        Some(b'N') => None,
        _ => Some(b' '),
    };
    let count = match field.width {
        0 => return,
        width if width > 0 => width.min(64),
        _ => 1,
    };
    for n in 0..count {
        let Some([byte]) = read(at.wrapping_add(n as u64), environment) else {
            return unreadable(out, field);
        };
        if n > 0
            && let Some(separator) = separator
        {
            out.push(separator);
        }
        number(out, u64::from(byte), false, false, Style::hex(2));
    }
}

/// Bytes of text that one conversion may make before it is cut: more than any kernel buffer has.
const LENGTH_MAX: usize = 1 << 20;

/// Up to 32 bits of a bitmap. Little-endian words of any width have their bits in the order of their bytes.
fn bits(at: u64, first: u32, count: u32, environment: &dyn Environment) -> Option<u32> {
    let mut bytes = [0; 4];
    let size = usize::try_from(count.div_ceil(8)).ok()?;
    let here = at.wrapping_add(u64::from(first / 8));
    environment.read(here, bytes.get_mut(..size)?).then_some(())?;
    let mask = if count >= 32 { u32::MAX } else { (1 << count) - 1 };
    Some(u32::from_le_bytes(bytes) & mask)
}

/// `%*pb`: words of 32 bits in hexadecimal, the highest first.
fn bitmap(out: &mut Output, at: u64, _: &[u8], field: Field, environment: &dyn Environment) {
    let count = u32::try_from(field.width).unwrap_or(0);
    for chunk in (0..count.div_ceil(32)).rev() {
        let size = (count - chunk * 32).min(32);
        let Some(value) = bits(at, chunk * 32, size, environment) else { return unreadable(out, field) };
        number(out, u64::from(value), false, false, Style::hex(size.div_ceil(4).cast_signed()));
        if chunk > 0 {
            out.push(b',');
        }
        if out.length() > LENGTH_MAX {
            return;
        }
    }
}

/// `%*pbl`: ranges.
fn bitmap_list(out: &mut Output, at: u64, _: &[u8], field: Field, environment: &dyn Environment) {
    let count = u32::try_from(field.width).unwrap_or(0);
    let mut first = true;
    let mut start = None;
    let mut word = 0;
    for n in 0..=count {
        if n % 32 == 0 && n < count {
            match bits(at, n, (count - n).min(32), environment) {
                Some(value) => word = value,
                None => return unreadable(out, field),
            }
        }
        let set = n < count && word >> (n % 32) & 1 != 0;
        match (set, start) {
            (true, None) => start = Some(n),
            (false, Some(begin)) => {
                if !first {
                    out.push(b',');
                }
                first = false;
                let text = if begin + 1 == n { format!("{begin}") } else { format!("{begin}-{}", n - 1) };
                out.extend(text.as_bytes());
                start = None;
            }
            _ => {}
        }
        if out.length() > LENGTH_MAX {
            return;
        }
    }
}

/// `%*pE` with a, c, h, n, o, p, s for the classes to escape.
fn escaped(out: &mut Output, at: u64, extension: &[u8], field: Field, environment: &dyn Environment) {
    let count = match field.width {
        0 => return,
        width if width > 0 => width,
        _ => 1,
    };
    let letters = extension.get(1..).unwrap_or_default();
    let has = |letter| letters.contains(&letter);
    // Without letters: everything that is not printable.
    let any = letters.is_empty() || has(b'a');
    let not_printable = letters.is_empty() || has(b'p');
    for n in 0..count {
        let Some([byte]) = read(at.wrapping_add(n as u64), environment) else {
            return unreadable(out, field);
        };
        let printable = (0x20..0x7f).contains(&byte);
        if not_printable && printable {
            out.push(byte);
            continue;
        }
        let simple = |letter: u8| Some([b'\\', letter]);
        let short = match byte {
            b'\n' if any || has(b's') => simple(b'n'),
            b'\r' if any || has(b's') => simple(b'r'),
            b'\t' if any || has(b's') => simple(b't'),
            0x0b if any || has(b's') => simple(b'v'),
            0x0c if any || has(b's') => simple(b'f'),
            b'\\' if any || has(b'c') => simple(b'\\'),
            0x07 if any || has(b'c') => simple(b'a'),
            0x1b if any || has(b'c') => simple(b'e'),
            b'"' if any || has(b'c') => simple(b'"'),
            0 if any || has(b'n') => simple(b'0'),
            _ => None,
        };
        match short {
            Some(text) => out.extend(&text),
            None if any || has(b'o') => out.extend(format!("\\{byte:03o}").as_bytes()),
            None if has(b'h') => out.extend(format!("\\x{byte:02x}").as_bytes()),
            None => out.push(byte),
        }
        if out.length() > LENGTH_MAX {
            return;
        }
    }
}

/// `%pU` with b, B, l, L.
fn uuid(out: &mut Output, at: u64, extension: &[u8], field: Field, environment: &dyn Environment) {
    const BIG: [usize; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    const LITTLE: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let Some(bytes) = read::<16>(at, environment) else { return unreadable(out, field) };
    let (order, upper) = match extension.get(1) {
        Some(b'L') => (LITTLE, true),
        Some(b'l') => (LITTLE, false),
        Some(b'B') => (BIG, true),
        _ => (BIG, false),
    };
    let mut text = String::new();
    for (n, &index) in order.iter().enumerate() {
        let byte = bytes[index];
        text.push_str(&if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
        if matches!(n, 3 | 5 | 7 | 9) {
            text.push('-');
        }
    }
    field.text(out, text.as_bytes());
}

/// `%p4cc`
fn fourcc(out: &mut Output, at: u64, extension: &[u8], field: Field, environment: &dyn Environment) {
    const BIG_ENDIAN: u32 = 1 << 31;
    if extension != b"4cc" {
        return field.text(out, b"(%p4?)");
    }
    let Some(value) = read(at, environment).map(u32::from_le_bytes) else { return unreadable(out, field) };
    let mut text = String::new();
    for byte in (value & !BIG_ENDIAN).to_le_bytes() {
        text.push(if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' });
    }
    let endian = if value & BIG_ENDIAN != 0 { "big" } else { "little" };
    text.push_str(&format!(" {endian}-endian (0x{value:08x})"));
    field.text(out, text.as_bytes());
}

fn scalar(out: &mut Output, at: u64, size: u8, field: Field, environment: &dyn Environment) {
    match read_size(at, size, environment) {
        Some(value) => number(out, value, false, false, Style::special_hex(i32::from(size))),
        None => unreadable(out, field),
    }
}

/// `%pNF`
fn features(out: &mut Output, at: u64, _: &[u8], field: Field, environment: &dyn Environment) {
    scalar(out, at, 8, field, environment);
}

/// `%pks` `%pus`
fn probed_string(out: &mut Output, at: u64, _: &[u8], field: Field, environment: &dyn Environment) {
    string(out, at, field, environment);
}

/// `%pa` `%pap` `%pad`
fn address(out: &mut Output, at: u64, _: &[u8], field: Field, environment: &dyn Environment) {
    scalar(out, at, environment.structures().physical_size, field, environment);
}

/// `%pd` with 2, 3, 4 for that many parts of the path.
fn dentry(out: &mut Output, at: u64, extension: &[u8], field: Field, environment: &dyn Environment) {
    let depth = match extension.get(1) {
        Some(digit @ b'2'..=b'4') => digit - b'0',
        _ => 1,
    };
    let structures = environment.structures();
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut here = at;
    for _ in 0..depth {
        let name = read_pointer(here.wrapping_add(structures.dentry_name), environment)
            .and_then(|name| read_string(name, 256, 256, environment));
        let parent = read_pointer(here.wrapping_add(structures.dentry_parent), environment);
        let (Some(name), Some(parent)) = (name, parent) else { return unreadable(out, field) };
        if parent == here {
            // The root is named "/".
            parts.push(if parts.is_empty() { b"/".to_vec() } else { Vec::new() });
            break;
        }
        parts.push(name);
        here = parent;
    }
    parts.reverse();
    field.text(out, &parts.join(&b'/'));
}

/// `%pD`
fn file(out: &mut Output, at: u64, extension: &[u8], field: Field, environment: &dyn Environment) {
    match read_pointer(at.wrapping_add(environment.structures().file_dentry), environment) {
        Some(at) => match bad_pointer(at, environment) {
            Some(text) => field.text(out, text),
            None => dentry(out, at, extension, field, environment),
        },
        None => unreadable(out, field),
    }
}

/// `%pGg` by name, `%pGp` and `%pGv` as numbers.
fn flags(out: &mut Output, at: u64, extension: &[u8], field: Field, environment: &dyn Environment) {
    // gfp.h of 6.1: combinations first, the larger before those that they contain.
    const GFP: [(&str, u64); 22] = [
        ("GFP_HIGHUSER_MOVABLE", 0x8_0000 | 0x10_0000 | 0x2 | 0x40 | 0x80 | 0xc00 | 0x8),
        ("GFP_HIGHUSER", 0x10_0000 | 0x2 | 0x40 | 0x80 | 0xc00),
        ("GFP_USER", 0x10_0000 | 0x40 | 0x80 | 0xc00),
        ("GFP_KERNEL_ACCOUNT", 0x40_0000 | 0x40 | 0x80 | 0xc00),
        ("GFP_KERNEL", 0x40 | 0x80 | 0xc00),
        ("GFP_NOFS", 0x40 | 0xc00),
        ("GFP_ATOMIC", 0x20 | 0x200 | 0x800),
        ("GFP_NOIO", 0xc00),
        ("GFP_NOWAIT", 0x800),
        ("GFP_DMA", 0x1),
        ("__GFP_HIGHMEM", 0x2),
        ("GFP_DMA32", 0x4),
        ("__GFP_HIGH", 0x20),
        ("__GFP_IO", 0x40),
        ("__GFP_FS", 0x80),
        ("__GFP_ZERO", 0x100),
        ("__GFP_ATOMIC", 0x200),
        ("__GFP_DIRECT_RECLAIM", 0x400),
        ("__GFP_KSWAPD_RECLAIM", 0x800),
        ("__GFP_NOWARN", 0x2000),
        ("__GFP_RETRY_MAYFAIL", 0x4000),
        ("__GFP_NOFAIL", 0x8000),
    ];
    if extension.get(1) != Some(&b'g') {
        return match read_pointer(at, environment) {
            Some(value) => out.extend(format!("{value:#x}").as_bytes()),
            None => unreadable(out, field),
        };
    }
    let Some(mut value) = read(at, environment).map(|bytes| u64::from(u32::from_le_bytes(bytes))) else {
        return unreadable(out, field);
    };
    let mut names: Vec<String> = Vec::new();
    for (name, bits) in GFP {
        if value & bits == bits {
            names.push(name.to_owned());
            value &= !bits;
        }
    }
    if value != 0 || names.is_empty() {
        names.push(format!("{value:#x}"));
    }
    out.extend(names.join("|").as_bytes());
}

/// `%pR` decoded, `%pr` with the flags as a number.
fn resource(out: &mut Output, at: u64, extension: &[u8], field: Field, environment: &dyn Environment) {
    const IO: u64 = 0x100;
    const MEM: u64 = 0x200;
    const IRQ: u64 = 0x400;
    const DMA: u64 = 0x800;
    const BUS: u64 = 0x1000;
    const UNSET: u64 = 0x2000_0000;
    let size = environment.structures().resource_size;
    let start = read_size(at, size, environment);
    let end = read_size(at.wrapping_add(u64::from(size)), size, environment);
    let flags_at = at.wrapping_add(2 * u64::from(size) + u64::from(environment.pointer_size()));
    let flags = read_pointer(flags_at, environment);
    let (Some(start), Some(end), Some(flags)) = (start, end, flags) else { return unreadable(out, field) };
    let mut decode = extension.first() == Some(&b'R');
    let hex = |width| Style { special: true, ..Style::hex(width) };
    let (name, style) = match flags {
        flags if flags & IO != 0 => ("io  ", hex(6)),
        flags if flags & MEM != 0 => ("mem ", hex(10)),
        flags if flags & IRQ != 0 => ("irq ", Style::DECIMAL),
        flags if flags & DMA != 0 => ("dma ", Style::DECIMAL),
        flags if flags & BUS != 0 => ("bus ", Style::hex(2)),
        _ => {
            decode = false;
            ("??? ", hex(10))
        }
    };
    let mut text = Output::new(256);
    text.push(b'[');
    text.extend(name.as_bytes());
    if decode && flags & UNSET != 0 {
        text.extend(b"size ");
        number(&mut text, end.wrapping_sub(start).wrapping_add(1), false, false, style);
    } else {
        number(&mut text, start, false, false, style);
        if start != end {
            text.push(b'-');
            number(&mut text, end, false, false, style);
        }
    }
    if decode {
        for (bit, word) in
            [(0x10_0000, " 64bit"), (0x2000, " pref"), (0x20_0000, " window"), (0x1000_0000, " disabled")]
        {
            if flags & bit != 0 {
                text.extend(word.as_bytes());
            }
        }
    } else {
        text.extend(b" flags ");
        number(&mut text, flags, false, false, Style { zero: false, width: -1, ..hex(0) });
    }
    text.push(b']');
    field.text(out, text.bytes());
}
