//! The loader's refusals: errno, log line and taints as measured on the kernels.

mod nested;
mod old_kernels;
mod world;

use std::ops::Range;

use lkm_kernel::*;
use lkm_module::Errno;
use lkm_module::elf::RawSymbol;
use lkm_module::elf::consts::*;

use crate::world::DEBIAN;
use crate::world::Draft;
use crate::world::MAGIC;
use crate::world::UNSIGNED;
use crate::world::World;

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
fn the_cause_names_a_symbol_as_it_is_written() {
    let mut world = World::boot(DEBIAN);
    let mut cause = |draft: Draft| world.load(&draft.file()).expect_err("is refused").cause();
    let one = cause(Draft::new("m").import("absent", 1));
    assert!(one.starts_with("absent is exported by nothing") && one.ends_with('.'), "{one}");
    let two = cause(Draft::new("m").import("absent", 1).import("spaced", 3));
    assert!(two.starts_with("absent ") && two.contains(" 1 more "), "{two}");
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

#[test]
fn two_tables_of_constructors() {
    let mut profile = Profile::by_name(DEBIAN).expect("a profile");
    profile.config.constructors = true;
    let mut world = World::with(profile);
    let mut object = Draft::new("m").builder();
    for name in [".ctors", ".init_array"] {
        object.section(name, SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &[0; 8]);
    }
    let log = format!("{UNSIGNED}<4>m: has both .ctors and .init_array.\n");
    world.refuses(&object.finish(), Errno::EINVAL, Stage::FindModuleSections, &log);
}

#[test]
fn obsolete_parameters() {
    let mut object = Draft::new("m").builder();
    object.section("__obsparm", SHT_PROGBITS, SHF_ALLOC, 8, &[0; 8]);
    let log = format!("{UNSIGNED}<4>m: Ignoring obsolete parameters\n");
    World::boot(DEBIAN).accepts(&object.finish(), &log);
}

#[test]
fn nothing_is_removed_without_module_unload() {
    let mut world = World::boot(DEBIAN);
    world.accepts(&Draft::new("m").file(), UNSIGNED);
    world.kernel.profile.link.unload = false;
    assert_eq!(world.delete("m", 0), Err(Errno::ENOSYS));
}

#[test]
fn a_weak_symbol_of_a_module_that_goes_is_an_error() {
    let mut world = World::boot(DEBIAN);
    world.accepts(&Draft::new("m").export("mine", false, None).file(), UNSIGNED);
    // Its exit function does not come back.
    world.host.results = vec![None];
    assert_eq!(world.delete("m", 0), Err(Errno::EFAULT));
    let mut user = Draft::new("user").import("mine", 0x77);
    user.imports.clear();
    let mut object = user.builder();
    object.weak("mine");
    let log = "<4>user: Unknown symbol mine (err -2)\n";
    world.refuses(&object.finish(), Errno::ENOENT, Stage::SimplifySymbols, log);
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
