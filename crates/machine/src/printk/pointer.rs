//! The `%p` extensions.

use super::Environment;
use super::errname::error_name;
use super::number::Style;
use super::number::number;
use super::render::Field;
use super::render::Output;
use super::render::bad_pointer;
use super::render::is_error;
use super::render::nested;
use super::render::string;
use super::render::truncate;

mod buffer;
mod device;
mod file;
mod name;
mod net;
mod node;
mod resource;
mod time;

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
    let structures = environment.structures();
    // What the kernel says of letters, and of what it is not configured for, comes before what it says of pointers.
    let refused: Option<&[u8]> = match letter(0) {
        b'4' if (letter(1), letter(2)) != (b'c', b'c') => Some(b"(%p4?)"),
        b'f' if letter(1) != b'w' => Some(b"(%pf?)"),
        b'O' if letter(1) != b'F' => Some(b"(%pO?)"),
        b'O' if structures.device_tree.is_none() => Some(b"(%pOF?)"),
        b'C' if !structures.common_clock => Some(b"(%pC?)"),
        b'k' | b'u' if letter(1) != b's' => Some(b"(einval)"),
        _ => None,
    };
    if let Some(text) = refused {
        return field.text(out, text);
    }
    let follows: Extension = match letter(0) {
        b'S' | b's' | b'B' => return symbol(out, at, letter(0), field, environment),
        b'x' => return plain(out, at, field, environment),
        b'K' => return restricted(out, at, field, environment),
        b'e' => return error(out, at, field, environment),
        b'h' | b'E' if field.width == 0 => return,
        b'R' | b'r' => resource::resource,
        b'h' => buffer::hex_string,
        b'b' if letter(1) == b'l' => buffer::bitmap_list,
        b'b' => buffer::bitmap,
        b'E' => buffer::escaped,
        b'M' | b'm' => net::mac,
        b'I' | b'i' => net::internet,
        b'N' => net::features,
        b'U' => uuid,
        b'4' => fourcc,
        b'a' => address,
        b'd' => file::dentry,
        b'D' => file::file,
        b'g' => file::block_device,
        b't' => time::time,
        b'C' => device::clock,
        b'O' => node::device_node,
        b'f' => node::firmware_node,
        b'G' => name::flags,
        b'k' | b'u' => probed_string,
        b'V' => {
            if let Some(text) = bad_pointer(at, environment) {
                return field.text(out, text);
            }
            let Some(mut inner) = environment.nested(at) else { return unreadable(out, field) };
            return nested(out, &inner.format, inner.arguments.as_mut(), environment, depth + 1);
        }
        _ => return hashed(out, at, field, environment),
    };
    match bad_pointer(at, environment) {
        Some(text) => field.text(out, text),
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

/// The kernel would fault; what it prints for the pointers that it checks says as much.
fn unreadable(out: &mut Output, field: Field) {
    field.text(out, b"(efault)");
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
fn error(out: &mut Output, at: u64, field: Field, environment: &dyn Environment) {
    if !is_error(at, environment) {
        return hashed(out, at, field, environment);
    }
    let code = (at as u32).cast_signed();
    match u16::try_from(code.unsigned_abs()).ok().and_then(|code| error_name(code)) {
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
fn fourcc(out: &mut Output, at: u64, _: &[u8], field: Field, environment: &dyn Environment) {
    const BIG_ENDIAN: u32 = 1 << 31;
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

/// `%pks` `%pus`
fn probed_string(out: &mut Output, at: u64, _: &[u8], field: Field, environment: &dyn Environment) {
    string(out, at, field, environment);
}

/// `%pa` `%pap` `%pad`
fn address(out: &mut Output, at: u64, extension: &[u8], field: Field, environment: &dyn Environment) {
    let structures = environment.structures();
    let size = if extension.get(1) == Some(&b'd') { structures.dma_size } else { structures.physical_size };
    scalar(out, at, size, field, environment);
}
