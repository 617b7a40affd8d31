//! Where things are.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::error::Context;
use crate::error::Result;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// Where downloads and what is made of them are kept: `LKM_CACHE`, or `.cache` in the repository. Created if missing.
pub(crate) fn cache() -> Result<PathBuf> {
    let path = env::var_os("LKM_CACHE").map_or_else(|| root().join(".cache"), PathBuf::from);
    create(&path)?;
    path.canonicalize().with_context(|| format!("cannot find {}", path.display()))
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Creates a directory and those above it.
pub(crate) fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create the directory {}", path.display()))
}

/// A program in `PATH`, or in the directories that Debian's administrators have in theirs.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(usual).map(|dir| dir.join(name)).find(|path| path.is_file())
}
