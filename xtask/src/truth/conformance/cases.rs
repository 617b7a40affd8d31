//! What the real kernel and the loader are both asked.

use std::path::Path;

use lkm_link::Arch;

use super::super::Result;
use super::edit;
use super::edit::Edit;
use super::mutants;

/// One question: load a file, and unless it is to be kept, remove the module again.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Contents of the file; `None` for no load at all.
    pub(crate) file: Option<Vec<u8>>,
    /// Name of the module.
    pub(crate) module: String,
    /// Parameters.
    pub(crate) arguments: String,
    /// Flags of `finit_module`.
    pub(crate) flags: u32,
    /// By `init_module` instead.
    pub(crate) by_init_module: bool,
    /// What the module's code returns, call by call: functions that set parameters, then init.
    pub(crate) returns: Vec<i64>,
    /// The kernel dumps its stack.
    pub(crate) dumps: bool,
    /// `/proc/sys/kernel/modules_disabled` is set before.
    pub(crate) disabled: bool,
    /// The module stays loaded.
    pub(crate) keep: bool,
    /// Flags of `delete_module`.
    pub(crate) delete_flags: u32,
}

/// A fixture that the kernel's command line forbids.
pub(crate) const BLACKLISTED: &str = "rare";

/// `O_TRUNC`: by force.
const FORCE: u32 = 0o1000;

/// Parameters of `params` and what its own functions return for them.
const PARAMETERS: &[(&str, &[i64])] = &[
    ("", &[]),
    ("p_bool", &[]),
    ("p_bool=y p_bool=N p_bool=1 p_bool=0 p_bool=on p_bool=off", &[]),
    ("p_bool=2", &[]),
    ("p_bool=", &[]),
    ("p_bool=yes", &[]),
    ("p_bool=maybe", &[]),
    ("p_invbool=y", &[]),
    ("p_invbool=x", &[]),
    ("p_bint=1", &[]),
    ("p_bint", &[]),
    ("p_bint=7", &[]),
    ("p_enable_only=1", &[]),
    ("p_enable_only=0", &[]),
    ("p_enable_only=1 p_enable_only=0", &[]),
    ("p_byte=255", &[]),
    ("p_byte=256", &[]),
    ("p_byte=-1", &[]),
    ("p_byte", &[]),
    ("p_byte=", &[]),
    ("p_short=32767 p_ushort=65535", &[]),
    ("p_short=32768", &[]),
    ("p_short=-32769", &[]),
    ("p_ushort=-1", &[]),
    ("p_int=0x7fffffff", &[]),
    ("p_int=0x80000000", &[]),
    ("p_int=-2147483648", &[]),
    ("p_int=010", &[]),
    ("p_int=08", &[]),
    ("p_int=+5", &[]),
    ("p_int=+-5", &[]),
    ("p_int=5x", &[]),
    ("p_int= p_uint=1", &[]),
    ("p_int", &[]),
    ("p_uint=4294967295", &[]),
    ("p_uint=4294967296", &[]),
    ("p_long=-1 p_ulong=0xffffffff", &[]),
    ("p_ulong=99999999999999999999", &[]),
    ("p_ullong=18446744073709551615", &[]),
    ("p_ullong=18446744073709551616", &[]),
    ("p_hexint=0xabc", &[]),
    ("p_hexint=abc", &[]),
    ("p_charp=text", &[]),
    ("p_charp=\"two words\" p_int=3", &[]),
    ("p_charp=", &[]),
    ("p_charp", &[]),
    ("\"p_charp=quoted whole\"", &[]),
    ("p_string=1234567", &[]),
    ("p_string=12345678", &[]),
    ("p_string=", &[]),
    ("p_string", &[]),
    ("p_array=1,2,3,4", &[]),
    ("p_array=1,2,3,4,5", &[]),
    ("p_array=1,x,3", &[]),
    ("p_array=", &[]),
    ("p_array=1,", &[]),
    ("p_array=,1", &[]),
    ("p_array=1,99999999999", &[]),
    ("p_bytes=1,2,3", &[]),
    ("p_bytes=1,300", &[]),
    ("p_names=a,b", &[]),
    ("p_names=a,b,c", &[]),
    ("p_names=\"a b,c\"", &[]),
    ("p_outside=4", &[]),
    ("p_named_inside=4", &[]),
    ("p_hidden=12", &[]),
    ("p_unsafe=1", &[]),
    ("p-int=6", &[]),
    ("params.p_int=6", &[]),
    ("unknown=1", &[]),
    ("unknown", &[]),
    ("unknown=1 p_int=7 other", &[]),
    ("p_int=8 -- p_uint=9", &[]),
    ("--", &[]),
    ("p_int=9 --", &[]),
    ("-- p_int=x", &[]),
    ("  p_int=5   p_uint=6  ", &[]),
    ("p_int=x p_byte=999 p_bool=2", &[]),
    ("=5", &[]),
    ("=", &[]),
    ("p_int==5", &[]),
    ("\"", &[]),
    ("p_int=\"5\"", &[]),
    ("p_int=\"5", &[]),
    ("p_int=5\tp_uint=6", &[]),
    ("p_even=12", &[0]),
    ("p_even=7", &[-22]),
    ("p_even=13", &[-33]),
    ("p_flag", &[0]),
    ("p_flag=1", &[0]),
    ("p_even", &[]),
    ("async_probe", &[]),
    ("async_probe=1", &[]),
];

/// A builder of the list.
struct List<'a> {
    arch: Arch,
    fixtures: &'a Path,
    cases: Vec<Case>,
}

/// All cases, in the order in which one kernel is asked them. `symvers` are the kernel's exports, without which there are no
/// files with single damaged places.
pub(crate) fn all(arch: Arch, fixtures: &Path, symvers: Option<&str>) -> Result<Vec<Case>> {
    let mut list = List { arch, fixtures, cases: Vec::new() };
    list.life()?;
    list.parameters()?;
    list.headers()?;
    list.sections()?;
    list.symbols()?;
    list.versions()?;
    list.signatures()?;
    list.type_information()?;
    if let Some(symvers) = symvers {
        for (name, file) in mutants::refused(arch, &list.fixture("hello")?, symvers) {
            list.push(&name, "hello", Some(file))?;
        }
    }
    list.at_last()?;
    Ok(list.cases)
}

impl List<'_> {
    fn fixture(&self, module: &str) -> Result<Vec<u8>> {
        let path = self.fixtures.join(format!("{module}.ko"));
        std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()).into())
    }

    /// The fixture as it is; the case may still be changed.
    fn plain(&mut self, name: &str, module: &str) -> Result<&mut Case> {
        let file = Some(self.fixture(module)?);
        self.push(name, module, file)
    }

    fn push(&mut self, name: &str, module: &str, file: Option<Vec<u8>>) -> Result<&mut Case> {
        self.cases.push(Case {
            name: name.to_owned(),
            file,
            module: module.to_owned(),
            arguments: String::new(),
            flags: 0,
            by_init_module: false,
            returns: Vec::new(),
            dumps: false,
            disabled: false,
            keep: false,
            delete_flags: 0,
        });
        self.cases.last_mut().ok_or_else(|| "no case".into())
    }

    /// `hello` with something changed.
    fn changed(&mut self, name: &str, change: impl FnOnce(Edit) -> Option<Edit>) -> Result<&mut Case> {
        self.changed_module(name, "hello", change)
    }

    fn changed_module(
        &mut self,
        name: &str,
        module: &str,
        change: impl FnOnce(Edit) -> Option<Edit>,
    ) -> Result<&mut Case> {
        let file = Edit::new(self.arch, &self.fixture(module)?);
        let file = change(file).ok_or_else(|| format!("the file for {name} cannot be made"))?;
        self.push(name, module, Some(file.bytes))
    }

    /// Loading and removing as one does.
    fn life(&mut self) -> Result<()> {
        self.push("remove what is not there", "nothing", None)?;
        self.push("remove without a name", "", None)?;
        self.push("remove a name that is too long", &"x".repeat(80), None)?;
        self.plain("hello", "hello")?;
        self.plain("hello by init_module", "hello")?.by_init_module = true;
        self.plain("hello with parameters", "hello")?.arguments = String::from("who=you count=2");
        self.plain("kept", "hello")?.keep = true;
        self.plain("twice", "hello")?;
        self.push("remove what was kept", "hello", None)?;
        self.plain("a user without what it uses", "user")?;
        self.plain("exporter", "exporter")?.keep = true;
        self.plain("a namespace not imported", "user_nons")?;
        self.plain("GPL-only for proprietary", "user_proprietary")?;
        self.plain("user", "user")?.keep = true;
        self.push("remove what is used", "exporter", None)?;
        self.push("remove what is used, by force", "exporter", None)?.delete_flags = FORCE;
        self.changed_module("exports that are there already", "exporter", |file| {
            file.replace(".gnu.linkonce.this_module", b"exporter", b"exportex")
        })?;
        self.push("remove user", "user", None)?;
        self.push("remove exporter", "exporter", None)?;
        self.plain("init fails", "init_einval")?.returns = vec![-22];
        self.plain("init returns a positive number", "init_positive")?.returns = vec![5];
        self.plain("no init", "no_init")?;
        self.plain("no exit", "no_exit")?;
        self.push("no exit, by force", "no_exit", None)?.delete_flags = FORCE;
        self.plain("percpu", "percpu")?;
        for flags in [1, 2, 3, 4, 8, 0x8000_0000] {
            self.plain(&format!("flags {flags:#x}"), "hello")?.flags = flags;
        }
        Ok(())
    }

    fn parameters(&mut self) -> Result<()> {
        for (arguments, returns) in PARAMETERS {
            let case = self.plain(&format!("params {arguments:?}"), "params")?;
            case.arguments = (*arguments).to_owned();
            case.returns = returns.to_vec();
        }
        // More is refused with a line that is too long for a record of the kernel's log.
        for length in [1023, 1024] {
            self.plain(&format!("params p_charp of {length}"), "params")?.arguments =
                format!("p_charp={}", "c".repeat(length));
        }
        // Not for `params`: a file of the kernel goes by that name, and it would begin to talk.
        self.plain("dynamic debug", "hello")?.arguments = String::from("dyndbg=+p");
        Ok(())
    }

    fn headers(&mut self) -> Result<()> {
        let length = self.fixture("hello")?.len();
        for (name, length) in [
            ("empty", 0),
            ("one byte", 1),
            ("half a header", 32),
            ("a byte short of a header", if self.arch == Arch::X86_64 { 63 } else { 51 }),
            ("a header", if self.arch == Arch::X86_64 { 64 } else { 52 }),
            ("half", length / 2),
            ("a byte short", length - 1),
        ] {
            self.changed(&format!("length: {name}"), |file| file.truncate(length))?;
            self.changed(&format!("length: {name}, by init_module"), |file| file.truncate(length))?
                .by_init_module = true;
        }
        self.changed("a text", |file| file.truncate(0)?.append(b"#!/bin/sh\necho hello\n"))?;
        self.changed("a byte more", |file| file.append(b"x"))?;
        self.changed("magic", |file| file.byte(1, b'X'))?;
        for (name, at, value) in [
            ("class", 4, 3),
            ("class swapped", 4, if self.arch == Arch::X86_64 { 1 } else { 2 }),
            ("data", 5, 2),
            ("ident version", 6, 0),
            ("OS ABI", 7, 255),
        ] {
            self.changed(&format!("ident: {name}"), |file| file.byte(at, value))?;
        }
        for (name, field, value) in [
            ("type executable", edit::E_TYPE, 2),
            ("type shared", edit::E_TYPE, 3),
            ("machine", edit::E_MACHINE, 0x1234),
            ("machine none", edit::E_MACHINE, 0),
            ("version", edit::E_VERSION, 9),
            ("flags", edit::E_FLAGS, 0xffff_ffff),
            ("no flags", edit::E_FLAGS, 0),
            ("header size", edit::E_EHSIZE, 0),
            ("program headers", edit::E_PHNUM, 5),
            ("section header size", edit::E_SHENTSIZE, 63),
            ("section header size 0", edit::E_SHENTSIZE, 0),
            ("section headers at the end", edit::E_SHOFF, length as u64),
            ("section headers beyond", edit::E_SHOFF, 0x7fff_ffff),
            ("section headers one later", edit::E_SHOFF, length as u64 - 40),
            ("no sections", edit::E_SHNUM, 0),
            ("too many sections", edit::E_SHNUM, 0xffff),
            ("no name table", edit::E_SHSTRNDX, 0),
            ("name table beyond", edit::E_SHSTRNDX, 0xfff0),
            ("name table extended", edit::E_SHSTRNDX, 0xffff),
        ] {
            self.changed(&format!("header: {name}"), |file| file.header(field, value))?;
        }
        Ok(())
    }

    fn sections(&mut self) -> Result<()> {
        self.changed("names: in .text", |file| {
            let text = file.index(".text")?;
            file.header(edit::E_SHSTRNDX, text)
        })?;
        for (name, section, field, value) in [
            ("names: size 0", ".shstrtab", edit::SH_SIZE, 0),
            ("names: not a string table", ".shstrtab", edit::SH_TYPE, 1),
            ("names: offset", ".shstrtab", edit::SH_OFFSET, 0x7fff_ffff),
            ("names: not terminated", ".shstrtab", edit::SH_SIZE, 20),
            ("section 0: type", "", edit::SH_TYPE, 1),
            ("section 0: size", "", edit::SH_SIZE, 1),
            ("section 0: address", "", edit::SH_ADDR, 1),
            ("section 0: flags", "", edit::SH_FLAGS, 7),
            (".text: offset", ".text", edit::SH_OFFSET, 0x7fff_ffff),
            (".text: size", ".text", edit::SH_SIZE, 0x7fff_ffff),
            (".text: name", ".text", edit::SH_NAME, 0x7fff_ffff),
            (".text: writable", ".text", edit::SH_FLAGS, 7),
            (".comment: name", ".comment", edit::SH_NAME, 0x400),
            (".bss: offset", ".bss", edit::SH_OFFSET, 0x7fff_ffff),
            (".symtab: no symbols", ".symtab", edit::SH_TYPE, 1),
            (".symtab: link beyond", ".symtab", edit::SH_LINK, 0xffff),
            (".symtab: link 0", ".symtab", edit::SH_LINK, 0x7fff_ffff),
            ("this_module: not in memory", ".gnu.linkonce.this_module", edit::SH_FLAGS, 1),
            (".modinfo: not in memory", ".modinfo", edit::SH_FLAGS, 0),
            ("__versions: not in memory", "__versions", edit::SH_FLAGS, 0),
        ] {
            self.changed(name, |file| file.section(section, field, value))?;
        }
        // Not every kernel says so.
        self.changed(".bss: size", |file| file.section(".bss", edit::SH_SIZE, 1 << 30))?.dumps = true;
        Ok(())
    }

    fn symbols(&mut self) -> Result<()> {
        self.changed("symbol: common", |file| file.symbol("hello.c", edit::ST_SHNDX, 0xfff2))?;
        self.changed("symbol: section index", |file| {
            let count = file.count()?;
            file.symbol("hello.c", edit::ST_SHNDX, count)
        })?;
        self.changed("symbol: reserved section index", |file| {
            file.symbol("hello.c", edit::ST_SHNDX, 0xff05)
        })?;
        self.changed("symbol: livepatch", |file| file.symbol("hello.c", edit::ST_SHNDX, 0xff20))?;
        self.changed("symbol: unknown", |file| file.replace(".strtab", b"\0_printk\0", b"\0_prinxk\0"))?;
        self.changed("relocation: type", |file| file.relocation_type(".exit.text", 200))?;
        self.changed("relocation: type 255", |file| file.relocation_type(".exit.text", 255))?;
        if self.arch == Arch::X86_64 {
            self.changed("relocation: place not zero", |file| file.relocation_place(".exit.text", 1))?;
            self.changed("relocation: overflow", |file| file.relocation_type(".exit.text", 10))?;
        } else {
            self.changed("relocation: offset", |file| {
                file.relocation(".exit.text", edit::R_OFFSET, 0x7fff_fff0)
            })?;
            self.changed("relocation: symbol", |file| {
                file.relocation(".exit.text", edit::R_INFO, 0xffff_0002)
            })?;
        }
        self.changed("name: with a slash", |file| {
            file.replace(".gnu.linkonce.this_module", b"hello", b"he/lo")
        })?
        .module = String::from("he/lo");
        self.changed("name: another in modinfo", |file| {
            file.replace(".modinfo", b"\0name=hello", b"\0name=jello")
        })?;
        Ok(())
    }

    fn versions(&mut self) -> Result<()> {
        for (name, to) in [("vermagic: release", &b"vermagic=7."[..]), ("vermagic: none", b"vermagix=6.")] {
            self.changed(name, |file| file.replace(".modinfo", b"vermagic=6.", to))?;
        }
        self.changed("vermagic: options", |file| file.replace(".modinfo", b" SMP ", b" UP3 "))?;
        self.changed("vermagic: release, no versions", |file| {
            file.replace(".modinfo", b"vermagic=6.", b"vermagic=7.")?.section("__versions", edit::SH_FLAGS, 0)
        })?;
        self.changed("vermagic: options, ignored", |file| file.replace(".modinfo", b" SMP ", b" UP3 "))?
            .flags = 2;
        for (name, license) in [
            ("license: lower case", &b"license=gpl\0"[..]),
            ("license: other", b"license=MIT\0"),
            ("license: none", b"licensx=GPL\0"),
        ] {
            self.changed(name, |file| file.replace(".modinfo", b"license=GPL\0", license))?;
        }
        let word = if self.arch == Arch::X86_64 { 8 } else { 4 };
        let crc = move |file: Edit, symbol: &[u8]| {
            let (start, size) = file.contents("__versions")?;
            let table = file.bytes.get(start..start + size)?;
            let at = table.windows(symbol.len()).position(|window| window == symbol)?;
            let first = start + at - word;
            let value = *file.bytes.get(first)?;
            file.byte(first, value ^ 1)
        };
        self.changed("CRC: _printk", |file| crc(file, b"_printk\0"))?;
        self.changed("CRC: module_layout", |file| crc(file, b"module_layout\0"))?;
        self.changed("CRC: _printk, ignored", |file| crc(file, b"_printk\0"))?.flags = 1;
        self.changed("CRC: entry of another", |file| file.replace("__versions", b"_printk\0", b"_prinxk\0"))?;
        self.changed_module("CRC: exports without", "exporter", |file| {
            file.section("__kcrctab", edit::SH_FLAGS, 0)?.section("__kcrctab_gpl", edit::SH_FLAGS, 0)
        })?;
        Ok(())
    }

    /// What changes the kernel for good.
    fn at_last(&mut self) -> Result<()> {
        self.plain(BLACKLISTED, BLACKLISTED)?;
        // The kernel warns with a stack dump.
        let case =
            self.changed("name: none", |file| file.replace(".gnu.linkonce.this_module", b"hello", &[0; 5]))?;
        (case.module, case.dumps) = (String::new(), true);
        self.plain("before modules are disabled", "hello")?.keep = true;
        self.plain("modules disabled", "no_init")?.disabled = true;
        let case = self.push("removal when modules are disabled", "hello", None)?;
        case.disabled = true;
        Ok(())
    }

    /// `.comment` stands in for type information, which the fixtures do not have.
    fn type_information(&mut self) -> Result<()> {
        let btf = |file: Edit| file.replace(".shstrtab", b"\0.comment\0", b"\0.BTF\0ent\0");
        self.changed("BTF: a text", btf)?;
        self.changed("BTF: again", btf)?;
        let words = |words: [u32; 6]| words.map(u32::to_le_bytes).concat();
        const FIRST: u32 = 0x0001_eb9f;
        for (name, size, header) in [
            ("too short", 7, words([FIRST, 24, 0, 0, 0, 0])),
            ("header longer than the section", 24, words([FIRST, 25, 0, 0, 0, 0])),
            ("another version", 24, words([FIRST + (1 << 16), 24, 0, 0, 0, 0])),
            ("flags", 24, words([FIRST + (1 << 24), 24, 0, 0, 0, 0])),
            ("more header than is known", 27, words([FIRST, 27, 0, 0, 0, 0])),
            ("parts elsewhere", 24, words([FIRST, 24, 9, 0, 0, 0])),
            ("parts apart", 25, words([FIRST, 24, 0, 0, 1, 0])),
            ("parts that overlap", 26, words([FIRST, 24, 0, 2, 1, 1])),
            ("parts too long", 24, words([FIRST, 24, 0, 1, 1, 1])),
            ("something behind", 26, words([FIRST, 24, 0, 0, 0, 1])),
            ("strings before types", 26, words([FIRST, 24, 1, 1, 0, 1])),
            ("strings without end", 25, words([FIRST, 24, 0, 0, 0, 1])),
        ] {
            self.changed(&format!("BTF: {name}"), |file| {
                let (start, length) = file.contents(".comment")?;
                let mut file = btf(file)?.section(".BTF", edit::SH_SIZE, size)?;
                let place = file.bytes.get_mut(start..start + length.min(size as usize))?;
                place.fill(b'x');
                let known = place.len().min(header.len());
                place.get_mut(..known)?.copy_from_slice(header.get(..known)?);
                Some(file)
            })?;
        }
        Ok(())
    }

    fn signatures(&mut self) -> Result<()> {
        const MARKER: &[u8] = b"~Module signature appended~\n";
        self.changed("signature: marker alone", |file| file.append(MARKER))?;
        for (name, id, length, pkcs7) in [
            ("length 0", 2, 0, 0),
            ("too long", 2, u32::MAX, 0),
            ("garbage", 2, 64, 64),
            ("another type", 1, 16, 16),
        ] {
            self.changed(&format!("signature: {name}"), |file| {
                // algo, hash, id_type, signer_len, key_id_len, pad (3), sig_len
                let mut trailer = [0, 0, id, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                trailer[8..].copy_from_slice(&u32::to_be_bytes(length));
                file.append(&vec![0x5a; pkcs7])?.append(&trailer)?.append(MARKER)
            })?;
        }
        self.changed("signature: nothing but the marker", |file| file.truncate(0)?.append(MARKER))?;
        self.changed("signature: five bytes and the marker", |file| {
            file.truncate(0)?.append(b"12345")?.append(MARKER)
        })?
        .by_init_module = true;
        Ok(())
    }
}
