//! Whole sessions of the commands on real kernels: kmod's and ours one after the other in the same boot, from the same state.
//!
//! What either prints, its exit code, and what it did to the kernel must be the same, but for the [differences] that
//! are meant. busybox's `insmod` is held against `MODUTILS_STYLE=busybox` in the same way. A second boot asks the system calls
//! themselves.

mod case;
mod cases;
mod compare;
mod differences;
mod files;
mod machine;
mod script;
mod syscalls;
mod target;
mod tree;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;

use self::case::Case;
use self::target::Target;

const USAGE: &str = "\
usage: cargo xtask sessions [--arch amd64|armhf|arm64] [--case PART]... [--program FILE] [--show]
                            [--no-calls | --only-calls]

    --arch         only this kernel
    --case         only cases with this in their name
    --program      a built program to take instead of building ours; with --arch
    --show         print what each command said
    --no-calls     without the system calls by themselves
    --only-calls   only these";

/// What the command line asks for.
#[derive(Debug, Default)]
struct Options {
    arch: Option<Target>,
    cases: Vec<String>,
    program: Option<PathBuf>,
    show: bool,
    no_calls: bool,
    only_calls: bool,
}

/// `cargo xtask sessions`, and with no arguments the step of `cargo xtask test`.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let options = options(arguments)?;
    let whole = options.cases.is_empty();
    differences::check_document()?;
    let targets: Vec<Target> =
        Target::ALL.into_iter().filter(|target| options.arch.is_none_or(|only| only == *target)).collect();
    // Cargo builds one program at a time anyway, and packages are fetched one at a time.
    let grounds = targets.iter().map(|&target| Ground::find(target, &options)).collect::<Result<Vec<_>>>()?;
    let options = &options;
    let reports: Vec<Result<Report>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            grounds.iter().map(|ground| scope.spawn(move || ground.hold(options))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Report>>| {
            thread.join().unwrap_or_else(|_| Err(Error::new("a thread that watched a session panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let mut occurred = BTreeSet::new();
    let mut failures = 0;
    for (ground, report) in grounds.iter().zip(reports) {
        let report = report.with_context(|| format!("the session on {}", ground.release()))?;
        print!("{}", report.text);
        failures += report.failures;
        occurred.extend(report.occurred);
    }
    if whole && options.arch.is_none() && !options.only_calls {
        for row in differences::ROWS.iter().filter(|row| !occurred.contains(row.what)) {
            println!("    the intended difference {:?} occurred in no case", row.what);
            failures += 1;
        }
    }
    if failures == 0 {
        Ok(())
    } else {
        Err(Error::new(format!("{failures} cases are not as they should be")))
    }
}

fn options(arguments: &[String]) -> Result<Options> {
    let mut options = Options::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value =
            || arguments.next().ok_or_else(|| Error::new(format!("{argument} needs a value\n{USAGE}")));
        match argument.as_str() {
            "--show" => options.show = true,
            "--no-calls" => options.no_calls = true,
            "--only-calls" => options.only_calls = true,
            "--program" => options.program = Some(value()?.into()),
            "--case" => options.cases.push(value()?.clone()),
            "--arch" => {
                let name = value()?;
                let target = Target::ALL.into_iter().find(|target| target.name() == name);
                options.arch =
                    Some(target.with_context(|| format!("there is no architecture {name}\n{USAGE}"))?);
            }
            other => return Err(Error::new(format!("unknown argument {other}\n{USAGE}"))),
        }
    }
    if options.program.is_some() && options.arch.is_none() {
        return Err(Error::new(format!("a program is for one architecture: --arch says which\n{USAGE}")));
    }
    Ok(options)
}

/// A kernel, and what is put before it.
struct Ground {
    target: Target,
    kernel: crate::packages::Kernel,
    cases: Vec<&'static Case>,
    initramfs: Vec<u8>,
}

/// What came out on one kernel.
struct Report {
    text: String,
    failures: usize,
    /// Intended differences that did occur.
    occurred: BTreeSet<&'static str>,
}

impl Ground {
    fn find(target: Target, options: &Options) -> Result<Ground> {
        let kernel = target.flavour().kernel()?;
        let chosen = |case: &&Case| {
            options.cases.is_empty() || options.cases.iter().any(|part| case.name.contains(part.as_str()))
        };
        let cases: Vec<&'static Case> = cases::all().filter(chosen).collect();
        let initramfs = match options.only_calls {
            true => Vec::new(),
            false => {
                let program = match &options.program {
                    Some(program) => program.clone(),
                    None => target.build()?,
                };
                files::initramfs(target, &kernel, &program, &script::write(&cases))?
            }
        };
        Ok(Ground { target, kernel, cases, initramfs })
    }

    fn release(&self) -> &str {
        &self.kernel.release
    }

    fn hold(&self, options: &Options) -> Result<Report> {
        let start = Instant::now();
        let mut report = Report { text: String::new(), failures: 0, occurred: BTreeSet::new() };
        let mut line = format!("{} on {}:", self.release(), self.target.board());
        if !options.only_calls {
            let answers = machine::run(self.target, &self.kernel, &self.initramfs)?;
            let compared = compare::all(&self.cases, &answers, self.release(), options.show)?;
            let differences = compared.occurred.len();
            line.push_str(&format!(" {} cases, {differences} intended differences,", self.cases.len()));
            report.text.push_str(&compared.text);
            report.failures += compared.failures;
            report.occurred = compared.occurred;
        }
        if let Some(machine) = self.target.machine().filter(|_| !options.no_calls) {
            let calls = syscalls::check(self.target, machine, &self.kernel)?;
            line.push_str(&format!(" {} system calls,", calls.count));
            report.text.push_str(&calls.text);
            report.failures += calls.failures;
        }
        let seconds = start.elapsed().as_secs_f64();
        report.text =
            format!("    {line} {} not as they should be, {seconds:.1} s\n{}", report.failures, report.text);
        Ok(report)
    }
}
