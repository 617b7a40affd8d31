//! What single relocations make of a place.

use alloc::vec::Vec;

use lkm_module::Errno;
use lkm_module::elf::consts::*;

use super::*;
use crate::Arch;
use crate::Image;
use crate::rules::ArmPlt;
use crate::rules::PltForm;
use crate::test_support::*;

const BASE: u64 = 0xbf00_0000;
const BL: u32 = 0xebff_fffe;
const THUMB_BL: u32 = 0xfffe_f7ff;

struct Applied {
    before: u32,
    after: u32,
    place: u32,
}

/// Links one relocation of a place in `.text`, which holds `insn`, against an absolute symbol.
fn apply(rules: &LinkRules, kind: u32, insn: u32, value: u32) -> Result<Applied, LinkError> {
    let mut object = module(Arch::Arm);
    let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &insn.to_le_bytes());
    let symbol = object.absolute("there", value.into());
    object.reloc(text, 0, symbol, kind, 0);
    let file = object.finish();
    let linked = link(&file, Arch::Arm, rules, BASE, &mut Exports::default(), &mut ())?;
    let place = linked.info.section_addr(text) as u32;
    Ok(Applied { before: insn, after: linked.word(text, 0), place })
}

fn rules() -> LinkRules {
    rules_6_1(Arch::Arm)
}

fn thumb() -> LinkRules {
    LinkRules { thumb2: true, ..rules() }
}

fn without_plt() -> LinkRules {
    LinkRules { arm_plt: None, ..rules() }
}

#[test]
fn data_and_moves_get_their_value() {
    const S: u32 = 0xc012_3456;
    for (kind, insn, expected) in [
        (0, 5, 5u32),
        (2, 5, S + 5),
        (38, 5, S + 5),
        // movw and movt with the addend 0xff: the halves of S + 0xff.
        (43, 0xe300_30ff, 0xe303_3555),
        (44, 0xe340_30ff, 0xe34c_3012),
        (40, 0xe12f_ff13, 0xe1a0_f003),
    ] {
        assert_eq!(apply(&rules(), kind, insn, S).unwrap().after, expected, "type {kind}");
    }
    for (kind, insn, shift) in [(45, 0xe300_3000, 0), (46, 0xe340_3000, 16)] {
        let done = apply(&rules(), kind, insn, S).unwrap();
        let half = S.wrapping_sub(done.place) >> shift;
        assert_eq!(done.after, insn | (half & 0xf000) << 4 | half & 0xfff);
    }
    let done = apply(&rules(), 3, 8, S).unwrap();
    assert_eq!(done.after, (S + 8).wrapping_sub(done.place));
    let done = apply(&rules(), 42, 0x8000_0000, done.place + 0x1000).unwrap();
    assert_eq!(done.after, 0x8000_1000);
}

#[test]
fn thumb_moves_get_their_value_on_thumb_kernels_only() {
    const S: u32 = 0xc012_3457;
    // movw r3, #0 and movt r3, #0
    for (kind, insn, expected) in [(47, 0x0300_f240, 0x4357_f243), (48, 0x0300_f2c0, 0x0312_f2cc)] {
        assert_eq!(apply(&thumb(), kind, insn, S).unwrap().after, expected, "type {kind}");
        let error = apply(&rules(), kind, insn, S).err().unwrap();
        assert_eq!(lines(&error), [alloc::format!("<3>hello: unknown relocation: {kind}")]);
    }
    for (kind, insn, shift) in [(49, 0x0300_f240, 0), (50, 0x0300_f2c0, 16)] {
        let done = apply(&thumb(), kind, insn, S).unwrap();
        let half = (S.wrapping_sub(done.place) >> shift) as u16 as i16;
        assert_eq!(Field::ThumbMove.addend(&done.after.to_le_bytes(), Endian::Little), half.into());
    }
}

#[test]
fn group_relocations_are_known_since_their_kernel() {
    let place = apply(&rules(), 0, 0, 0).unwrap().place;
    for (kind, insn, expected) in
        [(57, 0xe28f_0000u32, 0xe28f_0548), (59, 0xe280_0000, 0xe280_09d1), (63, 0xe590_0000, 0xe590_0123)]
    {
        let value = if kind == 63 { 0x1234_4123 } else { 0x1234_5678 };
        let done = apply(&rules(), kind, insn, place.wrapping_add(value)).unwrap();
        assert_eq!(done.after, expected, "type {kind}");
        let old = LinkRules { arm_group_relocs: false, ..rules() };
        assert!(apply(&old, kind, insn, place).is_err());
    }
    assert!(apply(&rules(), 63, 0xe590_0000, place + 0x1234_5678).is_err());
}

#[test]
fn branches_reach_32_megabytes() {
    for kind in [1, 28, 29] {
        let place = apply(&without_plt(), 0, BL, 0).unwrap().place;
        // The value is S - P - 8 for a bl without addend.
        for (distance, reaches) in
            [(0x0200_0004, true), (0x0200_0008, false), (-0x01ff_fff4, true), (-0x01ff_fff8, false)]
        {
            let to = place.wrapping_add_signed(distance);
            match apply(&without_plt(), kind, BL, to) {
                Ok(done) => {
                    assert!(reaches, "{distance:#x}");
                    let offset = Field::Branch.addend(&done.after.to_le_bytes(), Endian::Little);
                    assert_eq!(offset + 8, distance);
                    assert_eq!(done.after & 0xff00_0000, done.before & 0xff00_0000);
                }
                Err(error) => {
                    assert!(!reaches, "{distance:#x}");
                    assert_eq!(error.errno(), Errno::ENOEXEC);
                    let expected = alloc::format!(
                        "<3>hello: section 7 reloc 0 sym 'there': relocation {kind} out of range \
                         ({place:#x} -> {to:#x})"
                    );
                    assert_eq!(lines(&error), [expected]);
                }
            }
        }
    }
}

#[test]
fn thumb_branches_reach_16_megabytes() {
    let rules = LinkRules { arm_plt: None, ..thumb() };
    for kind in [10, 30] {
        let place = apply(&rules, 0, THUMB_BL, 0).unwrap().place;
        for (distance, reaches) in
            [(0x0100_0002, true), (0x0100_0004, false), (-0x00ff_fffa, true), (-0x00ff_fffc, false)]
        {
            let done = apply(&rules, kind, THUMB_BL, place.wrapping_add_signed(distance));
            assert_eq!(done.is_ok(), reaches, "{distance:#x}");
            if let Ok(done) = done {
                let offset = Field::ThumbBranch.addend(&done.after.to_le_bytes(), Endian::Little);
                assert_eq!(offset + 4, distance);
            }
        }
    }
}

#[test]
fn unwind_offsets_have_31_bits_and_old_kernels_cut_them_off() {
    let place = apply(&rules(), 0, 0, 0).unwrap().place;
    for (distance, reaches) in
        [(0x3fff_ffff, true), (0x4000_0000, false), (-0x4000_0000, true), (-0x4000_0001, false)]
    {
        let to = place.wrapping_add_signed(distance);
        assert_eq!(apply(&rules(), 42, 0, to).is_ok(), reaches);
        let old = LinkRules { arm_prel31_range: false, ..rules() };
        assert_eq!(apply(&old, 42, 0, to).unwrap().after, distance as u32 & 0x7fff_ffff);
    }
}

#[test]
fn branches_do_not_change_the_instruction_set() {
    let error = apply(&rules(), 28, BL, 0xbf00_0001).err().unwrap();
    assert_eq!(
        lines(&error),
        ["<3>hello: section 7 reloc 0 sym 'there': unsupported interworking call (ARM -> Thumb)"]
    );
    // From Thumb it depends on the type of the symbol.
    for (info, refused) in [(STB_GLOBAL << 4 | STT_FUNC, true), (STB_GLOBAL << 4, false)] {
        let mut object = module(Arch::Arm);
        let bytes = THUMB_BL.to_le_bytes();
        let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &bytes);
        let mut symbol = lkm_module::elf::RawSymbol { info, shndx: text as u16, ..Default::default() };
        symbol.value = 0x100;
        let symbol = object.symbol("there", symbol);
        object.reloc(text, 0, symbol, 10, 0);
        let file = object.finish();
        let done = link(&file, Arch::Arm, &thumb(), BASE, &mut Exports::default(), &mut ());
        assert_eq!(done.is_err(), refused);
        if let Err(error) = done {
            assert_eq!(
                lines(&error),
                ["<3>hello: section 7 reloc 0 sym 'there': unsupported interworking call (Thumb -> ARM)"]
            );
        }
    }
}

#[test]
fn indexes_and_offsets_are_tested_before_the_type() {
    let refuse = |offset, symbol: u32, kind| {
        let mut object = module(Arch::Arm);
        let data = object.section(".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 4, &[0; 8]);
        object.absolute("there", 1);
        object.reloc(data, offset, symbol, kind, 0);
        let file = object.finish();
        let done = link(&file, Arch::Arm, &rules(), BASE, &mut Exports::default(), &mut ());
        lines(&done.err().unwrap())
    };
    assert_eq!(
        refuse(5, 1, 200),
        ["<3>hello: section 7 reloc 0 sym 'there': out of bounds relocation, offset 5 size 8"]
    );
    assert_eq!(
        refuse(0xffff_fffc, 1, 0),
        ["<3>hello: section 7 reloc 0 sym 'there': out of bounds relocation, offset -4 size 8"]
    );
    assert_eq!(refuse(5, 3, 2), ["<3>hello: section 7 reloc 0: bad relocation sym offset"]);
    assert_eq!(refuse(0, 1, 200), ["<3>hello: unknown relocation: 200"]);
    // The kernel reads one symbol too many here.
    assert_eq!(refuse(0, 2, 2).len(), 0);
}

/// A module whose `.text` and `.init.text` call absolute symbols far away, one call a word.
fn far_calls(text: &[(u32, u32, u32)], init: &[(u32, u32, u32)]) -> (Vec<u8>, [usize; 2]) {
    let mut object = module(Arch::Arm);
    let mut sections = [0; 2];
    for (number, (name, calls)) in [(".text", text), (".init.text", init)].into_iter().enumerate() {
        let data: Vec<u8> = calls.iter().flat_map(|(_, insn, _)| insn.to_le_bytes()).collect();
        let section = object.section(name, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &data);
        sections[number] = section;
        for (at, (kind, _, to)) in calls.iter().enumerate() {
            let symbol = object.absolute("far", u64::from(*to));
            object.reloc(section, 4 * at as u64, symbol, *kind, 0);
        }
    }
    (object.finish(), sections)
}

fn target_of(image: &Image<Vec<u8>>, place: u32) -> u32 {
    let insn = image.read_u32(u64::from(place)).unwrap().to_le_bytes();
    place.wrapping_add(8).wrapping_add_signed(Field::Branch.addend(&insn, Endian::Little))
}

#[test]
fn far_branches_go_through_slots_in_sorted_order() {
    // 20 calls of 20 symbols: with the two fixed slots they take 22, in two sets of 16.
    let calls: Vec<_> = (0..20).map(|at| (28, BL, 0xd000_0000 + 16 * at)).collect();
    let (file, [text, _]) = far_calls(&calls, &[(29, 0xeaff_fffe, 0xd000_0000)]);
    let linked = link(&file, Arch::Arm, &rules(), BASE, &mut Exports::default(), &mut ()).unwrap();
    let plt = linked.info.find_sec(b".plt");
    let init_plt = linked.info.find_sec(b".init.plt");
    assert_eq!(linked.info.sections[plt].size, 256);
    assert_eq!(linked.info.sections[init_plt].size, 128);
    assert_eq!(linked.stats.plt_slots, [22, 3]);

    let (text, plt_at) = (linked.info.section_addr(text) as u32, linked.info.section_addr(plt) as u32);
    for set in 0..2 {
        for slot in 0..16 {
            assert_eq!(linked.word(plt, set * 128 + 4 * slot), 0xe59f_f038);
        }
    }
    assert_eq!((linked.word(plt, 64), linked.word(plt, 68)), (0xc010_0000, 0xc010_0010));
    for (number, (_, _, to)) in calls.iter().enumerate() {
        let slot = number as u32 + 2;
        let offset = slot / 16 * 128 + slot % 16 * 4;
        assert_eq!(target_of(&linked.image, text + 4 * number as u32), plt_at + offset);
        assert_eq!(linked.word(plt, u64::from(offset) + 64), *to);
    }
    assert_eq!(linked.word(init_plt, 64 + 8), 0xd000_0000);
    // What the second set does not use is zero.
    assert_eq!(linked.word(plt, 128 + 64 + 4 * 6), 0);
}

#[test]
fn equal_targets_share_a_slot_and_fixed_ones_their_own() {
    let calls = [(28, BL, 0xd000_0000), (28, BL, 0xc010_0010), (28, BL + 1, 0xd000_0000)];
    let (file, [text, _]) = far_calls(&calls, &[]);
    // Another branch to the symbol of the first call, out of order in the file.
    let rules = LinkRules {
        arm_plt: Some(ArmPlt {
            form: PltForm::Split,
            fixed: alloc::vec![0xd000_0000, 0xd000_0010],
            align: 64,
        }),
        ..rules()
    };
    let linked = link(&file, Arch::Arm, &rules, 0xbf00_0000, &mut Exports::default(), &mut ()).unwrap();
    let (text, plt) = (
        linked.info.section_addr(text) as u32,
        linked.info.section_addr(linked.info.find_sec(b".plt")) as u32,
    );
    assert_eq!(target_of(&linked.image, text), plt);
    // A near target needs no slot; an addend makes another target.
    assert_eq!(target_of(&linked.image, text + 4), 0xc010_0010);
    assert_eq!(target_of(&linked.image, text + 8), plt + 8);
    assert_eq!(linked.stats.plt_slots, [3, 0]);
}

#[test]
fn repeated_calls_of_one_symbol_are_counted_once() {
    let count = |addends: &[u32]| {
        let mut object = module(Arch::Arm);
        let data: Vec<u8> = addends.iter().flat_map(|addend| (BL + addend).to_le_bytes()).collect();
        let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &data);
        let far = object.absolute("far", 0xd000_0000);
        let near = object.local("near", text, 0);
        for at in 0..addends.len() as u64 {
            object.reloc(text, 4 * at, far, 28, 0);
        }
        object.reloc(text, 0, near, 28, 0);
        let file = object.finish();
        let rules = LinkRules {
            arm_plt: Some(ArmPlt { form: PltForm::Split, fixed: Vec::new(), align: 8 }),
            ..rules()
        };
        let (info, _) = lay_out(&file, Arch::Arm, &rules).unwrap();
        // With lines of 8 bytes a set has two slots in 16 bytes.
        info.sections[info.find_sec(b".plt")].size / 8
    };
    assert_eq!(count(&[0, 0, 0]), 2);
    assert_eq!(count(&[0]), 2);
    assert_eq!(count(&[1, 1, 1]), 4);
    assert_eq!(count(&[]), 0);
}

fn old(form: PltForm) -> LinkRules {
    LinkRules { arm_plt: Some(ArmPlt { form, fixed: Vec::new(), align: 64 }), ..rules_4_0_arm() }
}

/// Calls of far symbols, one a word, in `.text` and `.init.text`; the number is that of the symbol, `true` an undefined one.
fn old_calls(form: PltForm, text: &[(usize, bool)], init: &[(usize, bool)]) -> Vec<u8> {
    let mut object =
        lkm_module::testing::ObjectBuilder::new(lkm_module::elf::Class::Elf32, Endian::Little, EM_ARM);
    object.this_module("hello", 0x240, None, None);
    let mut names = form.sections().to_vec();
    names.dedup();
    for name in names {
        object.section(name, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 1, &[0]);
    }
    let far: Vec<_> = (0..4).map(|n| object.absolute("far", 0xd000_0000 + 16 * n)).collect();
    let undefined = object.undefined("far");
    for (name, calls) in [(".text", text), (".init.text", init)] {
        let data: Vec<u8> = calls.iter().flat_map(|_| BL.to_le_bytes()).collect();
        let section = object.section(name, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &data);
        for (at, &(number, outside)) in calls.iter().enumerate() {
            object.reloc(section, 4 * at as u64, if outside { undefined } else { far[number] }, 28, 0);
        }
    }
    object.finish()
}

#[test]
fn until_4_8_slots_are_given_in_the_order_of_the_file() {
    let form = PltForm::CoreAndInit;
    let calls = [(2, false), (0, false), (2, false), (1, false), (0, false)];
    let file = old_calls(form, &calls, &[(3, false), (2, false)]);
    let mut exports = Exports::default();
    exports.exports.insert("far", Ok(0xd000_0000));
    let linked = link(&file, Arch::Arm, &old(form), BASE, &mut exports, &mut ()).unwrap();
    assert_eq!(linked.stats.plt_slots, [3, 2]);
    let at = |name: &[u8]| linked.info.section_addr(linked.info.find_sec(name)) as u32;
    let slots = |code: &[u8], plt: &[u8], count: u32| -> Vec<u32> {
        (0..count).map(|n| (target_of(&linked.image, at(code) + 4 * n) - at(plt)) / 4).collect()
    };
    assert_eq!(slots(b".text", b".core.plt", 5), [0, 1, 0, 2, 1], "an earlier slot is found again");
    assert_eq!(slots(b".init.text", b".init.plt", 2), [0, 1]);
    assert_eq!(linked.word(linked.info.find_sec(b".core.plt"), 64), 0xd000_0020);
    assert_eq!(linked.info.sections[linked.info.find_sec(b".core.plt")].size, 128);

    let (size, slots) = {
        let many: Vec<_> = (0..4).cycle().take(40).map(|n| (n, false)).collect();
        let file = old_calls(form, &many, &[]);
        let (info, _) = lay_out(&file, Arch::Arm, &old(form)).unwrap();
        (info.sections[info.find_sec(b".core.plt")].size, info.sections[info.find_sec(b".init.plt")].size)
    };
    assert_eq!((size, slots), (128, 0), "equal calls count once, wherever they stand");
}

#[test]
fn in_4_9_one_section_has_the_slots_of_both_parts() {
    let form = PltForm::Single;
    let file = old_calls(form, &[(0, true), (0, true), (1, false)], &[(0, true)]);
    let mut exports = Exports::default();
    exports.exports.insert("far", Ok(0xd000_0000));
    // A far symbol of the module's own does not count, and gets a slot all the same where there is room.
    let linked = link(&file, Arch::Arm, &old(form), BASE, &mut exports, &mut ()).unwrap();
    let plt = linked.info.find_sec(b".plt");
    assert_eq!(linked.info.sections[plt].size, 128);
    assert_eq!(linked.stats.plt_slots[1], 0);
    let init = linked.info.section_addr(linked.info.find_sec(b".init.text")) as u32;
    let slot = target_of(&linked.image, init).wrapping_sub(linked.info.section_addr(plt) as u32);
    assert!(slot < 64, "{slot:#x}");
}

#[test]
fn what_old_kernels_say_without_the_sections() {
    for (form, line) in [
        (PltForm::CoreAndInit, "<3>hello: sections missing"),
        (PltForm::Single, "<3>hello: module PLT section missing"),
    ] {
        let file = old_calls(PltForm::Split, &[], &[]);
        let file = match form {
            PltForm::Single => old_calls(PltForm::CoreAndInit, &[], &[]),
            _ => file,
        };
        let error = lay_out(&file, Arch::Arm, &old(form)).err().unwrap();
        assert_eq!(lines(&error), [line]);
    }
}

#[test]
fn thumb_slots_load_with_the_wide_instruction() {
    let mut object = module(Arch::Arm);
    let bytes = THUMB_BL.to_le_bytes();
    let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &bytes);
    let far = object.absolute("far", 0xd000_0001);
    object.reloc(text, 0, far, 10, 0);
    let file = object.finish();
    let linked = link(&file, Arch::Arm, &thumb(), BASE, &mut Exports::default(), &mut ()).unwrap();
    let plt = linked.info.find_sec(b".plt");
    // ldr.w pc, [pc, #60], as the assembler writes it
    assert_eq!(linked.word(plt, 0), 0xf03c_f8df);
    assert_eq!(linked.word(plt, 64 + 8), 0xd000_0001);
    let insn = linked.word(text, 0).to_le_bytes();
    let to = (linked.info.section_addr(text) as u32 + 4)
        .wrapping_add_signed(Field::ThumbBranch.addend(&insn, Endian::Little));
    assert_eq!(u64::from(to), linked.info.section_addr(plt) + 8);
}

#[test]
fn modules_without_plt_sections_are_refused() {
    let object =
        lkm_module::testing::ObjectBuilder::new(lkm_module::elf::Class::Elf32, Endian::Little, EM_ARM);
    let mut object = object;
    object.this_module("hello", 0x240, None, None);
    let file = object.finish();
    let error = lay_out(&file, Arch::Arm, &rules()).err().unwrap();
    assert_eq!(lines(&error), ["<3>hello: module PLT section(s) missing"]);
    assert!(lay_out(&file, Arch::Arm, &without_plt()).is_ok());
}

#[test]
fn names_of_init_sections() {
    for (name, init) in [
        (".init.text", true),
        (".ARM.exidx.init.text", true),
        (".ARM.extab.init.text", true),
        (".ARM.exidx", false),
        (".alt.smp.init", false),
        (".exit.text", false),
    ] {
        assert_eq!(module_init_section(name.as_bytes()), init, "{name}");
    }
}
