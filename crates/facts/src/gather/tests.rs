use std::path::Path;
use std::path::PathBuf;

use lkm_module::elf::Class;
use lkm_module::elf::Endian;
use lkm_module::testing::ObjectBuilder;

use super::*;

/// A directory of its own for one test, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("lkm-facts-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn put(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/x86_64").join(name);
    std::fs::read(path).unwrap()
}

const SYMVERS: &[u8] = b"0x92997ed8\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n";

#[test]
fn files_of_every_kind_are_told_apart() {
    let scratch = Scratch::new("kinds");
    let read = |name: &str, bytes: &[u8]| gather(&scratch.put(name, bytes));
    assert_eq!(read("a", SYMVERS).unwrap().exports.unwrap().value.len(), 1);
    let map = read("b", b"c0008000 T stext\nc0009000 R __ksymtab_kfree\n").unwrap();
    assert_eq!(map.addresses.unwrap().value["stext"], 0xc000_8000);
    assert_eq!(map.exports.unwrap().value["kfree"].crc, None);
    let config = read("c", b"# Linux/arm 6.1 Kernel Configuration\nCONFIG_ARM=y\n").unwrap();
    assert_eq!(config.machine.unwrap().value.name(), "arm");
    assert!(config.config.unwrap().value.is_set("ARM"));
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    packed.extend(miniz_oxide::deflate::compress_to_vec(SYMVERS, 6));
    assert!(read("d", &packed).unwrap().exports.is_some());
    let json = serde_json::to_vec(&read("a", SYMVERS).unwrap()).unwrap();
    assert_eq!(read("e", &json).unwrap(), read("a", SYMVERS).unwrap());
    assert!(matches!(read("f", b"{\"nonsense\": 1}"), Err(FactsError::Damaged(..))));
    for nothing in [&b""[..], b"hello\n", &fixture("hello.ko")] {
        assert!(matches!(read("g", nothing), Err(FactsError::Unknown(_))));
    }
    assert!(matches!(gather(&scratch.0.join("absent")), Err(FactsError::Io(..))));
}

#[test]
fn a_directory_of_modules_tells_what_they_were_built_for() {
    let scratch = Scratch::new("tree");
    scratch.put("kernel/hello.ko", &fixture("hello.ko"));
    scratch.put("kernel/exporter.ko", &fixture("exporter.ko"));
    scratch.put("modules.builtin", b"kernel/fs/ext-four.ko\n");
    let facts = gather(&scratch.0).unwrap();
    let vermagic = facts.vermagic.unwrap();
    assert!(vermagic.value.starts_with("6.1.0-"), "{vermagic:?}");
    assert_eq!(facts.release.unwrap().value, vermagic.value.split(' ').next().unwrap());
    assert_eq!(facts.machine.unwrap().value.name(), "x86_64");
    assert!(facts.module_crcs.unwrap().value.contains_key("_printk"));
    assert!(facts.builtin.unwrap().value.contains("ext_four"));
    assert_eq!(facts.modules.unwrap().value["exporter"], "kernel/exporter.ko");
    // Without knowing what the image exports, the exports of modules alone would look like all there are.
    assert!(facts.exports.is_none());
}

#[test]
fn a_root_with_headers_and_modules_is_one_kernel() {
    let scratch = Scratch::new("root");
    scratch.put("usr/src/linux-headers-6.1.0-9-test/Module.symvers", SYMVERS);
    scratch.put(
        "usr/src/linux-headers-6.1.0-9-test/include/generated/utsrelease.h",
        b"#define UTS_RELEASE \"6.1.0-9-test\"\n",
    );
    scratch.put("usr/src/linux-headers-6.1.0-9-common/Makefile", b"");
    scratch.put("boot/System.map-6.1.0-9-test", b"ffffffffffffffff B The real System.map is elsewhere\n");
    scratch.put("boot/config-6.1.0-9-test", b"CONFIG_X86_64=y\n");
    scratch.put("lib/modules/6.1.0-9-test/kernel/exporter.ko", &fixture("exporter.ko"));
    let facts = gather(&scratch.0).unwrap();
    assert_eq!(facts.release.unwrap().value, "6.1.0-9-test");
    let exports = facts.exports.unwrap().value;
    assert_eq!(exports["_printk"].module, None);
    assert!(exports.values().any(|export| export.module.as_deref() == Some("exporter")), "{exports:?}");
    assert!(facts.config.is_some() && facts.addresses.is_none());
}

#[test]
fn a_name_is_a_path_several_paths_or_a_release() {
    let scratch = Scratch::new("names");
    let symvers = scratch.put("Module.symvers", SYMVERS);
    let map = scratch.put("System.map", b"c0008000 T _printk\n");
    let both = format!("{},{}", symvers.display(), map.display());
    let facts = kernel(&both).unwrap();
    assert!(facts.exports.is_some() && facts.addresses.is_some());
    assert!(matches!(kernel("0.0.0-none"), Err(FactsError::NoKernel(_))));
    assert!(matches!(kernel(&format!("{both},/nonexistent")), Err(FactsError::NoKernel(_))));
}

#[test]
fn most_modules_decide_where_they_disagree() {
    let vermagic = |text: &str| {
        let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, 62);
        object.modinfo(&[("vermagic", text)]);
        object.finish()
    };
    let mut tree = directory::Tree::default();
    for (name, text) in [("a.ko", "1 SMP "), ("b.ko", "2 SMP "), ("c.ko", "2 SMP ")] {
        tree.add(name, name, &vermagic(text), &Source::new(name));
    }
    let mut facts = Facts::default();
    tree.finish(&mut facts, &Source::new("tree"));
    assert_eq!(facts.vermagic.unwrap().value, "2 SMP ");
}
