//! The indexes: what kmod writes is read, and written again with the same bytes; what we write kmod reads.

use std::collections::BTreeSet;

use lkm_tree::index::binary::Index;
use lkm_tree::index::binary::IndexBuilder;
use lkm_tree::index::text;

use crate::support::Tree;

const BINARY: [&str; 5] = [
    "modules.dep.bin",
    "modules.alias.bin",
    "modules.symbols.bin",
    "modules.builtin.bin",
    "modules.builtin.alias.bin",
];

type Entry = (Vec<u8>, Vec<u8>, u32);

fn entries(bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let index = Index::new(bytes).unwrap();
    index.for_each(|key, value| entries.push((key.to_vec(), value.text.to_vec(), value.priority))).unwrap();
    entries
}

fn build<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u8> {
    let mut builder = IndexBuilder::new();
    for (key, value, priority) in entries {
        builder.insert(key, value, *priority).unwrap();
    }
    builder.finish().unwrap()
}

#[test]
fn kmods_indexes_are_written_again_byte_for_byte() {
    let tree = Tree::sample("again");
    for name in BINARY {
        let theirs = tree.index(name);
        let entries = entries(&theirs);
        assert!(entries.len() >= 2, "{name}: {entries:?}");
        // Of equal priorities the last one inserted comes first, hence from the end.
        assert_eq!(build(entries.iter().rev()), theirs, "{name}");
    }
}

#[test]
fn binary_and_text_say_the_same() {
    let tree = Tree::sample("same");
    let lines: BTreeSet<Vec<u8>> =
        entries(&tree.index("modules.dep.bin")).into_iter().map(|(_, value, _)| value).collect();
    let file = tree.index("modules.dep");
    let from_text: Vec<_> = text::dependencies(&file).map(Result::unwrap).collect();
    let from_binary: Vec<_> = lines.iter().map(|line| text::DependencyLine::parse(line).unwrap()).collect();
    assert_eq!(from_text.len(), 5);
    for line in &from_text {
        let other = from_binary.iter().find(|other| other.path == line.path).unwrap();
        assert!(other.depends().eq(line.depends()), "{line:?}");
    }

    for (binary, text_name) in
        [("modules.alias.bin", "modules.alias"), ("modules.symbols.bin", "modules.symbols")]
    {
        let pairs = |mut pairs: Vec<(Vec<u8>, Vec<u8>)>| {
            pairs.sort();
            pairs
        };
        let file = tree.index(text_name);
        // The keys have `_` for every `-` that is not in a set; the sample has none there but in sets.
        let underscored = |pattern: &[u8]| {
            let mut inside = false;
            let replaced = pattern.iter().map(|byte| {
                inside = (inside || *byte == b'[') && *byte != b']';
                if *byte == b'-' && !inside { b'_' } else { *byte }
            });
            replaced.collect::<Vec<u8>>()
        };
        let from_text = text::aliases(&file).map(Result::unwrap);
        let from_text = from_text.map(|line| (underscored(line.pattern), line.module.to_vec())).collect();
        let from_binary =
            entries(&tree.index(binary)).into_iter().map(|(key, value, _)| (key, value)).collect();
        assert_eq!(pairs(from_binary), pairs(from_text), "{binary}");
    }

    let names: Vec<_> =
        entries(&tree.index("modules.builtin.bin")).into_iter().map(|(key, ..)| key).collect();
    let built_in = tree.index("modules.builtin");
    let expected = text::paths(&built_in).map(|path| {
        let name = lkm_tree::search::name_of(std::str::from_utf8(path).unwrap().as_ref()).unwrap();
        name.into_bytes()
    });
    assert_eq!(names, expected.collect::<Vec<_>>());
}

#[test]
fn the_other_text_files_are_read() {
    let tree = Tree::sample("others");
    let file = tree.index("modules.softdep");
    let lines: Vec<_> = text::soft_dependencies(&file).map(Result::unwrap).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].module, b"card");
    assert_eq!(lines[0].before, [b"base".as_slice(), b"other"]);
    assert_eq!(lines[0].after, [b"late-one"]);
    let file = tree.index("modules.devname");
    let nodes: Vec<_> = text::device_nodes(&file).map(Result::unwrap).collect();
    assert_eq!(nodes.len(), 1);
    assert_eq!((nodes[0].module, nodes[0].name), (b"card".as_slice(), b"the/card".as_slice()));
    assert_eq!((nodes[0].kind, nodes[0].major, nodes[0].minor), (text::DeviceKind::Character, 10, 77));
}

#[test]
fn an_alias_stands_for_the_modules_that_modprobe_finds() {
    let tree = Tree::sample("lookup");
    let index = Index::new(tree.index("modules.alias.bin")).unwrap();
    let names = [
        "pci:v00008086d0000100Esv1",
        "pci:v00008086d00001234sv",
        "pci:v00008086d00003234sv0",
        "pci:v00008087d00001234sv",
        "usb:v1_2pb99",
        "usb:v1_2pd99",
        "bus_name",
        "fs_disk",
        "fs_",
        "block_major_8_",
        "char_major_10_77",
        "char_major_10_7",
    ];
    let mut several = 0;
    for name in names {
        let ours: Vec<String> = index
            .matching(name.as_bytes())
            .unwrap()
            .iter()
            .map(|value| String::from_utf8(value.text.to_vec()).unwrap())
            .collect();
        let theirs = tree.modprobe(&["-q", "-R", name]);
        assert_eq!(ours, theirs.lines().collect::<Vec<_>>(), "{name}");
        several += usize::from(ours.len() > 1);
    }
    assert!(several >= 3, "names with several modules, whose order counts");
}

#[test]
fn modprobe_reads_indexes_that_we_wrote() {
    let tree = Tree::sample("written");
    let alias: Entry = (b"made_up_*".to_vec(), b"disk".to_vec(), 1);
    let mut aliases = entries(&tree.index("modules.alias.bin"));
    aliases.push(alias);
    std::fs::write(tree.modules().join("modules.alias.bin"), build(&aliases)).unwrap();
    assert_eq!(tree.modprobe(&["-R", "made-up-thing"]), "disk\n");

    let mut lines = entries(&tree.index("modules.dep.bin"));
    lines.push((b"extra".to_vec(), b"extra/extra.ko: kernel/lib/base.ko".to_vec(), 9));
    std::fs::write(tree.modules().join("modules.dep.bin"), build(&lines)).unwrap();
    let shown = tree.modprobe(&["-D", "extra"]);
    let paths: Vec<_> = shown.lines().map(|line| line.rsplit('/').next().unwrap().trim_end()).collect();
    assert_eq!(paths, ["base.ko", "extra.ko"], "{shown}");
}
