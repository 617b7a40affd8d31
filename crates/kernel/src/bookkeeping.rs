//! A host whose memory is only bookkeeping: modules are loaded into plain bytes and their code is not run.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use lkm_link::Region;
use lkm_link::RegionKind;
use lkm_link::post::KernelFacts;
use lkm_link::post::PlainFacts;
use lkm_module::Errno;
use lkm_module::Level;

use crate::CallError;
use crate::Callee;
use crate::DecompressFault;
use crate::Event;
use crate::Fault;
use crate::Host;
use crate::Kernel;
use crate::KernelExport;
use crate::Permissions;
use crate::Profile;
use crate::Security;
use crate::Stage;
use crate::profile::Decompress;

/// A block of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    /// Bytes that were asked for.
    size: u64,
    /// Contents; empty for module memory that is not handed over yet.
    bytes: Vec<u8>,
    /// Permissions by offset of the part that they begin at.
    permissions: BTreeMap<u64, Permissions>,
}

/// An export of the kernel image.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exported {
    address: u64,
    crc: Option<u32>,
    gpl_only: bool,
    namespace: Vec<u8>,
}

/// A host that keeps books only: memory is plain bytes, code is not run. Calls return what was put in for them.
///
/// Its memory is handed out as a kernel does: first fit with a guard page behind each area.
#[derive(Clone, Debug)]
pub struct Bookkeeper {
    /// Addresses for module memory.
    area: core::ops::Range<u64>,
    page: u64,
    exports: BTreeMap<Vec<u8>, Exported>,
    modules: BTreeMap<u64, Block>,
    general: BTreeMap<u64, Block>,
    next_general: u64,
    percpu: BTreeMap<u64, Vec<u8>>,
    /// The kernel log, one entry a line; it ends after some ten thousand.
    pub lines: Vec<(Level, String)>,
    /// Stages that ended, with their errno (0 for success).
    pub stages: Vec<(Stage, u16)>,
    /// Calls of module code, in order.
    pub calls: Vec<(Callee, u64, Vec<u64>)>,
    /// What calls return, first to last; then 0. `None`: the code does not return.
    pub results: Vec<Option<u64>>,
    /// The load is stopped before this stage.
    pub stop: Option<Stage>,
    /// The allocation of this number (from 0, of any kind) and those after it fail.
    pub fail_allocation: Option<usize>,
    /// Allocations made.
    pub allocations: usize,
    /// Undefined symbols get an address.
    pub stand_ins: bool,
    /// Names in `/sys/module` that belong to the kernel image.
    pub builtin: Vec<Vec<u8>>,
    /// All module memory, address and bytes, as it was when the last init function was about to run; kept if it is `Some`
    /// before.
    pub before_init: Option<Vec<(u64, Vec<u8>)>>,
    /// What decompression gives.
    pub unpacked: Result<Vec<u8>, DecompressFault>,
    /// What the kernel's security modules refuse, and with which error.
    pub refuses: Option<(Security, Errno)>,
    /// Memory cannot be protected any more.
    pub protect_fails: Option<Errno>,
    /// How often the state of the kernel was shown.
    pub dumps: usize,
    /// What later changes of the bytes depend on.
    pub facts: PlainFacts,
}

/// Start of general memory.
const GENERAL: u64 = 0x1000_0000;

/// Where stand-ins lie.
const STAND_INS: u64 = 0x7f00_0000;

/// Lines of the log that are kept.
const LINES_MAX: usize = 10_000;

/// Bytes that a single allocation may have: more than any module range.
const LIMIT: u64 = 1 << 28;

impl Bookkeeper {
    /// A host with the module addresses of a profile and without any export.
    pub fn new(profile: &Profile) -> Bookkeeper {
        Bookkeeper {
            area: profile.module_area.clone(),
            page: profile.link.page_size.max(1),
            exports: BTreeMap::new(),
            modules: BTreeMap::new(),
            general: BTreeMap::new(),
            next_general: GENERAL,
            percpu: BTreeMap::new(),
            lines: Vec::new(),
            stages: Vec::new(),
            calls: Vec::new(),
            results: Vec::new(),
            stop: None,
            fail_allocation: None,
            allocations: 0,
            stand_ins: false,
            builtin: Vec::new(),
            before_init: None,
            unpacked: Err(DecompressFault::NotBuilt),
            refuses: None,
            protect_fails: None,
            dumps: 0,
            facts: PlainFacts { smp: true, ..PlainFacts::default() },
        }
    }

    /// Adds an export of the kernel image.
    pub fn export(&mut self, name: &[u8], address: u64, crc: Option<u32>, gpl_only: bool, namespace: &[u8]) {
        let namespace = namespace.to_vec();
        self.exports.insert(name.to_vec(), Exported { address, crc, gpl_only, namespace });
    }

    /// The log as text, each line with its level as `<4>`.
    pub fn log_text(&self) -> String {
        self.lines.iter().map(|(level, line)| format!("<{}>{line}\n", *level as u8)).collect()
    }

    /// Nothing that was given out is still held: neither module memory nor general memory nor per-cpu memory.
    pub fn is_clean(&self) -> bool {
        self.modules.is_empty() && self.general.is_empty() && self.percpu.is_empty()
    }

    /// Permissions at an address of module memory.
    pub fn permissions(&self, address: u64) -> Option<Permissions> {
        let (base, block) = self.modules.range(..=address).next_back()?;
        block
            .permissions
            .range(..=address.wrapping_sub(*base))
            .next_back()
            .map(|(_, permissions)| *permissions)
    }

    /// Bytes at an address, if all of them are there.
    pub fn bytes(&self, address: u64, size: usize) -> Option<&[u8]> {
        for blocks in [&self.modules, &self.general] {
            if let Some((base, block)) = blocks.range(..=address).next_back() {
                let start = usize::try_from(address.wrapping_sub(*base)).ok()?;
                let found = block.bytes.get(start..).and_then(|rest| rest.get(..size));
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    fn bytes_mut(&mut self, address: u64, size: usize) -> Option<&mut [u8]> {
        for blocks in [&mut self.modules, &mut self.general] {
            if let Some((base, block)) = blocks.range_mut(..=address).next_back() {
                let start = usize::try_from(address.wrapping_sub(*base)).ok()?;
                if let Some(found) = block.bytes.get_mut(start..).and_then(|rest| rest.get_mut(..size)) {
                    return Some(found);
                }
            }
        }
        None
    }

    fn may_allocate(&mut self, size: u64) -> bool {
        let number = self.allocations;
        self.allocations += 1;
        size <= LIMIT && self.fail_allocation.is_none_or(|fails| number < fails)
    }
}

impl Host for Bookkeeper {
    type Memory = Vec<u8>;

    fn module_alloc(&mut self, _: RegionKind, size: u64) -> Option<(u64, Vec<u8>)> {
        if !self.may_allocate(size) {
            return None;
        }
        let page = self.page;
        let room = size.checked_next_multiple_of(page)?.checked_add(page)?;
        let mut base = self.area.start;
        for (at, block) in &self.modules {
            if at.saturating_sub(base) >= room {
                break;
            }
            let taken = block.size.checked_next_multiple_of(page)?;
            base = at.checked_add(taken)?.checked_add(page)?;
        }
        if base.checked_add(room)? > self.area.end {
            return None;
        }
        self.modules.insert(base, Block { size, bytes: Vec::new(), permissions: BTreeMap::new() });
        Some((base, vec![0; usize::try_from(size).ok()?]))
    }

    fn module_commit(&mut self, region: Region<Vec<u8>>) {
        if let Some(block) = self.modules.get_mut(&region.base) {
            block.bytes = region.bytes;
        }
    }

    fn module_free(&mut self, base: u64) {
        self.modules.remove(&base);
    }

    fn protect(&mut self, base: u64, _: u64, permissions: Permissions) {
        if let Some((start, block)) = self.modules.range_mut(..=base).next_back() {
            block.permissions.insert(base.wrapping_sub(*start), permissions);
        }
    }

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let found = self.bytes(address, bytes.len()).ok_or(Fault { address })?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.bytes_mut(address, bytes.len()).ok_or(Fault { address })?.copy_from_slice(bytes);
        Ok(())
    }

    fn kmalloc(&mut self, size: u64) -> Option<u64> {
        if !self.may_allocate(size) {
            return None;
        }
        let address = self.next_general;
        self.next_general = address.checked_add(size)?.checked_next_multiple_of(64)?.checked_add(64)?;
        let bytes = vec![0; usize::try_from(size).ok()?];
        self.general.insert(address, Block { size, bytes, permissions: BTreeMap::new() });
        Some(address)
    }

    fn kfree(&mut self, address: u64) {
        self.general.remove(&address);
        // The same load gets the same addresses whenever nothing is left of the one before.
        if self.general.is_empty() {
            self.next_general = GENERAL;
        }
    }

    fn percpu_alloc(&mut self, size: u64, align: u64) -> Option<u64> {
        if !self.may_allocate(size) || size > 8192 {
            return None;
        }
        let after = self.percpu.iter().next_back().map_or(0x1000, |(at, bytes)| at + bytes.len() as u64);
        let cookie = after.checked_next_multiple_of(align.max(1))?;
        self.percpu.insert(cookie, vec![0; usize::try_from(size).ok()?]);
        Some(cookie)
    }

    fn percpu_copy(&mut self, cookie: u64, template: &[u8]) {
        if let Some(bytes) = self.percpu.get_mut(&cookie) {
            bytes.iter_mut().zip(template).for_each(|(to, from)| *to = *from);
        }
    }

    fn percpu_free(&mut self, cookie: u64) {
        self.percpu.remove(&cookie);
    }

    fn copy_address(&mut self, _: u64) -> u64 {
        0x2000_0000
    }

    fn kernel_export(&self, name: &[u8]) -> Option<KernelExport<'_>> {
        let export = self.exports.get(name)?;
        Some(KernelExport {
            address: export.address,
            crc: export.crc,
            gpl_only: export.gpl_only,
            namespace: &export.namespace,
        })
    }

    fn stand_in(&mut self, _: &[u8]) -> Option<u64> {
        self.stand_ins.then_some(STAND_INS)
    }

    fn call(
        &mut self,
        _: &mut Kernel,
        callee: Callee,
        address: u64,
        arguments: &[u64],
    ) -> Result<u64, CallError> {
        self.calls.push((callee, address, arguments.to_vec()));
        let result = if self.results.is_empty() { Some(0) } else { self.results.remove(0) };
        result.ok_or(CallError)
    }

    fn log(&mut self, level: Level, line: fmt::Arguments<'_>) {
        if self.lines.len() < LINES_MAX {
            self.lines.push((level, format!("{line}")));
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::End { stage, result, .. } => {
                self.stages.push((*stage, result.err().map_or(0, lkm_module::Errno::raw)));
            }
            Event::BeforeInit { .. } if self.before_init.is_some() => {
                let blocks = self.modules.iter().map(|(&base, block)| (base, block.bytes.clone()));
                self.before_init = Some(blocks.collect());
            }
            _ => {}
        }
    }

    fn go_on(&mut self, stage: Stage) -> bool {
        self.stop != Some(stage)
    }

    fn try_protect(&mut self, base: u64, size: u64, permissions: Permissions) -> Result<(), Errno> {
        match self.protect_fails {
            Some(errno) => Err(errno),
            None => {
                self.protect(base, size, permissions);
                Ok(())
            }
        }
    }

    fn decompress(&mut self, _: Decompress, _: &[u8]) -> Result<Vec<u8>, DecompressFault> {
        self.unpacked.clone()
    }

    fn security(&mut self, hook: Security) -> Result<(), Errno> {
        match self.refuses {
            Some((refused, errno)) if refused == hook => Err(errno),
            _ => Ok(()),
        }
    }

    fn room_for_copy(&mut self, size: u64) -> bool {
        self.may_allocate(size)
    }

    fn dump_stack(&mut self, _: &mut Kernel) {
        self.dumps += 1;
    }

    fn facts(&self) -> &dyn KernelFacts {
        &self.facts
    }

    fn has_builtin(&self, name: &[u8]) -> bool {
        self.builtin.iter().any(|builtin| builtin == name)
    }
}
