//! Every module of a kernel's tree through the whole loader, against what that very kernel exports.
//!
//! Names, CRCs, GPL marks and namespaces are those of its `Module.symvers`; exports of modules are the modules' own. Addresses are made
//! up: real ones are the matter of the comparison with running kernels.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use lkm_kernel::Bookkeeper;
use lkm_kernel::FileFacts;
use lkm_kernel::Kernel;
use lkm_kernel::ModuleId;
use lkm_kernel::Profile;
use lkm_tree::search::ModuleDirectory;
use lkm_tree::search::depends;

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::packages;
use crate::packages::Flavour;
use crate::packages::Package;

/// The kernels, with their profiles and where their exports are said to lie: within reach of a branch from the module area.
const TREES: [(Flavour, &str, u64); 2] = [
    (packages::CLOUD_AMD64, "debian-6.1-amd64", 0xffff_ffff_8100_0000),
    (packages::ARMMP, "debian-6.1-armmp", 0xc030_0000),
];

/// Loads and removes every module of both trees, each with what it depends on, and fails if one is refused or leaves something behind.
pub(crate) fn check() -> Result<()> {
    for (flavour, profile, base) in TREES {
        let kernel = flavour.kernel()?;
        let headers = Package::new(
            kernel.package.arch,
            format!("linux-headers-{}", kernel.release),
            kernel.package.version.clone(),
        );
        let symvers = headers
            .unpack()?
            .join("usr/src")
            .join(format!("linux-headers-{}/Module.symvers", kernel.release));
        let symvers =
            fs::read_to_string(&symvers).with_context(|| format!("cannot read {}", symvers.display()))?;
        let profile = Profile::by_name(profile).with_context(|| format!("there is no profile {profile}"))?;
        let modules = read(&kernel.modules())?;
        let count = modules.len();
        let mut tree = Tree { modules, host: Bookkeeper::new(&profile), kernel: Kernel::new(profile) };
        let exports = export(&mut tree.host, &symvers, base)?;
        println!("    {}: {count} modules against {exports} exports of the kernel image", kernel.release);
        let refused = tree.load_each();
        if let Some((name, why)) = refused.first() {
            return Err(Error::new(format!(
                "{} of {count} modules are refused, the first is {name}: {why}",
                refused.len()
            )));
        }
        if !tree.host.is_clean() {
            return Err(Error::new("memory was not given back"));
        }
    }
    Ok(())
}

/// A module file and the names that it depends on.
struct ModuleFile {
    bytes: Vec<u8>,
    depends: Vec<String>,
}

fn read(directory: &Path) -> Result<BTreeMap<String, ModuleFile>> {
    let found = ModuleDirectory::scan(directory);
    let read = |(name, path): (&str, &Path)| {
        let bytes =
            fs::read(path).with_context(|| format!("cannot read {}", PathBuf::from(path).display()))?;
        let depends = depends(&bytes);
        Ok((name.to_owned(), ModuleFile { bytes, depends }))
    };
    found.iter().map(read).collect()
}

/// Gives the host the exports of the kernel image: lines `CRC name owner kind namespace`, separated by tabs.
fn export(host: &mut Bookkeeper, symvers: &str, base: u64) -> Result<usize> {
    let mut count = 0;
    for line in symvers.lines() {
        let mut columns = line.split('\t');
        let (Some(crc), Some(name), Some(owner), Some(kind)) =
            (columns.next(), columns.next(), columns.next(), columns.next())
        else {
            return Err(Error::new(format!("Module.symvers has a line of another form: {line}")));
        };
        if owner != "vmlinux" {
            continue;
        }
        let crc = u32::from_str_radix(crc.trim_start_matches("0x"), 16)
            .map_err(|_| Error::new(format!("Module.symvers has a CRC of another form: {line}")))?;
        let gpl_only = kind.ends_with("_GPL");
        let namespace = columns.next().unwrap_or_default();
        host.export(name.as_bytes(), base + 16 * count as u64, Some(crc), gpl_only, namespace.as_bytes());
        count += 1;
    }
    Ok(count)
}

struct Tree {
    modules: BTreeMap<String, ModuleFile>,
    host: Bookkeeper,
    kernel: Kernel,
}

impl Tree {
    /// Loads each module after what it depends on, and removes all of them again. Those that were refused, with the reason.
    fn load_each(&mut self) -> Vec<(String, String)> {
        let names: Vec<String> = self.modules.keys().cloned().collect();
        let mut refused = HashMap::new();
        for name in names {
            let mut loaded = Vec::new();
            if let Err(why) = self.load(&name, &mut HashSet::new(), &mut loaded) {
                refused.entry(name).or_insert(why);
            }
            for id in loaded.into_iter().rev() {
                // By force: some modules have no exit function.
                let module = self.kernel.module(id).map(|module| module.name.clone()).unwrap_or_default();
                let removed = lkm_kernel::delete_module(
                    &mut self.kernel,
                    &mut self.host,
                    Some(&module),
                    lkm_kernel::O_TRUNC,
                );
                if let Err(error) = removed {
                    let name = String::from_utf8_lossy(&module).into_owned();
                    refused.entry(name).or_insert(format!("it cannot be removed: {error}"));
                }
            }
            self.host.lines.clear();
            self.host.stages.clear();
            self.host.calls.clear();
        }
        let mut refused: Vec<_> = refused.into_iter().collect();
        refused.sort();
        refused
    }

    fn load(
        &mut self,
        name: &str,
        begun: &mut HashSet<String>,
        loaded: &mut Vec<ModuleId>,
    ) -> std::result::Result<(), String> {
        if !begun.insert(name.to_owned()) {
            return Ok(());
        }
        let module = self.modules.get(name).ok_or_else(|| format!("{name} is not in the tree"))?;
        for dependency in module.depends.clone() {
            self.load(&dependency, begun, loaded)?;
        }
        let Some(module) = self.modules.get(name) else { return Ok(()) };
        let facts = FileFacts::regular(module.bytes.len() as u64);
        let id =
            lkm_kernel::finit_module(&mut self.kernel, &mut self.host, &facts, &module.bytes, Some(b""), 0)
                .map_err(|error| {
                format!(
                    "{}: {}: {}\n{}",
                    error.stage.name(),
                    error.errno(),
                    error.cause(),
                    self.host.log_text()
                )
            })?;
        loaded.push(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_of_the_image_are_taken_and_others_left() {
        let profile = Profile::by_name("debian-6.1-amd64").unwrap();
        let mut host = Bookkeeper::new(&profile);
        let symvers = "0x00000001\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n\
            0x0000000a\tcpu_bit\tvmlinux\tEXPORT_SYMBOL_GPL\tCRYPTO\n\
            0x0000000b\tsnd_register\tsound/core/snd\tEXPORT_SYMBOL\t\n";
        assert_eq!(export(&mut host, symvers, 0x1000).unwrap(), 2);
        let found = lkm_kernel::Host::kernel_export(&host, b"cpu_bit").unwrap();
        assert_eq!((found.address, found.crc, found.gpl_only), (0x1010, Some(10), true));
        assert_eq!(found.namespace, b"CRYPTO");
        assert!(lkm_kernel::Host::kernel_export(&host, b"snd_register").is_none());
        assert!(export(&mut host, "one two three", 0).is_err());
    }
}
