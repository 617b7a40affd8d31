//! Runs `insmod` and its kin as a user does, each command line in a root directory of its own over a kernel that is made up,
//! and compares standard output, standard error, exit code, files, the modules that are loaded and the calls that were
//! made: with kmod 30 in the same place, or with what is written down where kmod 30 differs.
//!
//! The kernel is made up by ptrace, so that static programs and those without a C library are answered too. It runs as
//! root or, where users may have namespaces, as anyone.
#![forbid(unsafe_code)]

mod case;
mod cases;
mod child;
mod compare;
mod fixture;
mod index;
mod kernel;
mod module;
mod run;
mod trace;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::case::Case;
use crate::case::Ground;
use crate::run::Workshop;

const USAGE: &str = "\
usage: lkm-blackbox MODUTILS [FILTER] [--only-it] [--show]

Runs the cases whose name contains FILTER with the program MODUTILS, then, as a measure, with kmod, busybox and true,
unless --only-it. --show prints the answers.";

/// The most cases that a program that does nothing may pass.
const NOTHING_MAY_PASS_PER_CENT: usize = 6;

struct Options {
    program: PathBuf,
    filter: String,
    only_it: bool,
    show: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((word, rest)) = arguments.split_first()
        && word == child::WORD
    {
        eprintln!("cannot start: {}", child::main(rest));
        return ExitCode::from(125);
    }
    let Some(options) = options(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &[String]) -> Option<Options> {
    let mut operands = arguments.iter().filter(|argument| !argument.starts_with("--"));
    let flags: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| argument.starts_with("--")).collect();
    if flags.iter().any(|flag| !["--only-it", "--show"].contains(flag)) {
        return None;
    }
    Some(Options {
        program: operands.next()?.into(),
        filter: operands.next().cloned().unwrap_or_default(),
        only_it: flags.contains(&"--only-it"),
        show: flags.contains(&"--show"),
    })
}

/// Cases passed and run, by command; the last entry of each is that of kmod's own subjects.
#[derive(Default)]
struct Count {
    passed: usize,
    all: usize,
}

fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let scratch = Scratch::new()?;
    let shell = Path::new("/bin/busybox");
    let depmod =
        ["/sbin/depmod", "/usr/sbin/depmod"].map(PathBuf::from).into_iter().find(|path| path.exists());
    let workshop = Workshop::new(scratch.0.join("w"), shell, depmod.ok_or("no depmod")?)?;
    let cases: Vec<Case> = cases::all()
        .into_iter()
        .filter(|case| format!("{} {}", case.command, case.name).contains(&options.filter))
        .collect();
    let kmod = workshop.tools("kmod", Path::new("/bin/kmod"))?;
    let mut subjects = vec![("modutils", options.program.clone())];
    if !options.only_it {
        subjects.push(("kmod 30", "/bin/kmod".into()));
        subjects.push(("busybox", "/bin/busybox".into()));
        subjects.push(("true", "/bin/true".into()));
    }
    let tools: Vec<PathBuf> = subjects
        .iter()
        .enumerate()
        .map(|(number, (_, program))| workshop.tools(&number.to_string(), program))
        .collect::<Result<_, _>>()?;

    let mut counts: BTreeMap<(&str, usize), Count> = BTreeMap::new();
    let mut failed = 0;
    for case in &cases {
        let title = format!("{}: {}", case.command, case.name);
        let reference = workshop.run(case, &kmod, true).map_err(|error| format!("{title}: {error}"))?;
        for (number, tools) in tools.iter().enumerate() {
            let answers = workshop.run(case, tools, false).map_err(|error| format!("{title}: {error}"))?;
            let mut wrong = Vec::new();
            for (at, step) in case.steps.iter().enumerate() {
                for line in compare::differences(step, &reference[at], &answers[at]) {
                    wrong.push(format!("    {}\n      {line}", step.words.join(" ")));
                }
            }
            let groups = [case.command, if case.classic { "kmod's own subjects" } else { "others" }];
            for group in groups {
                let count = counts.entry((group, number)).or_default();
                count.all += 1;
                count.passed += usize::from(wrong.is_empty());
            }
            if number == 0 {
                if options.show {
                    println!("{title}\n  kmod {reference:#?}\n  modutils {answers:#?}");
                }
                if !wrong.is_empty() {
                    failed += 1;
                    println!("{title}\n{}", wrong.join("\n"));
                }
            }
        }
    }
    let exchanged = exchange(&scratch, shell, &workshop, &tools[0], &kmod, &cases)?;
    table(&counts, &subjects.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let nothing: usize = sum(&counts, 3);
    let vacuous = !options.only_it
        && options.filter.is_empty()
        && nothing * 100 > cases.len() * NOTHING_MAY_PASS_PER_CENT;
    if vacuous {
        println!(
            "a program that does nothing passes {nothing} of {} cases: they say too little",
            cases.len()
        );
    }
    println!("{} cases, {failed} failed", cases.len());
    Ok(failed == 0 && exchanged && !vacuous)
}

/// The cases that read indexes, again over those that our depmod made: kmod 30 and ours answer as over kmod 30's.
fn exchange(
    scratch: &Scratch,
    shell: &Path,
    workshop: &Workshop,
    tools: &Path,
    kmod: &Path,
    cases: &[Case],
) -> Result<bool, Box<dyn Error>> {
    let ours = Workshop::new(scratch.0.join("x"), shell, tools.join("depmod"))?;
    let (mut all, mut failed) = (0, 0);
    for case in cases {
        if case.ground != Ground::Indexed
            || !["modprobe", "modprobe -r", "modinfo", "kmod"].contains(&case.command)
            || case.waits()
        {
            continue;
        }
        all += 1;
        for (label, tools) in [("kmod 30", kmod), ("modutils", tools)] {
            let before = workshop.run(case, tools, false)?;
            let after = ours.run(case, tools, false)?;
            let same = before.iter().zip(&after).all(|(one, other)| one.says_the_same(other));
            if !same {
                failed += 1;
                println!("{}: {}: {label} reads our indexes otherwise", case.command, case.name);
                for (before, after) in before.iter().zip(&after) {
                    println!("    {}\n      but {}", before.text(), after.text());
                }
            }
        }
    }
    println!("{all} cases over indexes of our own, {failed} different");
    Ok(failed == 0)
}

fn sum(counts: &BTreeMap<(&str, usize), Count>, subject: usize) -> usize {
    let of = |group| counts.get(&(group, subject)).map_or(0, |count: &Count| count.passed);
    of("kmod's own subjects") + of("others")
}

fn table(counts: &BTreeMap<(&str, usize), Count>, subjects: &[&str]) {
    let mut groups: Vec<&str> = counts.keys().map(|(group, _)| *group).collect();
    groups.dedup();
    groups.sort_by_key(|group| (*group == "others", *group == "kmod's own subjects", *group));
    print!("{:<22}", "");
    subjects.iter().for_each(|name| print!("{name:>12}"));
    println!();
    for group in groups {
        print!("{group:<22}");
        for number in 0..subjects.len() {
            if let Some(count) = counts.get(&(group, number)) {
                print!("{:>12}", format!("{}/{}", count.passed, count.all));
            }
        }
        println!();
    }
}

/// A directory that is gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Scratch> {
        // Memory is faster than a disk, and thousands of small files are written.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = parent.join(format!("lkm-blackbox-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
