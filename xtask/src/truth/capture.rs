//! Watching a real kernel load modules.

use std::collections::BTreeMap;
use std::path::Path;

use lkm_link::Arch;

use super::Result;
use super::agent::Agent;
use super::cpio::Cpio;
use super::facts;
use super::guest::Argument;
use super::guest::Guest;
use super::modules::ModuleFile;
use super::qemu::Boot;
use super::qemu::Machine;
use super::qemu::Qemu;
use super::store;
use super::store::Capture;
use super::store::ModuleCapture;
use super::store::Part;
use super::store::Stage;

/// Bytes that any file under /sys/module may have; more is cut.
const SYSFS_FILE: u64 = 4096;
/// Bytes of `struct module` that are looked at.
const MODULE: u64 = 0x240;
/// Bytes around a static key or a static call's key that are kept.
const PEEK: u64 = 16;
/// 32-bit ARM kernels do not tell where their data ends: this much is kept, which is more than any has.
const ARM_IMAGE: u64 = 40 << 20;

/// A kernel and the modules to watch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) machine: Machine,
    pub(crate) kernel: &'a Path,
    pub(crate) device_tree: Option<&'a Path>,
    pub(crate) modules: &'a [ModuleFile],
    /// Digest of all of it.
    pub(crate) sources: &'a str,
}

/// The kernel's functions whose first instruction separates the stages.
struct Stops {
    /// All symbols have their values, nothing is relocated.
    relocate: u64,
    /// Everything is relocated, nothing else is changed.
    sort_extable: u64,
    /// Everything is done but the init function.
    do_init_module: u64,
}

/// Boots the kernel, loads the modules one after the other and writes everything to `directory`.
pub(crate) fn capture(plan: &Plan<'_>, agent: &Agent, directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    std::fs::create_dir_all(directory)?;
    let initramfs = initramfs(agent, plan.modules);
    let scratch =
        std::env::temp_dir().join(format!("lkm-truth-{}-{}", std::process::id(), plan.machine.name()));
    let boot = Boot {
        machine: plan.machine,
        kernel: plan.kernel,
        device_tree: plan.device_tree,
        arguments: "",
        initramfs: &initramfs,
        directory: &scratch,
    };
    let mut guest = Guest::boot(Qemu::start(&boot)?, plan.machine.arch(), agent)?;
    mount(&mut guest)?;
    let kallsyms = read(&mut guest, "/proc/kallsyms", 12 << 20)?;
    let stops = Stops {
        relocate: symbol(
            &kallsyms,
            if plan.machine.arch() == Arch::Arm { "apply_relocate" } else { "apply_relocate_add" },
        )?,
        sort_extable: symbol(&kallsyms, "sort_extable")?,
        do_init_module: symbol(&kallsyms, "do_init_module")?,
    };
    let (kernel_base, kernel_size) = match plan.machine.arch() {
        Arch::X86_64 => {
            (symbol(&kallsyms, "_text")?, symbol(&kallsyms, "_end")? - symbol(&kallsyms, "_text")?)
        }
        Arch::Arm => (symbol(&kallsyms, "_stext")? & !0xfffff, ARM_IMAGE),
    };
    let mut capture = Capture {
        format: store::FORMAT,
        arch: plan.machine.arch().name().to_owned(),
        machine: plan.machine.name().to_owned(),
        version: text(&read(&mut guest, "/proc/version", 4096)?),
        sources: plan.sources.to_owned(),
        kernel_base,
        modules: Vec::new(),
    };
    for (index, module) in plan.modules.iter().enumerate() {
        let mut watch =
            Watch { guest: &mut guest, stops: &stops, directory, module, seen: ModuleCapture::default() };
        if index == 0 {
            watch.load(Some((kernel_base, kernel_size)))?;
        } else {
            watch.load(None)?;
        }
        capture.modules.push(watch.seen);
        if let Some(seen) = capture.modules.last_mut() {
            seen.sysfs = sysfs(&mut guest, &module.name)?;
        }
    }
    let after = read(&mut guest, "/proc/kallsyms", 14 << 20)?;
    for line in text(&after).lines() {
        let name = line.rsplit_once("\t[").and_then(|(_, name)| name.strip_suffix(']'));
        if let Some(module) = capture.modules.iter_mut().find(|module| Some(module.name.as_str()) == name) {
            module.kallsyms.push(line.to_owned());
        }
    }
    std::fs::write(directory.join(store::KALLSYMS), kallsyms)?;
    capture.save(directory)
}

/// An initramfs with the agent and the modules.
fn initramfs(agent: &Agent, modules: &[ModuleFile]) -> Vec<u8> {
    let mut cpio = Cpio::default();
    for directory in ["dev", "proc", "sys", "m"] {
        cpio.directory(directory);
    }
    cpio.device("dev/console", 5, 1);
    cpio.file("init", &agent.file);
    for module in modules {
        cpio.file(&format!("m/{}.ko", module.name), &module.bytes);
    }
    cpio.finish()
}

/// Makes /proc and /sys readable.
pub(crate) fn mount(guest: &mut Guest<'_>) -> Result<()> {
    let numbers = guest.numbers();
    let mut batch = guest.batch();
    let mut steps = Vec::new();
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys")] {
        let (kind, place) = (batch.text(kind), batch.text(place));
        steps.push(batch.call(numbers.mount, &[kind, place, kind, Argument::Value(0), Argument::Value(0)]));
    }
    let answers = guest.run(&batch)?;
    match steps.into_iter().map(|step| answers.result(step)).find(|&result| result != 0) {
        Some(error) => Err(format!("mount in the guest: error {error}").into()),
        None => Ok(()),
    }
}

/// A file of the guest.
pub(crate) fn read(guest: &mut Guest<'_>, path: &str, limit: u64) -> Result<Vec<u8>> {
    let numbers = guest.numbers();
    let mut batch = guest.batch();
    let answer = batch.read_file(numbers, path, limit);
    let answers = guest.run(&batch)?;
    match answers.file(answer) {
        Ok(bytes) if bytes.len() as u64 == limit => Err(format!("{path} in the guest is too long").into()),
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(error) => Err(format!("{path} in the guest: errno {error}").into()),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Address of a symbol of the kernel image.
pub(crate) fn symbol(kallsyms: &[u8], name: &str) -> Result<u64> {
    let found = kallsyms.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let (address, _, symbol) = (fields.next()?, fields.next()?, fields.next()?);
        (symbol == name.as_bytes())
            .then(|| u64::from_str_radix(std::str::from_utf8(address).ok()?, 16).ok())?
    });
    found.ok_or_else(|| format!("the kernel has no symbol {name}").into())
}

/// One module on its way through the kernel.
struct Watch<'a, 'g> {
    guest: &'a mut Guest<'g>,
    stops: &'a Stops,
    directory: &'a Path,
    module: &'a ModuleFile,
    seen: ModuleCapture,
}

impl Watch<'_, '_> {
    /// Loads the module with a look at it at each stage; `kernel` is memory to keep as it is before that.
    fn load(&mut self, kernel: Option<(u64, u64)>) -> Result<()> {
        let numbers = self.guest.numbers();
        let mut batch = self.guest.batch();
        let path = batch.text(&format!("/m/{}.ko", self.module.name));
        let none = batch.text("");
        let zero = Argument::Value(0);
        let open = batch.call(numbers.open, &[path, zero, zero]);
        let finit = batch.call(numbers.finit_module, &[Argument::Result(open), none, zero]);
        batch.call(numbers.close, &[Argument::Result(open)]);
        let modules = batch.read_file(numbers, "/proc/modules", 1 << 16);
        let tainted = batch.read_file(numbers, "/proc/sys/kernel/tainted", 64);
        let (log, log_buffer) = batch.buffer(1 << 18);
        // SYSLOG_ACTION_READ_CLEAR
        let log_step =
            batch.call(numbers.syslog, &[Argument::Value(4), log_buffer, Argument::Value(1 << 18)]);

        self.guest.start(&batch)?;
        if self.stop_at(self.stops.relocate)? {
            if let Some((base, size)) = kernel {
                let bytes = self.guest.qemu.qmp.read_mapped(base, size)?;
                std::fs::write(self.directory.join(store::KERNEL), bytes)?;
            }
            self.find_parts()?;
            if self.stop_at(self.stops.sort_extable)? {
                self.save(Stage::Relocated)?;
                if self.stop_at(self.stops.do_init_module)? {
                    self.save(Stage::BeforeInit)?;
                    let at = self.guest.go_on()?;
                    if !self.guest.is_waiting(at) {
                        return Err(
                            format!("{}: a stop at {at:#x} in the init function", self.module.name).into()
                        );
                    }
                }
            }
        }
        let answers = self.guest.finish(&batch)?;
        self.seen.name = self.module.name.clone();
        self.seen.path = self.module.path.to_string_lossy().into_owned();
        self.seen.result = answers.result(finit);
        self.seen.proc_modules = text(answers.file(modules).unwrap_or_default());
        self.seen.tainted = text(answers.file(tainted).unwrap_or_default()).trim().parse().unwrap_or(0);
        self.seen.log = text(answers.buffer(log, answers.result(log_step)));
        Ok(())
    }

    /// Runs to an address; false if the system call came back before it.
    fn stop_at(&mut self, address: u64) -> Result<bool> {
        self.guest.qemu.gdb.set_breakpoint(address)?;
        let at = self.guest.go_on()?;
        self.guest.qemu.gdb.clear_breakpoint(address)?;
        if at == address {
            Ok(true)
        } else if self.guest.is_waiting(at) {
            Ok(false)
        } else {
            Err(format!("{}: a stop at {at:#x} instead of {address:#x}", self.module.name).into())
        }
    }

    /// At the first relocation: where the module is.
    fn find_parts(&mut self) -> Result<()> {
        let sections = self.guest.argument(0)?;
        let this_module = self.guest.argument(4)?;
        let header =
            lkm_module::elf::Elf::parse(&self.module.bytes).map_err(|error| format!("{error:?}"))?.header;
        self.seen.this_module = this_module;
        self.seen.copy = sections - header.shoff;
        // sh_addr: offset and size in ELF64 and ELF32 headers.
        let (entry, at, size) = match self.guest.arch {
            Arch::X86_64 => (64, 16, 8),
            Arch::Arm => (40, 12, 4),
        };
        let headers = self.guest.qemu.qmp.read(sections, entry * u64::from(header.shnum))?;
        self.seen.sections =
            headers.chunks_exact(entry as usize).map(|header| number(header, at, size)).collect();
        let mut bytes = self.guest.qemu.qmp.read_mapped(this_module, 0x400)?;
        let (word, percpu) = match self.guest.arch {
            Arch::X86_64 => (8, 608),
            Arch::Arm => (4, 440),
        };
        self.seen.percpu = number(&bytes, percpu, word);
        bytes.truncate(MODULE as usize);
        let parts = parts(&bytes, word);
        let core = parts.iter().position(|part| this_module.wrapping_sub(part.base) < part.size);
        match core.and_then(|core| Some((parts.get(core)?, parts.get(core + 1)?))) {
            Some((core, init)) => (self.seen.core, self.seen.init) = (*core, *init),
            None => return Err(format!("{}: struct module does not tell its parts", self.module.name).into()),
        }
        Ok(())
    }

    /// Keeps the module's memory, and what it refers to outside of it.
    fn save(&mut self, stage: Stage) -> Result<()> {
        let mut core = Vec::new();
        for (part, init) in [(self.seen.core, false), (self.seen.init, true)] {
            let bytes = self.guest.qemu.qmp.read(part.base, part.size)?;
            std::fs::write(store::memory(self.directory, &self.module.name, stage, init), &bytes)?;
            if !init {
                core = bytes;
            }
        }
        if stage == Stage::BeforeInit {
            for address in facts::outside_keys(self.guest.arch, &self.module.bytes, &core, &self.seen)? {
                let bytes = self.guest.qemu.qmp.read_mapped(address, PEEK)?;
                self.seen.peeks.insert(address, store::hex(&bytes));
            }
        }
        Ok(())
    }
}

/// Whatever looks like `struct module_layout`: a page's address followed by sizes that grow.
fn parts(bytes: &[u8], word: usize) -> Vec<Part> {
    let candidates = (0..bytes.len().saturating_sub(word + 16)).step_by(word).map(|at| {
        let size = |index: usize| number(bytes, at + word + 4 * index, 4);
        // In memory: base, size, text_size, ro_size, ro_after_init_size.
        Part {
            base: number(bytes, at, word),
            size: size(0),
            text_size: size(1),
            ro_size: size(2),
            ro_after_init_size: size(3),
        }
    });
    let page = |value: u64| value.is_multiple_of(4096);
    candidates
        .filter(|part| part.base != 0 && page(part.base) && part.size != 0 && page(part.size))
        .filter(|part| page(part.text_size) && part.text_size <= part.ro_size && page(part.ro_size))
        .filter(|part| part.ro_size <= part.ro_after_init_size && page(part.ro_after_init_size))
        .filter(|part| part.ro_after_init_size <= part.size)
        .collect()
}

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let bytes = bytes.get(at..at + size).unwrap_or_default();
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Everything under /sys/module/NAME that can be read.
pub(crate) fn sysfs(
    guest: &mut Guest<'_>,
    name: &str,
) -> Result<BTreeMap<String, std::result::Result<String, i64>>> {
    let numbers = guest.numbers();
    let mut files = BTreeMap::new();
    let mut batch = guest.batch();
    let mut directories = Vec::new();
    for directory in ["", "parameters", "sections", "notes", "holders"] {
        let path = batch.text(&format!("/sys/module/{name}/{directory}"));
        let open = batch.call(numbers.open, &[path, Argument::Value(0), Argument::Value(0)]);
        let (buffer, address) = batch.buffer(1 << 16);
        let list =
            batch.call(numbers.getdents64, &[Argument::Result(open), address, Argument::Value(1 << 16)]);
        batch.call(numbers.close, &[Argument::Result(open)]);
        directories.push((directory, buffer, list));
    }
    let answers = guest.run(&batch)?;
    let mut paths = Vec::new();
    for (directory, buffer, list) in directories {
        for (kind, entry) in directory_entries(answers.buffer(buffer, answers.result(list))) {
            let path = if directory.is_empty() { entry } else { format!("{directory}/{entry}") };
            match kind {
                // DT_REG
                8 => paths.push(path),
                // DT_LNK
                10 => drop(files.insert(path, Ok(String::new()))),
                _ => {}
            }
        }
    }
    let mut rest = paths.as_slice();
    while !rest.is_empty() {
        let mut batch = guest.batch();
        let mut asked = Vec::new();
        while let Some((path, others)) = rest.split_first()
            && batch.has_room(1, SYSFS_FILE)
        {
            asked.push((path, batch.read_file(numbers, &format!("/sys/module/{name}/{path}"), SYSFS_FILE)));
            rest = others;
        }
        let answers = guest.run(&batch)?;
        for (path, answer) in asked {
            files.insert(path.clone(), answers.file(answer).map(store::hex));
        }
    }
    Ok(files)
}

/// Type and name of each `struct linux_dirent64`.
fn directory_entries(mut bytes: &[u8]) -> Vec<(u8, String)> {
    let mut entries = Vec::new();
    while let (Some(&[low, high]), Some(&kind)) = (bytes.get(16..18), bytes.get(18)) {
        let length = usize::from(u16::from_le_bytes([low, high]));
        let name = bytes.get(19..length).unwrap_or_default();
        let name = text(name.split(|&byte| byte == 0).next().unwrap_or_default());
        if name != "." && name != ".." {
            entries.push((kind, name));
        }
        bytes = bytes.get(length.max(1)..).unwrap_or_default();
    }
    entries
}
