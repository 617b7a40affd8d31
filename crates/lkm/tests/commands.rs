//! The commands of `modutils` behind `lkm`.

use std::process::Command;

fn lkm(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lkm")).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn each_is_listed_and_takes_what_follows_it() {
    let (code, help, _) = lkm(&["--help"]);
    assert_eq!(code, Some(0));
    for command in modutils::COMMANDS {
        let listed = help.lines().any(|line| line.trim_start().split(' ').next() == Some(command.name));
        assert!(listed, "{} in {help}", command.name);
        let (code, out, err) = lkm(&[command.name, "--nonsense"]);
        let refused = format!("{}: unrecognized option '--nonsense'\n", command.name);
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(err.starts_with(&refused), "{err}");
        let help = lkm(&[command.name, "-h"]);
        assert_eq!(lkm(&["help", command.name]), help);
        assert!(help.1.starts_with(&format!("Usage:\n\t{} ", command.name)), "{help:?}");
    }
}

#[test]
fn they_do_what_they_do_by_themselves() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/x86_64/hello.ko.xz");
    assert_eq!(lkm(&["modinfo", "-F", "license", file]), (Some(0), "GPL\n".into(), String::new()));
    let (code, out, err) = lkm(&["rmmod"]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(1), "", "rmmod: ERROR: missing module name.\n"));
}
