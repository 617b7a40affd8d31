//! A case: a root directory, a kernel, command lines, and what has to come of them.

use crate::kernel::Kernel;
use crate::module::Module;

/// What the root of a case has in it besides the directories that all have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ground {
    /// The tree of [`crate::cases::ground`] with the indexes that kmod 30 makes.
    Indexed,
    /// The same tree without indexes.
    Bare,
    /// No `/lib/modules` at all.
    Empty,
}

/// A change of the root before the commands run.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A file with these contents.
    Put(String, Vec<u8>),
    /// A symbolic link: where it lies, where it leads.
    Link(String, String),
    /// A file or directory is gone.
    Remove(String),
    /// The indexes are made anew by kmod 30.
    Index,
    /// The file's time of modification is now, in seconds from now.
    Touch(String, i64),
    /// A file's bytes at the place are replaced.
    Patch(String, usize, Vec<u8>),
}

/// What a command has to answer.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// What kmod 30 answers.
    Kmod,
    /// This, and why kmod 30 is not asked.
    Written(Written),
}

/// An answer written out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    /// Why it is not kmod 30's; empty if kmod 30 may answer the same.
    pub(crate) why: &'static str,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
    /// What it prints is its own.
    pub(crate) any_out: bool,
    /// One call may be made again and again.
    pub(crate) repeats: bool,
    /// The calls, if they are told.
    pub(crate) calls: Option<Vec<String>>,
    /// Files that are written or changed, with contents if these are told. No others may be.
    pub(crate) files: Vec<(String, Option<String>)>,
}

/// A command line of a case.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) words: Vec<String>,
    pub(crate) expected: Expected,
    /// kmod 30 is given this instead, and the files it writes are taken to lie elsewhere: (words, from, to).
    pub(crate) like: Option<(Vec<String>, &'static str, &'static str)>,
    /// The lines of standard output may come in another order than kmod 30's.
    pub(crate) any_order: bool,
    /// What is printed more than kmod 30 prints: (before this, that).
    pub(crate) inserted: Option<(&'static str, &'static str)>,
    /// Files whose contents differ from kmod 30's: path and contents.
    pub(crate) instead: Vec<(String, &'static str)>,
    /// Lines that explain have to contain these texts.
    pub(crate) explained: Vec<&'static str>,
}

/// A case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Which command it is about.
    pub(crate) command: &'static str,
    /// What it is about.
    pub(crate) name: &'static str,
    /// It is one of the subjects that kmod's own suite has for the command line.
    pub(crate) classic: bool,
    pub(crate) ground: Ground,
    pub(crate) changes: Vec<Change>,
    pub(crate) kernel: Kernel,
    pub(crate) environment: Vec<(&'static str, &'static str)>,
    pub(crate) directory: &'static str,
    pub(crate) steps: Vec<Step>,
}

impl Case {
    /// A case of a command, over the indexed tree, without steps.
    pub(crate) fn new(command: &'static str, name: &'static str) -> Case {
        Case {
            command,
            name,
            classic: false,
            ground: Ground::Indexed,
            changes: Vec::new(),
            kernel: Kernel::default(),
            environment: Vec::new(),
            directory: "/",
            steps: Vec::new(),
        }
    }

    /// A case whose subject kmod's own suite has.
    pub(crate) fn classic(command: &'static str, name: &'static str) -> Case {
        Case { classic: true, ..Case::new(command, name) }
    }

    /// Over another ground.
    pub(crate) fn on(mut self, ground: Ground) -> Case {
        self.ground = ground;
        self
    }

    /// With a file.
    pub(crate) fn put(mut self, path: &str, contents: impl Into<Vec<u8>>) -> Case {
        self.changes.push(Change::Put(path.to_owned(), contents.into()));
        self
    }

    /// With a file of modprobe.d.
    pub(crate) fn conf(self, contents: &str) -> Case {
        self.put("etc/modprobe.d/case.conf", contents)
    }

    /// With a kernel command line.
    pub(crate) fn cmdline(self, contents: &str) -> Case {
        self.put("proc/cmdline", format!("{contents}\n"))
    }

    /// With a module in the directory of the release.
    pub(crate) fn module(self, path: &str, module: Module) -> Case {
        let path = format!("lib/modules/{}/{path}", crate::fixture::RELEASE);
        self.put(&path, module.file())
    }

    /// With a symbolic link.
    pub(crate) fn link(mut self, path: &str, target: &str) -> Case {
        self.changes.push(Change::Link(path.to_owned(), target.to_owned()));
        self
    }

    /// Without a file or directory.
    pub(crate) fn without(mut self, path: &str) -> Case {
        self.changes.push(Change::Remove(path.to_owned()));
        self
    }

    /// With indexes made anew after the changes so far.
    pub(crate) fn index(mut self) -> Case {
        self.changes.push(Change::Index);
        self
    }

    /// With a file that was changed so many seconds from now.
    pub(crate) fn touch(mut self, path: &str, seconds: i64) -> Case {
        self.changes.push(Change::Touch(path.to_owned(), seconds));
        self
    }

    /// With bytes of a file replaced.
    pub(crate) fn patch(mut self, path: &str, at: usize, bytes: &[u8]) -> Case {
        self.changes.push(Change::Patch(path.to_owned(), at, bytes.to_vec()));
        self
    }

    /// With a module loaded that so many others than modules hold.
    pub(crate) fn loaded(mut self, name: &str, held: u32, depends: &[&str]) -> Case {
        self.kernel.preload(name, held, depends);
        self
    }

    /// With a kernel of another kind.
    pub(crate) fn kernel(mut self, change: impl FnOnce(&mut Kernel)) -> Case {
        change(&mut self.kernel);
        self
    }

    /// With a kernel that does not load the module.
    pub(crate) fn refuses(mut self, name: &'static str, error: i64) -> Case {
        self.kernel.refuses.insert(name, error);
        self
    }

    /// With a kernel that does not unload the module.
    pub(crate) fn keeps(mut self, name: &'static str, error: i64) -> Case {
        self.kernel.keeps.insert(name, error);
        self
    }

    /// With a variable of the environment.
    pub(crate) fn environment(mut self, name: &'static str, value: &'static str) -> Case {
        self.environment.push((name, value));
        self
    }

    /// In this directory.
    pub(crate) fn within(mut self, directory: &'static str) -> Case {
        self.directory = directory;
        self
    }

    /// A command line that has to give what kmod 30 gives.
    pub(crate) fn run(mut self, line: &str) -> Case {
        let words = words(line);
        self.steps.push(Step {
            words,
            expected: Expected::Kmod,
            like: None,
            any_order: false,
            inserted: None,
            instead: Vec::new(),
            explained: Vec::new(),
        });
        self
    }

    /// The last command and those it starts write to one output. kmod 30's own lines come late where that is no terminal,
    /// so their order is not compared.
    pub(crate) fn in_any_order(mut self) -> Case {
        self.last().any_order = true;
        self
    }

    /// The last command writes this where kmod 30 writes something else.
    pub(crate) fn instead(mut self, path: &str, contents: &'static str) -> Case {
        self.last().instead.push((path.to_owned(), contents));
        self
    }

    /// The last command prints what kmod 30 prints, and before this text that one more.
    pub(crate) fn with_more(mut self, before: &'static str, more: &'static str) -> Case {
        self.last().inserted = Some((before, more));
        self
    }

    /// kmod 30, which does not know the last command's options, answers this command instead; the files that it writes
    /// under `from` belong under `to`.
    pub(crate) fn like(mut self, line: &str, from: &'static str, to: &'static str) -> Case {
        self.last().like = Some((words(line), from, to));
        self
    }

    /// The last command's answer is not taken from kmod 30, because of this; it is what is told behind this, else success
    /// and silence.
    pub(crate) fn unlike(mut self, why: &'static str) -> Case {
        self.written().why = why;
        self
    }

    /// The last command prints this.
    pub(crate) fn out(mut self, text: &str) -> Case {
        text.clone_into(&mut self.written().out);
        self
    }

    /// The last command prints something that is its own.
    pub(crate) fn any_out(mut self) -> Case {
        self.written().any_out = true;
        self
    }

    /// The last command says this on standard error.
    pub(crate) fn err(mut self, text: &str) -> Case {
        text.clone_into(&mut self.written().err);
        self
    }

    /// The last command ends with this code.
    pub(crate) fn code(mut self, code: i32) -> Case {
        self.written().code = code;
        self
    }

    /// The last command makes these calls.
    pub(crate) fn calls(mut self, calls: &[&str]) -> Case {
        self.written().calls = Some(calls.iter().map(|&call| call.to_owned()).collect());
        self
    }

    /// The last command makes these calls, each once or more.
    pub(crate) fn repeated_calls(mut self, calls: &[&str]) -> Case {
        self.written().repeats = true;
        self.calls(calls)
    }

    /// The last command writes this file.
    pub(crate) fn writes(mut self, path: &str, contents: Option<&str>) -> Case {
        self.written().files.push((path.to_owned(), contents.map(str::to_owned)));
        self
    }

    /// The last command explains its refusal with this among its words.
    pub(crate) fn explains(mut self, text: &'static str) -> Case {
        self.last().explained.push(text);
        self
    }

    /// A command of it goes on for a time that kmod 30 does not keep to.
    pub(crate) fn waits(&self) -> bool {
        let repeats = |step: &Step| matches!(&step.expected, Expected::Written(written) if written.repeats);
        self.steps.iter().any(repeats)
    }

    fn last(&mut self) -> &mut Step {
        self.steps.last_mut().expect("a command stands before what it answers")
    }

    fn written(&mut self) -> &mut Written {
        let step = self.last();
        if let Expected::Kmod = step.expected {
            step.expected = Expected::Written(Written::default());
        }
        match &mut step.expected {
            Expected::Written(written) => written,
            Expected::Kmod => unreachable!("just written"),
        }
    }
}

/// Words of a line, separated by blanks; single quotes keep blanks together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for letter in line.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_as_a_shell_would() {
        assert_eq!(words("modprobe  -D 'two words' a='' ''"), ["modprobe", "-D", "two words", "a=", ""]);
    }
}
