//! Running a case with one program.

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::SystemTime;

use nix::unistd::Pid;

use crate::case::Case;
use crate::case::Change;
use crate::case::Ground;
use crate::cases;
use crate::child;
use crate::fixture;
use crate::fixture::Node;
use crate::trace;
use crate::trace::End;

/// Everything that a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) end: End,
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
    pub(crate) calls: Vec<String>,
    pub(crate) loaded: Vec<String>,
    pub(crate) files: std::collections::BTreeMap<String, Option<Node>>,
}

impl Answer {
    /// What it says, in a line.
    pub(crate) fn text(&self) -> String {
        format!(
            "{:?} {:?} {:?}",
            self.end,
            String::from_utf8_lossy(&self.out),
            String::from_utf8_lossy(&self.err)
        )
    }

    /// Whether this is the other answer, apart from addresses in messages of kmod 30's library and the weak dependencies
    /// that only our indexes have.
    pub(crate) fn says_the_same(&self, other: &Answer) -> bool {
        let plain = |answer: &Answer| {
            let without = |bytes: &[u8], part: &str| -> Vec<u8> {
                let text = String::from_utf8_lossy(bytes);
                text.split_inclusive('\n').filter(|line| !line.contains(part)).collect::<String>().into()
            };
            let (out, err) = (without(&answer.out, "weakdep "), without(&answer.err, "ctx=0x"));
            let mut calls = answer.calls.clone();
            // How often a call is tried again depends on the time that each takes.
            calls.dedup();
            Answer { out, err, calls, ..answer.clone() }
        };
        plain(self) == plain(other)
    }
}

/// The names that a program under test is called by.
pub(crate) const NAMES: &[&str] = &["depmod", "insmod", "kmod", "lsmod", "modinfo", "modprobe", "rmmod"];
/// Programs of the shell that install commands use.
const SHELL: &[&str] = &["sh", "cat", "echo", "false", "sleep", "touch", "true"];

/// Where the cases run: grounds made once, tools, and a root at a time.
pub(crate) struct Workshop {
    directory: PathBuf,
    depmod: PathBuf,
}

impl Workshop {
    /// Makes the grounds in a directory of its own, with the indexes that this depmod makes; `shell` is a static busybox.
    pub(crate) fn new(directory: PathBuf, shell: &Path, depmod: PathBuf) -> io::Result<Workshop> {
        fs::create_dir_all(&directory)?;
        let workshop = Workshop { directory, depmod };
        let bin = workshop.directory.join("bin");
        fs::create_dir_all(&bin)?;
        fs::copy(shell, bin.join("busybox"))?;
        for name in SHELL {
            symlink("busybox", bin.join(name))?;
        }
        for ground in [Ground::Bare, Ground::Indexed, Ground::Empty] {
            let root = workshop.ground(ground);
            fixture::skeleton(&root)?;
            if ground != Ground::Empty {
                cases::ground(&root)?;
            }
            if ground == Ground::Indexed {
                fixture::depmod(&workshop.depmod, &root)?;
            }
        }
        Ok(workshop)
    }

    fn ground(&self, ground: Ground) -> PathBuf {
        self.directory.join(format!("{ground:?}"))
    }

    /// A directory in which a program has the names of all commands.
    pub(crate) fn tools(&self, label: &str, program: &Path) -> io::Result<PathBuf> {
        let directory = self.directory.join(format!("tools-{label}"));
        fs::create_dir_all(&directory)?;
        fs::copy(program, directory.join("program"))?;
        for name in NAMES {
            symlink("program", directory.join(name))?;
        }
        Ok(directory)
    }

    /// Runs all commands of a case in one root; as `reference`, with the words that kmod 30 is given.
    pub(crate) fn run(&self, case: &Case, tools: &Path, reference: bool) -> io::Result<Vec<Answer>> {
        let root = self.directory.join("root");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fixture::copy(&self.ground(case.ground), &root)?;
        let mut kernel = case.kernel.clone();
        kernel.show(&root)?;
        if kernel.mounted {
            fixture::put(&root, "proc/cmdline", b"quiet\n")?;
        }
        for change in &case.changes {
            self.apply(change, &root)?;
        }
        let mut answers = Vec::new();
        for step in &case.steps {
            let before = fixture::snapshot(&root)?;
            kernel.calls.clear();
            let (out, err) = (self.directory.join("out"), self.directory.join("err"));
            let like = step.like.as_ref().filter(|_| reference);
            let words = like.map_or(&step.words, |(words, ..)| words);
            let pid = self.start(case, words, tools, &root, &out, &err)?;
            let end = trace::follow(pid, &mut kernel, &root)?;
            let mut files = fixture::changes(&before, &fixture::snapshot(&root)?);
            if let Some((_, from, to)) = like {
                files = files
                    .into_iter()
                    .map(|(path, node)| match path.strip_prefix(from) {
                        Some(rest) => (format!("{to}{rest}"), node),
                        None => (path, node),
                    })
                    .collect();
            }
            answers.push(Answer {
                end,
                out: fs::read(&out)?,
                err: fs::read(&err)?,
                calls: kernel.calls.clone(),
                loaded: kernel.loaded(),
                files,
            });
        }
        Ok(answers)
    }

    fn start(
        &self,
        case: &Case,
        words: &[String],
        tools: &Path,
        root: &Path,
        out: &Path,
        err: &Path,
    ) -> io::Result<Pid> {
        let child = Command::new(std::env::current_exe()?)
            .arg(child::WORD)
            .args([root, tools, &self.directory.join("bin")])
            .arg(case.directory)
            .args(words)
            .env_clear()
            .env("PATH", "/sbin:/bin")
            .envs(case.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(out)?)
            .stderr(File::create(err)?)
            .spawn()?;
        i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)
    }

    fn apply(&self, change: &Change, root: &Path) -> io::Result<()> {
        match change {
            Change::Put(path, bytes) => fixture::put(root, path, bytes),
            Change::Link(path, target) => symlink(target, root.join(path)),
            Change::Remove(path) => {
                let path = root.join(path);
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
            }
            Change::Index => fixture::depmod(&self.depmod, root),
            Change::Touch(path, seconds) => {
                let by = Duration::from_secs(seconds.unsigned_abs());
                let now = SystemTime::now();
                let time = if *seconds < 0 { now - by } else { now + by };
                File::open(root.join(path))?.set_modified(time)
            }
            Change::Patch(path, at, new) => {
                let path = root.join(path);
                let mut bytes = fs::read(&path)?;
                let place =
                    bytes.get_mut(*at..*at + new.len()).ok_or_else(|| io::Error::other("patch outside"))?;
                place.copy_from_slice(new);
                fs::write(path, bytes)
            }
        }
    }
}
