//! Files with one damaged place each, of the kind that nobody thinks of.
//!
//! Only those are asked that the loader refuses before it links: what it takes may well crash a real kernel.

use std::collections::HashMap;

use lkm_kernel::Bookkeeper;
use lkm_kernel::FileFacts;
use lkm_kernel::Kernel;
use lkm_kernel::Profile;
use lkm_kernel::Stage;
use lkm_link::Arch;
use lkm_module::Errno;
use lkm_module::elf::Elf;
use lkm_module::elf::consts::SHT_SYMTAB;

/// Files that are tried.
const TRIES: usize = 6000;
/// Files of one kind (errno and log) that are asked.
const ALIKE: usize = 8;

/// A generator of numbers that are always the same (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Damaged files with their names. `symvers` are the kernel's exports.
pub(crate) fn refused(arch: Arch, file: &[u8], symvers: &str) -> Vec<(String, Vec<u8>)> {
    let name = match arch {
        Arch::X86_64 => "debian-6.1-amd64",
        Arch::Arm => "debian-6.1-armmp",
    };
    let (Some(profile), Ok(elf)) = (Profile::by_name(name), Elf::parse(file)) else { return Vec::new() };
    let mut host = host(&profile, symvers);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut kinds: HashMap<(Errno, String), usize> = HashMap::new();
    let mut mutants = Vec::new();
    for number in 0..TRIES {
        let Some((place, bytes)) = mutant(file, &elf, &mut numbers) else { continue };
        let Some((errno, log)) = refusal(&profile, &mut host, &bytes) else { continue };
        let kind: String = log.chars().filter(|character| !character.is_ascii_hexdigit()).collect();
        let alike = kinds.entry((errno, kind)).or_default();
        *alike += 1;
        if *alike <= ALIKE {
            mutants.push((format!("mutant {number}: {place}"), bytes));
        }
    }
    mutants
}

fn host(profile: &Profile, symvers: &str) -> Bookkeeper {
    let mut host = Bookkeeper::new(profile);
    host.facts.smp = true;
    for line in symvers.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [crc, name, "vmlinux", kind, namespace] = fields.as_slice() else { continue };
        let crc = u32::from_str_radix(crc.trim_start_matches("0x"), 16).ok();
        let gpl_only = *kind == "EXPORT_SYMBOL_GPL";
        host.export(
            name.as_bytes(),
            profile.module_area.start - 0x10_0000,
            crc,
            gpl_only,
            namespace.as_bytes(),
        );
    }
    host
}

/// Errno and log of a file that is refused before it is linked.
fn refusal(profile: &Profile, host: &mut Bookkeeper, file: &[u8]) -> Option<(Errno, String)> {
    let mut kernel = Kernel::new(profile.clone());
    host.lines.clear();
    let facts = FileFacts::regular(file.len() as u64);
    let error = lkm_kernel::finit_module(&mut kernel, host, &facts, file, Some(b""), 0).err()?;
    let harmless = error.stage < Stage::ApplyRelocations && error.errno() != Errno::ENOMEM;
    harmless.then(|| (error.errno(), host.log_text()))
}

/// A file with one number changed, and where. `None`: the kernel would read whatever lies around, as it does when
/// symbols, their names or texts of `.modinfo` are said to be elsewhere.
fn mutant(file: &[u8], elf: &Elf<'_>, numbers: &mut Numbers) -> Option<(String, Vec<u8>)> {
    let wide = elf.class == lkm_module::elf::Class::Elf64;
    let (header, entry, symbol) = if wide { (64, 64, 24) } else { (52, 40, 16) };
    let table = elf.header.shoff as usize;
    let sections = elf.sections.len();
    let contents = |name: &[u8]| {
        let section = elf.sections.iter().find(|section| elf.section_name(section) == name);
        section.map_or((0, 1), |section| (section.offset as usize, section.size as usize))
    };
    let (place, at, size) = match numbers.below(8) {
        0 => {
            let at = numbers.below(header / 2) * 2;
            (format!("header+{at:#x}"), at, 2)
        }
        1..=4 => {
            let (section, at) = (numbers.below(sections), numbers.below(entry / 4) * 4);
            let read_on = elf.sections.get(section).is_some_and(|section| {
                section.kind == SHT_SYMTAB
                    || [&b".strtab"[..], b".modinfo"].contains(&elf.section_name(section))
            });
            if read_on && at >= if wide { 0x18 } else { 0x10 } {
                return None;
            }
            (format!("section {section}+{at:#x}"), table + section * entry + at, 4)
        }
        5 => {
            let (start, size) = contents(b".symtab");
            let at = numbers.below(size / symbol) * symbol + if wide { 6 } else { 14 };
            (format!("symbol section at {at:#x}"), start + at, 2)
        }
        6 => {
            let (start, size) = contents(b".modinfo");
            let at = numbers.below(size);
            (format!(".modinfo+{at:#x}"), start + at, 1)
        }
        _ => {
            let (start, size) = contents(b"__versions");
            let at = numbers.below(size);
            (format!("__versions+{at:#x}"), start + at, 1)
        }
    };
    let mut bytes = file.to_vec();
    let old = bytes.get(at..at + size).unwrap_or_default();
    let old = old.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    let length = file.len() as u64;
    let value = match numbers.below(12) {
        0 => 0,
        1 => 1,
        2 => old.wrapping_add(1),
        3 => old.wrapping_sub(1),
        4 => length,
        5 => length - 1,
        6 => u64::MAX,
        7 => 0x7fff_ffff,
        8 => 0xfff2,
        9 => sections as u64,
        10 => old ^ 1 << numbers.below(size * 8),
        _ => numbers.next(),
    };
    if let Some(place) = bytes.get_mut(at..at + size) {
        place.copy_from_slice(&value.to_le_bytes()[..size]);
    }
    Some((format!("{place} = {:#x}", value & (u64::MAX >> (64 - 8 * size))), bytes))
}
