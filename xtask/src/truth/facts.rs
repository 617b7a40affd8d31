//! What the linker has to know of a running kernel, read out of its memory.

use std::collections::BTreeSet;
use std::ops::Range;

use lkm_link::Arch;
use lkm_link::post::KernelFacts;
use lkm_link::post::PvOp;
use lkm_link::post::Retpolines;
use lkm_link::post::ReturnThunk;
use lkm_link::post::StaticCallTarget;
use lkm_link::post::StaticKey;
use lkm_link::post::Trampoline;
use lkm_module::elf::Elf;

use super::Result;
use super::memory::KernelMemory;
use super::qemu::Machine;
use super::store;
use super::store::ModuleCapture;

/// Keys of static branches and static calls outside a module that its tables name, as they stand right before its
/// init function.
pub(crate) fn outside_keys(
    arch: Arch,
    file: &[u8],
    core: &[u8],
    seen: &ModuleCapture,
) -> Result<BTreeSet<u64>> {
    let elf = Elf::parse(file).map_err(|error| format!("{error:?}"))?;
    let mut keys = BTreeSet::new();
    let part = seen.core;
    for (section, &address) in elf.sections.iter().zip(&seen.sections) {
        let name = elf.section_name(section);
        let start = address.wrapping_sub(part.base) as usize;
        let table = core.get(start..start.saturating_add(section.size as usize)).unwrap_or_default();
        let place = |offset: usize| address + offset as u64;
        match (arch, name) {
            (Arch::X86_64, b"__jump_table") => {
                for (index, entry) in table.chunks_exact(16).enumerate() {
                    let key = i64::from_le_bytes(entry[8..].try_into().unwrap_or_default());
                    keys.insert(place(16 * index + 8).wrapping_add_signed(key) & !3);
                }
            }
            (Arch::X86_64, b".static_call_sites") => {
                for (index, entry) in table.chunks_exact(8).enumerate() {
                    let key = i32::from_le_bytes(entry[4..].try_into().unwrap_or_default());
                    keys.insert(place(8 * index + 4).wrapping_add_signed(i64::from(key)) & !3);
                }
            }
            (Arch::Arm, b"__jump_table") => {
                for entry in table.chunks_exact(12) {
                    keys.insert(
                        u64::from(u32::from_le_bytes(entry[8..].try_into().unwrap_or_default())) & !3,
                    );
                }
            }
            _ => {}
        }
    }
    keys.retain(|&key| key.wrapping_sub(part.base) >= part.size);
    Ok(keys)
}

/// What a live kernel answers to the linker's questions about one module.
#[derive(Debug)]
pub(crate) struct LiveFacts<'a> {
    kernel: &'a KernelMemory,
    seen: &'a ModuleCapture,
    /// Code of the modules that are loaded.
    module_text: Vec<Range<u64>>,
    machine: Machine,
}

/// `X86_FEATURE_RETPOLINE` and its kin in 6.1: word times 32 plus bit.
const RETPOLINE: u16 = 11 * 32 + 12;
const RETPOLINE_LFENCE: u16 = 11 * 32 + 13;
const RETHUNK: u16 = 11 * 32 + 14;
/// ARM's `sev`, which a kernel that found hardware without SMP has replaced by a NOP.
const SEV: u32 = 0xe320_f004;
/// ARM: where kernel addresses start (`PAGE_OFFSET`).
const PAGE_OFFSET: i64 = 0xc000_0000;

impl<'a> LiveFacts<'a> {
    pub(crate) fn new(
        kernel: &'a KernelMemory,
        seen: &'a ModuleCapture,
        module_text: Vec<Range<u64>>,
        machine: Machine,
    ) -> LiveFacts<'a> {
        LiveFacts { kernel, seen, module_text, machine }
    }

    /// `boot_cpu_data.x86_capability`: behind `extended_cpuid_level` (0x8000....) and `cpuid_level`, aligned as a long.
    fn capabilities(&self) -> Option<u64> {
        let data = self.kernel.symbol("boot_cpu_data")?;
        let level = (data..data + 64).step_by(4).find(|&at| {
            let extended = self.kernel.u32(at).is_some_and(|level| level & 0xffff_ff00 == 0x8000_0000);
            extended && self.kernel.u32(at + 4).is_some_and(|level| level < 0x100)
        })?;
        Some((level + 8).next_multiple_of(8))
    }

    /// The `index`th word at an address outside the module that was kept for it.
    fn peek(&self, address: u64, index: usize) -> Option<u64> {
        let bytes = store::unhex(self.seen.peeks.get(&address)?);
        match self.kernel.arch {
            Arch::X86_64 => bytes.get(8 * index..8 * index + 8)?.try_into().ok().map(u64::from_le_bytes),
            Arch::Arm => {
                bytes.get(4 * index..4 * index + 4)?.try_into().ok().map(u32::from_le_bytes).map(u64::from)
            }
        }
    }
}

impl KernelFacts for LiveFacts<'_> {
    fn symbol(&self, name: &str) -> Option<u64> {
        self.kernel.symbol(name)
    }

    fn cpu_has(&self, number: u16) -> bool {
        let word = self.capabilities().and_then(|at| self.kernel.u32(at + 4 * u64::from(number / 32)));
        word.is_some_and(|word| word >> (number % 32) & 1 == 1)
    }

    fn pv_op(&self, number: u8) -> Option<PvOp> {
        let function = self.kernel.u64(self.kernel.symbol("pv_ops")? + 8 * u64::from(number))?;
        Some(if Some(function) == self.kernel.symbol("_paravirt_nop") {
            PvOp::Nop
        } else {
            PvOp::Call(function)
        })
    }

    fn pv_slot(&self, _: u64) -> Option<PvOp> {
        None
    }

    fn retpolines(&self) -> Retpolines {
        match (self.cpu_has(RETPOLINE), self.cpu_has(RETPOLINE_LFENCE)) {
            (true, false) => Retpolines::Keep,
            (_, lfence) => Retpolines::Indirect { lfence, its: false },
        }
    }

    fn return_thunk(&self) -> ReturnThunk {
        let thunk = || self.kernel.u64(self.kernel.symbol("x86_return_thunk")?);
        let its = self.kernel.symbol("its_return_thunk");
        match thunk() {
            Some(thunk) if self.cpu_has(RETHUNK) && Some(thunk) == its => ReturnThunk::ItsThunk(thunk),
            Some(thunk) if self.cpu_has(RETHUNK) => ReturnThunk::Thunk(thunk),
            _ => ReturnThunk::Ret,
        }
    }

    fn up_patched(&self) -> bool {
        self.kernel
            .symbol("uniproc_patched")
            .and_then(|at| self.kernel.u8(at))
            .is_some_and(|patched| patched != 0)
    }

    fn is_smp(&self) -> bool {
        let unlock =
            self.kernel.symbol("_raw_spin_unlock_irqrestore").and_then(|at| self.kernel.slice(at, 96));
        unlock.is_none_or(|code| code.chunks_exact(4).any(|word| word == SEV.to_le_bytes()))
    }

    fn pv_offset(&self) -> Option<i64> {
        Some(self.machine.memory() as i64 - PAGE_OFFSET)
    }

    fn static_key(&self, address: u64) -> Option<StaticKey> {
        // struct static_key: an int, then a pointer with the type in its lowest bits.
        let enabled = self.peek(address, 0)? as u32 as i32 > 0;
        Some(StaticKey { enabled, initially: self.peek(address, 1)? & 1 == 1 })
    }

    fn static_call(&self, key: u64) -> Option<StaticCallTarget> {
        let function = self.peek(key, 0)?;
        Some(match function {
            0 => StaticCallTarget::Null,
            _ if Some(function) == self.kernel.symbol("__static_call_return0") => StaticCallTarget::Return0,
            _ => StaticCallTarget::Func(function),
        })
    }

    fn static_call_trampoline(&self, address: u64) -> Trampoline {
        let bounds = |start, end| Some(self.kernel.symbol(start)?..self.kernel.symbol(end)?);
        let text = bounds("_stext", "_etext").is_some_and(|text| text.contains(&address));
        if !text && !self.module_text.iter().any(|text| text.contains(&address)) {
            return Trampoline::NotText;
        }
        let table = bounds("__start_static_call_tramp_key", "__stop_static_call_tramp_key").unwrap_or(0..0);
        let mut entries = table.step_by(8);
        let entry = entries.find(|&entry| self.kernel.relative(entry) == Some(address));
        entry.and_then(|entry| self.kernel.relative(entry + 4)).map_or(Trampoline::Unknown, Trampoline::Key)
    }
}
