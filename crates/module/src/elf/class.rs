use object::elf;
use object::endian::Endianness;
use object::pod;

/// Byte order of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endian {
    /// Least significant byte first (`ELFDATA2LSB`).
    Little,
    /// Most significant byte first (`ELFDATA2MSB`).
    Big,
}

impl Endian {
    /// The `object` crate's form of it.
    pub const fn to_object(self) -> Endianness {
        match self {
            Endian::Little => Endianness::Little,
            Endian::Big => Endianness::Big,
        }
    }

    /// Reads a `u16` at the start of `bytes`; 0 if it is shorter.
    pub fn u16(self, bytes: &[u8]) -> u16 {
        let Some(bytes) = bytes.first_chunk::<2>() else { return 0 };
        match self {
            Endian::Little => u16::from_le_bytes(*bytes),
            Endian::Big => u16::from_be_bytes(*bytes),
        }
    }

    /// Reads a `u32` at the start of `bytes`; 0 if it is shorter.
    pub fn u32(self, bytes: &[u8]) -> u32 {
        let Some(bytes) = bytes.first_chunk::<4>() else { return 0 };
        match self {
            Endian::Little => u32::from_le_bytes(*bytes),
            Endian::Big => u32::from_be_bytes(*bytes),
        }
    }

    /// Reads a `u64` at the start of `bytes`; 0 if it is shorter.
    pub fn u64(self, bytes: &[u8]) -> u64 {
        let Some(bytes) = bytes.first_chunk::<8>() else { return 0 };
        match self {
            Endian::Little => u64::from_le_bytes(*bytes),
            Endian::Big => u64::from_be_bytes(*bytes),
        }
    }

    /// The bytes of a `u16`.
    pub const fn u16_bytes(self, value: u16) -> [u8; 2] {
        match self {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        }
    }

    /// The bytes of a `u32`.
    pub const fn u32_bytes(self, value: u32) -> [u8; 4] {
        match self {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        }
    }

    /// The bytes of a `u64`.
    pub const fn u64_bytes(self, value: u64) -> [u8; 8] {
        match self {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        }
    }
}

/// Word size of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// `ELFCLASS32`
    Elf32,
    /// `ELFCLASS64`
    Elf64,
}

impl Class {
    /// Bytes in a pointer: 4 or 8.
    pub const fn pointer_size(self) -> usize {
        match self {
            Class::Elf32 => 4,
            Class::Elf64 => 8,
        }
    }

    /// Bytes in the ELF header (`sizeof(Elf_Ehdr)`): 52 or 64.
    pub const fn header_size(self) -> usize {
        match self {
            Class::Elf32 => 52,
            Class::Elf64 => 64,
        }
    }

    /// Bytes in a section header (`sizeof(Elf_Shdr)`): 40 or 64.
    pub const fn section_header_size(self) -> usize {
        match self {
            Class::Elf32 => 40,
            Class::Elf64 => 64,
        }
    }

    /// Bytes in a symbol (`sizeof(Elf_Sym)`): 16 or 24.
    pub const fn symbol_size(self) -> usize {
        match self {
            Class::Elf32 => 16,
            Class::Elf64 => 24,
        }
    }

    /// Reads a pointer (`unsigned long`) at the start of `bytes`; 0 if it is shorter.
    pub fn pointer(self, endian: Endian, bytes: &[u8]) -> u64 {
        match self {
            Class::Elf32 => u64::from(endian.u32(bytes)),
            Class::Elf64 => endian.u64(bytes),
        }
    }
}

/// A symbol record with its numbers widened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RawSymbol {
    /// Offset of the name in the string table, in bytes.
    pub name: u32,
    /// Binding (high four bits) and type (low four bits).
    pub info: u8,
    /// Visibility and, on some architectures, more.
    pub other: u8,
    /// Section index or one of the special indexes (`SHN_*`).
    pub shndx: u16,
    /// Offset in its section, or the value of an absolute symbol.
    pub value: u64,
    /// Size in bytes.
    pub size: u64,
}

impl RawSymbol {
    /// Binding: `STB_LOCAL` 0, `STB_GLOBAL` 1, `STB_WEAK` 2.
    pub const fn bind(&self) -> u8 {
        self.info >> 4
    }

    /// Type: `STT_OBJECT` 1, `STT_FUNC` 2, `STT_SECTION` 3, ...
    pub const fn kind(&self) -> u8 {
        self.info & 15
    }
}

/// A relocation record with its numbers widened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RawReloc {
    /// Offset of the place in the target section, in bytes.
    pub offset: u64,
    /// Index in the symbol table.
    pub symbol: u32,
    /// Type, numbered by the architecture.
    pub kind: u32,
    /// Addend of `SHT_RELA`; 0 for `SHT_REL`, whose addend lies at the place.
    pub addend: i64,
}

/// One ELF class for code that is compiled once for each, such as the loops over relocations.
pub trait ElfClass: Copy {
    /// The class.
    const CLASS: Class;
    /// Raw symbol record.
    type Symbol: pod::Pod;
    /// Raw `SHT_REL` record.
    type Rel: pod::Pod;
    /// Raw `SHT_RELA` record.
    type Rela: pod::Pod;

    /// Decodes a symbol record.
    fn symbol(raw: &Self::Symbol, endian: Endian) -> RawSymbol;
    /// Decodes a `SHT_REL` record.
    fn rel(raw: &Self::Rel, endian: Endian) -> RawReloc;
    /// Decodes a `SHT_RELA` record.
    fn rela(raw: &Self::Rela, endian: Endian) -> RawReloc;

    /// The symbol records in `bytes`; a trailing partial record is not seen, as in the kernel.
    fn symbols(bytes: &[u8]) -> &[Self::Symbol] {
        records(bytes)
    }

    /// The `SHT_REL` records in `bytes`.
    fn rels(bytes: &[u8]) -> &[Self::Rel] {
        records(bytes)
    }

    /// The `SHT_RELA` records in `bytes`.
    fn relas(bytes: &[u8]) -> &[Self::Rela] {
        records(bytes)
    }
}

fn records<T: pod::Pod>(bytes: &[u8]) -> &[T] {
    let count = bytes.len() / size_of::<T>();
    // The raw records are byte arrays (alignment 1), so only a length could fail, and it is exact.
    pod::slice_from_bytes(bytes, count).map_or(&[], |(slice, _)| slice)
}

/// `ELFCLASS32`.
#[derive(Clone, Copy, Debug)]
pub struct Elf32;

/// `ELFCLASS64`.
#[derive(Clone, Copy, Debug)]
pub struct Elf64;

impl ElfClass for Elf32 {
    const CLASS: Class = Class::Elf32;
    type Symbol = elf::Sym32<Endianness>;
    type Rel = elf::Rel32<Endianness>;
    type Rela = elf::Rela32<Endianness>;

    #[inline]
    fn symbol(raw: &Self::Symbol, endian: Endian) -> RawSymbol {
        let e = endian.to_object();
        RawSymbol {
            name: raw.st_name.get(e),
            info: raw.st_info.0,
            other: raw.st_other.0,
            shndx: raw.st_shndx.get(e).0,
            value: u64::from(raw.st_value.get(e)),
            size: u64::from(raw.st_size.get(e)),
        }
    }

    #[inline]
    fn rel(raw: &Self::Rel, endian: Endian) -> RawReloc {
        let e = endian.to_object();
        let info = raw.r_info.get(e);
        RawReloc { offset: u64::from(raw.r_offset.get(e)), symbol: info >> 8, kind: info & 0xff, addend: 0 }
    }

    #[inline]
    fn rela(raw: &Self::Rela, endian: Endian) -> RawReloc {
        let e = endian.to_object();
        let info = raw.r_info.get(e);
        RawReloc {
            offset: u64::from(raw.r_offset.get(e)),
            symbol: info >> 8,
            kind: info & 0xff,
            addend: i64::from(raw.r_addend.get(e)),
        }
    }
}

impl ElfClass for Elf64 {
    const CLASS: Class = Class::Elf64;
    type Symbol = elf::Sym64<Endianness>;
    type Rel = elf::Rel64<Endianness>;
    type Rela = elf::Rela64<Endianness>;

    #[inline]
    fn symbol(raw: &Self::Symbol, endian: Endian) -> RawSymbol {
        let e = endian.to_object();
        RawSymbol {
            name: raw.st_name.get(e),
            info: raw.st_info.0,
            other: raw.st_other.0,
            shndx: raw.st_shndx.get(e).0,
            value: raw.st_value.get(e),
            size: raw.st_size.get(e),
        }
    }

    #[inline]
    fn rel(raw: &Self::Rel, endian: Endian) -> RawReloc {
        let e = endian.to_object();
        let info = raw.r_info.get(e);
        RawReloc { offset: raw.r_offset.get(e), symbol: (info >> 32) as u32, kind: info as u32, addend: 0 }
    }

    #[inline]
    fn rela(raw: &Self::Rela, endian: Endian) -> RawReloc {
        let e = endian.to_object();
        let info = raw.r_info.get(e);
        RawReloc {
            offset: raw.r_offset.get(e),
            symbol: (info >> 32) as u32,
            kind: info as u32,
            addend: raw.r_addend.get(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    #[test]
    fn numbers_of_both_byte_orders() {
        let (little, big) = (Endian::Little, Endian::Big);
        assert_eq!((little.u16(&BYTES), big.u16(&BYTES)), (0x0201, 0x0102));
        assert_eq!((little.u32(&BYTES), big.u32(&BYTES)), (0x0403_0201, 0x0102_0304));
        assert_eq!((little.u64(&BYTES), big.u64(&BYTES)), (0x0807_0605_0403_0201, 0x0102_0304_0506_0708));
        assert_eq!(Class::Elf32.pointer(big, &BYTES), 0x0102_0304);
        assert_eq!(Class::Elf64.pointer(little, &BYTES), 0x0807_0605_0403_0201);
        for endian in [little, big] {
            assert_eq!(endian.u16(&endian.u16_bytes(0xabcd)), 0xabcd);
            assert_eq!(endian.u32(&endian.u32_bytes(0x89ab_cdef)), 0x89ab_cdef);
            assert_eq!(endian.u64(&endian.u64_bytes(u64::MAX - 5)), u64::MAX - 5);
            assert_eq!((endian.u16(&[1]), endian.u32(&[1; 3]), endian.u64(&[1; 7])), (0, 0, 0));
        }
    }

    #[test]
    fn records_are_decoded_by_class() {
        // As `readelf -x` shows a record of each kind: symbol 0x9c4, type R_ARM_ABS32; and symbol 0x42, R_X86_64_64.
        let rel = [0xcc, 0, 0, 0, 0x02, 0xc4, 0x09, 0];
        let rel = Elf32::rel(&Elf32::rels(&rel)[0], Endian::Little);
        assert_eq!(rel, RawReloc { offset: 0xcc, symbol: 0x9c4, kind: 2, addend: 0 });
        let rela: [u8; 24] = core::array::from_fn(|at| match at {
            0 => 0x38,
            1 => 0x01,
            8 => 0x01,
            12 => 0x42,
            16 => 0xfc,
            17.. => 0xff,
            _ => 0,
        });
        let rela = Elf64::rela(&Elf64::relas(&rela)[0], Endian::Little);
        assert_eq!(rela, RawReloc { offset: 0x138, symbol: 0x42, kind: 1, addend: -4 });

        let symbol = [0, 0, 0, 9, 0, 0, 1, 0, 0, 0, 0, 0x24, 0x12, 2, 0xff, 0xf1];
        let symbol = Elf32::symbol(&Elf32::symbols(&symbol)[0], Endian::Big);
        let expected = RawSymbol { name: 9, info: 0x12, other: 2, shndx: 0xfff1, value: 0x100, size: 0x24 };
        assert_eq!(symbol, expected);
        assert_eq!((symbol.bind(), symbol.kind()), (1, 2));
    }

    #[test]
    fn a_partial_record_is_not_seen() {
        assert_eq!(Elf32::symbols(&[0; 31]).len(), 1);
        assert_eq!(Elf64::symbols(&[0; 23]).len(), 0);
        assert_eq!(Elf32::rels(&[0; 17]).len(), 2);
        assert_eq!(Elf64::relas(&[0; 48]).len(), 2);
    }
}
