//! The root directories of the cases.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use crate::index;

/// The release of the kernel of the cases.
pub(crate) const RELEASE: &str = "6.1.0-test";

/// What is under a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A file with its mode; an index is taken apart, since one and the same can be written in many ways.
    File(u32, Vec<u8>),
    /// A directory.
    Directory,
    /// A symbolic link.
    Link(String),
}

/// Everything under a root by its path in it.
pub(crate) type Tree = BTreeMap<String, Node>;

/// Makes the directories that every root has.
pub(crate) fn skeleton(root: &Path) -> io::Result<()> {
    let directories = [
        "bin",
        "sbin",
        "lib64",
        "lib/x86_64-linux-gnu",
        "lib/modprobe.d",
        "etc/modprobe.d",
        "etc/depmod.d",
        "run",
        "tmp",
        "files",
        "dev",
    ];
    for directory in directories {
        fs::create_dir_all(root.join(directory))?;
    }
    for name in ["null", "stdout"] {
        fs::write(root.join("dev").join(name), "")?;
    }
    Ok(())
}

/// Writes a file and the directories above it.
pub(crate) fn put(root: &Path, path: &str, bytes: &[u8]) -> io::Result<()> {
    let path = root.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, bytes)
}

/// Copies a tree, times included: some commands ask which file is newer.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            let time = entry.metadata()?.modified()?;
            fs::File::options().write(true).open(&target)?.set_modified(time)?;
        }
    }
    Ok(())
}

/// Has this depmod write the indexes.
pub(crate) fn depmod(program: &Path, root: &Path) -> io::Result<()> {
    let output = Command::new(program).arg("-b").arg(root).arg(RELEASE).stdin(Stdio::null()).output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// What is under a root, except what the kernel shows there and where the host's programs are mounted.
pub(crate) fn snapshot(root: &Path) -> io::Result<Tree> {
    let mut tree = Tree::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !["proc", "sys", "bin", "sbin", "lib64", "dev"].contains(&name.as_str()) {
            walk(&entry.path(), &name, &mut tree)?;
        }
    }
    Ok(tree)
}

fn walk(path: &Path, name: &str, tree: &mut Tree) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let node = if metadata.is_symlink() {
        Node::Link(fs::read_link(path)?.to_string_lossy().into_owned())
    } else if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            walk(&entry.path(), &format!("{name}/{}", entry.file_name().to_string_lossy()), tree)?;
        }
        Node::Directory
    } else if metadata.mode() & 0o170000 == 0o100000 {
        let bytes = fs::read(path)?;
        let bytes = index::describe(&bytes).unwrap_or(bytes);
        Node::File(metadata.permissions().mode() & 0o7777, bytes)
    } else {
        Node::File(0, b"neither file nor directory".to_vec())
    };
    tree.insert(name.to_owned(), node);
    Ok(())
}

/// What is different from one state to the next; gone is `None`.
pub(crate) fn changes(before: &Tree, after: &Tree) -> BTreeMap<String, Option<Node>> {
    let mut changes = BTreeMap::new();
    for (path, node) in after {
        if before.get(path) != Some(node) {
            changes.insert(path.clone(), Some(node.clone()));
        }
    }
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        changes.insert(path.clone(), None);
    }
    changes
}
