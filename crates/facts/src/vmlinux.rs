//! What an unpacked kernel says of itself: banner, version magic, configuration, exports.
//!
//! A `vmlinux` has sections with names; what a `zImage` or `Image` unpacks to has none. There the export tables are
//! found by what they are: long runs of entries whose names are sorted, `__ksymtab` and right behind it
//! `__ksymtab_gpl`, then the checksums of both, then the names.

use lkm_module::elf::Elf;

use crate::Config;
use crate::Export;
use crate::Exports;
use crate::Machine;
use crate::unpack;

mod table;

use table::Form;
use table::Memory;

const BANNER: &[u8] = b"Linux version ";

fn find(bytes: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let first = *needle.first()?;
    let mut at = from;
    loop {
        let rest = bytes.get(at..)?;
        at += rest.iter().position(|&byte| byte == first)?;
        if bytes.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
}

/// The text at an offset, up to its zero byte. `None` if it has none within `limit` bytes or is no plain text.
fn text_at(bytes: &[u8], at: usize, limit: usize) -> Option<&str> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().take(limit).position(|&byte| byte == 0)?;
    let text = std::str::from_utf8(rest.get(..end)?).ok()?;
    text.bytes().all(|byte| byte == b'\n' || byte == b'\t' || !byte.is_ascii_control()).then_some(text)
}

/// The line a kernel greets with, without its newline.
///
/// Kernels from 6.1 on hold it twice, first without the number of the build, which is put in last.
pub fn banner(kernel: &[u8]) -> Option<&str> {
    let mut found = None;
    let mut at = 0;
    while let Some(next) = find(kernel, BANNER, at) {
        at = next + 1;
        // The same words, with a format behind them, are those of /proc/version.
        if !kernel.get(next + BANNER.len()).is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let line = kernel.get(next..).unwrap_or_default();
        let Some(end) = line.iter().take(1024).position(|&byte| byte == b'\n' || byte == 0) else { continue };
        let Ok(line) = std::str::from_utf8(line.get(..end).unwrap_or_default()) else { continue };
        if !line.contains("# ") {
            return Some(line);
        }
        found = found.or(Some(line));
    }
    found
}

/// `uname -r` of a kernel with this banner.
pub fn release(banner: &str) -> Option<&str> {
    banner.strip_prefix("Linux version ")?.split(' ').next()
}

/// The version magic of a kernel of this release.
pub fn vermagic<'a>(kernel: &'a [u8], release: &str) -> Option<&'a str> {
    let start = format!("{release} ");
    let mut at = 0;
    loop {
        at = find(kernel, start.as_bytes(), at)?;
        let alone = at == 0 || kernel.get(at - 1) == Some(&0);
        if alone
            && let Some(text) = text_at(kernel, at, 256)
            && text.ends_with(' ')
        {
            return Some(text);
        }
        at += 1;
    }
}

/// The embedded configuration (`IKCONFIG`).
pub fn config(kernel: &[u8]) -> Option<Config> {
    const START: &[u8] = b"IKCFG_ST";
    let at = find(kernel, START, 0)? + START.len();
    let text = unpack::unpack(kernel.get(at..)?).ok()?;
    Some(Config::parse(std::str::from_utf8(&text).ok()?))
}

/// What the image exports. `None` if no table is found.
pub fn exports(kernel: &[u8], machine: Option<Machine>) -> Option<Exports> {
    let tables = match Elf::parse(kernel) {
        Ok(elf) => Tables::of_elf(&elf, Machine::of_elf(kernel)?),
        Err(_) => Tables::search(kernel, machine?),
    }?;
    let exports = tables.exports();
    (!exports.is_empty()).then_some(exports)
}

/// The two export tables and their checksums.
struct Tables<'a> {
    memory: Memory<'a>,
    form: Form,
    /// Address and number of entries; the second table is the GPL one.
    entries: [(u64, usize); 2],
    /// Addresses of the checksums.
    crcs: Option<[u64; 2]>,
}

impl<'a> Tables<'a> {
    fn of_elf(elf: &Elf<'a>, machine: Machine) -> Option<Tables<'a>> {
        let memory = Memory::of_elf(elf, machine);
        let section = |name: &[u8]| elf.sections.get(elf.find_any_sec(name)?);
        let plain = section(b"__ksymtab")?;
        let gpl = section(b"__ksymtab_gpl");
        let form = Form::ALL.into_iter().find(|form| {
            let size = form.size(machine);
            plain.size > 0
                && plain.size.is_multiple_of(size)
                && (0..(plain.size / size).min(64)).all(|number| {
                    memory.name(form.name_address(&memory, plain.addr + number * size)).is_some()
                })
        })?;
        let count = |size: u64| usize::try_from(size / form.size(machine)).ok();
        let entries = [
            (plain.addr, count(plain.size)?),
            gpl.map_or(Some((0, 0)), |gpl| Some((gpl.addr, count(gpl.size)?)))?,
        ];
        let crcs = section(b"__kcrctab")
            .filter(|crcs| crcs.size / 4 >= entries[0].1 as u64)
            .map(|crcs| [crcs.addr, section(b"__kcrctab_gpl").map_or(0, |gpl| gpl.addr)]);
        Some(Tables { memory, form, entries, crcs })
    }

    fn search(kernel: &'a [u8], machine: Machine) -> Option<Tables<'a>> {
        Form::ALL.into_iter().find_map(|form| {
            let (memory, entries) = table::search(kernel, machine, form)?;
            let size = form.size(machine);
            let end = entries.map(|(start, count)| start + count as u64 * size)[1];
            let crcs = [end, end + 4 * entries[0].1 as u64];
            let mut tables = Tables { memory, form, entries, crcs: None };
            // The names follow the checksums. Where they follow the tables, there are no checksums.
            let first = tables.name_addresses().min()?;
            let last = crcs[1] + 4 * entries[1].1 as u64;
            tables.crcs = (first >= last && first - last < 4096).then_some(crcs);
            Some(tables)
        })
    }

    fn name_addresses(&self) -> impl Iterator<Item = u64> {
        let size = self.form.size(self.memory.machine);
        self.entries
            .iter()
            .flat_map(move |&(start, count)| (0..count as u64).map(move |number| start + number * size))
            .map(|entry| self.form.name_address(&self.memory, entry))
    }

    fn exports(&self) -> Exports {
        let size = self.form.size(self.memory.machine);
        let relative = self.crcs_are_relative();
        let mut exports = Exports::new();
        for (table, &(start, count)) in self.entries.iter().enumerate() {
            for number in 0..count as u64 {
                let entry = start + number * size;
                let Some(name) = self.memory.name(self.form.name_address(&self.memory, entry)) else {
                    continue;
                };
                let crc = self.crcs.and_then(|crcs| {
                    let at = crcs[table] + number * 4;
                    let value = self.memory.u32(at)?;
                    if relative {
                        self.memory.u32(at.wrapping_add_signed(i64::from(value.cast_signed())))
                    } else {
                        Some(value)
                    }
                });
                let namespace = self.form.namespace_address(&self.memory, entry);
                let namespace = namespace.and_then(|address| self.memory.text(address)).unwrap_or_default();
                let address = self.form.value(&self.memory, entry);
                let export = Export {
                    crc,
                    gpl_only: table == 1,
                    namespace: namespace.to_owned(),
                    module: None,
                    address: address.filter(|_| self.memory.is_placed),
                };
                exports.insert(name.to_owned(), export);
            }
        }
        exports
    }

    /// Kernels from 4.10 to 5.18 may hold places relative to the entries instead of the checksums themselves
    /// (`MODULE_REL_CRCS`): then every one of them leads into the image, which checksums by chance do not.
    fn crcs_are_relative(&self) -> bool {
        let Some(crcs) = self.crcs else { return false };
        let mut entries = (0..self.entries[0].1 as u64).map(|number| crcs[0] + number * 4);
        entries.all(|at| {
            let target = |value: u32| at.wrapping_add_signed(i64::from(value.cast_signed()));
            self.memory.u32(at).is_some_and(|value| self.memory.u32(target(value)).is_some())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_kernel() {
        let kernel = b"xLinux version %s\0Linux version 6.1.0-1-amd64 (a@b) # SMP\n\0Linux version 6.1.0-1-amd64 (a@b) #1 SMP\n\0\
                       see 6.1.0-1-amd64 \0mod 6.1.0-1-amd64\x006.1.0-1-amd64 SMP mod_unload \0";
        let banner = banner(kernel).unwrap();
        assert_eq!(banner, "Linux version 6.1.0-1-amd64 (a@b) #1 SMP");
        assert_eq!(release(banner), Some("6.1.0-1-amd64"));
        assert_eq!(vermagic(kernel, "6.1.0-1-amd64"), Some("6.1.0-1-amd64 SMP mod_unload "));
        assert_eq!((vermagic(kernel, "6.1.0-2-amd64"), super::banner(b"Linux version")), (None, None));
    }

    #[test]
    fn an_embedded_configuration() {
        let mut kernel = b"...IKCFG_ST\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
        kernel.extend(miniz_oxide::deflate::compress_to_vec(b"CONFIG_MODULES=y\n", 6));
        kernel.extend(b"IKCFG_ED");
        assert!(config(&kernel).unwrap().is_set("MODULES"));
        assert!(config(&kernel[..20]).is_none() && config(b"").is_none());
    }
}
