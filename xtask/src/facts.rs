//! What is read out of kernel images, against what their builds and the running kernels say.

use std::collections::BTreeMap;
use std::fs;

use lkm_facts::Exports;
use lkm_facts::Facts;
use lkm_facts::Source;
use lkm_facts::gather;
use lkm_link::Arch;
use lkm_module::signature::appended_signature;

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::packages;
use crate::packages::Flavour;
use crate::packages::Package;
use crate::truth;

/// Kernels that are also watched while they run.
const KERNELS: [(Flavour, Arch); 2] = [(packages::CLOUD_AMD64, Arch::X86_64), (packages::ARMMP, Arch::Arm)];

/// Reads the images of two kernels and compares.
pub(crate) fn check() -> Result<()> {
    for (flavour, arch) in KERNELS {
        let kernel = flavour.kernel()?;
        let read = |path: &std::path::Path| {
            let mut facts = Facts::default();
            let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            gather::file(&mut facts, &bytes, &Source::file(path))
                .map_err(|error| Error::new(error.to_string()))?;
            Ok::<Facts, Error>(facts)
        };
        let image = read(&kernel.image())?;
        let release = image.release.as_ref().map(|release| release.value.as_str());
        equal("release", release, Some(kernel.release.as_str()))?;

        let headers = Package::new(
            kernel.package.arch,
            format!("linux-headers-{}", kernel.release),
            kernel.package.version.clone(),
        );
        let symvers =
            headers.unpack()?.join(format!("usr/src/linux-headers-{}/Module.symvers", kernel.release));
        let built = read(&symvers)?.exports.context("Module.symvers has no exports")?.value;
        let found = &image.exports.as_ref().context("no exports were found in the image")?.value;
        let exports = compare_exports(&built, found)?;

        let mut tree = Facts::default();
        gather::directory(&mut tree, &kernel.modules()).map_err(|error| Error::new(error.to_string()))?;
        let vermagic = tree.vermagic.as_ref().map(|vermagic| &vermagic.value);
        equal("vermagic", image.vermagic.as_ref().map(|vermagic| &vermagic.value), vermagic)?;
        equal(
            "machine",
            image.machine.as_ref().map(|machine| machine.value),
            tree.machine.as_ref().map(|machine| machine.value),
        )?;
        let crcs = compare_crcs(&tree, found)?;
        let certificate = compare_certificate(&image, &kernel.modules())?;

        let running = truth::kallsyms(arch).map_err(|error| Error::new(error.to_string()))?;
        let addresses = compare_addresses(&image, &running)?;
        println!(
            "    {}: {exports} exports and {crcs} CRCs of modules as its build has them, {addresses} addresses as it \
             shows them running, modules signed by \"{certificate}\"",
            kernel.release
        );
    }
    Ok(())
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::new(format!("{what}: the image says {found:?}, and it is {expected:?}")))
}

/// Names, CRCs, GPL marks and namespaces of the exports of the image.
fn compare_exports(built: &Exports, found: &Exports) -> Result<usize> {
    let ours = |exports: &Exports| -> BTreeMap<String, _> {
        let image = exports.iter().filter(|(_, export)| export.module.is_none());
        image
            .map(|(name, export)| (name.clone(), (export.crc, export.gpl_only, export.namespace.clone())))
            .collect()
    };
    let (built, found) = (ours(built), ours(found));
    for (name, export) in &built {
        equal(&format!("export {name}"), found.get(name), Some(export))?;
    }
    equal("number of exports", found.len(), built.len())?;
    Ok(found.len())
}

/// The CRCs that the kernel's own modules want are those that the image has.
fn compare_crcs(tree: &Facts, found: &Exports) -> Result<usize> {
    let crcs = &tree.module_crcs.as_ref().context("the modules have no CRCs")?.value;
    let mut count = 0;
    for (name, crc) in crcs {
        if let Some(export) = found.get(name) {
            equal(&format!("CRC of {name}"), export.crc, Some(*crc))?;
            count += 1;
        }
    }
    if count < 1000 {
        return Err(Error::new(format!("only {count} CRCs of modules are for symbols of the image")));
    }
    Ok(count)
}

/// The certificate in the image is the one that the modules are signed by; gives whose it is.
fn compare_certificate(image: &Facts, modules: &std::path::Path) -> Result<String> {
    let certificates = &image.certificates.as_ref().context("no certificate was found in the image")?.value;
    let path = modules.join("kernel/fs/ext4/ext4.ko");
    let path = if path.exists() { path } else { modules.join("kernel/fs/fuse/fuse.ko") };
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let signature = appended_signature(&bytes).ok().flatten().context("the module is not signed")?;
    let signer = signature.signer().map_err(|_| Error::new("the signature cannot be read"))?;
    let serial = signer.serial.context("the signature names no certificate")?;
    let serial =
        serial.iter().skip_while(|byte| **byte == 0).map(|byte| format!("{byte:02x}")).collect::<String>();
    let certificate = certificates.iter().find(|certificate| certificate.serial == serial);
    certificate.map(|certificate| certificate.subject.clone()).with_context(|| {
        format!("{}: no certificate in the image has serial number {serial}", path.display())
    })
}

/// Addresses of symbols with one address only, as the kernel showed them before its first module, not moved at boot.
fn compare_addresses(image: &Facts, running: &str) -> Result<usize> {
    let mut facts = Facts::default();
    gather::map(&mut facts, running, &Source::new("/proc/kallsyms"))
        .map_err(|error| Error::new(error.to_string()))?;
    let running = facts.addresses.context("the running kernel showed no addresses")?.value;
    let found = &image.addresses.as_ref().context("no kallsyms were found in the image")?.value;
    // Zero, the start of per-cpu data, is what /proc/kallsyms also shows for what is hidden.
    let found: BTreeMap<_, _> = found.iter().filter(|(_, address)| **address != 0).collect();
    for (name, address) in &found {
        equal(&format!("address of {name}"), Some(*address), running.get(*name))?;
    }
    equal("number of symbols", found.len(), running.len())?;
    Ok(found.len())
}
