//! A load laid out as a list of steps.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::Dependency;
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
    Dependency(Arc<[u8]>),
    /// A `softdep` line wants it before this module.
    SoftBefore(Arc<[u8]>),
    /// A `softdep` line wants it after this module.
    SoftAfter(Arc<[u8]>),
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
    /// Names in `softdep` lines that could not be looked up, and why; those that merely stand for nothing are not here.
    pub soft_problems: Vec<(Vec<u8>, LookupError)>,
}

/// A module by which it is told from others: as kmod has it, one found by an alias is not the one found by its name.
type Identity = (Vec<u8>, Option<Vec<u8>>);

/// What is still to be laid out, the next at the end.
enum Task {
    /// A module with all it needs, unless it was seen before.
    Visit { found: Found, reason: Reason, named: Option<Named> },
    /// A module, between its soft dependencies unless they are to be left out.
    Place { item: Item, alone: bool },
    /// The module itself.
    Add { item: Item },
}

/// A step to be.
struct Item {
    found: Found,
    path: Option<PathBuf>,
    reason: Reason,
    /// It is the module that was asked for, or one that this needs.
    required: bool,
    use_command: bool,
}

impl Modules {
    /// Lays out the load of a module: what it needs, each with its soft dependencies around it, and itself.
    ///
    /// A module that the index does not know has a step without a file, and so has every module if the index is missing or
    /// damaged; the latter is then [`Plan::problem`]. The only error is a load without end ([`LookupError::TooLong`]).
    pub fn plan(&self, found: &Found, named: Named) -> Result<Plan, LookupError> {
        let mut steps: Vec<Step> = Vec::new();
        let mut problem = None;
        let mut soft_problems = Vec::new();
        let mut visited: BTreeSet<Identity> = BTreeSet::new();
        let mut tasks = Vec::with_capacity(16);
        tasks.push(Task::Visit { found: found.clone(), reason: Reason::Named, named: Some(named) });
        while let Some(task) = tasks.pop() {
            match task {
                Task::Visit { found, reason, named } => {
                    if !visited.insert((found.name.clone(), found.alias.clone())) {
                        continue;
                    }
                    let (path, needed) = self.files_of(&found).unwrap_or_else(|error| {
                        problem.get_or_insert(error);
                        (None, Vec::new())
                    });
                    let name: Arc<[u8]> = found.name.as_slice().into();
                    let required = named.is_some();
                    let item = Item { found, path, reason, required, use_command: true };
                    tasks.push(Task::Place { item, alone: named == Some(Named::Alone) });
                    tasks.extend(needed.into_iter().rev().map(|dependency| {
                        let found =
                            Found { name: dependency.name, alias: None, source: Source::Dependencies };
                        let (path, reason) = (Some(dependency.path), Reason::Dependency(name.clone()));
                        Task::Place {
                            item: Item { found, path, reason, required, use_command: true },
                            alone: false,
                        }
                    }));
                }
                Task::Place { item, alone: true } => {
                    tasks.push(Task::Add { item: Item { use_command: false, ..item } });
                }
                Task::Place { mut item, alone: false } => {
                    let (before, after) = self.soft_dependencies(&item.found.name);
                    if before.is_empty() && after.is_empty() {
                        tasks.push(Task::Add { item });
                        continue;
                    }
                    let name: Arc<[u8]> = item.found.name.as_slice().into();
                    let mut visit = |reason: fn(Arc<[u8]>) -> Reason, names: &[&[u8]]| -> Vec<Task> {
                        let found = names.iter().flat_map(|name| self.find_soft(name, &mut soft_problems));
                        let reason = reason(name.clone());
                        found
                            .map(|found| Task::Visit { found, reason: reason.clone(), named: None })
                            .collect()
                    };
                    let (before, after) =
                        (visit(Reason::SoftBefore, &before), visit(Reason::SoftAfter, &after));
                    let has_soft = !before.is_empty() || !after.is_empty();
                    item.use_command = self.rules.install_with_softdep || !has_soft;
                    tasks.extend(after.into_iter().rev());
                    tasks.push(Task::Add { item });
                    tasks.extend(before.into_iter().rev());
                }
                Task::Add { item } => steps.push(self.step(item)),
            }
            if steps.len() + tasks.len() > LIMIT {
                return Err(LookupError::TooLong(found.name.clone()));
            }
        }
        // A module may have come up before, for the sake of what is loaded around others.
        let required = steps.iter().filter(|step| step.required && step.alias.is_none());
        let names: BTreeSet<&[u8]> = required.map(|step| step.name.as_slice()).collect();
        let is_required = |step: &Step| step.alias.is_none() && names.contains(step.name.as_slice());
        let required: Vec<bool> = steps.iter().map(is_required).collect();
        for (step, required) in steps.iter_mut().zip(required) {
            step.is_named = step.name == found.name && step.alias == found.alias;
            step.required = step.is_named || required;
            if step.is_named && named == Named::Alone {
                step.action = Action::Insert;
            }
        }
        Ok(Plan { steps, problem, soft_problems })
    }

    /// What a name in a `softdep` line stands for.
    fn find_soft(&self, name: &[u8], problems: &mut Vec<(Vec<u8>, LookupError)>) -> Vec<Found> {
        match self.find(name) {
            Ok(found) => found,
            Err(LookupError::Unknown(_)) => Vec::new(),
            Err(error) => {
                problems.push((name.to_vec(), error));
                Vec::new()
            }
        }
    }

    fn step(&self, item: Item) -> Step {
        let Item { found, path, reason, required, use_command } = item;
        let command = if use_command { self.install_command(&found.name) } else { None };
        Step {
            path,
            action: command.map_or(Action::Insert, |line| Action::Run(line.clone())),
            options: self.options(&found.name, found.alias.as_deref()),
            reason,
            required,
            is_named: false,
            denied: self.denied(&found.name).cloned(),
            name: found.name,
            alias: found.alias,
        }
    }

    /// A module's own file and those of the modules it needs.
    fn files_of(&self, found: &Found) -> Result<(Option<PathBuf>, Vec<Dependency>), LookupError> {
        let given = match &found.source {
            Source::Path(path) => Some(path.clone()),
            _ => None,
        };
        match self.line(&found.name) {
            Ok(Some(line)) => {
                let path = given.unwrap_or_else(|| self.absolute(line.path));
                Ok((Some(path), self.needed_by(line)))
            }
            Ok(None) => Ok((given, Vec::new())),
            Err(_) if given.is_some() => Ok((given, Vec::new())),
            Err(error) => Err(error),
        }
    }
}
