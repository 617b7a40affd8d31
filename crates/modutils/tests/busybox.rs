//! `insmod` in the style of busybox, and busybox 1.35 itself: the same words and exit codes.
//!
//! Only what every kernel refuses is given to them.

use std::path::PathBuf;
use std::process::Command;

/// Standard error and exit code.
fn run(command: &mut Command) -> (String, Option<i32>) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    (String::from_utf8(output.stderr).unwrap(), output.status.code())
}

#[test]
fn damaged_files_and_none() {
    let directory = std::env::temp_dir().join(format!("modutils-busybox-live-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("directory.ko")).unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(directory.join(name), bytes).unwrap();
    let fixture = |name: &str| {
        std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/x86_64").join(name))
            .unwrap()
    };
    put("empty.ko", b"");
    put("one.ko", b"x");
    put("two.ko", b"xy");
    put("text.ko", &[b'a'; 3000]);
    put("half.ko", &fixture("hello.ko")[..3000]);
    put("half.ko.zst", &fixture("hello.ko.zst")[..300]);
    for end in ["gz", "xz"] {
        let whole = fixture(&format!("hello.ko.{end}"));
        put(&format!("half.ko.{end}"), &whole[..whole.len() / 2]);
        put(&format!("start.ko.{end}"), &whole[..7]);
    }
    let files = [
        "empty.ko",
        "one.ko",
        "two.ko",
        "text.ko",
        "half.ko",
        "half.ko.zst",
        "half.ko.gz",
        "half.ko.xz",
        "start.ko.gz",
        "start.ko.xz",
        "directory.ko",
        "absent.ko",
        "text.ko/x.ko",
    ];
    for file in files {
        for parameters in [&[][..], &["a=1", "b=c d"]] {
            let theirs =
                run(Command::new("busybox").arg("insmod").arg(file).args(parameters).current_dir(&directory));
            let mut ours = Command::new(env!("CARGO_BIN_EXE_modutils"));
            ours.arg("insmod")
                .arg(file)
                .args(parameters)
                .current_dir(&directory)
                .env("MODUTILS_STYLE", "busybox");
            assert_eq!(run(&mut ours), theirs, "{file} (right: busybox)");
        }
    }
    std::fs::remove_dir_all(directory).unwrap();
}
