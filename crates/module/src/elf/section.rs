/// A section header with its numbers widened. Field meanings are those of `Elf64_Shdr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SectionHeader {
    /// Offset of the name in the section name table, in bytes.
    pub name: u32,
    /// `sh_type`
    pub kind: u32,
    /// `sh_flags`
    pub flags: u64,
    /// `sh_addr`
    pub addr: u64,
    /// Offset of the contents in the file, in bytes.
    pub offset: u64,
    /// Size of the contents, in bytes.
    pub size: u64,
    /// `sh_link`
    pub link: u32,
    /// `sh_info`
    pub info: u32,
    /// `sh_addralign`, in bytes; 0 and 1 mean no constraint.
    pub addralign: u64,
    /// `sh_entsize`
    pub entsize: u64,
}

impl SectionHeader {
    /// `SHF_ALLOC` is set.
    pub const fn is_alloc(&self) -> bool {
        self.flags & consts::SHF_ALLOC != 0
    }
}

/// The C constants of ELF that loaders use, under their C names.
#[allow(missing_docs)]
pub mod consts {
    pub const SHT_NULL: u32 = 0;
    pub const SHT_PROGBITS: u32 = 1;
    pub const SHT_SYMTAB: u32 = 2;
    pub const SHT_STRTAB: u32 = 3;
    pub const SHT_RELA: u32 = 4;
    pub const SHT_NOTE: u32 = 7;
    pub const SHT_NOBITS: u32 = 8;
    pub const SHT_REL: u32 = 9;
    pub const SHT_ARM_EXIDX: u32 = 0x7000_0001;

    pub const SHF_WRITE: u64 = 1;
    pub const SHF_ALLOC: u64 = 2;
    pub const SHF_EXECINSTR: u64 = 4;
    pub const SHF_RELA_LIVEPATCH: u64 = 0x0010_0000;
    pub const SHF_RO_AFTER_INIT: u64 = 0x0020_0000;
    /// `ARCH_SHF_SMALL` of alpha and ia64; other architectures have none.
    pub const SHF_SMALL: u64 = 0x1000_0000;

    pub const SHN_UNDEF: u16 = 0;
    pub const SHN_LORESERVE: u16 = 0xff00;
    pub const SHN_LIVEPATCH: u16 = 0xff20;
    pub const SHN_ABS: u16 = 0xfff1;
    pub const SHN_COMMON: u16 = 0xfff2;

    pub const STB_LOCAL: u8 = 0;
    pub const STB_GLOBAL: u8 = 1;
    pub const STB_WEAK: u8 = 2;
    pub const STT_NOTYPE: u8 = 0;
    pub const STT_OBJECT: u8 = 1;
    pub const STT_FUNC: u8 = 2;
    pub const STT_SECTION: u8 = 3;

    pub const ET_REL: u16 = 1;
    pub const EM_386: u16 = 3;
    pub const EM_MIPS: u16 = 8;
    pub const EM_PPC: u16 = 20;
    pub const EM_PPC64: u16 = 21;
    pub const EM_S390: u16 = 22;
    pub const EM_ARM: u16 = 40;
    pub const EM_X86_64: u16 = 62;
    pub const EM_AARCH64: u16 = 183;
    pub const EM_RISCV: u16 = 243;
    pub const EM_LOONGARCH: u16 = 258;
}
