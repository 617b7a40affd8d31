//! A small module directory in a temporary place, and kmod's tools on it.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use lkm_module::elf::Class;
use lkm_module::elf::Endian;
use lkm_module::elf::consts::EM_X86_64;
use lkm_module::testing::ObjectBuilder;

/// Release of the kernel that the tree is for; no machine runs it.
pub(crate) const RELEASE: &str = "6.1.0-test";

/// A root directory with `/lib/modules/RELEASE`, gone afterwards.
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// An empty tree.
    pub(crate) fn new(name: &str) -> Tree {
        let root = std::env::temp_dir().join(format!("lkm-kmod-{name}-{}", std::process::id()));
        let tree = Tree { root };
        std::fs::create_dir_all(tree.modules()).unwrap();
        tree
    }

    /// The root of the tree.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory with the indexes.
    pub(crate) fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(RELEASE)
    }

    /// Writes a file below the root.
    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Reads a file of the index directory.
    pub(crate) fn index(&self, name: &str) -> Vec<u8> {
        let path = self.modules().join(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Adds a module that exports and imports these symbols and has these tags.
    pub(crate) fn module(&self, path: &str, exports: &[&str], imports: &[&str], tags: &[(&str, &str)]) {
        let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
        object.modinfo(tags);
        for (position, name) in exports.iter().enumerate() {
            object.absolute(&format!("__crc_{name}"), 0x1000 + position as u64);
        }
        for name in imports {
            object.undefined(name);
        }
        self.write(&format!("lib/modules/{RELEASE}/{path}"), object.finish());
    }

    /// A tree with what the indexes have to hold, indexed by kmod.
    pub(crate) fn sample(name: &str) -> Tree {
        let tree = Tree::new(name);
        tree.module("kernel/lib/base.ko", &["base_init", "base_exit"], &[], &[("license", "GPL")]);
        let bus =
            [("alias", "pci:v00008086d*sv*"), ("alias", "pci:v00008086d0000100Esv?"), ("alias", "bus-name")];
        tree.module("kernel/drivers/the-bus.ko", &["bus_register"], &["base_init"], &bus);
        let card = [
            ("alias", "pci:v00008086d0000[12]*"),
            ("alias", "usb:v1-2p[a-c]*"),
            ("alias", "devname:the/card"),
            ("alias", "char-major-10-77"),
            ("softdep", "pre: base other post: late-one"),
        ];
        tree.module("kernel/drivers/card.ko", &["card_do"], &["bus_register", "base_exit"], &card);
        let disk = [("alias", "block-major-8-*"), ("alias", "bus-name"), ("alias", "fs-disk")];
        tree.module("kernel/fs/disk.ko", &[], &["base_init", "card_do"], &disk);
        tree.module("updates/disk2.ko", &["card_do_more"], &["no_such_symbol"], &[("alias", "fs-*")]);
        let order =
            "kernel/lib/base.ko\nkernel/drivers/the-bus.ko\nkernel/drivers/card.ko\nkernel/fs/disk.ko\n";
        tree.write(&format!("lib/modules/{RELEASE}/modules.order"), order);
        tree.write(
            &format!("lib/modules/{RELEASE}/modules.builtin"),
            "kernel/fs/proc-like.ko\nkernel/mm/zpool.ko\n",
        );
        let fields =
            "proc_like.alias=fs-proc*\0proc_like.license=GPL\0zpool.alias=zp-ool\0zpool.file=mm/zpool\0";
        tree.write(&format!("lib/modules/{RELEASE}/modules.builtin.modinfo"), fields);
        let output = kmod("depmod", &["-b", tree.root().to_str().unwrap(), RELEASE]);
        assert!(output.status.success(), "depmod: {output:?}");
        tree
    }

    /// What `modprobe` says about this tree; its own standard output.
    pub(crate) fn modprobe(&self, arguments: &[&str]) -> String {
        let root = self.root().to_str().unwrap();
        let output = kmod("modprobe", &[&["-d", root, "-S", RELEASE], arguments].concat());
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Runs one of kmod's tools.
pub(crate) fn kmod(tool: &str, arguments: &[&str]) -> Output {
    let directories = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let path = directories.iter().map(|directory| Path::new(directory).join(tool)).find(|path| path.exists());
    let path = path.unwrap_or_else(|| {
        panic!("{tool} is not installed, and these tests compare with it: `cargo xtask setup` installs kmod")
    });
    Command::new(&path).args(arguments).env_remove("MODPROBE_OPTIONS").output().unwrap()
}
