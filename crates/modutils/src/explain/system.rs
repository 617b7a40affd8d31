//! What the running kernel says about itself.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;

use lkm_module::elf::ArchCheck;
use lkm_module::elf::Class;
use lkm_module::elf::ElfGeneration;
use lkm_module::elf::ElfRules;
use lkm_module::elf::Endian;
use lkm_module::elf::consts::*;
use lkm_syscall::Syscalls;

use super::cause::Cause;
use super::cause::Insists;
use super::shown::shown;

/// The kernel that refused, and the directory of its modules.
#[derive(Clone, Debug)]
pub(crate) struct System<'a> {
    pub(crate) kernel: &'a dyn Syscalls,
    /// `/lib/modules/VERSION`
    pub(crate) directory: PathBuf,
}

/// A symbol in `/proc/kallsyms`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The module that has it; `None` for the kernel.
    pub(crate) owner: Option<String>,
    /// There is a `__ksymtab_` entry for it.
    pub(crate) exported: bool,
}

impl<'a> System<'a> {
    /// The running kernel with the directory that an index lies in, by default its own below `root`.
    pub(crate) fn new(kernel: &'a dyn Syscalls, root: &str, directory: Option<&Path>) -> System<'a> {
        let directory = match directory {
            Some(directory) => directory.to_owned(),
            None => Path::new(root).join(String::from_utf8_lossy(&kernel.release()).as_ref()),
        };
        System { kernel, directory }
    }

    /// The release that the directory is for, as `depmod` takes it.
    pub(crate) fn release(&self) -> String {
        self.directory.file_name().map_or_else(String::new, |name| shown(name.as_encoded_bytes()))
    }

    /// Why this process may not `verb` modules at all.
    pub(crate) fn forbids(&self, verb: &str) -> Option<Cause> {
        /// `CAP_SYS_MODULE`
        const BIT: u64 = 1 << 16;
        let status = self.text("/proc/self/status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        let capable =
            field("CapEff:").and_then(|mask| u64::from_str_radix(&mask, 16).ok()).map(|mask| mask & BIT != 0);
        if capable == Some(false) {
            let effective = field("Uid:").and_then(|ids| ids.split_whitespace().nth(1).map(|id| id == "0"));
            return Some(match effective {
                Some(true) => Cause::NoCapability,
                _ => Cause::NotRoot(verb.to_owned()),
            });
        }
        let disabled = self.kernel.sysctl("kernel/modules_disabled").is_ok_and(|value| value == b"1");
        disabled.then_some(Cause::Disabled)
    }

    /// Whether the kernel takes signed modules only, and who makes it.
    pub(crate) fn insists(&self) -> Option<Insists> {
        let lockdown = self.text("/sys/kernel/security/lockdown");
        if lockdown.contains("[integrity]") || lockdown.contains("[confidentiality]") {
            return Some(Insists::Lockdown);
        }
        let enforced = self.kernel.module_attribute(b"module", "parameters/sig_enforce");
        enforced.is_ok_and(|value| value.starts_with(b"Y")).then_some(Insists::Enforced)
    }

    /// Whether a list on the kernel's command line, such as `module_blacklist=a,b`, has the name.
    pub(crate) fn boot_list_has(&self, option: &str, name: &[u8]) -> bool {
        let Ok(line) = self.kernel.kernel_file("/proc/cmdline") else { return false };
        let values = line
            .split(u8::is_ascii_whitespace)
            .filter_map(|word| word.strip_prefix(option.as_bytes())?.strip_prefix(b"="));
        values.flat_map(|list| list.split(|&byte| byte == b',')).any(|item| item == name)
    }

    /// The checks of the running kernel, and what it calls its architecture; `None` if that is not known here.
    pub(crate) fn elf_rules(&self) -> Option<(ElfRules, String)> {
        use Class::Elf32;
        use Class::Elf64;
        use Endian::Big;
        use Endian::Little;
        let machine = self.kernel.machine();
        let (arch, class, endian) = match &machine[..] {
            b"x86_64" => (ArchCheck::X86_64, Elf64, Little),
            [b'i', b'3'..=b'6', b'8', b'6'] => (ArchCheck::I386, Elf32, Little),
            b"aarch64" => (ArchCheck::Aarch64, Elf64, Little),
            [b'a', b'r', b'm', rest @ ..] if rest.ends_with(b"l") => {
                (ArchCheck::Arm { thumb: true, vfp: true, apcs26: false }, Elf32, Little)
            }
            b"riscv64" => (ArchCheck::RiscV, Elf64, Little),
            b"riscv32" => (ArchCheck::RiscV, Elf32, Little),
            b"ppc64le" => (ArchCheck::Ppc64 { abi_v2: true }, Elf64, Little),
            b"ppc" => (ArchCheck::Ppc, Elf32, Big),
            b"s390x" => (ArchCheck::S390, Elf64, Big),
            b"loongarch64" => (ArchCheck::LoongArch, Elf64, Little),
            _ => return None,
        };
        let generation = match version(&self.kernel.release()) {
            Some(version) if version >= (6, 14) => ElfGeneration::V6_14,
            Some(version) if version >= (6, 4) => ElfGeneration::V6_12,
            _ => ElfGeneration::V6_1,
        };
        Some((ElfRules::new(generation, arch, class, endian), shown(&machine)))
    }

    /// What the kernel knows of these names, and whether it shows which of its symbols are exported; `None` if it has
    /// no symbol table to show.
    pub(crate) fn symbols(&self, wanted: &[&[u8]]) -> Option<(BTreeMap<Vec<u8>, Known>, bool)> {
        let table = self.kernel.kernel_file("/proc/kallsyms").ok().filter(|table| !table.is_empty())?;
        let wanted: HashSet<&[u8]> = wanted.iter().copied().collect();
        let mut found: BTreeMap<Vec<u8>, Known> = BTreeMap::new();
        let mut shows_exports = false;
        for line in table.split(|&byte| byte == b'\n') {
            let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
            let Some(name) = words.nth(2) else { continue };
            let (name, is_export) = match name.strip_prefix(b"__ksymtab_") {
                Some(name) => (name, true),
                None => (name, false),
            };
            shows_exports |= is_export;
            if !wanted.contains(name) {
                continue;
            }
            let known = found.entry(name.to_vec()).or_default();
            known.exported |= is_export;
            let owner = words.next().and_then(|word| word.strip_prefix(b"[")?.strip_suffix(b"]"));
            known.owner = owner.map(shown);
        }
        Some((found, shows_exports))
    }

    /// `initstate` of a module: `live`, `coming` or `going`; `None` if it is not loaded.
    pub(crate) fn state(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.kernel.module_attribute(name, "initstate").ok()
    }

    /// The names of the modules that are loaded.
    pub(crate) fn loaded(&self) -> Vec<Vec<u8>> {
        let lines = self.kernel.modules().unwrap_or_default();
        let names =
            lines.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').next());
        names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
    }

    /// A file of the kernel as text; empty if there is none.
    pub(crate) fn text(&self, path: &str) -> String {
        String::from_utf8_lossy(&self.kernel.kernel_file(path).unwrap_or_default()).into_owned()
    }
}

fn version(release: &[u8]) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(release).ok()?;
    let mut numbers = text.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What a machine number of ELF is called, as `uname -m` has it where it can.
pub(crate) fn machine_name(machine: u16, class: Class) -> String {
    let wide = class == Class::Elf64;
    let name = match machine {
        EM_386 => "i386",
        EM_MIPS => "mips",
        EM_PPC => "ppc",
        EM_PPC64 => "ppc64",
        EM_S390 if wide => "s390x",
        EM_S390 => "s390",
        EM_ARM => "arm (32 bits)",
        EM_X86_64 => "x86_64",
        EM_AARCH64 => "aarch64",
        EM_RISCV if wide => "riscv64",
        EM_RISCV => "riscv32",
        EM_LOONGARCH => "loongarch",
        other => return format!("machine number {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_two_numbers() {
        assert_eq!(version(b"6.1.0-56-cloud-amd64"), Some((6, 1)));
        assert_eq!(version(b"6.14-rc1"), Some((6, 14)));
        assert_eq!(version(b"unknown"), None);
        assert_eq!(version(b""), None);
    }
}
