use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use lkm_module::Errno;
use lkm_tree::index::binary::IndexBuilder;
use proptest::prelude::*;

use crate::testing::Fake;
use crate::testing::FakeModule;

/// A root with a kernel's directory, and a configuration, gone afterwards.
///
/// The module files have different sizes, by which the fake kernel shows them: the bus 11 bytes, the card 12, the disk 13,
/// crc 14, late 15, and `lost` has none.
struct Root(PathBuf);

const VERSION: &str = "6.1.0-test";
const FILES: [(&str, usize); 5] = [("the-bus", 11), ("card", 12), ("disk", 13), ("crc", 14), ("late", 15)];

impl Root {
    fn new(config: &str) -> Root {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root =
            Root(std::env::temp_dir().join(format!("modutils-modprobe-{}-{number}", std::process::id())));
        let directory = root.directory();
        std::fs::create_dir_all(&directory).unwrap();
        for (name, size) in FILES {
            std::fs::write(directory.join(format!("{name}.ko")), vec![b'.'; size]).unwrap();
        }
        root.index(
            "modules.dep.bin",
            &[
                ("the_bus", "the-bus.ko:"),
                ("card", "card.ko: the-bus.ko"),
                ("disk", "disk.ko: card.ko the-bus.ko"),
                ("crc", "crc.ko:"),
                ("late", "late.ko:"),
                ("lost", "lost.ko:"),
                ("needs_lost", "crc.ko: lost.ko"),
            ],
        );
        root.index("modules.alias.bin", &[("pci:v1*", "disk"), ("pci:v12*", "crc"), ("fs_x", "late")]);
        root.index("modules.symbols.bin", &[("symbol:attach", "the_bus")]);
        root.index("modules.builtin.bin", &[("console", "")]);
        root.index("modules.builtin.alias.bin", &[("tty_*", "console")]);
        std::fs::write(root.0.join("x.conf"), config).unwrap();
        root
    }

    fn directory(&self) -> PathBuf {
        self.0.join("lib/modules").join(VERSION)
    }

    fn index(&self, file: &str, entries: &[(&str, &str)]) {
        let mut builder = IndexBuilder::new();
        for (priority, (key, value)) in entries.iter().enumerate() {
            builder.insert(key.as_bytes(), value.as_bytes(), priority as u32).unwrap();
        }
        std::fs::write(self.directory().join(file), builder.finish().unwrap()).unwrap();
    }

    /// Runs `modprobe` with this root and configuration: exit code, standard output with `DIR` for the directory and
    /// `CONF` for the file of the configuration, standard error likewise.
    fn run(&self, fake: &Fake, args: &[&str]) -> (u8, String, String) {
        let root = self.0.to_str().unwrap();
        let config = self.0.join("x.conf");
        let config = config.to_str().unwrap();
        let (code, out, err) = fake.run(&[&["modprobe", "-d", root, "-C", config], args].concat());
        let directory = self.directory();
        let short = |text: String| text.replace(directory.to_str().unwrap(), "DIR").replace(config, "CONF");
        (code, short(out), short(err))
    }

    /// Runs it and gives what the kernel was asked, which must have gone well and in silence.
    fn calls(&self, fake: &Fake, args: &[&str]) -> Vec<String> {
        fake.calls.borrow_mut().clear();
        assert_eq!(self.run(fake, args), (0, String::new(), String::new()), "{args:?}");
        fake.calls.borrow().clone()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn live(name: &str, references: &str) -> FakeModule {
    FakeModule::new(name, &[("initstate", "live"), ("refcnt", references)])
}

fn with(modules: Vec<FakeModule>) -> Fake {
    Fake { sysfs: modules, ..Fake::default() }
}

#[test]
fn modules_are_loaded_after_what_they_need_with_their_parameters() {
    let root = Root::new(
        "options disk a=1\noptions the-bus b=2\noptions pci:v19 c=3\nsoftdep card pre: crc post: late\n",
    );
    let fake = Fake::default();
    assert_eq!(
        root.calls(&fake, &["disk", "x=1", "y=a b"]),
        ["finit 11 0 b=2 ", "finit 14 0 ", "finit 12 0 ", "finit 15 0 ", "finit 13 0 a=1 x=1 y=\"a b\""]
    );
    // An alias has its own line; parameters are for the module that was named.
    assert_eq!(root.calls(&fake, &["-f", "pci:v19"]).last().unwrap(), "finit 13 3 a=1 c=3 ");
    assert_eq!(root.calls(&fake, &["--force-vermagic", "crc"]), ["finit 14 2 "]);
    assert_eq!(root.calls(&fake, &["symbol:attach"]), ["finit 11 0 b=2 "]);
    assert_eq!(root.calls(&fake, &["-a", "late", "crc"]), ["finit 15 0 ", "finit 14 0 "]);
    // Several modules for one alias.
    assert_eq!(root.calls(&fake, &["pci:v129"]).len(), 6);
    // Without its soft dependencies the one that was named, not those that it needs.
    assert_eq!(root.calls(&fake, &["-i", "card"]), ["finit 11 0 b=2 ", "finit 12 0 "]);
    let (_, out, _) = root.run(&fake, &["-v", "card", "z"]);
    assert_eq!(
        out,
        "insmod DIR/the-bus.ko b=2 \ninsmod DIR/crc.ko \ninsmod DIR/card.ko z\ninsmod DIR/late.ko \n"
    );
}

#[test]
fn what_the_kernel_has_is_left_out() {
    let root = Root::new("");
    let fake = with(vec![live("the_bus", "0"), FakeModule::new("card", &[("initstate", "coming")])]);
    // A module whose init function runs is given to the kernel, which waits for it.
    assert_eq!(root.calls(&fake, &["disk"]), ["finit 12 0 ", "finit 13 0 "]);
    assert_eq!(root.calls(&fake, &["the-bus"]), [""; 0]);
    assert_eq!(root.calls(&fake, &["console"]), [""; 0]);
    let told = "modprobe: ERROR: could not insert 'the_bus': Module already in kernel\n";
    assert_eq!(root.run(&fake, &["--first-time", "the-bus"]), (1, String::new(), told.into()));
    let told = "modprobe: ERROR: could not insert 'console': Module already in kernel\n";
    assert_eq!(root.run(&fake, &["--first-time", "tty-1"]), (1, String::new(), told.into()));

    // Another process was faster.
    let fake = Fake { answers: vec![Err(Errno::EEXIST); 3], ..Fake::default() };
    assert_eq!(root.calls(&fake, &["disk"]).len(), 3);
    let fake = Fake { answers: vec![Err(Errno::EEXIST); 3], ..Fake::default() };
    assert_eq!(root.run(&fake, &["--first-time", "disk"]).0, 1);
}

#[test]
fn a_refusal_of_what_is_needed_ends_the_load_and_that_of_a_soft_dependency_does_not() {
    let root = Root::new("softdep disk pre: crc\n");
    let message = |errno, text: &str| {
        let fake = Fake { answers: vec![Ok(()), Err(errno)], ..Fake::default() };
        let told = format!("modprobe: ERROR: could not insert 'disk': {text}\n");
        assert_eq!(root.run(&fake, &["disk"]), (1, String::new(), told));
        assert_eq!(fake.calls.borrow().len(), 2);
    };
    message(Errno::ENOENT, "Unknown symbol in module, or unknown parameter (see dmesg)");
    message(Errno::EINVAL, "Invalid argument");
    message(Errno::ENOEXEC, "Exec format error");
    message(Errno::EPERM, "Operation not permitted");
    let fake = Fake { answers: vec![Ok(()), Ok(()), Err(Errno::EINVAL)], ..Fake::default() };
    assert_eq!(root.calls(&fake, &["disk"]).len(), 4);
    // A file that is gone.
    let told = "modprobe: ERROR: could not insert 'needs_lost': Unknown symbol in module, or unknown parameter (see dmesg)\n";
    let fake = Fake::default();
    assert_eq!(root.run(&fake, &["needs-lost"]), (1, String::new(), told.into()));
    assert_eq!(*fake.calls.borrow(), [""; 0]);
    // With --quiet only the exit code tells.
    let fake = Fake { answers: vec![Err(Errno::EINVAL)], ..Fake::default() };
    assert_eq!(root.run(&fake, &["-q", "crc"]), (1, String::new(), String::new()));
}

#[test]
fn names_that_nothing_knows() {
    let root = Root::new("alias nowhere off\n");
    let fake = Fake::default();
    let told = "Module nothing not found in directory DIR\n";
    assert_eq!(root.run(&fake, &["nothing"]), (1, String::new(), format!("modprobe: FATAL: {told}")));
    assert_eq!(root.run(&fake, &["-q", "nothing"]), (1, String::new(), String::new()));
    let (code, _, err) = root.run(&fake, &["-a", "nothing", "crc"]);
    assert_eq!((code, err), (1, format!("modprobe: WARNING: {told}")));
    assert_eq!(*fake.calls.borrow(), ["finit 14 0 "]);
    assert_eq!(root.run(&fake, &["-R", "tty-5"]), (0, "console\n".into(), String::new()));
    assert_eq!(root.run(&fake, &["-D", "nowhere"]), (0, String::new(), String::new()));
    let (code, _, err) = root.run(&fake, &["nowhere"]);
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!((code, lines[0]), (1, "modprobe: ERROR: could not find module by name='off'"));
    assert!(lines[1].starts_with("modprobe: ERROR: could not insert 'off': Unknown symbol"), "{err}");
    let (code, _, err) = root.run(&fake, &["./nothing.ko"]);
    assert_eq!(
        (code, err.as_str()),
        (1, "modprobe: FATAL: Failed to get module from path ./nothing.ko: No such file or directory\n")
    );
}

#[test]
fn a_file_is_loaded_with_what_its_module_needs() {
    let root = Root::new("options card a=1\n");
    let fake = Fake::default();
    let path = root.0.join("card.ko");
    std::fs::write(&path, [b'.'; 99]).unwrap();
    assert_eq!(root.calls(&fake, &[path.to_str().unwrap()]), ["finit 11 0 ", "finit 99 0 a=1 "]);
}

#[test]
fn blacklists_hide_modules_from_aliases() {
    let root = Root::new("blacklist disk\nblacklist the_bus\nalias my-x disk\n");
    let fake = Fake::default();
    assert_eq!(root.calls(&fake, &["pci:v19"]), [""; 0]);
    assert_eq!(root.calls(&fake, &["my-x"]), [""; 0]);
    assert_eq!(root.calls(&fake, &["-b", "disk"]), [""; 0]);
    // Not from names, and never as what another needs.
    assert_eq!(root.calls(&fake, &["disk"]), ["finit 11 0 ", "finit 12 0 ", "finit 13 0 "]);
    assert_eq!(root.calls(&fake, &["-b", "card"]), ["finit 11 0 ", "finit 12 0 "]);
    assert_eq!(root.run(&fake, &["-R", "pci:v19"]).1, "disk\n");
    // The kernel's command line has one, too.
    let root = Root::new("");
    let files = vec![("/proc/cmdline", "quiet modprobe.blacklist=late crc.n=5\n".to_owned())];
    let fake = Fake { files, ..Fake::default() };
    assert_eq!(root.calls(&fake, &["-b", "late"]), [""; 0]);
    assert_eq!(root.calls(&fake, &["crc", "m=6"]), ["finit 14 0 n=5 m=6"]);
}

#[test]
fn a_denied_module_is_not_loaded_for_anybody() {
    let root = Root::new("# reasons\ndeny the-bus\ndeny lat*\nsoftdep crc pre: late\n");
    let fake = Fake::default();
    let refused = |args: &[&str], told: &str| {
        assert_eq!(
            root.run(&fake, args),
            (1, String::new(), format!("modprobe: ERROR: {told}\n")),
            "{args:?}"
        );
        assert_eq!(*fake.calls.borrow(), [""; 0], "{args:?}");
    };
    refused(&["the_bus"], "could not insert 'the_bus': denied by CONF line 2");
    refused(&["symbol:attach"], "could not insert 'the_bus': denied by CONF line 2");
    refused(&["-i", "late"], "could not insert 'late': denied by CONF line 3");
    refused(&["disk"], "could not insert 'disk': it needs the_bus, which is denied by CONF line 2");
    refused(&["-D", "card"], "could not insert 'card': it needs the_bus, which is denied by CONF line 2");
    assert_eq!(root.run(&fake, &["-q", "disk"]), (1, String::new(), String::new()));
    // A soft dependency is left out.
    assert_eq!(root.calls(&fake, &["crc"]), ["finit 14 0 "]);
    // What the kernel has needs no permission any more.
    let fake = with(vec![live("the_bus", "0")]);
    assert_eq!(root.calls(&fake, &["card"]), ["finit 12 0 "]);
    assert_eq!(root.calls(&fake, &["the-bus"]), [""; 0]);
}

#[test]
fn commands_stand_for_loads_and_find_what_they_need_around_them() {
    let root = Root::new("");
    let note = root.0.join("note");
    let note = note.to_str().unwrap();
    std::fs::write(
        root.0.join("x.conf"),
        format!(
            "install card echo \"$MODPROBE_MODULE:$MODPROBE_OPTIONS:$CMDLINE_OPTS\" >> {note}\noptions card a=1\n\
             install crc exit 3\ninstall late kill -9 $$\nremove late echo gone >> {note}\n\
             softdep card pre: crc\n"
        ),
    )
    .unwrap();
    let fake = Fake::default();
    let noted = || std::fs::read_to_string(note).unwrap_or_default();
    // The command of the soft dependency fails, which is told and no more.
    let (code, _, err) = root.run(&fake, &["-s", "-v", "-v", "disk"]);
    assert_eq!(code, 0, "{err}");
    let config = root.0.join("x.conf");
    assert_eq!(noted(), format!("card:-C {} -s -v -v:a=1 \n", config.display()));
    assert_eq!(*fake.calls.borrow(), ["finit 11 0 ", "finit 13 0 "]);

    let (code, out, err) = root.run(&fake, &["crc", "x=1"]);
    let told = "\
modprobe: ERROR: Error running install command 'exit 3' for module crc: retcode 3
modprobe: ERROR: could not insert 'crc': Invalid argument
";
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", told));
    let (code, _, err) = root.run(&fake, &["late"]);
    assert!(code == 1 && err.contains("for module late: signal 9\n"), "{err}");
    assert_eq!(root.calls(&fake, &["-i", "crc"]), ["finit 14 0 "]);
    assert_eq!(root.run(&fake, &["-D", "crc", "y=2"]).1, "install exit 3 y=2\n");
    std::fs::remove_file(note).unwrap();
    assert_eq!(root.calls(&fake, &["-n", "card"]), [""; 0]);
    assert_eq!(noted(), "");

    // With a command the kernel is not asked whether there is something to remove.
    assert_eq!(root.calls(&fake, &["-r", "late"]), [""; 0]);
    assert_eq!(noted(), "gone\n");
    assert_eq!(root.run(&fake, &["-r", "-n", "-v", "late"]).1, format!("remove echo gone >> {note}\n"));
}

#[test]
fn the_environment_comes_first_and_children_get_all() {
    let root = Root::new("");
    let note = root.0.join("note");
    std::fs::write(
        root.0.join("x.conf"),
        format!("install crc echo $MODPROBE_OPTIONS > {}\n", note.display()),
    )
    .unwrap();
    let config = root.0.join("x.conf");
    let args = ["-d", root.0.to_str().unwrap(), "crc"].map(std::ffi::OsString::from);
    let options = format!("-q -C '{}'", config.display());
    let fake = Fake::default();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut context = crate::Context::new(&fake, &mut out, &mut err);
    assert_eq!(super::run_with(&mut context, &args, Some(options.clone().into())), 0);
    let written = std::fs::read_to_string(note).unwrap();
    assert_eq!(written.trim_end(), format!("{options} -q -C {}", config.display()));
}

#[test]
fn removal_takes_its_company_along() {
    let root = Root::new("softdep card pre: crc post: late\n");
    let all = || {
        with(vec![
            live("disk", "0"),
            live("card", "0"),
            live("the_bus", "0"),
            live("crc", "0"),
            live("late", "0"),
        ])
    };
    assert_eq!(root.calls(&all(), &["-r", "crc"]), ["delete crc 4000"]);
    assert_eq!(
        root.calls(&all(), &["-r", "card"]),
        ["delete late 4000", "delete card 4000", "delete the_bus 4000", "delete crc 4000"]
    );
    assert_eq!(root.calls(&all(), &["-r", "-f", "crc", "late"]), ["delete crc 5000", "delete late 5000"]);
    // A soft dependency that is not there, and one that is in use, keep nothing from happening.
    let fake = with(vec![live("card", "0"), live("the_bus", "3")]);
    assert_eq!(root.calls(&fake, &["-r", "card"]), ["delete card 4000"]);
    let mut held = live("the_bus", "1");
    held.holders = vec!["disk".into(), "card".into()];
    let mut card = live("card", "0");
    card.holders = vec!["disk".into()];
    let fake = with(vec![live("disk", "0"), card, held]);
    let told = "modprobe: FATAL: Module the_bus is in use.\n";
    assert_eq!(root.run(&fake, &["-r", "the-bus"]), (1, String::new(), told.into()));
    assert_eq!(*fake.calls.borrow(), [""; 0]);
    // The holders from the last one on, each after its own holders and with its soft dependencies.
    let (_, out, _) = root.run(&fake, &["-r", "-D", "--remove-holders", "the-bus"]);
    assert_eq!(out, "rmmod late\nrmmod disk\nrmmod card\nrmmod crc\nrmmod the_bus\n");
}

#[test]
fn what_cannot_be_removed() {
    let root = Root::new("");
    let answer = |args: &[&str], fake: &Fake| root.run(fake, args);
    let fake = with(vec![live("used", "2"), live("card", "2")]);
    let fatal = |text: &str| (1, String::new(), format!("modprobe: FATAL: Module {text}\n"));
    assert_eq!(answer(&["-r", "nothing"], &fake), fatal("nothing not found."));
    assert_eq!(answer(&["-r", "console"], &fake), fatal("console is builtin."));
    assert_eq!(answer(&["-r", "card"], &fake), fatal("card is in use."));
    assert_eq!(answer(&["-r", "crc"], &fake), (0, String::new(), String::new()));
    assert_eq!(answer(&["-r", "--first-time", "crc"], &fake), fatal("crc is not in kernel."));
    // A fatal error ends the command, but neither with --all nor with --quiet.
    let fake = with(vec![live("card", "2"), live("crc", "0")]);
    assert_eq!(answer(&["-r", "card", "crc"], &fake).0, 1);
    assert_eq!(*fake.calls.borrow(), [""; 0]);
    let told = "modprobe: WARNING: Module card is in use.\n";
    assert_eq!(answer(&["-r", "-a", "card", "crc"], &fake), (1, String::new(), told.into()));
    assert_eq!(answer(&["-r", "-q", "card", "crc"], &fake), (1, String::new(), String::new()));
    assert_eq!(*fake.calls.borrow(), ["delete crc 4000", "delete crc 4000"]);
}

#[test]
fn waiting_ends_when_it_should() {
    let root = Root::new("");
    let busy = Err(Errno::EAGAIN);
    let fake = Fake { answers: vec![busy, busy, Ok(())], ..with(vec![live("crc", "1")]) };
    assert_eq!(root.calls(&fake, &["-r", "-w", "60000", "crc"]).len(), 3);
    let fake = Fake { answers: vec![busy; 1000], ..with(vec![live("crc", "1")]) };
    let start = std::time::Instant::now();
    let told = "modprobe: ERROR: could not remove 'crc': Resource temporarily unavailable\n";
    assert_eq!(root.run(&fake, &["-r", "-w", "30", "crc"]), (1, String::new(), told.into()));
    let took = start.elapsed().as_millis();
    assert!((30..5000).contains(&took), "{took} ms");
    let calls = fake.calls.borrow().len();
    assert!((3..40).contains(&calls), "{calls} calls");
}

#[test]
fn why_names_every_line_that_decides() {
    let root = Root::new(
        "alias my-* disk\nblacklist disk\ninstall disk first\ninstall di* second\noptions my-* a=1\noptions disk b=2\n\
         softdep card pre: crc post: late\ndeny late\nalias late card\n",
    );
    let fake = with(vec![live("the_bus", "0")]);
    let (code, out, err) = root.run(&fake, &["--why", "disk"]);
    let expected = "\
disk: module disk, by its name in DIR/modules.dep.bin
  state      not loaded
  file       DIR/disk.ko
  needs      the_bus (loaded), card
  blacklist  CONF line 2; it counts for aliases and not for the name, unless --use-blacklist is given
  install    first (CONF line 3)
  install    second (CONF line 4; passed over, an earlier line counts)
  options    b=2 (CONF line 6)
  so         this is done, in this order:
             insmod DIR/crc.ko (softdep of card, before it)
             insmod DIR/card.ko (disk needs it)
             install first b=2 (as was asked)
";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));
    let (code, out, _) = root.run(&fake, &["--why", "my-x"]);
    assert!(out.starts_with("my-x: module disk, by alias my_* disk in CONF line 1\n"), "{out}");
    assert!(out.contains("  options    a=1 (CONF line 5)\n"), "{out}");
    assert!(out.ends_with("  so         nothing is done: it is blacklisted by CONF line 2\n"), "{out}");
    assert_eq!(code, 0);
    let (code, out, _) = root.run(&fake, &["--why", "late"]);
    assert!(out.starts_with(
        "late: module card, by alias late card in CONF line 9, which comes before the module late\n"
    ));
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("  softdep    pre: crc post: late (CONF line 7)\n"), "{out}");
    let (code, out, _) = root.run(&fake, &["--why", "fs-x"]);
    assert!(out.starts_with("fs-x: module late, by alias fs_x in DIR/modules.alias.bin\n"), "{out}");
    assert!(out.contains("  deny       CONF line 8\n"), "{out}");
    assert!(out.ends_with("  so         it is refused: denied by CONF line 8\n"), "{out}");
    assert_eq!(code, 1);
    let (code, out, _) = root.run(&fake, &["--why", "tty-1"]);
    assert_eq!(
        (code, out.as_str()),
        (
            0,
            "tty-1: module console, by alias tty_* in DIR/modules.builtin.alias.bin\n  state      built in\n  so         \
             nothing is done: it is built in\n"
        )
    );
    let (code, out, err) = root.run(&fake, &["--why", "nothing"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err, "modprobe: FATAL: Module nothing not found in directory DIR\n");
}

#[test]
fn an_index_that_is_missing_or_damaged_finds_nothing_and_breaks_nothing() {
    let root = Root::new("alias mine disk\n");
    let fake = Fake::default();
    std::fs::write(root.directory().join("modules.dep.bin"), b"no index").unwrap();
    let told = "modprobe: FATAL: Module disk not found in directory DIR\n";
    assert_eq!(root.run(&fake, &["disk"]), (1, String::new(), told.into()));
    let (code, _, err) = root.run(&fake, &["mine"]);
    assert_eq!(code, 1);
    assert!(err.starts_with("modprobe: ERROR: could not find module by name='disk'\n"), "{err}");
    assert_eq!(root.run(&fake, &["-D", "tty-1"]).1, "builtin console\n");
    std::fs::remove_file(root.directory().join("modules.dep.bin")).unwrap();
    assert_eq!(root.run(&fake, &["disk"]), (1, String::new(), told.into()));
}

proptest! {
    #[test]
    fn any_arguments_come_to_an_end(
        args in prop::collection::vec(
            "-[arbiDRcnqvs]{1,3}|--(first-time|why|remove-holders|show-exports|show-modversions|strict-kmod)|\
             disk|card|crc|pci:v1[0-9]|tty-[a-z]|[a-z:*\\[\\]=./-]{0,6}",
            0..5,
        ),
        config in "((deny|softdep|install|remove|alias|options|blacklist) [a-z*]{1,5} (pre: |post: |:)?(disk|card|crc|late){0,2}\n){0,6}",
    ) {
        let root = Root::new(&config);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (code, ..) = root.run(&with(vec![live("card", "0")]), &args);
        prop_assert!(code <= 1);
    }
}
