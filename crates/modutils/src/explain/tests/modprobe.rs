//! What only `modprobe` runs into: names, indexes, the configuration, modules that others need.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;

use lkm_module::Errno;
use lkm_syscall::InitFlags;
use lkm_syscall::LogMark;
use lkm_tree::config::Origin;
use lkm_tree::index::binary::IndexError;

use super::Place;
use super::RELEASE;
use super::module;
use crate::Context;
use crate::explain::Attempt;
use crate::explain::CommandFailure;
use crate::explain::Load;
use crate::explain::refusal;
use crate::testing::Fake;

/// What stands behind a message of modprobe.
fn lines(fake: &Fake, attempt: Attempt<'_>) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut context = Context::new(fake, &mut out, &mut err);
    context.module_root = &fake.module_root;
    refusal(&mut context, attempt);
    String::from_utf8(err).unwrap().trim_end().replace("\n  ", "|").trim_start().to_owned()
}

#[test]
fn names_that_are_not_found() {
    let place = Place::new("lookup");
    let fake = place.kernel(Errno::EPERM, &[]);
    let directory = place.0.join("root").join(RELEASE);
    let case =
        |name: &str| lines(&fake, Attempt::LookUp(name.as_bytes(), &directory)).replace(&place.path(""), "");
    assert_eq!(
        case("loop"),
        "cause: there is no directory root/6.1.0-test: the modules of this kernel are not installed|try: install the \
         modules of this kernel"
    );
    let other = place.0.join("root/1.2.3");
    let of_other = || lines(&fake, Attempt::LookUp(b"loop", &other)).replace(&place.path(""), "");
    assert_eq!(of_other(), "cause: there is no directory root/1.2.3");
    place.put("root/5.0.0-old/modules.dep", b"");
    assert_eq!(
        of_other(),
        "cause: there is no directory root/1.2.3|try: the modules of 5.0.0-old are installed"
    );
    assert_eq!(
        case("loop"),
        "cause: there is no directory root/6.1.0-test: the modules of this kernel are not installed|try: reboot, if \
         the kernel was updated: modules of 5.0.0-old are installed; or install those of this one"
    );
    place.put("root/6.1.0-test/kernel/new-one.ko.xz", b"");
    assert_eq!(
        case("loop"),
        "cause: root/6.1.0-test/modules.dep.bin is missing: depmod has not been run|try: depmod 6.1.0-test"
    );
    place.put("root/6.1.0-test/modules.dep.bin", b"text");
    assert_eq!(
        case("loop"),
        "cause: root/6.1.0-test/modules.dep.bin: it is not an index that depmod wrote|try: depmod 6.1.0-test"
    );
    place.tree();
    assert_eq!(
        case("new-one"),
        "cause: root/6.1.0-test/kernel/new-one.ko.xz is there, but the index does not list it|try: depmod 6.1.0-test"
    );
    assert_eq!(case("pci:v00001234d*"), "cause: no module of this kernel serves that device");
    assert_eq!(case("hello-thre"), "try: is it hello_there?");
    assert_eq!(case("nothing_like_it"), "");
    let old = Place(place.0.join("old"));
    old.index("modules.dep.bin", &[("ancient", "kernel/ancient.ko:")]);
    std::fs::copy(
        old.0.join("root/6.1.0-test/modules.dep.bin"),
        place.0.join("root/5.0.0-old/modules.dep.bin"),
    )
    .unwrap();
    assert_eq!(
        case("ancient"),
        "cause: ancient is among the modules of 5.0.0-old only, another kernel than this one"
    );
}

#[test]
fn what_the_configuration_does() {
    let place = Place::new("configuration");
    let fake = place.kernel(Errno::EPERM, &[]);
    let origin = Origin::File(Path::new("/etc/modprobe.d/x.conf").into(), 3);
    let command = |command: &str, status: io::Result<ExitStatus>| {
        let (module, command) = (&b"loop"[..], command.as_bytes());
        lines(&fake, Attempt::Command(CommandFailure { module, command, origin: &origin, status }))
    };
    assert_eq!(
        command("exit 3", Ok(ExitStatus::from_raw(3 << 8))),
        "cause: the command of /etc/modprobe.d/x.conf line 3 ended with exit code 3|try: modprobe --ignore-install \
         loop loads the module itself"
    );
    assert!(command("nope", Ok(ExitStatus::from_raw(127 << 8))).contains("127: there is no such command|"));
    assert_eq!(
        command("crash", Ok(ExitStatus::from_raw(11))),
        "cause: the command of /etc/modprobe.d/x.conf line 3 was ended by signal 11"
    );
    assert_eq!(
        command(" /bin/false ", Ok(ExitStatus::from_raw(1 << 8))),
        "cause: /etc/modprobe.d/x.conf line 3 keeps loop from being loaded: its command does nothing else|try: take \
         that line out of the configuration, if it is to be loaded"
    );
    assert_eq!(
        command("x", Err(io::Error::other("no shell"))),
        "cause: the command of /etc/modprobe.d/x.conf line 3 could not be started: no shell"
    );
    assert_eq!(
        lines(&fake, Attempt::Denied(b"loop", &origin, Some(b"fancy"))),
        "cause: /etc/modprobe.d/x.conf line 3 denies loop, which fancy needs|try: take that line out of the \
         configuration, if it is to be loaded"
    );
    let absent = IndexError::Io("/x/y.bin".into(), io::ErrorKind::NotFound.into());
    assert_eq!(
        lines(&fake, Attempt::Index(Path::new("/lib/modules/6.1/modules.dep.bin"), &absent)),
        "cause: /lib/modules/6.1/modules.dep.bin is missing: depmod has not been run|try: depmod 6.1"
    );
}

#[test]
fn a_dependency_that_fails_is_named() {
    let place = Place::new("dependency");
    place.tree();
    let directory = place.0.join("root").join(RELEASE);
    let path = PathBuf::from(place.put("root/6.1.0-test/kernel/hello.ko", &module(&[], &[])));
    let of = |path, errno, log| {
        let load = Load {
            directory: Some(&directory),
            needed_by: Some(b"top"),
            log,
            ..Load::of_file(path, b"", InitFlags::empty(), errno, None)
        };
        lines(&place.kernel(errno, &["hello: gave up waiting for init of module bar."]), Attempt::Load(load))
    };
    assert_eq!(
        of(path.as_os_str(), Errno::EBUSY, Some(LogMark::sequence(0))),
        "kernel: hello: gave up waiting for init of module bar.|cause: hello, which top needs: it needs the module \
         bar, whose init function has not returned yet|try: the same again a little later"
    );
    // What keeps everything out is not the dependency's fault.
    let mut fake = place.kernel(Errno::EPERM, &[]);
    fake.files.push(("/proc/sys/kernel/modules_disabled", "1".into()));
    let mark = Some(LogMark::sequence(0));
    let load = Load {
        needed_by: Some(b"top"),
        ..Load::of_file(path.as_os_str(), b"", InitFlags::empty(), Errno::EPERM, mark)
    };
    assert!(lines(&fake, Attempt::Load(load)).starts_with("cause: kernel.modules_disabled is 1: "));
    let gone = directory.join("kernel/gone.ko.xz");
    assert_eq!(
        of(gone.as_os_str(), Errno::ENOENT, None),
        format!(
            "cause: gone, which top needs: {} is not there, though the index of its directory lists it|try: install \
             the modules of 6.1.0-test again, or run depmod 6.1.0-test if it was removed on purpose",
            gone.display()
        )
    );
}
