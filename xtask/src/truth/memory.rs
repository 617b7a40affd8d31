//! The memory of a kernel image as it was captured, and what can be found in it.

use std::collections::HashMap;
use std::path::Path;

use lkm_link::Arch;

use super::Result;
use super::store;
use super::store::Capture;
use super::store::ModuleCapture;

/// The image: its bytes from `base` on, and the symbols that the kernel tells.
#[derive(Debug)]
pub(crate) struct KernelMemory {
    pub(crate) arch: Arch,
    pub(crate) base: u64,
    pub(crate) bytes: Vec<u8>,
    symbols: HashMap<String, u64>,
}

/// A symbol that the kernel image exports, as it stands in its tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Export {
    pub(crate) address: u64,
    pub(crate) crc: u32,
    pub(crate) gpl_only: bool,
    pub(crate) namespace: Vec<u8>,
}

/// A table of exports has at least this many; other data that looks like one has fewer.
const EXPORTS: usize = 500;
/// Names of symbols are shorter than this (`KSYM_NAME_LEN`).
const NAME: usize = 512;

impl KernelMemory {
    /// Reads what a capture has of the kernel image.
    pub(crate) fn load(capture: &Capture, arch: Arch, directory: &Path) -> Result<KernelMemory> {
        let bytes = std::fs::read(directory.join(store::KERNEL))?;
        let kallsyms = std::fs::read_to_string(directory.join(store::KALLSYMS))?;
        let mut symbols = HashMap::new();
        for line in kallsyms.lines() {
            let mut fields = line.split_whitespace();
            if let (Some(address), Some(_), Some(name)) = (fields.next(), fields.next(), fields.next())
                && let Ok(address) = u64::from_str_radix(address, 16)
            {
                symbols.entry(name.to_owned()).or_insert(address);
            }
        }
        let mut memory = KernelMemory { arch, base: capture.kernel_base, bytes, symbols };
        if !memory.symbols.contains_key("modules")
            && let Some(address) = capture.modules.first().and_then(|first| memory.head_of_modules(first))
        {
            memory.symbols.insert(String::from("modules"), address);
        }
        Ok(memory)
    }

    /// Where the list of modules begins, which kernels without `CONFIG_KALLSYMS_ALL` do not tell: the memory is from when the
    /// first module was the only one, so that both pointers are to it.
    fn head_of_modules(&self, first: &ModuleCapture) -> Option<u64> {
        let word = self.arch.class().pointer_size();
        // Behind the state, which fills a word.
        let node = first.this_module.wrapping_add(word as u64);
        let pointer = node.to_le_bytes();
        let pointer = pointer.get(..word)?;
        let both = [pointer, pointer].concat();
        let places = self.bytes.windows(both.len()).step_by(word);
        let index = places.enumerate().find(|(_, place)| *place == both).map(|(index, _)| index)?;
        Some(self.base + (index * word) as u64)
    }

    /// Address of a symbol, exported or not.
    pub(crate) fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.get(name).copied()
    }

    /// `size` bytes at an address.
    pub(crate) fn slice(&self, address: u64, size: usize) -> Option<&[u8]> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        self.bytes.get(start..start.checked_add(size)?)
    }

    pub(crate) fn u8(&self, address: u64) -> Option<u8> {
        self.slice(address, 1)?.first().copied()
    }

    pub(crate) fn u32(&self, address: u64) -> Option<u32> {
        Some(u32::from_le_bytes(self.slice(address, 4)?.try_into().ok()?))
    }

    pub(crate) fn u64(&self, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.slice(address, 8)?.try_into().ok()?))
    }

    /// Address of `address` plus the signed 32-bit number there.
    pub(crate) fn relative(&self, address: u64) -> Option<u64> {
        Some(address.wrapping_add_signed(i64::from(self.u32(address)? as i32)))
    }

    /// The NUL-terminated text at an address.
    fn text(&self, address: u64) -> Option<&[u8]> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        let rest = self.bytes.get(start..)?;
        let rest = rest.get(..NAME).unwrap_or(rest);
        Some(&rest[..rest.iter().position(|&byte| byte == 0)?])
    }

    /// Value, name and namespace of what could be an entry of an export table.
    fn entry(&self, at: u64) -> Option<(u64, &[u8], &[u8])> {
        let field = |offset| match self.arch {
            Arch::X86_64 => self.relative(at + offset),
            Arch::Arm => self.u32(at + offset).map(u64::from),
        };
        let name = self.text(field(4)?)?;
        let word = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.' || byte == b'$';
        if name.is_empty() || !name.iter().all(word) {
            return None;
        }
        let namespace = self.text(field(8)?)?;
        namespace.iter().all(word).then_some((field(0)?, name, namespace))
    }

    /// The kernel's export tables: the plain one and the GPL-only one stand together, each sorted by name, and the
    /// two tables of CRCs behind them. They are found by that, for no symbol tells where they are on 32-bit ARM.
    pub(crate) fn exports(&self) -> Result<HashMap<Vec<u8>, Export>> {
        let mut tables = Vec::new();
        let end = self.base + self.bytes.len() as u64;
        let mut at = self.base;
        while at + 12 <= end {
            let mut next = at;
            let mut last: &[u8] = &[];
            while let Some((_, name, _)) = self.entry(next)
                && name > last
            {
                last = name;
                next += 12;
            }
            if next - at >= 12 * EXPORTS as u64 {
                tables.push((at, next));
                at = next;
            } else {
                at += 4;
            }
        }
        let &[(plain, plain_end), (gpl, gpl_end)] = tables.as_slice() else {
            return Err(format!("{} export tables in the kernel instead of two", tables.len()).into());
        };
        if plain_end != gpl {
            return Err("the kernel's export tables do not stand together".into());
        }
        let mut exports = HashMap::new();
        for (index, at) in (plain..gpl_end).step_by(12).enumerate() {
            let (address, name, namespace) = self.entry(at).ok_or("an export vanished")?;
            let crc = self.u32(gpl_end + 4 * index as u64).ok_or("the CRCs are cut off")?;
            let export = Export { address, crc, gpl_only: at >= gpl, namespace: namespace.to_vec() };
            exports.insert(name.to_vec(), export);
        }
        Ok(exports)
    }
}

/// Compares the exports found in memory with what the build of the kernel wrote down in `Module.symvers`: how many
/// agree, and the names of those that do not.
pub(crate) fn check_exports(exports: &HashMap<Vec<u8>, Export>, symvers: &str) -> (usize, Vec<String>) {
    let mut equal = 0;
    let mut different = Vec::new();
    for line in symvers.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [crc, name, "vmlinux", kind, namespace] = fields.as_slice() else { continue };
        let crc = u32::from_str_radix(crc.trim_start_matches("0x"), 16).ok();
        match exports.get(name.as_bytes()) {
            Some(export)
                if Some(export.crc) == crc
                    && export.gpl_only == (*kind == "EXPORT_SYMBOL_GPL")
                    && export.namespace == namespace.as_bytes() =>
            {
                equal += 1;
            }
            _ => different.push((*name).to_owned()),
        }
    }
    (equal, different)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with `count` plain and `count` GPL-only exports of 32-bit ARM.
    fn image(count: u32) -> KernelMemory {
        const BASE: u32 = 0xc010_0000;
        let mut bytes = vec![0xff; 64];
        let tables = 64 + 12 * 2 * count + 4 * 2 * count;
        for half in 0..2 {
            for index in 0..count {
                let name = BASE + tables + 8 * (half * count + index);
                for word in [0x1000 + index, name, BASE + tables + 7] {
                    bytes.extend_from_slice(&word.to_le_bytes());
                }
            }
        }
        for crc in 0..2 * count {
            bytes.extend_from_slice(&(crc + 7).to_le_bytes());
        }
        for half in ["a", "b"] {
            for index in 0..count {
                bytes.extend_from_slice(format!("{half}{index:06}\0").as_bytes());
            }
        }
        KernelMemory { arch: Arch::Arm, base: u64::from(BASE), bytes, symbols: HashMap::new() }
    }

    #[test]
    fn export_tables_are_found_by_their_order() {
        // Names of the second table must not continue the first one's order.
        let mut image = image(600);
        let second = 64 + 12 * 2 * 600 + 4 * 2 * 600 + 8 * 600;
        for index in 0..600 {
            image.bytes[second + 8 * index] = b'A';
        }
        let exports = image.exports().unwrap();
        assert_eq!(exports.len(), 1200);
        let export = &exports[&b"a000003"[..]];
        assert_eq!((export.address, export.crc, export.gpl_only), (0x1003, 10, false));
        assert!(exports[&b"A000599"[..]].gpl_only);
        assert_eq!(exports[&b"A000599"[..]].crc, 1199 + 7);
    }

    #[test]
    fn a_list_of_symbol_versions_is_held_against_them() {
        let export = Export { address: 1, crc: 0x1234, gpl_only: true, namespace: b"NS".to_vec() };
        let exports = HashMap::from([(b"good".to_vec(), export.clone()), (b"bad".to_vec(), export)]);
        let list = "0x00001234\tgood\tvmlinux\tEXPORT_SYMBOL_GPL\tNS\n0x00001234\tbad\tvmlinux\tEXPORT_SYMBOL\tNS\n\
                    0x00000000\tother\tdrivers/x\tEXPORT_SYMBOL\t\n";
        assert_eq!(check_exports(&exports, list), (1, vec!["bad".to_owned()]));
    }
}
