//! `lkm run` from the outside: the committed modules through the whole loader into the embedded kernel and back.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use serde_json::Value;

const ARCHITECTURES: [&str; 2] = ["x86_64", "arm"];

fn fixture(architecture: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(architecture).join(name)
}

fn lkm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lkm")).args(arguments).output().expect("lkm starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

/// Runs a module and gives its exit code and JSON document.
fn run(file: &Path, arguments: &[&str]) -> (i32, Value) {
    let output = lkm(&[&["run", file.to_str().unwrap(), "--json"], arguments].concat());
    let stdout = text(&output.stdout);
    let report = serde_json::from_str(&stdout)
        .unwrap_or_else(|error| panic!("{}: {error}\n{stdout}\n{}", file.display(), text(&output.stderr)));
    (output.status.code().expect("an exit code"), report)
}

fn log(report: &Value) -> Vec<(u64, String)> {
    let lines = report["log"].as_array().expect("a log");
    lines
        .iter()
        .map(|line| (line["level"].as_u64().unwrap(), line["text"].as_str().unwrap().trim_end().to_owned()))
        .collect()
}

fn logged(report: &Value, level: u64, line: &str) -> bool {
    log(report).iter().any(|(l, text)| *l == level && text == line)
}

fn parameter<'a>(report: &'a Value, name: &str) -> &'a str {
    let parameters = report["parameters"].as_array().unwrap();
    let found = parameters.iter().find(|parameter| parameter["name"] == name);
    found
        .and_then(|parameter| parameter["value"].as_str())
        .unwrap_or_else(|| panic!("no parameter {name}"))
        .trim_end()
}

#[test]
fn hello_is_loaded_started_and_removed() {
    for architecture in ARCHITECTURES {
        let (code, report) = run(&fixture(architecture, "hello.ko"), &["who=kernel", "count=2"]);
        assert_eq!(code, 0, "{architecture}: {report:#}");
        assert_eq!(report["success"], true);
        assert_eq!(report["module"], "hello");
        let greetings = log(&report).iter().filter(|line| line.1 == "hello: Hello, kernel!").count();
        assert_eq!(greetings, 2, "{architecture}: {report:#}");
        assert!(logged(&report, 6, "hello: Goodbye, kernel."), "{architecture}");
        assert!(logged(&report, 4, "hello: loading out-of-tree module taints kernel."), "{architecture}");
        assert_eq!(parameter(&report, "who"), "kernel");
        assert_eq!(parameter(&report, "count"), "2");
        let line = report["proc_modules"].as_str().unwrap();
        assert!(
            line.starts_with("hello ") && line.contains(" 0 - Live 0x") && line.ends_with(" (OE)"),
            "{line}"
        );
        assert_eq!(report["left_behind"].as_array().unwrap().len(), 0);
    }
}

#[test]
fn stages_come_in_the_kernels_order() {
    for architecture in ARCHITECTURES {
        let (_, report) = run(&fixture(architecture, "hello.ko"), &[]);
        let stages: Vec<&str> = report["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stage| stage["stage"].as_str().unwrap())
            .collect();
        let order = [
            "module_sig_check",
            "elf_validity_check",
            "setup_load_info",
            "rewrite_section_headers",
            "check_modinfo",
            "layout_sections",
            "layout_symtab",
            "move_module",
            "add_unformed_module",
            "percpu_modalloc",
            "find_module_sections",
            "setup_modinfo",
            "simplify_symbols",
            "apply_relocations",
            "post_relocation",
            "complete_formation",
            "parse_args",
            "mod_sysfs_setup",
            "do_init_module",
            "delete_module",
        ];
        let mut rest = stages.iter();
        for stage in order {
            assert!(rest.any(|name| *name == stage), "{stage} is missing or out of order: {stages:?}");
        }
    }
}

#[test]
fn compressed_modules_are_read_by_their_first_bytes() {
    for (name, compression) in [("hello.ko.gz", "gzip"), ("hello.ko.xz", "xz"), ("hello.ko.zst", "zstd")] {
        let (code, report) = run(&fixture("x86_64", name), &[]);
        assert_eq!(code, 0, "{name}: {report:#}");
        assert_eq!(report["compression"], compression);
        assert!(logged(&report, 6, "hello: Hello, world!"));
    }
}

#[test]
fn dependencies_beside_the_file_are_loaded_first() {
    for architecture in ARCHITECTURES {
        let (code, report) = run(&fixture(architecture, "user.ko"), &[]);
        assert_eq!(code, 0, "{architecture}: {report:#}");
        assert_eq!(report["dependencies"][0]["module"], "exporter");
        assert!(report["proc_modules"].as_str().unwrap().starts_with("user "));
    }
}

#[test]
fn what_a_module_registers_is_shown_and_gone_afterwards() {
    for architecture in ARCHITECTURES {
        for (name, kind, what) in [
            ("chardev.ko", "character device", "chardev"),
            ("miscdev.ko", "misc device", "miscdev"),
            ("procfile.ko", "proc entry", "/proc/procfile/message"),
        ] {
            let (code, report) = run(&fixture(architecture, name), &[]);
            assert_eq!(code, 0, "{architecture} {name}: {report:#}");
            let registrations = report["registrations"].as_array().unwrap();
            let shown = registrations.iter().any(|registration| {
                registration["kind"] == kind && registration["name"].as_str().unwrap().starts_with(what)
            });
            assert!(shown, "{architecture} {name}: {report:#}");
        }
    }
}

#[test]
fn a_gpl_only_symbol_is_refused_to_a_proprietary_module_and_named() {
    for architecture in ARCHITECTURES {
        let (code, report) = run(&fixture(architecture, "user_proprietary.ko"), &[]);
        assert_eq!(code, 1);
        assert_eq!(report["load"]["error"]["name"], "ENOENT");
        assert!(logged(&report, 4, "user_proprietary: Unknown symbol exporter_gpl (err -2)"), "{report:#}");
        let cause = report["load"]["cause"].as_str().unwrap();
        assert!(cause.starts_with("exporter_gpl is for GPL-compatible modules only"), "{cause}");
    }
}

#[test]
fn memory_errors_name_the_place_and_who_owned_the_memory() {
    for architecture in ARCHITECTURES {
        for (bug, what) in
            [("uaf", "use-after-free"), ("over", "out-of-bounds"), ("double-free", "double-free")]
        {
            let (code, report) = run(&fixture(architecture, "memory.ko"), &[&format!("bug={bug}")]);
            assert_eq!(code, 1, "{architecture} {bug}: {report:#}");
            let fault = report["oopses"][0].as_str().unwrap();
            assert!(fault.contains(what) && fault.contains("[memory]"), "{architecture} {bug}: {fault}");
        }
    }
}

#[test]
fn an_init_function_that_fails_unwinds_with_its_error() {
    for architecture in ARCHITECTURES {
        let (code, report) = run(&fixture(architecture, "init_einval.ko"), &[]);
        assert_eq!(code, 1);
        assert_eq!(report["load"]["error"]["name"], "EINVAL");
        assert_eq!(report["load"]["stage"], "do_init_module");
        assert!(report["load"]["cause"].as_str().is_some_and(|cause| !cause.is_empty()));
        assert_eq!(report["left_behind"].as_array().unwrap().len(), 0, "{report:#}");
        assert!(report["unload"].is_null());
    }
}

#[test]
fn a_positive_return_of_init_is_warned_of_and_loads() {
    for architecture in ARCHITECTURES {
        let (code, report) = run(&fixture(architecture, "init_positive.ko"), &[]);
        assert_eq!(code, 0, "{report:#}");
        let warned = log(&report).iter().any(|(level, line)| {
            *level == 4
                && line.contains("'init_positive'->init suspiciously returned")
                && line.contains("0/-E convention")
        });
        assert!(warned, "{report:#}");
    }
}

#[test]
fn a_module_without_exit_stays_and_that_is_said() {
    for architecture in ARCHITECTURES {
        let (code, report) = run(&fixture(architecture, "no_exit.ko"), &[]);
        assert_eq!(code, 1);
        assert_eq!(report["load"]["ok"], true);
        assert_eq!(report["unload"]["error"]["name"], "EBUSY");
        assert!(report["proc_modules"].as_str().unwrap().contains("[permanent],"));
        let (code, _) = run(&fixture(architecture, "no_init.ko"), &[]);
        assert_eq!(code, 0, "{architecture}: neither init nor exit loads and unloads");
    }
}

#[test]
fn leaks_name_who_allocated() {
    for architecture in ARCHITECTURES {
        let (code, report) = run(&fixture(architecture, "leak.ko"), &[]);
        assert_eq!(code, 1, "{architecture}: {report:#}");
        assert_eq!(report["load"]["ok"], true);
        assert_eq!(report["unload"]["ok"], true);
        let left = report["left_behind"].to_string();
        assert!(left.contains("[leak]"), "{left}");
    }
}

#[test]
fn a_null_pointer_is_reported_with_the_place() {
    for architecture in ARCHITECTURES {
        let (code, report) = run(&fixture(architecture, "oops.ko"), &[]);
        assert_eq!(code, 1, "{architecture}");
        let oops = report["oopses"][0].as_str().unwrap_or_else(|| panic!("{report:#}"));
        assert!(oops.contains("oops") && oops.contains("[oops]") && oops.contains("+0x"), "{oops}");
    }
}

#[test]
fn a_call_of_an_unimplemented_import_names_it_and_its_caller() {
    for architecture in ARCHITECTURES {
        let (code, report) = run(&fixture(architecture, "rare.ko"), &[]);
        assert_eq!(code, 1, "{architecture}: {report:#}");
        let imports = report["unimplemented_imports"].as_array().unwrap();
        assert!(!imports.is_empty());
        let oops = report["oopses"][0].as_str().unwrap();
        assert!(imports.iter().any(|name| oops.contains(name.as_str().unwrap())), "{oops}");
        assert!(oops.contains("[rare]"), "{oops}");
    }
}

#[test]
fn wrong_parameters_give_the_kernels_own_lines() {
    for architecture in ARCHITECTURES {
        let file = fixture(architecture, "hello.ko");
        let (code, report) = run(&file, &["count=many"]);
        assert_eq!(code, 1);
        assert_eq!(report["load"]["error"]["name"], "EINVAL");
        assert_eq!(report["load"]["stage"], "parse_args");
        assert!(logged(&report, 3, "hello: `many' invalid for parameter `count'"), "{report:#}");
        let (code, report) = run(&file, &["colour=red"]);
        assert_eq!(code, 0);
        assert!(logged(&report, 4, "hello: unknown parameter 'colour' ignored"), "{report:#}");
        let (_, report) = run(&file, &["who=two words"]);
        assert!(logged(&report, 6, "hello: Hello, two words!"), "{report:#}");
    }
}

#[test]
fn every_parameter_type_reads_back_as_the_kernel_shows_it() {
    for architecture in ARCHITECTURES {
        let (code, report) = run(&fixture(architecture, "params.ko"), &[]);
        assert_eq!(code, 0, "{architecture}: {report:#}");
        assert!(report["parameters"].as_array().unwrap().len() >= 14, "{report:#}");
    }
}

#[test]
fn text_output_in_a_pipe_has_no_colours_and_says_the_verdict() {
    let file = fixture("arm", "hello.ko");
    let output = lkm(&["run", file.to_str().unwrap(), "who=reader"]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));
    assert!(!shown.contains('\x1b'));
    for part in
        ["apply_relocations", "hello: Hello, reader!", "/proc/modules", "who = reader", "nothing left behind"]
    {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
    assert!(output.stderr.is_empty());
    let quiet = text(&lkm(&["run", "-q", file.to_str().unwrap()]).stdout);
    assert!(quiet.contains("hello: Hello, world!") && !quiet.contains("apply_relocations"), "{quiet}");
}

#[test]
fn same_input_gives_the_same_addresses_on_every_run() {
    for architecture in ARCHITECTURES {
        let stages = || {
            let (_, mut report) = run(&fixture(architecture, "params.ko"), &[]);
            for stage in report["stages"].as_array_mut().unwrap() {
                stage["microseconds"] = Value::Null;
            }
            (report["stages"].take(), report["proc_modules"].take(), report["parameters"].take())
        };
        assert_eq!(stages(), stages(), "{architecture}");
    }
}

/// A directory of its own for one test, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("lkm-run-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is printed for a file that is no module: the error number, the kernel's line where it has one, the cause.
fn refused(file: &Path, expected: &[&str]) {
    let output = lkm(&["run", file.to_str().unwrap()]);
    let shown = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}: {shown}", file.display());
    for part in expected {
        assert!(shown.contains(part), "{}: '{part}' is missing in\n{shown}", file.display());
    }
    assert!(shown.contains("cause: "), "{shown}");
}

#[test]
fn bad_files_get_an_error_number_the_kernels_line_and_a_cause() {
    let scratch = Scratch::new("bad");
    let hello = std::fs::read(fixture("x86_64", "hello.ko")).unwrap();
    refused(&scratch.0.join("absent.ko"), &["ENOENT"]);
    refused(&scratch.0, &["EINVAL", "directory"]);
    refused(&scratch.file("empty.ko", b""), &["EINVAL", "empty"]);
    refused(
        &scratch.file("text.ko", "not a module\n".repeat(20).as_bytes()),
        &["ENOEXEC", "Invalid ELF header magic", "text file"],
    );
    refused(&scratch.file("short.ko", &hello[..40]), &["ENOEXEC", "Invalid ELF header len 40"]);
    refused(
        &scratch.file("cut.ko", &hello[..hello.len() / 2]),
        &["ENOEXEC", "Invalid ELF section header overflow", "cut"],
    );
    let arm = std::fs::read(fixture("arm", "hello.ko")).unwrap();
    refused(
        &scratch.file("cut-arm.ko", &arm[..arm.len() / 2]),
        &["debian-6.1-armmp", "ENOEXEC", "Invalid ELF section header overflow"],
    );
    let mut sparc = hello.clone();
    sparc[18..20].copy_from_slice(&43u16.to_le_bytes());
    refused(&scratch.file("sparc.ko", &sparc), &["ENOEXEC", "architecture"]);
    refused(&scratch.file("zip.ko", &[b"PK\x03\x04".as_slice(), &[0x80; 200]].concat()), &["ENOEXEC"]);
    let gzip = std::fs::read(fixture("x86_64", "hello.ko.gz")).unwrap();
    refused(&scratch.file("cut.ko.gz", &gzip[..gzip.len() / 2]), &["EINVAL", "gzip"]);
    let sparse = scratch.file("sparse.ko", &hello);
    std::fs::File::options().write(true).open(&sparse).unwrap().set_len(4 << 30).unwrap();
    refused(&sparse, &["EFBIG"]);
}

#[test]
fn the_wrong_kernel_is_said_to_be_wrong() {
    let file = fixture("arm", "hello.ko");
    let output = lkm(&["run", "--profile", "debian-6.1-amd64", file.to_str().unwrap()]);
    let shown = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(shown.contains("Invalid architecture in ELF header: 40") && shown.contains("ENOEXEC"), "{shown}");
    let output = lkm(&["run", "--profile", "no-such-kernel", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("debian-6.1-armmp"), "the profiles there are get listed");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_lkm"))
        .args(["run", fixture("x86_64", "hello.ko").to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}
