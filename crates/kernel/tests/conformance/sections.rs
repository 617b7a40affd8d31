//! What sections make a kernel say, in memory and in sysfs.

use lkm_kernel::*;
use lkm_module::Errno;
use lkm_module::elf::consts::*;

use crate::world::DEBIAN;
use crate::world::Draft;
use crate::world::UNSIGNED;
use crate::world::World;

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

#[test]
fn constructors_are_called_before_init() {
    for name in [".ctors", ".init_array"] {
        let build = |called: bool| {
            let mut profile = Profile::by_name(DEBIAN).expect("a profile");
            profile.config.constructors = called;
            let mut world = World::with(profile);
            let mut object = Draft::new("m").builder();
            let table = [0x1000_u64.to_le_bytes(), 0x2000_u64.to_le_bytes()].concat();
            object.section(name, SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &table);
            world.load(&object.finish()).expect("loads");
            world.host.calls.iter().map(|(callee, at, _)| (*callee, *at)).collect::<Vec<_>>()
        };
        let (with, without) = (build(true), build(false));
        assert_eq!(with[..2], [(Callee::Constructor, 0x1000), (Callee::Constructor, 0x2000)]);
        assert_eq!(with[2..], without, "{name}");
        assert_eq!(without.len(), 1);
    }
}

#[test]
fn damaged_type_information() {
    let module = |bytes: &[u8]| {
        let mut object = Draft::new("m").builder();
        object.section(".BTF", SHT_PROGBITS, 0, 1, bytes);
        object.finish()
    };
    let good = [0x0001_eb9f_u32, 24, 0, 0, 0, 1].iter().flat_map(|word| word.to_le_bytes()).chain([0]);
    let good: Vec<u8> = good.collect();
    World::boot(DEBIAN).accepts(&module(&good), UNSIGNED);
    World::boot(DEBIAN).accepts(&module(b""), UNSIGNED);
    let log = format!("{UNSIGNED}<3>BPF: hdr_len not found\n<4>failed to validate module [m] BTF: -22\n");
    World::boot(DEBIAN).accepts(&module(b"GCC: 12"), &log);
    let mismatch =
        "<4>Kernel module BTF mismatch detected, BTF debug info may be unavailable for some modules\n";
    let mut profile = Profile::by_name(DEBIAN).expect("a profile");
    profile.config.btf = profile::Btf::MayDifferOnce;
    let mut world = World::with(profile);
    world.accepts(&module(b"GCC: 12"), &format!("{UNSIGNED}<3>BPF: hdr_len not found\n{mismatch}"));
    assert_eq!(world.delete("m", 0), Ok(()));
    world.accepts(&module(b"GCC: 12"), "<3>BPF: hdr_len not found\n");

    let mut profile = Profile::by_name(DEBIAN).expect("a profile");
    profile.config.btf = profile::Btf::MustFit;
    let mut world = World::with(profile.clone());
    world.refuses(&module(b"GCC: 12"), Errno::EINVAL, Stage::PrepareComingModule, &log);
    assert!(world.host.is_clean());
    profile.config.btf = profile::Btf::Ignored;
    World::with(profile).accepts(&module(b"GCC: 12"), UNSIGNED);
}

#[test]
fn memory_that_cannot_be_protected() {
    let file = |profile: &str| {
        let new = profile.contains("6.12");
        let mut draft = Draft::new("m");
        if new {
            draft = draft.tag("vermagic", "6.12.117+deb12-cloud-amd64 SMP preempt mod_unload modversions ");
            draft.size = 0x500;
        }
        draft.file()
    };
    let mut world = World::boot(DEBIAN);
    world.host.protect_fails = Some(Errno::ENOMEM);
    world.accepts(&file(DEBIAN), UNSIGNED);
    let new = "debian-6.12-amd64";
    let mut world = World::boot(new);
    world.host.protect_fails = Some(Errno::ENOMEM);
    let error = world.load(&file(new)).expect_err("is refused");
    assert_eq!((error.errno(), error.stage), (Errno::ENOMEM, Stage::CompleteFormation));
    assert_eq!(world.kernel.modules().count(), 0);
    assert!(world.host.is_clean());
}

#[test]
fn a_module_without_a_name_makes_the_kernel_warn() {
    let mut world = World::boot(DEBIAN);
    let error = world.load(&Draft::new("").file()).expect_err("has no name");
    assert_eq!((error.errno(), error.stage), (Errno::EINVAL, Stage::ModSysfsSetup));
    let log = world.log();
    assert!(log.contains("<4>------------[ cut here ]------------\n<4>kobject: (ffffffffc0"), "{log}");
    assert!(log.contains("): attempted to be registered with empty name!\n"), "{log}");
    assert!(world.kernel.taints.contains(Taints::WARN));
    assert_eq!(world.host.dumps, 1);
}
