//! What a case is: a command for two tools in the same state, and what must come out.

/// Who does a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pair {
    /// kmod's commands, then ours.
    Kmod,
    /// busybox's, then ours with `MODUTILS_STYLE=busybox`.
    Busybox,
    /// Only ours: what no other tool does.
    Ours,
}

/// A tool as the guest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Kmod,
    Busybox,
    Ours,
    /// Ours with busybox's habits.
    Style,
}

impl Tool {
    /// Its directory below `/tools`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Tool::Kmod => "kmod",
            Tool::Busybox => "busybox",
            Tool::Ours => "ours",
            Tool::Style => "style",
        }
    }
}

impl Pair {
    /// The tool that is right by definition, if there is one, and ours.
    pub(crate) const fn tools(self) -> (Option<Tool>, Tool) {
        match self {
            Pair::Kmod => (Some(Tool::Kmod), Tool::Ours),
            Pair::Busybox => (Some(Tool::Busybox), Tool::Style),
            Pair::Ours => (None, Tool::Ours),
        }
    }
}

/// What can be different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The exit code.
    Code,
    /// Standard output.
    Out,
    /// Standard error: its first line, and the lines of the reference among ours.
    Err,
    /// /proc/modules without addresses.
    Modules,
    /// What the case looks at.
    Look,
}

/// An intended difference: the row of the table, the parts in which it shows, and what ours says in them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference {
    pub(crate) row: &'static str,
    pub(crate) parts: &'static [Part],
    pub(crate) ours: &'static str,
}

/// A command and what surrounds it. All texts are shell; the working directory has the files.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) pair: Pair,
    /// Makes the state; by kmod's commands. Must be silent and succeed.
    pub(crate) before: &'static str,
    /// What is compared. `insmod` and so on are the tool's.
    pub(crate) run: &'static str,
    /// Prints more of what the command did.
    pub(crate) look: &'static str,
    /// Undoes what is not undone by unloading all modules and emptying /etc/modprobe.d.
    pub(crate) after: &'static str,
    /// Exit code of the reference (of ours, if there is none).
    pub(crate) code: u8,
    /// The first line on its standard error; empty: not said here.
    pub(crate) says: &'static str,
    /// Each must stand in what ours says after its first line.
    pub(crate) explains: &'static [&'static str],
    /// Each must stand in what ours prints or in what the case looks at.
    pub(crate) shows: &'static [&'static str],
    pub(crate) difference: Option<Difference>,
}

impl Case {
    const fn new(pair: Pair, name: &'static str, run: &'static str, code: u8, says: &'static str) -> Case {
        Case {
            name,
            pair,
            before: "",
            run,
            look: "",
            after: "",
            code,
            says,
            explains: &[],
            shows: &[],
            difference: None,
        }
    }

    /// A command that succeeds.
    pub(crate) const fn ok(name: &'static str, run: &'static str) -> Case {
        Case::new(Pair::Kmod, name, run, 0, "")
    }

    /// A command that fails with code 1 and this first line.
    pub(crate) const fn fails(name: &'static str, run: &'static str, says: &'static str) -> Case {
        Case::new(Pair::Kmod, name, run, 1, says)
    }

    /// A command of busybox, its exit code and its first line.
    pub(crate) const fn busybox(name: &'static str, run: &'static str, code: u8, says: &'static str) -> Case {
        Case::new(Pair::Busybox, name, run, code, says)
    }

    /// A command that only we have.
    pub(crate) const fn ours(name: &'static str, run: &'static str, code: u8, says: &'static str) -> Case {
        Case::new(Pair::Ours, name, run, code, says)
    }

    pub(crate) const fn before(self, before: &'static str) -> Case {
        Case { before, ..self }
    }

    pub(crate) const fn look(self, look: &'static str) -> Case {
        Case { look, ..self }
    }

    pub(crate) const fn after(self, after: &'static str) -> Case {
        Case { after, ..self }
    }

    pub(crate) const fn code(self, code: u8) -> Case {
        Case { code, ..self }
    }

    pub(crate) const fn explains(self, explains: &'static [&'static str]) -> Case {
        Case { explains, ..self }
    }

    pub(crate) const fn shows(self, shows: &'static [&'static str]) -> Case {
        Case { shows, ..self }
    }

    pub(crate) const fn differs(self, row: &'static str, parts: &'static [Part], ours: &'static str) -> Case {
        Case { difference: Some(Difference { row, parts, ours }), ..self }
    }
}
