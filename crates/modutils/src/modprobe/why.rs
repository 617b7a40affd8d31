//! `--why`: which line of the configuration and which index decide about a name.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use lkm_tree::config::Config;
use lkm_tree::config::Origin;
use lkm_tree::fnmatch::fnmatch;
use lkm_tree::lookup::Action;
use lkm_tree::lookup::Found;
use lkm_tree::lookup::IndexFile;
use lkm_tree::lookup::Named;
use lkm_tree::lookup::Plan;
use lkm_tree::lookup::Reason;
use lkm_tree::lookup::Rules;
use lkm_tree::lookup::Source;
use lkm_tree::lookup::Step;
use lkm_tree::name::underscores;

use super::Fatal;
use super::Session;
use super::state::State;

/// Tells what decides about the modules that a name stands for. True if `modprobe NAME` would not fail for what is known
/// before it is tried.
pub(super) fn why(session: &mut Session<'_, '_>, name: &OsStr) -> Result<bool, Fatal> {
    let found = session.find(name)?;
    let mut good = !found.is_empty();
    for module in &found {
        good &= session.tell_why(name.as_bytes(), module);
    }
    Ok(good)
}

/// A line of what is told: a title and what belongs to it.
type Row = (&'static str, String);

impl Session<'_, '_> {
    fn tell_why(&mut self, given: &[u8], found: &Found) -> bool {
        let name = text(&found.name);
        self.row(&format!("{}: module {name}, {}\n", text(given), self.source(given, found)));
        let state = State::of(self.context, &self.modules, &found.name);
        let mut rows: Vec<Row> = Vec::new();
        rows.push(("state", state_text(state).to_owned()));
        self.add_file(found, &mut rows);
        self.add_lines(found, &mut rows);
        let named = if self.request.ignore_commands { Named::Alone } else { Named::WithCommands };
        let plan = self.modules.plan(found, named);
        let (good, verdict, steps) = self.verdict(found, state, plan.as_ref().ok());
        rows.push(("so", verdict));
        rows.extend(steps.iter().map(|step| ("", self.step_text(step))));
        for (title, text) in rows {
            self.row(&format!("  {title:<10} {text}\n"));
        }
        good
    }

    fn row(&mut self, line: &str) {
        self.context.print(line.as_bytes());
    }

    /// What knew the name.
    fn source(&self, given: &[u8], found: &Found) -> String {
        match &found.source {
            Source::ConfigAlias(origin) => {
                let pattern = text(found.alias.as_deref().unwrap_or_default());
                let line = format!("by alias {pattern} {} in {origin}", text(&found.name));
                let normal = underscores(given).unwrap_or_default();
                let hidden = self.modules.path(&normal).is_ok_and(|path| path.is_some());
                if hidden && normal != found.name {
                    format!("{line}, which comes before the module {}", text(&normal))
                } else {
                    line
                }
            }
            Source::Dependencies => self.by(IndexFile::Dependencies, "its name"),
            Source::Symbols => self.by(IndexFile::Symbols, "a symbol that it exports"),
            Source::Command(origin) => format!("by the command for it in {origin}; no index knows it"),
            Source::Aliases => self.by_pattern(IndexFile::Aliases, given, found),
            Source::Builtin => self.by(IndexFile::Builtin, "its name"),
            Source::BuiltinAliases => self.by_pattern(IndexFile::BuiltinAliases, given, found),
            Source::Path(path) => format!("by its file {}", path.display()),
        }
    }

    fn by(&self, index: IndexFile, what: &str) -> String {
        format!("by {what} in {}", self.modules.index_path(index).display())
    }

    fn by_pattern(&self, index: IndexFile, given: &[u8], found: &Found) -> String {
        let name = underscores(given).unwrap_or_default();
        let mut patterns = Vec::new();
        let _ = self.modules.for_each(index, |pattern, module| {
            if module == found.name && fnmatch(pattern, &name) {
                patterns.push(text(pattern));
            }
        });
        self.by(index, &format!("alias {}", patterns.join(" and ")))
    }

    fn add_file(&self, found: &Found, rows: &mut Vec<Row>) {
        match self.modules.path(&found.name) {
            Ok(Some(path)) => {
                let missing = if path.exists() { "" } else { ", which is not there" };
                rows.push(("file", format!("{}{missing}", path.display())));
            }
            Ok(None) => {}
            Err(error) => rows.push(("file", format!("not known: {error}"))),
        }
        let needed = self.modules.dependencies(&found.name).unwrap_or_default();
        let names: Vec<String> = needed.iter().map(|module| self.name_and_state(&module.name)).collect();
        if !names.is_empty() {
            rows.push(("needs", names.join(", ")));
        }
    }

    fn name_and_state(&self, name: &[u8]) -> String {
        match State::of(self.context, &self.modules, name) {
            State::Absent => text(name),
            state => format!("{} ({})", text(name), state_text(state)),
        }
    }

    /// The lines of the configuration that are about the module.
    fn add_lines(&self, found: &Found, rows: &mut Vec<Row>) {
        let config: &Config = self.modules.config();
        let name = &found.name;
        let Rules { every_softdep_line, .. } = self.modules.rules();
        for line in config.deny.iter().filter(|line| fnmatch(&line.pattern, name)) {
            rows.push(("deny", line.origin.to_string()));
        }
        let by_name = found.alias.is_none();
        for line in config.blacklist.iter().filter(|line| *line.module == **name) {
            let counts = if by_name && !self.request.use_blacklist {
                "; it counts for aliases and not for the name, unless --use-blacklist is given"
            } else {
                ""
            };
            rows.push(("blacklist", format!("{}{counts}", line.origin)));
        }
        for (title, lines) in [("install", &config.install), ("remove", &config.remove)] {
            for (number, line) in lines.iter().filter(|line| fnmatch(&line.pattern, name)).enumerate() {
                rows.push((title, said(&line.command, &line.origin, number == 0)));
            }
        }
        for line in &config.options {
            if *line.module == **name || found.alias.as_deref() == Some(&line.module) {
                rows.push(("options", said(&line.options, &line.origin, true)));
            }
        }
        for (number, line) in config.soft_dependencies_of(name).enumerate() {
            let mut names = Vec::new();
            for (title, list) in
                [(&b"pre:"[..], line.before().collect::<Vec<_>>()), (b"post:", line.after().collect())]
            {
                if !list.is_empty() {
                    names.push(title);
                    names.extend(list);
                }
            }
            rows.push(("softdep", said(&names.join(&b' '), &line.origin, number == 0 || every_softdep_line)));
        }
        for (number, line) in config.weak_dependencies_of(name).enumerate() {
            let counts = number == 0 || every_softdep_line;
            rows.push(("weakdep", said(&line.names().collect::<Vec<_>>().join(&b' '), &line.origin, counts)));
        }
    }

    /// What a load would come to: whether it goes well as far as is known, a sentence, and the steps.
    fn verdict<'p>(
        &self,
        found: &Found,
        state: State,
        plan: Option<&'p Plan>,
    ) -> (bool, String, Vec<&'p Step>) {
        let none = Vec::new();
        if state.is_in_kernel() {
            return (true, format!("nothing is done: it is {}", state_text(state)), none);
        }
        let aliased = self.request.use_blacklist || found.alias.is_some();
        if let Some(line) = self.modules.config().blacklisted(&found.name).filter(|_| aliased) {
            return (true, format!("nothing is done: it is blacklisted by {}", line.origin), none);
        }
        let Some(plan) = plan else { return (false, "its load would never end".to_owned(), none) };
        let absent = |step: &&Step| !State::of(self.context, &self.modules, &step.name).is_in_kernel();
        let mut steps: Vec<&Step> = plan.steps.iter().filter(absent).collect();
        // What comes up again is there by then.
        let mut seen = BTreeSet::new();
        steps.retain(|step| seen.insert(&step.name));
        let denied = steps.iter().find(|step| step.required && step.denied.is_some());
        if let Some((step, line)) = denied.and_then(|step| Some((step, step.denied.as_ref()?))) {
            let verdict = if step.is_named {
                format!("it is refused: denied by {}", line.origin)
            } else {
                format!("it is refused: it needs {}, which is denied by {}", text(&step.name), line.origin)
            };
            return (false, verdict, none);
        }
        let lost = steps.iter().find(|step| step.required && step.path.is_none());
        if let Some(step) = lost.filter(|step| step.action == Action::Insert) {
            let reason = plan.problem.as_ref().map_or("no index knows it".to_owned(), ToString::to_string);
            return (false, format!("it fails: there is no file for {}: {reason}", text(&step.name)), none);
        }
        (true, "this is done, in this order:".to_owned(), steps)
    }

    fn step_text(&self, step: &Step) -> String {
        let done = match (&step.action, &step.path) {
            (Action::Run(line), _) => format!("install {}", text(&line.command)),
            (Action::Insert, Some(path)) => format!("insmod {}", path.display()),
            (Action::Insert, None) => format!("nothing, {} has no file", text(&step.name)),
        };
        let options =
            if step.options.is_empty() { String::new() } else { format!(" {}", text(&step.options)) };
        let skipped = match &step.denied {
            Some(line) => format!(", but left out: denied by {}", line.origin),
            None => String::new(),
        };
        let reason = match &step.reason {
            Reason::Named => "as was asked".to_owned(),
            Reason::Dependency(of) => format!("{} needs it", text(of)),
            Reason::SoftBefore(of) => format!("softdep of {}, before it", text(of)),
            Reason::SoftAfter(of) => format!("softdep of {}, after it", text(of)),
        };
        format!("{done}{options} ({reason}{skipped})")
    }
}

fn said(what: &[u8], origin: &Origin, counts: bool) -> String {
    let rest = if counts { "" } else { "; passed over, an earlier line counts" };
    format!("{} ({origin}{rest})", text(what))
}

fn state_text(state: State) -> &'static str {
    match state {
        State::Absent => "not loaded",
        State::Builtin => "built in",
        State::Live => "loaded",
        State::Between => "being loaded or unloaded, or part of the running kernel",
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
