//! What a module exports: `__ksymtab*` read through its relocations, with the CRCs of `__kcrctab*`.

use alloc::vec::Vec;
use core::fmt;

use crate::elf::Class;
use crate::elf::Elf;
use crate::elf::SymbolTable;
use crate::elf::Target;
use crate::elf::TargetMap;
use crate::elf::consts::*;
use crate::elf::is_reloc;

/// The tables of exports. Kernels search them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExportTable {
    /// `EXPORT_SYMBOL`
    Plain,
    /// `EXPORT_SYMBOL_GPL`
    Gpl,
    /// `EXPORT_SYMBOL_GPL_FUTURE`, up to 5.11
    GplFuture,
    /// `EXPORT_UNUSED_SYMBOL`, up to 5.11
    Unused,
    /// `EXPORT_UNUSED_SYMBOL_GPL`, up to 5.11
    UnusedGpl,
}

impl ExportTable {
    /// All tables in the kernel's order of search.
    pub const ALL: [ExportTable; 5] = [
        ExportTable::Plain,
        ExportTable::Gpl,
        ExportTable::GplFuture,
        ExportTable::Unused,
        ExportTable::UnusedGpl,
    ];

    /// What follows `__ksymtab` and `__kcrctab` in the names of its sections.
    pub const fn suffix(self) -> &'static str {
        match self {
            ExportTable::Plain => "",
            ExportTable::Gpl => "_gpl",
            ExportTable::GplFuture => "_gpl_future",
            ExportTable::Unused => "_unused",
            ExportTable::UnusedGpl => "_unused_gpl",
        }
    }

    /// Modules of other licences may not use its symbols.
    pub const fn is_gpl_only(self) -> bool {
        matches!(self, ExportTable::Gpl | ExportTable::UnusedGpl)
    }
}

/// How the entries (`struct kernel_symbol`) of a table are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KsymtabForm {
    /// Fields are 32-bit distances from themselves (`CONFIG_HAVE_ARCH_PREL32_RELOCATIONS`), else pointers.
    pub relative: bool,
    /// There is a namespace field (from 5.4).
    pub namespace: bool,
}

impl KsymtabForm {
    /// Bytes of a field.
    pub const fn field_size(self, class: Class) -> usize {
        if self.relative { 4 } else { class.pointer_size() }
    }

    /// Bytes of an entry: value, name and perhaps namespace.
    pub const fn entry_size(self, class: Class) -> usize {
        self.field_size(class) * if self.namespace { 3 } else { 2 }
    }
}

/// An exported symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export<'data> {
    /// Its name.
    pub name: &'data [u8],
    /// The table that it stands in.
    pub table: ExportTable,
    /// Its namespace, where it has one.
    pub namespace: Option<&'data [u8]>,
    /// Its CRC, where the module has such.
    pub crc: Option<u32>,
    /// What is exported.
    pub value: Target<'data>,
}

/// Why a table of exports cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportError<'data> {
    /// Name of the section.
    pub section: &'data [u8],
    /// What is wrong with it.
    pub fault: ExportFault,
}

/// See [`ExportError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFault {
    /// Its contents lie outside the file.
    Bounds,
    /// Size and relocations fit none of the known forms of entries.
    Form,
    /// It shares its bytes with other tables.
    Overlap,
    /// There is no symbol table to read its relocations by.
    NoSymbols,
}

impl fmt::Display for ExportFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExportFault::Bounds => "lies outside the file",
            ExportFault::Form => "has entries of no known form",
            ExportFault::Overlap => "overlaps other sections",
            ExportFault::NoSymbols => "cannot be read without a symbol table",
        })
    }
}

/// Reads all exports: the tables in the kernel's order of search, each in its own order.
///
/// `___ksymtab+NAME` sections, from which the module's last link step makes the tables, are read too.
pub fn exports<'data>(elf: &Elf<'data>) -> Result<Vec<Export<'data>>, ExportError<'data>> {
    let mut tables = sections_named(elf, b"ksymtab");
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    // The kernel takes the first section of a name.
    tables.dedup_by_key(|(table, single, _)| (*table, *single));
    let Some(symbols) = SymbolTable::of(elf) else {
        let section = tables.first().and_then(|(.., index)| elf.sections.get(*index));
        let section = section.map_or(&b""[..], |section| elf.section_name(section));
        return Err(ExportError { section, fault: ExportFault::NoSymbols });
    };

    let mut reader = Reader::new(elf, symbols);
    for (table, single, index) in tables {
        let fault = |fault| {
            let section = elf.sections.get(index).map_or(&b""[..], |section| elf.section_name(section));
            ExportError { section, fault }
        };
        let crcs = reader.crc_section(table, single);
        reader.read(table, index, crcs).map_err(fault)?;
    }
    reader.crcs_from_symbols();
    Ok(reader.exports)
}

/// Sections of tables and of single symbols' parts of tables, sorted.
type TableSections<'data> = Vec<(ExportTable, Option<&'data [u8]>, usize)>;

fn sections_named<'data>(elf: &Elf<'data>, what: &[u8]) -> TableSections<'data> {
    let names = elf.section_names();
    let mut found = Vec::new();
    for (index, section) in elf.sections.iter().enumerate().skip(1) {
        // Nearly all sections have other names; only for the few the end of the name is searched.
        let name = names.get(section.name as usize..).and_then(|name| name.strip_prefix(b"__"));
        let name = name.map(|name| name.strip_prefix(b"_").unwrap_or(name));
        let is_candidate = section.is_alloc() && name.is_some_and(|name| name.starts_with(what));
        if is_candidate && let Some((table, single)) = table_of(elf.section_name(section), what) {
            found.push((table, single, index));
        }
    }
    found.sort_unstable();
    found
}

/// The table that a section name means: `__ksymtab_gpl`, or `___ksymtab_gpl+NAME` for a single symbol's part.
fn table_of<'data>(name: &'data [u8], what: &[u8]) -> Option<(ExportTable, Option<&'data [u8]>)> {
    let rest = name.strip_prefix(b"__")?;
    let (rest, single) = match rest.strip_prefix(b"_") {
        Some(rest) => {
            let plus = rest.iter().position(|&byte| byte == b'+')?;
            let (rest, symbol) = rest.split_at(plus);
            (rest, symbol.get(1..))
        }
        None => (rest, None),
    };
    let suffix = rest.strip_prefix(what)?;
    let table = ExportTable::ALL.into_iter().find(|table| table.suffix().as_bytes() == suffix)?;
    Some((table, single))
}

struct Reader<'elf, 'data> {
    elf: &'elf Elf<'data>,
    symbols: SymbolTable<'data>,
    strings: Option<usize>,
    /// Relocation sections by the section that they change.
    relocs: Vec<(u32, usize)>,
    crcs: TableSections<'data>,
    /// Bytes of relocations and of tables that are still to be read: not more than the file has.
    reloc_budget: u64,
    table_budget: usize,
    exports: Vec<Export<'data>>,
}

impl<'elf, 'data> Reader<'elf, 'data> {
    fn new(elf: &'elf Elf<'data>, symbols: SymbolTable<'data>) -> Reader<'elf, 'data> {
        let sections = elf.sections.iter().enumerate().skip(1);
        let relocs = sections.filter(|(_, section)| is_reloc(section));
        let mut relocs: Vec<_> = relocs.map(|(index, section)| (section.info, index)).collect();
        relocs.sort_unstable();
        Reader {
            elf,
            symbols,
            strings: elf.find_sec(b"__ksymtab_strings"),
            relocs,
            crcs: sections_named(elf, b"kcrctab"),
            reloc_budget: elf.data.len() as u64,
            table_budget: elf.data.len(),
            exports: Vec::new(),
        }
    }

    fn crc_section(&self, table: ExportTable, single: Option<&[u8]>) -> Option<usize> {
        let at = self.crcs.partition_point(|(t, s, _)| (*t, *s) < (table, single));
        self.crcs.get(at).filter(|(t, s, _)| (*t, *s) == (table, single)).map(|(.., index)| *index)
    }

    fn targets(&mut self, section: usize, field: usize) -> TargetMap<'data> {
        let key = section as u32;
        let from = self.relocs.partition_point(|(target, _)| *target < key);
        let to = self.relocs.partition_point(|(target, _)| *target <= key);
        let elf = self.elf;
        let headers = self.relocs.get(from..to).unwrap_or(&[]).iter();
        let headers = headers.filter_map(|(_, index)| elf.sections.get(*index));
        TargetMap::gather(elf, &self.symbols, section, field, headers, &mut self.reloc_budget)
    }

    fn read(&mut self, table: ExportTable, section: usize, crcs: Option<usize>) -> Result<(), ExportFault> {
        let contents = self.elf.section_data(section).ok_or(ExportFault::Bounds)?;
        if contents.is_empty() {
            return Ok(());
        }
        self.table_budget = self.table_budget.checked_sub(contents.len()).ok_or(ExportFault::Overlap)?;
        let targets = self.targets(section, self.elf.class.pointer_size());
        let form = self.form(&targets, contents.len()).ok_or(ExportFault::Form)?;
        let entry = form.entry_size(self.elf.class);
        let field = form.field_size(self.elf.class) as u64;
        let count = contents.len() / entry;
        let crcs = crcs.map(|crcs| self.crc_table(crcs, count)).transpose()?;
        for number in 0..count {
            let at = (number * entry) as u64;
            let (Some(value), Some(name)) = (targets.at(at), targets.at(at + field)) else { continue };
            let namespace = if form.namespace { targets.at(at + 2 * field) } else { None };
            let namespace = namespace.and_then(|target| target.string(self.elf));
            self.exports.push(Export {
                name: name.string(self.elf).ok_or(ExportFault::Form)?,
                table,
                namespace: namespace.filter(|name| !name.is_empty()),
                crc: crcs.as_ref().and_then(|crcs| crcs.get(number).copied().flatten()),
                value: *value,
            });
        }
        Ok(())
    }

    /// The form whose size divides the table and whose name fields, and only those, point at strings.
    fn form(&self, targets: &TargetMap<'data>, size: usize) -> Option<KsymtabForm> {
        let relative32 = targets.iter().next().is_some_and(|target| self.is_place_relative(target.kind));
        let forms: &[bool] = match self.elf.class {
            Class::Elf32 if relative32 => &[true],
            Class::Elf32 => &[false],
            Class::Elf64 => &[true, false],
        };
        let forms = forms.iter().flat_map(|&relative| {
            [true, false].into_iter().map(move |namespace| KsymtabForm { relative, namespace })
        });
        forms.into_iter().find(|form| self.fits(*form, targets, size))
    }

    fn fits(&self, form: KsymtabForm, targets: &TargetMap<'data>, size: usize) -> bool {
        let field = form.field_size(self.elf.class) as u64;
        let entry = form.entry_size(self.elf.class) as u64;
        if !(size as u64).is_multiple_of(entry) {
            return false;
        }
        let in_place = targets.iter().all(|target| {
            let (number, rest) = (target.place % entry / field, target.place % field);
            let is_string = target.section().is_some() && target.section() == self.strings;
            rest == 0 && is_string == (number != 0)
        });
        let complete = (0..size as u64 / entry).all(|number| {
            targets.at(number * entry).is_some() && targets.at(number * entry + field).is_some()
        });
        in_place && complete
    }

    /// Whether a relocation type makes a distance from its place, for the 32-bit machines that use both.
    fn is_place_relative(&self, kind: u32) -> bool {
        match self.elf.header.machine {
            EM_386 => kind == 2,
            EM_ARM => kind == 3,
            EM_RISCV => kind == 57,
            EM_S390 => kind == 5,
            _ => false,
        }
    }

    fn crc_table(&mut self, section: usize, count: usize) -> Result<Vec<Option<u32>>, ExportFault> {
        let contents = self.elf.section_data(section).ok_or(ExportFault::Bounds)?;
        let word = self.elf.class.pointer_size();
        let entry = if contents.len() >= count.saturating_mul(word) { word } else { 4 };
        let targets = self.targets(section, entry);
        let (elf, endian) = (self.elf, self.elf.endian);
        let crc = |(number, raw): (usize, &[u8])| match targets.at((number * entry) as u64) {
            None if entry == 8 => Some(endian.u64(raw) as u32),
            None => Some(endian.u32(raw)),
            Some(target) if target.shndx == SHN_ABS => Some(target.offset as u32),
            // CONFIG_MODULE_REL_CRCS: the entry tells where the CRC lies.
            Some(target) => target.bytes(elf).filter(|bytes| bytes.len() >= 4).map(|bytes| endian.u32(bytes)),
        };
        Ok(contents.chunks_exact(entry).take(count).enumerate().map(crc).collect())
    }

    /// Exports without an entry in a CRC table take the value of an absolute symbol `__crc_NAME`.
    fn crcs_from_symbols(&mut self) {
        if self.exports.iter().all(|export| export.crc.is_some()) {
            return;
        }
        let mut known: Vec<(&[u8], u32)> = self
            .symbols
            .iter()
            .filter(|symbol| symbol.raw.shndx == SHN_ABS)
            .filter_map(|symbol| Some((symbol.name.strip_prefix(b"__crc_")?, symbol.raw.value as u32)))
            // No real name is so long; a great many such would take long to sort.
            .filter(|(name, _)| name.len() < 4096)
            .collect();
        known.sort_unstable();
        for export in self.exports.iter_mut().filter(|export| export.crc.is_none()) {
            let found = known.binary_search_by_key(&export.name, |(name, _)| name);
            export.crc = found.ok().and_then(|at| known.get(at)).map(|(_, crc)| *crc);
        }
    }
}

#[cfg(test)]
mod tests;
