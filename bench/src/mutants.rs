//! A module with one field changed, for every field that a linker reads and every value that hurts.

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

/// Offset and width of the fields of an `Elf64_Ehdr` after the identification, `Elf64_Shdr`, `Elf64_Sym`, `Elf64_Rela`.
const HEADER: &[(usize, usize)] = &[
    (4, 1),
    (5, 1),
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
];
const SECTION: &[(usize, usize)] =
    &[(0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (40, 4), (44, 4), (48, 8), (56, 8)];
const SYMBOL: &[(usize, usize)] = &[(0, 4), (4, 1), (5, 1), (6, 2), (8, 8), (16, 8)];
const RELA: &[(usize, usize)] = &[(0, 8), (8, 4), (12, 4), (16, 8)];
const SECTION_SIZE: usize = 64;
const SYMBOL_SIZE: usize = 24;
const RELA_SIZE: usize = 24;
const SHT_SYMTAB: u64 = 2;
const SHT_RELA: u64 = 4;

fn read(file: &[u8], offset: usize, width: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(&file[offset..offset + width]);
    u64::from_le_bytes(bytes)
}

/// All mutants of a 64-bit little-endian module, in a fixed order.
pub fn all(file: &[u8]) -> Vec<Mutant> {
    let mut fields: Vec<(usize, usize)> = HEADER.to_vec();
    let table = read(file, 40, 8) as usize;
    let headers = (0..read(file, 60, 2) as usize).map(|index| table + index * SECTION_SIZE);
    for header in headers.clone() {
        fields.extend(SECTION.iter().map(|&(at, width)| (header + at, width)));
    }
    for header in headers {
        let (entry, size) = match read(file, header + 4, 4) {
            SHT_SYMTAB => (SYMBOL, SYMBOL_SIZE),
            SHT_RELA => (RELA, RELA_SIZE),
            _ => continue,
        };
        let start = read(file, header + 24, 8) as usize;
        for number in 0..read(file, header + 32, 8) as usize / size {
            fields.extend(entry.iter().map(|&(at, width)| (start + number * size + at, width)));
        }
    }
    let mut mutants = Vec::new();
    for (offset, width) in fields {
        let ones = u64::MAX >> (64 - 8 * width);
        let original = read(file, offset, width);
        let mut values = vec![0, 1, original.wrapping_add(1) & ones, ones / 2, ones / 2 + 1, ones];
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
        let file = include_bytes!("../../fixtures/x86_64/hello.ko");
        let mutants = all(file);
        assert!(mutants.len() > 3000, "{}", mutants.len());
        for mutant in &mutants {
            let changed = mutant.apply(file);
            let different: Vec<usize> = (0..file.len()).filter(|&at| file[at] != changed[at]).collect();
            assert!(!different.is_empty());
            assert!(different.iter().all(|at| (mutant.offset..mutant.offset + mutant.width).contains(at)));
        }
        let mut unique: Vec<_> =
            mutants.iter().map(|mutant| (mutant.offset, mutant.width, mutant.value)).collect();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), mutants.len());
    }
}
