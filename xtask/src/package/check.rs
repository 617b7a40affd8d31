//! The package as a user meets it: pages that render, completions that complete, commands that are in place after
//! installation and kmod's after removal.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use modutils::COMMANDS;

use super::deb;
use super::make;
use super::native;
use super::write;
use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::process;

/// The test step: builds the package for this machine and looks at all of it.
pub(crate) fn check() -> Result<()> {
    let mut times = Vec::new();
    let package = timed("build", &mut times, || make(native()))?;
    let directory = package.parent().map(Path::to_owned).unwrap_or_default();
    let pages = timed("manual pages", &mut times, || manual(&directory.join("man")))?;
    timed("completions", &mut times, || completions(&directory.join("completions"), &directory.join("try")))?;
    timed("lintian", &mut times, || lint(&package))?;
    timed("installation and removal", &mut times, || install(&package))?;
    let size = fs::metadata(directory.join("modutils")).context("no program")?.len();
    println!("    {pages} manual pages; a program of {size} bytes; {}", package.display());
    println!("    {}", times.join(", "));
    Ok(())
}

fn timed<T>(what: &str, times: &mut Vec<String>, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = run();
    times.push(format!("{what} {:.1} s", start.elapsed().as_secs_f64()));
    result
}

fn is_root() -> Result<bool> {
    Ok(process::output(Command::new("id").arg("-u"))?.trim() == "0")
}

fn quiet(command: &mut Command) -> Result<()> {
    let output = process::capture(command)?;
    if output.status.success() && output.stderr.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("{}: {} {}", process::describe(command), output.status, output.stderr)))
}

fn manual(directory: &Path) -> Result<usize> {
    let entries = fs::read_dir(directory).with_context(|| format!("no {}", directory.display()))?;
    let mut pages: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    pages.sort();
    for page in &pages {
        quiet(Command::new("groff").args(["-ww", "-man", "-z"]).arg(page))?;
        quiet(Command::new("lexgrog").arg(page))?;
        let mut man = Command::new("man");
        man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80").env("MANPAGER", "cat");
        let text = process::output(man.args(["--warnings", "-l"]).arg(page))?;
        for heading in ["NAME", "DESCRIPTION", "lkm "] {
            if !text.contains(heading) {
                return Err(Error::new(format!("{} renders without {heading}", page.display())));
            }
        }
    }
    Ok(pages.len())
}

/// Words, and what a shell has to offer for the last.
const COMPLETED: &[(&str, &[&str])] = &[
    ("modprobe --sho", &["--show-config", "--show-depends"]),
    ("modprobe -d ROOT -S 1.2.3 to", &["top"]),
    ("modprobe --dirname ROOT --set-version 1.2.3 dash", &["dash-ed"]),
    ("modinfo -b ROOT -k 1.2.3 mi", &["mid"]),
    ("depmod -b ROOT 1.2", &["1.2.3"]),
    ("depmod --quic", &["--quick"]),
    ("kmod stat", &["static-nodes"]),
    ("kmod modp", &["modprobe"]),
    ("lsmod --vers", &["--version"]),
];

fn completions(directory: &Path, scratch: &Path) -> Result<()> {
    let index = "kernel/top.ko.xz: kernel/mid.ko\nkernel/mid.ko:\nkernel/dash-ed.ko:\n";
    write(&scratch.join("lib/modules/1.2.3/modules.dep"), index.as_bytes())?;
    let bash = directory.join("bash/modutils");
    for (line, expected) in COMPLETED {
        let line = line.replace("ROOT", &scratch.display().to_string());
        let command = line.split(' ').next().unwrap_or_default();
        let script = format!(
            ". {}\nCOMP_WORDS=({line})\nCOMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _lkm_modutils {command}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            bash.display()
        );
        let shown = process::output(Command::new("bash").args(["-u", "-c", &script]))?;
        offered("bash", &line, &shown, expected)?;
        let fish = directory.join(format!("fish/{command}.fish"));
        let script = format!("source {}; complete -C '{line}'", fish.display());
        let shown = process::output(Command::new("fish").args(["--no-config", "-c", &script]))?;
        let words: String =
            shown.lines().map(|line| format!("{}\n", line.split('\t').next().unwrap_or(line))).collect();
        offered("fish", &line, &words, expected)?;
    }
    quiet(Command::new("bash").arg("-n").arg(&bash))?;
    quiet(Command::new("zsh").arg("-n").arg(directory.join("zsh/_lkm_modutils")))?;
    for command in COMMANDS {
        quiet(Command::new("fish").arg("-n").arg(directory.join(format!("fish/{}.fish", command.name))))?;
    }
    zsh(&directory.join("zsh"), scratch)
}

fn offered(shell: &str, line: &str, shown: &str, expected: &[&str]) -> Result<()> {
    let words: Vec<&str> = shown.lines().map(str::trim_end).filter(|word| !word.is_empty()).collect();
    let last = line.rsplit(' ').next().unwrap_or_default();
    for word in expected {
        if !words.contains(word) {
            return Err(Error::new(format!("{shell} does not complete {line} to {word}: {words:?}")));
        }
    }
    match words.iter().find(|word| !word.starts_with(last)) {
        None => Ok(()),
        Some(word) => Err(Error::new(format!("{shell} completes {line} to {word}"))),
    }
}

/// zsh completes only where there is a terminal: one that zsh makes itself. A key shows what the line has become.
fn zsh(functions: &Path, scratch: &Path) -> Result<()> {
    const SCRIPT: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "stty -echo; PS1=; fpath=(${(q)1} \$fpath); autoload -U compinit; compinit -D -u"
zpty -w shell 'show() { print -r -- "<<<$BUFFER>>>"; BUFFER= }; zle -N show; bindkey "^X" show'
zpty -w shell 'print rea""dy'
zpty -r shell seen '*ready*'
for line in "${@[2,-1]}"; do
    zpty -n -w shell "$line"$'\t\x18'
    zpty -r shell seen '*>>>*'
    print -r -- "${${seen##*<<<}%%>>>*}"
done
zpty -d shell
"#;
    // One of several is not chosen.
    let alone: Vec<(String, &str)> = COMPLETED
        .iter()
        .filter_map(|(line, expected)| match *expected {
            [word] => Some((line.replace("ROOT", &scratch.display().to_string()), *word)),
            _ => None,
        })
        .collect();
    let mut command = Command::new("timeout");
    command.args(["60", "zsh", "-f", "-c", SCRIPT, "zsh"]).arg(functions);
    let shown = process::output(command.args(alone.iter().map(|(line, _)| line)))?;
    if shown.lines().count() != alone.len() {
        return Err(Error::new(format!("zsh completes {} lines: {shown:?}", alone.len())));
    }
    for (shown, (line, word)) in shown.lines().zip(&alone) {
        if shown.trim_end().rsplit(' ').next() != Some(word) {
            return Err(Error::new(format!("zsh does not complete {line} to {word}: {shown:?}")));
        }
    }
    Ok(())
}

fn lint(package: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0"]).arg(package);
    process::output(&mut lintian).map(drop)
}

/// Installs and removes the package in a copy of this system that is gone afterwards: its root below a layer in memory,
/// in a namespace of mounts.
fn install(package: &Path) -> Result<()> {
    let names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
    let scripts = [
        SCRIPT.replace("COMMANDS", &names.join(" ")),
        // Debian lists the files of merged directories by their old names, later by their new ones.
        NEWER.replace("DIRECTORY", "sbin").replace("AWAY", "kmod"),
        NEWER.replace("DIRECTORY", "usr/sbin").replace("AWAY", "usr-kmod"),
    ];
    for script in scripts {
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !is_root()? {
            command.arg("--map-root-user");
        }
        command
            .args(["sh", "-e", "-c", LAYER, "layer"])
            .arg(package)
            .arg(script.replace("PACKAGE", deb::NAME));
        process::output(&mut command)?;
    }
    Ok(())
}

/// `$1` is the package, `$2` the script that is run in the copy.
const LAYER: &str = r#"
layer=$(mktemp -d)
mount -t tmpfs tmpfs "$layer"
mkdir "$layer/upper" "$layer/work" "$layer/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" "$layer/root"
mount --rbind /dev "$layer/root/dev"
mount --rbind /proc "$layer/root/proc"
cp "$1" "$layer/root/package.deb"
# The index of manual pages takes long and is not looked at.
rm -f "$layer/root/var/lib/man-db/auto-update"
status=0
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    chroot "$layer/root" sh -e -c "$2" || status=$?
umount -l "$layer" && rmdir "$layer"
exit $status
"#;

const SCRIPT: &str = r#"
fail() { echo "$*" >&2; exit 1; }

# What is to be as it was: every name of a command, of its page and its completion, and what they lead to.
state() {
    for directory in /usr/sbin /usr/bin /usr/share/man/man8 /usr/share/man/man5 /usr/share/bash-completion/completions; do
        for name in COMMANDS modprobe.d depmod.d modules.dep; do
            for path in $directory/$name $directory/$name.*; do
                [ -e "$path" ] || [ -L "$path" ] || continue
                echo "$path $(readlink -f "$path") $(sha256sum <"$path")"
            done
        done
    done
    dpkg-divert --list
    ls /etc/alternatives
}

ours() {
    for name in COMMANDS; do
        found=$(readlink -f "$(command -v $name)")
        [ "$found" = /usr/bin/modutils ] || fail "$name is $found"
        $name --version | grep -q '^modutils ' || fail "$name --version does not say so"
        man -w $name | grep -q /lkm-$name.8.gz || [ ! -e /usr/share/man/man8/lkm-$name.8.gz ] ||
            fail "man $name is $(man -w $name)"
    done
    for name in /usr/bin/lsmod /usr/sbin/lsmod /bin/kmod; do
        [ "$(readlink -f $name)" = /usr/bin/modutils ] || fail "$name is $(readlink -f $name)"
    done
}

state >/before
dpkg --force-unsafe-io --install /package.deb
ours
dpkg --verify PACKAGE
man -P cat insmod >/dev/null
man -P cat 5 modprobe.d >/dev/null
# A new version in the place of this one.
dpkg --force-unsafe-io --install /package.deb
ours
if [ -e /usr/bin/kmod.kmod ]; then
    update-alternatives --quiet --set insmod /usr/bin/kmod.kmod
    insmod --version | grep -q '^modutils ' && fail "insmod is still ours"
    insmod --version | grep -q '^kmod version' || fail "insmod is not kmod's"
    update-alternatives --quiet --auto insmod
    ours
fi
dpkg --force-unsafe-io --remove PACKAGE
state >/after
diff /before /after >&2
# And once more, to the last trace.
dpkg --force-unsafe-io --install /package.deb
dpkg --purge PACKAGE
state >/after
diff /before /after >&2
left=$(find /usr /etc /var/lib/dpkg -xdev -name '*PACKAGE*')
[ -z "$left" ] || fail "left behind: $left"
"#;

/// A newer kmod, of which only this is looked at.
const NEWER: &str = r#"
mkdir -p /kmod/DEBIAN /kmod/DIRECTORY
printf 'Package: kmod\nVersion: 99\nArchitecture: all\nMaintainer: x <x@localhost>\nDescription: x\n' >/kmod/DEBIAN/control
echo another >/kmod/DIRECTORY/insmod
dpkg-deb --build /kmod /kmod.deb
dpkg --force-unsafe-io --install /package.deb
dpkg --force-all --unpack /kmod.deb
[ "$(cat /usr/sbin/insmod.AWAY)" = another ] || { echo "a newer kmod is not diverted" >&2; exit 1; }
[ "$(readlink -f /usr/sbin/insmod)" = /usr/bin/modutils ] || { echo "a newer kmod takes insmod" >&2; exit 1; }
dpkg --force-all --remove PACKAGE
[ "$(cat /usr/sbin/insmod)" = another ] || { echo "a newer kmod has no insmod" >&2; exit 1; }
"#;
