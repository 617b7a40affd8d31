//! The system that this program runs on.

use std::path::Path;

use super::directory;
use super::file;
use super::map;
use crate::Fact;
use crate::Facts;
use crate::FactsError;
use crate::Source;

/// Facts of the running kernel: what it says of itself first, then what is installed for its release.
pub fn running() -> Result<Facts, FactsError> {
    let path = Path::new("/proc/sys/kernel/osrelease");
    let release = std::fs::read_to_string(path).map_err(FactsError::io(path))?.trim_end().to_owned();
    let mut facts =
        Facts { release: Some(Fact::new(release.clone(), &Source::file(path))), ..Facts::default() };
    if let Ok(banner) = std::fs::read_to_string("/proc/version") {
        facts.banner = Some(Fact::new(banner.trim_end().to_owned(), &Source::new("/proc/version")));
    }
    // A kernel without the symbol table, or that hides it, is no error: others may know.
    if let Ok(text) = std::fs::read_to_string("/proc/kallsyms") {
        map(&mut facts, &text, &Source::new("/proc/kallsyms"))?;
    }
    if let Ok(bytes) = std::fs::read("/proc/config.gz") {
        file(&mut facts, &bytes, &Source::new("/proc/config.gz"))?;
    }
    directory::installed(&mut facts, &release, Path::new("/"))?;
    Ok(facts)
}
