//! What only older kernels know or do.

use lkm_kernel::profile::MissingCrc;
use lkm_kernel::*;
use lkm_module::Errno;

use crate::world::DEBIAN;
use crate::world::Draft;
use crate::world::UNSIGNED;
use crate::world::World;

/// Debian's 6.1 with the export tables of kernels up to 5.11.
fn with_old_tables() -> World {
    let mut profile = Profile::by_name(DEBIAN).expect("a profile");
    profile.rules.gpl_future = true;
    profile.config.unused_symbols = true;
    World::with(profile)
}

fn exporter() -> Vec<u8> {
    Draft::new("old")
        .export_in("soon_gpl", "_gpl_future")
        .export_in("unused", "_unused")
        .export_in("unused_gpl", "_unused_gpl")
        .file()
}

const UNUSED: &str = "<4>Symbol unused is marked as UNUSED, however this module is using it.\n\
    <4>This symbol will go away in the future.\n\
    <4>Please evaluate if this is the right api to use and if it really is, submit a report to the linux kernel \
    mailing list together with submitting your code for inclusion.\n";

#[test]
fn old_tables_are_searched() {
    let mut world = with_old_tables();
    world.accepts(&exporter(), &UNSIGNED.replace("m:", "old:"));
    let user = Draft::new("m").import("soon_gpl", 0x77).import("unused", 0x77).import("unused_gpl", 0x77);
    let both = format!("{UNUSED}{}", UNUSED.replace("unused is", "unused_gpl is"));
    let id = world.accepts(&user.file(), &both);
    assert_eq!(world.kernel.module(id).map(|module| module.uses.len()), Some(1));
    assert_eq!(world.delete("old", 0), Err(Errno::EAGAIN), "it is in use");
    assert_eq!((world.delete("m", 0), world.delete("old", 0)), (Ok(()), Ok(())));
}

#[test]
fn old_tables_and_licences() {
    let mut world = with_old_tables();
    world.kernel.profile.rules.inherit_taint = false;
    world.accepts(&exporter(), &UNSIGNED.replace("m:", "old:"));
    let closed =
        Draft::new("m").tag("license", "Proprietary").import("soon_gpl", 0x77).import("unused", 0x77);
    let taints = "<4>m: module license 'Proprietary' taints kernel.\n\
        <4>Disabling lock debugging due to kernel taint\n";
    let future =
        "<4>Symbol soon_gpl is being used by a non-GPL module, which will not be allowed in the future\n";
    world.accepts(&closed.file(), &format!("{taints}{future}{UNUSED}"));
    let closed = Draft::new("n").tag("license", "Proprietary").import("unused_gpl", 0x77);
    world.refuses(
        &closed.file(),
        Errno::ENOENT,
        Stage::SimplifySymbols,
        "<4>n: Unknown symbol unused_gpl (err -2)\n",
    );
}

#[test]
fn old_tables_count_as_exports() {
    let mut world = with_old_tables();
    world.accepts(&exporter(), &UNSIGNED.replace("m:", "old:"));
    world.refuses(
        &Draft::new("m").export("unused", false, None).file(),
        Errno::ENOEXEC,
        Stage::CompleteFormation,
        "<3>m: exports duplicate symbol unused (owned by old)\n",
    );
    let mut bare = Draft::new("bare").export_in("other", "_gpl_future");
    bare.crcs = false;
    world.accepts(
        &bare.file(),
        "<4>bare: no versions for exported symbols: kernel tainted.\n\
         <4>Disabling lock debugging due to kernel taint\n",
    );
}

#[test]
fn later_kernels_do_not_know_old_tables() {
    let mut world = World::boot(DEBIAN);
    world.accepts(&exporter(), &UNSIGNED.replace("m:", "old:"));
    for name in ["soon_gpl", "unused", "unused_gpl"] {
        world.refuses(
            &Draft::new("m").import(name, 0x77).file(),
            Errno::ENOENT,
            Stage::SimplifySymbols,
            &format!("<4>m: Unknown symbol {name} (err -2)\n"),
        );
    }
}

#[test]
fn which_kernels_have_them() {
    for profile in Profile::all() {
        let old = profile.version < (5, 12);
        assert_eq!(profile.rules.gpl_future, old, "{}", profile.name);
        let refuses = profile.version < (4, 9) || profile.name.starts_with("debian");
        assert_eq!(profile.rules.missing_crc == MissingCrc::Refuse, refuses, "{}", profile.name);
    }
}

#[test]
fn dyndbg_where_there_is_none() {
    let line = "<4>dyndbg param is supported only in CONFIG_DYNAMIC_DEBUG builds\n";
    let mut profile = Profile::by_name(DEBIAN).expect("a profile");
    profile.config.dynamic_debug = false;
    for (anywhere, other) in [(true, line), (false, "<4>m: unknown parameter 'a.dyndbg' ignored\n")] {
        profile.rules.dyndbg_anywhere = anywhere;
        let mut world = World::with(profile.clone());
        let (file, args) = (Draft::new("m").file(), Some(&b"dyndbg=+p a.dyndbg=+p"[..]));
        init_module(&mut world.kernel, &mut world.host, &file, args).expect("loads");
        assert_eq!(world.log(), format!("{UNSIGNED}{line}{other}"));
    }
}
