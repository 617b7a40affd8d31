//! Everything that has to hold, in one run.

use std::time::Duration;
use std::time::Instant;

use crate::cargo;
use crate::depmod;
use crate::error::Error;
use crate::error::Result;
use crate::facts;
use crate::fixtures;
use crate::initramfs;
use crate::licences;
use crate::lookups;
use crate::package;
use crate::process;
use crate::sessions;
use crate::setup;
use crate::setup::Purpose;
use crate::trees;
use crate::truth;

/// How a step ended, unless it failed.
enum Outcome {
    Passed,
    /// It could not be done here, for this reason; the closing lines repeat it.
    Skipped(String),
}

struct Step {
    name: &'static str,
    what: &'static str,
    needs: &'static [Purpose],
    run: fn() -> Result<Outcome>,
}

const STEPS: &[Step] = &[
    Step {
        name: "format",
        what: "the sources are formatted",
        needs: &[Purpose::Lint],
        run: || passed(&["fmt", "--all", "--check"]),
    },
    Step {
        name: "clippy",
        what: "no common mistakes, no warnings",
        needs: &[Purpose::Lint, Purpose::Build],
        run: || passed(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    },
    Step {
        name: "doc",
        what: "the documentation builds, all its links lead somewhere",
        needs: &[Purpose::Build],
        run: doc,
    },
    Step {
        name: "slim",
        what: "the command builds without the machine, and so without the emulator",
        needs: &[],
        run: || passed(&["check", "--package", "lkm", "--no-default-features", "--locked"]),
    },
    Step {
        name: "test",
        what: "unit, property and end-to-end tests",
        needs: &[Purpose::Build, Purpose::Test],
        run: || passed(&["test", "--workspace", "--locked"]),
    },
    Step {
        name: "codecs",
        what: "the C libraries of zstd and xz, which the packaged program has, unpack as the crates without them do",
        needs: &[Purpose::Build, Purpose::Test],
        run: || passed(&["test", "--package", "lkm-tree", "--features", "libzstd,liblzma", "--locked"]),
    },
    Step {
        name: "licences",
        what: "dependencies are licensed and sourced as deny.toml says",
        needs: &[],
        run: || licences::check().map(|()| Outcome::Passed),
    },
    Step {
        name: "fixtures",
        what: "the committed modules are what their recipe makes",
        needs: &[Purpose::Fixtures],
        run: fixtures,
    },
    Step {
        name: "blackbox",
        what: "in a root of their own over a made-up kernel the commands answer as kmod's, or as written",
        needs: &[Purpose::PackageTest],
        run: blackbox,
    },
    Step {
        name: "package",
        what: "manual pages, completions and the Debian package, installed and removed again",
        needs: &[Purpose::Package, Purpose::PackageTest],
        run: || package::check().map(|()| Outcome::Passed),
    },
    Step {
        name: "initramfs",
        what: "Debian's mkinitramfs makes the same image with kmod and with our commands",
        needs: &[Purpose::Package, Purpose::PackageTest],
        run: || {
            let done = initramfs::check()?;
            Ok(done.map_or_else(Outcome::Skipped, |()| Outcome::Passed))
        },
    },
    Step {
        name: "indexes",
        what: "depmod makes the same indexes as kmod's of 4,000 modules, packed ones too, and again after one changed",
        needs: &[Purpose::Test, Purpose::Truth],
        run: || depmod::check().map(|()| Outcome::Passed),
    },
    Step {
        name: "lookups",
        what: "modprobe finds in a whole kernel what kmod's finds, by every name and 2,000 aliases",
        needs: &[Purpose::PackageTest, Purpose::Truth],
        run: || lookups::check().map(|()| Outcome::Passed),
    },
    Step {
        name: "trees",
        what: "every module of two kernels loads against what those kernels export",
        needs: &[Purpose::Truth],
        run: || trees::check().map(|()| Outcome::Passed),
    },
    Step {
        name: "truth",
        what: "real kernels made the same bytes",
        needs: &[Purpose::Truth],
        run: || truth::main(&[]).map(|()| Outcome::Passed).map_err(|error| Error::new(error.to_string())),
    },
    Step {
        name: "facts",
        what: "what is read out of kernel images is what their builds and the running kernels say",
        needs: &[Purpose::Truth],
        run: || facts::check().map(|()| Outcome::Passed),
    },
    Step {
        name: "sessions",
        what: "on real kernels the commands do as kmod's and busybox's do",
        needs: &[Purpose::Sessions],
        run: || sessions::main(&[]).map(|()| Outcome::Passed),
    },
];

const USAGE: &str = "usage: cargo xtask test [--only STEP]... [--skip STEP]... [--list]";

struct Finished {
    name: &'static str,
    result: Result<Outcome>,
    time: Duration,
}

/// `cargo xtask test`.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let Some(steps) = selection(arguments)? else {
        for step in STEPS {
            println!("{:<10} {}", step.name, step.what);
        }
        return Ok(());
    };
    let needs: Vec<Purpose> = steps.iter().flat_map(|step| step.needs).copied().collect();
    setup::run(&needs)?;
    let mut finished = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        println!("\n[{}/{}] {}: {}", number + 1, steps.len(), step.name, step.what);
        let start = Instant::now();
        let result = (step.run)();
        if let Err(error) = &result {
            println!("{} failed: {error}", step.name);
        }
        finished.push(Finished { name: step.name, result, time: start.elapsed() });
    }
    summary(&finished)
}

/// The steps that the arguments choose; `None`: they are only to be listed.
fn selection(arguments: &[String]) -> Result<Option<Vec<&'static Step>>> {
    let mut only = Vec::new();
    let mut skip = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let names = match argument.as_str() {
            "--list" => return Ok(None),
            "--only" => &mut only,
            "--skip" => &mut skip,
            _ => return Err(Error::new(format!("unknown argument {argument}\n{USAGE}"))),
        };
        let name = arguments.next().ok_or_else(|| Error::new(format!("{argument} needs a step\n{USAGE}")))?;
        if !STEPS.iter().any(|step| step.name == name) {
            let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
            return Err(Error::new(format!("there is no step {name}, only {}", known.join(", "))));
        }
        names.push(name.as_str());
    }
    let chosen = |step: &&Step| (only.is_empty() || only.contains(&step.name)) && !skip.contains(&step.name);
    Ok(Some(STEPS.iter().filter(chosen).collect()))
}

fn summary(finished: &[Finished]) -> Result<()> {
    println!();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for step in finished {
        let word = match &step.result {
            Ok(Outcome::Passed) => {
                passed += 1;
                "passed".to_owned()
            }
            Ok(Outcome::Skipped(why)) => {
                skipped += 1;
                format!("skipped: {why}")
            }
            Err(_) => {
                failed += 1;
                "FAILED".to_owned()
            }
        };
        println!("{:<10} {:>6.1} s  {word}", step.name, step.time.as_secs_f64());
    }
    let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    println!("{passed} passed, {failed} failed{skipped}");
    if failed == 0 { Ok(()) } else { Err(Error::new(format!("{failed} of {} steps failed", finished.len()))) }
}

fn passed(arguments: &[&str]) -> Result<Outcome> {
    process::run(cargo().args(arguments)).map(|()| Outcome::Passed)
}

fn blackbox() -> Result<Outcome> {
    let program = package::program()?;
    let mut command = cargo();
    command.args(["run", "--quiet", "--locked", "--package", "lkm-blackbox", "--"]).arg(program);
    process::run(&mut command).map(|()| Outcome::Passed)
}

fn doc() -> Result<Outcome> {
    let mut command = cargo();
    command.args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings");
    process::run(&mut command).map(|()| Outcome::Passed)
}

fn fixtures() -> Result<Outcome> {
    match fixtures::check(false)? {
        fixtures::Outcome::Same(count) => {
            println!("    {count} files are the same");
            Ok(Outcome::Passed)
        }
        fixtures::Outcome::Different(files) => Err(Error::new(format!("these differ: {}", files.join(", ")))),
        fixtures::Outcome::Impossible(why) => Ok(Outcome::Skipped(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(arguments: &[&str]) -> Vec<&'static str> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        selection(&arguments).unwrap().unwrap().iter().map(|step| step.name).collect()
    }

    #[test]
    fn steps_are_chosen_by_name_and_kept_in_order() {
        assert_eq!(names(&[]).len(), STEPS.len());
        assert_eq!(names(&["--only", "doc", "--only", "format"]), ["format", "doc"]);
        assert_eq!(names(&["--skip", "truth"]).len(), STEPS.len() - 1);
        assert!(selection(&["--only".to_owned(), "nothing".to_owned()]).is_err());
        assert!(selection(&["--only".to_owned()]).is_err());
        assert!(selection(&["--fast".to_owned()]).is_err());
    }

    #[test]
    fn a_failure_fails_the_run_and_a_skipped_step_does_not() {
        let step = |result| Finished { name: "x", result, time: Duration::ZERO };
        assert!(
            summary(&[step(Ok(Outcome::Passed)), step(Ok(Outcome::Skipped("no reason".into())))]).is_ok()
        );
        assert!(summary(&[step(Ok(Outcome::Passed)), step(Err(Error::new("broken")))]).is_err());
    }
}
