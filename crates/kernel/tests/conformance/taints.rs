//! What taints: origin, licence, signature, live patches, names.

use lkm_kernel::*;
use lkm_module::Errno;
use lkm_module::elf::consts::*;

use crate::world::DEBIAN;
use crate::world::Draft;
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
