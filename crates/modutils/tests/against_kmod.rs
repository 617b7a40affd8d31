//! The same command lines given to the installed kmod 30 (as Debian 12 has it, without gzip) and to `modutils`:
//! standard output, standard error and exit code are equal.
//!
//! Only what every kernel refuses is given to `insmod` and `rmmod` here.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

const KMOD: &str = "/usr/bin/kmod";
const MODUTILS: &str = env!("CARGO_BIN_EXE_modutils");

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(program: &str, directory: &Path, args: &[&str]) -> Answer {
    let (name, rest) = args.split_first().unwrap();
    let mut command = Command::new(program);
    command.arg0(name).args(rest).current_dir(directory).env_clear().env("MODUTILS_STYLE", "kmod");
    let output = command.output().unwrap_or_else(|error| {
        panic!("{program}: {error}; `cargo xtask test` installs what the tests need, the package kmod too")
    });
    Answer {
        code: output.status.code(),
        out: output.stdout.escape_ascii().to_string(),
        err: output.stderr.escape_ascii().to_string(),
    }
}

fn assert_same(directory: &Path, args: &[&str]) -> Answer {
    let expected = run(KMOD, directory, args);
    let found = run(MODUTILS, directory, args);
    assert_eq!(found, expected, "{args:?} (right: kmod)");
    expected
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A directory of its own for one test, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("modutils-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(name), bytes).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The module files of a directory that kmod 30 reads.
fn modules(directory: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(directory)).unwrap();
    let wanted = |path: &PathBuf| {
        let name = path.to_str().unwrap();
        [".ko", ".ko.xz", ".ko.zst"].iter().any(|end| name.ends_with(end))
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(wanted).collect();
    paths.sort();
    paths
}

#[test]
fn the_installed_kmod_is_the_one_that_is_compared_with() {
    let answer = run(KMOD, &root(), &["kmod", "--version"]);
    assert!(answer.out.starts_with("kmod version 30\\n"), "{answer:?}");
}

#[test]
fn modinfo_of_every_module() {
    let mut files = modules("fixtures/x86_64");
    files.extend(modules("fixtures/arm"));
    assert!(files.len() >= 36, "{files:?}");
    files.extend(modules("fuzz/corpus/module"));
    let mut keys = BTreeSet::new();
    for file in &files {
        let path = file.to_str().unwrap();
        let answer = assert_same(&root(), &["modinfo", path]);
        assert!(answer.out.starts_with("filename:"));
        keys.extend(answer.out.split("\\n").filter_map(|line| Some(line.split_once(':')?.0.to_owned())));
        for option in ["-0", "-p", "-a", "-d", "-l", "-n"] {
            assert_same(&root(), &["modinfo", option, path]);
        }
        assert_same(&root(), &["modinfo", "-0", "-p", path]);
    }
    // Each field alone, of two modules that have most of them between them.
    let some = ["fixtures/x86_64/params.ko", "fuzz/corpus/module/signed.ko"];
    for key in ["license", "parm", "parmtype", "sig_id", "signer", "sig_key", "sig_hashalgo", "signature"] {
        assert!(key == "parmtype" || keys.contains(key), "no module has {key}");
        keys.insert(key.into());
    }
    for key in keys.iter().map(String::as_str).chain(["nonsense", "", "Licence"]) {
        assert_same(&root(), &["modinfo", "-F", key, some[0], some[1]]);
        assert_same(&root(), &["modinfo", &format!("--field={key}"), "-0", some[1], some[0]]);
    }
    assert_same(&root().join("fixtures/arm"), &["modinfo", "hello.ko", "-n", "./user.ko", "../arm/oops.ko"]);
}

#[test]
fn a_gzip_file_says_what_the_plain_file_says() {
    let directory = root().join("fixtures/x86_64");
    let packed = run(MODUTILS, &directory, &["modinfo", "hello.ko.gz"]);
    let plain = run(KMOD, &directory, &["modinfo", "hello.ko"]);
    assert_eq!(packed.out.replacen("hello.ko.gz", "hello.ko", 1), plain.out);
    assert_eq!((packed.code, packed.err.as_str()), (Some(0), ""));
}

#[test]
fn modinfo_of_what_is_damaged_or_no_module() {
    let scratch = Scratch::new("damaged");
    let plain = std::fs::read(root().join("fixtures/x86_64/params.ko")).unwrap();
    let packed = std::fs::read(root().join("fixtures/x86_64/hello.ko.xz")).unwrap();
    let replaced = |from: &[u8], to: &[u8]| {
        let mut bytes = plain.clone();
        while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
        bytes
    };
    scratch.put("empty.ko", b"");
    scratch.put("five.ko", b"text\n");
    scratch.put("text.ko", &[b'a'; 4000]);
    scratch.put("short.ko", &plain[..30]);
    scratch.put("half.ko", &plain[..plain.len() / 2]);
    scratch.put("cut.ko.xz", &packed[..300]);
    scratch.put("noinfo.ko", &replaced(b".modinfo", b".nodinfo"));
    scratch.put("colon.ko", &replaced(b"parmtype=p_bool:bool", b"parmtype=p_bool_bool"));
    scratch.put("nokey.ko", &replaced(b"license=GPL", b"=icense=GPL"));
    scratch.put("novalue.ko", &replaced(b"license=GPL", b"license_GPL"));
    scratch.put("longkey.ko", &replaced(b"description=A parameter", b"descriptionxxxxxxx=param"));
    scratch.put("foo-bar.baz.ko", &plain[..100]);
    scratch.put("noext", &plain);
    std::fs::create_dir_all(scratch.0.join("directory.ko")).unwrap();
    std::os::unix::fs::symlink("longkey.ko", scratch.0.join("link.ko")).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 15);
    for name in &names {
        let name = name.to_str().unwrap();
        assert_same(&scratch.0, &["modinfo", name]);
        assert_same(&scratch.0, &["modinfo", "-0", name]);
        for field in ["license", "parm", "filename", "signer"] {
            assert_same(&scratch.0, &["modinfo", "-F", field, name]);
        }
    }
    let args: Vec<&str> =
        ["modinfo"].into_iter().chain(names.iter().map(|name| name.to_str().unwrap())).collect();
    assert_same(&scratch.0, &args);
    assert_same(&scratch.0, &["modinfo", "absent.ko", "/etc/passwd", "nonsense", "longkey.ko"]);
}

#[test]
fn wrong_usage() {
    let cases: &[&[&str]] = &[
        &["insmod"],
        &["/sbin/insmod", "--bogus"],
        &["insmod", "-x", "file"],
        &["insmod", "file", "-Q"],
        &["insmod", "--version=3"],
        &["insmod", "-"],
        &["insmod", "absent.ko", "a=b"],
        &["insmod", "/etc"],
        &["insmod", "/dev/null"],
        &["insmod", "/nonexistent/x/y.ko"],
        &["insmod", "/etc/passwd/x.ko"],
        &["rmmod"],
        &["rmmod", "--ver"],
        &["rmmod", "--forced", "x"],
        &["rmmod", "--force=1", "x"],
        &["rmmod", "-fx", "y"],
        &["rmmod", "no_such_module"],
        &["rmmod", "no-such-module", "a/b.ko", "/etc/passwd", "x.y.z"],
        &["lsmod", "operand"],
        &["/sbin/lsmod", "a", "b"],
        &["modinfo"],
        &["modinfo", "-F"],
        &["modinfo", "--fi"],
        &["modinfo", "--field"],
        &["/a/b/modinfo", "--author=3", "x"],
        &["modinfo", "x", "-d", "--bogus=7", "-F"],
        &["modinfo", "--", "-x"],
        &["modinfo", "-dQl", "x"],
        &["modinfo", "--nul", "no_such"],
        &["modinfo", "-F", "license"],
    ];
    for args in cases {
        let answer = assert_same(Path::new("/"), args);
        assert_eq!(answer.code, Some(1), "{args:?}");
    }
}

#[test]
fn versions_have_the_lines_that_scripts_take_apart() {
    for command in ["insmod", "rmmod", "modinfo"] {
        let kmod = run(KMOD, Path::new("/"), &[command, "--version"]);
        for option in ["--version", "-V"] {
            let own = run(MODUTILS, Path::new("/"), &[command, option]);
            assert_eq!((own.code, own.err.as_str()), (Some(0), ""));
            let lines: Vec<&str> = own.out.split("\\n").collect();
            assert_eq!(lines[0], kmod.out.split("\\n").next().unwrap());
            assert!(lines[1].split(' ').all(|feature| feature.starts_with(['+', '-'])), "{lines:?}");
            assert!(lines[2].starts_with("modutils "));
        }
        let help = run(MODUTILS, Path::new("/"), &[command, "--help", "--bogus"]);
        assert!(help.code == Some(0) && help.out.starts_with("Usage:\\n\\t"), "{help:?}");
    }
}

#[test]
fn the_list_of_this_kernel() {
    let kmod = run(KMOD, Path::new("/"), &["lsmod"]);
    let own = run(MODUTILS, Path::new("/"), &["lsmod"]);
    // kmod takes the users of a module from a directory: their order differs from that of /proc/modules.
    let rows = |answer: &Answer| -> Vec<Vec<String>> {
        let sorted = |row: &str| {
            let (start, users) = row.rsplit_once(' ').unwrap_or((row, ""));
            let mut users: Vec<String> = users.split(',').map(str::to_owned).collect();
            users.sort();
            [vec![start.to_owned()], users].concat()
        };
        answer.out.split("\\n").map(sorted).collect()
    };
    assert_eq!((own.code, rows(&own)), (kmod.code, rows(&kmod)));
    // kmod's library adds a line with places in its sources.
    let last = |answer: &Answer| answer.err.trim_end_matches("\\n").rsplit("\\n").next().map(str::to_owned);
    assert_eq!(last(&own), last(&kmod));
}

#[test]
fn json_has_what_the_text_has() {
    let answer = Command::new(MODUTILS)
        .args(["modinfo", "--json", "fixtures/x86_64/params.ko", "fuzz/corpus/module/signed.ko", "absent.ko"])
        .env("MODUTILS_STYLE", "kmod")
        .current_dir(root())
        .output()
        .unwrap();
    assert_eq!(answer.status.code(), Some(1));
    assert_eq!(answer.stderr, b"modinfo: ERROR: Module absent.ko not found.\n");
    let json: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    assert_eq!(json[0]["license"], serde_json::json!(["GPL"]));
    assert_eq!(json[0]["parm"].as_array().unwrap().len(), 22);
    let described = serde_json::json!({
        "name": "p_charp", "description": "text of any length up to 1024 bytes", "type": "charp"
    });
    assert!(json[0]["parm"].as_array().unwrap().contains(&described));
    assert_eq!(json[1]["signer"], serde_json::json!(["Test module key"]));
    assert!(json[1]["signature"][0].as_str().unwrap().ends_with("99:E5:16:9F"));
    let only =
        run(MODUTILS, &root(), &["modinfo", "--json", "-F", "depends", "fuzz/corpus/module/signed.ko"]);
    assert_eq!(only.out, "[\\n  {\\n    \\\"depends\\\": [\\n      \\\"one,two\\\"\\n    ]\\n  }\\n]\\n");
}
