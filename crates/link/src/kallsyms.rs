//! The symbol tables that stay in memory for `/proc/kallsyms` and oopses.

use core::ops::DerefMut;

use lkm_module::elf::Class;
use lkm_module::elf::Elf32;
use lkm_module::elf::Elf64;
use lkm_module::elf::ElfClass;
use lkm_module::elf::RawSymbol;
use lkm_module::elf::consts::SHF_ALLOC;
use lkm_module::elf::consts::SHF_EXECINSTR;
use lkm_module::elf::consts::SHF_WRITE;
use lkm_module::elf::consts::SHN_ABS;
use lkm_module::elf::consts::SHN_LORESERVE;
use lkm_module::elf::consts::SHN_UNDEF;
use lkm_module::elf::consts::SHT_NOBITS;
use lkm_module::elf::consts::STB_WEAK;
use lkm_module::elf::consts::STT_OBJECT;

use crate::LinkError;
use crate::image::Image;
use crate::image::Placement;
use crate::info::LoadInfo;
use crate::layout::core_symbol_sections;
use crate::rules::LinkRules;
use crate::strings::StringTable;
use crate::symbols::Symbols;
use crate::symbols::write_symtab;

/// A `struct mod_kallsyms`: addresses of one set of tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModKallsyms {
    /// The symbols.
    pub symtab: u64,
    /// How many.
    pub num_symtab: u32,
    /// Their names.
    pub strtab: u64,
    /// Their letters; 0 where they stand in `st_info`.
    pub typetab: u64,
}

/// The two sets of tables of a module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kallsyms {
    /// Address of the `struct mod_kallsyms` of all symbols, in the init part; 0 on kernels without it.
    pub address: u64,
    /// All symbols, while the module initialises.
    pub init: ModKallsyms,
    /// The kept ones (`core_kallsyms`).
    pub core: ModKallsyms,
}

/// `elf_type()`: the letter of a symbol, in lower case.
pub fn elf_type(info: &LoadInfo<'_>, symbol: &RawSymbol) -> u8 {
    let small = info.arch.small_flag();
    if symbol.bind() == STB_WEAK {
        return if symbol.kind() == STT_OBJECT { b'v' } else { b'w' };
    }
    if symbol.shndx == SHN_UNDEF {
        return b'U';
    }
    let index = usize::from(symbol.shndx);
    if symbol.shndx == SHN_ABS || index == info.index.pcpu {
        return b'a';
    }
    if symbol.shndx >= SHN_LORESERVE {
        return b'?';
    }
    let Some(section) = info.sections.get(index) else { return b'?' };
    if section.flags & SHF_EXECINSTR != 0 {
        return b't';
    }
    if section.flags & SHF_ALLOC != 0 && section.kind != SHT_NOBITS {
        return match section.flags {
            flags if flags & SHF_WRITE == 0 => b'r',
            flags if flags & small != 0 => b'g',
            _ => b'd',
        };
    }
    if section.kind == SHT_NOBITS {
        return if section.flags & small != 0 { b's' } else { b'b' };
    }
    if info.section_name(index).starts_with(b".debug") { b'n' } else { b'?' }
}

/// `add_kallsyms()`: computes the letters and copies the symbols that are kept after init, with their names.
///
/// The result says where the tables are; `None` without `CONFIG_KALLSYMS`.
pub fn add_kallsyms<B: DerefMut<Target = [u8]>>(
    info: &LoadInfo<'_>,
    rules: &LinkRules,
    symbols: &Symbols,
    image: &mut Image<B>,
) -> Result<Option<Kallsyms>, LinkError> {
    if info.symtab.is_none() {
        return Ok(None);
    }
    write_symtab(info, symbols, image);
    let tables = match info.elf.class {
        Class::Elf32 => tables::<Elf32, B>(info, rules, symbols, image),
        Class::Elf64 => tables::<Elf64, B>(info, rules, symbols, image),
    };
    // Only sizes that wrapped put a table outside its allocation.
    tables.map(Some).ok_or(LinkError::SectionOutsideImage { section: info.index.sym })
}

fn tables<C: ElfClass, B: DerefMut<Target = [u8]>>(
    info: &LoadInfo<'_>,
    rules: &LinkRules,
    symbols: &Symbols,
    image: &mut Image<B>,
) -> Option<Kallsyms> {
    let layout = info.symtab?;
    let class = info.elf.class;
    let endian = info.elf.endian;
    let count = info.symbol_count();
    let size = class.symbol_size();
    let core = core_symbol_sections(info, rules);
    let mut names = StringTable::new(info.strtab());
    let mut left = layout.core_strtab_size;
    let mut string_offset = 0u64;
    let mut kept = 0usize;
    let table = info.contents(info.index.sym);
    let entries = table.chunks_exact(size);

    for (index, (raw, entry)) in C::symbols(table).iter().zip(entries).enumerate() {
        let symbol = C::symbol(raw, endian);
        let letter = elf_type(info, &symbol);
        match layout.init_typetab {
            Some(types) => put(image, types, index as u64, &[letter])?,
            // Kernels without a table of letters keep them in st_info of both copies.
            None => {
                let at = info.placement.get(info.index.sym).copied().flatten()?;
                put(image, at, (index * size + info_offset(class)) as u64, &[letter])?;
            }
        }
        let keep = index == 0
            || info.livepatch
            || symbol.name != 0 && core.get(usize::from(symbol.shndx)).copied().unwrap_or(false);
        if !keep {
            continue;
        }
        let mut copy = [0u8; 24];
        let copy = copy.get_mut(..size)?;
        copy.copy_from_slice(entry);
        let value = symbols.values.get(index).copied().unwrap_or(symbol.value);
        match class {
            Class::Elf32 => copy.get_mut(4..8)?.copy_from_slice(&endian.u32_bytes(value as u32)),
            Class::Elf64 => copy.get_mut(8..16)?.copy_from_slice(&endian.u64_bytes(value)),
        }
        copy.get_mut(..4)?.copy_from_slice(&endian.u32_bytes(string_offset as u32));
        match layout.core_typetab {
            Some(types) => put(image, types, kept as u64, &[letter])?,
            None => *copy.get_mut(info_offset(class))? = letter,
        }
        put(image, layout.core_symtab, (kept * size) as u64, copy)?;
        kept += 1;

        // strscpy(): what does not fit is cut off, and ends the copy.
        let name = names.get(symbol.name);
        if name.len() as u64 >= left {
            let fits = usize::try_from(left.saturating_sub(1)).ok()?;
            put(image, layout.core_strtab, string_offset, name.get(..fits)?)?;
            break;
        }
        put(image, layout.core_strtab, string_offset, name)?;
        string_offset += name.len() as u64 + 1;
        left -= name.len() as u64 + 1;
    }

    let typetab = |at: Option<Placement>| at.map_or(Some(0), |at| image.address(at));
    let kallsyms = Kallsyms {
        address: if rules.mod_kallsyms { image.address(layout.mod_kallsyms)? } else { 0 },
        init: ModKallsyms {
            symtab: info.section_addr(info.index.sym),
            num_symtab: count as u32,
            strtab: info.section_addr(info.index.str),
            typetab: typetab(layout.init_typetab)?,
        },
        core: ModKallsyms {
            symtab: image.address(layout.core_symtab)?,
            num_symtab: kept as u32,
            strtab: image.address(layout.core_strtab)?,
            typetab: typetab(layout.core_typetab)?,
        },
    };
    if rules.mod_kallsyms {
        let word = class.pointer_size() as u64;
        let pointer = |value: u64| {
            let bytes = match class {
                Class::Elf32 => u64::from_le_bytes(widen(&endian.u32_bytes(value as u32))),
                Class::Elf64 => u64::from_le_bytes(endian.u64_bytes(value)),
            };
            bytes.to_le_bytes()
        };
        let ModKallsyms { symtab, num_symtab, strtab, typetab } = kallsyms.init;
        let at = layout.mod_kallsyms;
        let bytes = word as usize;
        put(image, at, 0, pointer(symtab).get(..bytes)?)?;
        put(image, at, word, &endian.u32_bytes(num_symtab))?;
        put(image, at, 2 * word, pointer(strtab).get(..bytes)?)?;
        if rules.typetab {
            put(image, at, 3 * word, pointer(typetab).get(..bytes)?)?;
        }
    }
    Some(kallsyms)
}

/// Offset of `st_info` in a symbol.
const fn info_offset(class: Class) -> usize {
    match class {
        Class::Elf32 => 12,
        Class::Elf64 => 4,
    }
}

fn widen(bytes: &[u8; 4]) -> [u8; 8] {
    let [a, b, c, d] = *bytes;
    [a, b, c, d, 0, 0, 0, 0]
}

fn put<B: DerefMut<Target = [u8]>>(
    image: &mut Image<B>,
    at: Placement,
    offset: u64,
    bytes: &[u8],
) -> Option<()> {
    let at = Placement { region: at.region, offset: at.offset.checked_add(offset)? };
    image.placed_mut(at, bytes.len())?.copy_from_slice(bytes);
    Some(())
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use lkm_module::elf::Endian;
    use lkm_module::elf::consts::*;
    use lkm_module::elf::string_at;

    use super::*;
    use crate::Arch;
    use crate::test_support::*;

    fn symbol(bind: u8, kind: u8, shndx: u16) -> RawSymbol {
        RawSymbol { info: bind << 4 | kind, shndx, ..RawSymbol::default() }
    }

    #[test]
    fn the_first_rule_that_matches_gives_the_letter() {
        let mut object = module(Arch::X86_64);
        let section = |object: &mut lkm_module::testing::ObjectBuilder, name, kind, flags| {
            object.section(name, kind, flags, 1, &[0]) as u16
        };
        let text = section(&mut object, ".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR);
        let rodata = section(&mut object, ".rodata", SHT_PROGBITS, SHF_ALLOC);
        let data = section(&mut object, ".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE);
        let bss = object.nobits(".bss", SHF_ALLOC | SHF_WRITE, 1, 1) as u16;
        let percpu = section(&mut object, ".data..percpu", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE);
        let debug = section(&mut object, ".debug_info", SHT_PROGBITS, 0);
        let comment = section(&mut object, ".comment", SHT_PROGBITS, 0);
        let file = object.finish();
        let (info, _) = lay_out(&file, Arch::X86_64, &rules_6_1(Arch::X86_64)).unwrap();
        for (symbol, letter) in [
            (symbol(STB_WEAK, STT_OBJECT, text), b'v'),
            (symbol(STB_WEAK, STT_FUNC, SHN_UNDEF), b'w'),
            (symbol(STB_GLOBAL, STT_NOTYPE, SHN_UNDEF), b'U'),
            (symbol(STB_GLOBAL, STT_NOTYPE, SHN_ABS), b'a'),
            (symbol(STB_LOCAL, STT_OBJECT, percpu), b'a'),
            (symbol(STB_LOCAL, STT_OBJECT, SHN_COMMON), b'?'),
            (symbol(STB_LOCAL, STT_FUNC, text), b't'),
            (symbol(STB_LOCAL, STT_OBJECT, rodata), b'r'),
            (symbol(STB_LOCAL, STT_OBJECT, data), b'd'),
            (symbol(STB_LOCAL, STT_OBJECT, bss), b'b'),
            (symbol(STB_LOCAL, STT_OBJECT, debug), b'n'),
            (symbol(STB_LOCAL, STT_OBJECT, comment), b'?'),
            (symbol(STB_LOCAL, STT_OBJECT, 1000), b'?'),
        ] {
            let found = elf_type(&info, &symbol);
            assert_eq!(char::from(found), char::from(letter), "{symbol:?}");
        }
    }

    /// (name, value, letter) of each symbol of a set of tables, read back from memory.
    fn read(linked: &Linked<'_>, tables: ModKallsyms, class: Class) -> Vec<(String, u64, char)> {
        let size = class.symbol_size();
        (0..tables.num_symtab as usize)
            .map(|index| {
                let at = tables.symtab + (index * size) as u64;
                let raw = linked.image.slice(at, size).unwrap();
                let symbol = match class {
                    Class::Elf32 => Elf32::symbol(&Elf32::symbols(raw)[0], Endian::Little),
                    Class::Elf64 => Elf64::symbol(&Elf64::symbols(raw)[0], Endian::Little),
                };
                let names = linked.image.locate(tables.strtab).unwrap();
                let region = linked.image.region(names.region).unwrap();
                let name = string_at(&region.bytes[names.offset as usize..], symbol.name);
                let letter = match tables.typetab {
                    0 => symbol.info,
                    types => linked.image.slice(types + index as u64, 1).unwrap()[0],
                };
                (String::from_utf8(name.to_vec()).unwrap(), symbol.value, char::from(letter))
            })
            .collect()
    }

    #[test]
    fn both_sets_of_tables_tell_names_values_and_letters() {
        for arch in [Arch::X86_64, Arch::Arm] {
            for typetab in [true, false] {
                let mut object = module(arch);
                let flags = SHF_ALLOC | SHF_EXECINSTR;
                let text = object.section(".text", SHT_PROGBITS, flags, 4, &[0; 16]);
                let init = object.section(".init.text", SHT_PROGBITS, flags, 4, &[0; 16]);
                object.local("first", text, 4);
                object.local("gone", init, 0);
                object.undefined("printk");
                object.global("second", text, 8);
                let file = object.finish();
                let rules = LinkRules { typetab, kallsyms_all: false, ..rules_6_1(arch) };
                let mut exports = Exports::default();
                exports.exports.insert("printk", Ok(0xc000_1000));
                let mut linked = link(&file, arch, &rules, 0xbf00_0000, &mut exports, &mut ()).unwrap();
                let symbols = core::mem::take(&mut linked.symbols);
                let found = add_kallsyms(&linked.info, &rules, &symbols, &mut linked.image).unwrap().unwrap();

                let (text, init) = (linked.info.section_addr(text), linked.info.section_addr(init));
                let class = arch.class();
                let expect = |rows: &[(&str, u64, char)]| {
                    rows.iter()
                        .map(|(name, value, letter)| ((*name).into(), *value, *letter))
                        .collect::<Vec<_>>()
                };
                let all = expect(&[
                    ("", 0, 'U'),
                    ("first", text + 4, 't'),
                    ("gone", init, 't'),
                    ("printk", 0xc000_1000, 'U'),
                    ("second", text + 8, 't'),
                ]);
                let kept = expect(&[("", 0, 'U'), ("first", text + 4, 't'), ("second", text + 8, 't')]);
                assert_eq!(read(&linked, found.init, class), all);
                assert_eq!(read(&linked, found.core, class), kept);

                // struct mod_kallsyms: symtab, number, strtab, typetab, each in a pointer's room.
                let word = class.pointer_size();
                let field = |number: usize| {
                    let at = found.address + (number * word) as u64;
                    class.pointer(Endian::Little, linked.image.slice(at, word).unwrap())
                };
                assert_eq!((field(0), field(1), field(2)), (found.init.symtab, 5, found.init.strtab));
                if typetab {
                    assert_eq!(field(3), found.init.typetab);
                }
                // Nothing is written behind the tables.
                let core = linked.image.region(crate::RegionKind::Core).unwrap();
                let layout = linked.info.symtab.unwrap();
                let end = layout
                    .core_typetab
                    .map_or(layout.core_strtab.offset + layout.core_strtab_size, |types| {
                        types.offset + layout.core_symbols as u64
                    });
                assert!(core.bytes[end as usize..].iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn kernels_without_kallsyms_have_none() {
        let file = module(Arch::X86_64).finish();
        let rules = LinkRules { kallsyms: false, ..rules_6_1(Arch::X86_64) };
        let mut exports = Exports::default();
        let mut linked =
            link(&file, Arch::X86_64, &rules, 0xffff_ffff_c000_0000, &mut exports, &mut ()).unwrap();
        let symbols = linked.symbols.clone();
        assert_eq!(add_kallsyms(&linked.info, &rules, &symbols, &mut linked.image), Ok(None));
    }
}
