//! The functions and variables of the embedded kernel and the addresses that stand for them.

use core::ops::Range;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::LazyLock;

use lkm_link::Arch;

use crate::api;
use crate::api::Data;
use crate::api::Function;
use crate::memory::Plan;
use crate::memory::SLOT;
use crate::printk::Symbol;

/// All functions that have an implementation, by name.
static FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(|| {
    let mut functions = api::functions();
    functions.sort_by_key(|function| function.name);
    functions.dedup_by_key(|function| function.name);
    functions
});

/// Where the slots of names that nothing implements begin behind the first function, and the distance of two.
const STAND_INS: u64 = 0x2_0000;
const STAND_IN: u64 = 1024;

/// Index of a function by name.
static BY_NAME: LazyLock<HashMap<&'static str, usize>> =
    LazyLock::new(|| FUNCTIONS.iter().enumerate().map(|(n, function)| (function.name, n)).collect());

/// Variables with their offsets in the data area and its size: x86_64, ARM.
static VARIABLES: LazyLock<[Variables; 2]> = LazyLock::new(|| [Arch::X86_64, Arch::Arm].map(Variables::new));

struct Variables {
    by_name: BTreeMap<&'static str, (u64, &'static Data)>,
    by_offset: BTreeMap<u64, &'static Data>,
    size: u64,
}

impl Variables {
    fn new(arch: Arch) -> Variables {
        let mut by_name = BTreeMap::new();
        let mut by_offset = BTreeMap::new();
        let mut next = 0;
        for data in api::DATA.iter().filter(|data| data.size(arch) > 0) {
            if data.percpu.is_none() {
                // Room between variables makes a write beyond one less likely to pass for a write to the next.
                next = (next + 15) & !15;
                by_offset.insert(next, data);
                by_name.insert(data.name, (next, data));
                next += data.size(arch) + 16;
            } else {
                by_name.insert(data.name, (0, data));
            }
        }
        Variables { by_name, by_offset, size: next }
    }

    fn of(arch: Arch) -> &'static Variables {
        match arch {
            Arch::X86_64 => &VARIABLES[0],
            Arch::Arm => &VARIABLES[1],
        }
    }
}

/// What stands at a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The end of a call into the guest.
    Return,
    /// A function with an implementation.
    Function(&'static Function),
    /// A name that nothing implements, by its number.
    StandIn(usize),
}

/// The addresses of one machine.
#[derive(Debug)]
pub(crate) struct Slots {
    arch: Arch,
    functions: Range<u64>,
    data: Range<u64>,
    percpu_cookie: u64,
    stand_ins: Vec<Vec<u8>>,
    by_name: HashMap<Vec<u8>, usize>,
}

impl Slots {
    pub(crate) fn new(arch: Arch, plan: &Plan) -> Slots {
        Slots {
            arch,
            functions: plan.functions.clone(),
            data: plan.data.clone(),
            percpu_cookie: plan.percpu_cookie(0),
            stand_ins: Vec::new(),
            by_name: HashMap::new(),
        }
    }

    /// Where a call into the guest returns to.
    pub(crate) fn return_address(&self) -> u64 {
        self.functions.start
    }

    fn slot(&self, n: usize) -> u64 {
        self.functions.start + (n as u64 + 1) * SLOT
    }

    /// Stand-ins lie apart, each with room for a variable of its size: which of them are variables is only known
    /// when they are used.
    fn stand_in_slot(&self, n: usize) -> u64 {
        self.functions.start + STAND_INS + n as u64 * STAND_IN
    }

    /// The number of the stand-in that an address lies in.
    pub(crate) fn stand_in_at(&self, address: u64) -> Option<usize> {
        let distance = address.checked_sub(self.functions.start + STAND_INS)?;
        usize::try_from(distance / STAND_IN).ok().filter(|&n| n < self.stand_ins.len())
    }

    /// The address of a function or variable that is implemented.
    pub(crate) fn address(&self, name: &str) -> Option<u64> {
        if let Some(&n) = BY_NAME.get(name) {
            return Some(self.slot(n));
        }
        self.variable(name)
    }

    /// The address of a variable; of a per-cpu one the address that the CPU's offset is added to.
    pub(crate) fn variable(&self, name: &str) -> Option<u64> {
        let &(offset, data) = Variables::of(self.arch).by_name.get(name)?;
        let address = match data.percpu {
            Some(offset) => self.percpu_cookie.wrapping_add(offset),
            None => self.data.start + offset,
        };
        Some(if self.arch == Arch::Arm { address & 0xffff_ffff } else { address })
    }

    /// All variables that live in the data area, with their addresses.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (u64, &'static Data)> {
        let base = self.data.start;
        Variables::of(self.arch).by_offset.iter().map(move |(offset, data)| (base + offset, *data))
    }

    /// Bytes of the data area that variables take.
    pub(crate) fn data_size(&self) -> u64 {
        Variables::of(self.arch).size
    }

    /// A slot for a name that nothing implements.
    pub(crate) fn stand_in(&mut self, name: &[u8]) -> Option<u64> {
        let n = match self.by_name.get(name) {
            Some(&n) => n,
            None => {
                let n = self.stand_ins.len();
                if self.stand_in_slot(n + 1) > self.functions.end {
                    return None;
                }
                self.stand_ins.push(name.to_vec());
                self.by_name.insert(name.to_vec(), n);
                n
            }
        };
        Some(self.stand_in_slot(n))
    }

    /// The name of a stand-in.
    pub(crate) fn stand_in_name(&self, n: usize) -> &[u8] {
        self.stand_ins.get(n).map_or(&[], |name| name)
    }

    /// What a trapped address is; `None` for one between the slots or behind them.
    pub(crate) fn target(&self, address: u64) -> Option<Target> {
        let distance = address.checked_sub(self.functions.start)?;
        if distance >= STAND_INS {
            let n = self.stand_in_at(address)?;
            return (self.stand_in_slot(n) == address).then_some(Target::StandIn(n));
        }
        if distance % SLOT != 0 {
            return None;
        }
        match usize::try_from(distance / SLOT).ok()?.checked_sub(1) {
            Some(n) => FUNCTIONS.get(n).map(Target::Function),
            None => Some(Target::Return),
        }
    }

    /// The symbol that an address belongs to.
    pub(crate) fn symbol(&self, address: u64) -> Option<Symbol> {
        if self.functions.contains(&address) {
            let (start, size) = match self.stand_in_at(address) {
                Some(n) => (self.stand_in_slot(n), STAND_IN),
                None => (address & !(SLOT - 1), SLOT),
            };
            let name = match self.target(start)? {
                Target::Return => return None,
                Target::Function(function) => function.name.as_bytes().to_vec(),
                Target::StandIn(n) => self.stand_in_name(n).to_vec(),
            };
            return Some(Symbol { name, offset: address - start, size, module: None });
        }
        if !self.data.contains(&address) {
            return None;
        }
        let offset = address - self.data.start;
        let (start, data) = Variables::of(self.arch).by_offset.range(..=offset).next_back()?;
        let size = data.size(self.arch);
        (offset - start < size).then(|| Symbol {
            name: data.name.as_bytes().to_vec(),
            offset: offset - start,
            size,
            module: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_leads_back_to_its_name() {
        for arch in [Arch::X86_64, Arch::Arm] {
            let plan = Plan::of(arch);
            let mut slots = Slots::new(arch, &plan);
            assert!((FUNCTIONS.len() as u64 + 1) * SLOT <= STAND_INS);
            assert!(slots.data_size() <= plan.data.end - plan.data.start);
            for function in FUNCTIONS.iter() {
                let address = slots.address(function.name).expect("address");
                assert!(
                    matches!(slots.target(address), Some(Target::Function(found)) if found.name == function.name)
                );
                assert_eq!(slots.symbol(address + 3).expect("symbol").name, function.name.as_bytes());
                assert!(slots.target(address + 1).is_none());
            }
            let first = slots.stand_in(b"first").expect("slot");
            let second = slots.stand_in(b"second").expect("slot");
            assert_eq!(slots.stand_in(b"first"), Some(first));
            assert_ne!(first, second);
            assert!(matches!(slots.target(second), Some(Target::StandIn(1))));
            assert_eq!(slots.stand_in_at(second + 1023), Some(1));
            assert_eq!(slots.stand_in_at(second + 1024), None);
            assert_eq!(slots.symbol(second + 8).map(|symbol| symbol.offset), Some(8));
            assert!(matches!(slots.target(slots.return_address()), Some(Target::Return)));
            for (address, data) in slots.variables() {
                assert_eq!(slots.symbol(address).expect("symbol").name, data.name.as_bytes());
            }
        }
    }

    #[test]
    fn no_name_is_a_function_and_a_variable() {
        for data in api::DATA {
            assert!(!BY_NAME.contains_key(data.name), "{}", data.name);
        }
    }

    #[test]
    fn no_function_is_defined_twice() {
        let mut names: Vec<_> = api::functions().iter().map(|function| function.name).collect();
        names.sort_unstable();
        for pair in names.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
    }
}
