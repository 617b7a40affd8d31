//! Versions (CRCs) of the symbols that a module was built against: `__versions` and the extended form.

use crate::elf::Class;
use crate::elf::Elf;
use crate::elf::Endian;
use crate::elf::string_at;

/// Bytes of a `struct modversion_info`, on both word sizes.
pub const VERSION_SIZE: usize = 64;

/// The version of one imported symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version<'data> {
    /// Name of the symbol.
    pub name: &'data [u8],
    /// Its CRC. The basic form holds a whole `unsigned long`, and kernels compare all of it.
    pub crc: u64,
}

/// The symbol versions of a module.
#[derive(Clone, Copy, Debug)]
pub struct Versions<'data> {
    class: Class,
    endian: Endian,
    basic: Option<&'data [u8]>,
    extended: Option<(&'data [u8], &'data [u8])>,
}

impl<'data> Versions<'data> {
    /// Contents of `__versions`, and of `__version_ext_crcs` with `__version_ext_names`, where there are such.
    pub const fn new(
        class: Class,
        endian: Endian,
        basic: Option<&'data [u8]>,
        extended: Option<(&'data [u8], &'data [u8])>,
    ) -> Versions<'data> {
        Versions { class, endian, basic, extended }
    }

    /// The versions of a file. As in the kernel, `__versions` must be `SHF_ALLOC`; the extended sections need not.
    pub fn of(elf: &Elf<'data>) -> Versions<'data> {
        let data = |index: Option<usize>| index.and_then(|index| elf.section_data(index));
        let crcs = data(elf.find_any_sec(b"__version_ext_crcs"));
        let names = data(elf.find_any_sec(b"__version_ext_names"));
        Versions::new(elf.class, elf.endian, data(elf.find_sec(b"__versions")), crcs.zip(names))
    }

    /// There is a `__versions` section.
    pub const fn has_basic(&self) -> bool {
        self.basic.is_some()
    }

    /// There are the two extended sections.
    pub const fn has_extended(&self) -> bool {
        self.extended.is_some()
    }

    /// The records of `__versions`.
    pub fn basic(&self) -> impl Iterator<Item = Version<'data>> + Clone + use<'data> {
        let Versions { class, endian, basic, .. } = *self;
        basic.unwrap_or(&[]).chunks_exact(VERSION_SIZE).map(move |record| {
            let (_, name) = record.split_at(class.pointer_size());
            Version { name: string_at(name, 0), crc: class.pointer(endian, record) }
        })
    }

    /// The entries of the extended form.
    pub fn extended(&self) -> impl Iterator<Item = Version<'data>> + Clone + use<'data> {
        let (crcs, names) = self.extended.unwrap_or((&[], &[]));
        let endian = self.endian;
        // The piece behind the last NUL is no name.
        let count = names.iter().filter(|&&byte| byte == 0).count();
        let names = names.split(|&byte| byte == 0).take(count);
        crcs.chunks_exact(4)
            .zip(names)
            .map(move |(crc, name)| Version { name, crc: u64::from(endian.u32(crc)) })
    }

    /// What the kernel searches: the extended form where there is one (from 6.14), else the basic one.
    pub fn iter(&self) -> impl Iterator<Item = Version<'data>> + Clone + use<'data> {
        let basic = (!self.has_extended()).then(|| self.basic());
        self.extended().chain(basic.into_iter().flatten())
    }

    /// The CRC of a symbol: that of the first entry of its name.
    pub fn get(&self, name: &[u8]) -> Option<u64> {
        self.iter().find(|version| version.name == name).map(|version| version.crc)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::elf::consts::*;
    use crate::testing::ObjectBuilder;

    #[test]
    fn records_have_64_bytes_on_both_word_sizes() {
        for (class, endian) in [(Class::Elf32, Endian::Little), (Class::Elf64, Endian::Big)] {
            let mut object = ObjectBuilder::new(class, endian, EM_S390);
            let entries = [("module_layout", 0x1122_3344), ("_printk", 0xffff_fffe), ("_printk", 7)];
            let section = object.versions(&entries);
            // A partial record at the end is not seen.
            object.data(section).extend([1; 63]);
            let file = object.finish();
            let versions = Versions::of(&Elf::parse(&file).unwrap());
            assert!(versions.has_basic() && !versions.has_extended());
            assert_eq!(versions.iter().count(), 3);
            assert_eq!(versions.get(b"module_layout"), Some(0x1122_3344));
            assert_eq!(versions.get(b"_printk"), Some(0xffff_fffe));
            assert_eq!(versions.get(b"printk"), None);
        }
    }

    #[test]
    fn the_upper_half_of_a_64_bit_crc_counts() {
        let mut record = [0; 64];
        record[..9].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0, b'x']);
        let versions = Versions::new(Class::Elf64, Endian::Little, Some(&record), None);
        assert_eq!(versions.get(b"x"), Some(0x2_0000_0001));
    }

    #[test]
    fn the_extended_form_hides_the_basic_one() {
        let mut record = [0; 64];
        record[..9].copy_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0, b'x']);
        let crcs = [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0];
        let versions =
            Versions::new(Class::Elf64, Endian::Little, Some(&record), Some((&crcs, b"first\0\0unfinished")));
        let all: Vec<_> = versions.iter().map(|version| (version.name, version.crc)).collect();
        assert_eq!(all, [(&b"first"[..], 1), (b"", 2)]);
        assert_eq!(versions.get(b"x"), None);
        assert_eq!(versions.basic().next().map(|version| version.crc), Some(9));
    }
}
