//! Which modules are loaded, and in which order.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use lkm_link::Arch;
use lkm_module::elf::Elf;

use super::Result;

/// Names of modules with the reason for each.
const X86_64: &str = include_str!("../../truth/modules-x86_64.txt");
const ARM: &str = include_str!("../../truth/modules-arm.txt");

/// A module file of the kernel's tree.
#[derive(Clone, Debug)]
pub(crate) struct ModuleFile {
    /// Its name, with underscores.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

/// The modules chosen for an architecture, each after those that it depends on.
pub(crate) fn chosen(arch: Arch, tree: &Path) -> Result<Vec<ModuleFile>> {
    let list = match arch {
        Arch::X86_64 => X86_64,
        Arch::Arm => ARM,
    };
    let mut files = BTreeMap::new();
    find(tree, &mut files)?;
    let mut order = Vec::new();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.split_whitespace().next() {
            add(name, &files, &mut order)?;
        }
    }
    Ok(order)
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, order: &mut Vec<ModuleFile>) -> Result<()> {
    if order.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let path = files.get(name).ok_or_else(|| format!("the kernel's tree has no module {name}"))?;
    let bytes = std::fs::read(path)?;
    for dependency in modinfo(&bytes, b"depends=")?.split(',').filter(|name| !name.is_empty()) {
        add(&dependency.replace('-', "_"), files, order)?;
    }
    order.push(ModuleFile { name: name.to_owned(), path: path.clone(), bytes });
    Ok(())
}

/// All `.ko` files of a tree by module name.
fn find(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "ko")
            && let Some(name) = path.file_stem()
        {
            files.insert(name.to_string_lossy().replace('-', "_"), path);
        }
    }
    Ok(())
}

/// The first value of a tag (given with its `=`) in a module's information; empty if there is none.
fn modinfo(file: &[u8], tag: &[u8]) -> Result<String> {
    let elf = Elf::parse(file).map_err(|error| format!("{error:?}"))?;
    let section = elf.sections.iter().find(|section| elf.section_name(section) == b".modinfo");
    let contents = section.and_then(|section| elf.contents(section)).ok_or("a module without .modinfo")?;
    let value = contents.split(|&byte| byte == 0).find_map(|entry| entry.strip_prefix(tag));
    Ok(String::from_utf8_lossy(value.unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_chosen_module_has_a_reason_and_there_are_enough() {
        for list in [super::X86_64, super::ARM] {
            let lines: Vec<_> = list.lines().filter(|line| !line.starts_with('#')).collect();
            assert!(lines.len() >= 40);
            for line in lines {
                assert!(line.split_whitespace().count() > 1, "{line}");
            }
        }
    }
}
