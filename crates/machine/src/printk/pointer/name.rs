//! Flags by name: `%pG`.

use super::super::flags;
use super::super::flags::Name;
use super::Environment;
use super::Field;
use super::Output;
use super::Style;
use super::number;
use super::read;
use super::read_pointer;
use super::unreadable;

const HEX: Style = Style { base: 16, special: true, width: 0, ..Style::DECIMAL };

/// `%pGp` `%pGv` `%pGg`
pub(super) fn flags(
    out: &mut Output,
    at: u64,
    extension: &[u8],
    field: Field,
    environment: &dyn Environment,
) {
    let word = || read_pointer(at, environment);
    match extension.get(1) {
        Some(b'p') => match word() {
            Some(value) => page(out, value, environment),
            None => unreadable(out, field),
        },
        Some(b'v') => match word() {
            Some(value) => names(out, value, environment.structures().vma_flags),
            None => unreadable(out, field),
        },
        Some(b'g') => match read(at, environment) {
            Some(bytes) => names(out, u64::from(u32::from_le_bytes(bytes)), flags::GFP),
            None => unreadable(out, field),
        },
        _ => field.text(out, b"(%pG?)"),
    }
}

fn names(out: &mut Output, mut value: u64, names: &[Name]) {
    for &(name, bits) in names {
        if value == 0 {
            break;
        }
        if value & bits != bits {
            continue;
        }
        out.extend(name.as_bytes());
        value &= !bits;
        if value != 0 {
            out.push(b'|');
        }
    }
    if value != 0 {
        number(out, value, false, false, HEX);
    }
}

fn page(out: &mut Output, value: u64, environment: &dyn Environment) {
    let layout = environment.structures().page_flags;
    number(out, value, false, false, HEX);
    out.push(b'(');
    let named = value & ((1 << layout.count) - 1);
    names(out, named, layout.names);
    let mut between = named != 0;
    for part in layout.parts {
        if between {
            out.push(b'|');
        }
        between = true;
        out.extend(part.name.as_bytes());
        out.push(b'=');
        let style = if part.hex { HEX } else { Style::DECIMAL };
        number(out, value >> part.shift & part.mask, false, false, style);
    }
    out.push(b')');
}
