//! Loading.

use std::ffi::OsStr;
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lkm_module::Errno;
use lkm_syscall::LogMark;
use lkm_tree::lookup::Action;
use lkm_tree::lookup::Found;
use lkm_tree::lookup::LookupError;
use lkm_tree::lookup::Named;
use lkm_tree::lookup::Plan;
use lkm_tree::lookup::Step;

use super::Fatal;
use super::Session;
use super::state::State;
use crate::explain;
use crate::insmod::insert;

/// Why a module was not loaded.
enum Failure {
    /// The kernel refused it, or its file could not be read.
    Refused { step: Box<Step>, options: Vec<u8>, errno: Errno, log: Option<LogMark> },
    /// There is no file for it, for this reason.
    NoFile(LookupError),
    /// A line forbids it.
    Denied(Box<Step>),
    /// Its command failed, which has been told.
    Command,
    /// It is there already.
    Loaded,
    /// Its load could not be laid out.
    Plan(LookupError),
}

impl Failure {
    fn errno(&self) -> Errno {
        match self {
            Failure::Refused { errno, .. } => *errno,
            Failure::NoFile(_) => Errno::ENOENT,
            Failure::Denied(_) => Errno::EPERM,
            Failure::Command => Errno::EINVAL,
            Failure::Loaded => Errno::EEXIST,
            Failure::Plan(error) => error.errno(),
        }
    }

    /// What stands behind the name in the message.
    fn text(&self) -> &'static str {
        match self.errno() {
            Errno::EEXIST => "Module already in kernel",
            Errno::ENOENT => "Unknown symbol in module, or unknown parameter (see dmesg)",
            other => other.text(),
        }
    }
}

impl Session<'_, '_> {
    /// Loads what several names stand for.
    pub(super) fn load_all(&mut self, names: &[&OsStr]) -> Result<bool, Fatal> {
        let mut good = true;
        for name in names {
            good &= self.load(name, b"")?;
        }
        Ok(good)
    }

    /// Loads what a name stands for. Of several modules the last one says whether it went well, as in kmod.
    pub(super) fn load(&mut self, name: &OsStr, options: &[u8]) -> Result<bool, Fatal> {
        let found = self.find(name)?;
        let mut good = !found.is_empty();
        for found in found {
            if self.request.lookup_only {
                self.context.print(&[&found.name[..], b"\n"].concat());
                continue;
            }
            let result = self.load_one(&found, options);
            good = result.is_ok();
            if let Err(failure) = result {
                self.tell(&found, failure);
            }
        }
        Ok(good)
    }

    /// What a name stands for. If it is nothing, this has been told.
    pub(super) fn find(&mut self, name: &OsStr) -> Result<Vec<Found>, Fatal> {
        let bytes = name.as_bytes();
        if is_path(bytes) {
            let path = Path::new(name);
            let there = std::path::absolute(path).and_then(|path| std::fs::metadata(&path).map(|_| path));
            return match there {
                Ok(path) => Ok(vec![self.modules.by_path(&path)]),
                Err(error) => {
                    let text = crate::insmod::errno_of(&error).text().as_bytes();
                    self.give_up(&[b"Failed to get module from path ", bytes, b": ", text])?;
                    Ok(Vec::new())
                }
            };
        }
        match self.modules.find(bytes) {
            Ok(found) => Ok(found),
            Err(error) => {
                let directory = self.directory().as_os_str().as_bytes().to_vec();
                let result = self.give_up(&[b"Module ", bytes, b" not found in directory ", &directory]);
                self.explain_lookup(bytes, &error);
                result.map(|_| Vec::new())
            }
        }
    }

    fn load_one(&mut self, found: &Found, options: &[u8]) -> Result<(), Failure> {
        if !self.request.show_depends && self.state(&found.name).is_in_kernel() {
            return if self.request.first_time { Err(Failure::Loaded) } else { Ok(()) };
        }
        let counts = self.request.use_blacklist || found.alias.is_some();
        if counts && self.modules.config().blacklisted(&found.name).is_some() {
            return Ok(());
        }
        let named = if self.request.ignore_commands { Named::Alone } else { Named::WithCommands };
        // As with the modules, what would be given back is not needed again.
        let plan = ManuallyDrop::new(self.modules.plan(found, named).map_err(Failure::Plan)?);
        for (name, _) in &plan.soft_problems {
            self.tell_soft_problem(name);
        }
        self.refuse_denied(&plan)?;
        self.refuse_absent(&plan)?;
        for step in &plan.steps {
            match self.take(step, options, &plan.problem) {
                Ok(()) => {}
                Err(Failure::Loaded) if step.is_named && self.request.first_time => {
                    return Err(Failure::Loaded);
                }
                Err(Failure::Loaded) => {}
                Err(_) if !step.required => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    pub(super) fn tell_soft_problem(&mut self, name: &[u8]) {
        self.context.error(&[b"failed to lookup soft dependency '", name, b"', continuing anyway."]);
    }

    /// Nothing is loaded for a module that lacks the file of something it needs.
    fn refuse_absent(&mut self, plan: &Plan) -> Result<(), Failure> {
        if self.request.dry_run {
            return Ok(());
        }
        let inserted =
            plan.steps.iter().filter(|step| step.required && matches!(step.action, Action::Insert));
        for (step, path) in inserted.filter_map(|step| Some((step, step.path.as_ref()?))) {
            if std::fs::metadata(path).is_err() && !self.state(&step.name).is_in_kernel() {
                let (step, options) = (Box::new(step.clone()), Vec::new());
                return Err(Failure::Refused { step, options, errno: Errno::ENOENT, log: None });
            }
        }
        Ok(())
    }

    /// Nothing is loaded for a module that cannot be used in the end.
    fn refuse_denied(&mut self, plan: &Plan) -> Result<(), Failure> {
        for step in plan.steps.iter().filter(|step| step.required && step.denied.is_some()) {
            if self.request.show_depends || !self.state(&step.name).is_in_kernel() {
                return Err(Failure::Denied(Box::new(step.clone())));
            }
        }
        Ok(())
    }

    /// One step of a load.
    fn take(&mut self, step: &Step, extra: &[u8], problem: &Option<LookupError>) -> Result<(), Failure> {
        let state = if self.request.show_depends { State::Absent } else { self.state(&step.name) };
        if state.is_in_kernel() {
            return Err(Failure::Loaded);
        }
        if step.denied.is_some() {
            return Err(Failure::Denied(Box::new(step.clone())));
        }
        let extra = if step.is_named { extra } else { b"" };
        let blank: &[u8] = if step.options.is_empty() { b"" } else { b" " };
        let options = [&step.options, blank, extra].concat();
        if self.request.show {
            self.show(step, &options);
        }
        if self.request.dry_run {
            return Ok(());
        }
        if let Action::Run(line) = &step.action {
            // A failure has been told, and is none that ends the command.
            return match self.run_command("install", &step.name, line, &options) {
                Ok(true) => Ok(()),
                Ok(false) | Err(Fatal) => Err(Failure::Command),
            };
        }
        let Some(path) = &step.path else {
            self.context.error(&[b"could not find module by name='", &step.name, b"'"]);
            return Err(Failure::NoFile(problem.clone().unwrap_or(LookupError::Unknown(step.name.clone()))));
        };
        let log = self.context.log_mark();
        match insert(self.context, path.as_os_str(), &options, self.request.flags.0) {
            Ok(()) => Ok(()),
            Err(Errno::EEXIST) => Err(Failure::Loaded),
            Err(errno) => Err(Failure::Refused { step: Box::new(step.clone()), options, errno, log }),
        }
    }

    /// Prints a step as scripts expect it: a blank always follows the path.
    fn show(&mut self, step: &Step, options: &[u8]) {
        let (word, what): (&[u8], &[u8]) = match (&step.action, &step.path) {
            (Action::Run(line), _) => (b"install ", &line.command),
            (Action::Insert, Some(path)) => (b"insmod ", path.as_os_str().as_bytes()),
            (Action::Insert, None) => {
                // Only an alias leads to a name that nothing has.
                if self.modules.is_builtin(&step.name) {
                    self.context.print(&[b"builtin ", &step.name[..], b"\n"].concat());
                }
                return;
            }
        };
        for part in [word, what, b" ", options, b"\n"] {
            self.context.print(part);
        }
    }

    fn state(&self, name: &[u8]) -> State {
        State::of(self.context, &self.modules, name)
    }

    /// Says that a module was not loaded, and why.
    fn tell(&mut self, found: &Found, failure: Failure) {
        let mut parts: Vec<&[u8]> = vec![b"could not insert '", &found.name, b"': "];
        let denied;
        if let Failure::Denied(step) = &failure {
            denied = denial(step, found);
            parts.push(denied.as_bytes());
        } else {
            parts.push(failure.text().as_bytes());
        }
        self.context.error(&parts);
        match failure {
            Failure::Refused { step, options, errno, log } => {
                let load = explain::Load {
                    path: step.path.as_deref().unwrap_or(Path::new("")),
                    directory: Some(self.modules.directory()),
                    needed_by: (!step.is_named).then_some(&found.name[..]),
                    parameters: &options,
                    flags: self.request.flags.0,
                    errno,
                    log,
                };
                explain::refusal(self.context, explain::Attempt::Load(load));
            }
            Failure::NoFile(error) => self.explain_lookup(&found.name, &error),
            Failure::Denied(step) => {
                if let Some(line) = &step.denied {
                    let needed_by = (!step.is_named).then_some(&found.name[..]);
                    let attempt = explain::Attempt::Denied(&step.name, &line.origin, needed_by);
                    explain::refusal(self.context, attempt);
                }
            }
            Failure::Plan(error) => self.explain_lookup(&found.name, &error),
            Failure::Command | Failure::Loaded => {}
        }
    }

    fn explain_lookup(&mut self, name: &[u8], error: &LookupError) {
        let attempt = match error {
            LookupError::BadIndex(path, error) => explain::Attempt::Index(path, error),
            _ => explain::Attempt::LookUp(name, self.modules.directory()),
        };
        explain::refusal(self.context, attempt);
    }
}

fn denial(step: &Step, found: &Found) -> String {
    let line = step.denied.as_ref().map_or_else(String::new, |line| line.origin.to_string());
    if step.name == found.name {
        format!("denied by {line}")
    } else {
        format!("it needs {}, which is denied by {line}", step.name.escape_ascii())
    }
}

/// Whether a name is the path of a file.
fn is_path(name: &[u8]) -> bool {
    [&b"/"[..], b"./", b"../"].iter().any(|start| name.starts_with(start))
}
