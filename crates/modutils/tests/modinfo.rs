//! `modinfo` of modules that are named, not lying there as files: kmod 30 and `modutils` say the same.

mod common;

use common::KMOD;
use common::MODUTILS;
use common::RELEASE;
use common::Root;
use common::run;
use common::same;

#[test]
fn names_aliases_and_parts_of_the_kernel() {
    let root = Root::new("names");
    root.depmod(KMOD);
    let names = root.names();
    let aliases = std::fs::read_to_string(root.modules().join("modules.alias")).unwrap();
    let aliases = aliases.lines().filter_map(|line| line.strip_prefix("alias ")?.split(' ').next());
    let others = [
        "rock-file",
        "rock_file",
        "fs-rock",
        "stone",
        "nothing",
        "",
        "a[b",
        "a]b",
        "a[b-c]d",
        "hello.ko",
        "./hello.ko",
        "symbol:nothing",
        "symbol:",
        "pci:*",
    ];
    let mut asked = 0;
    for name in names.iter().map(String::as_str).chain(aliases).chain(others) {
        for options in
            [&[][..], &["-m"], &["-n"], &["-F", "license"], &["-0"], &["-p"], &["-0", "-m", "-F", "alias"]]
        {
            let args = [&["modinfo", "-b", root.path(), "-k", RELEASE][..], options, &[name]].concat();
            same(&args);
            asked += 1;
        }
    }
    assert!(asked > 200, "{asked}");
    same(&[
        "modinfo",
        "-b",
        root.path(),
        "-k",
        RELEASE,
        "-F",
        "license",
        "hello",
        "nothing",
        "fs-rock",
        "stone",
    ]);
}

#[test]
fn the_directory_is_put_together_from_what_was_given() {
    let root = Root::new("directory");
    root.depmod(KMOD);
    let doubled = format!("{}//", root.path());
    let around = format!("../modules/{RELEASE}");
    for (base, release) in
        [(doubled.as_str(), RELEASE), (root.path(), &around), (root.path(), "none"), ("", RELEASE)]
    {
        same(&["modinfo", "-b", base, "-k", release, "hello"]);
        same(&[
            "modinfo",
            "--basedir",
            base,
            &format!("--set-version={release}"),
            "--modname",
            "-n",
            "hello",
        ]);
    }
    same(&["modinfo", "-b", root.path(), "hello"]);
    same(&["modinfo", "-k", RELEASE, "hello"]);
    same(&["modinfo", "-k"]);
}

#[test]
fn directories_that_lack_something() {
    let root = Root::new("lacking");
    root.depmod(KMOD);
    let ask = || {
        for name in ["hello", "stone", "fs-rock", "nothing"] {
            for options in [&[][..], &["-m"], &["-F", "license"]] {
                same(&[&["modinfo", "-b", root.path(), "-k", RELEASE][..], options, &[name]].concat());
            }
        }
    };
    let list = root.modules().join("modules.builtin.modinfo");
    for text in [&b""[..], b"stone.license=GPL\0stone.auth", b"stone.license=GPL\0"] {
        std::fs::write(&list, text).unwrap();
        ask();
    }
    std::fs::remove_file(&list).unwrap();
    ask();
    std::fs::remove_file(root.modules().join("kernel/drivers/hello.ko")).unwrap();
    ask();
    for index in ["modules.alias.bin", "modules.builtin.bin", "modules.dep.bin"] {
        std::fs::remove_file(root.modules().join(index)).unwrap();
        ask();
    }
}

#[test]
fn json_of_what_is_built_in() {
    let root = Root::new("json");
    root.depmod(KMOD);
    let (out, _, code) = run(
        MODUTILS,
        &["modinfo", "--json", "-b", root.path(), "-k", RELEASE, "rock-file", "fs-rock", "hello"],
    );
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, json.as_array().unwrap().len()), (Some(0), 3));
    assert_eq!((&json[0]["builtin"], &json[0]["filename"]), (&"rock_file".into(), &"(builtin)".into()));
    assert_eq!(json[0], json[1]);
    assert!(json[2]["filename"].as_str().unwrap().ends_with("/hello.ko") && json[2]["builtin"].is_null());
}
