use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::index::binary::IndexBuilder;

/// A kernel's directory, gone afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lkm-tree-lookup-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// Disk, bus and card, where the disk needs the card and the card the bus.
    fn sample() -> Directory {
        let directory = Directory::new();
        directory.index(
            IndexFile::Dependencies,
            &[
                ("the_bus", "kernel/the-bus.ko.xz:"),
                ("card", "kernel/card.ko: kernel/the-bus.ko.xz"),
                ("disk", "kernel/disk.ko: kernel/card.ko kernel/the-bus.ko.xz"),
                ("crc", "updates/crc.ko:"),
                ("elsewhere", "/opt/elsewhere.ko: kernel/the-bus.ko.xz"),
                ("both", "kernel/both.ko:"),
            ],
        );
        directory.index(
            IndexFile::Aliases,
            &[
                ("pci:v1*", "disk"),
                ("pci:v1d2*", "card"),
                ("crypto_crc", "crc"),
                ("both", "card"),
                ("x:y", "card"),
            ],
        );
        directory.index(IndexFile::Symbols, &[("symbol:attach", "the_bus")]);
        directory.index(IndexFile::Builtin, &[("console", ""), ("both", "")]);
        directory.index(IndexFile::BuiltinAliases, &[("tty_*", "console")]);
        directory
    }

    fn index(&self, file: IndexFile, entries: &[(&str, &str)]) {
        let mut builder = IndexBuilder::new();
        for (priority, (key, value)) in entries.iter().enumerate() {
            builder.insert(key.as_bytes(), value.as_bytes(), priority as u32).unwrap();
        }
        self.write(file, &builder.finish().unwrap());
    }

    fn write(&self, file: IndexFile, bytes: &[u8]) {
        std::fs::write(self.0.join(file.name()), bytes).unwrap();
    }

    fn modules(&self, config: &str) -> Modules {
        let mut read = Config::default();
        read.add_text("x.conf".as_ref(), config.as_bytes());
        assert!(read.problems.is_empty(), "{:?}", read.problems);
        Modules::new(&self.0, read)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Names that a name stands for, and the alias if they were found by one.
fn found(modules: &Modules, name: &str) -> Vec<String> {
    let found = modules.find(name.as_bytes()).unwrap();
    let shown = found.iter().map(|found| match &found.alias {
        Some(alias) => format!("{} as {}", string(&found.name), string(alias)),
        None => string(&found.name),
    });
    shown.collect()
}

/// A plan as `modprobe -D` prints it, with `!` behind what may fail.
fn plan(modules: &Modules, name: &str, named: Named) -> Vec<String> {
    let mut lines = Vec::new();
    for found in modules.find(name.as_bytes()).unwrap() {
        for step in modules.plan(&found, named).unwrap().steps {
            let what = match &step.action {
                Action::Run(line) => format!("run {}", string(&line.command)),
                Action::Insert => match &step.path {
                    Some(path) => path.file_name().unwrap().to_str().unwrap().to_owned(),
                    None => "nothing".to_owned(),
                },
            };
            let blank = if step.options.is_empty() { "" } else { " " };
            let soft = if step.required { "" } else { "!" };
            lines.push(format!("{what}{blank}{}{soft}", string(&step.options)));
        }
    }
    lines
}

#[test]
fn the_first_place_that_knows_a_name_has_the_word() {
    let directory = Directory::sample();
    let modules = directory.modules(
        "alias disk crc\nalias my-* card\nalias my-x the-bus\ninstall only-here /bin/x\ninstall pci:v1d2 y\nremove gone z\n\
         install console no\n",
    );
    // A line before the module itself; all lines that match.
    assert_eq!(found(&modules, "disk"), ["crc as disk"]);
    assert_eq!(found(&modules, "my-x"), ["card as my_*", "the_bus as my_x"]);
    // A module before an alias and before what is built in.
    assert_eq!(found(&modules, "both"), ["both"]);
    assert_eq!(found(&modules, "the-bus"), ["the_bus"]);
    assert_eq!(found(&modules, "symbol:attach"), ["the_bus as symbol:attach"]);
    assert_eq!(found(&modules, "only_here"), ["only_here"]);
    assert_eq!(found(&modules, "gone"), ["gone"]);
    // A command before an alias, only with exactly its name.
    assert_eq!(found(&modules, "pci:v1d2"), ["pci:v1d2"]);
    assert_eq!(found(&modules, "pci:v1d2e3"), ["disk as pci:v1d2e3", "card as pci:v1d2e3"]);
    assert_eq!(found(&modules, "x:y"), ["card as x:y"]);
    assert_eq!(
        modules.find(b"console").unwrap()[0].source,
        Source::Command(modules.config().install[2].origin.clone())
    );
    let modules = directory.modules("");
    assert_eq!(modules.find(b"console").unwrap()[0].source, Source::Builtin);
    assert_eq!(found(&modules, "tty-1"), ["console as tty_1"]);
    assert!(modules.is_builtin(b"console") && !modules.is_builtin(b"tty_1"));
    assert!(matches!(modules.find(b"nothing"), Err(LookupError::Unknown(name)) if name == b"nothing"));
    assert!(matches!(modules.find(b"a[b"), Err(LookupError::BadName(_))));
}

#[test]
fn files_and_dependencies() {
    let directory = Directory::sample();
    let modules = directory.modules("");
    assert_eq!(modules.path(b"the-bus").unwrap().unwrap(), directory.0.join("kernel/the-bus.ko.xz"));
    assert_eq!(modules.path(b"elsewhere").unwrap().unwrap(), Path::new("/opt/elsewhere.ko"));
    assert_eq!(modules.path(b"console").unwrap(), None);
    let names = |name: &[u8]| -> Vec<String> {
        modules.dependencies(name).unwrap().iter().map(|needed| string(&needed.name)).collect()
    };
    assert_eq!(names(b"disk"), ["the_bus", "card"]);
    assert_eq!(names(b"crc"), [""; 0]);
    assert_eq!(names(b"nothing"), [""; 0]);
    assert!(
        matches!(modules.file(b"crc"), Err(LookupError::NoFile(path)) if path == directory.0.join("updates/crc.ko"))
    );
    assert!(matches!(modules.file(b"nothing"), Err(LookupError::Unknown(_))));
    std::fs::create_dir_all(directory.0.join("updates")).unwrap();
    std::fs::write(directory.0.join("updates/crc.ko"), "").unwrap();
    assert_eq!(modules.file(b"crc").unwrap(), directory.0.join("updates/crc.ko"));
}

#[test]
fn a_missing_index_is_told_from_a_damaged_one_and_from_an_unknown_name() {
    let directory = Directory::sample();
    std::fs::remove_file(directory.0.join("modules.dep.bin")).unwrap();
    let modules = directory.modules("alias mine disk\n");
    let path = directory.0.join("modules.dep.bin");
    assert!(matches!(modules.find(b"nothing"), Err(LookupError::NoIndex(missing)) if missing == path));
    // What the other places know is found all the same, and has no file.
    assert_eq!(found(&modules, "pci:v1d9"), ["disk as pci:v1d9"]);
    let plan = modules.plan(&modules.find(b"mine").unwrap()[0], Named::WithCommands).unwrap();
    assert_eq!((plan.steps.len(), plan.steps[0].path.clone()), (1, None));
    assert!(matches!(plan.problem, Some(LookupError::NoIndex(_))));

    directory.write(IndexFile::Dependencies, b"no index at all");
    let modules = directory.modules("");
    let error = modules.find(b"nothing").unwrap_err();
    assert!(matches!(&error, LookupError::BadIndex(damaged, _) if *damaged == path));
    let expected =
        format!("the index {} cannot be used: it is not an index that depmod wrote", path.display());
    assert_eq!(error.to_string(), expected);
    // A kernel's directory of before the index existed.
    std::fs::remove_file(directory.0.join("modules.builtin.alias.bin")).unwrap();
    directory.index(IndexFile::Dependencies, &[]);
    let modules = directory.modules("");
    assert!(matches!(modules.find(b"nothing"), Err(LookupError::Unknown(_))));
}

#[test]
fn options_are_those_of_the_name_and_of_the_alias() {
    let directory = Directory::sample();
    let modules =
        directory.modules("options disk a=1\noptions my-d b=2\noptions di* c=3\noptions disk d=4 e\n");
    assert_eq!(modules.options(b"disk", None), b"a=1 d=4 e");
    assert_eq!(modules.options(b"disk", Some(b"my_d")), b"a=1 b=2 d=4 e");
    assert_eq!(modules.options(b"disk", Some(b"di*")), b"a=1 c=3 d=4 e");
    assert_eq!(modules.options(b"card", None), b"");
}

#[test]
fn a_plan_has_what_is_needed_first_and_soft_dependencies_around() {
    let directory = Directory::sample();
    let modules = directory.modules(
        "softdep card pre: crypto-crc post: nothing both\nsoftdep card pre: elsewhere\noptions the_bus speed=9\n\
         options disk x=1\ninstall crc /bin/crc\n",
    );
    let whole = [
        "the-bus.ko.xz speed=9",
        "run /bin/crc!",
        "the-bus.ko.xz speed=9",
        "elsewhere.ko!",
        "card.ko",
        "both.ko!",
        "disk.ko x=1",
    ];
    assert_eq!(plan(&modules, "disk", Named::WithCommands), whole);
    let steps = modules.plan(&modules.find(b"disk").unwrap()[0], Named::WithCommands).unwrap().steps;
    let named: Vec<_> = steps.iter().filter(|step| step.is_named).collect();
    assert_eq!((named.len(), &named[0].reason), (1, &Reason::Named));
    assert_eq!(steps[1].reason, Reason::SoftBefore(b"card".as_slice().into()));
    assert_eq!(steps[4].reason, Reason::Dependency(b"disk".as_slice().into()));
    assert_eq!(steps[5].reason, Reason::SoftAfter(b"card".as_slice().into()));

    // kmod heeds the first line only.
    let strict = directory.modules(
        "softdep card pre: crypto-crc post: nothing both\nsoftdep card pre: elsewhere\noptions the_bus speed=9\n\
         options disk x=1\ninstall crc /bin/crc\n",
    );
    let strict = strict.with_rules(Rules::KMOD);
    assert_eq!(
        plan(&strict, "disk", Named::WithCommands),
        ["the-bus.ko.xz speed=9", "run /bin/crc!", "card.ko", "both.ko!", "disk.ko x=1"]
    );
}

#[test]
fn an_install_line_counts_beside_soft_dependencies_unless_kmod_is_followed() {
    let directory = Directory::sample();
    let config =
        "softdep card pre: crc\ninstall card /bin/card\ninstall disk /bin/disk\nsoftdep disk pre: nothing\n";
    let modules = directory.modules(config);
    assert_eq!(plan(&modules, "card", Named::WithCommands), ["the-bus.ko.xz", "crc.ko!", "run /bin/card"]);
    assert_eq!(plan(&modules, "card", Named::Alone), ["the-bus.ko.xz", "card.ko"]);
    let strict = directory.modules(config).with_rules(Rules::KMOD);
    assert_eq!(plan(&strict, "card", Named::WithCommands), ["the-bus.ko.xz", "crc.ko!", "card.ko"]);
    // A soft dependency that stands for nothing is none.
    assert_eq!(
        plan(&strict, "disk", Named::WithCommands),
        ["the-bus.ko.xz", "crc.ko!", "card.ko", "run /bin/disk"]
    );
}

#[test]
fn circles_of_soft_dependencies_come_to_an_end() {
    let directory = Directory::sample();
    let modules = directory.modules(
        "softdep both pre: crc post: both\nsoftdep crc pre: both crc post: card\nsoftdep the_bus post: card\n",
    );
    let steps = plan(&modules, "both", Named::WithCommands);
    assert_eq!(steps, ["crc.ko!", "the-bus.ko.xz!", "card.ko!", "both.ko"]);
}

#[test]
fn a_load_that_was_made_to_fill_the_memory_is_refused() {
    let directory = Directory::new();
    let long = format!("k/x.ko:{}", " k/y.ko".repeat(3000));
    let names: Vec<String> = (0..50).map(|number| format!("m{number}")).collect();
    let entries: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), long.as_str())).collect();
    directory.index(IndexFile::Dependencies, &entries);
    let modules = directory.modules(&format!("softdep m0 pre: {}\n", names.join(" ")));
    let found = modules.find(b"m0").unwrap();
    assert!(matches!(modules.plan(&found[0], Named::WithCommands), Err(LookupError::TooLong(_))));
}

#[test]
fn denied_steps_carry_the_line() {
    let directory = Directory::sample();
    let modules = directory.modules("deny the-b*\ndeny crc\nsoftdep disk pre: crc\n");
    let steps = modules.plan(&modules.find(b"disk").unwrap()[0], Named::WithCommands).unwrap().steps;
    let denied: Vec<_> = steps
        .iter()
        .filter_map(|step| {
            Some((string(&step.name), step.required, step.denied.as_ref()?.origin.to_string()))
        })
        .collect();
    assert_eq!(
        denied,
        [("the_bus".into(), true, "x.conf line 1".into()), ("crc".into(), false, "x.conf line 2".into())]
    );
}

#[test]
fn a_file_that_was_named_has_the_dependencies_of_its_name() {
    let directory = Directory::sample();
    let modules = directory.modules("options disk x=1\n");
    let found = modules.by_path(Path::new("/tmp/new/disk.ko"));
    let steps = modules.plan(&found, Named::WithCommands).unwrap().steps;
    let paths: Vec<_> = steps.iter().map(|step| step.path.clone().unwrap()).collect();
    let below = |name: &str| directory.0.join(name);
    assert_eq!(
        paths,
        [below("kernel/the-bus.ko.xz"), below("kernel/card.ko"), PathBuf::from("/tmp/new/disk.ko")]
    );
    assert_eq!(steps[2].options, b"x=1");
    std::fs::remove_file(below("modules.dep.bin")).unwrap();
    let modules = directory.modules("");
    let steps = modules.plan(&found, Named::WithCommands).unwrap().steps;
    assert_eq!((steps.len(), steps[0].path.as_deref()), (1, Some(Path::new("/tmp/new/disk.ko"))));
}

proptest! {
    #[test]
    fn no_name_and_no_index_bring_it_down(
        name in prop::collection::vec(any::<u8>(), 0..40),
        damage in prop::collection::vec((0.0..1.0f64, any::<u8>()), 0..6),
        cut in 0.0..1.3f64,
        which in 0..5usize,
        known in prop::sample::select(vec!["disk", "pci:v1d2e", "symbol:attach", "console", "tty-1", "my-x", "the-bus"]),
    ) {
        const FILES: [IndexFile; 5] = [
            IndexFile::Dependencies,
            IndexFile::Aliases,
            IndexFile::Symbols,
            IndexFile::Builtin,
            IndexFile::BuiltinAliases,
        ];
        let directory = Directory::sample();
        let path = directory.0.join(FILES[which].name());
        let mut bytes = std::fs::read(&path).unwrap();
        for (place, byte) in damage {
            let at = (place * bytes.len() as f64) as usize;
            bytes[at] = byte;
        }
        bytes.truncate((cut * bytes.len() as f64) as usize);
        std::fs::write(&path, &bytes).unwrap();
        let modules = directory.modules("alias my-* disk\nsoftdep card pre: crypto-crc post: tty-1\nsoftdep crc pre: disk\n");
        for name in [&name[..], known.as_bytes()] {
            for found in modules.find(name).unwrap_or_default() {
                let _ = modules.plan(&found, Named::WithCommands);
                let _ = modules.file(&found.name);
            }
            let _ = modules.by_path(Path::new(std::ffi::OsStr::from_bytes(name)));
        }
        for file in FILES {
            let _ = modules.for_each(file, |_, _| {});
        }
    }
}
