use alloc::format;
use alloc::vec::Vec;

use super::*;
use crate::elf::Endian;
use crate::elf::SectionHeader;
use crate::testing::NewExport;
use crate::testing::ObjectBuilder;
use crate::testing::edit_section;

const POINTERS: KsymtabForm = KsymtabForm { relative: false, namespace: false };
const SPACED: KsymtabForm = KsymtabForm { relative: false, namespace: true };
const PREL: KsymtabForm = KsymtabForm { relative: true, namespace: false };
const PREL_SPACED: KsymtabForm = KsymtabForm { relative: true, namespace: true };

fn machines() -> Vec<(u16, Class, Endian, &'static [KsymtabForm])> {
    let (little, big) = (Endian::Little, Endian::Big);
    let all = &[POINTERS, SPACED, PREL, PREL_SPACED][..];
    let plain = &[POINTERS, SPACED][..];
    [
        (EM_X86_64, Class::Elf64, little, all),
        (EM_AARCH64, Class::Elf64, little, all),
        (EM_386, Class::Elf32, little, all),
        (EM_ARM, Class::Elf32, little, plain),
        (EM_ARM, Class::Elf32, big, plain),
        (EM_S390, Class::Elf64, big, plain),
        (EM_PPC64, Class::Elf64, big, plain),
        (EM_RISCV, Class::Elf64, little, plain),
        (EM_MIPS, Class::Elf64, big, plain),
        (EM_MIPS, Class::Elf32, big, plain),
    ]
    .into()
}

#[test]
fn every_form_on_every_machine() {
    for (machine, class, endian, forms) in machines() {
        for &form in forms {
            for count in 1..=7u32 {
                let mut object = ObjectBuilder::new(class, endian, machine);
                let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &[0; 64]);
                let names: Vec<_> = (0..count).map(|number| format!("symbol_{number}")).collect();
                let symbols: Vec<_> = (0..count)
                    .map(|number| object.global(&names[number as usize], text, u64::from(4 * number)))
                    .collect();
                let new: Vec<_> = (0..count as usize)
                    .map(|number| NewExport {
                        name: &names[number],
                        namespace: if number % 2 == 1 { "SPACE" } else { "" },
                        symbol: symbols[number],
                        crc: Some(0xfeed_0000 + number as u32),
                    })
                    .collect();
                object.exports(ExportTable::Gpl, form, &new);
                let file = object.finish();
                let elf = Elf::parse(&file).unwrap();
                let read = exports(&elf).unwrap();
                assert_eq!(read.len(), count as usize, "{machine} {form:?} {count}");
                for (number, export) in read.iter().enumerate() {
                    assert_eq!(export.name, names[number].as_bytes());
                    assert_eq!(export.table, ExportTable::Gpl);
                    let space = (form.namespace && number % 2 == 1).then_some(&b"SPACE"[..]);
                    assert_eq!(export.namespace, space);
                    assert_eq!(export.crc, Some(0xfeed_0000 + number as u32));
                    assert_eq!(export.value.name, names[number].as_bytes());
                    assert_eq!(
                        (export.value.section(), export.value.offset),
                        (Some(text), 4 * number as u64)
                    );
                }
            }
        }
    }
}

fn one<'a>(name: &'a str, symbol: u32) -> NewExport<'a> {
    NewExport { name, namespace: "", symbol, crc: None }
}

fn x86() -> (ObjectBuilder, usize) {
    let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
    let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &[0; 64]);
    (object, text)
}

#[test]
fn tables_come_in_the_kernels_order_of_search() {
    let (mut object, text) = x86();
    let symbol = object.global("f", text, 0);
    for (table, name) in [
        (ExportTable::UnusedGpl, "e"),
        (ExportTable::Unused, "d"),
        (ExportTable::GplFuture, "c"),
        (ExportTable::Gpl, "b"),
        (ExportTable::Plain, "a"),
    ] {
        object.exports(table, SPACED, &[one(name, symbol)]);
    }
    let file = object.finish();
    let read = exports(&Elf::parse(&file).unwrap()).unwrap();
    let names: Vec<_> = read.iter().map(|export| (export.name, export.table.is_gpl_only())).collect();
    assert_eq!(names, [(&b"a"[..], false), (b"b", true), (b"c", false), (b"d", false), (b"e", true)]);
    assert!(read.iter().all(|export| export.crc.is_none()));
}

#[test]
fn crcs_as_unsigned_long_as_absolute_symbols_and_by_distance() {
    // Up to 4.9 on x86_64: eight bytes each, relocated against an absolute symbol.
    let (mut object, text) = x86();
    let symbol = object.global("f", text, 0);
    object.exports(ExportTable::Plain, POINTERS, &[one("f", symbol), one("g", symbol)]);
    let crc = object.absolute("__crc_f", 0x1234_5678);
    let table = object.section("__kcrctab", SHT_PROGBITS, SHF_ALLOC, 8, &[0; 16]);
    object.pointer(table, 0, crc, 0);
    object.data(table)[8..12].copy_from_slice(&[4, 3, 2, 1]);
    let file = object.finish();
    let read = exports(&Elf::parse(&file).unwrap()).unwrap();
    assert_eq!((read[0].crc, read[1].crc), (Some(0x1234_5678), Some(0x0102_0304)));

    // CONFIG_MODULE_REL_CRCS: the distance to where the CRC lies.
    let (mut object, text) = x86();
    let symbol = object.global("f", text, 0);
    object.exports(ExportTable::Plain, PREL_SPACED, &[one("f", symbol)]);
    let rodata = object.section(".rodata", SHT_PROGBITS, SHF_ALLOC, 8, &[0, 0, 0, 0, 0xdd, 0xcc, 0xbb, 0xaa]);
    let crc = object.local("__crc_f", rodata, 4);
    let table = object.section("__kcrctab", SHT_PROGBITS, SHF_ALLOC, 4, &[0; 4]);
    object.prel32(table, 0, crc, 0);
    let file = object.finish();
    assert_eq!(exports(&Elf::parse(&file).unwrap()).unwrap()[0].crc, Some(0xaabb_ccdd));

    // Only the symbol.
    let (mut object, text) = x86();
    let symbol = object.global("f", text, 0);
    object.exports(ExportTable::Plain, POINTERS, &[one("f", symbol), one("h", symbol)]);
    object.absolute("__crc_g", 1);
    object.absolute("__crc_f", 2);
    let file = object.finish();
    let read = exports(&Elf::parse(&file).unwrap()).unwrap();
    assert_eq!((read[0].crc, read[1].crc), (Some(2), None));
}

#[test]
fn the_parts_of_single_symbols_are_read_like_tables() {
    let (mut object, text) = x86();
    let symbol = object.global("beta", text, 8);
    let strings = object.section("__ksymtab_strings", SHT_PROGBITS, SHF_ALLOC, 1, b"alpha\0beta\0");
    let strings = object.section_symbol(strings);
    for (name, at) in [("___ksymtab_gpl+beta", 6), ("___ksymtab+alpha", 0)] {
        let part = object.section(name, SHT_PROGBITS, SHF_ALLOC, 8, &[0; 16]);
        object.pointer(part, 0, symbol, 0);
        object.pointer(part, 8, strings, at);
    }
    object.section("___kcrctab_gpl+beta", SHT_PROGBITS, SHF_ALLOC, 8, &[7, 0, 0, 0, 0, 0, 0, 0]);
    let file = object.finish();
    let read = exports(&Elf::parse(&file).unwrap()).unwrap();
    let names: Vec<_> = read.iter().map(|export| (export.name, export.table, export.crc)).collect();
    assert_eq!(names, [(&b"alpha"[..], ExportTable::Plain, None), (b"beta", ExportTable::Gpl, Some(7))]);
}

#[test]
fn sections_with_similar_names_are_no_tables() {
    for name in ["__ksymtab_strings", "__ksymtab_other", "___ksymtab", "__ksymtab+x", "ksymtab", "__ksymtabs"]
    {
        let (mut object, _) = x86();
        object.section(name, SHT_PROGBITS, SHF_ALLOC, 1, &[1; 24]);
        let file = object.finish();
        assert_eq!(exports(&Elf::parse(&file).unwrap()), Ok(Vec::new()), "{name}");
    }
    // A table that is not loaded is none.
    let (mut object, _) = x86();
    object.section("__ksymtab", SHT_PROGBITS, 0, 1, &[1; 24]);
    let file = object.finish();
    assert_eq!(exports(&Elf::parse(&file).unwrap()), Ok(Vec::new()));
}

#[test]
fn damaged_tables_are_errors_that_name_them() {
    let (mut object, text) = x86();
    let symbol = object.global("f", text, 0);
    let table = object.exports(ExportTable::Gpl, PREL_SPACED, &[one("f", symbol)]);
    let good = object.finish();
    let error = |file: &[u8]| {
        exports(&Elf::parse(file).unwrap()).map(|_| ()).map_err(|error| {
            assert_eq!(error.section, b"__ksymtab_gpl");
            error.fault
        })
    };
    assert_eq!(error(&good), Ok(()));
    let mut file = good.clone();
    edit_section(&mut file, table, |section| section.size = 13);
    assert_eq!(error(&file), Err(ExportFault::Form));
    edit_section(&mut file, table, |section| section.size = 1 << 40);
    assert_eq!(error(&file), Err(ExportFault::Bounds));

    let elf = Elf::parse(&good).unwrap();
    let symtab = elf.sections.iter().position(|section| section.kind == SHT_SYMTAB).unwrap();
    let relocs = elf.sections.iter().position(|section| section.kind == SHT_RELA).unwrap();
    let mut file = good.clone();
    edit_section(&mut file, symtab, |section| section.kind = SHT_PROGBITS);
    assert_eq!(error(&file), Err(ExportFault::NoSymbols));
    let mut file = good.clone();
    edit_section(&mut file, relocs, |section| section.kind = SHT_PROGBITS);
    assert_eq!(error(&file), Err(ExportFault::Form));
}

#[test]
fn tables_that_share_their_bytes_are_refused() {
    // Without a limit the work would be the number of sections times the size of the file.
    let (mut object, text) = x86();
    let symbol = object.global("f", text, 0);
    let table = object.exports(ExportTable::Plain, POINTERS, &[one("f", symbol); 20]);
    let parts: Vec<_> = (0..100)
        .map(|number| {
            let name = format!("___ksymtab+{number}");
            let part = object.section(&name, SHT_PROGBITS, SHF_ALLOC, 8, &[0; 16]);
            object.pointer(part, 0, symbol, 0);
            part
        })
        .collect();
    let mut file = object.finish();
    assert_eq!(exports(&Elf::parse(&file).unwrap()).map_err(|error| error.fault), Err(ExportFault::Form));
    let sections = Elf::parse(&file).unwrap().sections;
    let relocs_of = |target: usize| {
        sections
            .iter()
            .position(|section| section.kind == SHT_RELA && section.info as usize == target)
            .unwrap()
    };
    let (table_at, relocs_at) = (sections[table], sections[relocs_of(table)]);
    let mut share = |section, whole: SectionHeader| {
        edit_section(&mut file, section, |section| {
            (section.offset, section.size) = (whole.offset, whole.size)
        });
    };
    for part in parts {
        share(part, table_at);
        share(relocs_of(part), relocs_at);
    }
    assert!(exports(&Elf::parse(&file).unwrap()).is_err());
}
