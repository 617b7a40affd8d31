//! Holding the linker's bytes against the kernel's.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use lkm_link::Image;
use lkm_link::LinkRules;
use lkm_link::RegionKind;
use lkm_link::post::PatchProfile;

use super::Result;
use super::facts::LiveFacts;
use super::link;
use super::link::Linked;
use super::memory::Export;
use super::memory::KernelMemory;
use super::modules::ModuleFile;
use super::qemu::Machine;
use super::report::Report;
use super::store;
use super::store::Capture;
use super::store::ModuleCapture;
use super::store::Stage;

/// `struct module` is written to by everything; only what the file says of it is compared.
const STRUCT_MODULE: &str = "struct module";

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

/// Links every module of the capture and compares; prints the account. Whether nothing differs.
pub(crate) fn run(input: &Input<'_>) -> Result<bool> {
    let arch = input.machine.arch();
    let rules = link::rules(arch, input.kernel)?;
    let profile = link::patch_profile(arch);
    let mut exports: HashMap<Vec<u8>, u64> =
        input.exports.iter().map(|(name, export)| (name.clone(), export.address)).collect();
    let mut report = Report::default();
    let mut module_text: Vec<Range<u64>> = Vec::new();
    let mut control = None;
    for (seen, module) in input.capture.modules.iter().zip(input.modules) {
        if seen.sections.is_empty() {
            report
                .problem(format!("{}: the kernel refused it with {}\n{}", seen.name, seen.result, seen.log));
            continue;
        }
        module_text.push(seen.core.base..seen.core.base + seen.core.text_size);
        let mut one = Report::default();
        let facts = LiveFacts::new(input.kernel, seen, &module_text, input.machine);
        let comparison = Comparison { input, rules: &rules, profile: &profile, seen, module };
        let linked = comparison.run(&facts, &exports, &mut one);
        match linked {
            Ok(linked) => {
                if seen.result >= 0 {
                    add_exports(&linked, &mut exports);
                }
                if control.is_none() && linked.places.len() > 8 {
                    control = linked.places.last().map(|&place| (seen, module, place));
                }
            }
            Err(error) => one.problem(format!("{}: {error}", seen.name)),
        }
        if seen.result < 0 {
            module_text.pop();
        }
        if input.only.is_none_or(|only| only == seen.name) {
            report.add(one);
        }
    }
    report.print();
    let mut agree = report.agrees();
    if let (None, Some((seen, module, place))) = (input.only, control) {
        let comparison = Comparison { input, rules: &rules, profile: &profile, seen, module };
        agree &= comparison.control(&exports, place)?;
    } else if input.only.is_none() {
        println!("    control: no module has enough relocations");
        agree = false;
    }
    Ok(agree)
}

/// Adds what a linked module exports.
fn add_exports(linked: &Linked<'_>, exports: &mut HashMap<Vec<u8>, u64>) {
    for index in 1..linked.info.symbol_count() as u32 {
        let name = linked.info.symbol_name(index);
        if let Some(name) = name.strip_prefix(b"__ksymtab_")
            && let Some(value) = exported(linked, name)
        {
            exports.insert(name.to_vec(), value);
        }
    }
}

/// Value of the defined global symbol of a name.
fn exported(linked: &Linked<'_>, name: &[u8]) -> Option<u64> {
    let index = (1..linked.info.symbol_count() as u32).find(|&index| {
        linked.info.symbol(index).is_some_and(|symbol| symbol.shndx != 0 && symbol.bind() != 0)
            && linked.info.symbol_name(index) == name
    })?;
    linked.symbols.values.get(index as usize).copied()
}

/// One module under comparison.
struct Comparison<'a> {
    input: &'a Input<'a>,
    rules: &'a LinkRules,
    profile: &'a PatchProfile,
    seen: &'a ModuleCapture,
    module: &'a ModuleFile,
}

impl<'a> Comparison<'a> {
    fn run(
        &self,
        facts: &LiveFacts<'_>,
        exports: &HashMap<Vec<u8>, u64>,
        report: &mut Report,
    ) -> Result<Linked<'a>> {
        let mut linked = self.link(exports, report)?;
        report.modules += 1;
        report.loaded += usize::from(self.seen.result >= 0);
        report.relocations += linked.relocations;
        self.addresses(&linked, report);
        let mut bytes = self.marks(&linked)?;
        let relocated = bytes.compare(&linked, Stage::Relocated, self)?;
        report.relocated += relocated.compared;
        report.unexplained(relocated.lines);
        let patches = linked.finish(self.rules, self.profile, facts, self.seen)?;
        for warning in &patches.warnings {
            report.problem(format!("{}: {warning}", self.seen.name));
        }
        for &(name, address, size) in &patches.masked {
            bytes.mark(address, size, name, true);
        }
        for &(name, address, size) in &patches.written {
            bytes.mark(address, size, name, false);
        }
        let finished = bytes.compare(&linked, Stage::BeforeInit, self)?;
        report.before_init += finished.compared;
        report.unexplained(finished.lines);
        for (name, count) in finished.masked {
            *report.masked.entry(name).or_default() += count;
        }
        for (name, count) in finished.reproduced {
            *report.reproduced.entry(name).or_default() += count;
        }
        Ok(linked)
    }

    fn link(&self, exports: &HashMap<Vec<u8>, u64>, report: &mut Report) -> Result<Linked<'a>> {
        let mut differences = Vec::new();
        let arch = self.input.machine.arch();
        let linked = link::link(&self.module.bytes, arch, self.rules, exports, self.seen, &mut differences);
        for difference in differences {
            report.problem(format!("{}: {difference}", self.seen.name));
        }
        linked
    }

    /// Addresses of all sections, those in the temporary copy too.
    fn addresses(&self, linked: &Linked<'_>, report: &mut Report) {
        for (index, (section, &theirs)) in linked.info.sections.iter().zip(&self.seen.sections).enumerate() {
            report.sections += 1;
            if section.addr != theirs {
                let name = String::from_utf8_lossy(linked.info.section_name(index));
                report.address(format!(
                    "{}: {name} at {:#x}, the kernel has {theirs:#x}",
                    self.seen.name, section.addr
                ));
            }
        }
    }

    /// Both parts, with what is known beforehand of their bytes.
    fn marks(&self, linked: &Linked<'_>) -> Result<Marks> {
        let mut marks = Marks { parts: Vec::new() };
        for region in &linked.image.regions {
            marks.parts.push((region.base, vec![Mark::default(); region.bytes.len()]));
        }
        let this_module = linked.info.index.this_module;
        let section = linked.info.sections.get(this_module).ok_or("no struct module")?;
        marks.mark(section.addr, section.size as usize, STRUCT_MODULE, true);
        // The file's own share of it: whatever it does not leave zero, and the two functions.
        let contents = linked.info.contents(this_module);
        for (offset, _) in contents.iter().enumerate().filter(|(_, byte)| **byte != 0) {
            marks.mark(section.addr + offset as u64, 1, "", false);
        }
        Ok(marks)
    }

    /// Flips one bit of one relocation: exactly that byte must be reported.
    fn control(&self, exports: &HashMap<Vec<u8>, u64>, place: u64) -> Result<bool> {
        let mut linked = self.link(exports, &mut Report::default())?;
        let marks = self.marks(&linked)?;
        let before = marks.compare(&linked, Stage::Relocated, self)?.lines.len();
        let byte =
            linked.image.slice_mut(place, 1).and_then(|bytes| bytes.first_mut()).ok_or("no such place")?;
        *byte ^= 1;
        let lines = marks.compare(&linked, Stage::Relocated, self)?.lines;
        let seen = before == 0 && lines.len() == 1;
        let what = if seen { "the comparison sees it" } else { "THE COMPARISON DOES NOT SEE IT ALONE" };
        println!("    control: one bit of a relocation in {} flipped: {what}", self.seen.name);
        Ok(seen)
    }
}

/// Who is responsible for a byte.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    name: &'static str,
    /// It is run-time state.
    masked: bool,
}

/// Marks of all bytes of a module's parts.
struct Marks {
    parts: Vec<(u64, Vec<Mark>)>,
}

/// How a comparison came out.
#[derive(Debug, Default)]
struct Outcome {
    compared: usize,
    masked: HashMap<&'static str, usize>,
    /// Bytes that the kernel changed since the relocations and the linker changed likewise, by rule.
    reproduced: HashMap<&'static str, usize>,
    lines: Vec<String>,
}

impl Marks {
    fn mark(&mut self, address: u64, size: usize, name: &'static str, masked: bool) {
        for (base, marks) in &mut self.parts {
            let start = address.wrapping_sub(*base) as usize;
            if let Some(marks) = marks.get_mut(start..start.saturating_add(size)) {
                for mark in marks {
                    // A rule that writes to a masked place does not make it predictable.
                    if !mark.masked || masked || name.is_empty() {
                        *mark = Mark { name, masked };
                    }
                }
            }
        }
    }

    fn compare(&self, linked: &Linked<'_>, stage: Stage, of: &Comparison<'_>) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for (region, (_, marks)) in linked.image.regions.iter().zip(&self.parts) {
            let init = region.layout.kind == RegionKind::Init;
            let read = |stage| std::fs::read(store::memory(of.input.directory, &of.seen.name, stage, init));
            let theirs = read(stage)?;
            let earlier = if stage == Stage::BeforeInit { read(Stage::Relocated)? } else { theirs.clone() };
            if theirs.len() != region.bytes.len() || earlier.len() != theirs.len() {
                outcome.lines.push(format!(
                    "{}: a part of {} bytes, the kernel has {}",
                    of.seen.name,
                    region.bytes.len(),
                    theirs.len()
                ));
                continue;
            }
            let mut last_line = usize::MAX;
            for (offset, (&ours, &byte)) in region.bytes.iter().zip(&theirs).enumerate() {
                let mark = marks[offset];
                outcome.compared += usize::from(!mark.masked);
                if ours != byte {
                    if mark.masked {
                        *outcome.masked.entry(mark.name).or_default() += 1;
                    } else if last_line.wrapping_add(1) == offset {
                        // Shown with the line before it.
                        last_line = offset;
                        outcome.lines.push(String::new());
                    } else {
                        last_line = offset;
                        let address = region.base + offset as u64;
                        outcome.lines.push(describe(
                            linked,
                            &linked.image,
                            address,
                            &theirs[offset..],
                            stage,
                            mark,
                            of,
                        ));
                    }
                } else if byte != earlier[offset] && !mark.masked {
                    *outcome.reproduced.entry(mark.name).or_default() += 1;
                }
            }
        }
        Ok(outcome)
    }
}

/// A difference with its section and symbol.
fn describe(
    linked: &Linked<'_>,
    image: &Image<Vec<u8>>,
    address: u64,
    theirs: &[u8],
    stage: Stage,
    mark: Mark,
    of: &Comparison<'_>,
) -> String {
    let sections = linked.info.sections.iter().enumerate();
    let section = sections
        .filter(|(_, section)| section.is_alloc() && address.wrapping_sub(section.addr) < section.size)
        .map(|(index, section)| {
            (String::from_utf8_lossy(linked.info.section_name(index)), address - section.addr)
        })
        .next();
    let symbol = (1..linked.info.symbol_count() as u32)
        .filter(|&index| {
            linked.info.symbol(index).is_some_and(|symbol| symbol.shndx != 0)
                && !linked.info.symbol_name(index).is_empty()
        })
        .filter_map(|index| Some((linked.symbols.values.get(index as usize)?, index)))
        .filter(|(value, _)| **value <= address)
        .max();
    let place =
        section.map_or_else(|| "between sections".to_owned(), |(name, offset)| format!("{name}+{offset:#x}"));
    let symbol = symbol.map_or_else(String::new, |(value, index)| {
        format!(" {}+{:#x}", String::from_utf8_lossy(linked.info.symbol_name(index)), address - value)
    });
    let size = theirs.len().min(8);
    let ours = image.slice(address, size).unwrap_or_default();
    format!(
        "{} {stage:?} {place}{symbol} ({address:#x}, {}): ours {} theirs {}",
        of.seen.name,
        if mark.name.is_empty() { "no rule" } else { mark.name },
        store::hex(ours),
        store::hex(&theirs[..size])
    )
}
