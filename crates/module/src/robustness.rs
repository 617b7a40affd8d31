//! Nothing that a file holds makes this crate panic.

use std::fs;
use std::path::Path;
use std::vec::Vec;

use proptest::prelude::*;

use crate::Module;
use crate::elf::Elf;
use crate::testing::edit_section;
use crate::testing::samples;
use crate::testing::walk::everything;

/// Files below the repository's root, sorted.
fn files(directory: &str) -> Vec<(std::string::String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(directory);
    let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_samples_have_everything() {
    for (name, file) in samples() {
        let module = Module::parse(&file).unwrap();
        assert_eq!(module.name(), Some(&b"sample"[..]), "{name}");
        assert_eq!(module.exports().unwrap().len(), 3, "{name}");
        assert_eq!(module.kernel_params().unwrap().entries.len(), 1, "{name}");
        assert_eq!(module.parameters().unwrap().len(), 1, "{name}");
        assert_eq!(module.imports().len(), 3, "{name}");
        assert_eq!(module.build_id(), Some(&[1, 2, 3, 4, 5, 6, 7, 8][..]), "{name}");
        assert_eq!(module.depends().collect::<Vec<_>>(), [&b"one"[..], b"two"], "{name}");
        assert_eq!(module.signature().unwrap().is_some(), name == "signed");
        let this = module.this_module().unwrap();
        assert!(this.init.is_some() && this.exit.is_some(), "{name}");
        everything(&file);
    }
}

#[test]
fn the_fuzz_corpus() {
    let corpus = files("fuzz/corpus/module");
    assert!(corpus.len() >= samples().len(), "the seeds are missing");
    for (_, file) in corpus {
        everything(&file);
    }
}

#[test]
fn samples_cut_anywhere() {
    for (_, file) in samples() {
        for length in (0..file.len()).step_by(3) {
            everything(&file[..length]);
        }
    }
}

#[test]
fn every_field_of_every_section_header_at_its_limits() {
    // One of each class and byte order is enough here: it is the slowest test.
    for (name, file) in samples() {
        if !["x86_64-prel", "arm", "s390x", "ppc"].contains(&name) {
            continue;
        }
        let count = Elf::parse(&file).unwrap().sections.len();
        for index in 0..count {
            for field in 0..10 {
                for value in [0, 1, 0x7fff_ffff, 0xffff_ffff, u64::MAX - 7] {
                    let mut file = file.clone();
                    edit_section(&mut file, index, |section| match field {
                        0 => section.name = value as u32,
                        1 => section.kind = value as u32,
                        2 => section.flags = value,
                        3 => section.addr = value,
                        4 => section.offset = value,
                        5 => section.size = value,
                        6 => section.link = value as u32,
                        7 => section.info = value as u32,
                        8 => section.addralign = value,
                        _ => section.entsize = value,
                    });
                    everything(&file);
                }
            }
        }
        assert!(count > 10, "{name} has {count} sections");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..512), magic: bool) {
        // A header that is good enough to get past the first tests, with the section headers right behind it.
        if magic && bytes.len() > 64 {
            bytes[..4].copy_from_slice(b"\x7fELF");
            let wide = bytes[4] % 2 == 1;
            bytes[4..6].copy_from_slice(&[if wide { 2 } else { 1 }, 1]);
            bytes[16..18].copy_from_slice(&[1, 0]);
            bytes[18..20].copy_from_slice(&[if wide { 62 } else { 40 }, 0]);
            let (shoff, sizes) = if wide { (40, 58) } else { (32, 46) };
            bytes[shoff..shoff + 4].copy_from_slice(&[sizes as u8 + 6, 0, 0, 0]);
            bytes[shoff + 4..shoff + 8].fill(0);
            bytes[sizes..sizes + 6].copy_from_slice(&[if wide { 64 } else { 40 }, 0, 3, 0, 1, 0]);
        }
        everything(&bytes);
    }

    #[test]
    fn real_modules_with_damage(
        which in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..24),
    ) {
        let path = ["x86_64/exporter.ko", "x86_64/params.ko", "arm/user.ko", "arm/percpu.ko"];
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path[which.index(path.len())]);
        let mut file = fs::read(&path).unwrap();
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
        }
        everything(&file);
    }

    #[test]
    fn samples_with_damage(
        which in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..24),
    ) {
        let mut samples = samples();
        let (_, mut file) = samples.swap_remove(which.index(samples.len()));
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
        }
        everything(&file);
    }
}
