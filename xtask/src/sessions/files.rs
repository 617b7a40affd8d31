//! The initramfs of a session: both families of tools, the modules, and files that must be refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::script;
use super::target::Target;
use super::tree;
use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::packages::Kernel;
use crate::paths;
use crate::truth::cpio::Cpio;

/// The commands by their names.
const COMMANDS: &[&str] = &["insmod", "rmmod", "lsmod", "modinfo", "modprobe", "depmod", "kmod"];

/// The tools: directory, program, commands.
const TOOLS: &[(&str, &str, &[&str])] = &[
    ("kmod", "/bin/kmod", COMMANDS),
    ("ours", "/bin/modutils", COMMANDS),
    ("busybox", "/bin/busybox", COMMANDS),
    ("style", "/bin/modutils", COMMANDS),
];

/// Files of the reference's packages, below the root; `LIB` stands for the directory of libraries.
const REFERENCE: &[&str] = &[
    "bin/kmod",
    "bin/dash",
    "bin/busybox",
    "LIB/libc.so.6",
    "LIB/liblzma.so.5",
    "usr/LIB/libzstd.so.1",
    "usr/LIB/libcrypto.so.3",
    "INTERPRETER",
];

/// The archive, with a script as PID 1.
pub(super) fn initramfs(target: Target, kernel: &Kernel, program: &Path, script: &str) -> Result<Vec<u8>> {
    let staging =
        std::env::temp_dir().join(format!("lkm-sessions-files-{}-{}", std::process::id(), target.name()));
    let _ = fs::remove_dir_all(&staging);
    let result = stage(target, kernel, program, script, &staging).and_then(|()| archive(&staging));
    let _ = fs::remove_dir_all(&staging);
    result
}

fn stage(target: Target, kernel: &Kernel, program: &Path, script: &str, root: &Path) -> Result<()> {
    for directory in ["dev", "proc", "sys", "tmp", "bin", "etc/modprobe.d", "lib", "run", script::FILES] {
        paths::create(&root.join(directory))?;
    }
    write(root, "init", script.as_bytes())?;
    write(root, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")?;
    write(root, "etc/group", b"root:x:0:\nnogroup:x:65534:\n")?;
    let packages = target.reference()?;
    for name in REFERENCE {
        let name = name.replace("LIB", &format!("lib/{}", target.libraries()));
        let name = name.replace("INTERPRETER", target.interpreter());
        let paths = packages.iter().map(|package| package.join(&name));
        let path = paths
            .into_iter()
            .find(|path| path.exists())
            .with_context(|| format!("none of the packages for {} has {name}", target.name()))?;
        write(root, &name, &tree::read(&path)?)?;
    }
    write(root, "bin/modutils", &tree::read(program)?)?;
    link(root, "bin/sh", "dash")?;
    for applet in script::APPLETS {
        link(root, &format!("bin/{applet}"), "busybox")?;
    }
    for (tool, program, commands) in TOOLS {
        paths::create(&root.join("tools").join(tool))?;
        for command in *commands {
            link(root, &format!("tools/{tool}/{command}"), program)?;
        }
    }
    files(target, root)?;
    tree::write(target, kernel, root)
}

/// Files to load: the fixtures, compressed and damaged ones.
fn files(target: Target, root: &Path) -> Result<()> {
    let name = |name: &str| format!("{}/{name}", script::FILES);
    for path in tree::modules_in(&target.fixtures())? {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        write(root, &name(&file), &tree::read(&path)?)?;
    }
    let hello = tree::read(&target.fixtures().join("hello.ko"))?;
    for how in [tree::GZIP, tree::XZ, tree::ZSTD] {
        write(root, &name("hello.ko"), &hello)?;
        tree::pack(&root.join(name("hello.ko")), how)?;
    }
    write(root, &name("hello.ko"), &hello)?;
    // What a pipe into zstd makes: a frame that does not know its size.
    write(root, &name("hello_piped.ko.zst"), &piped(&root.join(name("hello.ko")))?)?;
    for end in ["xz", "zst"] {
        let whole = tree::read(&root.join(name(&format!("hello.ko.{end}"))))?;
        write(root, &name(&format!("cut.ko.{end}")), whole.get(..whole.len() / 2).unwrap_or_default())?;
    }
    write(root, &name("renamed.bin"), &hello)?;
    write(root, &name("truncated.ko"), hello.get(..hello.len() / 2).unwrap_or_default())?;
    write(root, &name("one_short.ko"), hello.get(..hello.len() - 1).unwrap_or_default())?;
    write(root, &name("empty.ko"), b"")?;
    write(root, &name("three.ko"), b"abc")?;
    write(root, &name("text.ko"), b"This is no module.\n")?;
    write(root, &name("other_arch.ko"), &tree::read(&target.other().fixtures().join("hello.ko"))?)?;
    write(root, &name("vermagic.ko"), &replaced(&hello, b" mod_unload ", b" mod_unlaod ")?)?;
    write(root, &name("crc.ko"), &with_wrong_crc(&hello, target.word())?)?;
    let unknown = replaced(
        &tree::read(&target.fixtures().join("rare.ko"))?,
        b"zlib_inflate_work",
        b"zlib_inflate_w0rk",
    )?;
    write(root, &name("unknown.ko"), &unknown)?;
    paths::create(&root.join(name("directory.ko")))
}

fn piped(path: &Path) -> Result<Vec<u8>> {
    let output = std::process::Command::new("zstd")
        .args(["-q", "-c"])
        .stdin(fs::File::open(path)?)
        .output()
        .context("cannot run zstd")?;
    if output.status.success() { Ok(output.stdout) } else { Err(Error::new("zstd failed")) }
}

/// A text replaced by one of the same length, everywhere.
fn replaced(file: &[u8], from: &[u8], to: &[u8]) -> Result<Vec<u8>> {
    let mut file = file.to_vec();
    let places: Vec<usize> = file
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from)
        .map(|(at, _)| at)
        .collect();
    if places.is_empty() || from.len() != to.len() {
        return Err(Error::new(format!("a fixture has no {}", String::from_utf8_lossy(from))));
    }
    for at in places {
        file[at..at + to.len()].copy_from_slice(to);
    }
    Ok(file)
}

/// The module with another version of `_printk`: an entry is a word with the CRC, and the name, filled up with zeros.
fn with_wrong_crc(file: &[u8], word: usize) -> Result<Vec<u8>> {
    let mut entry = b"_printk".to_vec();
    entry.resize(40, 0);
    let at = file.windows(entry.len()).position(|window| window == entry);
    let at = at.and_then(|at| at.checked_sub(word)).context("a fixture has no version of _printk")?;
    let mut file = file.to_vec();
    file[at] ^= 1;
    Ok(file)
}

fn write(root: &Path, name: &str, contents: &[u8]) -> Result<()> {
    let path = root.join(name);
    if let Some(parent) = path.parent() {
        paths::create(parent)?;
    }
    fs::write(&path, contents).with_context(|| format!("cannot write {}", path.display()))?;
    // What an earlier file of this name was is of no interest.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn link(root: &Path, name: &str, target: &str) -> Result<()> {
    std::os::unix::fs::symlink(target, root.join(name)).with_context(|| format!("cannot link {name}"))
}

/// The staged files as an archive, each directory before what is in it.
fn archive(root: &Path) -> Result<Vec<u8>> {
    let mut cpio = Cpio::default();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let mut paths: Vec<_> = fs::read_dir(&directory)?.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            let kind = fs::symlink_metadata(&path)?.file_type();
            if kind.is_symlink() {
                cpio.link(&name, &fs::read_link(&path)?.to_string_lossy());
            } else if kind.is_dir() {
                cpio.directory(&name);
                directories.push(path);
            } else {
                cpio.file(&name, &tree::read(&path)?);
            }
        }
    }
    cpio.device("dev/console", 5, 1);
    cpio.device("dev/null", 1, 3);
    Ok(cpio.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_change_what_they_say_and_nothing_else() {
        let edited = replaced(b"one two one", b"one", b"ONE").unwrap();
        assert_eq!(edited, b"ONE two ONE");
        assert!(replaced(b"one", b"two", b"TWO").is_err());
        for target in Target::ALL {
            let hello = tree::read(&target.fixtures().join("hello.ko")).unwrap();
            let edited = with_wrong_crc(&hello, target.word()).unwrap();
            let different: Vec<usize> = (0..hello.len()).filter(|&at| hello[at] != edited[at]).collect();
            assert_eq!(different.len(), 1, "{target:?}");
        }
    }
}
