//! What the kernel shows of a module in /proc and /sys, and what the loader shows.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use lkm_kernel::EntryKind;
use lkm_kernel::Kernel;

use super::compare::Input;
use super::replay::Replay;
use super::report::Report;
use super::store;
use super::store::ModuleCapture;

/// Views right after a module was loaded, or failed to.
pub(crate) fn after_load(
    kernel: &mut Kernel,
    host: &mut Replay<'_>,
    seen: &ModuleCapture,
    report: &mut Report,
) {
    proc_modules(kernel, seen, report);
    let ours = kernel.taints.bits();
    if ours == seen.tainted {
        report.view("/proc/sys/kernel/tainted");
    } else {
        report.problem(format!("{}: tainted is {ours:#x}, the kernel's {:#x}", seen.name, seen.tainted));
    }
    sysfs(kernel, host, seen, report);
}

/// All lines of /proc/modules. References are counted by hand-over of code, too, which is not run here.
fn proc_modules(kernel: &Kernel, seen: &ModuleCapture, report: &mut Report) {
    let ours = kernel.proc_modules();
    if ours.lines().count() != seen.proc_modules.lines().count() {
        report.problem(format!("{}: /proc/modules is\n{ours}the kernel's\n{}", seen.name, seen.proc_modules));
    }
    for (ours, theirs) in ours.lines().zip(seen.proc_modules.lines()) {
        let without_count = |line: &str| {
            let fields = line.split(' ').enumerate().filter(|(index, _)| *index != 2);
            fields.map(|(_, field)| field.to_owned()).collect::<Vec<_>>()
        };
        if ours.trim_end() == theirs.trim_end() {
            report.view("/proc/modules");
        } else if without_count(ours.trim_end()) == without_count(theirs.trim_end()) {
            *report.run_time.entry("/proc/modules: references that code took").or_default() += 1;
        } else {
            report.problem(format!("{}: /proc/modules has\n{ours}, the kernel's\n{theirs}", seen.name));
        }
    }
}

/// Every file below /sys/module/NAME.
fn sysfs(kernel: &mut Kernel, host: &mut Replay<'_>, seen: &ModuleCapture, report: &mut Report) {
    let mut paths = BTreeMap::new();
    for directory in ["", "parameters", "sections", "notes", "holders"] {
        let path =
            if directory.is_empty() { seen.name.clone() } else { format!("{}/{directory}", seen.name) };
        for entry in kernel.sysfs_list(path.as_bytes()).unwrap_or_default() {
            let name = String::from_utf8_lossy(&entry.name);
            let name = if directory.is_empty() { name.into_owned() } else { format!("{directory}/{name}") };
            if entry.kind != EntryKind::Directory {
                paths.insert(name, entry.kind);
            }
        }
    }
    let ours: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    let theirs: BTreeSet<&str> = seen.sysfs.keys().map(String::as_str).collect();
    for path in ours.symmetric_difference(&theirs) {
        let whose = if ours.contains(path) { "only ours" } else { "only the kernel's" };
        report.problem(format!("{}: /sys/module has {path}, {whose}", seen.name));
    }
    for (path, kind) in &paths {
        let (Some(theirs), EntryKind::File(mode)) = (seen.sysfs.get(path), kind) else {
            report.view("/sys/module");
            continue;
        };
        let Ok(theirs) = theirs else {
            // Root may try to read anything; what can only be written to fails.
            if mode & 0o444 == 0 {
                report.view("/sys/module");
            } else {
                report
                    .problem(format!("{}: the kernel cannot read {path}, ours has mode {mode:o}", seen.name));
            }
            continue;
        };
        let theirs = store::unhex(theirs);
        match kernel.sysfs_read(host, format!("{}/{path}", seen.name).as_bytes()) {
            Ok(ours) if ours == theirs => report.view("/sys/module"),
            // The same bytes were there before the init function.
            _ if path.starts_with("parameters/") => {
                *report.run_time.entry("/sys/module: parameters that code set or shows").or_default() += 1;
            }
            Ok(_) if path == "refcnt" => {
                *report.run_time.entry("/sys/module: references that code took").or_default() += 1;
            }
            ours => {
                let (ours, theirs) = (ours.map(|bytes| text(&bytes)), text(&theirs));
                report.problem(format!("{}: {path} is {ours:?}, the kernel's {theirs:?}", seen.name));
            }
        }
    }
}

/// Views of all modules together.
pub(crate) fn at_the_end(kernel: &Kernel, input: &Input<'_>, report: &mut Report) {
    let ours = kernel.proc_kallsyms();
    let mut by_module: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in ours.lines() {
        let module = line.rsplit_once("\t[").map_or("", |(_, module)| module.trim_end_matches(']'));
        by_module.entry(module).or_default().push(line);
    }
    for seen in input.capture.modules.iter().filter(|seen| input.only.is_none_or(|only| only == seen.name)) {
        let ours = by_module.remove(seen.name.as_str()).unwrap_or_default();
        if ours.len() != seen.kallsyms.len() {
            let (ours, theirs) = (ours.len(), seen.kallsyms.len());
            report
                .problem(format!("{}: {ours} lines of /proc/kallsyms, the kernel's has {theirs}", seen.name));
            continue;
        }
        for (ours, theirs) in ours.iter().zip(&seen.kallsyms) {
            if ours == theirs {
                report.view("/proc/kallsyms");
            } else {
                report.problem(format!("{}: /proc/kallsyms has {ours}, the kernel's {theirs}", seen.name));
            }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
