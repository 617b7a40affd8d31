//! ELF notes, the build id among them.

use crate::elf::Elf;
use crate::elf::Endian;
use crate::elf::consts::SHT_NOTE;

/// Type of the note with the build id, of the owner `GNU`.
pub const NT_GNU_BUILD_ID: u32 = 3;

/// One note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'data> {
    /// Who defines its type, without the NUL.
    pub owner: &'data [u8],
    /// Type, numbered by the owner.
    pub kind: u32,
    /// Contents.
    pub data: &'data [u8],
}

/// The notes of a section's contents; ends at the first that is not whole.
#[derive(Clone, Copy, Debug)]
pub struct Notes<'data> {
    bytes: &'data [u8],
    endian: Endian,
}

impl<'data> Notes<'data> {
    /// Notes in a section's contents.
    pub const fn new(bytes: &'data [u8], endian: Endian) -> Notes<'data> {
        Notes { bytes, endian }
    }

    fn take(&mut self) -> Option<Note<'data>> {
        let (head, rest) = self.bytes.split_at_checked(12)?;
        let size = |at: usize| self.endian.u32(head.get(at..).unwrap_or(&[]));
        let (owner, rest) = split_padded(rest, size(0))?;
        let (data, rest) = split_padded(rest, size(4))?;
        self.bytes = rest;
        Some(Note { owner: owner.strip_suffix(b"\0").unwrap_or(owner), kind: size(8), data })
    }
}

impl<'data> Iterator for Notes<'data> {
    type Item = Note<'data>;

    fn next(&mut self) -> Option<Note<'data>> {
        let note = self.take();
        if note.is_none() {
            self.bytes = &[];
        }
        note
    }
}

/// Divides behind `size` bytes; the first part is padded to four bytes, except at the end.
fn split_padded(bytes: &[u8], size: u32) -> Option<(&[u8], &[u8])> {
    let size = usize::try_from(size).ok()?;
    let (part, _) = bytes.split_at_checked(size)?;
    let padded = size.checked_next_multiple_of(4)?;
    Some((part, bytes.get(padded..).unwrap_or(&[])))
}

/// All notes of a file: of its `SHT_NOTE` sections, with the section's number.
pub fn notes<'data>(elf: &Elf<'data>) -> impl Iterator<Item = (usize, Note<'data>)> {
    // Sections that do not overlap have less bytes than the file; more would be made to keep us busy.
    let mut budget = elf.data.len() as u64;
    let sections = elf.sections.iter().enumerate().filter(|(_, section)| section.kind == SHT_NOTE);
    let sections = sections
        .take_while(move |(_, section)| budget.checked_sub(section.size).map(|rest| budget = rest).is_some());
    sections.flat_map(|(index, section)| {
        Notes::new(elf.contents(section).unwrap_or(&[]), elf.endian).map(move |note| (index, note))
    })
}

/// The build id (mostly 20 bytes) that the linker put in.
pub fn build_id<'data>(elf: &Elf<'data>) -> Option<&'data [u8]> {
    let wanted = |note: &Note<'_>| note.owner == b"GNU" && note.kind == NT_GNU_BUILD_ID;
    notes(elf).map(|(_, note)| note).find(wanted).map(|note| note.data)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const ID: &[u8] = b"\x04\0\0\0\x05\0\0\0\x03\0\0\0GNU\0abcde\0\0\0";

    #[test]
    fn notes_follow_each_other_at_multiples_of_four() {
        let bytes =
            [ID, b"\x02\0\0\0\0\0\0\0\x09\0\0\0x\0\0\0", b"\x01\0\0\0\x02\0\0\0\0\0\0\0z\0\0\0hi"].concat();
        let notes: Vec<_> = Notes::new(&bytes, Endian::Little).collect();
        assert_eq!(
            notes,
            [
                Note { owner: b"GNU", kind: 3, data: b"abcde" },
                Note { owner: b"x", kind: 9, data: b"" },
                Note { owner: b"z", kind: 0, data: b"hi" },
            ]
        );
    }

    #[test]
    fn an_unfinished_note_ends_the_list() {
        for length in 0..ID.len() - 3 {
            assert_eq!(Notes::new(&ID[..length], Endian::Little).count(), 0, "{length} bytes");
        }
        let huge = b"\xff\xff\xff\xff\xff\xff\xff\xff\x03\0\0\0GNU\0";
        assert_eq!(Notes::new(huge, Endian::Little).count(), 0);
    }
}
