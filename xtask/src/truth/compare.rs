//! Holding what the loader does against what the kernel did.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use lkm_kernel::FileFacts;
use lkm_kernel::Kernel;
use lkm_kernel::Profile;
use lkm_link::Arch;
use lkm_module::elf::Elf;

use super::Result;
use super::bytes;
use super::facts::LiveFacts;
use super::memory::Export;
use super::memory::KernelMemory;
use super::modules::ModuleFile;
use super::qemu::Machine;
use super::replay::Linked;
use super::replay::Replay;
use super::report::Report;
use super::store::Capture;
use super::store::ModuleCapture;
use super::store::Part;
use super::views;

/// A capture and what it was made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub(crate) capture: &'a Capture,
    pub(crate) directory: &'a Path,
    pub(crate) machine: Machine,
    pub(crate) kernel: &'a KernelMemory,
    pub(crate) exports: &'a HashMap<Vec<u8>, Export>,
    pub(crate) modules: &'a [ModuleFile],
    /// Report on this module alone.
    pub(crate) only: Option<&'a str>,
}

/// Loads every module of the capture and compares; prints the account. Whether nothing differs.
pub(crate) fn run(input: &Input<'_>) -> Result<bool> {
    let mut kernel = Kernel::new(profile(input)?);
    let mut report = Report::default();
    let mut module_text: Vec<Range<u64>> = Vec::new();
    let mut control = None;
    let first = input.capture.modules.first().ok_or("the capture has no modules")?;
    let mut host =
        Replay::new(input.exports, first, LiveFacts::new(input.kernel, first, Vec::new(), input.machine));
    for (seen, module) in input.capture.modules.iter().zip(input.modules) {
        if seen.sections.is_empty() {
            report
                .problem(format!("{}: the kernel refused it with {}\n{}", seen.name, seen.result, seen.log));
            continue;
        }
        let mut text = module_text.clone();
        text.push(seen.core.base..seen.core.base + seen.core.text_size);
        host.next(seen, LiveFacts::new(input.kernel, seen, text, input.machine));
        let mut one = Report::default();
        load(&mut kernel, &mut host, seen, module, &mut one);
        compare(input, seen, module, &host.linked, &mut one)?;
        views::after_load(&mut kernel, &mut host, seen, &mut one);
        if control.is_none() && host.linked.places.len() > 8 {
            control = Some(bytes::control(input, seen, module, &host.linked)?);
        }
        if seen.result >= 0 {
            module_text.push(seen.core.base..seen.core.base + seen.core.text_size);
        }
        if input.only.is_none_or(|only| only == seen.name) {
            report.add(one);
        }
    }
    views::at_the_end(&kernel, input, &mut report);
    report.print();
    let control = control.unwrap_or(false);
    let what = if control {
        "and the comparison reports that byte alone"
    } else {
        "AND THE COMPARISON FAILS TO REPORT IT"
    };
    println!("    control: one bit of one relocation flipped, {what}");
    Ok(report.agrees() && control)
}

/// The profile of the captured kernel.
pub(crate) fn profile(input: &Input<'_>) -> Result<Profile> {
    let arch = input.machine.arch();
    let name = match arch {
        Arch::X86_64 => "debian-6.1-amd64",
        Arch::Arm => "debian-6.1-armmp",
    };
    let mut profile = Profile::by_name(name).ok_or("the kernel's profile is missing")?;
    if let Some(plt) = &mut profile.link.arm_plt {
        let address =
            |name| input.kernel.symbol(name).ok_or_else(|| format!("the kernel has no symbol {name}"));
        plt.fixed = vec![address("ftrace_caller")?, address("__gnu_mcount_nc")?];
    }
    if let Some(module) = input.modules.first() {
        let elf = Elf::parse(&module.bytes).map_err(|error| format!("{error:?}"))?;
        let modinfo = elf.sections.iter().find(|section| elf.section_name(section) == b".modinfo");
        let modinfo = modinfo.and_then(|section| elf.contents(section)).unwrap_or_default();
        let vermagic = modinfo.split(|&byte| byte == 0).find_map(|entry| entry.strip_prefix(b"vermagic="));
        profile.adopt_vermagic(vermagic.unwrap_or_default());
    }
    Ok(profile)
}

/// Loads a module, and compares how that ended.
fn load(
    kernel: &mut Kernel,
    host: &mut Replay<'_>,
    seen: &ModuleCapture,
    module: &ModuleFile,
    report: &mut Report,
) {
    let facts = FileFacts::regular(module.bytes.len() as u64);
    let ours = lkm_kernel::finit_module(kernel, host, &facts, &module.bytes, Some(b""), 0);
    let result = match &ours {
        Ok(_) => 0,
        Err(error) => -i64::from(error.errno().raw()),
    };
    if result != seen.result.min(0) {
        let why = ours.err().map_or_else(String::new, |error| format!(" ({error})"));
        let log = host.linked.log.join("\n");
        report.problem(format!(
            "{}: ends with {result}{why}, the kernel with {}\n{log}",
            seen.name, seen.result
        ));
    }
}

/// Compares layout, addresses and bytes of one module.
fn compare(
    input: &Input<'_>,
    seen: &ModuleCapture,
    module: &ModuleFile,
    linked: &Linked,
    report: &mut Report,
) -> Result<()> {
    report.modules += 1;
    report.loaded += usize::from(seen.result >= 0);
    report.relocations += linked.relocations;
    for part in &linked.relocated {
        let theirs = if part.layout.kind.is_init() { seen.init } else { seen.core };
        let layout = part.layout;
        let ours = Part {
            base: part.base,
            size: layout.size,
            text_size: layout.text_size,
            ro_size: layout.ro_size,
            ro_after_init_size: layout.ro_after_init_size,
        };
        if ours != theirs {
            report.problem(format!("{}: parts are {ours:x?}, the kernel's {theirs:x?}", seen.name));
        }
    }
    if linked.sections.len() != seen.sections.len() {
        report.problem(format!(
            "{}: {} sections of {}",
            seen.name,
            linked.sections.len(),
            seen.sections.len()
        ));
    }
    for (section, &theirs) in linked.sections.iter().zip(&seen.sections) {
        report.sections += 1;
        if section.address != theirs {
            let line = format!(
                "{}: {} at {:#x}, the kernel's at {theirs:#x}",
                seen.name, section.name, section.address
            );
            report.address(line);
        }
    }
    for warning in &linked.warnings {
        report.problem(format!("{}: {warning}", seen.name));
    }
    bytes::compare(input, seen, module, linked, report)
}
