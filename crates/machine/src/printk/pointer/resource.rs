//! `%pR` and `%pr`.

use super::Environment;
use super::Field;
use super::Output;
use super::Style;
use super::number;
use super::read_pointer;
use super::read_size;
use super::unreadable;

/// `%pR` decoded, `%pr` with the flags as a number.
pub(super) fn resource(
    out: &mut Output,
    at: u64,
    extension: &[u8],
    field: Field,
    environment: &dyn Environment,
) {
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
