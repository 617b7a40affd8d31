//! The calls that initramfs-tools, dracut, dkms and systemd make, given to kmod 30 and to `modutils` over the same directory of
//! modules: the answers are equal. (`cargo xtask test --only initramfs` makes whole images.)

mod common;

use common::KMOD;
use common::MODUTILS;
use common::RELEASE;
use common::Root;
use common::run;
use common::same;

#[test]
fn depmod_for_an_image_and_on_a_directory_without_modules() {
    let (theirs, ours) = (Root::new("theirs"), Root::new("ours"));
    assert_eq!(ours.depmod(MODUTILS), theirs.depmod(KMOD));
    let files = ["dep", "alias", "symbols", "softdep", "devname"];
    for file in files {
        let text = |root: &Root| std::fs::read(root.modules().join(format!("modules.{file}"))).unwrap();
        assert_eq!(text(&ours), text(&theirs), "modules.{file}");
    }
    // The kernel's own build tries depmod on an empty directory first and looks for modules.dep.
    let empty = Root::new("empty");
    for entry in ["kernel", "modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        let path = empty.modules().join(entry);
        let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
    }
    let answer = run(MODUTILS, &["depmod", "-b", empty.path(), RELEASE]);
    assert_eq!(answer.2, Some(0), "{answer:?}");
    assert!(empty.modules().join("modules.dep").exists());
}

#[test]
fn what_boot_images_ask() {
    let root = Root::new("asked");
    root.depmod(KMOD);
    let base = root.path();
    let names = root.names();
    let unknown =
        ["no_such_module", "fs-rock", "rock-file", "stone", "pci:v00001234d00001111sv0sd0bc03sc00i00"];
    for name in names.iter().map(String::as_str).chain(unknown) {
        // initramfs-tools, for each module and what it needs.
        for ignore in [&["--ignore-install"][..], &[]] {
            let version = format!("--set-version={RELEASE}");
            let mut args = vec!["modprobe", "-d", base, "--all", &version];
            args.extend(ignore);
            args.extend(["--quiet", "--show-depends", name]);
            same(&args);
        }
        // dracut: whether there is one, and what it says.
        assert_eq!(
            run(MODUTILS, &["modprobe", "-d", base, "-S", RELEASE, "--dry-run", name]).2,
            run(KMOD, &["modprobe", "-d", base, "-S", RELEASE, "--dry-run", name]).2,
            "{name}"
        );
        for field in ["filename", "firmware", "depends", "license"] {
            same(&["modinfo", "-b", base, "-k", RELEASE, "-F", field, name]);
        }
        same(&["modinfo", "-b", base, "-k", RELEASE, name]);
        let path = root.modules().join(format!("kernel/drivers/{name}.ko"));
        // initramfs-tools gives the path, of a file that may be gone.
        same(&["modinfo", "-k", RELEASE, "-F", "firmware", path.to_str().unwrap()]);
    }
    let mut all = vec!["modprobe", "-d", base, "-S", RELEASE, "--all", "--quiet", "--show-depends"];
    all.extend(names.iter().map(String::as_str).chain(unknown));
    let (out, _, code) = same(&all);
    assert!(out.lines().count() >= names.len() && code == Some(1), "{out}");
    // dracut takes the third word of the first line for the version.
    let version = |program: &str| {
        let line = run(program, &["modprobe", "--version"]).0;
        line.lines().next().and_then(|line| line.split(' ').nth(2)).map(str::to_owned)
    };
    assert_eq!(version(MODUTILS), version(KMOD));
}

#[test]
fn what_system_managers_ask() {
    let root = Root::new("managers");
    root.depmod(KMOD);
    let base = root.path();
    // modprobe@.service, with names that are not there; with others it would load them.
    let args = ["modprobe", "-abq", "-d", base, "-S", RELEASE, "no_such_module", "stone"];
    same(&args);
    // Without a file of device nodes: a warning.
    let output = root.0.join("run/static-nodes.conf");
    let output = format!("--output={}", output.display());
    same(&["kmod", "static-nodes", "--format=tmpfiles", &output]);
    assert!(!root.0.join("run").exists());
}
