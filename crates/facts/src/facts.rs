//! The facts of one kernel.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use lkm_module::elf::consts;
use serde::Deserialize;
use serde::Serialize;

use crate::Certificate;
use crate::Config;
use crate::Fact;

/// What is known of one kernel. `None` is what no source told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Facts {
    /// `uname -r`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Fact<String>>,
    /// The line that the kernel greets with: `Linux version ...`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub banner: Option<Fact<String>>,
    /// What its modules are ELF files for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<Fact<Machine>>,
    /// The `vermagic` that modules must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vermagic: Option<Fact<String>>,
    /// How it was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Fact<Config>>,
    /// What it and its modules export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exports: Option<Fact<Exports>>,
    /// CRCs that its own modules were built against; they tell what the kernel has where nothing says it directly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_crcs: Option<Fact<BTreeMap<String, u32>>>,
    /// Where its symbols lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Fact<BTreeMap<String, u64>>>,
    /// Modules that are part of the image, by name with `_`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Fact<BTreeSet<String>>>,
    /// Its modules: name with `_` to path below its directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modules: Option<Fact<BTreeMap<String, String>>>,
    /// Certificates that it trusts for signatures of modules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Fact<Vec<Certificate>>>,
}

/// Names and what is behind them.
pub type Exports = BTreeMap<String, Export>;

/// One `EXPORT_SYMBOL`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Export {
    /// Checksum of its type, where the kernel was built with `MODVERSIONS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc: Option<u32>,
    /// `EXPORT_SYMBOL_GPL`
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gpl_only: bool,
    /// `EXPORT_SYMBOL_NS`; empty if it is in none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The module that exports it; `None` for the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Where it lies in an image that is not moved at boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
}

/// What the ELF header of a kernel's modules has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// `e_machine`
    pub machine: u16,
    /// 32 or 64.
    pub bits: u8,
    /// Most significant byte first.
    pub big_endian: bool,
}

impl Machine {
    /// The machine of an ELF file, from its first bytes.
    pub fn of_elf(bytes: &[u8]) -> Option<Machine> {
        let head: &[u8; 20] = bytes.first_chunk()?;
        if !head.starts_with(b"\x7fELF") {
            return None;
        }
        let bits = match head[4] {
            1 => 32,
            2 => 64,
            _ => return None,
        };
        let big_endian = match head[5] {
            1 => false,
            2 => true,
            _ => return None,
        };
        let machine = [head[18], head[19]];
        let machine = if big_endian { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
        Some(Machine { machine, bits, big_endian })
    }

    /// Debian's and the kernel's usual word for it, such as `x86_64`.
    pub fn name(&self) -> &'static str {
        match (self.machine, self.bits) {
            (consts::EM_X86_64, _) => "x86_64",
            (consts::EM_ARM, _) => "arm",
            (3, _) => "i386",
            (183, _) => "arm64",
            (243, 64) => "riscv64",
            (243, _) => "riscv32",
            (20, _) => "powerpc",
            (21, _) => "powerpc64",
            (22, _) => "s390x",
            (8, _) => "mips",
            (258, _) => "loongarch64",
            _ => "an unknown machine",
        }
    }
}

impl Facts {
    /// Takes over from another source what is not known yet, and adds to exports what they lack: addresses to CRCs,
    /// names of modules to those of the image. What is known stays; so the better source is asked first.
    pub fn complete(&mut self, other: Facts) {
        fn keep<T>(known: &mut Option<T>, other: Option<T>) {
            if known.is_none() {
                *known = other;
            }
        }
        keep(&mut self.release, other.release);
        keep(&mut self.banner, other.banner);
        keep(&mut self.machine, other.machine);
        keep(&mut self.vermagic, other.vermagic);
        keep(&mut self.config, other.config);
        keep(&mut self.module_crcs, other.module_crcs);
        keep(&mut self.addresses, other.addresses);
        keep(&mut self.builtin, other.builtin);
        keep(&mut self.modules, other.modules);
        keep(&mut self.certificates, other.certificates);
        match (&mut self.exports, other.exports) {
            (Some(known), Some(other)) => {
                for (name, export) in other.value {
                    let known = known.value.entry(name).or_insert_with(|| export.clone());
                    known.crc = known.crc.or(export.crc);
                    known.address = known.address.or(export.address);
                }
            }
            (known, other) => keep(known, other),
        }
    }

    /// Whether nothing at all is known.
    pub fn is_empty(&self) -> bool {
        *self == Facts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;

    fn export(crc: Option<u32>, address: Option<u64>) -> Export {
        Export { crc, address, ..Export::default() }
    }

    #[test]
    fn the_first_source_wins_and_others_fill_gaps() {
        let exports = |list: &[(&str, Export)], source: &str| {
            let value = list.iter().map(|(name, export)| ((*name).to_owned(), export.clone())).collect();
            Some(Fact::new(value, &Source::new(source)))
        };
        let mut facts = Facts {
            release: Some(Fact::new("6.1".into(), &Source::new("a"))),
            exports: exports(&[("x", export(Some(1), None))], "a"),
            ..Facts::default()
        };
        facts.complete(Facts {
            release: Some(Fact::new("6.2".into(), &Source::new("b"))),
            banner: Some(Fact::new("Linux".into(), &Source::new("b"))),
            exports: exports(&[("x", export(Some(2), Some(16))), ("y", export(Some(3), None))], "b"),
            ..Facts::default()
        });
        assert_eq!(facts.release.unwrap().value, "6.1");
        assert_eq!(facts.banner.unwrap().source, Source::new("b"));
        let exports = facts.exports.unwrap();
        assert_eq!(exports.source, Source::new("a"));
        assert_eq!(exports.value["x"], export(Some(1), Some(16)));
        assert_eq!(exports.value["y"], export(Some(3), None));
    }

    #[test]
    fn json_gives_back_what_was_written() {
        let source = Source::new("here");
        let export = Export { gpl_only: true, namespace: "NS".into(), ..export(Some(7), None) };
        let facts = Facts {
            machine: Some(Fact::new(Machine { machine: 62, bits: 64, big_endian: false }, &source)),
            exports: Some(Fact::new(Exports::from([("x".into(), export)]), &source)),
            ..Facts::default()
        };
        let text = serde_json::to_string(&facts).unwrap();
        assert!(!text.contains("config"), "{text}");
        assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
    }

    #[test]
    fn machines_of_elf_files() {
        let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\x3e\0".to_vec();
        assert_eq!(Machine::of_elf(&elf).unwrap().name(), "x86_64");
        elf[4] = 1;
        elf[5] = 2;
        elf[18..20].copy_from_slice(&[0, 8]);
        assert_eq!(Machine::of_elf(&elf), Some(Machine { machine: 8, bits: 32, big_endian: true }));
        assert_eq!(Machine::of_elf(&elf[..19]), None);
        assert_eq!(Machine::of_elf(b"#!/bin/sh and some more bytes"), None);
    }
}
