//! Where sections and symbol tables come to lie.

use lkm_module::Errno;
use lkm_module::elf::consts::*;
use lkm_module::testing::ObjectBuilder;

use super::*;
use crate::Arch;
use crate::test_support::*;

const AX: u64 = SHF_ALLOC | SHF_EXECINSTR;
const A: u64 = SHF_ALLOC;
const WA: u64 = SHF_ALLOC | SHF_WRITE;

/// Sections of every kind, in an order that is not that of the layout.
fn object(arch: Arch) -> ObjectBuilder {
    let mut object = ObjectBuilder::new(arch.class(), lkm_module::elf::Endian::Little, arch.machine());
    object.section(".data", SHT_PROGBITS, WA, 32, &[1; 0x30]);
    object.section(".text", SHT_PROGBITS, AX, 16, &[2; 0x123]);
    object.section(".init.text", SHT_PROGBITS, AX, 16, &[3; 0x21]);
    object.section(".rodata", SHT_PROGBITS, A, 8, &[4; 0x11]);
    object.section(".exit.text", SHT_PROGBITS, AX, 1, &[5; 5]);
    object.section(".data..ro_after_init", SHT_PROGBITS, WA, 8, &[6; 8]);
    object.section("__jump_table", SHT_PROGBITS, WA, 8, &[7; 16]);
    object.nobits(".bss", WA, 64, 0x2000);
    object.section(".init.data", SHT_PROGBITS, WA, 4, &[8; 4]);
    object.section(".init.rodata", SHT_PROGBITS, A, 4, &[9; 4]);
    object.section(".data..percpu", SHT_PROGBITS, WA, 64, &[10; 0x40]);
    object.section(".comment", SHT_PROGBITS, 0, 1, &[11; 9]);
    object.section(".alt.smp.init", SHT_PROGBITS, A, 4, &[12; 8]);
    object.modinfo(&[("name", "hello")]);
    object.this_module("hello", 0x80, None, None);
    object
}

fn places(info: &LoadInfo<'_>, names: &[&str]) -> Vec<(RegionKind, u64)> {
    let find = |name: &&str| info.placement[info.find_any_sec(name.as_bytes())].unwrap();
    names.iter().map(find).map(|at| (at.region, at.offset)).collect()
}

fn sizes(regions: &[RegionLayout]) -> Vec<(u64, u64, u64, u64)> {
    regions.iter().map(|r| (r.size, r.text_size, r.ro_size, r.ro_after_init_size)).collect()
}

#[test]
fn core_and_init_with_page_rounding() {
    let file = object(Arch::X86_64).finish();
    let rules = LinkRules { kallsyms: false, ..rules_6_1(Arch::X86_64) };
    let (info, regions) = lay_out(&file, Arch::X86_64, &rules).unwrap();
    let order = [
        ".text",
        ".exit.text",
        ".rodata",
        ".alt.smp.init",
        ".data..ro_after_init",
        "__jump_table",
        ".data",
        ".bss",
        ".gnu.linkonce.this_module",
    ];
    assert_eq!(
        places(&info, &order).iter().map(|at| at.1).collect::<Vec<_>>(),
        [0, 0x123, 0x1000, 0x1014, 0x2000, 0x2008, 0x3000, 0x3040, 0x5040]
    );
    let order = [".init.text", ".init.rodata", ".init.data"];
    assert_eq!(
        places(&info, &order),
        [(RegionKind::Init, 0), (RegionKind::Init, 0x1000), (RegionKind::Init, 0x2000)]
    );
    assert_eq!(sizes(&regions), [(0x6000, 0x1000, 0x2000, 0x3000), (0x3000, 0x1000, 0x2000, 0x2000)]);
    for name in [".data..percpu", ".comment", ".modinfo"] {
        assert_eq!(info.placement[info.find_any_sec(name.as_bytes())], None, "{name}");
    }
}

#[test]
fn old_kernels_round_nothing_and_know_no_ro_after_init() {
    let file = object(Arch::Arm).finish();
    let rules = LinkRules { kallsyms: false, ..rules_4_0_arm() };
    let (info, regions) = lay_out(&file, Arch::Arm, &rules).unwrap();
    let order = [
        ".text",
        ".exit.text",
        ".rodata",
        ".alt.smp.init",
        ".data",
        ".data..ro_after_init",
        "__jump_table",
        ".bss",
        ".gnu.linkonce.this_module",
    ];
    assert_eq!(
        places(&info, &order).iter().map(|at| at.1).collect::<Vec<_>>(),
        [0, 0x123, 0x128, 0x13c, 0x160, 0x190, 0x198, 0x1c0, 0x21c0]
    );
    assert_eq!(sizes(&regions), [(0x2240, 0x128, 0x144, 0x144), (0x2c, 0x21, 0x28, 0x28)]);
}

#[test]
fn seven_types_each_from_zero() {
    use RegionKind::*;
    let file = object(Arch::X86_64).finish();
    let rules = LinkRules { kallsyms: false, ..rules_6_12() };
    let (info, regions) = lay_out(&file, Arch::X86_64, &rules).unwrap();
    let order = [
        ".text",
        ".exit.text",
        ".rodata",
        ".data..ro_after_init",
        "__jump_table",
        ".data",
        ".bss",
        ".gnu.linkonce.this_module",
        ".init.text",
        ".init.data",
        ".init.rodata",
    ];
    let expected = [
        (Text, 0),
        (Text, 0x123),
        (RoData, 0),
        (RoAfterInit, 0),
        (RoAfterInit, 8),
        (Data, 0),
        (Data, 0x40),
        (Data, 0x2040),
        (InitText, 0),
        (InitData, 0),
        (InitRoData, 0),
    ];
    assert_eq!(places(&info, &order), expected);
    let sizes: Vec<_> = regions.iter().map(|region| (region.kind, region.size)).collect();
    assert_eq!(
        sizes,
        [
            (Text, 0x128),
            (Data, 0x20c0),
            (RoData, 0x1c),
            (RoAfterInit, 0x18),
            (InitText, 0x21),
            (InitData, 4),
            (InitRoData, 4)
        ]
    );
}

#[test]
fn init_sections_are_never_read_only_after_init() {
    let mut object = object(Arch::X86_64);
    let section = object.section(".init.ro", SHT_PROGBITS, WA | SHF_RO_AFTER_INIT, 1, &[1]);
    let file = object.finish();
    let (info, _) = lay_out(&file, Arch::X86_64, &rules_6_12()).unwrap();
    assert_eq!(info.placement[section].unwrap().region, RegionKind::InitData);
}

#[test]
fn symbol_tables_behind_the_sections() {
    let mut object = object(Arch::X86_64);
    let [data, text, init] = [".data", ".text", ".init.text"].map(|name| object.find(name).unwrap());
    let percpu = object.find(".data..percpu").unwrap();
    let comment = object.find(".comment").unwrap();
    object.local("a_function", text, 0);
    object.global("an_object", data, 0);
    object.global("an_init", init, 0);
    object.local("a_percpu", percpu, 0);
    object.local("a_comment", comment, 0);
    object.undefined("printk");
    object.section_symbol(text);
    let file = object.finish();
    let rules = rules_6_1(Arch::X86_64);
    let (info, regions) = lay_out(&file, Arch::X86_64, &rules).unwrap();
    let tables = info.symtab.unwrap();
    // The null symbol, a_function, an_object, a_percpu; names with NULs: 1 + 11 + 10 + 9.
    assert_eq!((tables.core_symbols, tables.core_strtab_size), (4, 31));
    // The sections of both parts end at page boundaries.
    assert_eq!(tables.core_symtab.offset, 0x6000);
    assert_eq!(tables.core_strtab.offset, 0x6000 + 4 * 24);
    assert_eq!(tables.core_typetab.unwrap().offset, 0x6000 + 4 * 24 + 31);
    assert_eq!(places(&info, &[".symtab"]), [(RegionKind::Init, 0x3000)]);
    let strtab = 0x3000 + 8 * 24;
    let strings = 1 + 11 + 10 + 8 + 9 + 10 + 7;
    assert_eq!(places(&info, &[".strtab"]), [(RegionKind::Init, strtab)]);
    let kallsyms = (strtab + strings).next_multiple_of(8);
    assert_eq!(tables.mod_kallsyms.offset, kallsyms);
    assert_eq!(tables.init_typetab.unwrap().offset, kallsyms + 32);
    assert_eq!(sizes(&regions)[0].0, 0x7000);
    assert_eq!(sizes(&regions)[1].0, 0x4000);

    // Without CONFIG_KALLSYMS_ALL only code is kept.
    let rules = LinkRules { kallsyms_all: false, ..rules };
    let (info, _) = lay_out(&file, Arch::X86_64, &rules).unwrap();
    assert_eq!(info.symtab.unwrap().core_strtab_size, 1 + 11);
    // The seven-type model puts them behind the data.
    let (info, regions) = lay_out(&file, Arch::X86_64, &rules_6_12()).unwrap();
    let tables = info.symtab.unwrap();
    assert_eq!((tables.core_symtab.region, tables.core_symtab.offset), (RegionKind::Data, 0x20c0));
    assert_eq!(regions[1].size, 0x20c0 + 4 * 24 + 31 + 4);
    assert_eq!(places(&info, &[".symtab"]), [(RegionKind::InitData, 8)]);
}

#[test]
fn without_unload_exit_code_is_freed_after_init() {
    let file = object(Arch::X86_64).finish();
    let rules = LinkRules { unload: false, ..rules_6_1(Arch::X86_64) };
    let (info, _) = lay_out(&file, Arch::X86_64, &rules).unwrap();
    assert_eq!(places(&info, &[".exit.text"]), [(RegionKind::Init, 0x21)]);
}

#[test]
fn livepatch_modules_keep_all_symbols() {
    let mut object =
        ObjectBuilder::new(lkm_module::elf::Class::Elf64, lkm_module::elf::Endian::Little, EM_X86_64);
    object.modinfo(&[("name", "hello"), ("livepatch", "Y")]);
    object.this_module("hello", 0x80, None, None);
    object.undefined("printk");
    let file = object.finish();
    let kept =
        |rules: &LinkRules| lay_out(&file, Arch::X86_64, rules).unwrap().0.symtab.unwrap().core_symbols;
    let rules = rules_6_1(Arch::X86_64);
    assert_eq!(kept(&rules), 2);
    assert_eq!(kept(&LinkRules { livepatch: false, ..rules }), 1);
}

#[test]
fn writable_code_is_refused_in_memory_or_not() {
    let mut object = object(Arch::X86_64);
    let index = object.section(".odd", SHT_PROGBITS, SHF_WRITE | SHF_EXECINSTR, 1, &[]);
    let file = object.finish();
    let rules = rules_6_1(Arch::X86_64);
    let error = lay_out(&file, Arch::X86_64, &rules).err().unwrap();
    assert_eq!(error.errno(), Errno::ENOEXEC);
    let line = alloc::format!("<3>hello: section .odd (index {index}) has invalid WRITE|EXEC flags");
    assert_eq!(lines(&error), [line]);
    for rules in
        [LinkRules { refuse_wx: false, ..rules.clone() }, LinkRules { strict_rwx: false, ..rules.clone() }]
    {
        assert!(lay_out(&file, Arch::X86_64, &rules).is_ok());
    }
}

#[test]
fn alignments_follow_the_formula_of_the_kernel() {
    assert_eq!(align_up(5, 0), 5);
    assert_eq!(align_up(5, 1), 5);
    assert_eq!(align_up(5, 8), 8);
    // No power of two: (5 + 2) & !2
    assert_eq!(align_up(5, 3), 5);
    assert_eq!(align_up(6, 3), 8);
    // Cut to 32 bits, the mask is all ones.
    assert_eq!(align_up(5, 1 << 32), 0);
    assert_eq!(align_up(u32::MAX, 4096), 0);
}

#[test]
fn sizes_wrap_as_unsigned_int() {
    let mut object = object(Arch::X86_64);
    let bss = object.nobits(".huge", WA, 1, u64::MAX);
    let file = object.finish();
    let rules = LinkRules { kallsyms: false, ..rules_6_1(Arch::X86_64) };
    let (info, regions) = lay_out(&file, Arch::X86_64, &rules).unwrap();
    // One byte less than without it: the kernel loads such modules.
    assert_eq!(info.placement[bss].unwrap().offset, 0x50c0);
    assert_eq!(sizes(&regions)[0].0, 0x6000);
    link(&file, Arch::X86_64, &rules, 0xffff_ffff_c000_0000, &mut Exports::default(), &mut ()).unwrap();
}
