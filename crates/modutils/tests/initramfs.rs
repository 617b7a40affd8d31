//! The calls that initramfs-tools, dracut, dkms and systemd make, given to kmod 30 and to `modutils` over the same directory of
//! modules: the answers are equal. (`cargo xtask test --only initramfs` makes whole images.)

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

const KMOD: &str = "/usr/bin/kmod";
const MODUTILS: &str = env!("CARGO_BIN_EXE_modutils");
const RELEASE: &str = "6.1.0-test";

/// Standard output, standard error without explanations, exit code.
type Answer = (String, String, Option<i32>);

fn run(program: &str, args: &[&str]) -> Answer {
    let (name, rest) = args.split_first().unwrap();
    let mut command = Command::new(program);
    command.arg0(name).args(rest).env_clear().env("MODUTILS_STYLE", "kmod");
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// A root with modules below `lib/modules`, gone afterwards.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Root {
        let root = std::env::temp_dir().join(format!("modutils-{name}-{}", std::process::id()));
        let modules = root.join("lib/modules").join(RELEASE);
        std::fs::create_dir_all(modules.join("kernel/drivers")).unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/x86_64");
        let mut order = Vec::new();
        for entry in std::fs::read_dir(fixtures).unwrap() {
            let entry = entry.unwrap();
            let file = entry.file_name().into_string().unwrap();
            if file.ends_with(".ko") {
                std::fs::copy(entry.path(), modules.join("kernel/drivers").join(&file)).unwrap();
                order.push(format!("kernel/drivers/{file}\n"));
            }
        }
        order.sort();
        assert!(order.len() > 10);
        std::fs::write(modules.join("modules.order"), order.concat()).unwrap();
        std::fs::write(modules.join("modules.builtin"), "kernel/fs/rock-file.ko\nkernel/lib/stone.ko\n")
            .unwrap();
        let builtin = "rock_file.license=GPL\0rock_file.alias=fs-rock\0rock_file.firmware=rock.bin\0stone.license=GPL\0";
        std::fs::write(modules.join("modules.builtin.modinfo"), builtin).unwrap();
        Root(root)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn modules(&self) -> PathBuf {
        self.0.join("lib/modules").join(RELEASE)
    }

    /// The names of its modules.
    fn names(&self) -> Vec<String> {
        let order = std::fs::read_to_string(self.modules().join("modules.order")).unwrap();
        let name = |line: &str| line.rsplit('/').next()?.strip_suffix(".ko").map(str::to_owned);
        order.lines().filter_map(name).collect()
    }

    fn depmod(&self, program: &str) -> Answer {
        run(program, &["depmod", "-a", "-b", self.path(), RELEASE])
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Both answers, the root's path taken out, which differs between roots.
fn same(args: &[&str]) -> Answer {
    let theirs = run(KMOD, args);
    assert_eq!(run(MODUTILS, args), theirs, "{args:?} (right: kmod)");
    theirs
}

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
