//! A module with one field changed: every field of the ELF header, of every section header, of every symbol and of every entry
//! of a relocation section, each to every value of a fixed list that is not its own:
//!
//! | value | why |
//! |---|---|
//! | 0, 1 | nothing, and the least |
//! | its own plus and minus one | one off |
//! | all bits, the highest bit, all but the highest bit | the ends of unsigned and signed numbers |
//! | the size of the file | the first offset that is outside (fields of four bytes and more) |
//!
//! The order is that of the fields in the list above and of the values by size, so that a number names a mutant.

use std::io::Read;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::panic;
use std::process::Command;
use std::process::Stdio;

/// One changed field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    offset: usize,
    width: usize,
    value: u64,
}

/// Offset and width of a field.
type Field = (usize, usize);

/// `e_ident`: magic, class, data, version, operating system, its version.
const IDENT: &[Field] = &[(0, 4), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1)];

/// Where the structures of a class have their fields.
struct Class {
    /// `Elf_Ehdr` behind the identification.
    header: &'static [Field],
    section: &'static [Field],
    symbol: &'static [Field],
    /// Entries of the kind that the class's architecture has.
    relocation: &'static [Field],
    /// `e_shoff`, `e_shnum`
    section_table: (Field, usize),
    /// `sh_offset`, `sh_size`
    section_place: (Field, Field),
    relocation_type: u64,
}

/// x86_64.
static ELF64: Class = Class {
    header: &[
        (16, 2),
        (18, 2),
        (20, 4),
        (24, 8),
        (32, 8),
        (40, 8),
        (48, 4),
        (52, 2),
        (54, 2),
        (56, 2),
        (58, 2),
        (60, 2),
        (62, 2),
    ],
    section: &[(0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (40, 4), (44, 4), (48, 8), (56, 8)],
    symbol: &[(0, 4), (4, 1), (5, 1), (6, 2), (8, 8), (16, 8)],
    // The type and the index of the symbol are two fields of one word.
    relocation: &[(0, 8), (8, 4), (12, 4), (16, 8)],
    section_table: ((40, 8), 60),
    section_place: ((24, 8), (32, 8)),
    relocation_type: 4,
};

/// ARM.
static ELF32: Class = Class {
    header: &[
        (16, 2),
        (18, 2),
        (20, 4),
        (24, 4),
        (28, 4),
        (32, 4),
        (36, 4),
        (40, 2),
        (42, 2),
        (44, 2),
        (46, 2),
        (48, 2),
        (50, 2),
    ],
    section: &[(0, 4), (4, 4), (8, 4), (12, 4), (16, 4), (20, 4), (24, 4), (28, 4), (32, 4), (36, 4)],
    symbol: &[(0, 4), (4, 4), (8, 4), (12, 1), (13, 1), (14, 2)],
    relocation: &[(0, 4), (4, 1), (5, 3)],
    section_table: ((32, 4), 48),
    section_place: ((16, 4), (20, 4)),
    relocation_type: 9,
};

impl Class {
    fn of(file: &[u8]) -> &'static Class {
        if file[4] == 1 { &ELF32 } else { &ELF64 }
    }

    fn section_size(&self) -> usize {
        size(self.section)
    }
}

/// Bytes of a structure whose last field is the last one.
fn size(fields: &[Field]) -> usize {
    fields.last().map_or(0, |(at, width)| at + width)
}

const SHT_SYMTAB: u64 = 2;

fn read(file: &[u8], (offset, width): Field) -> u64 {
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(&file[offset..offset + width]);
    u64::from_le_bytes(bytes)
}

/// All mutants of a little-endian module, in a fixed order.
pub fn all(file: &[u8]) -> Vec<Mutant> {
    let class = Class::of(file);
    let mut fields: Vec<Field> = [IDENT, class.header].concat();
    let at = |start: usize| move |&(at, width): &Field| (start + at, width);
    let (table, count) = class.section_table;
    let table = read(file, table) as usize;
    let headers = (0..read(file, (count, 2)) as usize).map(|index| table + index * class.section_size());
    for header in headers.clone() {
        fields.extend(class.section.iter().map(at(header)));
    }
    for header in headers {
        let entry = match read(file, (header + 4, 4)) {
            SHT_SYMTAB => class.symbol,
            kind if kind == class.relocation_type => class.relocation,
            _ => continue,
        };
        let (place, length) = class.section_place;
        let start = read(file, at(header)(&place)) as usize;
        for number in 0..read(file, at(header)(&length)) as usize / size(entry) {
            fields.extend(entry.iter().map(at(start + number * size(entry))));
        }
    }
    let mut mutants = Vec::new();
    for (offset, width) in fields {
        let ones = u64::MAX >> (64 - 8 * width);
        let original = read(file, (offset, width));
        let (next, previous) = (original.wrapping_add(1) & ones, original.wrapping_sub(1) & ones);
        let mut values = vec![0, 1, next, previous, ones / 2, ones / 2 + 1, ones];
        if width >= 4 {
            values.push(file.len() as u64);
        }
        values.sort_unstable();
        values.dedup();
        values.retain(|&value| value != original);
        mutants.extend(values.into_iter().map(|value| Mutant { offset, width, value }));
    }
    mutants
}

impl Mutant {
    fn apply(self, file: &[u8]) -> Vec<u8> {
        let mut changed = file.to_vec();
        changed[self.offset..self.offset + self.width]
            .copy_from_slice(&self.value.to_le_bytes()[..self.width]);
        changed
    }
}

/// How the mutants ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Linked: the field does not matter, or the value is as good.
    pub linked: usize,
    /// Refused with an error.
    pub refused: usize,
    /// Ended in a panic.
    pub panics: usize,
    /// Killed the process.
    pub crashes: usize,
    /// Did not end within the time given.
    pub hangs: usize,
}

/// Seconds that one mutant may take.
const SECONDS: u32 = 10;
/// Memory that the process may have, in bytes.
const MEMORY: u64 = 4 << 30;

/// In the parent: runs all mutants in processes that `child` starts, each from the mutant of that number onwards.
pub fn run(count: usize, child: impl Fn(usize) -> Command) -> std::io::Result<Tally> {
    let mut tally = Tally::default();
    let mut next = 0;
    while next < count {
        let mut process =
            child(next).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut results = Vec::new();
        if let Some(mut output) = process.stdout.take() {
            output.read_to_end(&mut results)?;
        }
        let status = process.wait()?;
        for result in &results {
            match result {
                b'l' => tally.linked += 1,
                b'r' => tally.refused += 1,
                _ => tally.panics += 1,
            }
        }
        next += results.len();
        if next < count {
            match status.signal() {
                Some(libc::SIGALRM) => tally.hangs += 1,
                _ => tally.crashes += 1,
            }
            next += 1;
        }
    }
    Ok(tally)
}

/// In the child: links the mutants from a number onwards; one letter of output for each.
pub fn child(file: &[u8], from: usize, link: impl Fn(&[u8]) -> bool) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: MEMORY, rlim_max: MEMORY };
    // SAFETY: the structure is valid for the call; failing only means that there is no limit.
    unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
    panic::set_hook(Box::new(|_| {}));
    let mut output = std::io::stdout().lock();
    for mutant in all(file).into_iter().skip(from) {
        let changed = mutant.apply(file);
        // SAFETY: only sets a timer, whose signal ends the process.
        unsafe { libc::alarm(SECONDS) };
        let result = panic::catch_unwind(panic::AssertUnwindSafe(|| link(&changed)));
        output.write_all(match result {
            Ok(true) => b"l",
            Ok(false) => b"r",
            Err(_) => b"p",
        })?;
        output.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_differs_from_the_module_in_one_field() {
        let files: [&[u8]; 2] =
            [include_bytes!("../../fixtures/x86_64/hello.ko"), include_bytes!("../../fixtures/arm/hello.ko")];
        for file in files {
            let mutants = all(file);
            assert!(mutants.len() >= 4854, "{}", mutants.len());
            for mutant in &mutants {
                let changed = mutant.apply(file);
                let different: Vec<usize> = (0..file.len()).filter(|&at| file[at] != changed[at]).collect();
                assert!(!different.is_empty());
                assert!(
                    different.iter().all(|at| (mutant.offset..mutant.offset + mutant.width).contains(at))
                );
            }
            let mut unique: Vec<_> =
                mutants.iter().map(|mutant| (mutant.offset, mutant.width, mutant.value)).collect();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), mutants.len());
        }
    }

    /// All bytes of headers, symbols and relocations are in a field, and no others.
    #[test]
    fn the_fields_are_all_there_are() {
        for (file, header, section, symbol, relocation) in [
            (&include_bytes!("../../fixtures/x86_64/hello.ko")[..], 64, 64, 24, 24),
            (&include_bytes!("../../fixtures/arm/hello.ko")[..], 52, 40, 16, 8),
        ] {
            let class = Class::of(file);
            assert_eq!(size(class.header), header);
            for (fields, size) in
                [(class.section, section), (class.symbol, symbol), (class.relocation, relocation)]
            {
                let mut next = 0;
                for &(at, width) in fields {
                    assert_eq!(at, next);
                    next = at + width;
                }
                assert_eq!(next, size);
            }
        }
    }
}
