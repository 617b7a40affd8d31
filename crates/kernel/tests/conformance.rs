//! The loader's refusals: errno, log line and taints as measured on the kernels.

use std::ops::Range;

use lkm_kernel::*;
use lkm_link::Region;
use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::elf::Class;
use lkm_module::elf::Endian;
use lkm_module::elf::RawSymbol;
use lkm_module::elf::consts::*;
use lkm_module::testing::ObjectBuilder;

const DEBIAN: &str = "debian-6.1-amd64";
const MAGIC: &str = "6.1.0-56-cloud-amd64 SMP preempt mod_unload modversions ";

/// A small x86_64 module in the making.
struct Draft {
    name: String,
    modinfo: Vec<(String, String)>,
    versions: Option<Vec<(String, u32)>>,
    imports: Vec<String>,
    exports: Vec<(String, bool, Option<String>)>,
    crcs: bool,
    size: usize,
}

impl Draft {
    /// A module that loads without a word on Debian's 6.1, but for the signature.
    fn new(name: &str) -> Draft {
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

    fn tag(mut self, tag: &str, value: &str) -> Draft {
        self.modinfo.retain(|(known, _)| known != tag || tag == "import_ns");
        self.modinfo.push((tag.into(), value.into()));
        self
    }

    fn without(mut self, tag: &str) -> Draft {
        self.modinfo.retain(|(known, _)| known != tag);
        self
    }

    /// An import with a version record.
    fn import(mut self, name: &str, crc: u32) -> Draft {
        self.imports.push(name.into());
        if let Some(versions) = &mut self.versions {
            versions.push((name.into(), crc));
        }
        self
    }

    fn import_without_version(mut self, name: &str) -> Draft {
        self.imports.push(name.into());
        self
    }

    fn export(mut self, name: &str, gpl: bool, namespace: Option<&str>) -> Draft {
        self.exports.push((name.into(), gpl, namespace.map(str::to_string)));
        self
    }

    fn builder(&self) -> ObjectBuilder {
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

    fn add_exports(&self, object: &mut ObjectBuilder, text: usize) {
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
            .map(|(name, gpl, space)| (name, *gpl, place(name), place(space.as_deref().unwrap_or(""))))
            .collect();
        let strings = object.section("__ksymtab_strings", SHT_PROGBITS, SHF_ALLOC, 1, &strings);
        let strings = object.section_symbol(strings);
        for (gpl, suffix) in [(false, ""), (true, "_gpl")] {
            let rows: Vec<_> = placed.iter().filter(|row| row.1 == gpl).collect();
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

    fn file(&self) -> Vec<u8> {
        self.builder().finish()
    }
}

struct World {
    kernel: Kernel,
    host: Bookkeeper,
}

impl World {
    fn boot(profile: &str) -> World {
        World::with(Profile::by_name(profile).expect("a known profile"))
    }

    fn with(profile: Profile) -> World {
        let mut host = Bookkeeper::new(&profile);
        let crc = profile.config.modversions.then_some(0x1234);
        host.export(b"module_layout", 0x6000_0000, crc, false, b"");
        host.export(b"plain", 0x6000_0040, crc.map(|_| 1), false, b"");
        host.export(b"gpl", 0x6000_0080, crc.map(|_| 2), true, b"");
        host.export(b"spaced", 0x6000_00c0, crc.map(|_| 3), false, b"SPACE");
        World { kernel: Kernel::new(profile), host }
    }

    fn finit(&mut self, file: &[u8], flags: u32) -> Result<ModuleId, LoadError> {
        let facts = FileFacts::regular(file.len() as u64);
        finit_module(&mut self.kernel, &mut self.host, &facts, file, Some(b""), flags)
    }

    fn load(&mut self, file: &[u8]) -> Result<ModuleId, LoadError> {
        init_module(&mut self.kernel, &mut self.host, file, Some(b""))
    }

    fn log(&mut self) -> String {
        let text = self.host.log_text();
        self.host.lines.clear();
        text
    }

    /// A load that must fail: errno, stage and whole log; nothing may be left.
    #[track_caller]
    fn refuses(&mut self, file: &[u8], errno: Errno, stage: Stage, log: &str) {
        let modules = self.kernel.modules().count();
        let error = self.load(file).expect_err("is refused");
        assert_eq!((error.errno(), error.stage), (errno, stage), "{error}");
        assert_eq!(self.log(), log);
        assert_eq!(self.kernel.modules().count(), modules);
        assert!(!error.cause().is_empty() && error.cause().ends_with('.'), "{}", error.cause());
    }

    #[track_caller]
    fn accepts(&mut self, file: &[u8], log: &str) -> ModuleId {
        let id = match self.load(file) {
            Ok(id) => id,
            Err(error) => panic!("{error}\n{}", self.log()),
        };
        assert_eq!(self.log(), log);
        id
    }

    fn delete(&mut self, name: &str, flags: u32) -> Result<(), Errno> {
        delete_module(&mut self.kernel, &mut self.host, Some(name.as_bytes()), flags)
            .map_err(|error| error.errno())
    }
}

const UNSIGNED: &str =
    "<5>m: module verification failed: signature and/or required key missing - tainting kernel\n";

#[test]
fn a_good_module_is_only_unsigned() {
    let mut world = World::boot(DEBIAN);
    let id = world.accepts(&Draft::new("m").file(), UNSIGNED);
    assert_eq!(world.kernel.module_taints(id), Some(Taints::UNSIGNED_MODULE));
    assert_eq!(world.delete("m", 0), Ok(()));
    world.accepts(&Draft::new("m").file(), "");
    assert_eq!(world.kernel.taints, Taints::UNSIGNED_MODULE);
}

#[test]
fn who_may_load() {
    let mut world = World::boot(DEBIAN);
    let file = Draft::new("m").file();
    world.kernel.capabilities.sys_module = false;
    world.refuses(&file, Errno::EPERM, Stage::Entry, "");
    world.kernel.capabilities.sys_module = true;
    world.kernel.options.modules_disabled = true;
    world.refuses(&file, Errno::EPERM, Stage::Entry, "");
    assert_eq!(world.delete("m", 0), Err(Errno::EPERM));
    world.kernel.options.modules_disabled = false;
    world.refuses(b"", Errno::ENOEXEC, Stage::Entry, "");
    world.refuses(&file[..63], Errno::ENOEXEC, Stage::Entry, "");
    world.refuses(
        &[b'#'; 64],
        Errno::ENOEXEC,
        Stage::ElfValidityCheck,
        "<3>Invalid ELF header magic: != \x7fELF\n",
    );
}

#[test]
fn what_finit_module_says_of_descriptors() {
    let file = Draft::new("m").file();
    let regular = FileFacts::regular(file.len() as u64);
    let cases = [
        (FileFacts { open: false, ..regular }, Errno::EBADF, Errno::ENOEXEC),
        (FileFacts { readable: false, ..regular }, Errno::EBADF, Errno::EBADF),
        (FileFacts { regular: false, directory: true, ..regular }, Errno::EINVAL, Errno::EISDIR),
        (FileFacts { size: 0, ..regular }, Errno::EINVAL, Errno::EINVAL),
        (FileFacts { size: 1 << 31, ..regular }, Errno::EFBIG, Errno::EFBIG),
        (FileFacts { size: 4 << 30, ..regular }, Errno::EFBIG, Errno::EFBIG),
    ];
    for (facts, modern, old) in cases {
        for (profile, errno) in [(DEBIAN, modern), ("linux-4.9-arm", modern), ("linux-4.0-arm", old)] {
            let mut world = World::boot(profile);
            let error = finit_module(&mut world.kernel, &mut world.host, &facts, &file, Some(b""), 0);
            assert_eq!(error.expect_err("is refused").errno(), errno, "{profile}: {facts:?}");
        }
    }
    let facts = FileFacts { open_for_writing: true, ..regular };
    let mut world = World::boot(DEBIAN);
    let error = finit_module(&mut world.kernel, &mut world.host, &facts, &file, Some(b""), 0);
    assert_eq!(error.expect_err("is refused").errno(), Errno::ETXTBSY);
    // The flags come before the descriptor.
    let facts = FileFacts { open: false, ..regular };
    let error = finit_module(&mut world.kernel, &mut world.host, &facts, &file, Some(b""), 8);
    assert_eq!(error.expect_err("is refused").reason, Reason::BadFlags(8));
}

#[test]
fn compressed_files() {
    let file = Draft::new("m").file();
    let errno =
        |profile: &str| World::boot(profile).finit(&file, COMPRESSED_FILE).expect_err("refused").errno();
    assert_eq!(errno(DEBIAN), Errno::EOPNOTSUPP);
    assert_eq!(errno("linux-4.9-x86_64"), Errno::EINVAL);
    let mut world = World::boot("debian-6.12-amd64");
    assert_eq!(world.finit(&file, COMPRESSED_FILE).expect_err("refused").errno(), Errno::EINVAL);
    assert_eq!(world.log(), "<3>not an xz compressed module\n");
}

#[test]
fn a_parameter_text_that_cannot_be_read_comes_after_the_taints() {
    let mut world = World::boot(DEBIAN);
    let error = init_module(&mut world.kernel, &mut world.host, &Draft::new("m").file(), None);
    let error = error.expect_err("is refused");
    assert_eq!((error.errno(), error.stage), (Errno::EFAULT, Stage::StrndupUser));
    assert_eq!(world.log(), UNSIGNED);
    assert!(world.kernel.taints.contains(Taints::UNSIGNED_MODULE));
    assert!(world.host.is_clean());
}

#[test]
fn blacklists() {
    let file = Draft::new("m").file();
    let mut world = World::boot(DEBIAN);
    world.kernel.options.module_blacklist = vec!["x".into(), "m".into()];
    world.refuses(&file, Errno::EPERM, Stage::Blacklisted, "<3>Module m is blacklisted\n");
    let mut world = World::boot("linux-4.9-x86_64");
    world.kernel.options.module_blacklist = vec!["m".into()];
    world.refuses(&file, Errno::EPERM, Stage::Blacklisted, "");
    let mut world = World::boot(DEBIAN);
    world.kernel.options.initcall_blacklist = vec!["init_module".into()];
    world.refuses(&file, Errno::EPERM, Stage::DoInitModule, UNSIGNED);
    assert!(world.host.is_clean());
}

#[test]
fn versions_must_agree() {
    let mut world = World::boot(DEBIAN);
    let mut draft = Draft::new("m");
    draft.versions = Some(vec![("module_layout".into(), 0x4321)]);
    world.refuses(
        &draft.file(),
        Errno::ENOEXEC,
        Stage::CheckModstructVersion,
        "<4>m: disagrees about version of symbol module_layout\n",
    );
    let wrong = Draft::new("m").import("plain", 9).file();
    world.refuses(
        &wrong,
        Errno::EINVAL,
        Stage::SimplifySymbols,
        &format!(
            "{UNSIGNED}<4>m: disagrees about version of symbol plain\n<4>m: Unknown symbol plain (err -22)\n"
        ),
    );
    // Debian refuses what has no entry, each time.
    let missing = Draft::new("m").import_without_version("plain").file();
    for _ in 0..2 {
        world.refuses(
            &missing,
            Errno::EINVAL,
            Stage::SimplifySymbols,
            "<4>m: no symbol version for plain\n<4>m: Unknown symbol plain (err -22)\n",
        );
    }
    // Vanilla kernels accept it and say so once.
    let mut profile = Profile::by_name(DEBIAN).expect("a profile");
    profile.rules.missing_crc = lkm_kernel::profile::MissingCrc::AcceptOnce;
    let mut world = World::with(profile);
    world.accepts(&missing, &format!("{UNSIGNED}<4>m: no symbol version for plain\n"));
    assert_eq!(world.delete("m", 0), Ok(()));
    world.accepts(&missing, "");
}

#[test]
fn the_whole_word_of_a_crc_counts() {
    let mut world = World::boot(DEBIAN);
    let mut object = Draft::new("m").builder();
    let versions = object.find("__versions").expect("is there");
    object.data(versions)[5] = 1;
    world.refuses(
        &object.finish(),
        Errno::ENOEXEC,
        Stage::CheckModstructVersion,
        "<4>m: disagrees about version of symbol module_layout\n",
    );
}

#[test]
fn modules_without_versions_are_forced_or_refused() {
    let mut draft = Draft::new("m").import("plain", 1);
    draft.versions = None;
    let mut world = World::boot(DEBIAN);
    let id = world.accepts(
        &draft.file(),
        &format!(
            "<4>m: module_layout: kernel tainted.\n<4>Disabling lock debugging due to kernel taint\n{UNSIGNED}"
        ),
    );
    assert_eq!(world.kernel.module_taints(id), Some(Taints::FORCED_MODULE | Taints::UNSIGNED_MODULE));
    let line = world.kernel.proc_modules();
    assert!(line.ends_with(" (FE)\n"), "{line}");

    let mut profile = Profile::by_name(DEBIAN).expect("a profile");
    profile.config.force_load = false;
    World::with(profile).refuses(&draft.file(), Errno::ENOEXEC, Stage::CheckModstructVersion, "");
}

#[test]
fn vermagic() {
    let mut world = World::boot(DEBIAN);
    let other = Draft::new("m").tag("vermagic", "6.1.0-1 SMP mod_unload modversions ").file();
    world.refuses(
        &other,
        Errno::ENOEXEC,
        Stage::CheckModinfo,
        &format!("<3>m: version magic '6.1.0-1 SMP mod_unload modversions ' should be '{MAGIC}'\n"),
    );
    // With versions the release does not count; flag 1 makes it count again.
    let release = Draft::new("m").tag("vermagic", "5.0 SMP preempt mod_unload modversions ").file();
    world.accepts(&release, UNSIGNED);
    assert_eq!(world.delete("m", 0), Ok(()));
    let error = world.finit(&release, IGNORE_MODVERSIONS).expect_err("another release");
    assert_eq!(error.stage, Stage::CheckModinfo);
    assert!(world.log().contains("<3>m: version magic '5.0 SMP "));
    // Flag 2 makes any vermagic an absent one.
    assert!(world.finit(&other, IGNORE_VERMAGIC).is_ok());
    assert_eq!(world.delete("m", 0), Ok(()));
    world.log();

    let mut world = World::boot(DEBIAN);
    world.accepts(
        &Draft::new("m").without("vermagic").file(),
        &format!(
            "<4>m: bad vermagic: kernel tainted.\n<4>Disabling lock debugging due to kernel taint\n{UNSIGNED}"
        ),
    );
    let mut profile = Profile::by_name(DEBIAN).expect("a profile");
    profile.config.force_load = false;
    World::with(profile).refuses(
        &Draft::new("m").without("vermagic").file(),
        Errno::ENOEXEC,
        Stage::CheckModinfo,
        "",
    );
}

#[test]
fn origin_and_licence_taint_once_in_the_log() {
    let mut world = World::boot(DEBIAN);
    let draft = |name: &str| {
        Draft::new(name)
            .without("intree")
            .without("license")
            .without("retpoline")
            .tag("staging", "Y")
            .tag("test", "Y")
    };
    let id = world.accepts(
        &draft("m").file(),
        &format!(
            "<4>m: loading out-of-tree module taints kernel.\n\
             <4>m: loading module not compiled with retpoline compiler.\n\
             <4>m: module is from the staging directory, the quality is unknown, you have been warned.\n\
             <4>m: module license 'unspecified' taints kernel.\n\
             <4>Disabling lock debugging due to kernel taint\n\
             <4>m: loading test module taints kernel.\n{UNSIGNED}"
        ),
    );
    let taints = world.kernel.module_taints(id).expect("is loaded");
    assert_eq!(taints.letters(TaintOrder::Bits), "PCOEN");
    world.accepts(
        &draft("n").file(),
        "<4>n: loading module not compiled with retpoline compiler.\n\
         <4>n: module is from the staging directory, the quality is unknown, you have been warned.\n",
    );
}

#[test]
fn taints_of_a_failed_load_stay_with_6_1_only() {
    let draft = Draft::new("m").without("intree").import("absent", 1);
    let mut world = World::boot(DEBIAN);
    let mut object = draft.builder();
    object.section(".bad", SHT_PROGBITS, SHF_WRITE | SHF_EXECINSTR, 1, b"x");
    let index = object.find(".bad").expect("is there");
    world.refuses(
        &object.finish(),
        Errno::ENOEXEC,
        Stage::ModuleEnforceRwxSections,
        &format!(
            "<4>m: loading out-of-tree module taints kernel.\n\
             <3>m: section .bad (index {index}) has invalid WRITE|EXEC flags\n"
        ),
    );
    assert_eq!(world.kernel.taints, Taints::OOT_MODULE);

    let mut world = World::boot("debian-6.12-amd64");
    let mut draft = draft.tag("vermagic", "6.12.117+deb12-cloud-amd64 SMP preempt mod_unload modversions ");
    draft.size = 0x500;
    let mut object = draft.builder();
    object.section(".bad", SHT_PROGBITS, SHF_WRITE | SHF_EXECINSTR, 1, b"x");
    let index = object.find(".bad").expect("is there");
    world.refuses(
        &object.finish(),
        Errno::ENOEXEC,
        Stage::ModuleEnforceRwxSections,
        &format!("<3>m: section .bad (index {index}) has invalid WRITE|EXEC flags\n"),
    );
    assert_eq!(world.kernel.taints, Taints::empty());
}

#[test]
fn livepatches() {
    let file = Draft::new("m").tag("livepatch", "Y").file();
    let mut world = World::boot(DEBIAN);
    let id = world.accepts(&file, &format!("<5>m: tainting kernel with TAINT_LIVEPATCH\n{UNSIGNED}"));
    assert!(world.kernel.module_taints(id).is_some_and(|taints| taints.contains(Taints::LIVEPATCH)));
    let mut profile = Profile::by_name(DEBIAN).expect("a profile");
    profile.link.livepatch = false;
    World::with(profile).refuses(
        &file,
        Errno::ENOEXEC,
        Stage::CheckModinfo,
        "<3>m: module is marked as livepatch module, but livepatch support is disabled\n",
    );
}

#[test]
fn modules_known_by_name() {
    let mut world = World::boot(DEBIAN);
    let file = Draft::new("ndiswrapper").file();
    let id = world.load(&file).expect("loads");
    assert_eq!(world.kernel.module_taints(id), Some(Taints::UNSIGNED_MODULE), "only the kernel is tainted");
    assert!(world.kernel.taints.contains(Taints::PROPRIETARY_MODULE));
    assert!(world.log().ends_with(
        "<4>Disabling lock debugging due to kernel taint\n<4>ndiswrapper: module license taints kernel.\n"
    ));
}

#[test]
fn symbols_that_get_no_value_are_all_named_and_the_last_decides() {
    let mut world = World::boot(DEBIAN);
    let mut object = Draft::new("m").import("absent", 1).import("plain", 7).builder();
    let bad = RawSymbol { info: STB_GLOBAL << 4, shndx: SHN_COMMON, ..RawSymbol::default() };
    object.symbol("common", bad);
    object.symbol("beyond", RawSymbol { shndx: 0xfe00, ..bad });
    object.undefined("last_absent");
    object.weak("weak_absent");
    let file = object.finish();
    let max = lkm_module::elf::Elf::parse(&file).expect("an ELF file").sections.len() - 1;
    world.refuses(
        &file,
        Errno::ENOENT,
        Stage::SimplifySymbols,
        &format!(
            "{UNSIGNED}<4>m: Unknown symbol absent (err -2)\n<4>m: disagrees about version of symbol plain\n\
             <4>m: Unknown symbol plain (err -22)\n<4>m: please compile with -fno-common\n\
             <3>m: Symbol beyond has an invalid section index 65024 (max {max})\n\
             <4>m: Unknown symbol last_absent (err -2)\n"
        ),
    );
    assert!(world.host.is_clean());

    let mut world = World::boot("linux-4.9-x86_64");
    let mut draft = Draft::new("m").tag("vermagic", "4.9.0 SMP mod_unload ").import_without_version("absent");
    draft.versions = None;
    world.refuses(
        &draft.file(),
        Errno::ENOENT,
        Stage::SimplifySymbols,
        "<4>m: Unknown symbol absent (err 0)\n",
    );
}

#[test]
fn namespaces() {
    let mut world = World::boot(DEBIAN);
    world.refuses(
        &Draft::new("m").import("spaced", 3).tag("import_ns", "OTHER").file(),
        Errno::EINVAL,
        Stage::SimplifySymbols,
        &format!(
            "{UNSIGNED}<3>m: module uses symbol (spaced) from namespace SPACE, but does not import it.\n\
             <4>m: Unknown symbol spaced (err -22)\n"
        ),
    );
    let draft = Draft::new("m").import("spaced", 3).tag("import_ns", "OTHER").tag("import_ns", "SPACE");
    world.accepts(&draft.file(), "");
}

#[test]
fn the_taint_of_proprietary_symbols_is_inherited() {
    let mut world = World::boot(DEBIAN);
    world
        .load(&Draft::new("owner").tag("license", "Proprietary").export("secret", false, None).file())
        .expect("loads");
    world.log();
    let id = world.accepts(
        &Draft::new("m").import("secret", 0x77).import("plain", 1).file(),
        "<4>m: module uses symbols secret from proprietary module owner, inheriting taint.\n",
    );
    assert!(world.kernel.module_taints(id).is_some_and(|taints| taints.contains(Taints::PROPRIETARY_MODULE)));
    // Once a GPL-only symbol is in use, a proprietary one cannot be had; the other way round the GPL-only one cannot.
    world.refuses(
        &Draft::new("n").import("gpl", 2).import("secret", 0x77).file(),
        Errno::ENOENT,
        Stage::SimplifySymbols,
        "<3>n: module using GPL-only symbols uses symbols secret from proprietary module owner.\n\
         <4>n: Unknown symbol secret (err -2)\n",
    );
    world.refuses(
        &Draft::new("n").import("secret", 0x77).import("gpl", 2).file(),
        Errno::ENOENT,
        Stage::SimplifySymbols,
        "<4>n: module uses symbols secret from proprietary module owner, inheriting taint.\n\
         <4>n: Unknown symbol gpl (err -2)\n",
    );
}

#[test]
fn exports_must_be_new() {
    let mut world = World::boot(DEBIAN);
    let draft = Draft::new("m").export("gpl", false, None);
    world.refuses(
        &draft.file(),
        Errno::ENOEXEC,
        Stage::CompleteFormation,
        &format!("{UNSIGNED}<3>m: exports duplicate symbol gpl (owned by kernel)\n"),
    );
    world.accepts(&Draft::new("first").export("mine", true, None).file(), "");
    world.refuses(
        &Draft::new("second").export("mine", false, None).file(),
        Errno::ENOEXEC,
        Stage::CompleteFormation,
        "<3>second: exports duplicate symbol mine (owned by first)\n",
    );
    let mut draft = Draft::new("third").export("other", false, None);
    draft.crcs = false;
    world.accepts(
        &draft.file(),
        "<4>third: no versions for exported symbols: kernel tainted.\n\
         <4>Disabling lock debugging due to kernel taint\n",
    );
}

#[test]
fn names_in_sysfs() {
    let mut world = World::boot(DEBIAN);
    world.host.builtin = vec![b"m".to_vec()];
    world.refuses(
        &Draft::new("m").file(),
        Errno::EINVAL,
        Stage::ModSysfsSetup,
        &format!("{UNSIGNED}<3>m: module is already loaded\n"),
    );
    world.refuses(&Draft::new("").file(), Errno::EINVAL, Stage::ModSysfsSetup, "");
    world.accepts(&Draft::new("a/b").file(), "");
    assert!(world.kernel.sysfs_list(b"a!b").is_some());
    assert!(world.host.is_clean() || world.kernel.modules().count() == 1);
}

#[test]
fn two_sections_of_one_name() {
    let twice = |draft: Draft| {
        let mut object = draft.builder();
        object.section(".twice", SHT_PROGBITS, SHF_ALLOC, 1, b"x");
        object.section(".twice", SHT_PROGBITS, SHF_ALLOC, 1, b"x");
        object.finish()
    };
    let line = "<4>sysfs: cannot create duplicate filename '/module/m/sections/.twice'\n";
    let mut world = World::boot(DEBIAN);
    world.accepts(&twice(Draft::new("m")), &format!("{UNSIGNED}{line}"));
    assert!(world.kernel.sysfs_list(b"m/sections").is_none());
    let mut draft =
        Draft::new("m").tag("vermagic", "6.12.117+deb12-cloud-amd64 SMP preempt mod_unload modversions ");
    draft.size = 0x500;
    let mut world = World::boot("debian-6.12-amd64");
    world.refuses(&twice(draft), Errno::EEXIST, Stage::ModSysfsSetup, &format!("{UNSIGNED}{line}"));
}

#[test]
fn sections_in_sysfs() {
    let mut world = World::boot(DEBIAN);
    let id = world.accepts(&Draft::new("m").file(), UNSIGNED);
    let core = world.kernel.module(id).expect("is loaded").core_address();
    let names: Vec<_> = world.kernel.sysfs_list(b"m/sections").expect("is there");
    let has = |name: &[u8]| names.iter().any(|entry| entry.name == name);
    assert!(has(b".text") && has(b".symtab") && has(b".strtab") && has(b".gnu.linkonce.this_module"));
    assert!(!has(b".modinfo") && !has(b"__versions"));
    assert!(names.iter().all(|entry| entry.kind == EntryKind::File(0o400)));
    let read = |world: &mut World| world.kernel.sysfs_read(&mut world.host, b"m/sections/.text");
    assert_eq!(read(&mut world), Ok(format!("0x{core:016x}\n").into_bytes()));
    world.kernel.capabilities.syslog = false;
    assert_eq!(read(&mut world), Ok(b"0x0000000000000000\n".to_vec()));
    assert!(world.kernel.proc_modules().contains(" Live 0x0000000000000000"));
}

#[test]
fn signatures() {
    let file = Draft::new("m").file();
    let mut world = World::boot(DEBIAN);
    world.kernel.options.sig_enforce = true;
    world.refuses(
        &file,
        Errno::EKEYREJECTED,
        Stage::ModuleSigCheck,
        "<5>Loading of unsigned module is rejected\n",
    );
    world.kernel.options.sig_enforce = false;
    world.kernel.options.lockdown = Lockdown::Integrity;
    world.refuses(
        &file,
        Errno::EPERM,
        Stage::ModuleSigCheck,
        "<5>Lockdown: insmod: unsigned module loading is restricted; see man kernel_lockdown.7\n",
    );
    // A malformed signature is fatal even where signatures do not matter.
    let mut world = World::boot(DEBIAN);
    let signed = |trailer: [u8; 12]| {
        let mut signed = file.clone();
        signed.extend(b"SIGN");
        signed.extend(trailer);
        signed.extend(b"~Module signature appended~\n");
        signed
    };
    let too_long = [0, 0, 2, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0];
    world.refuses(&signed(too_long), Errno::EBADMSG, Stage::ModuleSigCheck, "");
    let garbage = [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 4];
    world.refuses(&signed(garbage), Errno::EBADMSG, Stage::ModuleSigCheck, "");
    let other_kind = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 4];
    world.accepts(
        &signed(other_kind),
        &format!("<3>module: not signed with expected PKCS#7 message\n{UNSIGNED}"),
    );
    // What is behind the marker makes it no marker.
    let mut world = World::boot(DEBIAN);
    let mut padded = signed(too_long);
    padded.push(0);
    world.accepts(&padded, UNSIGNED);
}

#[test]
fn names_for_delete_module() {
    let mut world = World::boot(DEBIAN);
    let long = "x".repeat(55);
    world.accepts(&Draft::new(&long).file(), &UNSIGNED.replace("m:", &format!("{long}:")));
    assert_eq!(world.delete("", 0), Err(Errno::ENOENT));
    assert_eq!(world.delete("absent", 0), Err(Errno::ENOENT));
    assert_eq!(world.delete(&format!("{long}y"), 0), Err(Errno::ENOENT), "too long");
    let fault = delete_module(&mut world.kernel, &mut world.host, None, 0).map_err(|error| error.errno());
    assert_eq!(fault, Err(Errno::EFAULT));
    assert_eq!(world.delete(&long, 0), Ok(()));
    // Older kernels cut the name.
    let mut profile = Profile::by_name(DEBIAN).expect("a profile");
    profile.rules.long_name = lkm_kernel::profile::LongName::Truncate;
    let mut world = World::with(profile);
    world.load(&Draft::new(&long).file()).expect("loads");
    assert_eq!(world.delete(&format!("{long}y"), 0), Ok(()));
}

/// What a nested call of an init function did.
#[derive(Default)]
struct Seen {
    proc_modules: String,
    results: Vec<Result<ModuleId, LoadError>>,
    delete: Option<Result<(), Errno>>,
}

/// A host whose modules load modules from their init functions.
struct Nested {
    inner: Bookkeeper,
    files: Vec<Vec<u8>>,
    delete: Option<&'static str>,
    seen: Seen,
    waits: usize,
}

impl Host for Nested {
    type Memory = Vec<u8>;

    fn module_alloc(&mut self, kind: RegionKind, size: u64) -> Option<(u64, Vec<u8>)> {
        self.inner.module_alloc(kind, size)
    }
    fn module_commit(&mut self, region: Region<Vec<u8>>) {
        self.inner.module_commit(region);
    }
    fn module_free(&mut self, base: u64) {
        self.inner.module_free(base);
    }
    fn protect(&mut self, base: u64, size: u64, permissions: Permissions) {
        self.inner.protect(base, size, permissions);
    }
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.inner.read(address, bytes)
    }
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.inner.write(address, bytes)
    }
    fn kmalloc(&mut self, size: u64) -> Option<u64> {
        self.inner.kmalloc(size)
    }
    fn kfree(&mut self, address: u64) {
        self.inner.kfree(address);
    }
    fn percpu_alloc(&mut self, size: u64, align: u64) -> Option<u64> {
        self.inner.percpu_alloc(size, align)
    }
    fn percpu_copy(&mut self, cookie: u64, template: &[u8]) {
        self.inner.percpu_copy(cookie, template);
    }
    fn percpu_free(&mut self, cookie: u64) {
        self.inner.percpu_free(cookie);
    }
    fn copy_address(&mut self, size: u64) -> u64 {
        self.inner.copy_address(size)
    }
    fn kernel_export(&self, name: &[u8]) -> Option<KernelExport<'_>> {
        self.inner.kernel_export(name)
    }
    fn call(&mut self, kernel: &mut Kernel, callee: Callee, _: u64, _: &[u64]) -> Result<u64, CallError> {
        if callee == Callee::Init {
            self.seen.proc_modules = kernel.proc_modules();
            if let Some(name) = self.delete.take() {
                let result = delete_module(kernel, self, Some(name.as_bytes()), 0);
                self.seen.delete = Some(result.map_err(|error| error.errno()));
            }
            for file in std::mem::take(&mut self.files) {
                let result = init_module(kernel, self, &file, Some(b""));
                self.seen.results.push(result);
            }
        }
        Ok(0)
    }
    fn wait(&mut self, _: &mut Kernel, _: &[u8]) -> bool {
        self.waits += 1;
        false
    }
    fn log(&mut self, level: Level, line: std::fmt::Arguments<'_>) {
        self.inner.log(level, line);
    }
}

fn nested(files: Vec<Vec<u8>>, delete: Option<&'static str>) -> (Kernel, Nested) {
    let World { kernel, host } = World::boot(DEBIAN);
    (kernel, Nested { inner: host, files, delete, seen: Seen::default(), waits: 0 })
}

#[test]
fn a_module_is_seen_coming_while_its_init_runs() {
    let inner = Draft::new("inner").file();
    let (mut kernel, mut host) = nested(vec![inner], Some("outer"));
    let outer = Draft::new("outer").export("mine", false, None).file();
    let id = init_module(&mut kernel, &mut host, &outer, Some(b"")).expect("loads");
    assert_eq!(host.seen.delete, Some(Err(Errno::EBUSY)), "a module that is coming cannot go");
    assert!(host.seen.results.iter().all(Result::is_ok));
    // init of `inner` saw both; the flags show the state.
    let lines: Vec<_> = host.seen.proc_modules.lines().collect();
    assert!(lines[0].starts_with("inner ") && lines[0].contains(" 1 - Loading 0x"), "{lines:?}");
    assert!(lines[0].ends_with(" (E+)") && lines[1].starts_with("outer "), "{lines:?}");
    let during: u64 = lines[1].split(' ').nth(1).and_then(|size| size.parse().ok()).expect("a size");
    let core = kernel.module(id).expect("is loaded").core_size();
    assert!(during > core, "the init part counts while it is there");
    assert!(kernel.proc_modules().contains(&format!("outer {core} 0 - Live ")));
}

#[test]
fn a_symbol_of_a_module_that_is_coming_is_waited_for() {
    let user = Draft::new("user").import("mine", 0x77).file();
    let (mut kernel, mut host) = nested(vec![user], None);
    let outer = Draft::new("outer").export("mine", false, None).file();
    init_module(&mut kernel, &mut host, &outer, Some(b"")).expect("loads");
    let error = host.seen.results[0].as_ref().expect_err("its exporter is not ready");
    assert_eq!((error.errno(), error.stage), (Errno::EBUSY, Stage::SimplifySymbols));
    assert_eq!(host.waits, 1);
    let log = host.inner.log_text();
    assert!(
        log.contains(
            "<4>user: gave up waiting for init of module outer.\n<4>user: Unknown symbol mine (err -16)\n"
        ),
        "{log}"
    );
    assert_eq!(kernel.modules().count(), 1);
}

#[test]
fn a_name_that_is_coming_is_waited_for() {
    let (mut kernel, mut host) = nested(vec![Draft::new("m").file()], None);
    init_module(&mut kernel, &mut host, &Draft::new("m").file(), Some(b"")).expect("loads");
    let error = host.seen.results[0].as_ref().expect_err("its name is taken");
    assert_eq!((&error.reason, error.stage), (&Reason::Interrupted, Stage::AddUnformedModule));
    assert_eq!(host.waits, 1);
    assert_eq!(kernel.modules().count(), 1);
}

#[test]
fn seven_types_of_memory() {
    let mut world = World::boot("debian-6.12-amd64");
    let mut draft =
        Draft::new("m").tag("vermagic", "6.12.117+deb12-cloud-amd64 SMP preempt mod_unload modversions ");
    draft.size = 0x500;
    let id = world.accepts(&draft.file(), UNSIGNED);
    let module = world.kernel.module(id).expect("is loaded");
    let kinds: Vec<_> = module.memory.iter().map(|memory| memory.layout.kind).collect();
    assert_eq!(kinds, [RegionKind::Text, RegionKind::Data], "no constants, and init is over");
    let text = module.region(RegionKind::Text).expect("there is code").base;
    assert_eq!(world.host.permissions(text), Some(Permissions::ReadExecute));
    let data = module.region(RegionKind::Data).expect("there is data").base;
    assert_eq!(world.host.permissions(data), Some(Permissions::ReadWrite));
    // mem[] in struct module: text, data, ...
    let word = |offset| {
        let bytes = world.host.bytes(module.this_module + offset, 8).expect("module memory");
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    };
    assert_eq!((word(320), word(320 + 72)), (text, data));
    assert_eq!(word(320 + 5 * 72), 0, "init data is gone");
    draft.size = 0x380;
    world.refuses(
        &draft.file(),
        Errno::ENOEXEC,
        Stage::ElfValidityCheck,
        "<3>module m: .gnu.linkonce.this_module section size must match the kernel's built struct module size at run time\n",
    );
}

/// Bytes of a file that are worth changing: headers of sections and the ELF header itself.
fn interesting(file: &[u8]) -> Vec<Range<usize>> {
    let headers = u64::from_le_bytes(file[40..48].try_into().expect("eight bytes")) as usize;
    vec![0..64, headers..file.len(), 64..headers.min(file.len())]
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_modules_leave_nothing(changes in proptest::collection::vec((0usize..3, 0usize..1 << 20, 0u8..=255), 1..6)) {
        let draft = Draft::new("m").import("plain", 1).export("mine", false, None).export("yours", true, Some("S"));
        let mut file = draft.file();
        let places = interesting(&file);
        for (area, at, value) in changes {
            let place = places[area].clone();
            if !place.is_empty() {
                file[place.start + at % place.len()] = value;
            }
        }
        for profile in [DEBIAN, "debian-6.12-amd64", "linux-4.9-x86_64", "linux-6.12-x86_64"] {
            let mut world = World::boot(profile);
            world.host.stand_ins = true;
            if let Ok(id) = world.load(&file) {
                let _ = (world.kernel.proc_modules(), world.kernel.proc_kallsyms());
                proptest::prop_assert!(delete_module_by_id(&mut world.kernel, &mut world.host, id, O_TRUNC).is_ok() || world.kernel.modules().count() == 1);
            } else {
                proptest::prop_assert_eq!(world.kernel.modules().count(), 0);
                proptest::prop_assert!(world.host.is_clean());
            }
        }
    }
}
