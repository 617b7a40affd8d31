//! Changes to single fields of a module file.

use lkm_link::Arch;

/// A field with its offset and size, in ELF64 and in ELF32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    wide: (usize, usize),
    narrow: (usize, usize),
}

const fn field(wide: (usize, usize), narrow: (usize, usize)) -> Field {
    Field { wide, narrow }
}

pub(crate) const E_TYPE: Field = field((16, 2), (16, 2));
pub(crate) const E_MACHINE: Field = field((18, 2), (18, 2));
pub(crate) const E_VERSION: Field = field((20, 4), (20, 4));
pub(crate) const E_SHOFF: Field = field((40, 8), (32, 4));
pub(crate) const E_FLAGS: Field = field((48, 4), (36, 4));
pub(crate) const E_EHSIZE: Field = field((52, 2), (40, 2));
pub(crate) const E_PHNUM: Field = field((56, 2), (44, 2));
pub(crate) const E_SHENTSIZE: Field = field((58, 2), (46, 2));
pub(crate) const E_SHNUM: Field = field((60, 2), (48, 2));
pub(crate) const E_SHSTRNDX: Field = field((62, 2), (50, 2));

pub(crate) const SH_NAME: Field = field((0, 4), (0, 4));
pub(crate) const SH_TYPE: Field = field((4, 4), (4, 4));
pub(crate) const SH_FLAGS: Field = field((8, 8), (8, 4));
pub(crate) const SH_ADDR: Field = field((16, 8), (12, 4));
pub(crate) const SH_OFFSET: Field = field((24, 8), (16, 4));
pub(crate) const SH_SIZE: Field = field((32, 8), (20, 4));
pub(crate) const SH_LINK: Field = field((40, 4), (24, 4));

pub(crate) const ST_SHNDX: Field = field((6, 2), (14, 2));

pub(crate) const R_OFFSET: Field = field((0, 8), (0, 4));
/// Type and symbol.
pub(crate) const R_INFO: Field = field((8, 8), (4, 4));

/// A file that is being changed.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) bytes: Vec<u8>,
    wide: bool,
}

impl Edit {
    pub(crate) fn new(arch: Arch, file: &[u8]) -> Edit {
        Edit { bytes: file.to_vec(), wide: arch == Arch::X86_64 }
    }

    fn at(&self, field: Field) -> (usize, usize) {
        if self.wide { field.wide } else { field.narrow }
    }

    fn get(&self, base: usize, field: Field) -> Option<usize> {
        let (offset, size) = self.at(field);
        let bytes = self.bytes.get(base + offset..base + offset + size)?;
        usize::try_from(bytes.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte))).ok()
    }

    fn set(mut self, base: usize, field: Field, value: u64) -> Option<Edit> {
        let (offset, size) = self.at(field);
        let bytes = self.bytes.get_mut(base + offset..base + offset + size)?;
        bytes.copy_from_slice(&value.to_le_bytes()[..size]);
        Some(self)
    }

    /// Sets a byte of the file.
    pub(crate) fn byte(mut self, at: usize, value: u8) -> Option<Edit> {
        *self.bytes.get_mut(at)? = value;
        Some(self)
    }

    /// Sets a field of the ELF header.
    pub(crate) fn header(self, field: Field, value: u64) -> Option<Edit> {
        self.set(0, field, value)
    }

    fn section_header(&self, index: usize) -> Option<usize> {
        Some(self.get(0, E_SHOFF)? + index * if self.wide { 64 } else { 40 })
    }

    fn find(&self, name: &str) -> Option<usize> {
        let names = self.get(self.section_header(self.get(0, E_SHSTRNDX)?)?, SH_OFFSET)?;
        (1..self.get(0, E_SHNUM)?).find(|&index| {
            let start =
                self.section_header(index).and_then(|header| self.get(header, SH_NAME)).map(|at| names + at);
            let text = start.and_then(|start| self.bytes.get(start..));
            text.is_some_and(|text| text.starts_with(name.as_bytes()) && text.get(name.len()) == Some(&0))
        })
    }

    /// Index of a section.
    pub(crate) fn index(&self, name: &str) -> Option<u64> {
        self.find(name).map(|index| index as u64)
    }

    /// Number of sections.
    pub(crate) fn count(&self) -> Option<u64> {
        self.get(0, E_SHNUM).map(|count| count as u64)
    }

    /// Sets a field of a section header; the section `""` is section 0.
    pub(crate) fn section(self, name: &str, field: Field, value: u64) -> Option<Edit> {
        let index = if name.is_empty() { 0 } else { self.find(name)? };
        let header = self.section_header(index)?;
        self.set(header, field, value)
    }

    /// Offset and size of a section's contents.
    pub(crate) fn contents(&self, name: &str) -> Option<(usize, usize)> {
        let header = self.section_header(self.find(name)?)?;
        Some((self.get(header, SH_OFFSET)?, self.get(header, SH_SIZE)?))
    }

    /// Replaces the first `from` in a section; both have the same length.
    pub(crate) fn replace(mut self, section: &str, from: &[u8], to: &[u8]) -> Option<Edit> {
        let (start, size) = self.contents(section)?;
        let contents = self.bytes.get_mut(start..start + size)?;
        let at = contents.windows(from.len()).position(|window| window == from)?;
        contents.get_mut(at..at + to.len())?.copy_from_slice(to);
        Some(self)
    }

    /// Sets a field of the first symbol of a name.
    pub(crate) fn symbol(self, name: &str, field: Field, value: u64) -> Option<Edit> {
        let (strings, _) = self.contents(".strtab")?;
        let (start, size) = self.contents(".symtab")?;
        let step = if self.wide { 24 } else { 16 };
        let at = (start..start + size).step_by(step).find(|&at| {
            let text = self.get(at, SH_NAME).and_then(|name| self.bytes.get(strings + name..));
            text.is_some_and(|text| text.starts_with(name.as_bytes()) && text.get(name.len()) == Some(&0))
        })?;
        self.set(at, field, value)
    }

    /// Name of the section with the relocations of another.
    pub(crate) fn relocations(&self, of: &str) -> String {
        format!("{}{of}", if self.wide { ".rela" } else { ".rel" })
    }

    /// Sets a field of the first relocation of a section.
    pub(crate) fn relocation(self, of: &str, field: Field, value: u64) -> Option<Edit> {
        let (start, _) = self.contents(&self.relocations(of))?;
        self.set(start, field, value)
    }

    /// The type and symbol of the first relocation of a section, with another type.
    pub(crate) fn relocation_type(self, of: &str, kind: u64) -> Option<Edit> {
        let (start, _) = self.contents(&self.relocations(of))?;
        let mask = if self.wide { 0xffff_ffff } else { 0xff };
        let info = self.get(start, R_INFO)? as u64;
        self.set(start, R_INFO, info & !mask | kind)
    }

    /// The place of the first relocation of a section gets another first byte.
    pub(crate) fn relocation_place(self, of: &str, value: u8) -> Option<Edit> {
        let (start, _) = self.contents(&self.relocations(of))?;
        let (contents, _) = self.contents(of)?;
        let offset = self.get(start, R_OFFSET)?;
        self.byte(contents + offset, value)
    }

    /// Only the first bytes.
    pub(crate) fn truncate(mut self, length: usize) -> Option<Edit> {
        self.bytes.truncate(length);
        Some(self)
    }

    /// More bytes at the end.
    pub(crate) fn append(mut self, bytes: &[u8]) -> Option<Edit> {
        self.bytes.extend_from_slice(bytes);
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use lkm_module::elf::Elf;

    use super::*;

    #[test]
    fn a_field_is_changed_and_nothing_else() {
        for (arch, name) in [(Arch::X86_64, "x86_64"), (Arch::Arm, "arm")] {
            let file =
                std::fs::read(crate::paths::root().join("fixtures").join(name).join("hello.ko")).unwrap();
            let changed = Edit::new(arch, &file).section(".modinfo", SH_LINK, 77).unwrap().bytes;
            let (before, after) = (Elf::parse(&file).unwrap(), Elf::parse(&changed).unwrap());
            for (before, after) in before.sections.iter().zip(&after.sections) {
                if Elf::parse(&file).unwrap().section_name(before) == b".modinfo" {
                    assert_eq!(after.link, 77);
                    assert_eq!(before.size, after.size);
                } else {
                    assert_eq!(before, after);
                }
            }
        }
    }
}
