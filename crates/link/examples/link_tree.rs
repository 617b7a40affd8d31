//! Links every module below a directory against made-up exports and prints counts.
//!
//! `link_tree DIR [far]`: `far` puts the modules out of the reach of direct ARM branches. Whatever the modules import
//! is exported, at addresses that depend on the set of names only, so that two runs give the same bytes.
//! All work that counts is done in `link_module`, which a profiler can be pointed at; the memory is zeroed outside, as
//! that is the allocator's work.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::hash::Hasher;
use std::path::Path;
use std::path::PathBuf;

use lkm_link::Arch;
use lkm_link::LinkError;
use lkm_link::LinkRules;
use lkm_link::LoadInfo;
use lkm_link::RelocStats;
use lkm_link::Resolve;
use lkm_link::SymbolError;
use lkm_module::Errno;
use lkm_module::elf::ArchCheck;
use lkm_module::elf::Elf;
use lkm_module::elf::ElfGeneration;
use lkm_module::elf::ElfRules;
use lkm_module::elf::Endian;
use lkm_module::elf::consts::SHN_UNDEF;
use lkm_module::elf::elf_validity_check;

/// Hashes words of eight bytes with a multiplication each.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        self.write_u64(tail.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }

    fn write_usize(&mut self, length: usize) {
        self.write_u64(length as u64);
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Exports = HashMap<Vec<u8>, u64, BuildHasherDefault<NameHasher>>;

struct Imports<'a> {
    exports: &'a Exports,
    missing: Vec<String>,
}

impl Resolve for Imports<'_> {
    fn resolve(&mut self, _index: u32, name: &[u8]) -> Result<Option<u64>, Errno> {
        Ok(self.exports.get(name).copied())
    }

    fn refused(&mut self, error: &SymbolError<'_>) {
        self.missing.push(error.to_string());
    }
}

/// Rules of Debian's 6.1: `cloud-amd64` and `armmp`.
fn rules(arch: Arch) -> LinkRules {
    let mut rules = LinkRules::debian_6_1(arch);
    if let Some(plt) = &mut rules.arm_plt {
        plt.fixed = vec![0xc010_0000, 0xc010_0010];
    }
    rules
}

/// More than any one module takes.
const MEMORY: usize = 64 << 20;

/// What one module came to.
#[derive(Default)]
struct Counts {
    bytes: u64,
    symbols: usize,
    relocs: RelocStats,
}

/// Zeroed memory at an address, given out in pages.
struct Arena<'a> {
    next: u64,
    rest: &'a mut [u8],
}

impl<'a> Arena<'a> {
    fn alloc(&mut self, size: u64) -> Option<(u64, &'a mut [u8])> {
        let (bytes, rest) = std::mem::take(&mut self.rest).split_at_mut_checked(size as usize)?;
        self.rest = rest;
        let base = self.next;
        self.next += size.next_multiple_of(4096) + 4096;
        Some((base, bytes))
    }
}

/// From the bytes of a file to relocated memory.
#[inline(never)]
fn link_module(
    data: &[u8],
    arch: Arch,
    rules: &LinkRules,
    arena: &mut Arena<'_>,
    imports: &mut Imports<'_>,
) -> Result<Counts, LinkError> {
    let check = match arch {
        Arch::X86_64 => ArchCheck::X86_64,
        Arch::Arm => ArchCheck::Arm { thumb: true, vfp: true, apcs26: false },
    };
    let checks = ElfRules::new(ElfGeneration::V6_1, check, arch.class(), Endian::Little);
    let elf = elf_validity_check(data, &checks).map_err(|_| LinkError::NoSymbols { name: None })?;
    let mut info = LoadInfo::setup(elf, arch, 0xffff_c900_0000_0000, rules, true)?;
    info.rewrite_section_headers();
    lkm_link::module_frob_arch_sections(&mut info, rules)?;
    lkm_link::module_enforce_rwx_sections(&info, rules)?;
    let mut layouts = lkm_link::layout_sections(&mut info, rules);
    lkm_link::layout_symtab(&mut info, rules, &mut layouts);
    let mut image = lkm_link::move_module(&mut info, &layouts, |_, size| arena.alloc(size))
        .map_err(|failure| failure.error)?;
    let symbols = lkm_link::simplify_symbols(&info, rules, Some(0x34000), imports)?;
    lkm_link::write_symtab(&info, &symbols, &mut image);
    let relocs = lkm_link::apply_relocations(&info, rules, &symbols, &mut image, &mut ())?;
    std::hint::black_box(&image);
    Ok(Counts { bytes: layouts.iter().map(|part| part.size).sum(), symbols: symbols.values.len(), relocs })
}

fn find_modules(directory: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            find_modules(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            found.push(path);
        }
    }
    Ok(())
}

fn collect_imports(data: &[u8], arch: Arch, names: &mut BTreeSet<Vec<u8>>) -> Option<()> {
    let elf = Elf::parse_as(data, arch.class(), Endian::Little).ok()?;
    let info = LoadInfo::setup(elf, arch, 0, &rules(arch), true).ok()?;
    for index in 1..info.symbol_count() as u32 {
        if info.symbol(index)?.shndx == SHN_UNDEF {
            names.insert(info.symbol_name(index).to_vec());
        }
    }
    Some(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: link_tree DIR [far]")?;
    let far = arguments.next().is_some_and(|word| word == "far");
    let mut paths = Vec::new();
    find_modules(Path::new(&directory), &mut paths)?;
    paths.sort();
    let machine = |data: &[u8]| data.get(18..20).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));

    let mut names = BTreeSet::new();
    for path in &paths {
        let data = std::fs::read(path)?;
        if let Some(arch) = machine(&data).and_then(Arch::from_machine) {
            collect_imports(&data, arch, &mut names);
        }
    }

    let exports = [Arch::X86_64, Arch::Arm].map(|arch| {
        let first = if arch == Arch::X86_64 { 0xffff_ffff_8100_0000 } else { 0xc020_0000 };
        names
            .iter()
            .enumerate()
            .map(|(index, name)| (name.clone(), first + 16 * index as u64))
            .collect::<Exports>()
    });
    let all_rules = [rules(Arch::X86_64), rules(Arch::Arm)];
    let mut memory = vec![0u8; MEMORY];
    let mut digest = NameHasher::default();
    let (mut linked, mut failed, mut total) = (0, 0, Counts::default());
    for path in &paths {
        let data = std::fs::read(path)?;
        let Some(arch) = machine(&data).and_then(Arch::from_machine) else { continue };
        let next = match arch {
            Arch::X86_64 => 0xffff_ffff_c000_0000,
            Arch::Arm if far => 0xf000_0000,
            Arch::Arm => 0xbf00_0000,
        };
        let which = usize::from(arch == Arch::Arm);
        let mut imports = Imports { exports: &exports[which], missing: Vec::new() };
        let mut arena = Arena { next, rest: &mut memory };
        let result = link_module(&data, arch, &all_rules[which], &mut arena, &mut imports);
        let used = MEMORY - arena.rest.len();
        digest.write(&memory[..used]);
        memory[..used].fill(0);
        match result {
            Ok(counts) => {
                linked += 1;
                total.bytes += counts.bytes;
                total.symbols += counts.symbols;
                total.relocs.relocations += counts.relocs.relocations;
                total.relocs.sections += counts.relocs.sections;
                total.relocs.overflows += counts.relocs.overflows;
                for part in 0..2 {
                    total.relocs.plt_slots[part] += counts.relocs.plt_slots[part];
                }
            }
            Err(error) => {
                failed += 1;
                println!("{}: {error} {:?}", path.display(), imports.missing);
            }
        }
    }
    println!(
        "{linked} linked, {failed} refused; {} bytes of memory, {} symbols, {} relocations in {} sections, \
         {} cut off, PLT slots {:?}, digest of all memory {:016x}",
        total.bytes,
        total.symbols,
        total.relocs.relocations,
        total.relocs.sections,
        total.relocs.overflows,
        total.relocs.plt_slots,
        digest.finish(),
    );
    if failed == 0 { Ok(()) } else { Err("some modules were refused".into()) }
}
