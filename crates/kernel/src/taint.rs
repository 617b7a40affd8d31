//! Taints: reasons why a kernel, or one module, is no longer as its authors know it.

use alloc::string::String;
use core::fmt::Arguments;

use lkm_module::Level;

use crate::Host;
use crate::Kernel;
use crate::ModuleId;

bitflags::bitflags! {
    /// Taint bits, numbered as `/proc/sys/kernel/tainted` has them.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Taints: u64 {
        /// `P`: a proprietary module.
        const PROPRIETARY_MODULE = 1 << 0;
        /// `F`: a module was loaded by force.
        const FORCED_MODULE = 1 << 1;
        /// `S`: a CPU out of its specification.
        const CPU_OUT_OF_SPEC = 1 << 2;
        /// `R`: a module was removed by force.
        const FORCED_RMMOD = 1 << 3;
        /// `U`: user space asked for it, as with an unsafe parameter.
        const USER = 1 << 6;
        /// `D`: the kernel has oopsed.
        const DIE = 1 << 7;
        /// `W`: a warning was printed.
        const WARN = 1 << 9;
        /// `C`: a module from the staging directory.
        const CRAP = 1 << 10;
        /// `O`: a module built outside the kernel tree.
        const OOT_MODULE = 1 << 12;
        /// `E`: a module without a good signature.
        const UNSIGNED_MODULE = 1 << 13;
        /// `L`: a soft lockup.
        const SOFTLOCKUP = 1 << 14;
        /// `K`: a live patch.
        const LIVEPATCH = 1 << 15;
        /// `X`: for use by distributions.
        const AUX = 1 << 16;
        /// `T`: structure layout randomised.
        const RANDSTRUCT = 1 << 17;
        /// `N`: a test module.
        const TEST = 1 << 18;
    }
}

/// Letters that a module can carry, in the order of their bits (from 4.10).
const BIT_ORDER: &[(Taints, char)] = &[
    (Taints::PROPRIETARY_MODULE, 'P'),
    (Taints::FORCED_MODULE, 'F'),
    (Taints::CRAP, 'C'),
    (Taints::OOT_MODULE, 'O'),
    (Taints::UNSIGNED_MODULE, 'E'),
    (Taints::LIVEPATCH, 'K'),
    (Taints::AUX, 'X'),
    (Taints::RANDSTRUCT, 'T'),
    (Taints::TEST, 'N'),
];

/// The order up to 4.9.
const OLD_ORDER: &[(Taints, char)] = &[
    (Taints::PROPRIETARY_MODULE, 'P'),
    (Taints::OOT_MODULE, 'O'),
    (Taints::FORCED_MODULE, 'F'),
    (Taints::CRAP, 'C'),
    (Taints::UNSIGNED_MODULE, 'E'),
    (Taints::LIVEPATCH, 'K'),
];

/// All letters of a kernel's taints in the order of their bits; a clean position shows a blank, the first a `G`.
const KERNEL_ORDER: &[(u32, char)] = &[
    (0, 'P'),
    (1, 'F'),
    (2, 'S'),
    (3, 'R'),
    (4, 'M'),
    (5, 'B'),
    (6, 'U'),
    (7, 'D'),
    (8, 'A'),
    (9, 'W'),
    (10, 'C'),
    (11, 'I'),
    (12, 'O'),
    (13, 'E'),
    (14, 'L'),
    (15, 'K'),
    (16, 'X'),
    (17, 'T'),
    (18, 'N'),
];

/// In which order the letters of a module's taints are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaintOrder {
    /// P O F C E K, up to 4.9.
    Old,
    /// By bit number, from 4.10.
    Bits,
}

impl Taints {
    /// The letters of a module's taints, as `/proc/modules` and `/sys/module/X/taint` show them.
    pub fn letters(self, order: TaintOrder) -> String {
        let table = match order {
            TaintOrder::Old => OLD_ORDER,
            TaintOrder::Bits => BIT_ORDER,
        };
        table.iter().filter(|row| self.contains(row.0)).map(|row| row.1).collect()
    }

    /// The words of an oops: `Not tainted`, or `Tainted: G           OE` with one column a bit.
    pub fn print_tainted(self) -> String {
        if self.is_empty() {
            return String::from("Not tainted");
        }
        let mut text = String::from("Tainted: ");
        for &(bit, letter) in KERNEL_ORDER {
            text.push(match (self.bits() >> bit & 1 != 0, bit) {
                (true, _) => letter,
                (false, 0) => 'G',
                (false, _) => ' ',
            });
        }
        text
    }
}

/// Whether a taint makes lock debugging worthless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lockdep {
    StillOk,
    NowUnreliable,
}

impl Kernel {
    /// `add_taint`: taints the kernel. The first taint that makes lock debugging unreliable switches it off.
    pub(crate) fn add_taint<H: Host>(&mut self, host: &mut H, taint: Taints, lockdep: Lockdep) {
        if lockdep == Lockdep::NowUnreliable && self.once.first_taint_of_lockdep() {
            host.log(Level::Warning, format_args!("Disabling lock debugging due to kernel taint"));
        }
        self.taints |= taint;
    }

    /// `add_taint_module`: taints the kernel and a module.
    pub(crate) fn add_taint_module<H: Host>(
        &mut self,
        host: &mut H,
        module: &mut Taints,
        taint: Taints,
        lockdep: Lockdep,
    ) {
        self.add_taint(host, taint, lockdep);
        *module |= taint;
    }

    /// Prints a line only if the kernel does not carry the taint yet.
    pub(crate) fn log_first<H: Host>(&self, host: &mut H, taint: Taints, line: Arguments<'_>) {
        if !self.taints.contains(taint) {
            host.log(Level::Warning, line);
        }
    }

    /// `security_locked_down()` refused something.
    pub(crate) fn log_lockdown<H: Host>(&self, host: &mut H, what: &str) {
        let comm = String::from(host.comm());
        host.log(
            Level::Notice,
            format_args!("Lockdown: {comm}: {what} is restricted; see man kernel_lockdown.7"),
        );
    }

    /// `WARN()`: a line between two marks with the state of the kernel behind it, which taints.
    pub(crate) fn warn<H: Host>(&mut self, host: &mut H, line: Arguments<'_>) {
        host.log(Level::Warning, format_args!("------------[ cut here ]------------"));
        host.log(Level::Warning, line);
        host.dump_stack(self);
        host.log(Level::Warning, format_args!("---[ end trace 0000000000000000 ]---"));
        self.add_taint(host, Taints::WARN, Lockdep::StillOk);
    }

    /// Taints of a loaded module.
    pub fn module_taints(&self, id: ModuleId) -> Option<Taints> {
        self.module(id).map(|module| module.taints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_in_both_orders() {
        let all = Taints::PROPRIETARY_MODULE
            | Taints::FORCED_MODULE
            | Taints::OOT_MODULE
            | Taints::UNSIGNED_MODULE
            | Taints::CRAP;
        assert_eq!(all.letters(TaintOrder::Bits), "PFCOE");
        assert_eq!(all.letters(TaintOrder::Old), "POFCE");
        assert_eq!(Taints::FORCED_RMMOD.letters(TaintOrder::Bits), "", "a taint of kernels only");
    }

    #[test]
    fn words_of_an_oops() {
        assert_eq!(Taints::empty().print_tainted(), "Not tainted");
        let taints = Taints::OOT_MODULE | Taints::UNSIGNED_MODULE;
        assert_eq!(taints.print_tainted(), "Tainted: G           OE     ");
        assert_eq!(Taints::PROPRIETARY_MODULE.print_tainted().chars().nth(9), Some('P'));
    }

    #[test]
    fn bits_as_sysctl_has_them() {
        assert_eq!((Taints::OOT_MODULE | Taints::UNSIGNED_MODULE).bits(), 12288);
        assert_eq!(Taints::TEST.bits(), 262144);
    }
}
