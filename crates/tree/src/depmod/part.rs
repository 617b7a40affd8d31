//! What the indexes need to know of modules, gathered by one thread or read from a cache.

use lkm_module::Errno;

use super::names::Names;
use super::names::Seeds;
use super::sections::Numbers;
use super::sections::STRTAB;
use super::sections::SYMTAB;
use super::sections::Sections;
use super::sections::Source;
use super::sections::Span;
use super::sections::errno_of;
use super::stamp::Stamp;
use crate::file::LIMIT;
use crate::words::Strings;

/// In an import: the module does without the symbol if there is none.
pub(super) const WEAK: u32 = 1 << 31;

/// Where the facts of one module lie in its [`Part`].
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// State of the file when it was read.
    pub(super) stamp: Stamp,
    /// Why the file could not be read.
    pub(super) error: Option<Errno>,
    pub(super) info: (usize, usize),
    pub(super) exports: (usize, usize),
    pub(super) imports: (usize, usize),
}

/// Facts of some modules.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Symbols, by number.
    pub(super) names: Names,
    /// Fields of `.modinfo` that go into an index, `KEY=VALUE` with a NUL after each.
    info: Vec<u8>,
    exports: Vec<u32>,
    imports: Vec<u32>,
    /// CRCs of exports and imports; empty unless they were asked for.
    export_crcs: Vec<u64>,
    import_crcs: Vec<u64>,
    pub(super) records: Vec<Record>,
}

fn cut<T>(list: &[T], (start, end): (usize, usize)) -> &[T] {
    list.get(start..end).unwrap_or(&[])
}

impl Part {
    pub(super) fn new(seeds: Seeds) -> Part {
        Part {
            names: Names::new(seeds),
            info: Vec::new(),
            exports: Vec::new(),
            imports: Vec::new(),
            export_crcs: Vec::new(),
            import_crcs: Vec::new(),
            records: Vec::new(),
        }
    }

    pub(super) fn record(&self, index: usize) -> Option<&Record> {
        self.records.get(index)
    }

    /// The fields of a module, as they lie in its `.modinfo`.
    pub(super) fn info(&self, record: &Record) -> &[u8] {
        cut(&self.info, record.info)
    }

    pub(super) fn exports(&self, record: &Record) -> &[u32] {
        cut(&self.exports, record.exports)
    }

    /// CRC of the nth export of a module; 0 if it has none or they were not asked for.
    pub(super) fn export_crc(&self, record: &Record, index: usize) -> u64 {
        cut(&self.export_crcs, record.exports).get(index).copied().unwrap_or(0)
    }

    /// Numbers of symbols, with [`WEAK`].
    pub(super) fn imports(&self, record: &Record) -> &[u32] {
        cut(&self.imports, record.imports)
    }

    /// CRC that the module was built against for its nth import.
    pub(super) fn import_crc(&self, record: &Record, index: usize) -> u64 {
        cut(&self.import_crcs, record.imports).get(index).copied().unwrap_or(0)
    }

    /// Begins a module whose facts are given to the `add_` functions.
    pub(super) fn begin(&mut self, stamp: Stamp, error: Option<Errno>) {
        let here = |length: usize| (length, length);
        self.records.push(Record {
            stamp,
            error,
            info: here(self.info.len()),
            exports: here(self.exports.len()),
            imports: here(self.imports.len()),
        });
    }

    /// Ends the module begun last.
    pub(super) fn end(&mut self) {
        let (info, exports, imports) = (self.info.len(), self.exports.len(), self.imports.len());
        if let Some(record) = self.records.last_mut() {
            record.info.1 = info;
            record.exports.1 = exports;
            record.imports.1 = imports;
        }
    }

    pub(super) fn add_info(&mut self, fields: &[u8]) {
        self.info.extend_from_slice(fields);
    }

    pub(super) fn add_export(&mut self, name: u32) {
        self.exports.push(name);
    }

    pub(super) fn add_import(&mut self, name: u32) {
        self.imports.push(name);
    }
}

/// What is kept from module to module while facts are gathered.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// For each name, the module that last had a version for it, and the place of that version.
    versions_of: Vec<(u32, u32)>,
    /// The versions of this module: name, CRC, whether an undefined symbol asked for it.
    versions: Vec<(u32, u64, bool)>,
}

/// Which kinds of facts are gathered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// CRCs too.
    pub(super) crcs: bool,
}

impl Part {
    /// Adds the facts of a module whose file starts with `header`: 64 bytes, or all if it has fewer.
    pub(super) fn read(
        &mut self,
        stamp: Stamp,
        header: &[u8],
        source: &mut impl Source,
        scratch: &mut Scratch,
        wanted: Wanted,
    ) {
        self.begin(stamp, None);
        if let Err(errno) = self.gather(header, source, scratch, wanted)
            && let Some(record) = self.records.last_mut()
        {
            record.error = Some(errno);
        }
        self.end();
    }

    /// Adds a module that could not be read.
    pub(super) fn add_unreadable(&mut self, stamp: Stamp, errno: Errno) {
        self.begin(stamp, Some(errno));
        self.end();
    }

    fn gather(
        &mut self,
        header: &[u8],
        source: &mut impl Source,
        scratch: &mut Scratch,
        wanted: Wanted,
    ) -> Result<(), Errno> {
        let sections = Sections::of(header, source)?;
        let spans = sections.found.map(Option::unwrap_or_default);
        if spans.iter().map(|span| span.size).sum::<u64>() > LIMIT {
            return Err(Errno::EFBIG);
        }
        let loaded = source.load(spans).map_err(|error| errno_of(&error))?;
        let [modinfo, symtab, strtab, versions, ksymtab_strings, ext_crcs, ext_names] = loaded;
        self.gather_info(modinfo);
        let has = |section: usize| sections.found.get(section).is_some_and(Option::is_some);
        let numbers = sections.numbers();
        let symbols = Symbols { numbers, table: symtab, strings: strtab, machine: sections.machine };
        let has_symbols = has(SYMTAB) && has(STRTAB) && symtab.len().is_multiple_of(numbers.symbol_size());

        self.gather_versions(scratch, numbers, versions, ext_crcs, ext_names);
        let mut placed = Vec::new();
        let before = self.exports.len();
        if has_symbols {
            let imports = self.imports.len();
            if self.gather_symbols(&symbols, scratch, wanted, &mut placed).is_none() {
                // A name outside of the string table: kmod takes neither exports nor imports of such a file.
                self.imports.truncate(imports);
                self.import_crcs.truncate(imports);
                self.exports.truncate(before);
                self.export_crcs.truncate(before);
                placed.clear();
            } else {
                for &(name, crc, asked) in &scratch.versions {
                    if !asked {
                        self.imports.push(name);
                        if wanted.crcs {
                            self.import_crcs.push(crc);
                        }
                    }
                }
            }
        }
        if self.exports.len() == before {
            for name in Strings(ksymtab_strings) {
                let (name, hash) = self.names.seeds.string(name);
                let number = self.names.intern(name, hash);
                self.exports.push(number);
                if wanted.crcs {
                    self.export_crcs.push(0);
                }
            }
        }
        for (place, section, offset) in placed {
            let crc = crc_in_section(source, &sections, section, offset);
            if let Some(to) = self.export_crcs.get_mut(place) {
                *to = crc;
            }
        }
        Ok(())
    }

    /// Keeps the fields that an index is made of.
    fn gather_info(&mut self, modinfo: &[u8]) {
        for field in Strings(modinfo) {
            let is = |key: &[u8]| {
                field.strip_prefix(key).is_some_and(|value| matches!(value.first(), None | Some(b'=')))
            };
            // Most other fields are told apart by their first letter.
            if matches!(field.first(), Some(b'a' | b's' | b'w'))
                && (is(b"alias") || is(b"softdep") || is(b"weakdep"))
            {
                self.info.extend_from_slice(field);
                self.info.push(0);
            }
        }
    }

    /// Takes the names and CRCs of `__versions` and of the extended tables.
    fn gather_versions(
        &mut self,
        scratch: &mut Scratch,
        numbers: Numbers,
        versions: &[u8],
        ext_crcs: &[u8],
        ext_names: &[u8],
    ) {
        const RECORD: usize = 64;
        scratch.versions.clear();
        let module = self.records.len() as u32;
        let crc_size = if numbers.wide { 8 } else { 4 };
        let mut add = |names: &mut Names, name: &[u8], crc: u64| {
            let (name, hash) = names.seeds.string(name);
            let number = names.intern(name, hash);
            let index = number as usize;
            if scratch.versions_of.len() <= index {
                scratch.versions_of.resize(index + 1, (0, 0));
            }
            if let Some(last) = scratch.versions_of.get_mut(index)
                && last.0 != module
            {
                *last = (module, scratch.versions.len() as u32);
            }
            scratch.versions.push((number, crc, false));
        };
        if versions.len().is_multiple_of(RECORD) {
            for record in versions.chunks_exact(RECORD) {
                let crc = numbers.long(record, 0).unwrap_or(0);
                add(&mut self.names, record.get(crc_size..).unwrap_or(&[]), crc);
            }
        }
        let crcs = ext_crcs.chunks_exact(4).map(|crc| numbers.u32(crc, 0).unwrap_or(0));
        for (name, crc) in ext_names.split(|byte| *byte == 0).zip(crcs) {
            add(&mut self.names, name, u64::from(crc));
        }
    }

    /// Goes over the symbols once. `None` if the table is damaged.
    fn gather_symbols(
        &mut self,
        symbols: &Symbols<'_>,
        scratch: &mut Scratch,
        wanted: Wanted,
        placed: &mut Vec<(usize, u16, u64)>,
    ) -> Option<()> {
        match (symbols.numbers.wide, symbols.numbers.big) {
            (true, false) => self.gather_symbols_of::<true, false>(symbols, scratch, wanted, placed),
            (true, true) => self.gather_symbols_of::<true, true>(symbols, scratch, wanted, placed),
            (false, false) => self.gather_symbols_of::<false, false>(symbols, scratch, wanted, placed),
            (false, true) => self.gather_symbols_of::<false, true>(symbols, scratch, wanted, placed),
        }
    }

    fn gather_symbols_of<const WIDE: bool, const BIG: bool>(
        &mut self,
        symbols: &Symbols<'_>,
        scratch: &mut Scratch,
        wanted: Wanted,
        placed: &mut Vec<(usize, u16, u64)>,
    ) -> Option<()> {
        const SHN_UNDEF: u16 = 0;
        const SHN_ABS: u16 = 0xfff1;
        const STB_WEAK: u8 = 2;
        const STT_REGISTER: u8 = 13;
        const CRC: &[u8] = b"__crc_";
        let numbers = Numbers { big: BIG, wide: WIDE };
        let module = self.records.len() as u32;
        let is_sparc = matches!(symbols.machine, 2 | 43);
        let record_size = if WIDE { 24 } else { 16 };
        for record in symbols.table.chunks_exact(record_size).skip(1) {
            let name = numbers.u32(record, 0)? as usize;
            let (info, section, value) = if WIDE {
                (*record.get(4)?, numbers.u16(record, 6)?, 8)
            } else {
                (*record.get(12)?, numbers.u16(record, 14)?, 4)
            };
            // An index past the end is damage; the end itself is not inside either.
            let name = symbols.strings.get(name..).filter(|name| !name.is_empty())?;
            if let Some(name) = name.strip_prefix(CRC) {
                let (name, hash) = self.names.seeds.string(name);
                let number = self.names.intern(name, hash);
                if wanted.crcs {
                    let value = numbers.long(record, value)?;
                    if !matches!(section, SHN_UNDEF | SHN_ABS) {
                        placed.push((self.exports.len(), section, value));
                    }
                    self.export_crcs.push(value);
                }
                self.exports.push(number);
            }
            if section != SHN_UNDEF || name.first() == Some(&0) || (is_sparc && info & 15 == STT_REGISTER) {
                continue;
            }
            let (name, hash) = self.names.seeds.string(name);
            let number = self.names.intern(name, hash);
            let version = scratch.versions_of.get(number as usize).filter(|last| last.0 == module);
            let version = version.and_then(|last| scratch.versions.get_mut(last.1 as usize));
            let crc = version.map_or(0, |version| {
                version.2 = true;
                version.1
            });
            self.imports.push(if info >> 4 == STB_WEAK { number | WEAK } else { number });
            if wanted.crcs {
                self.import_crcs.push(crc);
            }
        }
        Some(())
    }
}

/// The value of a `__crc_` symbol that lies in a section: all ones if it is not inside.
fn crc_in_section(source: &mut impl Source, sections: &Sections, section: u16, offset: u64) -> u64 {
    let mut fetch = || {
        let span = sections.all.get(usize::from(section))?;
        let inside = offset.checked_add(4)? <= span.size;
        let at = span.offset.checked_add(offset)?;
        let word = Span { offset: at, size: 4 };
        if !inside || at.checked_add(4)? > source.size() {
            return None;
        }
        let [bytes] = source.load([word]).ok()?;
        sections.numbers().u32(bytes, 0)
    };
    fetch().map_or(u64::MAX, u64::from)
}

struct Symbols<'a> {
    numbers: Numbers,
    table: &'a [u8],
    strings: &'a [u8],
    machine: u16,
}

impl Numbers {
    fn symbol_size(self) -> usize {
        if self.wide { 24 } else { 16 }
    }
}
