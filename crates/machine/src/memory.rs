//! Where things lie in the guest's address space: the ranges that the architecture's own kernel uses.

use core::ops::Range;

use lkm_link::Arch;

/// Bytes in a page on both architectures.
pub(crate) const PAGE: u64 = 4096;

/// The address space of one architecture.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Module memory (`MODULES_VADDR` to `MODULES_END`).
    pub(crate) modules: Range<u64>,
    /// Functions of the kernel image: one slot each, nothing mapped. Close enough to the modules for their calls.
    pub(crate) functions: Range<u64>,
    /// Data of the kernel image.
    pub(crate) data: Range<u64>,
    /// Slab memory, in the linear mapping.
    pub(crate) slab: Range<u64>,
    /// `vmalloc` memory.
    pub(crate) vmalloc: Range<u64>,
    /// Stack of the one task.
    pub(crate) stack: Range<u64>,
    /// The per-cpu area of the one CPU.
    pub(crate) percpu: Range<u64>,
    /// Added to the address of a per-cpu variable to reach the CPU's copy: `__per_cpu_offset[0]`.
    pub(crate) percpu_offset: u64,
    /// Where the buffers of a user program are.
    pub(crate) user: Range<u64>,
}

/// Distance between two function slots; functions of the kernel are aligned to this, too.
pub(crate) const SLOT: u64 = 16;

const fn range(base: u64, size: u64) -> Range<u64> {
    base..base + size
}

const MIB: u64 = 1 << 20;

impl Plan {
    pub(crate) const fn of(arch: Arch) -> Plan {
        match arch {
            Arch::X86_64 => Plan {
                modules: 0xffff_ffff_c000_0000..0xffff_ffff_ff00_0000,
                functions: range(0xffff_ffff_8100_0000, 16 * MIB),
                data: range(0xffff_ffff_8240_0000, 4 * MIB),
                slab: range(0xffff_8881_0000_0000, 64 * MIB),
                vmalloc: range(0xffff_c900_0010_0000, 128 * MIB),
                stack: range(0xffff_c900_0000_4000, 0x4000),
                // Variables of the kernel image are offsets from 0 here; module variables follow them.
                percpu: range(0xffff_8880_7dc0_0000, 0x4_0000),
                percpu_offset: 0xffff_8880_7dc0_0000,
                user: range(0x5555_5555_4000, 4 * MIB),
            },
            Arch::Arm => Plan {
                modules: 0xbf00_0000..0xbfe0_0000,
                functions: range(0xc030_0000, 12 * MIB),
                data: range(0xc140_0000, 4 * MIB),
                slab: range(0xc400_0000, 48 * MIB),
                vmalloc: range(0xf080_0000, 64 * MIB),
                stack: range(0xf000_2000, 0x2000),
                percpu: range(0xdf40_0000, 0x4_0000),
                // The image's variables are at 0xc1c00000 and the copy is elsewhere, as on a kernel with SMP.
                percpu_offset: 0xdf40_0000 - 0xc1c0_0000,
                user: range(0x0001_0000, 4 * MIB),
            },
        }
    }

    /// The cookie of an offset in the per-cpu area: what a module's per-cpu symbols are relative to.
    pub(crate) const fn percpu_cookie(&self, offset: u64) -> u64 {
        self.percpu.start.wrapping_add(offset).wrapping_sub(self.percpu_offset)
    }
}

/// Rounds up to whole pages; `None` if that wraps.
pub(crate) fn pages(size: u64) -> Option<u64> {
    Some(size.checked_add(PAGE - 1)? & !(PAGE - 1))
}

/// First-fit allocation of address ranges, with a guard page behind each as `vmalloc` leaves one.
#[derive(Debug)]
pub(crate) struct Ranges {
    area: Range<u64>,
    used: std::collections::BTreeMap<u64, u64>,
}

impl Ranges {
    pub(crate) fn new(area: Range<u64>) -> Ranges {
        Ranges { area, used: std::collections::BTreeMap::new() }
    }

    /// Takes whole pages.
    pub(crate) fn take(&mut self, size: u64) -> Option<u64> {
        let size = pages(size.max(1))?;
        let mut at = self.area.start;
        for (&start, &used) in &self.used {
            if start.checked_sub(at)? >= size.checked_add(PAGE)? {
                break;
            }
            at = start.checked_add(used)?.checked_add(PAGE)?;
        }
        if at.checked_add(size)? > self.area.end {
            return None;
        }
        self.used.insert(at, size);
        Some(at)
    }

    /// Gives a range back: its size.
    pub(crate) fn give(&mut self, base: u64) -> Option<u64> {
        self.used.remove(&base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_range_of_a_plan_overlaps_another() {
        for arch in [Arch::X86_64, Arch::Arm] {
            let plan = Plan::of(arch);
            let mut ranges = [
                &plan.modules,
                &plan.functions,
                &plan.data,
                &plan.slab,
                &plan.vmalloc,
                &plan.stack,
                &plan.percpu,
                &plan.user,
            ];
            ranges.sort_by_key(|range| range.start);
            for pair in ranges.windows(2) {
                assert!(pair[0].end <= pair[1].start, "{pair:x?}");
            }
            assert_eq!(
                plan.percpu_cookie(0).wrapping_add(plan.percpu_offset) & arch_mask(arch),
                plan.percpu.start
            );
        }
    }

    fn arch_mask(arch: Arch) -> u64 {
        if arch == Arch::Arm { 0xffff_ffff } else { u64::MAX }
    }

    #[test]
    fn ranges_are_first_fit_with_a_guard_page() {
        let mut ranges = Ranges::new(0x1_0000..0x2_0000);
        assert_eq!(ranges.take(1), Some(0x1_0000));
        assert_eq!(ranges.take(0x2001), Some(0x1_2000));
        assert_eq!(ranges.take(0x1000), Some(0x1_6000));
        assert_eq!(ranges.give(0x1_2000), Some(0x3000));
        assert_eq!(ranges.take(0x2000), Some(0x1_2000));
        assert_eq!(ranges.take(0x9000), None);
        assert_eq!(ranges.take(u64::MAX), None);
    }
}
