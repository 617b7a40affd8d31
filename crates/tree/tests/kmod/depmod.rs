//! `depmod`: what it writes and says about small trees, byte for byte as kmod 30 does.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::SystemTime;

use lkm_module::elf::Class;
use lkm_module::elf::Endian;
use lkm_module::elf::consts::EM_X86_64;
use lkm_module::testing::ObjectBuilder;
use lkm_tree::depmod::CACHE_NAME;
use lkm_tree::depmod::Depmod;
use lkm_tree::depmod::DepmodError;
use lkm_tree::depmod::FileState;
use lkm_tree::depmod::KernelSymbols;
use lkm_tree::depmod::Note;
use lkm_tree::depmod::Observer;
use lkm_tree::depmod::Rules;
use lkm_tree::depmod::Severity;
use lkm_tree::depmod::Step;

use crate::support::RELEASE;
use crate::support::Tree;
use crate::support::kmod;

/// Keeps the notes as kmod's lines on standard error.
#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn note(&mut self, note: Note) {
        let level = match note.severity() {
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Info => return,
        };
        self.0.extend(format!("depmod: {level}: {note}\n").lines().map(str::to_owned));
    }
}

/// An empty tree with the files that every kernel has.
fn empty(name: &str) -> Tree {
    let tree = Tree::new(name);
    for file in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        tree.write(&format!("lib/modules/{RELEASE}/{file}"), "");
    }
    tree
}

fn depmod(tree: &Tree) -> Depmod {
    Depmod::new(tree.modules())
}

/// Rules from lines of `depmod.d`, and the file they are in.
fn rules(tree: &Tree, text: &str) -> (Rules, PathBuf) {
    let file = tree.write("etc/depmod.d/x.conf", text);
    (Rules::read(std::slice::from_ref(&file), RELEASE.as_bytes(), &mut |note| panic!("{note}")), file)
}

/// Runs both and holds files and messages against each other. Gives the messages.
fn compare(tree: &Tree, arguments: &[&str], ours: &Depmod) -> Vec<String> {
    let root = tree.root().to_str().unwrap();
    let output = kmod("depmod", &[&["-b", root], arguments, &[RELEASE]].concat());
    let mut notes = Notes::default();
    let made = ours.indexes(&mut notes);
    let theirs: Vec<String> = String::from_utf8_lossy(&output.stderr)
        .lines()
        // The number of a file descriptor, where we name the directory.
        .map(|line| match line.split_once("fstatat(") {
            Some((start, rest)) => {
                let (_, rest) = rest.split_once(", ").unwrap();
                format!("{start}fstatat({}, {rest}", tree.modules().join("kernel/").display())
            }
            None => line.to_owned(),
        })
        .collect();
    assert_eq!(notes.0, theirs);
    assert_eq!(made.is_ok(), output.status.success());
    if let Ok(made) = made {
        for file in made.files.iter().filter(|file| file.name != "modules.weakdep") {
            let theirs = tree.index(file.name);
            // Where there is nothing kmod writes an empty file, which is no index.
            if !(theirs.is_empty() && file.name.starts_with("modules.builtin.")) {
                let show = |bytes: &[u8]| bytes.escape_ascii().to_string().replace("\\n", "\n");
                assert_eq!(show(&file.bytes), show(&theirs), "{}", file.name);
            }
        }
    }
    notes.0
}

#[test]
fn a_sample_of_everything() {
    let tree = Tree::sample("depmod-sample");
    assert!(compare(&tree, &[], &depmod(&tree)).is_empty());
}

#[test]
fn an_empty_directory_has_indexes_too() {
    let tree = Tree::new("depmod-empty");
    let notes = compare(&tree, &[], &depmod(&tree));
    assert_eq!(notes.len(), 3, "{notes:?}");
}

#[test]
fn many_modules_in_the_order_of_tables_and_of_modules_order() {
    let tree = empty("depmod-many");
    let mut state = 5_u32;
    let mut draw = |bound: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % bound
    };
    let mut order = String::new();
    for number in 0..400_u32 {
        let directory = ["kernel/drivers/a-b", "kernel/fs", "extra", "updates/x"][draw(4) as usize];
        let path =
            format!("{directory}/m{}-{number}.ko", ["", "x_y", "long-name-of-a-module"][draw(3) as usize]);
        let exports: Vec<String> = (0..draw(4)).map(|n| format!("sym_{number}_{n}")).collect();
        let imports: Vec<String> =
            (0..draw(6)).map(|_| format!("sym_{}_{}", draw(number.max(1)), draw(4))).collect();
        let aliases: Vec<String> = (0..draw(5)).map(|n| format!("pci:v{:04}d{n}*", draw(90))).collect();
        let tags: Vec<(&str, &str)> = aliases.iter().map(|alias| ("alias", alias.as_str())).collect();
        let exports: Vec<&str> = exports.iter().map(String::as_str).collect();
        let imports: Vec<&str> =
            imports.iter().map(String::as_str).filter(|name| !exports.contains(name)).collect();
        tree.module(&path, &exports, &imports, &tags);
        if draw(2) == 0 {
            order = format!("{path}\n{order}");
        }
    }
    tree.write(&format!("lib/modules/{RELEASE}/modules.order"), order);
    assert!(compare(&tree, &[], &depmod(&tree)).is_empty());
    let lines = tree.index("modules.dep");
    assert_eq!(lines.split(|byte| *byte == b'\n').count(), 401);
    assert!(lines.windows(4).filter(|window| window == b".ko ").count() > 100, "long lists of dependencies");
}

#[test]
fn which_of_several_modules_counts() {
    let tree = empty("depmod-search");
    for directory in ["updates/a", "updates/b", "updatesx", "kernel/a", "kernel/b", "extra", "weak-updates"] {
        tree.module(&format!("{directory}/m-x.ko"), &[], &[], &[("alias", directory)]);
    }
    let outside = tree.root().join("outside");
    for path in ["outside/sub/m-x.ko", "outside/only.ko"] {
        let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
        object.modinfo(&[("alias", path)]);
        tree.write(path, object.finish());
    }
    let outside = outside.display();
    let mut winners = std::collections::BTreeSet::new();
    for text in [
        String::new(),
        "search extra built-in\n".into(),
        "search built-in extra\n".into(),
        "search updatesx/\n".into(),
        "search extra\nsearch updatesx\n".into(),
        "search \\\n weak-updates\n".into(),
        "override m-x 6.1 kernel/b\n".into(),
        "override m-x ^6 kernel/b\noverride m-x * extra\n".into(),
        "override m_x ^6 kernel/b\n".into(),
        "override m-x ^6\\.1\\.0-[a-z]+$ weak-updates\n".into(),
        "exclude updates\n".into(),
        "exclude updates kernel updatesx\n".into(),
        "exclude m-x.ko\n".into(),
        "exclude b updates\n".into(),
        format!("external 6.1 {outside}\n"),
        format!("external * {outside}\nsearch external built-in\n"),
        format!("external * {outside}\nsearch built-in external\n"),
        format!("external * {outside}/sub {outside}\nexclude kernel extra updates\n"),
        format!("external * {outside}/\n"),
    ] {
        let (rules, file) = rules(&tree, &text);
        let ours = Depmod { rules, ..depmod(&tree) };
        compare(&tree, &["-C", file.to_str().unwrap()], &ours);
        winners.insert(tree.index("modules.alias"));
    }
    assert!(winners.len() >= 7, "{}", winners.len());
}

#[test]
fn lines_of_depmod_d_that_are_not_understood() {
    let tree = empty("depmod-lines");
    let file = tree.write("etc/x.conf", "override m\nbogus x\n  external 5\n#x\nsearch\n\n exclude\n");
    let mut notes = Notes::default();
    Rules::read(std::slice::from_ref(&file), RELEASE.as_bytes(), &mut |note| notes.note(note));
    let root = tree.root().to_str().unwrap();
    let output = kmod("depmod", &["-b", root, "-C", file.to_str().unwrap(), RELEASE]);
    assert_eq!(notes.0, String::from_utf8(output.stderr).unwrap().lines().collect::<Vec<_>>());
    assert_eq!(notes.0.len(), 3);
}

#[test]
fn fields_and_lists_of_every_form() {
    let tree = empty("depmod-fields");
    tree.module(
        "kernel/z.ko",
        &["a"],
        &[],
        &[
            ("alias", "b[b"),
            ("alias", "set-[a-c]-x"),
            ("alias", "char-major-10-5"),
            ("alias", "devname:x y"),
            ("alias", "with blank"),
            ("alias", "twice"),
            ("alias", "twice"),
            ("alias", ""),
            ("softdep", "pre: x"),
            ("softdep", "y"),
            ("aliased", "no alias"),
        ],
    );
    tree.module("kernel/y-1.ko", &[], &[], &[("alias", "devname:only")]);
    let block = [("alias", "block-major-7-*"), ("alias", "char-major-10-7junk"), ("alias", "devname:q")];
    tree.module("kernel/w.x.ko", &[], &[], &block);
    tree.module(
        "kernel/weak.ko",
        &[],
        &[],
        &[("weakdep", "a b"), ("alias", "block-major-1-2"), ("alias", "devname:b")],
    );
    tree.write(&format!("lib/modules/{RELEASE}/modules.builtin"), "kernel/q.ko\n1bad\nkernel/w-x.ko");
    tree.write(
        &format!("lib/modules/{RELEASE}/modules.builtin.modinfo"),
        "q.alias=pci:v-x\0q.license=GPL\0w_x.alias=fs-w\0q.alias=q[x\0w_x.softdep=pre: a\0",
    );
    let notes = compare(&tree, &[], &depmod(&tree));
    assert_eq!(notes.len(), 5, "{notes:?}");
    let made = depmod(&tree).indexes(&mut ()).unwrap();
    let weak = made.files.iter().find(|file| file.name == "modules.weakdep").unwrap();
    assert_eq!(weak.bytes, b"# Weak dependencies extracted from modules themselves.\nweakdep weak a b\n");
    let texts = depmod(&tree).texts(&mut ()).unwrap().files;
    let shown = kmod("depmod", &["-n", "-b", tree.root().to_str().unwrap(), RELEASE]);
    let ours: Vec<u8> = texts
        .iter()
        .filter(|file| file.name != "modules.weakdep")
        .flat_map(|file| file.bytes.clone())
        .collect();
    assert_eq!(ours.escape_ascii().to_string(), shown.stdout.escape_ascii().to_string());
}

#[test]
fn symbols_by_every_way_they_come() {
    let tree = empty("depmod-symbols");
    tree.module("kernel/first.ko", &["shared", "only_first"], &[], &[]);
    tree.module("kernel/second.ko", &["shared"], &["only_first"], &[]);
    tree.module("kernel/user.ko", &[], &["shared", "nowhere"], &[]);
    let path = |name: &str| format!("lib/modules/{RELEASE}/kernel/{name}.ko");
    for (class, endian) in [
        (Class::Elf64, Endian::Little),
        (Class::Elf64, Endian::Big),
        (Class::Elf32, Endian::Little),
        (Class::Elf32, Endian::Big),
    ] {
        let name = format!("{class:?}_{endian:?}").to_lowercase();
        let mut object = ObjectBuilder::new(class, endian, EM_X86_64);
        object.weak("only_first");
        object.undefined(".shared");
        object.absolute(&format!("__crc_of_{name}"), 5);
        tree.write(&path(&name), object.finish());
    }
    // Exports without CRCs.
    let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
    object.section("__ksymtab_strings", 1, 2, 1, b"\0\0plain_export\0other_export\0");
    object.undefined("of_elf32_big");
    tree.write(&path("plain"), object.finish());
    // A symbol that is asked for by its version only.
    let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
    object.versions(&[("module_layout", 1), ("plain_export", 2), ("shared", 3)]);
    object.undefined("shared");
    tree.write(&path("by-version"), object.finish());
    assert!(compare(&tree, &[], &depmod(&tree)).is_empty());
    let lines = String::from_utf8(tree.index("modules.dep")).unwrap();
    assert!(lines.contains("by-version.ko: kernel/plain.ko"), "{lines}");
}

#[test]
fn names_that_are_too_long_for_versions_count_where_kmod_does_not_see_them() {
    let tree = empty("depmod-extended");
    let long = "a_name_that_is_longer_than_the_fifty_six_bytes_which_a_version_record_has_for_it";
    tree.module("kernel/has.ko", &[long], &[], &[]);
    let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
    object.section("__version_ext_crcs", 1, 2, 4, &[1, 0, 0, 0, 2, 0, 0, 0]);
    object.section("__version_ext_names", 1, 2, 1, format!("other\0{long}\0").as_bytes());
    tree.write(&format!("lib/modules/{RELEASE}/kernel/needs.ko"), object.finish());
    let made = depmod(&tree).indexes(&mut ()).unwrap();
    let lines = String::from_utf8(made.files[0].bytes.clone()).unwrap();
    assert!(lines.contains("kernel/needs.ko: kernel/has.ko\n"), "{lines}");
}

#[test]
fn the_kernels_symbols_are_checked() {
    let tree = empty("depmod-unresolved");
    tree.module("kernel/c.ko", &["fc"], &["fd"], &[]);
    tree.module("kernel/z.ko", &["fd"], &["fc", "nono", "other", "__this_module"], &[]);
    // kmod ends with an error where modules need each other.
    tree.module("kernel/c.ko", &["fc"], &[], &[]);
    let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
    object.versions(&[("nono", 0x1234), ("fc", 0x1000), ("other", 9)]);
    ["nono", "fc", "other"].iter().for_each(|name| {
        object.undefined(name);
    });
    object.weak("weak_and_nowhere");
    tree.write(&format!("lib/modules/{RELEASE}/kernel/v.ko"), object.finish());
    let symvers = tree.write(
        "symvers",
        "0x00001234\tnono\tvmlinux\tEXPORT_SYMBOL\nbad\n0xzz\tfoo\tvmlinux\tE\n0x1\tother\tfs/x\tE\n",
    );
    let system_map = tree.write("System.map", "ffff R __ksymtab_nono\nbadline\nffff T other\n");
    for (option, file) in [("-E", symvers), ("-F", system_map)] {
        let mut notes = Notes::default();
        let text = fs::read(&file).unwrap();
        let kernel = match option {
            "-E" => KernelSymbols::from_symvers(&file, &text, &mut |note| notes.note(note)),
            _ => KernelSymbols::from_system_map(&file, &text, None, &mut |note| notes.note(note)),
        };
        let ours = Depmod { kernel: Some(kernel), unresolved: true, ..depmod(&tree) };
        let root = tree.root().to_str().unwrap();
        let output = kmod("depmod", &["-b", root, "-e", option, file.to_str().unwrap(), RELEASE]);
        ours.indexes(&mut notes).unwrap();
        let theirs = String::from_utf8(output.stderr).unwrap();
        // After that one it prints whatever went wrong last.
        let theirs: Vec<&str> = theirs
            .lines()
            .map(|line| line.find("0xzz: ").map_or(line, |place| &line[..place + "0xzz".len()]))
            .collect();
        assert_eq!(notes.0, theirs, "{option}");
        assert!(notes.0.len() >= 3, "{:?}", notes.0);
    }
}

#[test]
fn circles_are_told() {
    let tree = empty("depmod-circles");
    for (name, needs) in
        [("a", "b"), ("b", "a"), ("c", "b"), ("d", "e"), ("e", "f"), ("f", "d"), ("g", "g"), ("h", "")]
    {
        let exported = format!("sym_{name}");
        let imported = format!("sym_{needs}");
        tree.module(&format!("kernel/{name}.ko"), &[&exported], &[&imported], &[]);
    }
    let order: String = "hgfedcba".chars().map(|name| format!("kernel/{name}.ko\n")).collect();
    tree.write(&format!("lib/modules/{RELEASE}/modules.order"), order);
    let notes = compare(&tree, &[], &depmod(&tree));
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert!(!tree.modules().join("modules.dep").exists());
    assert!(matches!(depmod(&tree).update(&mut ()), Err(DepmodError::Cycles)));
    assert!(!tree.modules().join("modules.dep").exists());
}

#[test]
fn files_that_are_no_modules() {
    let tree = empty("depmod-damaged");
    tree.module("kernel/good.ko", &["good"], &[], &[("alias", "good")]);
    let good = tree.index("kernel/good.ko");
    let path = |name: &str| format!("lib/modules/{RELEASE}/kernel/{name}");
    tree.write(&path("empty.ko"), "");
    tree.write(&path("text.ko"), "not a module");
    tree.write(&path("cut.ko"), &good[..good.len() / 2]);
    tree.write(&path("README.txt"), "x");
    tree.write(&path("build/in-build.ko"), &good);
    tree.write(&path(".hidden/hidden.ko"), &good);
    std::os::unix::fs::symlink("nowhere", tree.modules().join("kernel/dangling.ko")).unwrap();
    std::os::unix::fs::symlink("good.ko", tree.modules().join("kernel/link.ko")).unwrap();
    assert!(Command::new("mkfifo").arg(tree.modules().join("kernel/pipe.ko")).status().unwrap().success());
    let notes = compare(&tree, &[], &depmod(&tree));
    assert_eq!(notes.len(), 5, "{notes:?}");
    tree.write(&format!("lib/modules/{RELEASE}/modules.order"), "kernel/good.ko\nkernel/link.ko");
    compare(&tree, &[], &depmod(&tree));
}

#[test]
fn a_link_back_is_not_followed_forever() {
    let tree = empty("depmod-loop");
    tree.module("kernel/good.ko", &[], &[], &[]);
    std::os::unix::fs::symlink("..", tree.modules().join("kernel/up")).unwrap();
    let mut notes = Notes::default();
    let made = depmod(&tree).indexes(&mut notes).unwrap();
    assert_eq!(made.modules, 1);
    assert!(notes.0[0].contains("symbolic link"), "{:?}", notes.0);
}

/// Compresses every module of a tree in place.
fn pack(directory: &Path, tool: &str, ending: &str) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            pack(&path, tool, ending);
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            let output = Command::new(tool).arg("-c").stdin(fs::File::open(&path).unwrap()).output().unwrap();
            assert!(output.status.success());
            fs::remove_file(&path).unwrap();
            fs::write(format!("{}.{ending}", path.display()), output.stdout).unwrap();
        }
    }
}

#[test]
fn compressed_modules_give_the_same() {
    for (tool, ending) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        let tree = Tree::sample(&format!("depmod-{ending}"));
        let plain = depmod(&tree).indexes(&mut ()).unwrap();
        pack(&tree.modules(), tool, ending);
        let packed = depmod(&tree).indexes(&mut ()).unwrap();
        assert_eq!(packed.modules, 5);
        for (packed, plain) in packed.files.iter().zip(&plain.files).filter(|(packed, _)| packed.is_text()) {
            let packed = String::from_utf8(packed.bytes.clone()).unwrap();
            assert_eq!(
                packed.replace(&format!(".ko.{ending}"), ".ko"),
                String::from_utf8(plain.bytes.clone()).unwrap()
            );
        }
        // Debian's kmod has no gzip.
        if ending != "gz" {
            compare(&tree, &[], &depmod(&tree));
        }
    }
}

/// Sets a file's time back so far that its state cannot change unseen.
fn settle(directory: &Path) {
    // The time of the last change of an inode cannot be set: it has to pass.
    std::thread::sleep(Duration::from_millis(120));
    let _ = directory;
}

fn cached(tree: &Tree) -> Depmod {
    Depmod { cache: true, ..depmod(tree) }
}

/// All index files that are there.
fn indexes(tree: &Tree) -> Vec<(String, Vec<u8>)> {
    let names =
        fs::read_dir(tree.modules()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> = names
        .filter(|name| name.starts_with("modules.") && name != CACHE_NAME)
        .map(|name| (name.clone(), tree.index(&name)))
        .collect();
    files.sort();
    files
}

/// The index files as a run without cache makes them.
fn fresh(tree: &Tree) -> Vec<(String, Vec<u8>)> {
    let made = depmod(tree).indexes(&mut ()).unwrap();
    let mut files: Vec<_> = made.files.into_iter().map(|file| (file.name.to_owned(), file.bytes)).collect();
    files.sort();
    files
}

fn assert_fresh(tree: &Tree) {
    let expected = fresh(tree);
    let present: Vec<_> = indexes(tree)
        .into_iter()
        .filter(|(name, _)| expected.iter().any(|(other, _)| other == name))
        .collect();
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&present), names(&expected));
    for (present, expected) in present.iter().zip(&expected) {
        assert_eq!(
            present.1.escape_ascii().to_string(),
            expected.1.escape_ascii().to_string(),
            "{}",
            present.0
        );
    }
}

#[test]
fn only_what_changed_is_read_again() {
    let tree = Tree::sample("depmod-cache");
    settle(&tree.modules());
    let read = |tree: &Tree| {
        let done = cached(tree).update(&mut ()).unwrap();
        assert_fresh(tree);
        done.modules - done.cached
    };
    assert_eq!(read(&tree), 5);
    assert_eq!(read(&tree), 0);
    let done = cached(&tree).update(&mut ()).unwrap();
    assert_eq!((done.cached, done.written), (5, 0), "nothing to do");

    // Another content of the same length and time.
    let path = tree.modules().join("kernel/drivers/card.ko");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes.windows(7).position(|window| window == b"usb:v1-").unwrap();
    bytes[place] = b'x';
    fs::write(&path, bytes).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(read(&tree), 1);
    assert!(tree.index("modules.alias").windows(7).any(|window| window == b"xsb:v1-"));

    // It has changed a moment ago, so it is read once more, and then no more.
    settle(&tree.modules());
    assert_eq!(read(&tree), 1);
    assert_eq!(read(&tree), 0);

    fs::remove_file(tree.modules().join("updates/disk2.ko")).unwrap();
    assert_eq!(read(&tree), 0);
    assert!(!tree.index("modules.dep").windows(5).any(|window| window == b"disk2"));
    tree.module("updates/disk3.ko", &["new_symbol"], &["base_init"], &[("alias", "fs-new")]);
    assert_eq!(read(&tree), 1);

    // An index that somebody else has changed is made again.
    tree.write(&format!("lib/modules/{RELEASE}/modules.alias"), "damaged\n");
    read(&tree);
    fs::remove_file(tree.modules().join("modules.symbols.bin")).unwrap();
    read(&tree);
    tree.write(&format!("lib/modules/{RELEASE}/modules.builtin"), "kernel/new-one.ko\n");
    read(&tree);
    assert!(tree.index("modules.builtin.bin").windows(7).any(|window| window == b"ew_one\0"));
}

#[test]
fn a_cache_that_is_none_is_made_again() {
    let tree = Tree::sample("depmod-bad-cache");
    settle(&tree.modules());
    cached(&tree).update(&mut ()).unwrap();
    let good = tree.index(CACHE_NAME);
    let path = format!("lib/modules/{RELEASE}/{CACHE_NAME}");
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for bad in [b"".to_vec(), good[..good.len() - 1].to_vec(), flipped, b"lkmfact9".repeat(40)] {
        tree.write(&path, bad);
        let done = cached(&tree).update(&mut ()).unwrap();
        assert_eq!((done.modules, done.cached), (5, 0));
        assert_fresh(&tree);
        let done = cached(&tree).update(&mut ()).unwrap();
        assert_eq!(done.cached, 5);
    }
    // The files of another tree have other inodes.
    let other = Tree::sample("depmod-foreign-cache");
    fs::write(other.modules().join(CACHE_NAME), tree.index(CACHE_NAME)).unwrap();
    let done = cached(&other).update(&mut ()).unwrap();
    assert_eq!(done.cached, 0);
    assert_fresh(&other);
}

#[test]
fn check_names_what_is_not_current() {
    let tree = Tree::sample("depmod-check");
    fs::write(tree.modules().join("modules.weakdep"), b"# nothing\n").unwrap();
    let check = |tree: &Tree| depmod(tree).check(&mut ()).unwrap();
    let first = check(&tree);
    assert!(first.is_current(), "{first:?}");
    tree.module("updates/another.ko", &[], &["base_init"], &[("alias", "another")]);
    fs::remove_file(tree.modules().join("kernel/fs/disk.ko")).unwrap();
    tree.module("kernel/drivers/the-bus.ko", &["bus_register"], &[], &[]);
    tree.write(&format!("lib/modules/{RELEASE}/modules.symbols.bin"), "nonsense");
    fs::remove_file(tree.modules().join("modules.devname")).unwrap();
    let check = check(&tree);
    assert!(!check.is_current());
    assert_eq!(check.new, ["updates/another.ko"]);
    assert_eq!(check.gone, ["kernel/fs/disk.ko"]);
    assert_eq!(
        check.changed,
        ["kernel/drivers/the-bus.ko", "kernel/drivers/card.ko"]
            .map(str::to_owned)
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    let state = |name: &str| &check.files.iter().find(|file| file.0 == name).unwrap().1;
    assert!(matches!(state("modules.symbols.bin"), FileState::Damaged(_)));
    assert!(matches!(state("modules.devname"), FileState::Missing(_)));
    assert!(
        matches!(state("modules.alias"), FileState::Stale(stale) if stale.missing == ["alias another another"])
    );
    assert_eq!(*state("modules.builtin.bin"), FileState::Current);
}

#[test]
fn a_quick_look_sees_what_is_new_and_what_is_gone() {
    let tree = Tree::sample("depmod-quick");
    let is_current = || depmod(&tree).is_quickly_current().unwrap();
    let set = |path: &str, ago: u64| {
        let file = fs::File::open(tree.modules().join(path)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(ago)).unwrap();
    };
    for path in ["kernel", "kernel/lib", "kernel/drivers", "kernel/fs", "updates"] {
        set(path, 100);
    }
    assert!(is_current());
    set("modules.dep", 50);
    assert!(!is_current(), "modules are newer");
    for path in [
        "kernel/lib/base.ko",
        "kernel/drivers/the-bus.ko",
        "kernel/drivers/card.ko",
        "kernel/fs/disk.ko",
        "updates/disk2.ko",
    ] {
        set(path, 200);
    }
    assert!(is_current());
    set("updates", 10);
    assert!(!is_current(), "a directory is newer: something was put there or removed");
    fs::remove_file(tree.modules().join("modules.dep")).unwrap();
    assert!(matches!(depmod(&tree).is_quickly_current(), Err(Note::NoIndex(..))));
}

/// Kills its process at a step.
struct Killer(usize);

impl Observer for Killer {
    fn step(&mut self, _: Step<'_>) {
        match self.0.checked_sub(1) {
            Some(rest) => self.0 = rest,
            None => {
                let _ = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
                std::thread::sleep(Duration::from_secs(60));
            }
        }
    }
}

/// Runs itself in other processes, which are killed after each file that they write or rename.
#[test]
fn whoever_is_killed_leaves_every_file_old_or_new() {
    const STEP: &str = "LKM_TEST_KILL_AT_STEP";
    const WHERE: &str = "LKM_TEST_KILL_WHERE";
    if let (Ok(step), Ok(directory)) = (std::env::var(STEP), std::env::var(WHERE)) {
        let depmod = Depmod { cache: true, ..Depmod::new(directory) };
        depmod.update(&mut Killer(step.parse().unwrap())).unwrap();
        return;
    }
    let tree = Tree::sample("depmod-kill");
    fs::remove_file(tree.modules().join("modules.devname")).unwrap();
    let before = indexes(&tree);
    // Every index changes.
    let tags = [
        ("alias", "fs-more"),
        ("softdep", "pre: base"),
        ("weakdep", "base"),
        ("alias", "devname:more"),
        ("alias", "char-major-9-9"),
    ];
    tree.module("updates/more.ko", &["more_symbol"], &["base_init"], &tags);
    tree.write(&format!("lib/modules/{RELEASE}/modules.builtin"), "kernel/new-one.ko\n");
    tree.write(&format!("lib/modules/{RELEASE}/modules.builtin.modinfo"), "new_one.alias=new-alias\0");
    let inputs = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];
    let after = fresh(&tree);
    let mut kills = 0;
    let mut mixed = 0;
    for step in 0.. {
        for (name, bytes) in &before {
            if !inputs.contains(&name.as_str()) {
                fs::write(tree.modules().join(name), bytes).unwrap();
            }
        }
        for name in ["modules.weakdep", "modules.devname"] {
            let _ = fs::remove_file(tree.modules().join(name));
        }
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "depmod::whoever_is_killed_leaves_every_file_old_or_new"])
            .env(STEP, step.to_string())
            .env(WHERE, tree.modules())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        let mut new = 0;
        for (name, bytes) in indexes(&tree) {
            if inputs.contains(&name.as_str()) || name.contains(".tmp-") {
                continue;
            }
            let is = |files: &[(String, Vec<u8>)]| files.iter().any(|file| file.0 == name && file.1 == bytes);
            assert!(is(&before) || is(&after), "step {step}: {name} is neither old nor new");
            new += usize::from(is(&after) && !is(&before));
        }
        mixed += usize::from(new > 0 && new < after.len());
        if status.success() {
            assert_eq!(new, after.len(), "all are new");
            break;
        }
        kills += 1;
        assert!(kills < 100);
    }
    assert!(kills >= 20 && mixed >= 10, "{kills} kills, {mixed} of them between two renames");
    let leftovers = indexes(&tree).into_iter().filter(|(name, _)| name.contains(".tmp-")).count();
    assert_eq!(leftovers, 0, "what the killed ones left is gone");
}

#[test]
fn what_cannot_be_written_replaces_nothing() {
    let tree = Tree::sample("depmod-full");
    let before = indexes(&tree);
    tree.module("updates/more.ko", &["more_symbol"], &[], &[("alias", "fs-more")]);
    // A directory in the place of an index cannot be renamed over.
    fs::remove_file(tree.modules().join("modules.dep.bin")).unwrap();
    fs::create_dir(tree.modules().join("modules.dep.bin")).unwrap();
    let error = depmod(&tree).update(&mut ()).unwrap_err();
    assert!(error.to_string().starts_with("renameat("), "{error}");
    fs::remove_dir(tree.modules().join("modules.dep.bin")).unwrap();
    let left: Vec<_> = before.into_iter().filter(|(name, _)| name != "modules.dep.bin").collect();
    assert_eq!(indexes(&tree), left);
}
