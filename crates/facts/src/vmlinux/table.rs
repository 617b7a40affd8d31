//! Export tables in memory: their forms, and how they are found without section names.

use lkm_module::elf::Elf;

use crate::Machine;

/// Shape of an entry of `__ksymtab`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Distances of 32 bits from each field: value, name, namespace (from 5.4 on).
    RelativeWithNamespace,
    /// Addresses: value, name, namespace.
    AbsoluteWithNamespace,
    /// Distances: value, name (4.19 to 5.3).
    Relative,
    /// Addresses: value, name.
    Absolute,
}

impl Form {
    pub(super) const ALL: [Form; 4] =
        [Form::RelativeWithNamespace, Form::AbsoluteWithNamespace, Form::Relative, Form::Absolute];

    fn is_relative(self) -> bool {
        matches!(self, Form::RelativeWithNamespace | Form::Relative)
    }

    fn field(self, machine: Machine) -> u64 {
        if self.is_relative() { 4 } else { u64::from(machine.bits) / 8 }
    }

    /// Bytes of an entry.
    pub(super) fn size(self, machine: Machine) -> u64 {
        let fields =
            if matches!(self, Form::RelativeWithNamespace | Form::AbsoluteWithNamespace) { 3 } else { 2 };
        fields * self.field(machine)
    }

    fn address(self, memory: &Memory<'_>, entry: u64, number: u64) -> Option<u64> {
        let at = entry.checked_add(number * self.field(memory.machine))?;
        if self.is_relative() {
            let distance = memory.u32(at)?.cast_signed();
            Some(at.wrapping_add_signed(i64::from(distance)))
        } else {
            memory.pointer(at)
        }
    }

    pub(super) fn value(self, memory: &Memory<'_>, entry: u64) -> Option<u64> {
        self.address(memory, entry, 0)
    }

    /// Where the name lies; an address that is nowhere if the entry is cut.
    pub(super) fn name_address(self, memory: &Memory<'_>, entry: u64) -> u64 {
        self.address(memory, entry, 1).unwrap_or(u64::MAX)
    }

    pub(super) fn namespace_address(self, memory: &Memory<'_>, entry: u64) -> Option<u64> {
        match self {
            Form::RelativeWithNamespace | Form::AbsoluteWithNamespace => self.address(memory, entry, 2),
            Form::Relative | Form::Absolute => None,
        }
    }
}

/// Parts of a kernel at their addresses.
pub(super) struct Memory<'a> {
    pub(super) machine: Machine,
    /// Sorted by address.
    parts: Vec<(u64, &'a [u8])>,
    /// Addresses are those of the running kernel, not offsets in a file.
    pub(super) is_placed: bool,
}

impl<'a> Memory<'a> {
    pub(super) fn of_elf(elf: &Elf<'a>, machine: Machine) -> Memory<'a> {
        const ALLOC: u64 = 2;
        let allocated = elf.sections.iter().filter(|section| section.flags & ALLOC != 0 && section.addr != 0);
        let mut parts: Vec<(u64, &[u8])> = allocated
            .filter_map(|section| Some((section.addr, elf.contents(section)?)))
            .filter(|(_, bytes)| !bytes.is_empty())
            .collect();
        parts.sort_by_key(|part| part.0);
        Memory { machine, parts, is_placed: true }
    }

    fn raw(kernel: &'a [u8], machine: Machine, base: Option<u64>) -> Memory<'a> {
        Memory { machine, parts: vec![(base.unwrap_or(0), kernel)], is_placed: base.is_some() }
    }

    fn at(&self, address: u64) -> Option<&'a [u8]> {
        let part = self.parts.partition_point(|part| part.0 <= address).checked_sub(1)?;
        let (start, bytes) = self.parts.get(part)?;
        bytes.get(usize::try_from(address - start).ok()?..)
    }

    pub(super) fn u32(&self, address: u64) -> Option<u32> {
        let bytes = *self.at(address)?.first_chunk()?;
        Some(if self.machine.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn pointer(&self, address: u64) -> Option<u64> {
        if self.machine.bits == 32 {
            return self.u32(address).map(u64::from);
        }
        let bytes = *self.at(address)?.first_chunk()?;
        Some(if self.machine.big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// The text at an address, which may be empty.
    pub(super) fn text(&self, address: u64) -> Option<&'a str> {
        let rest = self.at(address)?;
        let end = rest.iter().take(512).position(|&byte| byte == 0)?;
        let text = std::str::from_utf8(rest.get(..end)?).ok()?;
        text.bytes().all(|byte| byte.is_ascii_graphic()).then_some(text)
    }

    /// The name of a symbol at an address.
    pub(super) fn name(&self, address: u64) -> Option<&'a str> {
        self.text(address).filter(|name| {
            name.bytes().next().is_some_and(|byte| byte == b'_' || byte.is_ascii_alphabetic())
                && name.bytes().all(|byte| matches!(byte, b'_' | b'.' | b'$') || byte.is_ascii_alphanumeric())
        })
    }

    /// The name in the entry at an address, if it is one.
    fn entry(&self, form: Form, entry: u64) -> Option<&'a str> {
        let name = self.name(form.name_address(self, entry))?;
        match form.namespace_address(self, entry) {
            // A null pointer in some kernels, the address of an empty text in others.
            Some(0) | None => Some(name),
            Some(address) => self.text(address).map(|_| name),
        }
    }

    /// The number of entries from an address on whose names are sorted.
    fn run(&self, form: Form, start: u64) -> usize {
        let size = form.size(self.machine);
        let mut last = "";
        let mut count = 0;
        let mut entry = start;
        while let Some(name) = self.entry(form, entry) {
            if count > 0 && name <= last {
                break;
            }
            last = name;
            count += 1;
            entry += size;
        }
        count
    }
}

/// Fewer exports than any kernel has, and more than chance puts in order.
const FEW: usize = 64;

/// The tables in an image without sections: the memory, then address and number of entries of both.
pub(super) fn search<'a>(
    kernel: &'a [u8],
    machine: Machine,
    form: Form,
) -> Option<(Memory<'a>, [(u64, usize); 2])> {
    let (memory, start) = if form.is_relative() {
        let memory = Memory::raw(kernel, machine, None);
        let start = (0..kernel.len() as u64)
            .step_by(4)
            .find(|&at| memory.entry(form, at).is_some() && memory.run(form, at) >= FEW)?;
        (memory, start)
    } else {
        anchored(kernel, machine, form)?
    };
    let size = form.size(machine);
    let count = memory.run(form, start);
    let gpl = start + count as u64 * size;
    let gpl_count = memory.run(form, gpl);
    (count >= FEW).then_some((memory, [(start, count), (gpl, gpl_count)]))
}

/// A table of addresses is found from a name that every kernel exports: a pointer to it from an entry whose neighbours
/// are entries too tells where the image lies.
fn anchored<'a>(kernel: &'a [u8], machine: Machine, form: Form) -> Option<(Memory<'a>, u64)> {
    const PAGE: u64 = 4096;
    let size = form.size(machine);
    let pointer = u64::from(machine.bits) / 8;
    for anchor in [&b"\0kfree\0"[..], b"\0param_ops_int\0", b"\0jiffies\0", b"\0strcmp\0"] {
        let places = (0..).scan(0, |from, _| {
            let at = super::find(kernel, anchor, *from)?;
            *from = at + 1;
            Some(at as u64 + 1)
        });
        for name in places {
            let file = Memory::raw(kernel, machine, None);
            let fields = (0..kernel.len() as u64).step_by(4).filter_map(|at| Some((at, file.pointer(at)?)));
            for (at, value) in fields {
                let Some(base) =
                    value.checked_sub(name).filter(|base| base.is_multiple_of(PAGE) && *base > 0)
                else {
                    continue;
                };
                let memory = Memory::raw(kernel, machine, Some(base));
                let Some(entry) = (base + at).checked_sub(pointer) else { continue };
                let mut start = entry;
                while let (Some(before), Some(name)) =
                    (start.checked_sub(size).and_then(|at| memory.entry(form, at)), memory.entry(form, start))
                    && before < name
                {
                    start -= size;
                }
                if memory.run(form, start) >= FEW {
                    return Some((memory, start));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ARM: Machine = Machine { machine: 40, bits: 32, big_endian: false };
    const ARM64: Machine = Machine { machine: 183, bits: 64, big_endian: false };
    const BASE: u64 = 0xc000_8000;

    /// A kernel with 100 exports of each kind, their checksums and names.
    fn kernel(form: Form, machine: Machine) -> Vec<u8> {
        let names: Vec<String> =
            (0..100).map(|number| format!("a{number:02}")).chain(["kfree".into()]).collect();
        let size = form.size(machine) as usize;
        let start = 256;
        let strings = start + 2 * names.len() * (size + 4);
        let mut bytes = vec![0xff; strings];
        let mut at = strings;
        let mut places = Vec::new();
        for name in &names {
            places.push(at);
            bytes.extend(name.bytes().chain([0]));
            at += name.len() + 1;
        }
        let empty = at;
        bytes.push(0);
        for entry in 0..2 * names.len() {
            let fields = [4usize, places[entry % names.len()], empty];
            for (number, target) in fields.iter().enumerate().take(size / form.field(machine) as usize) {
                let place = start + entry * size + number * form.field(machine) as usize;
                let value = if form.is_relative() {
                    (*target as u64).wrapping_sub(place as u64)
                } else {
                    BASE + *target as u64
                };
                let field = form.field(machine) as usize;
                bytes[place..place + field].copy_from_slice(&value.to_le_bytes()[..field]);
            }
            let crc = start + 2 * names.len() * size + 4 * entry;
            bytes[crc..crc + 4].copy_from_slice(&(entry as u32 | 0xabcd_0000).to_le_bytes());
        }
        bytes
    }

    #[test]
    fn tables_of_every_form_are_found_without_sections() {
        for (form, machine) in [
            (Form::RelativeWithNamespace, ARM64),
            (Form::AbsoluteWithNamespace, ARM),
            (Form::Relative, ARM64),
            (Form::Absolute, ARM),
        ] {
            let exports = crate::vmlinux::exports(&kernel(form, machine), Some(machine))
                .unwrap_or_else(|| panic!("{form:?}"));
            assert_eq!(exports.len(), 101, "{form:?}");
            // The second table has the same names here, so that it is the one that stays.
            let export = &exports["a07"];
            assert_eq!((export.crc, export.gpl_only), (Some(0xabcd_0000 | 108), true), "{form:?}");
            let address = (!form.is_relative()).then_some(BASE + 4);
            assert_eq!(export.address, address, "{form:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damage_never_panics(at in 0usize..4_000, value: u8, end in 0usize..5_000, absolute: bool) {
            let (form, machine) =
                if absolute { (Form::AbsoluteWithNamespace, ARM) } else { (Form::RelativeWithNamespace, ARM64) };
            let mut bytes = kernel(form, machine);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(end);
            let _ = crate::vmlinux::exports(&bytes, Some(machine));
        }
    }
}
