//! What `modprobe` finds in a distribution's whole kernel: the same as kmod's, by every name and by thousands of aliases.
//!
//! The indexes are kmod's. Nothing is loaded: `modprobe` only tells what it would do.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::package;
use crate::packages::Arch;
use crate::packages::Package;
use crate::paths;
use crate::process;

/// Linux 6.1 for PCs: about 4,000 modules.
const RELEASE: &str = "6.1.0-56-amd64";
const VERSION: &str = "6.1.192-2";
/// Aliases that are looked up.
const ALIASES: usize = 2000;
/// Names in one call.
const BATCH: usize = 1000;
const KMOD: &str = "/usr/bin/kmod";

/// Looks everything up with both and fails at the first difference.
pub(crate) fn check() -> Result<()> {
    let both = Both { root: tree()?, ours: package::program()? };
    let directory = both.root.join("lib/modules").join(RELEASE);
    let read = |name: &str| {
        fs::read_to_string(directory.join(name)).with_context(|| format!("cannot read {name} of {RELEASE}"))
    };
    let modules: Vec<String> = read("modules.dep")?.lines().filter_map(module_of).collect();
    let patterns = read("modules.alias")?;
    let patterns: Vec<&str> = patterns.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    let step = (patterns.len() / ALIASES).max(1);
    let aliases: Vec<String> =
        patterns.iter().step_by(step).take(ALIASES).map(|text| concrete(text)).collect();
    let symbols = read("modules.symbols")?;
    let symbols = symbols.lines().filter_map(|line| Some(line.split(' ').nth(1)?.to_owned())).step_by(50);
    let symbols: Vec<String> = symbols.collect();
    let builtin: Vec<String> = read("modules.builtin")?.lines().filter_map(module_of).collect();
    for (names, what) in [
        (&modules, "names of modules"),
        (&aliases, "aliases"),
        (&symbols, "symbols"),
        (&builtin, "names of what is built in"),
    ] {
        for option in ["-D", "-R"] {
            for batch in names.chunks(BATCH) {
                both.compare(&[option, "-a"], batch)?;
            }
        }
        println!("    {} {what}: the same", names.len());
    }
    println!("    {} single calls: the same", singles(&both, [&modules, &aliases, &symbols, &builtin])?);
    let more = more_soft_dependencies(&both, &modules, &read("modules.softdep")?)?;
    println!("    {more} steps more where all softdep lines of a module count");
    Ok(())
}

/// Without `--strict-kmod` all `softdep` lines of a module count. Modules without several of them, and whose dependencies have
/// none, are loaded as by kmod; for the others everything that kmod does is done, and in its order. Gives how many steps
/// come in addition.
fn more_soft_dependencies(both: &Both, modules: &[String], softdep: &str) -> Result<usize> {
    let lines = softdep.lines().filter_map(|line| line.strip_prefix("softdep ")?.split(' ').next());
    let mut seen = BTreeSet::new();
    let several: BTreeSet<&str> = lines.filter(|name| !seen.insert(*name)).collect();
    if several.is_empty() {
        return Err(Error::new("no module of this kernel has several softdep lines any more"));
    }
    let mut more = 0;
    for batch in modules.chunks(BATCH) {
        let theirs = both.answer(Path::new(KMOD), &["-D", "-a"], batch)?;
        let ours = both.answer_by_default(&["-D", "-a"], batch)?;
        let mut left = ours.out.iter();
        if let Some(line) = theirs.out.iter().find(|line| !left.any(|other| other == *line)) {
            return Err(Error::new(format!("by default '{line}' is left out, or done in another order")));
        }
        more += ours.out.len() - theirs.out.len();
    }
    for name in modules.iter().step_by(97).filter(|name| !several.contains(name.as_str())) {
        let theirs = both.answer(Path::new(KMOD), &["-D"], std::slice::from_ref(name))?;
        let ours = both.answer_by_default(&["-D"], std::slice::from_ref(name))?;
        let about = |name: &str| theirs.out.iter().any(|line| line.contains(&format!("/{name}.ko")));
        if ours != theirs && !several.iter().any(|name| about(name) || about(&name.replace('_', "-"))) {
            return Err(Error::new(format!("by default {name} is loaded in another way than by kmod")));
        }
    }
    Ok(more)
}

/// Calls of their own, whose exit codes and first messages count too.
fn singles(both: &Both, known: [&[String]; 4]) -> Result<usize> {
    let mut calls: Vec<Vec<String>> = Vec::new();
    let mut call = |arguments: &[&str]| calls.push(arguments.iter().map(|&text| text.to_owned()).collect());
    for (number, name) in
        known.iter().flat_map(|names| names.iter().step_by(names.len().div_ceil(40))).enumerate()
    {
        // Every fifth is cut or lengthened to something that hardly anything knows.
        let name = match number % 5 {
            0 => &name[..name.len() / 2],
            1 => &format!("{name}0"),
            _ => name,
        };
        let options: &[&str] = match number % 8 {
            0 => &["-R"],
            1 => &["-n", "-v"],
            2 => &["-D", "-b"],
            3 => &["-D", "-i"],
            4 => &["-q", "-D"],
            5 => &["-a", "-D", "nothing-of-the-kind"],
            _ => &["-D"],
        };
        call(&[options, &[name]].concat());
        call(&["-r", "-D", name]);
    }
    for odd in
        ["", "[", "a]b", "*", "?", "-", "symbol:", ":", "ext4 ", "EXT4", "ext4.ko", "\u{e4}", "pci:v*", "a/b"]
    {
        call(&["-D", "--", odd]);
        call(&["-R", "--", odd]);
        // kmod says nothing of what cannot be a name.
        if !odd.contains(['[', ']']) {
            call(&["-r", "--", odd]);
        }
    }
    for wrong in
        [&["-D"][..], &["-w"], &["-w", "x", "ext4"], &["--bogus"], &["-D", "--al"], &["-Z", "x"], &["-C"]]
    {
        call(wrong);
    }
    call(&["-c"]);
    call(&["-D", "ext4", "debug=1", "text=a b"]);
    for arguments in &calls {
        both.compare(&[], arguments)?;
    }
    Ok(calls.len())
}

/// A root whose kernel has kmod's indexes.
fn tree() -> Result<PathBuf> {
    let package = Package::new(Arch::Amd64, format!("linux-image-{RELEASE}"), VERSION);
    let source = package.unpack_or_newest()?.join("lib/modules").join(RELEASE);
    let root = paths::cache()?.join("lookups");
    let directory = root.join("lib/modules").join(RELEASE);
    paths::create(&directory)?;
    for entry in fs::read_dir(&source)? {
        let entry = entry?;
        let link = directory.join(entry.file_name());
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(entry.path(), link)?;
        }
    }
    let mut depmod = Command::new(KMOD);
    process::output(depmod.arg0("depmod").arg("-b").arg(&root).arg(RELEASE))?;
    Ok(root)
}

struct Both {
    root: PathBuf,
    ours: PathBuf,
}

impl Both {
    fn compare(&self, options: &[&str], names: &[String]) -> Result<()> {
        let theirs = self.answer(Path::new(KMOD), options, names)?;
        let ours = self.answer(&self.ours, options, names)?;
        if ours == theirs {
            return Ok(());
        }
        let shown: Vec<&str> =
            options.iter().copied().chain(names.iter().map(String::as_str).take(8)).collect();
        let first = |answer: &Answer| {
            let (this, other) = if *answer == ours { (&ours, &theirs) } else { (&theirs, &ours) };
            let mut lines = this.out.iter().enumerate();
            let line = lines.find(|(at, line)| other.out.get(*at) != Some(line)).map_or("", |(_, line)| line);
            format!("exit code {:?}, {:?}, {} lines, here '{line}'", this.code, this.err, this.out.len())
        };
        Err(Error::new(format!("modprobe {shown:?}:\nkmod: {}\nours: {}", first(&theirs), first(&ours))))
    }

    /// An answer with kmod's rules.
    fn answer(&self, program: &Path, options: &[&str], names: &[String]) -> Result<Answer> {
        let mut command = Command::new(program);
        command.env("MODUTILS_STYLE", "kmod");
        self.answer_of(command, options, names)
    }

    fn answer_by_default(&self, options: &[&str], names: &[String]) -> Result<Answer> {
        let mut command = Command::new(&self.ours);
        command.env_remove("MODUTILS_STYLE");
        self.answer_of(command, options, names)
    }

    fn answer_of(&self, mut command: Command, options: &[&str], names: &[String]) -> Result<Answer> {
        command.arg0("modprobe").env_remove("MODPROBE_OPTIONS");
        command.arg("-d").arg(&self.root).args(["-S", RELEASE]).args(options).args(names);
        let output = process::capture(&mut command)?;
        // What ours explains is indented, and behind the first line of each message.
        let messages = output.stderr.lines().filter(|line| !line.starts_with("  ")).map(without_place);
        Ok(Answer {
            code: output.status.code(),
            out: output.stdout.lines().map(str::to_owned).collect(),
            // The order of warnings is that of the names; a single call may have more of kmod's own library.
            err: if options.contains(&"-a") { messages.collect() } else { messages.take(1).collect() },
        })
    }
}

#[derive(PartialEq, Eq)]
struct Answer {
    code: Option<i32>,
    out: Vec<String>,
    err: BTreeSet<String>,
}

/// A message without the place in the sources of kmod's library.
fn without_place(line: &str) -> String {
    match line.split_once("../libkmod/").and_then(|(start, rest)| Some((start, rest.split_once("() ")?.1))) {
        Some((start, text)) => format!("{start}{text}"),
        None => line.to_owned(),
    }
}

/// The name of the module in a line of `modules.dep` or `modules.builtin`.
fn module_of(line: &str) -> Option<String> {
    let path = line.split(':').next()?;
    Some(path.rsplit('/').next()?.split('.').next()?.to_owned())
}

/// Something that a pattern matches.
fn concrete(pattern: &str) -> String {
    let mut text = String::new();
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        match character {
            '*' => {}
            '?' => text.push('0'),
            '[' => {
                text.extend(rest.next());
                rest.by_ref().find(|end| *end == ']');
            }
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_made_from_lines() {
        assert_eq!(module_of("kernel/fs/ext4/ext4.ko.xz: kernel/a.ko").as_deref(), Some("ext4"));
        assert_eq!(concrete("usb:v0[1-3]p*d?x"), "usb:v01pd0x");
        let line = "modprobe: ERROR: ../libkmod/libkmod-module.c:895 kmod_module_insert_module() could not";
        assert_eq!(without_place(line), "modprobe: ERROR: could not");
    }
}
