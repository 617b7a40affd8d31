//! A load laid out as a list of steps.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Found;
use super::LookupError;
use super::Modules;
use super::Source;
use crate::config::Command;
use crate::config::Deny;

/// Steps of one load, at most: what no real configuration comes near, and what a made one needs to fill the memory.
const LIMIT: usize = 100_000;

/// How the module that was named is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// By its `install` line if it has one, between its soft dependencies.
    WithCommands,
    /// Without its `install` line and its soft dependencies (`--ignore-install`). Those of its dependencies count.
    Alone,
}

/// Why a step is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The module was asked for.
    Named,
    /// This module needs it.
    Dependency(Vec<u8>),
    /// A `softdep` line wants it before this module.
    SoftBefore(Vec<u8>),
    /// A `softdep` line wants it after this module.
    SoftAfter(Vec<u8>),
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Gives the file to the kernel. A module without a file is built in, or the index does not know it.
    Insert,
    /// Runs the command of this `install` line.
    Run(Command),
}

/// One step of a load: whoever takes it leaves it out if the kernel has the module already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The module.
    pub name: Vec<u8>,
    /// The alias that it was found by, if it was found by one.
    pub alias: Option<Vec<u8>>,
    /// Its file, if the index knows the module; it may be missing.
    pub path: Option<PathBuf>,
    /// What is done.
    pub action: Action,
    /// The parameters that the configuration has for it.
    pub options: Vec<u8>,
    /// Why.
    pub reason: Reason,
    /// If the step fails, the load has failed. It goes on if a soft dependency is not loaded.
    pub required: bool,
    /// This is the module that was asked for.
    pub is_named: bool,
    /// The line that forbids this step. If it is [`required`](Step::required) and the kernel does not have the module
    /// yet, nothing of the plan is done.
    pub denied: Option<Deny>,
}

/// A load laid out as a list of steps.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The steps in their order. A module may occur several times.
    pub steps: Vec<Step>,
    /// Why the module that was asked for has no file, if that is not because the index does not know it.
    pub problem: Option<LookupError>,
}

/// A module by which it is told from others: as kmod has it, one found by an alias is not the one found by its name.
type Identity = (Vec<u8>, Option<Vec<u8>>);

/// What is still to be laid out, the next at the end.
enum Task {
    /// A module with all it needs, unless it was seen before.
    Visit { found: Found, reason: Reason, named: Option<Named> },
    /// A module between its soft dependencies.
    Surround { found: Found, path: Option<PathBuf>, reason: Reason, is_named: bool },
    /// The module itself.
    Add { found: Found, path: Option<PathBuf>, reason: Reason, is_named: bool, use_command: bool },
}

impl Modules {
    /// Lays out the load of a module: what it needs, each with its soft dependencies around it, and itself.
    ///
    /// A module that the index does not know has a step without a file, and so has every module if the index is missing or
    /// damaged; the latter is then [`Plan::problem`]. The only error is a load without end ([`LookupError::TooLong`]).
    pub fn plan(&self, found: &Found, named: Named) -> Result<Plan, LookupError> {
        let mut steps = Vec::new();
        let mut problem = None;
        let mut visited: BTreeSet<Identity> = BTreeSet::new();
        let mut required: BTreeSet<Identity> = BTreeSet::new();
        let mut tasks = vec![Task::Visit { found: found.clone(), reason: Reason::Named, named: Some(named) }];
        while let Some(task) = tasks.pop() {
            match task {
                Task::Visit { found, reason, named } => {
                    if !visited.insert(identity(&found)) {
                        continue;
                    }
                    let (path, needed) = self.files_of(&found).unwrap_or_else(|error| {
                        problem.get_or_insert(error);
                        (None, Vec::new())
                    });
                    if named.is_some() {
                        required.insert(identity(&found));
                        required.extend(needed.iter().map(identity_of_dependency));
                    }
                    let is_named = named.is_some();
                    let name = found.name.clone();
                    tasks.push(match named {
                        Some(Named::Alone) => Task::Add { found, path, reason, is_named, use_command: false },
                        _ => Task::Surround { found, path, reason, is_named },
                    });
                    for dependency in needed.into_iter().rev() {
                        tasks.push(Task::Surround {
                            found: Found { name: dependency.name, alias: None, source: Source::Dependencies },
                            path: Some(dependency.path),
                            reason: Reason::Dependency(name.clone()),
                            is_named: false,
                        });
                    }
                }
                Task::Surround { found, path, reason, is_named } => {
                    let (before, after) = self.soft_dependencies(&found.name);
                    let (before, after) = (self.find_each(&before), self.find_each(&after));
                    let use_command =
                        self.rules.install_with_softdep || before.is_empty() && after.is_empty();
                    let visit = |reason: fn(Vec<u8>) -> Reason| {
                        let reason = reason(found.name.clone());
                        move |found| Task::Visit { found, reason: reason.clone(), named: None }
                    };
                    let (visit_before, visit_after) = (visit(Reason::SoftBefore), visit(Reason::SoftAfter));
                    tasks.extend(after.into_iter().rev().map(visit_after));
                    tasks.push(Task::Add { found, path, reason, is_named, use_command });
                    tasks.extend(before.into_iter().rev().map(visit_before));
                }
                Task::Add { found, path, reason, is_named, use_command } => {
                    let command = if use_command { self.install_command(&found.name) } else { None };
                    steps.push(Step {
                        path,
                        action: command.map_or(Action::Insert, |line| Action::Run(line.clone())),
                        options: self.options(&found.name, found.alias.as_deref()),
                        reason,
                        required: false,
                        is_named,
                        denied: self.denied(&found.name).cloned(),
                        name: found.name,
                        alias: found.alias,
                    });
                }
            }
            if steps.len() + tasks.len() > LIMIT {
                return Err(LookupError::TooLong(found.name.clone()));
            }
        }
        for step in &mut steps {
            step.required = required.contains(&(step.name.clone(), step.alias.clone()));
            // The module may also have come up as a dependency of what is loaded around it.
            step.is_named = step.name == found.name && step.alias == found.alias;
            if step.is_named && named == Named::Alone {
                step.action = Action::Insert;
            }
        }
        Ok(Plan { steps, problem })
    }

    /// A module's own file and those of the modules it needs.
    fn files_of(&self, found: &Found) -> Result<(Option<PathBuf>, Vec<super::Dependency>), LookupError> {
        let given = match &found.source {
            Source::Path(path) => Some(path.clone()),
            _ => None,
        };
        match self.line(&found.name) {
            Ok(Some(line)) => {
                let path = given.unwrap_or_else(|| self.absolute(line.path));
                Ok((Some(path), self.needed_by(line).collect()))
            }
            Ok(None) => Ok((given, Vec::new())),
            Err(_) if given.is_some() => Ok((given, Vec::new())),
            Err(error) => Err(error),
        }
    }

    /// What names stand for; those that stand for nothing are left out.
    fn find_each(&self, names: &[&[u8]]) -> Vec<Found> {
        names.iter().filter_map(|name| self.find(name).ok()).flatten().collect()
    }
}

fn identity(found: &Found) -> Identity {
    (found.name.clone(), found.alias.clone())
}

fn identity_of_dependency(dependency: &super::Dependency) -> Identity {
    (dependency.name.clone(), None)
}
