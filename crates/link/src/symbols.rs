//! Values of a module's symbols.

use alloc::vec::Vec;
use core::fmt;
use core::ops::DerefMut;

use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::Text;
use lkm_module::elf::Class;
use lkm_module::elf::Elf32;
use lkm_module::elf::Elf64;
use lkm_module::elf::ElfClass;
use lkm_module::elf::Endian;
use lkm_module::elf::RawSymbol;
use lkm_module::elf::consts::SHN_ABS;
use lkm_module::elf::consts::SHN_COMMON;
use lkm_module::elf::consts::SHN_LIVEPATCH;
use lkm_module::elf::consts::SHN_LORESERVE;
use lkm_module::elf::consts::SHN_UNDEF;
use lkm_module::elf::consts::STB_WEAK;

use crate::LinkError;
use crate::error::Log;
use crate::image::Image;
use crate::info::LoadInfo;
use crate::rules::LinkRules;
use crate::strings::StringTable;

/// Longest name that is asked for and reported, in bytes. Exported names are shorter than `KSYM_NAME_LEN` (512, before
/// 6.1 128) and lines of the log are cut near 1000; so many symbols with one endless name cost no more than others.
const LONGEST_NAME: usize = 1024;

/// Finds the exports that a module imports (`resolve_symbol_wait()`), and hears of the symbols that got no value.
pub trait Resolve {
    /// The address of an undefined symbol. `Ok(None)`: nothing exports it, which a weak symbol may be; an error is
    /// one for weak symbols too. Names of more than 1024 bytes are not asked for: nothing exports them.
    fn resolve(&mut self, index: u32, name: &[u8]) -> Result<Option<u64>, Errno>;

    /// A symbol got no value. All symbols are visited, so that this may be called many times in one load.
    fn refused(&mut self, error: &SymbolError<'_>);
}

/// A symbol that got no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SymbolError<'a> {
    /// Its index in the symbol table.
    pub index: u32,
    /// Its name, of at most 1024 bytes.
    pub name: &'a [u8],
    /// Why.
    pub cause: SymbolCause,
}

/// Why a symbol got no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolCause {
    /// It is a common symbol: the compiler left its place to a linker.
    Common,
    /// Nothing exports it.
    Missing {
        /// The log line names the error ([`LinkRules::missing_symbol_errno`]).
        errno_in_log: bool,
    },
    /// The export may not be used: wrong version, namespace not imported, its module is still loading, ...
    Refused(Errno),
    /// Its section index is beyond the section table.
    SectionIndex {
        /// The index.
        index: u16,
        /// The highest index of the table.
        max: u16,
        /// The kernel does not look and would read out of bounds ([`LinkRules::check_shndx`] is off).
        unchecked: bool,
    },
}

impl SymbolError<'_> {
    /// What the load fails with if this is the last failure.
    pub const fn errno(&self) -> Errno {
        match self.cause {
            SymbolCause::Common | SymbolCause::SectionIndex { .. } => Errno::ENOEXEC,
            SymbolCause::Missing { .. } => Errno::ENOENT,
            SymbolCause::Refused(errno) => errno,
        }
    }

    /// The line that the kernel logs for it. `module` is the name in `struct module`.
    pub fn log(&self, module: &[u8], log: Log<'_>) {
        let (module, name) = (Text(module), Text(self.name));
        match self.cause {
            SymbolCause::Common => {
                log(Level::Warning, format_args!("{module}: please compile with -fno-common"));
            }
            SymbolCause::Missing { errno_in_log: false } => {
                log(Level::Warning, format_args!("{module}: Unknown symbol {name} (err 0)"));
            }
            SymbolCause::Missing { .. } | SymbolCause::Refused(_) => log(
                Level::Warning,
                format_args!("{module}: Unknown symbol {name} (err -{})", self.errno().raw()),
            ),
            SymbolCause::SectionIndex { index, max, unchecked: false } => log(
                Level::Err,
                format_args!("{module}: Symbol {name} has an invalid section index {index} (max {max})"),
            ),
            SymbolCause::SectionIndex { unchecked: true, .. } => {}
        }
    }
}

impl fmt::Display for SymbolError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Text(self.name);
        match self.cause {
            SymbolCause::Common => write!(f, "{name} is a common symbol: compile with -fno-common"),
            SymbolCause::Missing { .. } => write!(f, "nothing exports {name}"),
            SymbolCause::Refused(errno) => write!(f, "{name} may not be used ({errno})"),
            SymbolCause::SectionIndex { index, max, unchecked } => {
                write!(f, "{name} is said to lie in section {index}, but the last one is {max}")?;
                if unchecked { f.write_str("; the kernel would read out of bounds") } else { Ok(()) }
            }
        }
    }
}

impl core::error::Error for SymbolError<'_> {}

/// The values of all symbols of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// The final `st_value` of each symbol, by its index.
    pub values: Vec<u64>,
    /// How many undefined symbols were resolved to an export.
    pub resolved: usize,
    /// How many undefined symbols were left at 0, being weak.
    pub left_weak: usize,
}

/// `simplify_symbols()`: gives every symbol its value.
///
/// All symbols are visited; each failure is reported and the last one is returned. `percpu` is the cookie of the
/// module's static per-cpu memory, which symbols of `.data..percpu` are relative to.
pub fn simplify_symbols(
    info: &LoadInfo<'_>,
    rules: &LinkRules,
    percpu: Option<u64>,
    resolve: &mut impl Resolve,
) -> Result<Symbols, LinkError> {
    match (info.elf.class, info.elf.endian) {
        (Class::Elf32, Endian::Little) => values::<Elf32, _, true>(info, rules, percpu, resolve),
        (Class::Elf32, Endian::Big) => values::<Elf32, _, false>(info, rules, percpu, resolve),
        (Class::Elf64, Endian::Little) => values::<Elf64, _, true>(info, rules, percpu, resolve),
        (Class::Elf64, Endian::Big) => values::<Elf64, _, false>(info, rules, percpu, resolve),
    }
}

fn values<C: ElfClass, R: Resolve, const LITTLE: bool>(
    info: &LoadInfo<'_>,
    rules: &LinkRules,
    percpu: Option<u64>,
    resolve: &mut R,
) -> Result<Symbols, LinkError> {
    let decode = |raw| C::symbol(raw, const { if LITTLE { Endian::Little } else { Endian::Big } });
    let mask = info.address_mask();
    let table = C::symbols(info.contents(info.index.sym));
    let mut bases: Vec<u64> = info.sections.iter().map(|section| section.addr).collect();
    if info.index.pcpu != 0
        && let Some(base) = bases.get_mut(info.index.pcpu)
    {
        *base = percpu.unwrap_or(0);
    }
    // Without section 0, which stands for undefined symbols, and without numbers that may be special ones.
    let ordinary = bases.get(1..bases.len().min(usize::from(SHN_LORESERVE))).unwrap_or(&[]);
    let mut special = Special {
        info,
        rules,
        bases: &bases,
        names: StringTable::new(info.strtab()),
        resolve,
        symbols: Symbols::default(),
        failure: None,
    };

    let mut values = Vec::with_capacity(table.len());
    let mut records = table.iter();
    values.extend(records.next().map(|null| decode(null).value));
    values.extend(records.enumerate().map(|(before, raw)| {
        let symbol = decode(raw);
        match ordinary.get(usize::from(symbol.shndx).wrapping_sub(1)) {
            Some(base) => symbol.value.wrapping_add(*base) & mask,
            None => special.value(before as u32 + 1, decode(raw)) & mask,
        }
    }));
    match special.failure {
        Some(errno) => Err(LinkError::Symbols { errno }),
        None => Ok(Symbols { values, ..special.symbols }),
    }
}

/// The symbols that no section of the module defines.
struct Special<'a, 'data, R> {
    info: &'a LoadInfo<'data>,
    rules: &'a LinkRules,
    bases: &'a [u64],
    names: StringTable<'data>,
    resolve: &'a mut R,
    symbols: Symbols,
    failure: Option<Errno>,
}

impl<R: Resolve> Special<'_, '_, R> {
    #[inline(never)]
    fn value(&mut self, index: u32, symbol: RawSymbol) -> u64 {
        let name = self.names.get(symbol.name);
        let short = name.get(..LONGEST_NAME).unwrap_or(name);
        let cause = match symbol.shndx {
            SHN_COMMON if name.starts_with(b"__gnu_lto") => return symbol.value,
            SHN_COMMON => SymbolCause::Common,
            SHN_ABS | SHN_LIVEPATCH => return symbol.value,
            SHN_UNDEF => match self.resolve(index, name) {
                Ok(Some(address)) => {
                    self.symbols.resolved += 1;
                    return address;
                }
                Ok(None) if symbol.bind() == STB_WEAK || self.info.arch.ignore_undef_symbol(name) => {
                    self.symbols.left_weak += 1;
                    return symbol.value;
                }
                Ok(None) => SymbolCause::Missing { errno_in_log: self.rules.missing_symbol_errno },
                Err(errno) => SymbolCause::Refused(errno),
            },
            shndx => match self.bases.get(usize::from(shndx)) {
                Some(base) => return symbol.value.wrapping_add(*base),
                None => SymbolCause::SectionIndex {
                    index: shndx,
                    max: self.info.elf.header.shnum.wrapping_sub(1),
                    unchecked: !self.rules.check_shndx,
                },
            },
        };
        let error = SymbolError { index, name: short, cause };
        self.failure = Some(error.errno());
        self.resolve.refused(&error);
        symbol.value
    }

    fn resolve(&mut self, index: u32, name: &[u8]) -> Result<Option<u64>, Errno> {
        if name.len() > LONGEST_NAME { Ok(None) } else { self.resolve.resolve(index, name) }
    }
}

/// Writes the values into the symbol table in module memory, where the kernel's `simplify_symbols()` keeps them.
/// Does nothing without `CONFIG_KALLSYMS`, when the table is not there.
pub fn write_symtab<B: DerefMut<Target = [u8]>>(
    info: &LoadInfo<'_>,
    symbols: &Symbols,
    image: &mut Image<B>,
) {
    let Some(Some(at)) = info.placement.get(info.index.sym).copied() else { return };
    let size = info.symbol_count().saturating_mul(info.elf.class.symbol_size());
    let Some(table) = image.placed_mut(at, size) else { return };
    let entries = symbols.values.iter();
    match (info.elf.class, info.elf.endian) {
        (Class::Elf32, endian) => {
            for (entry, value) in table.as_chunks_mut::<16>().0.iter_mut().zip(entries) {
                if let Some(field) = entry[4..].first_chunk_mut() {
                    *field = endian.u32_bytes(*value as u32);
                }
            }
        }
        (Class::Elf64, Endian::Little) => {
            for (entry, value) in table.as_chunks_mut::<24>().0.iter_mut().zip(entries) {
                if let Some(field) = entry[8..].first_chunk_mut() {
                    *field = value.to_le_bytes();
                }
            }
        }
        (Class::Elf64, Endian::Big) => {
            for (entry, value) in table.as_chunks_mut::<24>().0.iter_mut().zip(entries) {
                if let Some(field) = entry[8..].first_chunk_mut() {
                    *field = value.to_be_bytes();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use lkm_module::elf::RawSymbol;
    use lkm_module::elf::consts::*;

    use super::*;
    use crate::Arch;
    use crate::test_support::*;

    const BASE: u64 = 0xffff_ffff_c000_0000;

    fn raw(shndx: u16, value: u64) -> RawSymbol {
        RawSymbol { shndx, value, info: STB_GLOBAL << 4, ..RawSymbol::default() }
    }

    #[test]
    fn every_section_index_has_its_rule() {
        let mut object = module(Arch::X86_64);
        let data = object.section(".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &[0; 16]);
        let percpu = object.section(".data..percpu", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &[0; 16]);
        let comment = object.section(".comment", SHT_PROGBITS, 0, 1, b"hello");
        let symbols = [
            object.local("in_data", data, 4),
            object.local("in_percpu", percpu, 8),
            object.local("in_comment", comment, 1),
            object.absolute("absolute", 0x1234),
            object.symbol("patched", raw(SHN_LIVEPATCH, 0x77)),
            object.undefined("printk"),
            object.weak("not_there"),
            object.weak("there"),
            object.undefined("_GLOBAL_OFFSET_TABLE_"),
            object.symbol("__gnu_lto_v1", raw(SHN_COMMON, 1)),
        ];
        let file = object.finish();
        let mut exports = Exports::default();
        exports.exports.insert("printk", Ok(0xffff_ffff_8100_0000));
        exports.exports.insert("there", Ok(0xffff_ffff_8100_0010));
        let rules = rules_6_1(Arch::X86_64);
        let linked = link(&file, Arch::X86_64, &rules, BASE, &mut exports, &mut ()).unwrap();
        let in_copy = COPY + linked.info.elf.sections[comment].offset + 1;
        let values: Vec<u64> = symbols.iter().map(|symbol| linked.symbols.values[*symbol as usize]).collect();
        let in_data = linked.info.section_addr(data) + 4;
        assert_eq!(
            values,
            [in_data, 0x34008, in_copy, 0x1234, 0x77, 0xffff_ffff_8100_0000, 0, 0xffff_ffff_8100_0010, 0, 1]
        );
        assert_eq!((linked.symbols.resolved, linked.symbols.left_weak), (2, 2));
        assert!(exports.refused.is_empty());
        // The table in memory has the values too.
        let table = linked.info.section_addr(linked.info.index.sym);
        let entry = linked.image.read_u64(table + 24 * u64::from(symbols[0]) + 8);
        assert_eq!(entry, Some(in_data));
    }

    #[test]
    fn all_failures_are_reported_and_the_last_one_is_returned() {
        let mut object = module(Arch::X86_64);
        object.symbol("common", raw(SHN_COMMON, 8));
        object.undefined("missing");
        object.symbol("beyond", raw(0xff05, 0));
        object.undefined("wrong_version");
        object.weak("weak_wrong_version");
        let run = |rules: &LinkRules, last: Option<&str>| {
            let mut object = object.clone();
            if let Some(last) = last {
                object.undefined(last);
            }
            let file = object.finish();
            let mut exports = Exports::default();
            exports.exports.insert("wrong_version", Err(Errno::EINVAL));
            exports.exports.insert("weak_wrong_version", Err(Errno::EINVAL));
            let error = link(&file, Arch::X86_64, rules, BASE, &mut exports, &mut ()).err().unwrap();
            assert!(lines(&error).is_empty());
            (error.errno(), exports.lines)
        };
        let rules = rules_6_1(Arch::X86_64);
        let (errno, lines) = run(&rules, None);
        assert_eq!(errno, Errno::EINVAL);
        let expected: Vec<String> = [
            "<4>hello: please compile with -fno-common",
            "<4>hello: Unknown symbol missing (err -2)",
            "<3>hello: Symbol beyond has an invalid section index 65285 (max 5)",
            "<4>hello: Unknown symbol wrong_version (err -22)",
            "<4>hello: Unknown symbol weak_wrong_version (err -22)",
        ]
        .map(String::from)
        .into();
        assert_eq!(lines, expected);
        assert_eq!(run(&rules, Some("last")).0, Errno::ENOENT);

        // Linux 4.x prints no error for a missing symbol and does not look at the section index.
        let old = LinkRules { missing_symbol_errno: false, check_shndx: false, ..rules };
        let (_, lines) = run(&old, None);
        assert_eq!(lines[1], "<4>hello: Unknown symbol missing (err 0)");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn values_wrap_at_the_word_size() {
        let mut object = module(Arch::Arm);
        let data = object.section(".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 4, &[0; 4]);
        let symbol = object.local("low", data, 0x6000_0000);
        let file = object.finish();
        let rules = rules_6_1(Arch::Arm);
        let linked = link(&file, Arch::Arm, &rules, 0xbf00_0000, &mut Exports::default(), &mut ()).unwrap();
        let expected = (linked.info.section_addr(data) + 0x6000_0000) & 0xffff_ffff;
        assert_eq!(linked.symbols.values[symbol as usize], expected);
        assert!(linked.layouts.len() == 2 && expected < 0x2000_0000);
    }
}
