//! Facts from files, directories and the running system.
//!
//! [`gather`] takes whatever it is given and finds out what it is. [`kernel`] takes what a user names: a path, a release
//! that is installed, or `running`.

use std::path::Path;
use std::path::PathBuf;

use crate::Certificate;
use crate::Config;
use crate::Fact;
use crate::Facts;
use crate::FactsError;
use crate::Machine;
use crate::Source;
use crate::deb;
use crate::image;
use crate::kallsyms;
use crate::system_map;
use crate::unpack;
use crate::unpack::Packing;
use crate::vmlinux;

mod directory;
mod running;

pub use directory::directory;
pub use running::running;

/// Facts from a file or directory of any known kind.
pub fn gather(path: &Path) -> Result<Facts, FactsError> {
    let mut facts = Facts::default();
    let source = Source::file(path);
    if path.is_dir() {
        directory(&mut facts, path)?;
    } else {
        let bytes = std::fs::read(path).map_err(FactsError::io(path))?;
        file(&mut facts, &bytes, &source)?;
    }
    if facts.is_empty() { Err(FactsError::Unknown(source)) } else { Ok(facts) }
}

/// Facts of the kernel that a user names: several paths with commas between them, that all are of one kernel, the best
/// first; the release of an installed one; or `running`.
pub fn kernel(name: &str) -> Result<Facts, FactsError> {
    if name == "running" {
        return running();
    }
    if Path::new(name).exists() {
        return gather(Path::new(name));
    }
    if !name.contains(['/', ',']) {
        let mut facts = Facts::default();
        directory::installed(&mut facts, name, Path::new("/"))?;
        return if facts.is_empty() { Err(FactsError::NoKernel(name.to_owned())) } else { Ok(facts) };
    }
    let mut facts = Facts::default();
    for part in name.split(',') {
        if !Path::new(part).exists() {
            return Err(FactsError::NoKernel(part.to_owned()));
        }
        facts.complete(gather(Path::new(part))?);
    }
    Ok(facts)
}

/// Facts from the contents of a file of any known kind. Leaves `facts` as they are if it is of none.
pub fn file(facts: &mut Facts, bytes: &[u8], source: &Source) -> Result<(), FactsError> {
    if bytes.starts_with(deb::MAGIC) {
        return package(facts, bytes, source);
    }
    if bytes.first() == Some(&b'{') {
        let given = serde_json::from_slice(bytes).map_err(|error| FactsError::damaged(source, error))?;
        facts.complete(given);
        return Ok(());
    }
    if is_module(bytes) {
        return Ok(());
    }
    if text(facts, bytes, source)? {
        return Ok(());
    }
    if let Some(image) = image::open(bytes, source)? {
        image_facts(facts, &image, source);
        return Ok(());
    }
    if Packing::of(bytes).is_some() {
        let unpacked = unpack::unpack(bytes).map_err(|error| FactsError::damaged(source, error))?;
        text(facts, &unpacked, source)?;
        return Ok(());
    }
    let certificates = Certificate::from_file(bytes);
    if !certificates.is_empty() {
        facts.complete(Facts { certificates: Some(Fact::new(certificates, source)), ..Facts::default() });
    }
    Ok(())
}

/// ET_REL: a module and no kernel.
fn is_module(bytes: &[u8]) -> bool {
    Machine::of_elf(bytes).is_some() && matches!(bytes.get(16..18), Some([1, 0] | [0, 1]))
}

/// Text files: exports, symbols, configuration. False if it is none of them.
fn text(facts: &mut Facts, bytes: &[u8], source: &Source) -> Result<bool, FactsError> {
    if crate::symvers::is_symvers(bytes) {
        symvers(facts, bytes, source)?;
    } else if system_map::is_system_map(bytes) {
        map(facts, &String::from_utf8_lossy(bytes), source)?;
    } else if !bytes.contains(&0) && Config::is_config(bytes) {
        config(facts, &String::from_utf8_lossy(bytes), source);
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// `Module.symvers`
pub fn symvers(facts: &mut Facts, text: &[u8], source: &Source) -> Result<(), FactsError> {
    let exports = crate::symvers::parse(text, source)?;
    facts.complete(Facts { exports: Some(Fact::new(exports, source)), ..Facts::default() });
    Ok(())
}

/// `System.map` or `/proc/kallsyms`
pub fn map(facts: &mut Facts, text: &str, source: &Source) -> Result<(), FactsError> {
    let symbols = system_map::parse(text, source)?;
    if !symbols.addresses.is_empty() {
        facts.complete(Facts { addresses: Some(Fact::new(symbols.addresses, source)), ..Facts::default() });
    }
    if !symbols.exported.is_empty() {
        let exports = symbols.exported.into_iter().map(|name| (name, crate::Export::default())).collect();
        facts.complete(Facts { exports: Some(Fact::new(exports, source)), ..Facts::default() });
    }
    Ok(())
}

/// A configuration, which also tells the machine.
pub fn config(facts: &mut Facts, text: &str, source: &Source) {
    let config = Config::parse(text);
    let machine = config.machine().map(|machine| Fact::new(machine, source));
    facts.complete(Facts { machine, config: Some(Fact::new(config, source)), ..Facts::default() });
}

/// What an unpacked image says.
fn image_facts(facts: &mut Facts, image: &image::Image<'_>, source: &Source) {
    let kernel = &*image.kernel;
    let source = &match image.form {
        "vmlinux" => source.clone(),
        form => source.part(form),
    };
    let fact = |value: &str| Some(Fact::new(value.to_owned(), source));
    let banner = vmlinux::banner(kernel);
    let release = banner.and_then(vmlinux::release);
    let certificates = Certificate::find(kernel);
    let symbols = image.machine.and_then(|machine| kallsyms::symbols(kernel, machine));
    let addresses =
        symbols.map(|symbols| kallsyms::unique(&symbols)).filter(|addresses| !addresses.is_empty());
    facts.complete(Facts {
        release: release.and_then(fact),
        banner: banner.and_then(fact),
        machine: image.machine.map(|machine| Fact::new(machine, source)),
        vermagic: release.and_then(|release| vmlinux::vermagic(kernel, release)).and_then(fact),
        config: vmlinux::config(kernel)
            .map(|config| Fact::new(config, &source.part("embedded configuration"))),
        exports: vmlinux::exports(kernel, image.machine).map(|exports| Fact::new(exports, source)),
        addresses: addresses.map(|addresses| Fact::new(addresses, &source.part("embedded kallsyms"))),
        certificates: (!certificates.is_empty()).then(|| Fact::new(certificates, source)),
        ..Facts::default()
    });
}

/// A Debian package: of an image with its modules, or of headers.
fn package(facts: &mut Facts, bytes: &[u8], source: &Source) -> Result<(), FactsError> {
    let wanted = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        path.starts_with("boot/")
            || name.starts_with("Module.symvers")
            || name == ".config"
            || name.starts_with("modules.")
            || path.contains("lib/modules/") && directory::is_module_name(name)
            || path.ends_with("include/generated/utsrelease.h")
            || path.ends_with("include/config/kernel.release")
    };
    let mut tree = directory::Tree::default();
    let mut images = Vec::new();
    deb::read(bytes, source, wanted, |path, bytes| {
        let member = source.part(path);
        match path.rsplit('/').next().unwrap_or(path) {
            name if name.starts_with("vmlinu") => images.push((bytes, member)),
            // Debian's says that the real one is in the package with debugging symbols.
            name if name.starts_with("System.map") && !system_map::is_system_map(&bytes) => {}
            name if path.contains("lib/modules/") => tree.add(path, name, &bytes, &member),
            "utsrelease.h" | "kernel.release" => directory::release(facts, &bytes, &member),
            _ => file(facts, &bytes, &member)?,
        }
        Ok(())
    })?;
    for (image, member) in images {
        file(facts, &image, &member)?;
    }
    tree.finish(facts, source);
    Ok(())
}

/// A path below a directory that stands for the root of a system.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests;
