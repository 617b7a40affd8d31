//! From a name to the modules that it stands for.

use std::path::PathBuf;

use super::IndexFile;
use super::LookupError;
use super::Modules;
use super::normal;
use crate::config::Origin;

/// What knew a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An `alias` line of the configuration.
    ConfigAlias(Origin),
    /// `modules.dep.bin`: it is the name of a module.
    Dependencies,
    /// `modules.symbols.bin`.
    Symbols,
    /// An `install` or `remove` line of the configuration with exactly this name, which no index has.
    Command(Origin),
    /// `modules.alias.bin`.
    Aliases,
    /// `modules.builtin.bin`: it is the name of a part of the kernel.
    Builtin,
    /// `modules.builtin.alias.bin`.
    BuiltinAliases,
    /// The user, who named this file.
    Path(PathBuf),
}

/// A module that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The module.
    pub name: Vec<u8>,
    /// What it was found by, if that was not its name: the pattern of a line in the configuration, or the name itself
    /// if an index knew it. `options` lines for this count too.
    pub alias: Option<Vec<u8>>,
    /// What knew the name.
    pub source: Source,
}

impl Found {
    fn named(name: &[u8], source: Source) -> Found {
        Found { name: name.to_vec(), alias: None, source }
    }
}

/// A place to look in; empty if it does not know the name.
type Place = fn(&Modules, &[u8]) -> Result<Vec<Found>, LookupError>;

impl Modules {
    /// The modules that a name stands for, which may be several.
    ///
    /// The places that know names are asked in kmod's order, and the first that knows this one has the word: `alias` lines,
    /// names of modules, symbols (`symbol:NAME`), `install` and `remove` lines, aliases, names of what is built in, and
    /// its aliases. An index that is missing or damaged is passed over, and is the error if no other place knows the name.
    pub fn find(&self, name: &[u8]) -> Result<Vec<Found>, LookupError> {
        const PLACES: [Place; 7] =
            [config_aliases, dependencies, symbols, commands, aliases, builtin, builtin_aliases];
        let name = normal(name)?;
        let mut problem = None;
        for place in PLACES {
            match place(self, &name) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => return Ok(found),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Err(problem.unwrap_or(LookupError::Unknown(name)))
    }
}

fn config_aliases(modules: &Modules, name: &[u8]) -> Result<Vec<Found>, LookupError> {
    let lines = modules.config.aliases_of(name);
    let found = lines.map(|line| Found {
        name: line.module.to_vec(),
        alias: Some(line.pattern.to_vec()),
        source: Source::ConfigAlias(line.origin.clone()),
    });
    Ok(found.collect())
}

fn dependencies(modules: &Modules, name: &[u8]) -> Result<Vec<Found>, LookupError> {
    if name.contains(&b':') || modules.line(name)?.is_none() {
        return Ok(Vec::new());
    }
    Ok(vec![Found::named(name, Source::Dependencies)])
}

fn symbols(modules: &Modules, name: &[u8]) -> Result<Vec<Found>, LookupError> {
    if !name.starts_with(b"symbol:") {
        return Ok(Vec::new());
    }
    matching(modules, name, IndexFile::Symbols, Source::Symbols)
}

fn commands(modules: &Modules, name: &[u8]) -> Result<Vec<Found>, LookupError> {
    let config = &modules.config;
    let mut lines = config.install.iter().chain(&config.remove);
    let line = lines.find(|line| *line.pattern == *name);
    Ok(line.map(|line| Found::named(name, Source::Command(line.origin.clone()))).into_iter().collect())
}

fn aliases(modules: &Modules, name: &[u8]) -> Result<Vec<Found>, LookupError> {
    matching(modules, name, IndexFile::Aliases, Source::Aliases)
}

fn builtin(modules: &Modules, name: &[u8]) -> Result<Vec<Found>, LookupError> {
    let index = modules.indexes.get(IndexFile::Builtin)?;
    let value = index.find(name).map_err(|error| modules.indexes.damaged(IndexFile::Builtin, error))?;
    Ok(value.map(|_| Found::named(name, Source::Builtin)).into_iter().collect())
}

fn builtin_aliases(modules: &Modules, name: &[u8]) -> Result<Vec<Found>, LookupError> {
    match matching(modules, name, IndexFile::BuiltinAliases, Source::BuiltinAliases) {
        // kmod writes this index from version 27 on.
        Err(LookupError::NoIndex(_)) => Ok(Vec::new()),
        result => result,
    }
}

fn matching(
    modules: &Modules,
    name: &[u8],
    file: IndexFile,
    source: Source,
) -> Result<Vec<Found>, LookupError> {
    let values = modules.indexes.get(file)?.matching(name);
    let values = values.map_err(|error| modules.indexes.damaged(file, error))?;
    let found = values.iter().map(|value| Found {
        name: value.text.to_vec(),
        alias: Some(name.to_vec()),
        source: source.clone(),
    });
    Ok(found.collect())
}
