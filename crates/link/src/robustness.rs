//! Damaged objects through all stages: no panic, no hang, no memory out of proportion.

use alloc::vec;
use alloc::vec::Vec;

use lkm_module::elf::Elf;
use lkm_module::elf::Endian;
use lkm_module::elf::consts::*;
use proptest::prelude::*;

use crate::Arch;
use crate::LinkRules;
use crate::LoadInfo;
use crate::rules::ArmPlt;
use crate::rules::PltForm;
use crate::test_support::*;

/// Most bytes that the host of this test gives to one module.
const MEMORY: u64 = 1 << 20;

/// A module with all that the linker looks at.
fn whole(arch: Arch) -> Vec<u8> {
    let mut object = module(arch);
    let code: Vec<u8> = match arch {
        Arch::X86_64 => vec![0; 64],
        Arch::Arm => 0xebff_fffeu32.to_le_bytes().repeat(16),
    };
    let flags = SHF_ALLOC | SHF_EXECINSTR;
    let text = object.section(".text", SHT_PROGBITS, flags, 16, &code);
    let init = object.section(".init.text", SHT_PROGBITS, flags, 16, &code);
    let data = object.section(".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &[0; 64]);
    object.section(".rodata", SHT_PROGBITS, SHF_ALLOC, 8, b"some text");
    object.section(".data..percpu", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &[0; 8]);
    object.nobits(".bss", SHF_ALLOC | SHF_WRITE, 8, 100);
    object.versions(&[("module_layout", 1), ("printk", 2)]);
    let local = object.local("local", text, 4);
    let far = object.undefined("far");
    object.weak("weak");
    object.absolute("absolute", 5);
    let (call, word): (u32, u32) = match arch {
        Arch::X86_64 => (4, 1),
        Arch::Arm => (28, 2),
    };
    for at in 0..6 {
        object.reloc(text, 8 * at, if at < 4 { far } else { local }, call, -4);
        object.reloc(init, 8 * at, far, call, -4);
        object.reloc(data, 8 * at, local, word, 1);
    }
    object.finish()
}

/// Runs all stages as far as they go.
fn run(file: &[u8], arch: Arch, rules: &LinkRules) -> Option<()> {
    let elf = Elf::parse_as(file, arch.class(), Endian::Little).ok()?;
    let mut log = |_, line: core::fmt::Arguments<'_>| drop(alloc::format!("{line}"));
    let mut info = LoadInfo::setup(elf, arch, COPY, rules, true).map_err(|e| e.log(b"x", &mut log)).ok()?;
    info.rewrite_section_headers();
    crate::module_frob_arch_sections(&mut info, rules).map_err(|e| e.log(b"x", &mut log)).ok()?;
    crate::module_enforce_rwx_sections(&info, rules).map_err(|e| e.log(b"x", &mut log)).ok()?;
    let mut layouts = crate::layout_sections(&mut info, rules);
    crate::layout_symtab(&mut info, rules, &mut layouts);
    let mut next = 0xf000_0000;
    let mut image = crate::move_module(&mut info, &layouts, |_, size| {
        assert!(size <= arch.module_space());
        let base = next;
        next += size.next_multiple_of(4096);
        (size <= MEMORY).then(|| (base, vec![0; size as usize]))
    })
    .map_err(|failure| assert!(failure.image.regions.len() <= layouts.len()))
    .ok()?;
    let mut exports = Exports::default();
    exports.exports.insert("far", Ok(0xc020_0000));
    let symbols = crate::simplify_symbols(&info, rules, Some(0x34000), &mut exports).ok()?;
    crate::write_symtab(&info, &symbols, &mut image);
    crate::apply_relocations(&info, rules, &symbols, &mut image, &mut ())
        .map_err(|e| e.log(b"x", &mut log))
        .ok()?;
    crate::add_kallsyms(&info, rules, &symbols, &mut image).ok()??;
    Some(())
}

/// 4.x for ARM with PLTs.
fn old_plts(form: PltForm) -> LinkRules {
    LinkRules { arm_plt: Some(ArmPlt { form, fixed: Vec::new(), align: 64 }), ..rules_4_0_arm() }
}

fn kernels() -> Vec<(Arch, LinkRules)> {
    vec![
        (Arch::X86_64, rules_6_1(Arch::X86_64)),
        (Arch::X86_64, LinkRules { relocate_percpu: true, extended_modversions: true, ..rules_6_12() }),
        (Arch::Arm, rules_6_1(Arch::Arm)),
        (Arch::Arm, rules_4_0_arm()),
        (Arch::Arm, old_plts(PltForm::CoreAndInit)),
        (Arch::Arm, old_plts(PltForm::Single)),
        (Arch::Arm, LinkRules { thumb2: true, ..rules_6_1(Arch::Arm) }),
    ]
}

/// Numbers at which checks are apt to be wrong.
fn interesting() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..40,
        any::<u64>(),
        Just(u64::MAX),
        Just(0x8000_0000),
        Just(0x7fff_ffff),
        Just(0xffff_ff00),
        Just(1 << 32),
        (0u32..64).prop_map(|bit| 1 << bit),
    ]
}

#[test]
fn the_whole_module_links_on_every_kernel() {
    for (arch, rules) in kernels() {
        let near = LinkRules { arm_plt: rules.arm_plt.clone(), ..rules.clone() };
        // Without PLTs the far symbol is out of reach, and Thumb kernels read ARM code.
        let links = run(&whole(arch), arch, &near).is_some();
        assert_eq!(links, arch == Arch::X86_64 || rules.arm_plt.is_some(), "{rules:?}");
    }
}

#[test]
fn every_header_field_may_hold_anything() {
    let numbers =
        [0u64, 1, 2, 7, 0x7f, 0xff, 0xff00, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, u64::MAX];
    for (arch, rules) in kernels() {
        let file = whole(arch);
        let elf = Elf::parse(&file).unwrap();
        let table = elf.header.shoff as usize;
        let word = arch.class().pointer_size();
        for at in (table..file.len() - word).step_by(4) {
            for number in numbers {
                let mut file = file.clone();
                file[at..at + word].copy_from_slice(&number.to_le_bytes()[..word]);
                run(&file, arch, &rules);
            }
        }
    }
}

#[test]
fn symbols_that_share_one_long_name_take_linear_time() {
    // 20,000 symbols, each with a name of up to 400,000 bytes: 8 GB if each were scanned.
    let mut object = module(Arch::X86_64);
    let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 16, &[0; 16]);
    let long = "x".repeat(400_000);
    object.local(&long, text, 0);
    for number in 0..20_000 {
        if number % 2 == 0 {
            object.local("y", text, 0)
        } else {
            object.undefined("y")
        };
    }
    let mut file = object.finish();
    let elf = Elf::parse(&file).unwrap();
    let table = elf.sections[elf.sections.len() - 3].offset as usize;
    for symbol in 2..20_002 {
        file[table + 24 * symbol..][..4].copy_from_slice(&(symbol as u32).to_le_bytes());
    }
    // All these names together are more than a module may have, unless symbols are not kept.
    for kallsyms in [true, false] {
        run(&file, Arch::X86_64, &LinkRules { kallsyms, ..rules_6_1(Arch::X86_64) });
    }
}

#[test]
fn relocation_sections_that_share_bytes_are_refused() {
    for arch in [Arch::X86_64, Arch::Arm] {
        let file = whole(arch);
        let mut elf = Elf::parse(&file).unwrap();
        let kind = if arch == Arch::X86_64 { SHT_RELA } else { SHT_REL };
        let reloc = *elf.sections.iter().find(|section| section.kind == kind).unwrap();
        for _ in 0..1000 {
            elf.sections.push(reloc);
        }
        let rules = LinkRules { x86_place: crate::rules::X86Place::Unchecked, ..rules_6_1(arch) };
        let mut info = LoadInfo::setup(elf, arch, COPY, &rules, true).unwrap();
        info.rewrite_section_headers();
        let mut done = crate::module_frob_arch_sections(&mut info, &rules);
        if done.is_ok() {
            let mut layouts = crate::layout_sections(&mut info, &rules);
            crate::layout_symtab(&mut info, &rules, &mut layouts);
            let image = crate::move_module(&mut info, &layouts, |_, size| {
                Some((0xf000_0000, vec![0; size as usize]))
            });
            let mut exports = Exports::default();
            exports.exports.insert("far", Ok(0xf000_0000));
            let symbols = crate::simplify_symbols(&info, &rules, None, &mut exports).unwrap();
            done = crate::apply_relocations(&info, &rules, &symbols, &mut image.unwrap(), &mut ()).map(drop);
        }
        assert!(matches!(done, Err(crate::LinkError::RelocsOverlap { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_files_do_no_harm(
        kernel in 0usize..5,
        damage in prop::collection::vec((any::<prop::sample::Index>(), interesting(), 1usize..9), 1..6),
        cut in any::<prop::sample::Index>(),
        cut_off in prop::bool::weighted(0.1),
    ) {
        let (arch, rules) = kernels().swap_remove(kernel);
        let mut file = whole(arch);
        for (at, number, size) in damage {
            let at = at.index(file.len() - 8);
            file[at..at + size].copy_from_slice(&number.to_le_bytes()[..size]);
        }
        if cut_off {
            file.truncate(cut.index(file.len()));
        }
        run(&file, arch, &rules);
    }

    #[test]
    fn damaged_records_do_no_harm(
        kernel in 0usize..5,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), interesting()), 1..5),
    ) {
        let (arch, rules) = kernels().swap_remove(kernel);
        let mut file = whole(arch);
        let elf = Elf::parse(&file).unwrap();
        let tables: Vec<(usize, usize)> = elf
            .sections
            .iter()
            .filter(|section| matches!(section.kind, SHT_REL | SHT_RELA | SHT_SYMTAB))
            .map(|section| (section.offset as usize, section.size as usize))
            .collect();
        for (table, at, number) in damage {
            let (offset, size) = tables[table.index(tables.len())];
            let at = offset + at.index(size / 4) * 4;
            let word = 4.min(file.len() - at);
            file[at..at + word].copy_from_slice(&number.to_le_bytes()[..word]);
        }
        run(&file, arch, &rules);
    }
}
