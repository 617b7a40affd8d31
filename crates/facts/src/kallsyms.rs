//! The table of symbols inside a kernel (`CONFIG_KALLSYMS`), from which `/proc/kallsyms` is printed.
//!
//! Names are packed: each is a length and that many codes, each code one of 256 tokens. The table of tokens gives the
//! place away, because the codes of digits stand for the digits themselves; all other parts lie before and behind it:
//!
//! ```text
//! up to 6.3:  offsets, relative base, number, names, markers, [order], tokens, index of tokens
//! from 6.4:   number, names, markers, tokens, index of tokens, offsets, relative base, order
//! ```
//!
//! The order, for each place in the sorted list of names three bytes with the number of the symbol, came with 6.2 and was
//! taken over into later releases of 6.1.

use std::collections::BTreeMap;

use crate::Machine;

/// A symbol of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// As `nm` prints it.
    pub kind: u8,
    /// Its name.
    pub name: String,
    /// Its address where the kernel is not moved at boot; `None` if the table of addresses was not understood.
    pub address: Option<u64>,
}

/// The symbols in an image that is not packed, in the order of the table. `None` if it has no such table.
pub fn symbols(kernel: &[u8], machine: Machine) -> Option<Vec<Symbol>> {
    let table = Table::find(kernel, machine)?;
    let names = table.names()?;
    let addresses = table.addresses();
    let symbol = |(number, (kind, name)): (usize, (u8, String))| Symbol {
        kind,
        name,
        address: addresses.as_ref().and_then(|addresses| addresses.get(number).copied()),
    };
    Some(names.into_iter().enumerate().map(symbol).collect())
}

/// Addresses by name, without names that stand for several.
pub fn unique(symbols: &[Symbol]) -> BTreeMap<String, u64> {
    let mut addresses: BTreeMap<&str, Option<u64>> = BTreeMap::new();
    for symbol in symbols {
        let Some(address) = symbol.address else { continue };
        addresses
            .entry(&symbol.name)
            .and_modify(|known| *known = known.filter(|known| *known == address))
            .or_insert(Some(address));
    }
    addresses.into_iter().filter_map(|(name, address)| Some((name.to_owned(), address?))).collect()
}

const TOKENS: usize = 256;
/// No kernel has more symbols.
const MANY: usize = 1 << 21;

struct Table<'a> {
    kernel: &'a [u8],
    machine: Machine,
    tokens: Vec<&'a [u8]>,
    /// Behind the index of tokens.
    end: usize,
    /// Where the number of symbols stands.
    number_at: usize,
    names_at: usize,
    count: usize,
}

impl<'a> Table<'a> {
    fn find(kernel: &'a [u8], machine: Machine) -> Option<Table<'a>> {
        // Codes 0x30 to 0x39.
        const DIGITS: &[u8] = b"\x000\x001\x002\x003\x004\x005\x006\x007\x008\x009\0";
        let mut from = 0;
        loop {
            let window = kernel.get(from..)?.windows(DIGITS.len()).position(|window| window == DIGITS)?;
            let digits = from + window + 1;
            if let Some(table) = Table::around(kernel, machine, digits) {
                return Some(table);
            }
            from += window + 1;
        }
    }

    /// The table whose token for `0` lies at `digits`.
    fn around(kernel: &'a [u8], machine: Machine, digits: usize) -> Option<Table<'a>> {
        // 0x30 tokens before it, each with its zero byte; the first of them starts where a word can.
        let first = digits.checked_sub(0x30 * 64)?;
        let before = kernel.get(first..digits)?;
        let mut zeros = (0..before.len()).rev().filter(|&at| before.get(at) == Some(&0));
        let end_of_first = first + zeros.nth(0x2f)?;
        (end_of_first.saturating_sub(64)..=end_of_first)
            .rev()
            .filter(|start| start % 4 == 0)
            .find_map(|start| Table::at(kernel, machine, start))
    }

    /// The table whose tokens start at `start`.
    fn at(kernel: &'a [u8], machine: Machine, start: usize) -> Option<Table<'a>> {
        let mut tokens = Vec::with_capacity(TOKENS);
        let mut offsets = Vec::with_capacity(TOKENS);
        let mut at = start;
        for _ in 0..TOKENS {
            let length = kernel.get(at..)?.iter().take(256).position(|&byte| byte == 0)?;
            tokens.push(kernel.get(at..at + length)?);
            offsets.push(at - start);
            at += length + 1;
        }
        let reader = Reader { kernel, machine };
        let index = [4, 8].into_iter().map(|align| at.next_multiple_of(align)).find(|&index| {
            offsets
                .iter()
                .enumerate()
                .all(|(code, &offset)| reader.u16(index + 2 * code) == u16::try_from(offset).ok())
        })?;
        let end = index + 2 * TOKENS;
        let (number_at, names_at, count) = reader.names_before(start).or_else(|| {
            let mut orders = reader.orders_before(start);
            orders.find_map(|(order, count)| reader.names_before(order).filter(|names| names.2 == count))
        })?;
        Some(Table { kernel, machine, tokens, end, number_at, names_at, count })
    }

    /// Kind and name of each symbol.
    fn names(&self) -> Option<Vec<(u8, String)>> {
        let mut names = Vec::with_capacity(self.count);
        let mut at = self.names_at;
        let mut name = Vec::new();
        for _ in 0..self.count {
            let (codes, next) = entry(self.kernel, at)?;
            name.clear();
            for &code in codes {
                name.extend_from_slice(self.tokens.get(usize::from(code))?);
            }
            let (&kind, text) = name.split_first()?;
            names.push((kind, String::from_utf8_lossy(text).into_owned()));
            at = next;
        }
        Some(names)
    }

    /// The address of each symbol, from wherever the table lies; they are in order, which proves it.
    fn addresses(&self) -> Option<Vec<u64>> {
        let reader = Reader { kernel: self.kernel, machine: self.machine };
        let pointer = usize::from(self.machine.bits) / 8;
        let mut places = Vec::new();
        for align in [pointer, 8, 4] {
            let base = self.number_at.checked_sub(pointer).map(|at| at / align * align);
            if let Some(base) = base {
                // Padding lies between the offsets and what is aligned behind them.
                let offsets = base.checked_sub(4 * self.count).map(|at| at / align * align);
                places.extend(offsets.map(|offsets| (offsets, base)));
            }
            let offsets = self.end.next_multiple_of(align);
            places.push((offsets, (offsets + 4 * self.count).next_multiple_of(align)));
        }
        for (offsets, base) in places {
            let Some(base) = reader.pointer(base) else { continue };
            let any_negative = (0..self.count).any(|number| {
                reader.u32(offsets + 4 * number).is_some_and(|offset| offset.cast_signed() < 0)
            });
            // Without negative ones the distances are plain, whatever the kernel was built for.
            for absolute_percpu in [any_negative, false] {
                let address = |number: usize| {
                    let offset = reader.u32(offsets + 4 * number)?;
                    Some(match (absolute_percpu, offset.cast_signed()) {
                        (false, _) => base.wrapping_add(u64::from(offset)),
                        (true, absolute @ 0..) => u64::from(absolute.unsigned_abs()),
                        // KALLSYMS_ABSOLUTE_PERCPU: one less than the negative distance.
                        (true, distance) => base.wrapping_add(u64::from((-1 - distance).unsigned_abs())),
                    })
                };
                let addresses: Option<Vec<u64>> = (0..self.count).map(address).collect();
                if let Some(addresses) = addresses
                    && addresses.is_sorted()
                    && addresses.last() > addresses.first()
                {
                    return Some(addresses);
                }
            }
        }
        let direct = self.number_at.checked_sub(pointer * self.count).map(|at| at / pointer * pointer)?;
        let addresses: Option<Vec<u64>> =
            (0..self.count).map(|number| reader.pointer(direct + pointer * number)).collect();
        addresses.filter(|addresses| addresses.is_sorted() && addresses.last() > addresses.first())
    }
}

/// The codes of the name at an offset, and where the next one lies. From 6.1 on a length may have two bytes, seven bits
/// each, the low ones first.
fn entry(kernel: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let first = *kernel.get(at)?;
    let (length, start) = if first & 0x80 == 0 {
        (usize::from(first), at + 1)
    } else {
        (usize::from(first & 0x7f) | usize::from(*kernel.get(at + 1)?) << 7, at + 2)
    };
    let end = start + length;
    (length > 0).then_some((kernel.get(start..end)?, end))
}

struct Reader<'a> {
    kernel: &'a [u8],
    machine: Machine,
}

impl Reader<'_> {
    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = *self.kernel.get(at..)?.first_chunk()?;
        Some(if self.machine.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = *self.kernel.get(at..)?.first_chunk()?;
        Some(if self.machine.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn pointer(&self, at: usize) -> Option<u64> {
        if self.machine.bits == 32 {
            return self.u32(at).map(u64::from);
        }
        let bytes = *self.kernel.get(at..)?.first_chunk()?;
        Some(if self.machine.big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// Where the table of the order may start that ends before an offset, and how many entries it has then: going back,
    /// it can be whole wherever the numbers seen are as many as the largest of them says.
    fn orders_before(&self, end: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..8).flat_map(move |padding| {
            let mut at = end.saturating_sub(padding);
            let mut largest = 0;
            // Every number is there once; more zeros are padding.
            let mut zeros = 0;
            let mut count = 0;
            std::iter::from_fn(move || {
                while count < MANY {
                    at = at.checked_sub(3)?;
                    count += 1;
                    let [high, middle, low] = *self.kernel.get(at..)?.first_chunk()?;
                    let number = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                    largest = number.max(largest);
                    zeros += usize::from(number == 0);
                    if largest >= MANY || zeros > 1 {
                        return None;
                    }
                    if count == largest + 1 && count > TOKENS {
                        return Some((at, count));
                    }
                }
                None
            })
            .fuse()
        })
    }

    /// Where the number of symbols stands, where their names start, and the number, for tokens that start at an offset.
    ///
    /// Before the tokens lie the markers: for each 256th name its offset among the names, so they grow from zero.
    fn names_before(&self, tokens: usize) -> Option<(usize, usize, usize)> {
        (0..=4).find_map(|padding| {
            let last_at = tokens.checked_sub(4 * (padding + 1))?;
            let last = self.u32(last_at)?;
            let mut at = last_at;
            let mut above = last;
            while above != 0 {
                at = at.checked_sub(4)?;
                let marker = self.u32(at)?;
                if marker >= above {
                    return None;
                }
                above = marker;
            }
            let markers = (last_at - at) / 4 + 1;
            // A kernel has more symbols than one marker stands for; a single zero is padding.
            let second = self.u32(at + 4).filter(|_| markers > 1)?;
            self.number_before(at, markers, last, second)
        })
    }

    /// The number of symbols, before the markers at an offset.
    fn number_before(
        &self,
        markers_at: usize,
        markers: usize,
        last: u32,
        second: u32,
    ) -> Option<(usize, usize, usize)> {
        // At most 256 names, each of at most 512 codes, follow the last one that is marked.
        let latest = markers_at.checked_sub(last as usize)?;
        let earliest = latest.saturating_sub(256 * 514 + 64);
        (earliest..latest).rev().filter(|at| at % 4 == 0).find_map(|number_at| {
            let count = self.u32(number_at)? as usize;
            if count == 0 || count > MANY || count.div_ceil(TOKENS) != markers {
                return None;
            }
            [4, 8].into_iter().find_map(|size| {
                let names_at = number_at + size;
                let mut at = names_at;
                for _ in 0..TOKENS {
                    at = entry(self.kernel, at)?.1;
                }
                if at - names_at != second as usize {
                    return None;
                }
                let mut at = names_at + last as usize;
                for _ in 0..count - (markers - 1) * TOKENS {
                    at = entry(self.kernel, at)?.1;
                }
                (at <= markers_at && markers_at - at < 8).then_some((number_at, names_at, count))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const X86_64: Machine = Machine { machine: 62, bits: 64, big_endian: false };
    const ARM_BE: Machine = Machine { machine: 40, bits: 32, big_endian: true };
    const COUNT: u32 = 700;
    const BASE: u64 = 0x8100_0000;

    fn word(machine: Machine, value: u32) -> [u8; 4] {
        if machine.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// A kernel with such a table, laid out as up to 6.3 or as from 6.4 on, with the order in its place or without it.
    /// Every code below 0x20 stands for three letters, the others for themselves.
    fn kernel(machine: Machine, late: bool, order: bool) -> Vec<u8> {
        let align = usize::from(machine.bits) / 8;
        let mut bytes = b"anything".repeat(40);
        let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(align), 0);
        let base = |bytes: &mut Vec<u8>| {
            let value = match (machine.bits, machine.big_endian) {
                (64, _) => BASE.to_le_bytes().to_vec(),
                _ => word(machine, BASE as u32).to_vec(),
            };
            bytes.extend(value);
        };
        let offsets =
            |bytes: &mut Vec<u8>| (0..COUNT).for_each(|number| bytes.extend(word(machine, number * 16)));
        if !late {
            offsets(&mut bytes);
            pad(&mut bytes);
            base(&mut bytes);
        }
        bytes.extend(word(machine, COUNT));
        pad(&mut bytes);
        let names = bytes.len();
        let mut markers = Vec::new();
        for number in 0..COUNT {
            if number % 256 == 0 {
                markers.push((bytes.len() - names) as u32);
            }
            let name = format!("T\x05{number}");
            bytes.push(name.len() as u8);
            bytes.extend(name.bytes());
        }
        pad(&mut bytes);
        markers.iter().for_each(|marker| bytes.extend(word(machine, *marker)));
        pad(&mut bytes);
        if order && !late {
            (0..COUNT).rev().for_each(|number| bytes.extend(&number.to_be_bytes()[1..]));
            pad(&mut bytes);
        }
        let mut index = Vec::new();
        let tokens = bytes.len();
        for code in 0..=255u8 {
            index.push((bytes.len() - tokens) as u16);
            match code {
                0..0x20 => bytes.extend([b'a' + code % 26, b'_', b'x']),
                0x20..0x7f => bytes.push(code),
                _ => {}
            }
            bytes.push(0);
        }
        pad(&mut bytes);
        for offset in index {
            bytes.extend(if machine.big_endian { offset.to_be_bytes() } else { offset.to_le_bytes() });
        }
        if late {
            pad(&mut bytes);
            offsets(&mut bytes);
            pad(&mut bytes);
            base(&mut bytes);
        }
        bytes.extend(b"what follows");
        bytes
    }

    #[test]
    fn every_layout_is_read() {
        for (machine, late, order) in [
            (X86_64, false, false),
            (X86_64, false, true),
            (X86_64, true, false),
            (ARM_BE, false, false),
            (ARM_BE, false, true),
            (ARM_BE, true, false),
        ] {
            let symbols = symbols(&kernel(machine, late, order), machine)
                .unwrap_or_else(|| panic!("{machine:?} {late} {order}"));
            assert_eq!(symbols.len(), COUNT as usize);
            let expected = Symbol { kind: b'T', name: "f_x300".into(), address: Some(BASE + 4800) };
            assert_eq!(symbols[300], expected, "{machine:?} {late} {order}");
        }
    }

    #[test]
    fn ambiguous_names_have_no_address() {
        let symbol = |name: &str, address| Symbol { kind: b't', name: name.into(), address };
        let list = [symbol("a", Some(1)), symbol("b", Some(2)), symbol("a", Some(3)), symbol("c", None)];
        assert_eq!(unique(&list), BTreeMap::from([("b".to_owned(), 2)]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damage_never_panics(at in 0usize..12_000, value: u8, end in 0usize..14_000) {
            let mut bytes = kernel(X86_64, false, true);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(end);
            let _ = symbols(&bytes, X86_64);
        }
    }
}
