//! Small modules made to measure, and a kernel to load them into.

use lkm_kernel::*;
use lkm_module::Errno;
use lkm_module::elf::Class;
use lkm_module::elf::Endian;
use lkm_module::elf::consts::*;
use lkm_module::testing::ObjectBuilder;

pub(crate) const DEBIAN: &str = "debian-6.1-amd64";
pub(crate) const MAGIC: &str = "6.1.0-56-cloud-amd64 SMP preempt mod_unload modversions ";

/// A small x86_64 module in the making.
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) modinfo: Vec<(String, String)>,
    pub(crate) versions: Option<Vec<(String, u32)>>,
    pub(crate) imports: Vec<String>,
    /// Name, table and namespace.
    pub(crate) exports: Vec<(String, &'static str, Option<String>)>,
    pub(crate) crcs: bool,
    pub(crate) size: usize,
}

impl Draft {
    /// A module that loads without a word on Debian's 6.1, but for the signature.
    pub(crate) fn new(name: &str) -> Draft {
        let modinfo =
            [("name", name), ("vermagic", MAGIC), ("intree", "Y"), ("retpoline", "Y"), ("license", "GPL")];
        Draft {
            name: name.into(),
            modinfo: modinfo.iter().map(|(tag, value)| (tag.to_string(), value.to_string())).collect(),
            versions: Some(vec![("module_layout".into(), 0x1234)]),
            imports: Vec::new(),
            exports: Vec::new(),
            crcs: true,
            size: 0x380,
        }
    }

    pub(crate) fn tag(mut self, tag: &str, value: &str) -> Draft {
        self.modinfo.retain(|(known, _)| known != tag || tag == "import_ns");
        self.modinfo.push((tag.into(), value.into()));
        self
    }

    pub(crate) fn without(mut self, tag: &str) -> Draft {
        self.modinfo.retain(|(known, _)| known != tag);
        self
    }

    /// An import with a version record.
    pub(crate) fn import(mut self, name: &str, crc: u32) -> Draft {
        self.imports.push(name.into());
        if let Some(versions) = &mut self.versions {
            versions.push((name.into(), crc));
        }
        self
    }

    pub(crate) fn import_without_version(mut self, name: &str) -> Draft {
        self.imports.push(name.into());
        self
    }

    pub(crate) fn export(mut self, name: &str, gpl: bool, namespace: Option<&str>) -> Draft {
        let table = if gpl { "_gpl" } else { "" };
        self.exports.push((name.into(), table, namespace.map(str::to_string)));
        self
    }

    /// An export in the table `__ksymtab` with this ending.
    pub(crate) fn export_in(mut self, name: &str, table: &'static str) -> Draft {
        self.exports.push((name.into(), table, None));
        self
    }

    pub(crate) fn builder(&self) -> ObjectBuilder {
        let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
        let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 16, &[0xc3; 64]);
        let init = object.global("init_module", text, 0);
        let exit = object.global("cleanup_module", text, 16);
        let tags: Vec<_> = self.modinfo.iter().map(|(tag, value)| (tag.as_str(), value.as_str())).collect();
        object.modinfo(&tags);
        let exit_offset = if self.size == 0x500 { 0x4b0 } else { 0x350 };
        object.this_module(&self.name, self.size, Some((0x138, init)), Some((exit_offset, exit)));
        if let Some(versions) = &self.versions {
            let versions: Vec<_> = versions.iter().map(|(name, crc)| (name.as_str(), *crc)).collect();
            object.versions(&versions);
        }
        for import in &self.imports {
            object.undefined(import);
        }
        self.add_exports(&mut object, text);
        object
    }

    pub(crate) fn add_exports(&self, object: &mut ObjectBuilder, text: usize) {
        if self.exports.is_empty() {
            return;
        }
        let mut strings = vec![0];
        let mut place = |text: &str| {
            let at = strings.len() as i64;
            strings.extend(text.bytes());
            strings.push(0);
            at
        };
        let placed: Vec<_> = self
            .exports
            .iter()
            .map(|(name, table, space)| (name, *table, place(name), place(space.as_deref().unwrap_or(""))))
            .collect();
        let strings = object.section("__ksymtab_strings", SHT_PROGBITS, SHF_ALLOC, 1, &strings);
        let strings = object.section_symbol(strings);
        for suffix in ["", "_gpl", "_gpl_future", "_unused", "_unused_gpl"] {
            let rows: Vec<_> = placed.iter().filter(|row| row.1 == suffix).collect();
            if rows.is_empty() {
                continue;
            }
            let zeros = vec![0; 12 * rows.len()];
            let table = object.section(&format!("__ksymtab{suffix}"), SHT_PROGBITS, SHF_ALLOC, 4, &zeros);
            for (index, (name, _, name_at, space_at)) in rows.iter().enumerate() {
                let symbol = object.global(name, text, 32);
                let at = 12 * index as u64;
                object.prel32(table, at, symbol, 0);
                object.prel32(table, at + 4, strings, *name_at);
                object.prel32(table, at + 8, strings, *space_at);
            }
            if self.crcs {
                let crcs: Vec<u8> = rows.iter().flat_map(|_| 0x77u32.to_le_bytes()).collect();
                object.section(&format!("__kcrctab{suffix}"), SHT_PROGBITS, SHF_ALLOC, 4, &crcs);
            }
        }
    }

    pub(crate) fn file(&self) -> Vec<u8> {
        self.builder().finish()
    }
}

pub(crate) struct World {
    pub(crate) kernel: Kernel,
    pub(crate) host: Bookkeeper,
}

impl World {
    pub(crate) fn boot(profile: &str) -> World {
        World::with(Profile::by_name(profile).expect("a known profile"))
    }

    pub(crate) fn with(profile: Profile) -> World {
        let mut host = Bookkeeper::new(&profile);
        let crc = profile.config.modversions.then_some(0x1234);
        host.export(b"module_layout", 0x6000_0000, crc, false, b"");
        host.export(b"plain", 0x6000_0040, crc.map(|_| 1), false, b"");
        host.export(b"gpl", 0x6000_0080, crc.map(|_| 2), true, b"");
        host.export(b"spaced", 0x6000_00c0, crc.map(|_| 3), false, b"SPACE");
        World { kernel: Kernel::new(profile), host }
    }

    pub(crate) fn finit(&mut self, file: &[u8], flags: u32) -> Result<ModuleId, LoadError> {
        let facts = FileFacts::regular(file.len() as u64);
        finit_module(&mut self.kernel, &mut self.host, &facts, file, Some(b""), flags)
    }

    pub(crate) fn load(&mut self, file: &[u8]) -> Result<ModuleId, LoadError> {
        init_module(&mut self.kernel, &mut self.host, file, Some(b""))
    }

    pub(crate) fn log(&mut self) -> String {
        let text = self.host.log_text();
        self.host.lines.clear();
        text
    }

    /// A load that must fail: errno, stage and whole log; nothing may be left.
    #[track_caller]
    pub(crate) fn refuses(&mut self, file: &[u8], errno: Errno, stage: Stage, log: &str) {
        let modules = self.kernel.modules().count();
        let error = self.load(file).expect_err("is refused");
        assert_eq!((error.errno(), error.stage), (errno, stage), "{error}");
        assert_eq!(self.log(), log);
        assert_eq!(self.kernel.modules().count(), modules);
        assert!(!error.cause().is_empty() && error.cause().ends_with('.'), "{}", error.cause());
    }

    #[track_caller]
    pub(crate) fn accepts(&mut self, file: &[u8], log: &str) -> ModuleId {
        let id = match self.load(file) {
            Ok(id) => id,
            Err(error) => panic!("{error}\n{}", self.log()),
        };
        assert_eq!(self.log(), log);
        id
    }

    pub(crate) fn delete(&mut self, name: &str, flags: u32) -> Result<(), Errno> {
        delete_module(&mut self.kernel, &mut self.host, Some(name.as_bytes()), flags)
            .map_err(|error| error.errno())
    }
}

pub(crate) const UNSIGNED: &str =
    "<5>m: module verification failed: signature and/or required key missing - tainting kernel\n";
