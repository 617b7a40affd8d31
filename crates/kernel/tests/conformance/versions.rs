//! Symbol versions and vermagic.

use lkm_kernel::*;
use lkm_module::Errno;

use crate::world::DEBIAN;
use crate::world::Draft;
use crate::world::MAGIC;
use crate::world::UNSIGNED;
use crate::world::World;

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
