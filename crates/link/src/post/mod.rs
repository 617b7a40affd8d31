//! What the kernel changes in a module's bytes after its relocations, in the kernel's order.
//!
//! [`Post::sort_extable`] and [`Post::module_finalize`] belong to `post_relocation`, [`Post::ftrace_module_init`]
//! and [`Post::prepare_coming`] to `load_module` itself. Each rule is one file, works from one table of the module,
//! can be switched off ([`PatchProfile::rules`]) and reports every byte range that it writes
//! ([`PatchObserver`]). What the bytes depend on beside the module is asked of [`KernelFacts`].
//!
//! Tables are trusted by the kernel; here an entry that points outside the module, or at code of another form than
//! it promises, is left alone and reported as a [`PostWarning`].

mod alternatives;
mod arm_alt_smp;
mod arm_pv;
mod extable;
mod facts;
mod ftrace;
mod ibt;
mod jump_label;
mod orc;
mod paravirt;
mod print_fmt;
mod profile;
mod report;
mod retpoline;
mod return_sites;
mod smp_locks;
mod srcu;
mod static_call;
mod trace_events;
mod x86_code;
mod x86_insn;

#[cfg(test)]
mod testing;

use alloc::vec::Vec;
use core::ops::DerefMut;

pub use facts::KernelFacts;
pub use facts::PlainFacts;
pub use facts::PvOp;
pub use facts::Retpolines;
pub use facts::ReturnThunk;
pub use facts::StaticCallTarget;
pub use facts::StaticKey;
pub use facts::Trampoline;
pub use profile::AlternativesForm;
pub use profile::ExtableForm;
pub use profile::OrcForm;
pub use profile::PatchProfile;
pub use profile::SrcuInit;
pub use profile::StructOffsets;
pub use report::MaskRule;
pub use report::PatchObserver;
pub use report::PatchRules;
pub use report::PostError;
pub use report::PostWarning;
pub use report::Rule;
pub use report::WarningKind;

use crate::Arch;
use crate::Image;
use crate::LoadInfo;

/// A module whose relocations are applied, with all that its later patches depend on.
pub struct Post<'a, 'data, B> {
    /// Its memory.
    pub image: &'a mut Image<B>,
    /// Its sections with their final addresses.
    pub info: &'a LoadInfo<'data>,
    /// How this kernel patches.
    pub profile: &'a PatchProfile,
    /// What the kernel knows.
    pub facts: &'a dyn KernelFacts,
    /// Is told of every change.
    pub observer: &'a mut dyn PatchObserver,
}

impl<B> core::fmt::Debug for Post<'_, '_, B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Post").field("profile", self.profile).finish_non_exhaustive()
    }
}

/// A section in module memory, as a table.
#[derive(Clone, Copy, Debug)]
struct Table {
    /// Its kernel address.
    address: u64,
    /// Its bytes.
    size: u64,
}

impl<B: DerefMut<Target = [u8]>> Post<'_, '_, B> {
    /// Sorts the exception table: the first step of `post_relocation`.
    pub fn sort_extable(&mut self) {
        extable::apply(self);
    }

    /// What the architecture changes at the end of `post_relocation`.
    ///
    /// # Errors
    /// [`PostError::SmpModuleOnUp`] on ARM.
    pub fn module_finalize(&mut self) -> Result<(), PostError> {
        match self.info.arch {
            Arch::X86_64 => {
                paravirt::apply(self);
                retpoline::apply(self);
                return_sites::apply(self);
                alternatives::apply(self);
                ibt::apply(self);
                smp_locks::apply(self);
                orc::apply(self);
                Ok(())
            }
            Arch::Arm => {
                // The unwind tables are only registered; their bytes stay.
                arm_pv::apply(self);
                arm_alt_smp::apply(self)
            }
        }
    }

    /// Sorts the profiling call sites and turns them into NOPs.
    pub fn ftrace_module_init(&mut self) {
        ftrace::apply(self);
    }

    /// What the notifiers of the state COMING change: trace events, jump labels, static calls, SRCU.
    ///
    /// # Errors
    /// [`PostError::StaticCallFixup`].
    pub fn prepare_coming(&mut self, coming: Coming) -> Result<(), PostError> {
        jump_label::apply(self);
        static_call::apply(self)?;
        srcu::apply(self);
        if coming.trace_events {
            trace_events::apply(self, coming.this_module);
        }
        Ok(())
    }

    fn on(&self, rule: Rule) -> bool {
        self.profile.rules.contains(rule.set())
    }

    /// The first allocated section of a name, as `find_sec` finds it.
    fn section(&self, name: &str) -> Option<Table> {
        self.sections(name).next()
    }

    /// The last section of a name, as `module_finalize` finds it.
    fn last_section(&self, name: &str) -> Option<Table> {
        self.sections(name).last()
    }

    fn sections(&self, name: &str) -> impl Iterator<Item = Table> {
        let named = move |index: &usize| self.info.section_name(*index) == name.as_bytes();
        (1..self.info.sections.len())
            .filter(named)
            .filter_map(|index| self.info.sections.get(index))
            .filter(|section| section.is_alloc())
            .map(|section| Table { address: section.addr, size: section.size })
    }

    /// A copy of a table's bytes; warns if it is not in module memory.
    fn bytes(&mut self, rule: Rule, table: Table) -> Option<Vec<u8>> {
        if table.size == 0 {
            return None;
        }
        let bytes = usize::try_from(table.size).ok().and_then(|size| self.image.slice(table.address, size));
        match bytes {
            Some(bytes) => Some(bytes.to_vec()),
            None => {
                self.warn(rule, table.address, WarningKind::OutsideModule);
                None
            }
        }
    }

    /// Writes `code` at a kernel address and reports it; warns if it is not in module memory.
    fn patch(&mut self, rule: Rule, address: u64, code: &[u8]) -> bool {
        if code.is_empty() {
            return true;
        }
        let Some(place) = self.image.slice_mut(address, code.len()) else {
            self.warn(rule, address, WarningKind::OutsideModule);
            return false;
        };
        if self.observer.wants_patches() {
            let before = place.to_vec();
            place.copy_from_slice(code);
            self.observer.patched(rule, address, &before, code);
        } else {
            place.copy_from_slice(code);
        }
        true
    }

    fn warn(&mut self, rule: Rule, address: u64, kind: WarningKind) {
        self.observer.warning(PostWarning { rule, address, kind });
    }

    fn mask(&mut self, rule: MaskRule, address: u64, len: usize) {
        self.observer.masked(rule, address, len);
    }

    /// Bytes in a pointer.
    fn word(&self) -> usize {
        self.info.arch.class().pointer_size()
    }

    /// The pointer at a kernel address of the module.
    fn pointer(&self, address: u64) -> Option<u64> {
        let bytes = self.image.slice(address, self.word())?;
        Some(self.info.arch.class().pointer(self.image.endian, bytes))
    }

    /// Writes a pointer.
    fn patch_pointer(&mut self, rule: Rule, address: u64, value: u64) -> bool {
        let endian = self.image.endian;
        if self.word() == 8 {
            self.patch(rule, address, &endian.u64_bytes(value))
        } else {
            self.patch(rule, address, &endian.u32_bytes(value as u32))
        }
    }

    /// Up to 15 bytes of code at a kernel address: as many as there are in its allocation.
    fn code(&self, address: u64) -> Option<&[u8]> {
        let at = self.image.locate(address)?;
        let region = self.image.region(at.region)?;
        let len = region.layout.size.saturating_sub(at.offset).min(15);
        self.image.slice(address, len as usize)
    }

    /// Whether an address is in memory that is given back after init.
    fn within_init(&self, address: u64) -> bool {
        self.image.locate(address).is_some_and(|at| at.region.is_init())
    }
}

/// What the notifiers need beside the module's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coming {
    /// Address of the module's `struct module`.
    pub this_module: u64,
    /// Its trace events are registered: it has no taint beside O, C, E, N and livepatch.
    pub trace_events: bool,
}

/// The signed 32-bit number at an offset in little-endian bytes; 0 past the end.
fn s32(bytes: &[u8], offset: usize) -> i32 {
    match bytes.get(offset..).and_then(|rest| rest.first_chunk::<4>()) {
        Some(chunk) => i32::from_le_bytes(*chunk),
        None => 0,
    }
}

/// What a 32-bit number at `field` refers to when it is relative to its own address.
fn relative(field: u64, offset: i32) -> u64 {
    field.wrapping_add(offset as i64 as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::strategy::Union;

    use super::testing::Bed;
    use super::testing::Record;
    use super::*;

    const TABLES: [&str; 20] = [
        ".text",
        "__ex_table",
        ".parainstructions",
        ".retpoline_sites",
        ".return_sites",
        ".altinstructions",
        ".ibt_endbr_seal",
        ".smp_locks",
        ".orc_unwind_ip",
        ".orc_unwind",
        ".pv_table",
        ".alt.smp.init",
        "__mcount_loc",
        "_ftrace_events",
        "_ftrace_eval_map",
        "__jump_table",
        ".static_call_sites",
        "___srcu_struct_ptrs",
        // A second one of a name that is looked up last.
        ".orc_unwind",
        ".altinstructions",
    ];

    /// Facts with an answer to everything, so that as much as possible is written.
    #[derive(Debug)]
    struct Yes(u64);

    impl KernelFacts for Yes {
        fn symbol(&self, _: &str) -> Option<u64> {
            Some(self.0)
        }
        fn cpu_has(&self, number: u16) -> bool {
            number & 1 == 0
        }
        fn pv_op(&self, number: u8) -> Option<PvOp> {
            Some(if number & 1 == 0 { PvOp::Nop } else { PvOp::Call(self.0) })
        }
        fn pv_slot(&self, address: u64) -> Option<PvOp> {
            self.pv_op(address as u8)
        }
        fn retpolines(&self) -> Retpolines {
            Retpolines::Indirect { lfence: self.0 & 1 == 0, its: self.0 & 2 == 0 }
        }
        fn its_page(&self, index: usize) -> Option<u64> {
            (index < 2).then_some(self.0)
        }
        fn return_thunk(&self) -> ReturnThunk {
            ReturnThunk::ItsThunk(self.0)
        }
        fn up_patched(&self) -> bool {
            true
        }
        fn is_smp(&self) -> bool {
            false
        }
        fn pv_offset(&self) -> Option<i64> {
            Some(self.0 as i64)
        }
        fn static_key(&self, _: u64) -> Option<StaticKey> {
            Some(StaticKey { enabled: true, initially: false })
        }
        fn static_call(&self, key: u64) -> Option<StaticCallTarget> {
            Some(if key & 16 == 0 { StaticCallTarget::Func(self.0) } else { StaticCallTarget::Return0 })
        }
        fn static_call_trampoline(&self, address: u64) -> Trampoline {
            if address & 32 == 0 { Trampoline::Key(self.0) } else { Trampoline::NotText }
        }
    }

    /// Bytes that are often small numbers, pointers into the module, or instructions that sites hold.
    fn content(core: u64) -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            any::<[u8; 8]>(),
            (0u64..0x1_0000).prop_map(u64::to_le_bytes),
            (0u64..0x1_0100).prop_map(move |offset| core.wrapping_add(offset).to_le_bytes()),
            Just([0xe9, 0, 0, 0, 0, 0xff, 0x15, 0x90]),
            Just([0x0f, 0x84, 0x90, 0x90, 0x90, 0x90, 0xe8, 0]),
            Just(*b"NAME + N"),
            Just([0; 8]),
        ];
        prop::collection::vec(word, 1..64).prop_map(|words| words.concat())
    }

    fn bed() -> impl Strategy<Value = Bed> {
        (any::<bool>(), content(Bed::X86_CORE), content(Bed::ARM_CORE)).prop_flat_map(|(x86, a, b)| {
            let (arch, core, fill) =
                if x86 { (Arch::X86_64, Bed::X86_CORE, a) } else { (Arch::Arm, Bed::ARM_CORE, b) };
            let tables = TABLES.map(|name| {
                let address = prop_oneof![
                    4 => (0u64..0x1000).prop_map(move |word| core + 8 * word),
                    1 => (0xff00u64..0x10100).prop_map(move |offset| core + offset),
                    1 => any::<u64>(),
                ];
                let size = prop_oneof![6 => 0u64..600, 1 => 0u64..0x11000, 1 => any::<u64>()];
                (Just(name), address, size, content(core))
            });
            (prop::collection::vec(Union::new(tables.map(Strategy::boxed)), 1..24), Just(fill)).prop_map(
                move |(tables, fill)| {
                    let mut bed = Bed::new(arch);
                    for region in &mut bed.image.regions {
                        for (slot, byte) in region.bytes.iter_mut().zip(fill.iter().cycle()) {
                            *slot = *byte;
                        }
                    }
                    for (name, address, size, bytes) in tables {
                        if bed.image.slice(address, bytes.len()).is_some() {
                            bed.put(address, &bytes);
                        }
                        bed.raw_section(name, address, size);
                    }
                    bed
                },
            )
        })
    }

    impl core::fmt::Debug for Bed {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            write!(f, "{:?} {:x?}", self.arch, self.image)
        }
    }

    proptest! {
        /// Whatever the tables say, all stages end, and what was reported is exactly what was changed.
        #[test]
        fn any_tables(mut bed in bed(), fact in any::<u64>(), variant in 0..4) {
            let profile = match (bed.arch, variant) {
                (Arch::X86_64, 0 | 1) => PatchProfile::x86_64_6_1(),
                (Arch::X86_64, _) => PatchProfile::x86_64_6_12(),
                (Arch::Arm, _) => PatchProfile {
                    thumb2: variant & 1 == 1,
                    lpae: variant & 2 == 2,
                    ..PatchProfile::arm_6_1()
                },
            };
            let profile = PatchProfile { rules: PatchRules::all(), ..profile };
            let before: Vec<Vec<u8>> = bed.image.regions.iter().map(|region| region.bytes.clone()).collect();
            let _ = bed.run_all(&profile, &Yes(fact));
            let after: Vec<Vec<u8>> = bed.image.regions.iter().map(|region| region.bytes.clone()).collect();
            for (region, bytes) in bed.image.regions.iter_mut().zip(before) {
                region.bytes = bytes;
            }
            let Record { patches, .. } = core::mem::take(&mut bed.record);
            for (rule, address, old, new) in patches {
                prop_assert_eq!(bed.get(address, old.len()), &old, "{}", rule.name());
                bed.put(address, &new);
            }
            let replayed: Vec<Vec<u8>> = bed.image.regions.iter().map(|region| region.bytes.clone()).collect();
            prop_assert!(replayed == after);
        }
    }

    #[test]
    fn switched_off_rules_change_nothing() {
        let mut runner = proptest::test_runner::TestRunner::default();
        runner
            .run(&bed(), |mut bed| {
                let base = match bed.arch {
                    Arch::X86_64 => PatchProfile::x86_64_6_1(),
                    Arch::Arm => PatchProfile::arm_6_1(),
                };
                let before: Vec<Vec<u8>> =
                    bed.image.regions.iter().map(|region| region.bytes.clone()).collect();
                bed.run_all(&PatchProfile { rules: PatchRules::empty(), ..base }, &Yes(0)).unwrap();
                for (region, bytes) in bed.image.regions.iter().zip(before) {
                    prop_assert!(region.bytes == bytes);
                }
                Ok(())
            })
            .unwrap();
    }
}
