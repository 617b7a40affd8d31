//! Imports and exports.

use lkm_kernel::*;
use lkm_module::Errno;
use lkm_module::elf::RawSymbol;
use lkm_module::elf::consts::*;

use crate::world::DEBIAN;
use crate::world::Draft;
use crate::world::UNSIGNED;
use crate::world::World;

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
