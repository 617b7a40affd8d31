//! Every public way to read a file, walked to its end: what fuzzing and the tests with damaged files run.

use alloc::string::ToString;
use core::hint::black_box;

use crate::Module;
use crate::elf::ArchCheck;
use crate::elf::Class;
use crate::elf::Elf;
use crate::elf::ElfGeneration;
use crate::elf::ElfRules;
use crate::elf::Endian;
use crate::elf::Header;
use crate::elf::Target;
use crate::elf::TargetMap;
use crate::elf::consts::*;
use crate::elf::elf_validity_check;
use crate::exports::exports;
use crate::modinfo::Modinfo;
use crate::note::Notes;
use crate::note::notes;
use crate::signature::SignerInfo;
use crate::signature::appended_signature;
use crate::versions::Versions;

const GENERATIONS: [ElfGeneration; 4] =
    [ElfGeneration::V4, ElfGeneration::V6_1, ElfGeneration::V6_12, ElfGeneration::V6_14];

/// The check of the architecture that a machine number stands for, if the loader knows one.
pub fn arch_check(machine: u16) -> Option<ArchCheck> {
    Some(match machine {
        EM_X86_64 => ArchCheck::X86_64,
        EM_386 => ArchCheck::I386,
        EM_ARM => ArchCheck::Arm { thumb: true, vfp: true, apcs26: false },
        EM_AARCH64 => ArchCheck::Aarch64,
        EM_RISCV => ArchCheck::RiscV,
        EM_S390 => ArchCheck::S390,
        EM_PPC => ArchCheck::Ppc,
        EM_PPC64 => ArchCheck::Ppc64 { abi_v2: true },
        EM_MIPS => ArchCheck::Mips,
        EM_LOONGARCH => ArchCheck::LoongArch,
        _ => return None,
    })
}

/// Reads `data` as a module file in every way that this crate offers, by every kernel and by none.
pub fn everything(data: &[u8]) {
    for class in [Class::Elf32, Class::Elf64] {
        for endian in [Endian::Little, Endian::Big] {
            checks(data, class, endian);
        }
    }
    match Module::parse(data) {
        Ok(module) => whole_module(&module),
        Err(error) => drop(black_box(error.to_string())),
    }
    pieces(data);
}

fn checks(data: &[u8], class: Class, endian: Endian) {
    let machine = Header::read(data, class, endian).map_or(EM_X86_64, |header| header.machine);
    let arch = arch_check(machine).unwrap_or(ArchCheck::X86_64);
    for generation in GENERATIONS {
        for debian in [false, true] {
            let rules = ElfRules {
                debian,
                this_module_size: debian.then_some(0x380),
                ..ElfRules::new(generation, arch, class, endian)
            };
            match elf_validity_check(data, &rules) {
                // What is read is the same for all generations, and the oldest refuses least.
                Ok(elf) if generation == ElfGeneration::V4 && !debian => whole_module(&Module::new(elf)),
                Ok(elf) => drop(black_box(elf)),
                Err(refusal) => {
                    assert_eq!(refusal.errno().raw(), 8);
                    black_box((refusal.log(), refusal.to_string()));
                }
            }
        }
    }
}

fn whole_module(module: &Module<'_>) {
    let elf = module.elf();
    for (name, section) in module.sections() {
        black_box((name, elf.contents(section), elf.find_sec(name), elf.find_any_sec(name)));
    }
    black_box(module.symbols().map(|symbol| symbol.name.len()).sum::<usize>());
    black_box((module.name(), module.vermagic(), module.license(), module.version(), module.srcversion()));
    black_box((module.description(), module.is_intree(), module.build_id()));
    black_box(module.modinfo().iter().count());
    let lists = [
        module.authors().count(),
        module.depends().count(),
        module.aliases().count(),
        module.firmware().count(),
        module.softdeps().count(),
        module.weakdeps().count(),
        module.import_namespaces().count(),
        notes(elf).count(),
    ];
    black_box(lists);
    black_box(module.parameters().map_err(|error| error.to_string()).is_ok());
    for param in module.kernel_params().into_iter().flat_map(|params| params.entries) {
        [param.ops, param.arg].into_iter().flatten().for_each(|at| follow(&at, elf));
    }
    for import in module.imports() {
        black_box(import);
    }
    let versions = module.versions();
    black_box((versions.iter().count(), versions.basic().count(), versions.get(b"module_layout")));
    match module.exports() {
        Ok(exports) => exports.iter().for_each(|export| follow(&export.value, elf)),
        Err(error) => drop(black_box(error.to_string())),
    }
    if let Some(this) = module.this_module() {
        [this.init, this.exit].into_iter().flatten().for_each(|at| follow(&at, elf));
    }
    if let Some(symbols) = module.symbol_table() {
        for index in 0..elf.sections.len().min(64) {
            TargetMap::of(elf, &symbols, index, 4).iter().for_each(|at| follow(at, elf));
        }
    }
    match module.signature() {
        Ok(Some(signature)) => match signature.signer() {
            Ok(signer) => drop(black_box((signer.digest.to_string(), signer.algorithm.to_string()))),
            Err(error) => drop(black_box(error.to_string())),
        },
        Ok(None) => {}
        Err(error) => drop(black_box(error.to_string())),
    }
}

fn follow(target: &Target<'_>, elf: &Elf<'_>) {
    black_box((target.section(), target.string(elf)));
}

/// The parts as if the whole file were one of them.
fn pieces(data: &[u8]) {
    let modinfo = Modinfo::new(data);
    black_box((modinfo.get(b"name"), modinfo.iter().count()));
    for endian in [Endian::Little, Endian::Big] {
        black_box(Notes::new(data, endian).count());
        for class in [Class::Elf32, Class::Elf64] {
            let versions = Versions::new(class, endian, Some(data), Some((data, data)));
            black_box((versions.basic().count(), versions.extended().count()));
            if let Ok(elf) = Elf::parse_as(data, class, endian) {
                black_box(exports(&elf).is_ok());
            }
        }
    }
    if let Ok(signer) = SignerInfo::read(data) {
        black_box((signer.digest.to_string(), signer.algorithm.to_string()));
    }
    if let Err(error) = appended_signature(data) {
        black_box((error.errno(), GENERATIONS.map(|generation| error.log(generation)), error.to_string()));
    }
}
