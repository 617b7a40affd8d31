//! The few sections of a module that say what an index holds, read without the rest of the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use lkm_module::Errno;

use crate::words;

const COUNT: usize = 7;

/// Sections that are looked for, by the place they have in [`Sections::found`].
const NAMES: [&[u8]; COUNT] = [
    b".modinfo",
    b".symtab",
    b".strtab",
    b"__versions",
    b"__ksymtab_strings",
    b"__version_ext_crcs",
    b"__version_ext_names",
];

/// Place of `.symtab`.
pub(super) const SYMTAB: usize = 1;

/// Place of `.strtab`.
pub(super) const STRTAB: usize = 2;

/// Bytes of a file: where they start and how many they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// What the header and the section headers say.
#[derive(Clone, Debug)]
pub(super) struct Sections {
    /// It is an ELF64 file.
    pub(super) wide: bool,
    /// Its numbers are big-endian.
    pub(super) big: bool,
    /// `e_machine`
    pub(super) machine: u16,
    /// The wanted sections; `None` for one that is not there.
    pub(super) found: [Option<Span>; COUNT],
    /// Where the contents of every section lie, for symbols whose value is in one.
    pub(super) all: Vec<Span>,
}

/// A file as bytes that are fetched when they are asked for.
pub(super) trait Source {
    /// Bytes in the file.
    fn size(&self) -> u64;
    /// Fetches spans, all of them inside the file, and gives their bytes in the order asked for.
    fn load<const N: usize>(&mut self, spans: [Span; N]) -> io::Result<[&[u8]; N]>;
}

/// A file in memory.
pub(super) struct Memory<'a>(pub(super) &'a [u8]);

impl Source for Memory<'_> {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn load<const N: usize>(&mut self, spans: [Span; N]) -> io::Result<[&[u8]; N]> {
        Ok(spans.map(|span| {
            let start = usize::try_from(span.offset).unwrap_or(usize::MAX);
            let end = start.saturating_add(usize::try_from(span.size).unwrap_or(usize::MAX));
            self.0.get(start..end).unwrap_or(&[])
        }))
    }
}

/// A file on disk. Spans that lie close together come in one read.
pub(super) struct OnDisk<'a> {
    pub(super) file: &'a File,
    pub(super) size: u64,
    /// Room for what was read, kept from file to file.
    pub(super) buffer: &'a mut Vec<u8>,
}

/// Bytes between two spans that are rather read than skipped.
const GAP: u64 = 4096;

impl Source for OnDisk<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn load<const N: usize>(&mut self, spans: [Span; N]) -> io::Result<[&[u8]; N]> {
        let mut order: [usize; N] = std::array::from_fn(|index| index);
        order.sort_by_key(|index| spans.get(*index).map_or(0, |span| span.offset));
        let mut places = [0_usize; N];
        // The read under way: where in the file it starts, where it ends, where its bytes go.
        let (mut start, mut end, mut base) = (0_u64, 0_u64, 0_usize);
        let mut used = 0;
        let mut position = 0;
        while position < N {
            // Spans of one read.
            let mut group = position;
            while let Some(span) = order.get(group).and_then(|index| spans.get(*index)) {
                let (from, to) = (span.offset, span.offset.saturating_add(span.size));
                if group == position {
                    (start, end, base) = (from, to, used);
                } else if from <= end.saturating_add(GAP) {
                    end = end.max(to);
                } else {
                    break;
                }
                if let Some(place) = order.get(group).and_then(|index| places.get_mut(*index)) {
                    *place = base + usize::try_from(from - start).unwrap_or(0);
                }
                group += 1;
            }
            let length = usize::try_from(end - start).map_err(|_| io::ErrorKind::OutOfMemory)?;
            used = base.checked_add(length).ok_or(io::ErrorKind::OutOfMemory)?;
            if self.buffer.len() < used {
                self.buffer.resize(used, 0);
            }
            if let Some(room) = self.buffer.get_mut(base..used) {
                self.file.read_exact_at(room, start)?;
            }
            position = group;
        }
        let buffer = &*self.buffer;
        Ok(std::array::from_fn(|index| {
            let place = places.get(index).copied().unwrap_or(0);
            let size = spans.get(index).map_or(0, |span| usize::try_from(span.size).unwrap_or(0));
            buffer.get(place..place.saturating_add(size)).unwrap_or(&[])
        }))
    }
}

/// Why a file gives no facts.
pub(super) fn errno_of(error: &io::Error) -> Errno {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Errno::EINVAL,
        _ => error.raw_os_error().and_then(|n| u16::try_from(n).ok()).map_or(Errno::EIO, Errno::from_raw),
    }
}

/// Reads numbers of a file's byte order.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    pub(super) big: bool,
    pub(super) wide: bool,
}

impl Numbers {
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    pub(super) fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// An address or size: 8 bytes in a wide file, else 4.
    pub(super) fn long(self, bytes: &[u8], at: usize) -> Option<u64> {
        if self.wide { self.u64(bytes, at) } else { self.u32(bytes, at).map(u64::from) }
    }
}

impl Sections {
    /// Finds the wanted sections of a file that starts with `header`: 64 bytes, or all if it has fewer. ENOEXEC: not an
    /// ELF file; EINVAL: a damaged one.
    pub(super) fn of(header: &[u8], source: &mut impl Source) -> Result<Sections, Errno> {
        const IDENT: u64 = 16;
        let size = source.size();
        if size == 0 {
            return Err(Errno::EINVAL);
        }
        if size <= IDENT || !header.starts_with(b"\x7fELF") {
            return Err(Errno::ENOEXEC);
        }
        let wide = match header.get(4) {
            Some(1) => false,
            Some(2) => true,
            _ => return Err(Errno::EINVAL),
        };
        let big = match header.get(5) {
            Some(1) => false,
            Some(2) => true,
            _ => return Err(Errno::EINVAL),
        };
        let numbers = Numbers { big, wide };
        let (at, entry_size) = if wide { ([40, 58, 60, 62], 64) } else { ([32, 46, 48, 50], 40) };
        let fields = || {
            let [offset, entry, count, names] = at;
            let entry = numbers.u16(header, entry)?;
            let machine = numbers.u16(header, 18)?;
            Some((
                numbers.long(header, offset)?,
                entry,
                numbers.u16(header, count)?,
                numbers.u16(header, names)?,
                machine,
            ))
        };
        let (offset, entry, count, names, machine) = fields().ok_or(Errno::EINVAL)?;
        let table = Span { offset, size: u64::from(count) * entry_size };
        if u64::from(entry) != entry_size || !fits(table, size) || names == 0 || names >= count {
            return Err(Errno::EINVAL);
        }
        // Linkers put the names of the sections right before their headers: one read gets both.
        let before = table.offset.min(4096);
        let window = Span { offset: table.offset - before, size: table.size + before };
        let [window_bytes] = source.load([window]).map_err(|error| errno_of(&error))?;
        let headers =
            usize::try_from(before).ok().and_then(|before| window_bytes.get(before..)).unwrap_or(&[]);
        let record = entry_size as usize;
        let all: Vec<Span> = headers
            .chunks_exact(record)
            .map(|header| {
                let (offset, size) = if wide { (24, 32) } else { (16, 20) };
                let span = || {
                    Some(Span { offset: numbers.long(header, offset)?, size: numbers.long(header, size)? })
                };
                span().unwrap_or_default()
            })
            .collect();
        let name_offsets: Vec<u32> =
            headers.chunks_exact(record).map(|header| numbers.u32(header, 0).unwrap_or(0)).collect();
        let strings = all.get(usize::from(names)).copied().unwrap_or_default();
        if strings.size == 0 || !fits(strings, size) {
            return Err(Errno::EINVAL);
        }
        let inside =
            strings.offset.checked_sub(window.offset).filter(|start| start + strings.size <= window.size);
        let strings = match inside.and_then(|start| usize::try_from(start).ok()) {
            Some(start) => window_bytes.get(start..).and_then(|bytes| bytes.get(..strings.size as usize)),
            None => {
                let [bytes] = source.load([strings]).map_err(|error| errno_of(&error))?;
                Some(bytes)
            }
        };
        let strings = strings.filter(|bytes| bytes.last() == Some(&0)).ok_or(Errno::EINVAL)?;
        let mut found = [None; COUNT];
        for (span, name) in all.iter().zip(&name_offsets).skip(1) {
            let name = strings.get(*name as usize..).unwrap_or(&[]);
            let name = name.get(..words::nul(name).unwrap_or(0)).unwrap_or(&[]);
            let wanted = NAMES.iter().position(|wanted| words::same(wanted, name));
            if let Some(place) = wanted.and_then(|index| found.get_mut(index))
                && place.is_none()
                && fits(*span, size)
            {
                *place = Some(*span);
            }
        }
        Ok(Sections { wide, big, machine, found, all })
    }

    pub(super) fn numbers(&self) -> Numbers {
        Numbers { big: self.big, wide: self.wide }
    }
}

fn fits(span: Span, size: u64) -> bool {
    span.offset.checked_add(span.size).is_some_and(|end| end <= size)
}
