//! The machine: memory, processor, log and registries of one embedded kernel, and the [`Host`] that the loader sees.

use core::fmt;
use core::ops::Range;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::rc::Rc;

use lkm_kernel::CallError;
use lkm_kernel::Callee;
use lkm_kernel::DecompressFault;
use lkm_kernel::Event;
use lkm_kernel::Fault;
use lkm_kernel::Host;
use lkm_kernel::Kernel;
use lkm_kernel::KernelExport;
use lkm_kernel::Permissions;
use lkm_kernel::profile::Decompress;
use lkm_link::Arch;
use lkm_link::Region;
use lkm_link::RegionKind;
use lkm_module::Level;

use crate::api;
use crate::budget::Budget;
use crate::budget::Purse;
use crate::cpu;
use crate::cpu::Access;
use crate::cpu::Cpu;
use crate::cpu::CpuError;
use crate::cpu::Register;
use crate::decompress;
use crate::heap::Heap;
use crate::heap::Origin;
use crate::heap::Site;
use crate::layout::Layout;
use crate::log::Log;
use crate::log::LogLine;
use crate::memory::Plan;
use crate::memory::Ranges;
use crate::memory::pages;
use crate::registry::Registration;
use crate::registry::Registry;
use crate::report::HeapReport;
use crate::report::Leak;
use crate::report::Oops;
use crate::report::Stop;
use crate::report::StopReport;
use crate::slots::Slots;

/// What kind of machine is wanted.
#[derive(Clone, Debug)]
pub struct Config {
    /// Architecture.
    pub arch: Arch,
    /// Addresses for module memory, if other than the architecture's usual ones.
    pub module_area: Option<Range<u64>>,
    /// What one call into a module may spend.
    pub budget: Budget,
    /// CRCs of kernel symbols, where they are known.
    pub crcs: HashMap<Vec<u8>, u32>,
    /// `uname -r`, as oopses show it.
    pub release: String,
    /// Name of the process that loads, as oopses show it.
    pub comm: String,
    /// An import that nobody exports gets an address, at which a call into it is noted and ended. Without, it is an
    /// unknown symbol, as in a real kernel.
    pub stand_ins: bool,
}

impl Config {
    /// A machine of an architecture with everything usual.
    pub fn new(arch: Arch) -> Config {
        Config {
            arch,
            module_area: None,
            budget: Budget::default(),
            crcs: HashMap::new(),
            release: String::from("6.1.0"),
            comm: String::from("insmod"),
            stand_ins: true,
        }
    }
}

/// The machine could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineError {
    /// No processor.
    Cpu(CpuError),
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MachineError::Cpu(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for MachineError {}

impl From<CpuError> for MachineError {
    fn from(error: CpuError) -> MachineError {
        MachineError::Cpu(error)
    }
}

/// A piece of module memory.
#[derive(Clone, Copy, Debug)]
struct ModuleArea {
    size: u64,
    mapped: bool,
}

/// Who is told of what the loader does.
pub type Observer = Box<dyn FnMut(&Event<'_>)>;

/// An embedded kernel's machine.
pub struct Machine {
    observer: Option<Observer>,
    pub(crate) arch: Arch,
    pub(crate) plan: Plan,
    pub(crate) layout: &'static Layout,
    pub(crate) cpu: Box<dyn Cpu>,
    pub(crate) heap: Heap,
    pub(crate) slots: Slots,
    pub(crate) config: Config,
    pub(crate) log: Log,
    pub(crate) registry: Registry,
    pub(crate) state: api::State,
    /// Nanoseconds since the start.
    pub(crate) clock: u64,
    pub(crate) purse: Purse,
    /// Calls into the guest that are under way.
    pub(crate) depth: u32,
    pub(crate) oopses: Vec<Oops>,
    pub(crate) stops: Vec<StopReport>,
    pub(crate) heap_reports: Vec<HeapReport>,
    pub(crate) calls: HashMap<String, u64>,
    pub(crate) instructions: u64,
    pub(crate) sites: HashMap<u64, Site>,
    areas: BTreeMap<u64, ModuleArea>,
    module_ranges: Ranges,
    copies: Ranges,
    percpu_used: BTreeMap<u64, u64>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("arch", &self.arch)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// First byte of the per-cpu area that module variables may have; those of the kernel image are below.
const PERCPU_MODULES: u64 = 0x3_0000;

impl Machine {
    /// Starts a machine.
    pub fn new(config: Config) -> Result<Machine, MachineError> {
        let arch = config.arch;
        let mut plan = Plan::of(arch);
        if let Some(area) = &config.module_area {
            plan.modules = area.clone();
        }
        let mut cpu = cpu::new(arch)?;
        let slots = Slots::new(arch, &plan);
        let heap = Heap::new(plan.slab.clone(), plan.vmalloc.clone());
        cpu.trap_range(plan.functions.start, plan.functions.end);
        let data_size = pages(slots.data_size()).unwrap_or(0);
        cpu.map(plan.data.start, data_size, Access::READ_WRITE)?;
        for range in [&plan.stack, &plan.percpu] {
            cpu.map(range.start, range.end - range.start, Access::READ_WRITE)?;
        }
        // A user program's memory: the module has to use the functions made for it.
        cpu.map(plan.user.start, plan.user.end - plan.user.start, Access::NONE)?;
        for (area, shadow) in heap.shadows() {
            cpu.map(area.start, area.end - area.start, Access::READ_WRITE)?;
            cpu.watch(area.start, area.end - area.start, shadow)?;
        }
        let mut machine = Machine {
            observer: None,
            arch,
            layout: Layout::of(arch),
            cpu,
            heap,
            slots,
            log: Log::default(),
            registry: Registry::default(),
            state: api::State::new(),
            clock: 0,
            purse: Purse::new(config.budget),
            depth: 0,
            oopses: Vec::new(),
            stops: Vec::new(),
            heap_reports: Vec::new(),
            calls: HashMap::new(),
            instructions: 0,
            sites: HashMap::new(),
            areas: BTreeMap::new(),
            module_ranges: Ranges::new(plan.modules.clone()),
            copies: Ranges::new(plan.vmalloc.end..plan.vmalloc.end + (1 << 28)),
            percpu_used: BTreeMap::new(),
            config,
            plan,
        };
        api::data::install(&mut machine);
        Ok(machine)
    }

    /// Has somebody told of every event of the loader, in place of whoever was told before.
    pub fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// The architecture.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The kernel log.
    pub fn log_lines(&self) -> &[LogLine] {
        &self.log.lines
    }

    /// What modules have registered and not taken back, in the order of registration.
    pub fn registrations(&self) -> &[Registration] {
        self.registry.all()
    }

    /// Memory that modules have taken and not given back. Meant for when the module is gone.
    pub fn leaks(&self) -> Vec<Leak> {
        self.heap
            .live()
            .filter(|object| object.allocated_by.address != 0)
            .map(|object| Leak {
                address: object.address,
                size: object.size,
                origin: object.origin.clone(),
                allocated_by: object.allocated_by.symbol.to_string(),
                module: object.allocated_by.module.to_string(),
            })
            .collect()
    }

    /// The oopses that happened, the first one first.
    pub fn oopses(&self) -> &[Oops] {
        &self.oopses
    }

    /// Why calls into modules did not return.
    pub fn stops(&self) -> &[StopReport] {
        &self.stops
    }

    /// Wrong accesses to heap memory and wrong frees.
    pub fn heap_reports(&self) -> &[HeapReport] {
        &self.heap_reports
    }

    /// How often each kernel function was called, by name.
    pub fn calls(&self) -> Vec<(String, u64)> {
        let mut calls: Vec<_> = self.calls.iter().map(|(name, &count)| (name.clone(), count)).collect();
        calls.sort();
        calls
    }

    /// Modules that code asked for by `request_module` and that were not loaded, in that order.
    pub fn requested_modules(&self) -> &[String] {
        &self.state.requested
    }

    /// Instructions that guest code has executed, as far as blocks tell.
    pub fn instructions(&self) -> u64 {
        self.instructions
    }

    /// Nanoseconds on the machine's own clock.
    pub fn time(&self) -> u64 {
        self.clock
    }

    /// Writes one line to the kernel log.
    pub(crate) fn printk(&mut self, level: Level, text: impl Into<String>) {
        self.log.line(level, self.clock, text.into());
    }

    /// Reads a word as wide as a pointer; 0 where there is no memory.
    pub(crate) fn read_word(&self, address: u64) -> u64 {
        let mut bytes = [0; 8];
        let size = self.layout.pointer as usize;
        let _ = self.cpu.read(address, bytes.get_mut(..size).unwrap_or_default());
        u64::from_le_bytes(bytes)
    }

    /// Writes a word as wide as a pointer.
    pub(crate) fn write_word(&mut self, address: u64, value: u64) {
        let bytes = value.to_le_bytes();
        let size = self.layout.pointer as usize;
        let _ = self.cpu.write(address, bytes.get(..size).unwrap_or_default());
    }

    /// Reads 32 bits; 0 where there is no memory.
    pub(crate) fn read_u32(&self, address: u64) -> u32 {
        let mut bytes = [0; 4];
        let _ = self.cpu.read(address, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Writes 32 bits.
    pub(crate) fn write_u32(&mut self, address: u64, value: u32) {
        let _ = self.cpu.write(address, &value.to_le_bytes());
    }

    /// An address or a value as wide as a pointer.
    pub(crate) fn word(&self, value: u64) -> u64 {
        if self.layout.pointer == 4 { value & 0xffff_ffff } else { value }
    }

    /// A negative error number as a `long` or pointer.
    pub(crate) fn error(&self, errno: lkm_module::Errno) -> u64 {
        self.word(u64::from(errno.raw()).wrapping_neg())
    }

    /// A NUL-terminated string, at most `limit` bytes of it. What cannot be read ends it.
    pub(crate) fn read_string(&self, address: u64, limit: usize) -> Vec<u8> {
        let mut text = Vec::new();
        let mut piece = [0; 64];
        while text.len() < limit {
            let here = address.wrapping_add(text.len() as u64);
            let size = (64 - (here % 64) as usize).min(limit - text.len());
            let Some(piece) = piece.get_mut(..size) else { break };
            if self.cpu.read(here, piece).is_err() {
                break;
            }
            let end = piece.iter().position(|&byte| byte == 0);
            text.extend_from_slice(piece.get(..end.unwrap_or(size)).unwrap_or_default());
            if end.is_some() {
                break;
            }
        }
        text
    }

    /// A NUL-terminated name as text.
    pub(crate) fn read_name(&self, address: u64) -> String {
        lkm_module::Text(&self.read_string(address, 256)).to_string()
    }

    /// The loader itself as the one who takes memory.
    pub(crate) fn kernel_site() -> Site {
        Site { address: 0, symbol: Rc::from("kernel"), module: Rc::from("") }
    }

    /// Zeroed memory for an object that belongs to the kernel.
    pub(crate) fn kernel_object(&mut self, what: &'static str, size: u64) -> Option<u64> {
        let address = self.heap.allocate(size, 64, Origin::Kernel(what), Machine::kernel_site())?;
        self.zero(address, size);
        Some(address)
    }

    pub(crate) fn zero(&mut self, address: u64, size: u64) {
        self.fill(address, 0, size);
    }

    pub(crate) fn fill(&mut self, address: u64, byte: u8, size: u64) {
        let piece = [byte; 4096];
        let mut done = 0;
        while done < size {
            let count = (size - done).min(piece.len() as u64);
            let bytes = piece.get(..count as usize).unwrap_or_default();
            if self.cpu.write(address.wrapping_add(done), bytes).is_err() {
                return;
            }
            done += count;
        }
    }

    fn access_of(permissions: Permissions) -> Access {
        match permissions {
            Permissions::ReadWrite => Access::READ_WRITE,
            Permissions::Read => Access::READ,
            Permissions::ReadExecute => Access::READ_EXECUTE,
            Permissions::ReadWriteExecute => Access::ALL,
        }
    }
}

impl Host for Machine {
    type Memory = Vec<u8>;

    fn event(&mut self, event: &Event<'_>) {
        if let Some(observer) = &mut self.observer {
            observer(event);
        }
    }

    fn module_alloc(&mut self, _: RegionKind, size: u64) -> Option<(u64, Vec<u8>)> {
        let size = pages(size.max(1))?;
        let bytes = vec![0; usize::try_from(size).ok()?];
        let base = self.module_ranges.take(size)?;
        self.areas.insert(base, ModuleArea { size, mapped: false });
        Some((base, bytes))
    }

    fn module_commit(&mut self, region: Region<Vec<u8>>) {
        let Some(area) = self.areas.get_mut(&region.base) else { return };
        if area.mapped || self.cpu.map(region.base, area.size, Access::READ_WRITE).is_err() {
            return;
        }
        area.mapped = true;
        let size = usize::try_from(area.size).unwrap_or(0).min(region.bytes.len());
        let _ = self.cpu.write(region.base, region.bytes.get(..size).unwrap_or_default());
    }

    fn module_free(&mut self, base: u64) {
        let Some(area) = self.areas.remove(&base) else { return };
        if area.mapped {
            let _ = self.cpu.unmap(base, area.size);
        }
        self.module_ranges.give(base);
        let gone = base..base + area.size;
        self.sites.retain(|address, _| !gone.contains(address));
        // Locks in memory that is gone cannot be held any more.
        self.state.locks.retain(|address| !gone.contains(address));
    }

    fn protect(&mut self, base: u64, size: u64, permissions: Permissions) {
        let Some(size) = pages(size).filter(|&size| size > 0) else { return };
        let base = base & !(crate::memory::PAGE - 1);
        // Only module memory: nothing else is the loader's to change.
        let inside = self.areas.range(..=base).next_back().is_some_and(|(&start, area)| {
            area.mapped && base.checked_add(size).is_some_and(|end| end <= start + area.size)
        });
        if inside {
            let _ = self.cpu.protect(base, size, Machine::access_of(permissions));
        }
    }

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.cpu.read(address, bytes).map_err(|address| Fault { address })
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.cpu.write(address, bytes).map_err(|address| Fault { address })
    }

    fn kmalloc(&mut self, size: u64) -> Option<u64> {
        let address = self.heap.allocate(size, 8, Origin::Kmalloc, Machine::kernel_site())?;
        self.zero(address, size);
        Some(address)
    }

    fn kfree(&mut self, address: u64) {
        let _ = self.heap.free(address, Machine::kernel_site());
    }

    fn percpu_alloc(&mut self, size: u64, align: u64) -> Option<u64> {
        let align = align.clamp(8, 4096).next_power_of_two();
        let end = self.plan.percpu.end - self.plan.percpu.start;
        let mut at = PERCPU_MODULES;
        for (&start, &used) in &self.percpu_used {
            if at.checked_add(size)? <= start {
                break;
            }
            at = start.checked_add(used)?.checked_next_multiple_of(align)?;
        }
        if at.checked_add(size)? > end {
            return None;
        }
        self.percpu_used.insert(at, size.max(1));
        self.zero(self.plan.percpu.start + at, size);
        Some(self.word(self.plan.percpu_cookie(at)))
    }

    fn percpu_copy(&mut self, cookie: u64, template: &[u8]) {
        let at = self.word(cookie.wrapping_add(self.plan.percpu_offset));
        if self.plan.percpu.contains(&at) && template.len() as u64 <= self.plan.percpu.end - at {
            let _ = self.cpu.write(at, template);
        }
    }

    fn percpu_free(&mut self, cookie: u64) {
        let at = self.word(cookie.wrapping_add(self.plan.percpu_offset));
        self.percpu_used.remove(&at.wrapping_sub(self.plan.percpu.start));
    }

    fn copy_address(&mut self, size: u64) -> u64 {
        // Only an address is wanted, and only one copy exists at a time.
        let base = self.copies.take(size).unwrap_or(self.plan.vmalloc.end);
        self.copies.give(base);
        base
    }

    fn kernel_export(&self, name: &[u8]) -> Option<KernelExport<'_>> {
        let text = core::str::from_utf8(name).ok()?;
        if api::of_module(text) {
            return None;
        }
        let address = self.slots.address(text)?;
        Some(KernelExport {
            address,
            crc: self.config.crcs.get(name).copied(),
            gpl_only: api::gpl_only(text),
            namespace: b"",
        })
    }

    fn stand_in(&mut self, name: &[u8]) -> Option<u64> {
        if !self.config.stand_ins {
            return None;
        }
        // What another module would export may be implemented here all the same.
        let implemented = core::str::from_utf8(name).ok().and_then(|name| self.slots.address(name));
        implemented.or_else(|| self.slots.stand_in(name))
    }

    fn call(
        &mut self,
        kernel: &mut Kernel,
        callee: Callee,
        address: u64,
        arguments: &[u64],
    ) -> Result<u64, CallError> {
        if self.depth == 0 {
            self.purse = Purse::new(self.config.budget);
        }
        self.state.callee = Some(callee);
        self.call_guest(kernel, address, arguments).map_err(|Stop| CallError)
    }

    fn log(&mut self, level: Level, line: fmt::Arguments<'_>) {
        self.printk(level, line.to_string());
    }

    fn dump_stack(&mut self, kernel: &mut Kernel) {
        self.show_loader(kernel);
    }

    fn comm(&self) -> &str {
        &self.config.comm
    }

    fn decompress(&mut self, format: Decompress, stream: &[u8]) -> Result<Vec<u8>, DecompressFault> {
        decompress::decompress(format, stream)
    }
}

impl Machine {
    /// Where the first call into the guest puts its stack, and where nested ones do: below what is in use.
    pub(crate) fn stack_for_call(&self) -> u64 {
        if self.depth <= 1 {
            // Room at the top as the kernel leaves it for a system call's registers.
            return self.plan.stack.end - 512;
        }
        self.cpu.get(Register::Sp).wrapping_sub(256)
    }
}
