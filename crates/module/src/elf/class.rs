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
