//! The process between the runner and the program under test: enters a root directory of its own and becomes the program.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sched::CloneFlags;
use nix::sched::unshare;
use nix::sys::ptrace;
use nix::unistd;

/// The first argument that makes this program the child.
pub(crate) const WORD: &str = "--in-the-root";

/// Where the programs of the host need their libraries.
const LIBRARIES: &[&str] = &["lib/x86_64-linux-gnu", "lib64"];

/// `ROOT TOOLS SHELL DIRECTORY ARGV0 ARGUMENT...`: mounts the directories of tools and of the shell and the host's libraries into the root, changes to
/// it, lets the runner trace, and becomes `ARGV0`. Gives what went wrong, if it comes back at all.
pub(crate) fn main(arguments: &[String]) -> Box<dyn Error> {
    match enter(arguments) {
        Ok(error) | Err(error) => error,
    }
}

fn enter(arguments: &[String]) -> Result<Box<dyn Error>, Box<dyn Error>> {
    let [root, tools, shell, directory, argv0, rest @ ..] = arguments else {
        return Err("too few arguments".into());
    };
    let root = Path::new(root);
    private_mounts()?;
    bind(Path::new(tools), &root.join("sbin"))?;
    bind(Path::new(shell), &root.join("bin"))?;
    // Without /proc, /dev/stdout cannot be a link.
    bind(&fs::read_link("/proc/self/fd/1")?, &root.join("dev/stdout"))?;
    bind(Path::new("/dev/null"), &root.join("dev/null"))?;
    for name in LIBRARIES {
        bind(&Path::new("/").join(name), &root.join(name))?;
    }
    unistd::chroot(root).map_err(|error| format!("chroot: {error}"))?;
    unistd::chdir(directory.as_str()).map_err(|error| format!("{directory}: {error}"))?;
    ptrace::traceme().map_err(|error| format!("ptrace: {error}"))?;
    let base = Path::new(argv0).file_name().unwrap_or(OsStr::new(argv0));
    let mut command = Command::new(Path::new("/sbin").join(base));
    Ok(command.arg0(argv0).args(rest).exec().into())
}

/// A mount namespace that nobody else sees; for other users than root a user namespace around it.
pub(crate) fn private_mounts() -> Result<(), Box<dyn Error>> {
    let (user, group) = (unistd::geteuid(), unistd::getegid());
    if user.is_root() {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("no mount namespace: {error}"))?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
            .map_err(|error| format!("not root, and no user namespace either: {error}"))?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    let none = None::<&Path>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|error| format!("cannot make the mounts private: {error}"))?;
    Ok(())
}

fn bind(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let none = None::<&Path>;
    mount(Some(from), to, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .map_err(|error| format!("cannot mount {} at {}: {error}", from.display(), to.display()))?;
    Ok(())
}
