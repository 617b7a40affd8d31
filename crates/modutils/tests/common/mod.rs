//! A root with modules, and both programs over it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

pub(crate) const KMOD: &str = "/usr/bin/kmod";
pub(crate) const MODUTILS: &str = env!("CARGO_BIN_EXE_modutils");
pub(crate) const RELEASE: &str = "6.1.0-test";

/// Standard output, standard error without explanations, exit code.
pub(crate) type Answer = (String, String, Option<i32>);

pub(crate) fn run(program: &str, args: &[&str]) -> Answer {
    let (name, rest) = args.split_first().unwrap();
    let mut command = Command::new(program);
    command.arg0(name).args(rest).env_clear().env("MODUTILS_STYLE", "kmod");
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// A root with modules below `lib/modules`, gone afterwards.
pub(crate) struct Root(pub(crate) PathBuf);

impl Root {
    pub(crate) fn new(name: &str) -> Root {
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

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    pub(crate) fn modules(&self) -> PathBuf {
        self.0.join("lib/modules").join(RELEASE)
    }

    /// The names of its modules.
    pub(crate) fn names(&self) -> Vec<String> {
        let order = std::fs::read_to_string(self.modules().join("modules.order")).unwrap();
        let name = |line: &str| line.rsplit('/').next()?.strip_suffix(".ko").map(str::to_owned);
        order.lines().filter_map(name).collect()
    }

    pub(crate) fn depmod(&self, program: &str) -> Answer {
        run(program, &["depmod", "-a", "-b", self.path(), RELEASE])
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Gives the same command line to both; their answer.
pub(crate) fn same(args: &[&str]) -> Answer {
    let theirs = run(KMOD, args);
    assert_eq!(run(MODUTILS, args), theirs, "{args:?} (right: kmod)");
    theirs
}
