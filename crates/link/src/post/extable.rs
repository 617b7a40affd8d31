//! `__ex_table`: sorted by the address of the instruction that may fault.

use alloc::vec::Vec;
use core::ops::DerefMut;

use super::ExtableForm;
use super::Post;
use super::Rule;
use super::WarningKind;
use super::relative;
use super::s32;
use crate::sort::heapsort;

const RULE: Rule = Rule::ExTable;

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    if !post.on(RULE) {
        return;
    }
    let Some(table) = post.section("__ex_table") else { return };
    let Some(mut bytes) = post.bytes(RULE, table) else { return };
    let form = post.profile.extable;
    let entry = if form == ExtableForm::Absolute { 8 } else { 12 };
    if bytes.len() % entry != 0 {
        post.warn(RULE, table.address, WarningKind::TableSize);
    }
    if form != ExtableForm::Absolute {
        // The third number stays what it is, or is relative to its own place.
        let base = |at: u64| if form == ExtableForm::RelativeHandler { at.wrapping_add(8) } else { 0 };
        let fields = |index: usize| table.address.wrapping_add(index as u64 * 12);
        let mut entries: Vec<(u64, u64, u64)> = bytes
            .chunks_exact(12)
            .enumerate()
            .map(|(index, raw)| {
                let at = fields(index);
                (
                    relative(at, s32(raw, 0)),
                    relative(at.wrapping_add(4), s32(raw, 4)),
                    relative(base(at), s32(raw, 8)),
                )
            })
            .collect();
        heapsort(post.profile.sort, &mut entries, |a, b| a.0.cmp(&b.0));
        for (index, (raw, (insn, fixup, data))) in bytes.chunks_exact_mut(12).zip(&entries).enumerate() {
            let at = fields(index);
            let words = [
                insn.wrapping_sub(at) as u32,
                fixup.wrapping_sub(at.wrapping_add(4)) as u32,
                data.wrapping_sub(base(at)) as u32,
            ];
            for (slot, word) in raw.chunks_exact_mut(4).zip(words) {
                slot.copy_from_slice(&word.to_le_bytes());
            }
        }
    } else {
        let endian = post.image.endian;
        let mut entries: Vec<[u8; 8]> =
            bytes.chunks_exact(8).filter_map(|raw| raw.first_chunk().copied()).collect();
        heapsort(post.profile.sort, &mut entries, |a, b| endian.u32(a).cmp(&endian.u32(b)));
        for (raw, entry) in bytes.chunks_exact_mut(8).zip(&entries) {
            raw.copy_from_slice(entry);
        }
    }
    post.patch(RULE, table.address, &bytes);
}

#[cfg(test)]
mod tests {
    use super::super::PatchProfile;
    use super::super::PlainFacts;
    use super::super::testing::Bed;
    use super::super::testing::words;
    use crate::Arch;

    #[test]
    fn relative_entries_are_rebased_and_keep_their_data() {
        let mut bed = Bed::new(Arch::X86_64);
        // insn at table+0x100, +0x80, +0x90; fixup 0x1000 behind each insn; data 1, 2, 3
        let table = Bed::X86_CORE + 0x200;
        let entry = |at: u32, insn: u32, data: u32| [insn - at, insn + 0x1000 - (at + 4), data];
        let before = [entry(0, 0x100, 1), entry(12, 0x80, 2), entry(24, 0x90, 3)].concat();
        let after = [entry(0, 0x80, 2), entry(12, 0x90, 3), entry(24, 0x100, 1)].concat();
        bed.section("__ex_table", table, &words(&before));
        bed.run(&PatchProfile::x86_64_6_1(), &PlainFacts::default(), |post| post.sort_extable());
        assert_eq!(bed.get(table, 36), words(&after));
    }

    #[test]
    fn handlers_are_rebased_where_they_are_relative() {
        let mut bed = Bed::new(Arch::X86_64);
        let table = Bed::X86_CORE + 0x200;
        let entry = |at: u32, insn: u32| [insn - at, insn + 0x1000 - (at + 4), 0x5000 - (at + 8)];
        bed.section("__ex_table", table, &words(&[entry(0, 0x100), entry(12, 0x80)].concat()));
        bed.run(&PatchProfile::x86_64_4_9(), &PlainFacts::default(), |post| post.sort_extable());
        assert_eq!(bed.get(table, 24), words(&[entry(0, 0x80), entry(12, 0x100)].concat()));
    }

    #[test]
    fn absolute_pairs() {
        let mut bed = Bed::new(Arch::Arm);
        let table = Bed::ARM_CORE + 0x200;
        bed.section("__ex_table", table, &words(&[0xbf00_0020, 1, 0xbf00_0010, 2]));
        bed.run(&PatchProfile::arm_6_1(), &PlainFacts::default(), |post| post.sort_extable());
        assert_eq!(bed.get(table, 16), words(&[0xbf00_0010, 2, 0xbf00_0020, 1]));
        assert_eq!(bed.record.patches.len(), 1);
    }
}
