//! Parameters: what modinfo tells users of them, and the `__param` table that the kernel parses arguments with.

use alloc::vec::Vec;

use crate::elf::Class;
use crate::elf::Elf;
use crate::elf::SymbolTable;
use crate::elf::Target;
use crate::elf::TargetMap;
use crate::modinfo::Modinfo;

/// A parameter as modinfo describes it: its `parm` and `parmtype` strings together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'data> {
    /// Its name.
    pub name: &'data [u8],
    /// The author's words (`MODULE_PARM_DESC`).
    pub description: Option<&'data [u8]>,
    /// The type as it is written in the source (`int`, `charp`, `array of int`, or the name of the author's own).
    pub kind: Option<&'data [u8]>,
}

/// A `parm` or `parmtype` string that has no `:` behind the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadParameter<'data> {
    /// `parm` or `parmtype`.
    pub tag: &'static str,
    /// The whole value.
    pub value: &'data [u8],
}

/// The parameters in the order in which modinfo first mentions them. For repeated strings the last one counts, as
/// in kmod.
pub fn parameters<'data>(modinfo: &Modinfo<'data>) -> Result<Vec<Parameter<'data>>, BadParameter<'data>> {
    // The place of first mention decides the order, sorting by name finds the equal ones.
    let mut mentions = Vec::new();
    for (place, tag) in modinfo.iter().enumerate() {
        let is_type = match tag.name {
            b"parm" => false,
            b"parmtype" => true,
            _ => continue,
        };
        let tag_name = if is_type { "parmtype" } else { "parm" };
        let value = tag.value.unwrap_or(&[]);
        let colon = value.iter().position(|&byte| byte == b':');
        let colon = colon.ok_or(BadParameter { tag: tag_name, value })?;
        let (name, rest) = value.split_at(colon);
        let text = rest.get(1..).unwrap_or(&[]);
        mentions.push((name, place, is_type, text));
    }
    mentions.sort_unstable();

    let mut merged: Vec<(usize, Parameter<'data>)> = Vec::new();
    for (name, place, is_type, text) in mentions {
        if merged.last().is_none_or(|(_, last)| last.name != name) {
            merged.push((place, Parameter { name, description: None, kind: None }));
        }
        if let Some((_, parameter)) = merged.last_mut() {
            let field = if is_type { &mut parameter.kind } else { &mut parameter.description };
            *field = Some(text);
        }
    }
    merged.sort_unstable_by_key(|(place, _)| *place);
    Ok(merged.into_iter().map(|(_, parameter)| parameter).collect())
}

/// Offsets in a `struct kernel_param`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamLayout {
    /// The whole structure.
    pub size: usize,
    /// `mod`, which kernels before 4.2 do not have.
    pub module: Option<usize>,
    /// `ops`
    pub ops: usize,
    /// `perm` (u16)
    pub perm: usize,
    /// `level` (s8)
    pub level: usize,
    /// `flags` (u8)
    pub flags: usize,
    /// `arg`, `str` or `arr`
    pub arg: usize,
}

impl ParamLayout {
    /// The layout for a word size: 40 or 20 bytes, without `mod` 32 or 16.
    pub const fn of(class: Class, has_module: bool) -> ParamLayout {
        let word = class.pointer_size();
        let ops = if has_module { 2 * word } else { word };
        let perm = ops + word;
        let arg = (perm + 4).next_multiple_of(word);
        ParamLayout {
            size: arg + word,
            module: if has_module { Some(word) } else { None },
            ops,
            perm,
            level: perm + 2,
            flags: perm + 3,
            arg,
        }
    }
}

/// `KERNEL_PARAM_FL_UNSAFE`: setting it taints the kernel.
pub const PARAM_UNSAFE: u8 = 1;
/// `KERNEL_PARAM_FL_HWPARAM`: it names hardware, which lockdown forbids.
pub const PARAM_HARDWARE: u8 = 2;

/// One `struct kernel_param` of the `__param` section, read through its relocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelParam<'data> {
    /// Name; `None` if the pointer leads nowhere.
    pub name: Option<&'data [u8]>,
    /// Mode of the file in /sys/module/X/parameters; 0 for no file.
    pub perm: u16,
    /// Level of the initcalls before which built-in code takes it; -1 in modules.
    pub level: i8,
    /// [`PARAM_UNSAFE`] and [`PARAM_HARDWARE`].
    pub flags: u8,
    /// The operations: a symbol such as `param_ops_int`, or a place in this module.
    pub ops: Option<Target<'data>>,
    /// What they work on: mostly a place in this module.
    pub arg: Option<Target<'data>>,
}

/// The `__param` table.
#[derive(Clone, Debug)]
pub struct KernelParams<'data> {
    /// How its entries are laid out.
    pub layout: ParamLayout,
    /// The entries in their order.
    pub entries: Vec<KernelParam<'data>>,
}

/// Reads `__param`; `None` without such a section (`SHF_ALLOC`, inside the file). A partial entry at the end is not
/// seen, as in the kernel.
///
/// Whether the entries have a `mod` field shows in the first: it points at the module's own `struct module`.
pub fn kernel_params<'data>(elf: &Elf<'data>, symbols: &SymbolTable<'data>) -> Option<KernelParams<'data>> {
    let section = elf.find_sec(b"__param")?;
    let contents = elf.section_data(section)?;
    let word = elf.class.pointer_size();
    let targets = TargetMap::of(elf, symbols, section, word);
    let this_module = elf.find_sec(b".gnu.linkonce.this_module");
    let second = targets.at(word as u64);
    let has_module = second.is_none_or(|target| target.section() == this_module && this_module.is_some());
    let layout = ParamLayout::of(elf.class, has_module);
    let entry = |(number, raw): (usize, &[u8])| {
        let at = |field: usize| targets.at((number * layout.size + field) as u64).copied();
        let byte = |field: usize| raw.get(field).copied().unwrap_or(0);
        KernelParam {
            name: at(0).and_then(|target| target.string(elf)),
            perm: elf.endian.u16(raw.get(layout.perm..).unwrap_or(&[])),
            level: byte(layout.level) as i8,
            flags: byte(layout.flags),
            ops: at(layout.ops),
            arg: at(layout.arg),
        }
    };
    let entries = contents.chunks_exact(layout.size).enumerate().map(entry).collect();
    Some(KernelParams { layout, entries })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Endian;
    use crate::elf::consts::*;
    use crate::testing::NewParam;
    use crate::testing::ObjectBuilder;

    #[test]
    fn parm_and_parmtype_are_merged() {
        let info = Modinfo::new(
            b"parm=b:second: with colon\0parmtype=a:int\0parmtype=b:charp\0parm=a:old\0parm=a:new\0parmtype=c:bool\0",
        );
        let parameter = |name, description, kind| Parameter { name, description, kind };
        assert_eq!(
            parameters(&info),
            Ok([
                parameter(&b"b"[..], Some(&b"second: with colon"[..]), Some(&b"charp"[..])),
                parameter(b"a", Some(b"new"), Some(b"int")),
                parameter(b"c", None, Some(b"bool")),
            ]
            .into())
        );
    }

    #[test]
    fn a_string_without_colon_is_named() {
        let info = Modinfo::new(b"parm=good:x\0parmtype=bad\0");
        assert_eq!(parameters(&info), Err(BadParameter { tag: "parmtype", value: b"bad" }));
        assert_eq!(parameters(&Modinfo::new(b"parm\0")), Err(BadParameter { tag: "parm", value: b"" }));
    }

    #[test]
    fn layouts_are_those_of_the_structures() {
        let offsets = |class, has_module| {
            let layout = ParamLayout::of(class, has_module);
            (layout.size, layout.ops, layout.perm, layout.level, layout.flags, layout.arg)
        };
        assert_eq!(offsets(Class::Elf64, true), (40, 16, 24, 26, 27, 32));
        assert_eq!(offsets(Class::Elf32, true), (20, 8, 12, 14, 15, 16));
        assert_eq!(offsets(Class::Elf64, false), (32, 8, 16, 18, 19, 24));
        assert_eq!(offsets(Class::Elf32, false), (16, 4, 8, 10, 11, 12));
    }

    #[test]
    fn the_table_is_read_with_and_without_mod() {
        for (class, endian, machine) in [
            (Class::Elf64, Endian::Little, EM_X86_64),
            (Class::Elf32, Endian::Little, EM_ARM),
            (Class::Elf32, Endian::Big, EM_PPC),
            (Class::Elf64, Endian::Big, EM_S390),
        ] {
            for has_module in [true, false] {
                let mut object = ObjectBuilder::new(class, endian, machine);
                let data = object.section(".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &[0; 16]);
                object.this_module("x", 0x200, None, None);
                let ops = object.undefined("param_ops_int");
                let arg = object.local("number", data, 8);
                let plain = NewParam { name: "plain", perm: 0o644, level: -1, flags: 0, ops, arg };
                let other = NewParam { name: "unsafe", perm: 0, level: -1, flags: PARAM_UNSAFE, ops, arg };
                let section = object.params(has_module, &[plain, other]);
                // A partial entry at the end is not seen.
                object.data(section).extend([0; 15]);
                let file = object.finish();
                let elf = Elf::parse(&file).unwrap();
                let read = kernel_params(&elf, &SymbolTable::of(&elf).unwrap()).unwrap();
                assert_eq!(read.layout, ParamLayout::of(class, has_module));
                let [first, second] = read.entries[..] else { panic!("{} entries", read.entries.len()) };
                assert_eq!(
                    (first.name, first.perm, first.level, first.flags),
                    (Some(&b"plain"[..]), 0o644, -1, 0)
                );
                assert_eq!((second.name, second.perm, second.flags), (Some(&b"unsafe"[..]), 0, PARAM_UNSAFE));
                let ops = first.ops.unwrap();
                assert_eq!((ops.name, ops.section()), (&b"param_ops_int"[..], None));
                let arg = second.arg.unwrap();
                assert_eq!((arg.name, arg.section(), arg.offset), (&b"number"[..], Some(data), 8));
            }
        }
    }
}
