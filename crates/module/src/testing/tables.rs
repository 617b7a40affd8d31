use alloc::vec;
use alloc::vec::Vec;

use super::ObjectBuilder;
use crate::elf::consts::*;
use crate::exports::ExportTable;
use crate::exports::KsymtabForm;
use crate::params::ParamLayout;

/// An export to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewExport<'a> {
    /// Name that it is exported by.
    pub name: &'a str,
    /// Namespace; empty for none.
    pub namespace: &'a str,
    /// Symbol whose address is exported.
    pub symbol: u32,
    /// CRC; the table of CRCs is made if the first export has one.
    pub crc: Option<u32>,
}

/// A parameter to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewParam<'a> {
    /// Its name.
    pub name: &'a str,
    /// Mode of its file.
    pub perm: u16,
    /// Its level; -1 in modules.
    pub level: i8,
    /// Its flags.
    pub flags: u8,
    /// Symbol of the operations.
    pub ops: u32,
    /// Symbol of the argument.
    pub arg: u32,
}

impl ObjectBuilder {
    fn strings(&mut self, section: &str) -> (usize, u32) {
        let index = self.find(section).unwrap_or_else(|| {
            // SHF_MERGE and SHF_STRINGS, as compilers write them.
            self.section(section, SHT_PROGBITS, SHF_ALLOC | 0x30, 1, &[])
        });
        let symbol = self.section_symbol(index);
        (index, symbol)
    }

    /// Adds a table of exports in the order given (kernels want it sorted by name), its CRCs (u32 each), and the
    /// strings to `__ksymtab_strings`. Gives the number of the table's section.
    pub fn exports(&mut self, table: ExportTable, form: KsymtabForm, entries: &[NewExport<'_>]) -> usize {
        let (strings, strings_symbol) = self.strings("__ksymtab_strings");
        let name = alloc::format!("__ksymtab{}", table.suffix());
        let data = vec![0; form.entry_size(self.class()) * entries.len()];
        let section = self.section(&name, SHT_PROGBITS, SHF_ALLOC, 4, &data);
        let field = form.field_size(self.class()) as u64;
        let mut place = 0;
        for entry in entries {
            let at = self.data(strings).len() as i64;
            self.data(strings).extend(entry.name.bytes().chain([0]));
            let namespace = self.data(strings).len() as i64;
            self.data(strings).extend(entry.namespace.bytes().chain([0]));
            let mut targets = vec![(entry.symbol, 0), (strings_symbol, at)];
            if form.namespace {
                targets.push((strings_symbol, namespace));
            }
            for (symbol, addend) in targets {
                if form.relative {
                    self.prel32(section, place, symbol, addend);
                } else {
                    self.pointer(section, place, symbol, addend);
                }
                place += field;
            }
        }
        if entries.first().is_some_and(|entry| entry.crc.is_some()) {
            let endian = self.endian();
            let crcs: Vec<u8> =
                entries.iter().flat_map(|entry| endian.u32_bytes(entry.crc.unwrap_or(0))).collect();
            let name = alloc::format!("__kcrctab{}", table.suffix());
            self.section(&name, SHT_PROGBITS, SHF_ALLOC, 4, &crcs);
        }
        section
    }

    /// Adds `__param` with these parameters, with `mod` fields if `has_module`; `.gnu.linkonce.this_module` must be
    /// there already. Gives the number of the section.
    pub fn params(&mut self, has_module: bool, params: &[NewParam<'_>]) -> usize {
        let layout = ParamLayout::of(self.class(), has_module);
        let (strings, strings_symbol) = self.strings(".rodata.str1.1");
        let this = self.find(".gnu.linkonce.this_module").expect("add struct module before the parameters");
        let this = self.section_symbol(this);
        let data = vec![0; layout.size * params.len()];
        let section = self.section("__param", SHT_PROGBITS, SHF_ALLOC, 8, &data);
        for (number, param) in params.iter().enumerate() {
            let start = number * layout.size;
            let name = self.data(strings).len() as i64;
            self.data(strings).extend(param.name.bytes().chain([0]));
            let perm = self.endian().u16_bytes(param.perm);
            let data = self.data(section);
            data[start + layout.perm..][..2].copy_from_slice(&perm);
            data[start + layout.level] = param.level as u8;
            data[start + layout.flags] = param.flags;
            self.pointer(section, start as u64, strings_symbol, name);
            if let Some(module) = layout.module {
                self.pointer(section, (start + module) as u64, this, 0);
            }
            self.pointer(section, (start + layout.ops) as u64, param.ops, 0);
            self.pointer(section, (start + layout.arg) as u64, param.arg, 0);
        }
        section
    }
}
