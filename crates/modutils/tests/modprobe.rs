//! `modprobe` of the installed kmod 30 and of `modutils` over kernels' directories that are made up at random: standard
//! output, exit code and the first message are equal, with the rules of kmod. Nothing is loaded: they only tell what they
//! would do.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use lkm_tree::index::binary::IndexBuilder;

const KMOD: &str = "/usr/bin/kmod";
const MODUTILS: &str = env!("CARGO_BIN_EXE_modutils");
const RELEASE: &str = "1.2.3-test";
const MODULES: usize = 24;

/// Any sequence will do, as long as it is always the same one.
struct Draw(u32);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % bound
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// The name of a module as a file has it.
    fn module(&mut self) -> String {
        module(self.below(MODULES))
    }

    /// A name to look up, which need not stand for anything.
    fn name(&mut self) -> String {
        let number = self.below(MODULES);
        match self.below(12) {
            0..=5 => self.module(),
            6 => format!("bus:v{}d{}", self.below(4), self.below(4)),
            7 => format!("symbol:sym_{}", number % 6),
            8 => {
                self.one(&["built-in", "tty-7", "both", "my-alias", "my_other", "only-a-command"]).to_owned()
            }
            9 => self.one(&["nothing", "off", "mod[1-", "mod-1?", "*", "m", "x:y"]).to_owned(),
            10 => self.module().replace('-', "_"),
            _ => format!("card-{}", self.below(5)),
        }
    }

    /// A name or a pattern for names.
    fn pattern(&mut self) -> String {
        let name = self.module();
        match self.below(8) {
            0 => format!("{}*", &name[..5]),
            1 => format!("{}?", &name[..name.len() - 1]),
            2 => "mod-1[0-3]".to_owned(),
            _ => name,
        }
    }

    /// A line of a configuration.
    fn line(&mut self) -> String {
        let pattern = self.pattern();
        let module = self.module();
        match self.below(10) {
            0 => {
                let alias = self.one(&["my-alias", "my-*", "card-*", "bus:v1*", "off", "mod-3"]);
                format!("alias {alias} {module}")
            }
            1 => format!("alias my-other {}", self.one(&["nothing", "built-in", "mod-2"])),
            2 => format!("blacklist {module}"),
            3 | 4 => {
                let of = self.one(&["my-alias", "my-*", "mod-1", "mod-2", "bus:v1d1", "card-3"]);
                let of = if self.chance(60) { &module } else { of };
                format!("options {of} {}", self.one(&["a=1", "b=2 c", "d=\"x y\"", "\te=5", "f"]))
            }
            5 => {
                let of = if self.chance(20) { "only-a-command" } else { &pattern };
                format!(
                    "install {of} {}",
                    self.one(&["/bin/true $CMDLINE_OPTS", "/bin/false", "echo  x ; y"])
                )
            }
            6 => format!("remove {pattern} {}", self.one(&["/bin/true", "echo gone $CMDLINE_OPTS"])),
            _ => {
                let mut names = |title: &str| {
                    let names: Vec<String> = (0..self.below(3)).map(|_| self.name()).collect();
                    format!("{title} {}", names.join(" "))
                };
                let (before, after) = (names("pre:"), names("post:"));
                format!("softdep {pattern} {before} {after}")
            }
        }
    }

    fn call(&mut self) -> Vec<String> {
        let modes: [&[&str]; 8] = [
            &["-D"],
            &["-D"],
            &["-n", "-v"],
            &["-R"],
            &["-a", "-D"],
            &["-r", "-D"],
            &["-n"],
            &["-a", "-n", "-v"],
        ];
        let mut call: Vec<String> = modes[self.below(8)].iter().map(|&option| option.to_owned()).collect();
        for (option, percent) in [("-i", 15), ("-b", 20), ("--first-time", 10), ("-q", 5), ("-f", 5)] {
            if self.chance(percent) {
                call.push(option.to_owned());
            }
        }
        let several = call.iter().any(|option| option == "-a" || option == "-r");
        let names = if several { 1 + self.below(3) } else { 1 };
        call.extend((0..names).map(|_| self.name()));
        if !several && self.chance(30) {
            call.extend(["x=1", "y=a b", "z"].map(str::to_owned));
        }
        call
    }
}

fn module(number: usize) -> String {
    format!("mod-{number}")
}

/// A root, gone afterwards.
struct Root(PathBuf);

impl Root {
    fn new(draw: &mut Draw) -> Root {
        let root = std::env::temp_dir().join(format!("modutils-alike-{}-{}", std::process::id(), draw.0));
        let root = Root(root);
        let directory = root.directory();
        std::fs::create_dir_all(directory.join("kernel")).unwrap();
        let mut lines = Vec::new();
        for number in 0..MODULES {
            let name = module(number);
            std::fs::write(directory.join(format!("kernel/{name}.ko")), []).unwrap();
            // All that a module needs has a smaller number.
            let mut needed: Vec<usize> = (0..number).filter(|_| draw.chance(8)).collect();
            needed.reverse();
            let needed: Vec<String> =
                needed.iter().map(|number| format!(" kernel/{}.ko", module(*number))).collect();
            lines.push((name.replace('-', "_"), format!("kernel/{name}.ko:{}", needed.concat())));
        }
        root.index("dep", &lines);
        let mut aliases: Vec<(String, String)> = (0..20)
            .map(|_| {
                let pattern = match draw.below(4) {
                    0 => format!("bus:v{}d*", draw.below(4)),
                    1 => format!("bus:v*d{}", draw.below(4)),
                    2 => format!("bus:v[{}-3]d{}", draw.below(3), draw.below(4)),
                    _ => format!("card_{}", draw.below(5)),
                };
                (pattern, draw.module().replace('-', "_"))
            })
            .collect();
        aliases.push(("x:y".into(), "mod_1".into()));
        root.index("alias", &aliases);
        let symbols: Vec<_> =
            (0..4).map(|number| (format!("symbol:sym_{number}"), format!("mod_{number}"))).collect();
        root.index("symbols", &symbols);
        root.index("builtin", &[("built_in".into(), String::new()), ("both".into(), String::new())]);
        root.index(
            "builtin.alias",
            &[("tty_*".into(), "built_in".into()), ("both".into(), "built_in".into())],
        );
        let softdep =
            format!("# Soft dependencies\nsoftdep mod-5 pre: mod-2\nsoftdep {} post: mod-1\n", draw.module());
        std::fs::write(directory.join("modules.softdep"), softdep).unwrap();
        let lines: Vec<String> = (0..draw.below(25)).map(|_| draw.line() + "\n").collect();
        std::fs::create_dir(root.0.join("modprobe.d")).unwrap();
        std::fs::write(root.0.join("modprobe.d/x.conf"), lines.concat()).unwrap();
        root
    }

    fn directory(&self) -> PathBuf {
        self.0.join("lib/modules").join(RELEASE)
    }

    fn index(&self, name: &str, entries: &[(String, String)]) {
        let mut builder = IndexBuilder::new();
        for (priority, (key, value)) in entries.iter().enumerate() {
            builder.insert(key.as_bytes(), value.as_bytes(), priority as u32).unwrap();
        }
        std::fs::write(self.directory().join(format!("modules.{name}.bin")), builder.finish().unwrap())
            .unwrap();
    }

    fn answer(&self, program: &str, call: &[String]) -> Answer {
        let mut command = Command::new(program);
        command.arg0("modprobe").env_clear().env("MODUTILS_STYLE", "kmod").stdin(Stdio::null());
        command
            .arg("-d")
            .arg(&self.0)
            .args(["-S", RELEASE])
            .arg("-C")
            .arg(self.0.join("modprobe.d"))
            .args(call);
        let output = command.output().unwrap_or_else(|error| {
            panic!(
                "{program}: {error}; `cargo xtask test` installs what the tests need, the package kmod too"
            )
        });
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Answer {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            first: err.lines().next().map(without_place).unwrap_or_default(),
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    code: Option<i32>,
    out: String,
    first: String,
}

/// A message without the place in the sources of kmod's library.
fn without_place(line: &str) -> String {
    match line.split_once("../libkmod/").and_then(|(start, rest)| Some((start, rest.split_once("() ")?.1))) {
        Some((start, text)) => format!("{start}{text}"),
        None => line.to_owned(),
    }
}

#[test]
fn it_finds_and_plans_what_kmod_does() {
    let (mut lines, mut failures, mut installs) = (0, 0, 0);
    for seed in 0..30 {
        let mut draw = Draw(seed * 7919 + 1);
        let root = Root::new(&mut draw);
        for _ in 0..15 {
            let call = draw.call();
            let theirs = root.answer(KMOD, &call);
            // Circles of soft dependencies make kmod's removal run out of its stack.
            if theirs.code.is_none() && call.iter().any(|option| option == "-r") {
                continue;
            }
            let ours = root.answer(MODUTILS, &call);
            let config = std::fs::read_to_string(root.0.join("modprobe.d/x.conf")).unwrap();
            assert_eq!(ours, theirs, "{call:?} (right: kmod), seed {seed}, with\n{config}");
            lines += theirs.out.lines().count();
            failures += usize::from(theirs.code != Some(0));
            installs += theirs.out.lines().filter(|line| line.starts_with("install ")).count();
        }
    }
    // The sample is worth its name.
    assert!(
        lines > 500 && failures > 20 && installs > 20,
        "{lines} lines, {failures} failures, {installs} commands"
    );
}

#[test]
fn the_configuration_is_shown_as_kmod_shows_it() {
    for seed in 100..110 {
        let mut draw = Draw(seed);
        let root = Root::new(&mut draw);
        let call = ["-c".to_owned()];
        let (theirs, ours) = (root.answer(KMOD, &call), root.answer(MODUTILS, &call));
        assert!(theirs.out.contains("\nalias symbol:sym_1 mod_1\n"), "{theirs:?}");
        assert_eq!(ours, theirs);
    }
}
