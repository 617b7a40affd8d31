//! `.orc_unwind_ip` and `.orc_unwind`: sorted together by address.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::DerefMut;

use super::OrcForm;
use super::Post;
use super::Rule;
use super::WarningKind;
use super::relative;
use super::s32;
use crate::sort::heapsort;

const RULE: Rule = Rule::Orc;

/// Bytes of `struct orc_entry`.
const ENTRY: usize = 6;

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    if !post.on(RULE) {
        return;
    }
    let (Some(ip_table), Some(orc_table)) =
        (post.last_section(".orc_unwind_ip"), post.last_section(".orc_unwind"))
    else {
        return;
    };
    let (Some(mut ips), Some(mut orcs)) = (post.bytes(RULE, ip_table), post.bytes(RULE, orc_table)) else {
        return;
    };
    if ips.len() % 4 != 0 || orcs.len() % ENTRY != 0 || ips.len() / 4 != orcs.len() / ENTRY {
        // The kernel warns and sorts past the end.
        post.warn(RULE, ip_table.address, WarningKind::TableSize);
        return;
    }
    let field = |index: usize| ip_table.address.wrapping_add(index as u64 * 4);
    let mut entries: Vec<(u64, [u8; ENTRY])> = ips
        .chunks_exact(4)
        .zip(orcs.chunks_exact(ENTRY))
        .enumerate()
        .map(|(index, (ip, orc))| {
            (relative(field(index), s32(ip, 0)), orc.first_chunk().copied().unwrap_or_default())
        })
        .collect();
    let form = post.profile.orc;
    heapsort(post.profile.sort, &mut entries, |a, b| {
        // Never equal: what ends the table of a file without unwind data comes first, so that lookups skip it.
        a.0.cmp(&b.0).then(if is_terminator(form, &a.1) { Ordering::Less } else { Ordering::Greater })
    });
    for (index, ((ip, orc), (address, entry))) in
        ips.chunks_exact_mut(4).zip(orcs.chunks_exact_mut(ENTRY)).zip(&entries).enumerate()
    {
        ip.copy_from_slice(&(address.wrapping_sub(field(index)) as u32).to_le_bytes());
        orc.copy_from_slice(entry);
    }
    post.patch(RULE, ip_table.address, &ips);
    post.patch(RULE, orc_table.address, &orcs);
}

fn is_terminator(form: OrcForm, entry: &[u8; ENTRY]) -> bool {
    match form {
        // sp_reg: bits 0 to 3 of the last two bytes; end: bit 10.
        OrcForm::EndBit => entry[4] & 0x0f == 0 && entry[5] & 4 == 0,
        // type: bits 8 to 10.
        OrcForm::Type => entry[5] & 7 == 0,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::super::PatchProfile;
    use super::super::PlainFacts;
    use super::super::testing::Bed;
    use super::super::testing::words;
    use crate::Arch;

    /// Three functions out of order, two entries for one address: the terminator (no stack pointer register, no end
    /// bit) comes first whichever way round they stand.
    #[test]
    fn both_tables_move_together_and_terminators_lead() {
        let real = [8, 0, 0xf0, 0xff, 0x15, 0];
        let end = [0, 0, 0, 0, 0, 4];
        let terminator = [0; 6];
        let (ip, orc) = (Bed::X86_CORE + 0x800, Bed::X86_CORE + 0x900);
        for swap in [false, true] {
            let mut bed = Bed::new(Arch::X86_64);
            let mut entries = [(0x30u32, real), (0x20, real), (0x20, terminator), (0x10, end)];
            if swap {
                entries.swap(1, 2);
            }
            let ips = |entries: &[(u32, [u8; 6])]| {
                let fields = entries.iter().enumerate();
                words(&fields.map(|(i, e)| e.0.wrapping_sub(0x800 + 4 * i as u32)).collect::<Vec<u32>>())
            };
            bed.section(".orc_unwind_ip", ip, &ips(&entries));
            bed.section(".orc_unwind", orc, &entries.map(|e| e.1).concat());
            bed.run(&PatchProfile::x86_64_6_1(), &PlainFacts::default(), |post| post.module_finalize())
                .unwrap();
            let sorted = [(0x10, end), (0x20, terminator), (0x20, real), (0x30, real)];
            assert_eq!(bed.get(ip, 16), ips(&sorted), "swap: {swap}");
            assert_eq!(bed.get(orc, 24), sorted.map(|e| e.1).concat());
        }
    }
}
