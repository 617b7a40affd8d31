//! What happens when nobody reads on, or nothing more can be written.

use std::fs::File;
use std::io::Read;
use std::process::Command;
use std::process::Stdio;

const MODUTILS: &str = env!("CARGO_BIN_EXE_modutils");

/// A command line that prints more than a pipe holds.
fn long() -> Command {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/x86_64/params.ko");
    let mut command = Command::new(MODUTILS);
    command.arg("modinfo").args(std::iter::repeat_n(file, 500)).stderr(Stdio::piped());
    command
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut child = long().stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut start = [0; 9];
    stdout.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"filename:");
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(141), 0));
}

#[test]
fn a_full_device_is_a_failure() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let output = long().stdout(full()).output().unwrap();
    let message = "modinfo: ERROR: could not write the output: No space left on device\n";
    assert_eq!(
        (output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()),
        (Some(1), message)
    );
    for args in [&["kmod", "--help"][..], &["modinfo", "-V"], &["insmod", "-h"]] {
        let output = Command::new(MODUTILS).args(args).stdout(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
}
