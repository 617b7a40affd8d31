//! Whether an index has to be made again: what it is made of, summed up.
//!
//! Most changes of a module leave what others see of it as it was. The cache keeps, for each group of index files, a sum
//! of all that went into them and the states of the files; if both are the same the files stay.

use super::graph::Graph;
use super::scan::Facts;
use super::stamp::Stamp;
use super::walk::Found;

/// Groups of files that are made of the same things, in the order of [`output::make`](super::output::make).
pub(super) const GROUPS: [&[&str]; 4] = [
    &["modules.dep", "modules.dep.bin"],
    &["modules.alias", "modules.alias.bin", "modules.softdep", "modules.weakdep"],
    &["modules.symbols", "modules.symbols.bin"],
    &["modules.builtin.bin", "modules.builtin.alias.bin", "modules.devname"],
];

/// What was kept of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// Sum of all that went into it.
    pub(super) sum: u64,
    /// States of its files.
    pub(super) stamps: Vec<Stamp>,
}

/// The sums of all groups. `built_in` are the contents of the lists that the kernel's build leaves.
pub(super) fn sums(found: &[Found], facts: &Facts, graph: &Graph, built_in: [&[u8]; 2]) -> [u64; 4] {
    let mut dependencies = Sum::new();
    let mut fields = Sum::new();
    let mut symbols = Sum::new();
    let mut rest = Sum::new();
    for (module, found) in found.iter().enumerate() {
        dependencies.add(&found.path);
        dependencies.numbers(graph.needs(module));
        fields.add(&found.name);
        symbols.add(&found.name);
        if let Some((part, record)) = facts.of(module) {
            fields.add(part.info(record));
            part.exports(record).iter().for_each(|number| symbols.add(part.names.get(*number)));
        }
    }
    // Prefixes are taken off before symbols are named.
    symbols.number(graph.names.len() as u64);
    symbols.number(graph.names.size() as u64);
    dependencies.numbers(graph.ranks());
    rest.number(fields.0);
    built_in.iter().for_each(|list| rest.add(list));
    [dependencies.0, fields.0, symbols.0, rest.0]
}

/// A sum of texts that tells apart what differs by chance; not meant against those who forge it.
pub(super) struct Sum(u64);

impl Sum {
    pub(super) fn new() -> Sum {
        Sum(0x243f_6a88_85a3_08d3)
    }

    pub(super) fn value(&self) -> u64 {
        self.0
    }

    fn number(&mut self, number: u64) {
        const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ number).wrapping_mul(FACTOR);
        self.0 = ((product as u64) ^ ((product >> 64) as u64)).wrapping_add(number.rotate_left(32));
    }

    fn numbers(&mut self, numbers: &[u32]) {
        self.number(numbers.len() as u64);
        numbers.iter().for_each(|number| self.number(u64::from(*number)));
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.number(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.number(u64::from(*byte) + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_changes_the_sum() {
        let sum = |texts: &[&[u8]]| {
            let mut sum = Sum::new();
            texts.iter().for_each(|text| sum.add(text));
            sum.value()
        };
        let text = b"alias=pci:v00008086d*sv*\0alias=x\0";
        let first = sum(&[text]);
        for position in 0..text.len() {
            let mut other = *text;
            other[position] ^= 1;
            assert_ne!(sum(&[&other]), first, "byte {position}");
            assert_ne!(sum(&[&text[..position], &text[position..]]), first, "cut at {position}");
        }
        assert_ne!(sum(&[b"\0\0\0\0\0\0\0\0"]), sum(&[b"\0\0\0\0\0\0\0\0", b""]));
    }
}
