//! Asking a real kernel.

use std::collections::BTreeMap;
use std::path::Path;

use lkm_module::Text;
use serde::Deserialize;
use serde::Serialize;

use super::super::Result;
use super::super::agent::Agent;
use super::super::capture;
use super::super::cpio::Cpio;
use super::super::guest::Argument;
use super::super::guest::Guest;
use super::super::qemu::Boot;
use super::super::qemu::Machine;
use super::super::qemu::Qemu;
use super::cases::BLACKLISTED;
use super::cases::Case;

/// Bytes of the kernel's log that are read at once.
const LOG: u64 = 1 << 18;
/// A file is read into memory of this size for `init_module`.
const FILE: u64 = 4 << 20;
/// How many cases may crash the kernel before something else must be wrong.
const CRASHES: usize = 8;

/// What a kernel answered to one case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// How often the kernel had been booted before.
    pub(crate) boot: usize,
    /// The kernel crashed.
    pub(crate) crashed: bool,
    /// What the system call returned; 0 if there was none.
    pub(crate) result: i64,
    /// Lines of the log, with levels, without times.
    pub(crate) log: Vec<String>,
    /// Taints of the kernel.
    pub(crate) tainted: u64,
    /// /proc/modules.
    pub(crate) proc_modules: String,
    /// Files below parameters: contents in hex, or the errno.
    pub(crate) parameters: BTreeMap<String, std::result::Result<String, i64>>,
    /// What `delete_module` returned, if it was called.
    pub(crate) deleted: Option<i64>,
    /// Lines of the log from that.
    pub(crate) delete_log: Vec<String>,
    /// Taints of the kernel after that.
    pub(crate) delete_tainted: u64,
}

/// All answers, in the order of the cases.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answers {
    /// Digest of the kernel and of the cases.
    pub(super) sources: String,
    pub(super) answers: Vec<Answer>,
}

impl Answers {
    pub(crate) fn load(file: &Path, sources: &str) -> Option<Answers> {
        let answers: Answers = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        (answers.sources == sources).then_some(answers)
    }

    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        std::fs::write(file, serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}

/// Boots the kernel and asks it all cases; boots it again when it crashed.
pub(crate) fn ask(
    machine: Machine,
    kernel: &Path,
    device_tree: Option<&Path>,
    agent: &Agent,
    cases: &[Case],
) -> Result<Vec<Answer>> {
    let mut answers: Vec<Answer> = Vec::new();
    let mut boot = 0;
    while answers.len() < cases.len() {
        let first = answers.len();
        let mut cpio = Cpio::default();
        for directory in ["dev", "proc", "sys", "c"] {
            cpio.directory(directory);
        }
        cpio.device("dev/console", 5, 1);
        cpio.file("init", &agent.file);
        for (index, case) in cases.iter().enumerate().skip(first) {
            if let Some(file) = &case.file {
                cpio.file(&format!("c/{index}"), file);
            }
        }
        let scratch = format!("lkm-conformance-{}-{}", std::process::id(), machine.name());
        let directory = std::env::temp_dir().join(scratch);
        let archive = cpio.finish();
        let forbidden = format!("module_blacklist={BLACKLISTED}");
        let boot_with = Boot {
            machine,
            kernel,
            device_tree,
            arguments: &forbidden,
            initramfs: &archive,
            directory: &directory,
        };
        let mut guest = Guest::boot(Qemu::start(&boot_with)?, machine.arch(), agent)?;
        capture::mount(&mut guest)?;
        read_log(&mut guest)?;
        for (index, case) in cases.iter().enumerate().skip(first) {
            match ask_one(&mut guest, index, case) {
                Ok(answer) => answers.push(Answer { boot, ..answer }),
                Err(error) => {
                    println!("    {}: the kernel crashed ({})", case.name, first_line(&error.to_string()));
                    answers.push(Answer { boot, crashed: true, ..Answer::default() });
                    break;
                }
            }
        }
        boot += 1;
        if boot > CRASHES {
            return Err("too many crashes".into());
        }
    }
    Ok(answers)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Forgets the log up to here.
fn read_log(guest: &mut Guest<'_>) -> Result<()> {
    let numbers = guest.numbers();
    let mut batch = guest.batch();
    let (_, buffer) = batch.buffer(LOG);
    // SYSLOG_ACTION_READ_CLEAR
    batch.call(numbers.syslog, &[Argument::Value(4), buffer, Argument::Value(LOG)]);
    guest.run(&batch).map(drop)
}

fn ask_one(guest: &mut Guest<'_>, index: usize, case: &Case) -> Result<Answer> {
    let numbers = guest.numbers();
    let mut answer = Answer::default();
    if case.disabled {
        let mut batch = guest.batch();
        let (path, text) = (batch.text("/proc/sys/kernel/modules_disabled"), batch.text("1"));
        let open = batch.call(numbers.open, &[path, Argument::Value(1), Argument::Value(0)]);
        batch.call(numbers.write, &[Argument::Result(open), text, Argument::Value(1)]);
        batch.call(numbers.close, &[Argument::Result(open)]);
        guest.run(&batch)?;
    }
    if case.file.is_some() {
        let mut batch = guest.batch();
        let path = batch.text(&format!("/c/{index}"));
        let arguments = batch.text(&case.arguments);
        let zero = Argument::Value(0);
        let open = batch.call(numbers.open, &[path, zero, zero]);
        let load = if case.by_init_module {
            let (_, buffer) = batch.buffer(FILE);
            let length = batch.read_all(Argument::Result(open), buffer, FILE);
            batch.call(numbers.init_module, &[buffer, Argument::Result(length), arguments])
        } else {
            let flags = Argument::Value(u64::from(case.flags));
            batch.call(numbers.finit_module, &[Argument::Result(open), arguments, flags])
        };
        batch.call(numbers.close, &[Argument::Result(open)]);
        let modules = batch.read_file(numbers, "/proc/modules", 1 << 16);
        let tainted = batch.read_file(numbers, "/proc/sys/kernel/tainted", 64);
        let (log, buffer) = batch.buffer(LOG);
        let log_step = batch.call(numbers.syslog, &[Argument::Value(4), buffer, Argument::Value(LOG)]);
        let got = guest.run(&batch)?;
        answer.result = got.result(load);
        answer.proc_modules = text(got.file(modules).unwrap_or_default());
        answer.tainted = text(got.file(tainted).unwrap_or_default()).trim().parse().unwrap_or(0);
        answer.log = lines(&Text(got.buffer(log, got.result(log_step))).to_string());
        if answer.result >= 0 && !case.module.is_empty() {
            let files = capture::sysfs(guest, &case.module.replace('/', "!"))?;
            let parameters = files.into_iter().filter_map(|(path, contents)| {
                Some((path.strip_prefix("parameters/")?.to_owned(), contents))
            });
            answer.parameters = parameters.collect();
        }
    }
    if case.file.is_none() || answer.result >= 0 && !case.keep {
        let mut batch = guest.batch();
        let name = batch.text(&case.module);
        let flags = Argument::Value(u64::from(case.delete_flags));
        let delete = batch.call(numbers.delete_module, &[name, flags]);
        let tainted = batch.read_file(numbers, "/proc/sys/kernel/tainted", 64);
        let (log, buffer) = batch.buffer(LOG);
        let log_step = batch.call(numbers.syslog, &[Argument::Value(4), buffer, Argument::Value(LOG)]);
        let got = guest.run(&batch)?;
        answer.deleted = Some(got.result(delete));
        answer.delete_tainted = text(got.file(tainted).unwrap_or_default()).trim().parse().unwrap_or(0);
        answer.delete_log = lines(&Text(got.buffer(log, got.result(log_step))).to_string());
    }
    Ok(answer)
}

/// Parts of the kernel that talk when they like.
const NOISE: &[&str] = &["clocksource: ", "sched_clock: ", "tsc: ", "random: ", "hrtimer: "];

/// Lines of the log without their times: `<4>[    1.234567] text` becomes `<4>text`.
fn lines(log: &str) -> Vec<String> {
    let noise =
        |line: &String| NOISE.iter().any(|name| line.get(3..).is_some_and(|text| text.starts_with(name)));
    log.lines()
        .map(|line| match line.split_once("> [").or_else(|| line.split_once(">[")) {
            Some((level, rest)) if line.starts_with('<') => {
                let rest = rest.split_once("] ").map_or(rest, |(_, rest)| rest);
                format!("{level}>{rest}")
            }
            _ => line.to_owned(),
        })
        .filter(|line| !noise(line))
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_cut_off_and_levels_stay() {
        let log = "<4>[    1.234567] hello: a [b] c\n<6>[12345.000001] x\n<6>[12345.000002] tsc: y\n";
        assert_eq!(super::lines(log), ["<4>hello: a [b] c", "<6>x"]);
    }
}
