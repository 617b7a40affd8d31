//! The bytes of a module, ours and the kernel's.

use std::collections::HashMap;

use lkm_link::Arch;
use lkm_module::elf::Elf;
use lkm_module::elf::SymbolTable;

use super::Result;
use super::compare::Input;
use super::modules::ModuleFile;
use super::replay::Linked;
use super::replay::PartBytes;
use super::report::Report;
use super::store;
use super::store::ModuleCapture;
use super::store::Stage;

/// Until the init function `struct module` is still being filled in.
const STRUCT_MODULE: &str = "struct module";

/// Fields of `struct module` that are run-time state: offset, size, name.
///
/// Each holds addresses on the heap (the object in sysfs, copies of texts, tables of attributes, unwind tables), or a place in
/// the tree of all modules' addresses, which turns with every module that comes or goes.
type Fields = &'static [(u64, usize, &'static str)];

const X86_64_FIELDS: Fields = &[
    (80, 64, "module.mkobj.kobj"),
    (160, 8, "module.mkobj.mp"),
    (176, 8, "module.modinfo_attrs"),
    (184, 16, "module.version, srcversion"),
    (200, 8, "module.holders_dir"),
    (352, 48, "module.core_layout.mtn.node"),
    (432, 48, "module.init_layout.mtn.node"),
    (584, 16, "module.sect_attrs, notes_attrs"),
    (600, 8, "module.args"),
];

const ARM_FIELDS: Fields = &[
    (72, 36, "module.mkobj.kobj"),
    (116, 4, "module.mkobj.mp"),
    (124, 4, "module.modinfo_attrs"),
    (128, 8, "module.version, srcversion"),
    (136, 4, "module.holders_dir"),
    (280, 24, "module.core_layout.mtn.node"),
    (328, 24, "module.init_layout.mtn.node"),
    (352, 12, "module.arch unwind tables"),
    (428, 8, "module.sect_attrs, notes_attrs"),
    (436, 4, "module.args"),
];

/// The list of the modules that a module uses is on the heap; it is empty if there are none.
const X86_64_USES: Fields = &[(832, 16, "module.target_list")];
const ARM_USES: Fields = &[(552, 8, "module.target_list")];

/// ARM tells nowhere where the list of modules with `BUG()`s begins; the pointer back to it, and in the first module the one
/// to its end.
const ARM_HEAD: Fields = &[(400, 4, "module.bug_list (its head)")];
const ARM_HEAD_OF_FIRST: Fields = &[(396, 4, "module.bug_list (its head)")];

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

impl Marks {
    fn new(parts: &[PartBytes]) -> Marks {
        Marks {
            parts: parts.iter().map(|part| (part.base, vec![Mark::default(); part.bytes.len()])).collect(),
        }
    }

    /// Says who is responsible. What is run-time state stays so, whoever else writes there.
    fn mark(&mut self, address: u64, size: usize, name: &'static str, masked: bool) {
        for (base, marks) in &mut self.parts {
            let start = address.wrapping_sub(*base) as usize;
            let end = start.saturating_add(size);
            for mark in marks.get_mut(start..end).into_iter().flatten().filter(|mark| masked || !mark.masked)
            {
                *mark = Mark { name, masked };
            }
        }
    }
}

/// Compares both stages of a module.
pub(crate) fn compare(
    input: &Input<'_>,
    seen: &ModuleCapture,
    module: &ModuleFile,
    linked: &Linked,
    report: &mut Report,
) -> Result<()> {
    let mut difference = Difference { input, seen, module, linked, outcome: Outcome::default() };
    difference.parts(&linked.relocated, &relocated_marks(linked), Stage::Relocated)?;
    let relocated = std::mem::take(&mut difference.outcome);
    report.relocated += relocated.compared;
    report.unexplained(relocated.lines);

    let mut marks = Marks::new(&linked.before_init);
    let none: Fields = &[];
    let first = input.capture.modules.first().is_some_and(|first| first.name == seen.name);
    let (fields, uses) = match input.machine.arch() {
        Arch::X86_64 => ([X86_64_FIELDS, none, none], X86_64_USES),
        Arch::Arm => ([ARM_FIELDS, ARM_HEAD, if first { ARM_HEAD_OF_FIRST } else { none }], ARM_USES),
    };
    if let Some(section) = linked.sections.get(linked.this_module) {
        marks.mark(section.address, section.size as usize, STRUCT_MODULE, false);
        let uses = if linked.uses_others { uses } else { none };
        for &(offset, size, name) in fields.into_iter().flatten().chain(uses) {
            marks.mark(section.address + offset, size, name, true);
        }
    }
    for &(name, address, size) in &linked.masked {
        marks.mark(address, size, name, true);
    }
    for &(name, address, size) in &linked.written {
        marks.mark(address, size, name, false);
    }
    difference.parts(&linked.before_init, &marks, Stage::BeforeInit)?;
    let before_init = difference.outcome;
    report.before_init += before_init.compared;
    report.unexplained(before_init.lines);
    for (name, count) in before_init.masked {
        *report.masked.entry(name).or_default() += count;
    }
    for (name, count) in before_init.reproduced {
        *report.reproduced.entry(name).or_default() += count;
    }
    Ok(())
}

/// After the relocations the loader has not filled in `struct module`, the kernel has done so in part: what the file
/// and the relocations put there is compared.
fn relocated_marks(linked: &Linked) -> Marks {
    let mut marks = Marks::new(&linked.relocated);
    if let Some(section) = linked.sections.get(linked.this_module) {
        for (part, (_, marks)) in linked.relocated.iter().zip(&mut marks.parts) {
            let start = section.address.wrapping_sub(part.base) as usize;
            let end = start.saturating_add(section.size as usize);
            let bytes = part.bytes.get(start..end).unwrap_or_default();
            for (mark, _) in marks.iter_mut().skip(start).zip(bytes).filter(|(_, byte)| **byte == 0) {
                *mark = Mark { name: STRUCT_MODULE, masked: true };
            }
        }
    }
    marks
}

/// Flips one bit of one relocation: exactly that byte must be reported.
pub(crate) fn control(
    input: &Input<'_>,
    seen: &ModuleCapture,
    module: &ModuleFile,
    linked: &Linked,
) -> Result<bool> {
    let mut parts = linked.relocated.clone();
    let place = linked.places.last().copied().ok_or("no relocations to try the comparison with")?;
    let byte = parts
        .iter_mut()
        .find_map(|part| part.bytes.get_mut(usize::try_from(place.checked_sub(part.base)?).ok()?));
    *byte.ok_or("a relocation outside the module")? ^= 1;
    let mut difference = Difference { input, seen, module, linked, outcome: Outcome::default() };
    difference.parts(&parts, &relocated_marks(linked), Stage::Relocated)?;
    let lines = difference.outcome.lines;
    Ok(lines.len() == 1 && lines.iter().all(|line| line.contains(&format!("{place:#x}"))))
}

/// How a comparison came out.
#[derive(Debug, Default)]
struct Outcome {
    compared: usize,
    masked: HashMap<&'static str, usize>,
    /// Bytes that the kernel changed since the relocations and the loader changed likewise, by rule.
    reproduced: HashMap<&'static str, usize>,
    lines: Vec<String>,
}

/// A comparison of one module under way.
struct Difference<'a> {
    input: &'a Input<'a>,
    seen: &'a ModuleCapture,
    module: &'a ModuleFile,
    linked: &'a Linked,
    outcome: Outcome,
}

impl Difference<'_> {
    fn parts(&mut self, parts: &[PartBytes], marks: &Marks, stage: Stage) -> Result<()> {
        if parts.len() != 2 {
            self.outcome.lines.push(format!(
                "{} {stage:?}: {} parts, the kernel has two",
                self.seen.name,
                parts.len()
            ));
        }
        for (part, (_, marks)) in parts.iter().zip(&marks.parts) {
            let init = part.layout.kind.is_init();
            let read =
                |stage| std::fs::read(store::memory(self.input.directory, &self.seen.name, stage, init));
            let theirs = read(stage)?;
            let earlier = if stage == Stage::BeforeInit { read(Stage::Relocated)? } else { Vec::new() };
            if theirs.len() != part.bytes.len() {
                let (ours, theirs) = (part.bytes.len(), theirs.len());
                self.outcome
                    .lines
                    .push(format!("{} {stage:?}: {ours} bytes, the kernel has {theirs}", self.seen.name));
                continue;
            }
            self.bytes(part, &theirs, &earlier, marks, stage);
        }
        Ok(())
    }

    fn bytes(&mut self, part: &PartBytes, theirs: &[u8], earlier: &[u8], marks: &[Mark], stage: Stage) {
        let mut last = usize::MAX - 1;
        for (offset, ((&ours, &byte), mark)) in part.bytes.iter().zip(theirs).zip(marks).enumerate() {
            self.outcome.compared += usize::from(!mark.masked);
            if ours == byte {
                if !mark.masked && earlier.get(offset).is_some_and(|&earlier| earlier != byte) {
                    *self.outcome.reproduced.entry(mark.name).or_default() += 1;
                }
            } else if mark.masked {
                *self.outcome.masked.entry(mark.name).or_default() += 1;
            } else {
                let line = if last + 1 == offset {
                    String::new()
                } else {
                    self.describe(part, theirs, offset, *mark, stage)
                };
                self.outcome.lines.push(line);
                last = offset;
            }
        }
    }

    /// A difference with its section and symbol.
    fn describe(&self, part: &PartBytes, theirs: &[u8], offset: usize, mark: Mark, stage: Stage) -> String {
        let address = part.base + offset as u64;
        let mut sections = self.linked.sections.iter();
        let inside = sections
            .find(|section| section.allocated && address.wrapping_sub(section.address) < section.size);
        let place = inside.map_or_else(
            || String::from("between sections"),
            |section| {
                format!(
                    "{}+{:#x}{}",
                    section.name,
                    address - section.address,
                    self.symbol(section.address, address)
                )
            },
        );
        let name = &self.seen.name;
        let rule = if mark.name.is_empty() { "no rule" } else { mark.name };
        let show =
            |bytes: &[u8]| store::hex(bytes.get(offset..).map_or(&[][..], |rest| &rest[..rest.len().min(8)]));
        format!(
            "{name} {stage:?} {place} ({address:#x}, {rule}): ours {} theirs {}",
            show(&part.bytes),
            show(theirs)
        )
    }

    /// The nearest symbol before an address in the section that starts at `section`.
    fn symbol(&self, section: u64, address: u64) -> String {
        let nearest = || {
            let elf = Elf::parse(&self.module.bytes).ok()?;
            let table = SymbolTable::of(&elf)?;
            let inside = table.iter().filter(|symbol| {
                let start =
                    self.linked.sections.get(usize::from(symbol.raw.shndx)).map(|section| section.address);
                start == Some(section) && section + symbol.raw.value <= address && !symbol.name.is_empty()
            });
            let symbol = inside.max_by_key(|symbol| symbol.raw.value)?;
            let name = String::from_utf8_lossy(symbol.name);
            Some(format!(" {name}+{:#x}", address - section - symbol.raw.value))
        };
        nearest().unwrap_or_default()
    }
}
