//! Symbols that could not be had.

use super::shown::listed;

/// A symbol that could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Its name.
    pub(crate) symbol: String,
    /// Why.
    pub(crate) why: Why,
}

/// Why a symbol could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// These modules export it and are not loaded.
    NotLoaded(Vec<String>),
    /// The kernel, or this module, exports it to modules under the GPL only; the licence of the one that was refused.
    GplOnly(Option<String>, String),
    /// The kernel, or this module, has it but does not export it.
    NotExported(Option<String>),
    /// It is not exported, or to modules under the GPL only; the module's licence.
    NotForThis(String),
    /// Neither the kernel nor a module of this directory has it.
    Nowhere(String),
    /// The kernel does not have it, and this index that would tell who does is missing: its path, the release.
    NoIndex(String, String),
    /// Nothing is known.
    Unknown,
}

impl Missing {
    fn text(&self) -> String {
        let symbol = &self.symbol;
        match &self.why {
            Why::NotLoaded(modules) => {
                let (noun, verb) = if modules.len() == 1 { ("module", "is") } else { ("modules", "are") };
                format!("{symbol} is exported by the {noun} {}, which {verb} not loaded", listed(modules))
            }
            Why::GplOnly(owner, license) => {
                let by =
                    owner.as_ref().map_or("the kernel".to_owned(), |owner| format!("the module {owner}"));
                format!(
                    "{symbol} is exported by {by}, to modules under the GPL only; this one's licence is '{license}'"
                )
            }
            Why::NotExported(None) => format!("the kernel has {symbol} but does not export it to modules"),
            Why::NotExported(Some(owner)) => {
                format!("the module {owner} has {symbol} but does not export it")
            }
            Why::NotForThis(license) => {
                format!("{symbol} is there but not exported, or not to a module whose licence is '{license}'")
            }
            Why::Nowhere(directory) => {
                format!("neither the running kernel nor a module in {directory} exports {symbol}")
            }
            Why::NoIndex(path, _) => {
                format!(
                    "the running kernel does not have {symbol}, and {path}, which tells who has, is missing"
                )
            }
            Why::Unknown => format!("{symbol} is not to be had"),
        }
    }
}

/// Why these symbols could not be had.
pub(super) fn text(missing: &[Missing]) -> String {
    if let Some(module) = only_provider(missing) {
        let symbols: Vec<String> = missing.iter().map(|missing| missing.symbol.clone()).collect();
        let verb = if symbols.len() == 1 { "is" } else { "are" };
        return format!("{} {verb} exported by the module {module}, which is not loaded", listed(&symbols));
    }
    match missing {
        [] => "a symbol is not to be had".to_owned(),
        [one] => one.text(),
        [first, second] => format!("{}; nor is {} there", first.text(), second.symbol),
        [first, rest @ ..] => format!("{}; {} more symbols are missing", first.text(), rest.len()),
    }
}

/// The module that would provide all of these symbols.
fn only_provider(missing: &[Missing]) -> Option<&str> {
    let only = |missing: &Missing, module: &str| match &missing.why {
        Why::NotLoaded(modules) => modules.iter().eq([module]),
        _ => false,
    };
    let Why::NotLoaded(modules) = &missing.first()?.why else { return None };
    let module = modules.first()?;
    missing.iter().all(|missing| only(missing, module)).then_some(module)
}

/// Loads the modules that lack, or what else helps with the first symbol.
pub(super) fn cure(missing: &[Missing]) -> Option<String> {
    let mut modules: Vec<&str> = Vec::new();
    for symbol in missing {
        if let Why::NotLoaded(providers) = &symbol.why
            && let Some(first) = providers.first()
            && !modules.contains(&first.as_str())
        {
            modules.push(first);
        }
    }
    match modules.as_slice() {
        [] => {}
        [one] => return Some(format!("modprobe {one}")),
        [..] if modules.len() <= 8 => return Some(format!("modprobe -a {}", modules.join(" "))),
        _ => return Some("modprobe with the name of the module loads what it needs by itself".into()),
    }
    match &missing.first()?.why {
        Why::NoIndex(_, release) => Some(format!("depmod {release}")),
        Why::Nowhere(_) => {
            Some("load the module that exports it first, or build for a kernel that does".into())
        }
        _ => None,
    }
}
