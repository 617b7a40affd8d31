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
