use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::*;
use crate::Errno;
use crate::Level;
use crate::testing::ObjectBuilder;
use crate::testing::edit_header;
use crate::testing::edit_section;

const MODINFO: usize = 1;
const THIS_MODULE: usize = 2;
const TEXT: usize = 3;
const EXT_CRCS: usize = 5;
const SYMTAB: usize = 7;
const STRTAB: usize = 8;
const SHSTRTAB: usize = 9;
const SECTIONS: u16 = 10;

fn object() -> ObjectBuilder {
    let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
    assert_eq!(object.modinfo(&[("license", "GPL"), ("name", "good")]), MODINFO);
    assert_eq!(object.this_module("good", 0x380, None, None), THIS_MODULE);
    assert_eq!(object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 16, &[0xc3; 20]), TEXT);
    object.nobits(".bss", SHF_ALLOC | SHF_WRITE, 8, 1 << 40);
    assert_eq!(object.section("__version_ext_crcs", SHT_PROGBITS, SHF_ALLOC, 4, &[1; 8]), EXT_CRCS);
    object.section("__version_ext_names", SHT_PROGBITS, SHF_ALLOC, 1, b"one\0two\0");
    object.global("init_module", TEXT, 0);
    object.undefined("_printk");
    object
}

fn rules(generation: ElfGeneration) -> ElfRules {
    ElfRules {
        this_module_size: Some(0x380),
        debian: true,
        ..ElfRules::new(generation, ArchCheck::X86_64, Class::Elf64, Endian::Little)
    }
}

const ALL: [ElfGeneration; 4] =
    [ElfGeneration::V4, ElfGeneration::V6_1, ElfGeneration::V6_12, ElfGeneration::V6_14];

fn refusal(file: &[u8], generation: ElfGeneration) -> Option<(Errno, Option<(Level, String)>)> {
    elf_validity_check(file, &rules(generation)).err().map(|refusal| (refusal.errno(), refusal.log()))
}

fn line(file: &[u8], generation: ElfGeneration) -> Option<String> {
    refusal(file, generation).map(|(_, line)| line.map_or("(silent)".into(), |(_, line)| line))
}

/// A way to damage the file, and the line that must come of it.
struct Damage {
    line: &'static str,
    apply: fn(&mut Vec<u8>),
}

fn damage(line: &'static str, apply: fn(&mut Vec<u8>)) -> Damage {
    Damage { line, apply }
}

fn header_damages() -> Vec<Damage> {
    [
        damage("Invalid ELF header magic: != \x7fELF", |file| file[3] = b'G'),
        damage("Invalid ELF header type: 2 != 1", |file| edit_header(file, |h| h.kind = 2)),
        damage("Invalid architecture in ELF header: 40", |file| edit_header(file, |h| h.machine = EM_ARM)),
        damage("Invalid ELF section header size", |file| edit_header(file, |h| h.shentsize = 63)),
        damage("Invalid ELF section header overflow", |file| edit_header(file, |h| h.shoff += 1)),
    ]
    .into()
}

// After a change of shoff the section headers cannot be edited any more, so header damage is applied last.
fn apply(damages: &[&Damage]) -> Vec<u8> {
    let mut file = object().finish();
    for damage in damages.iter().rev() {
        (damage.apply)(&mut file);
    }
    file
}

/// Each damage is found, and of two that come together the first in the list.
fn found_in_order(generation: ElfGeneration, damages: &[Damage]) {
    for (place, first) in damages.iter().enumerate() {
        let mut level = Level::Err;
        if first.line.ends_with("(stripped?)") {
            level = Level::Warning;
        }
        let expected = Some((Errno::ENOEXEC, Some((level, first.line.to_string()))));
        assert_eq!(refusal(&apply(&[first]), generation), expected, "{generation:?}");
        for second in &damages[place + 1..] {
            let both = apply(&[first, second]);
            assert_eq!(refusal(&both, generation), expected, "{generation:?}, with {}", second.line);
        }
    }
}

const SECTION_0: &str = "ELF Spec violation: section 0 type(0)!=SH_NULL or non-zero len or addr";
const LINK_0: &str = "Invalid ELF sh_link!=SHN_UNDEF(0) or (sh_link(0) >= hdr->e_shnum(10)";

#[test]
fn a_good_file_passes_everywhere() {
    let file = object().finish();
    for generation in ALL {
        let elf = elf_validity_check(&file, &rules(generation)).unwrap();
        assert_eq!(elf.sections.len(), usize::from(SECTIONS));
        assert_eq!(elf.section_name(&elf.sections[SHSTRTAB]), b".shstrtab");
    }
}

#[test]
fn short_files_are_named_by_their_length() {
    let file = object().finish();
    for length in [0, 1, 28, 63] {
        let expected = alloc::format!("Invalid ELF header len {length}");
        assert_eq!(line(&file[..length], ElfGeneration::V6_1), Some(expected.clone()));
        assert_eq!(line(&file[..length], ElfGeneration::V6_14), Some(expected));
        assert_eq!(refusal(&file[..length], ElfGeneration::V4), Some((Errno::ENOEXEC, None)));
    }
    let arm = ElfRules::new(
        ElfGeneration::V6_1,
        ArchCheck::Arm { thumb: true, vfp: true, apcs26: false },
        Class::Elf32,
        Endian::Little,
    );
    let refusal = elf_validity_check(&file[..51], &arm).unwrap_err();
    assert_eq!(refusal.fault, ElfFault::HeaderLength { length: 51 });
}

#[test]
fn order_of_6_1() {
    let mut damages = header_damages();
    damages.extend([
        damage("Invalid ELF section name index: 0 || e_shstrndx (0) >= e_shnum (10)", |file| {
            edit_header(file, |h| h.shstrndx = 0);
        }),
        damage("Invalid ELF section hdr(type 3)", |file| {
            edit_section(file, SHSTRTAB, |s| s.offset = u64::MAX)
        }),
        damage(SECTION_0, |file| edit_section(file, 0, |s| s.addr = 1)),
        damage("Invalid ELF section in module (section 3 type 1)", |file| {
            edit_section(file, TEXT, |s| s.size = 1 << 33);
        }),
        damage("Invalid ELF section name in module (section 5 type 1)", |file| {
            edit_section(file, EXT_CRCS, |s| s.name = 1 << 16);
        }),
        damage(LINK_0, |file| edit_section(file, SYMTAB, |s| s.link = 0)),
    ]);
    found_in_order(ElfGeneration::V6_1, &damages);
}

#[test]
fn order_of_6_12() {
    let mut damages = header_damages();
    damages.extend([
        damage(SECTION_0, |file| edit_section(file, 0, |s| s.size = 1)),
        damage("Invalid ELF section in module (section 3 type 1)", |file| {
            edit_section(file, TEXT, |s| s.offset = u64::MAX - 3);
        }),
        damage("Invalid ELF section name index: 10 || e_shstrndx (10) >= e_shnum (10)", |file| {
            edit_header(file, |h| h.shstrndx = SECTIONS);
        }),
        damage("Invalid ELF section name table type: 1", |file| edit_section(file, SHSTRTAB, |s| s.kind = 1)),
        damage("empty section name table", |file| edit_section(file, SHSTRTAB, |s| s.size = 0)),
    ]);
    found_in_order(ElfGeneration::V6_12, &damages);
    found_in_order(ElfGeneration::V6_14, &damages);
}

#[test]
fn order_of_what_6_12_added() {
    fn rename(file: &mut [u8], section: usize, to: usize) {
        let name = Elf::parse(file).unwrap().sections[to].name;
        edit_section(file, section, |s| s.name = name);
    }
    let mut damages = Vec::from([
        damage("ELF Spec violation: section name table isn't null terminated", |file| {
            edit_section(file, SHSTRTAB, |s| s.size -= 1);
        }),
        damage("Invalid ELF section name in module (section 4 type 8)", |file| {
            edit_section(file, 4, |s| s.name = 1 << 16);
        }),
        damage("Only one .modinfo section must exist.", |file| rename(file, TEXT, MODINFO)),
        damage("module good: .gnu.linkonce.this_module section must have a size set", |file| {
            edit_section(file, THIS_MODULE, |s| s.kind = SHT_NOBITS);
        }),
        damage(
            "module good: .gnu.linkonce.this_module must occupy memory during process execution",
            |file| {
                edit_section(file, THIS_MODULE, |s| s.flags = SHF_WRITE);
            },
        ),
        damage(
            "module good: .gnu.linkonce.this_module section size must match the kernel's built struct module size \
             at run time",
            |file| edit_section(file, THIS_MODULE, |s| s.size += 8),
        ),
        damage("good: module has no symbols (stripped?)", |file| edit_section(file, SYMTAB, |s| s.kind = 1)),
        damage(LINK_0, |file| edit_section(file, SYMTAB, |s| s.link = 0)),
        damage("Invalid ELF symbol string table type: 1", |file| edit_section(file, STRTAB, |s| s.kind = 1)),
    ]);
    found_in_order(ElfGeneration::V6_12, &damages);

    damages.extend([
        damage("extended version crc+name presence does not match", |file| rename(file, EXT_CRCS, TEXT)),
        damage("empty symbol string table", |file| edit_section(file, STRTAB, |s| s.size = 0)),
        damage("symbol string table missing leading NUL", |file| {
            edit_section(file, STRTAB, |s| s.offset += 1)
        }),
        damage("symbol string table isn't NUL terminated", |file| {
            edit_section(file, STRTAB, |s| s.size -= 1)
        }),
        damage("symbol name out of bounds in string table", |file| {
            let symtab = Elf::parse(file).unwrap().sections[SYMTAB].offset as usize;
            file[symtab + 24 + 2] = 1;
        }),
    ]);
    found_in_order(ElfGeneration::V6_14, &damages);
    // What only the newer check looks at does not disturb the older one.
    for added in &damages[9..] {
        assert_eq!(line(&apply(&[added]), ElfGeneration::V6_12), None, "{}", added.line);
    }
}

#[test]
fn several_or_no_this_module() {
    let mut file = object().finish();
    let (text, this) = {
        let elf = Elf::parse(&file).unwrap();
        (elf.sections[TEXT].name, elf.sections[THIS_MODULE].name)
    };
    let expected = "module good: Exactly one .gnu.linkonce.this_module section must exist.";
    edit_section(&mut file, TEXT, |s| s.name = this);
    assert_eq!(line(&file, ElfGeneration::V6_12).as_deref(), Some(expected));
    assert_eq!(line(&file, ElfGeneration::V6_1), None);
    edit_section(&mut file, TEXT, |s| s.name = text);
    edit_section(&mut file, THIS_MODULE, |s| s.name = text);
    assert_eq!(line(&file, ElfGeneration::V6_12).as_deref(), Some(expected));
    edit_section(&mut file, MODINFO, |s| s.name = text);
    assert_eq!(
        line(&file, ElfGeneration::V6_12).as_deref(),
        Some(
            "module (missing .modinfo section or name field): Exactly one .gnu.linkonce.this_module section must \
             exist."
        )
    );
    assert_eq!(line(&file, ElfGeneration::V6_1), None);
}

#[test]
fn extended_versions_need_a_name_for_each_crc() {
    let mut object = object();
    object.data(EXT_CRCS).extend([0; 4]);
    let file = object.finish();
    let expected = Some("more extended version crcs than names".to_string());
    assert_eq!(line(&file, ElfGeneration::V6_14), expected);
    assert_eq!(line(&file, ElfGeneration::V6_12), None);
    let ignoring = ElfRules { ignore_modversions: true, ..rules(ElfGeneration::V6_14) };
    assert!(elf_validity_check(&file, &ignoring).is_ok());
    // Three bytes more are no CRC.
    let mut object = self::object();
    object.data(EXT_CRCS).extend([0; 3]);
    assert_eq!(line(&object.finish(), ElfGeneration::V6_14), None);
}

#[test]
fn kernels_4_x_refuse_headers_in_silence_and_say_truncated_of_sections() {
    for damage in header_damages() {
        assert_eq!(refusal(&apply(&[&damage]), ElfGeneration::V4), Some((Errno::ENOEXEC, None)));
    }
    let mut file = object().finish();
    edit_section(&mut file, TEXT, |s| s.size = 1 << 33);
    let expected = alloc::format!("Module len {} truncated", file.len());
    assert_eq!(refusal(&file, ElfGeneration::V4), Some((Errno::ENOEXEC, Some((Level::Err, expected)))));
    // They do not see a sum that wraps, nor anything of the name table or of section 0.
    edit_section(&mut file, TEXT, |s| s.offset = u64::MAX - 3);
    edit_section(&mut file, TEXT, |s| s.size = 20);
    edit_section(&mut file, 0, |s| s.kind = 1);
    edit_header(&mut file, |h| h.shstrndx = 77);
    assert_eq!(line(&file, ElfGeneration::V4), None);
}

#[test]
fn a_32_bit_kernel_adds_in_32_bits() {
    let mut object = ObjectBuilder::new(Class::Elf32, Endian::Little, EM_ARM);
    let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC, 4, &[0; 16]);
    let mut file = object.finish();
    edit_section(&mut file, text, |s| (s.offset, s.size) = (0xffff_ff00, 0x200));
    let rules = ElfRules::new(
        ElfGeneration::V6_1,
        ArchCheck::Arm { thumb: true, vfp: true, apcs26: false },
        Class::Elf32,
        Endian::Little,
    );
    let bounds = ElfFault::SectionBounds { section: 1, kind: SHT_PROGBITS };
    assert_eq!(elf_validity_check(&file, &rules).unwrap_err().fault, bounds);
    let old = ElfRules { generation: ElfGeneration::V4, ..rules };
    assert!(elf_validity_check(&file, &old).is_ok(), "the wrapped sum is 0x100");
}

#[test]
fn numbers_are_printed_as_the_kernel_prints_them() {
    let mut file = object().finish();
    edit_section(&mut file, SYMTAB, |s| s.link = 0xffff_fffe);
    let expected = "Invalid ELF sh_link!=SHN_UNDEF(-2) or (sh_link(-2) >= hdr->e_shnum(10)";
    assert_eq!(line(&file, ElfGeneration::V6_1).as_deref(), Some(expected));
    edit_section(&mut file, 0, |s| s.kind = 0x8000_0000);
    let expected =
        "ELF Spec violation: section 0 type(-2147483648)!=SH_NULL or non-zero len or addr".to_string();
    assert_eq!(line(&file, ElfGeneration::V6_1), Some(expected));
}

#[test]
fn vanilla_6_12_does_not_look_at_the_types_of_string_tables() {
    let mut file = object().finish();
    edit_section(&mut file, SHSTRTAB, |s| s.kind = 1);
    edit_section(&mut file, STRTAB, |s| s.kind = 1);
    let vanilla = ElfRules { debian: false, ..rules(ElfGeneration::V6_14) };
    assert!(elf_validity_check(&file, &vanilla).is_ok());
    let sizeless = ElfRules { this_module_size: None, ..vanilla };
    edit_section(&mut file, THIS_MODULE, |s| s.size = 1);
    assert!(elf_validity_check(&file, &sizeless).is_ok());
}

#[test]
fn the_class_and_byte_order_of_the_file_are_not_asked() {
    let mut file = object().finish();
    file[4] = 99;
    file[5] = 99;
    assert_eq!(line(&file, ElfGeneration::V6_12), None);
}

#[test]
fn no_sections_at_all() {
    let mut file = object().finish();
    edit_header(&mut file, |h| h.shnum = 0);
    assert_eq!(
        line(&file, ElfGeneration::V6_1).as_deref(),
        Some("Invalid ELF section name index: 9 || e_shstrndx (9) >= e_shnum (0)")
    );
    assert_eq!(line(&file, ElfGeneration::V6_12), line(&file, ElfGeneration::V6_1));
    let length = file.len() as u64;
    edit_header(&mut file, |h| h.shoff = length);
    assert_eq!(line(&file, ElfGeneration::V6_12).as_deref(), Some("Invalid ELF section header overflow"));
    // Section 0 is looked at before the number of sections; here one byte of it is in the file.
    edit_header(&mut file, |h| h.shoff = length - 1);
    *file.last_mut().unwrap() = 1;
    assert_eq!(line(&file, ElfGeneration::V6_12), line(&file, ElfGeneration::V6_1));
}

fn accepts(arch: ArchCheck, class: Class, edit: impl FnOnce(&mut Header)) -> bool {
    let mut ident = *b"\x7fELF............";
    ident[4] = if class == Class::Elf32 { 1 } else { 2 };
    let mut header = Header { ident, ..Header::default() };
    edit(&mut header);
    arch.elf_check_arch(&header, class)
}

#[test]
fn arm_asks_for_entry_and_abi() {
    let new = ArchCheck::Arm { thumb: true, vfp: true, apcs26: false };
    let old = ArchCheck::Arm { thumb: false, vfp: false, apcs26: true };
    let check = |arch, entry, flags| {
        accepts(arch, Class::Elf32, |h| (h.machine, h.entry, h.flags) = (EM_ARM, entry, flags))
    };
    let eabi5 = 0x0500_0000;
    assert!(check(new, 0, eabi5) && check(old, 0, eabi5));
    assert!(check(new, 3, eabi5) && !check(old, 3, eabi5), "Thumb needs its hwcap");
    assert!(!check(new, 2, eabi5) && check(new, 4, eabi5), "ARM code is aligned to 4");
    assert!(check(new, 0, 0x400) && !check(old, 0, 0x400), "VFP needs its hwcap");
    assert!(check(old, 0, 0x600), "soft float as well as VFP needs none");
    assert!(!check(new, 0, 0x08) && check(old, 0, 0x08), "26-bit code");
    assert!(check(new, 0, eabi5 | 0x08), "EABI files are not asked");
    assert!(!accepts(new, Class::Elf32, |h| h.machine = EM_386));
}

#[test]
fn machines_and_classes() {
    let table: [(ArchCheck, Class, &[u16]); 9] = [
        (ArchCheck::X86_64, Class::Elf64, &[62]),
        (ArchCheck::I386, Class::Elf32, &[3, 6]),
        (ArchCheck::Aarch64, Class::Elf64, &[183]),
        (ArchCheck::RiscV, Class::Elf64, &[243]),
        (ArchCheck::S390, Class::Elf64, &[22, 0xa390]),
        (ArchCheck::Ppc, Class::Elf32, &[20]),
        (ArchCheck::Ppc64 { abi_v2: true }, Class::Elf64, &[21]),
        (ArchCheck::Mips, Class::Elf32, &[8]),
        (ArchCheck::LoongArch, Class::Elf64, &[258]),
    ];
    for (arch, class, machines) in table {
        for machine in 0..=u16::MAX {
            let accepted = accepts(arch, class, |h| h.machine = machine);
            assert_eq!(accepted, machines.contains(&machine), "{arch:?} {machine}");
        }
    }
    // These two, and MIPS, ask for the class; the others take it for granted.
    for (arch, machine, asks) in
        [(ArchCheck::RiscV, 243, true), (ArchCheck::S390, 22, true), (ArchCheck::X86_64, 62, false)]
    {
        assert_eq!(
            accepts(arch, Class::Elf64, |h| (h.machine, h.ident[4]) = (machine, 1)),
            !asks,
            "{arch:?}"
        );
    }
    let n32 = accepts(ArchCheck::Mips, Class::Elf32, |h| (h.machine, h.flags) = (8, 0x20));
    let o32 = accepts(ArchCheck::Mips, Class::Elf32, |h| (h.machine, h.flags) = (8, 0x1000));
    assert!(o32 && !n32);
}

#[test]
fn ppc64_tells_its_abis_apart_from_6_12_on() {
    let mut object = ObjectBuilder::new(Class::Elf64, Endian::Big, EM_PPC64);
    for (flags, abi_v2, refused) in [
        (2, true, false),
        (1, true, true),
        (0, true, true),
        (0, false, false),
        (1, false, false),
        (2, false, true),
    ] {
        object.flags = flags;
        let file = object.finish();
        let check = |generation| {
            let rules = ElfRules::new(generation, ArchCheck::Ppc64 { abi_v2 }, Class::Elf64, Endian::Big);
            elf_validity_check(&file, &rules).err().map(|refusal| refusal.log().unwrap().1)
        };
        let line = check(ElfGeneration::V6_12).unwrap_or_default();
        assert_eq!(
            line == "Invalid module architecture in ELF header: 21",
            refused,
            "{flags} {abi_v2}: {line}"
        );
        assert_eq!(check(ElfGeneration::V6_1), None);
    }
}
