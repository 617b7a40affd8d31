//! A host for the loader that answers as the captured kernel did: the same addresses, exports and facts.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;

use lkm_kernel::CallError;
use lkm_kernel::Callee;
use lkm_kernel::Event;
use lkm_kernel::Fault;
use lkm_kernel::Host;
use lkm_kernel::Kernel;
use lkm_kernel::KernelExport;
use lkm_kernel::Permissions;
use lkm_kernel::RegionKind;
use lkm_link::LoadInfo;
use lkm_link::Region;
use lkm_link::image::RegionLayout;
use lkm_link::post::KernelFacts;
use lkm_link::relocate::RelocEvent;
use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::signature::AppendedSignature;

use super::facts::LiveFacts;
use super::memory::Export;
use super::store::ModuleCapture;

/// Where general memory is handed out.
const HEAP_64: u64 = 0xffff_8880_7000_0000;
const HEAP_32: u64 = 0xe000_0000;

/// A part of a module as it was at some moment.
#[derive(Clone, Debug)]
pub(crate) struct PartBytes {
    pub(crate) layout: RegionLayout,
    pub(crate) base: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A section header with its final address.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) allocated: bool,
}

/// What the loader did with one module.
#[derive(Debug, Default)]
pub(crate) struct Linked {
    pub(crate) sections: Vec<Section>,
    /// Index of the section with `struct module`.
    pub(crate) this_module: usize,
    /// Memory after the relocations.
    pub(crate) relocated: Vec<PartBytes>,
    /// Memory right before the init function.
    pub(crate) before_init: Vec<PartBytes>,
    pub(crate) relocations: usize,
    /// It uses symbols of other modules.
    pub(crate) uses_others: bool,
    /// Places of a few relocations that changed something.
    pub(crate) places: Vec<u64>,
    /// Who wrote how many bytes where.
    pub(crate) written: Vec<(&'static str, u64, usize)>,
    /// Which places are run-time state, and why.
    pub(crate) masked: Vec<(&'static str, u64, usize)>,
    /// Entries that were left alone.
    pub(crate) warnings: Vec<String>,
    /// Lines for the kernel's log.
    pub(crate) log: Vec<String>,
}

/// The host.
pub(crate) struct Replay<'a> {
    exports: &'a HashMap<Vec<u8>, Export>,
    seen: &'a ModuleCapture,
    facts: LiveFacts<'a>,
    /// Committed module memory and general memory.
    memory: BTreeMap<u64, Vec<u8>>,
    heap: u64,
    /// What is known of the module that is being loaded.
    pub(crate) linked: Linked,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(
        exports: &'a HashMap<Vec<u8>, Export>,
        seen: &'a ModuleCapture,
        facts: LiveFacts<'a>,
    ) -> Replay<'a> {
        let heap = if seen.core.base > u64::from(u32::MAX) { HEAP_64 } else { HEAP_32 };
        Replay { exports, seen, facts, memory: BTreeMap::new(), heap, linked: Linked::default() }
    }

    /// Goes on with another module.
    pub(crate) fn next(&mut self, seen: &'a ModuleCapture, facts: LiveFacts<'a>) {
        (self.seen, self.facts, self.linked) = (seen, facts, Linked::default());
    }

    /// The bytes from an address to the end of its block.
    fn block(&self, address: u64) -> Option<(u64, usize)> {
        let (&base, bytes) = self.memory.range(..=address).next_back()?;
        let offset = usize::try_from(address - base).ok()?;
        (offset < bytes.len()).then_some((base, offset))
    }

    fn sections(&mut self, info: &LoadInfo<'_>) {
        let sections = info.sections.iter().enumerate().map(|(index, section)| Section {
            name: String::from_utf8_lossy(info.section_name(index)).into_owned(),
            address: section.addr,
            size: section.size,
            allocated: section.is_alloc(),
        });
        self.linked.sections = sections.collect();
        self.linked.this_module = info.index.this_module;
        if let Some(symtab) = info.symtab {
            // The kept tables end the core, all symbols end the init part.
            let kept = symtab.core_symtab.offset;
            let all = info.placement.get(info.index.sym).copied().flatten().map_or(u64::MAX, |at| at.offset);
            for part in &self.linked.relocated {
                let from = if part.layout.kind == RegionKind::Init { all } else { kept };
                let size = part.layout.size.saturating_sub(from);
                self.linked.written.push(("kallsyms", part.base.wrapping_add(from), size as usize));
            }
        }
    }
}

impl Host for Replay<'_> {
    type Memory = Vec<u8>;

    fn module_alloc(&mut self, kind: RegionKind, size: u64) -> Option<(u64, Vec<u8>)> {
        let base = if kind == RegionKind::Init { self.seen.init.base } else { self.seen.core.base };
        Some((base, vec![0; usize::try_from(size).ok()?]))
    }

    fn module_commit(&mut self, region: Region<Vec<u8>>) {
        self.memory.insert(region.base, region.bytes);
    }

    fn module_free(&mut self, base: u64) {
        self.memory.remove(&base);
    }

    fn protect(&mut self, _: u64, _: u64, _: Permissions) {}

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let (base, offset) = self.block(address).ok_or(Fault { address })?;
        let from = self.memory.get(&base).and_then(|block| block.get(offset..offset + bytes.len()));
        bytes.copy_from_slice(from.ok_or(Fault { address })?);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        let (base, offset) = self.block(address).ok_or(Fault { address })?;
        let to = self.memory.get_mut(&base).and_then(|block| block.get_mut(offset..offset + bytes.len()));
        to.ok_or(Fault { address })?.copy_from_slice(bytes);
        Ok(())
    }

    fn kmalloc(&mut self, size: u64) -> Option<u64> {
        let address = self.heap;
        self.heap += size.next_multiple_of(64).max(64);
        self.memory.insert(address, vec![0; usize::try_from(size).ok()?]);
        Some(address)
    }

    fn kfree(&mut self, address: u64) {
        self.memory.remove(&address);
    }

    fn percpu_alloc(&mut self, _: u64, _: u64) -> Option<u64> {
        Some(self.seen.percpu)
    }

    fn percpu_copy(&mut self, _: u64, _: &[u8]) {}

    fn percpu_free(&mut self, _: u64) {}

    fn copy_address(&mut self, _: u64) -> u64 {
        self.seen.copy
    }

    fn kernel_export(&self, name: &[u8]) -> Option<KernelExport<'_>> {
        let export = self.exports.get(name)?;
        Some(KernelExport {
            address: export.address,
            crc: Some(export.crc),
            gpl_only: export.gpl_only,
            namespace: &export.namespace,
        })
    }

    fn call(&mut self, _: &mut Kernel, callee: Callee, _: u64, _: &[u64]) -> Result<u64, CallError> {
        Ok(if callee == Callee::Init { self.seen.result as u64 } else { 0 })
    }

    fn log(&mut self, level: Level, line: fmt::Arguments<'_>) {
        self.linked.log.push(format!("<{}>{line}", level as u8));
    }

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Relocated { info, image } => {
                let part = |region: &lkm_kernel::ImageRegion<'_>| PartBytes {
                    layout: region.layout,
                    base: region.base,
                    bytes: region.bytes.to_vec(),
                };
                self.linked.relocated = image.regions.iter().map(part).collect();
                self.sections(info);
            }
            Event::Patches { patches, masks, warnings, .. } => {
                let written =
                    patches.iter().map(|patch| (patch.rule.name(), patch.address, patch.after.len()));
                self.linked.written.extend(written);
                self.linked
                    .masked
                    .extend(masks.iter().map(|mask| (mask.rule.name(), mask.address, mask.len)));
                self.linked.warnings.extend(warnings.iter().map(ToString::to_string));
            }
            Event::BeforeInit { module } => {
                self.linked.uses_others = !module.uses.is_empty();
                let now = |part: &PartBytes| PartBytes {
                    bytes: self.memory.get(&part.base).cloned().unwrap_or_default(),
                    ..*part
                };
                self.linked.before_init = self.linked.relocated.iter().map(now).collect();
            }
            _ => {}
        }
    }

    fn wants_relocations(&self) -> bool {
        true
    }

    fn relocated(&mut self, event: &RelocEvent<'_>) {
        self.linked.relocations += 1;
        if self.linked.relocations.is_power_of_two() && event.before != event.after {
            self.linked.places.push(event.place);
        }
    }

    fn wants_patches(&self) -> bool {
        true
    }

    fn facts(&self) -> &dyn KernelFacts {
        &self.facts
    }

    /// Debian signs its modules, and its kernels know the key.
    fn verify_signature(&mut self, _: &AppendedSignature<'_>) -> Result<(), Errno> {
        Ok(())
    }
}
