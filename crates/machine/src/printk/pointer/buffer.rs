//! Memory as it is: `%ph`, `%pb`, `%pE`.

use super::Environment;
use super::Field;
use super::Output;
use super::Style;
use super::number;
use super::read;
use super::unreadable;

/// `%*ph` with C, D, N for the separator.
pub(super) fn hex_string(
    out: &mut Output,
    at: u64,
    extension: &[u8],
    field: Field,
    environment: &dyn Environment,
) {
    let separator = match extension.get(1) {
        Some(b'C') => Some(b':'),
        Some(b'D') => Some(b'-'),
        Some(b'N') => None,
        _ => Some(b' '),
    };
    let count = if field.width > 0 { field.width.min(64) } else { 1 };
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
pub(super) fn bitmap(out: &mut Output, at: u64, _: &[u8], field: Field, environment: &dyn Environment) {
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
pub(super) fn bitmap_list(out: &mut Output, at: u64, _: &[u8], field: Field, environment: &dyn Environment) {
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

/// What `%pE` escapes, and how.
#[derive(Clone, Copy, Default)]
struct Escapes {
    space: bool,
    special: bool,
    null: bool,
    octal: bool,
    hex: bool,
    /// Printable characters stay.
    printable: bool,
}

impl Escapes {
    const ANY: Escapes =
        Escapes { space: true, special: true, null: true, octal: true, hex: false, printable: false };

    /// The first other letter ends them.
    fn read(letters: &[u8]) -> Escapes {
        let mut escapes = Escapes::default();
        for (n, letter) in letters.iter().enumerate() {
            match letter {
                b'a' => escapes = Escapes { hex: escapes.hex, printable: escapes.printable, ..Escapes::ANY },
                b'c' => escapes.special = true,
                b'h' => escapes.hex = true,
                b'n' => escapes.null = true,
                b'o' => escapes.octal = true,
                b'p' => escapes.printable = true,
                b's' => escapes.space = true,
                _ if n == 0 => break,
                _ => return escapes,
            }
        }
        match letters.first() {
            Some(b'a' | b'c' | b'h' | b'n' | b'o' | b'p' | b's') => escapes,
            _ => Escapes { printable: true, ..Escapes::ANY },
        }
    }

    /// The letter behind the backslash of a short form.
    fn short(self, byte: u8) -> Option<u8> {
        match byte {
            b'\n' if self.space => Some(b'n'),
            b'\r' if self.space => Some(b'r'),
            b'\t' if self.space => Some(b't'),
            0x0b if self.space => Some(b'v'),
            0x0c if self.space => Some(b'f'),
            b'\\' if self.special => Some(b'\\'),
            0x07 if self.special => Some(b'a'),
            0x1b if self.special => Some(b'e'),
            b'"' if self.special => Some(b'"'),
            0 if self.null => Some(b'0'),
            _ => None,
        }
    }
}

/// `%*pE` with a, c, h, n, o, p, s for the classes to escape.
pub(super) fn escaped(
    out: &mut Output,
    at: u64,
    extension: &[u8],
    field: Field,
    environment: &dyn Environment,
) {
    let escapes = Escapes::read(extension.get(1..).unwrap_or_default());
    let count = if field.width > 0 { field.width } else { 1 };
    for n in 0..count {
        let Some([byte]) = read(at.wrapping_add(n as u64), environment) else {
            return unreadable(out, field);
        };
        // The kernel's characters are those of Latin-1.
        let printable = matches!(byte, 0x20..=0x7e | 0xa0..=0xff);
        if escapes.printable && printable {
            out.push(byte);
        } else if let Some(letter) = escapes.short(byte) {
            out.extend(&[b'\\', letter]);
        } else if escapes.octal {
            out.extend(format!("\\{byte:03o}").as_bytes());
        } else if escapes.hex {
            out.extend(format!("\\x{byte:02x}").as_bytes());
        } else {
            out.push(byte);
        }
        if out.length() > LENGTH_MAX {
            return;
        }
    }
}
