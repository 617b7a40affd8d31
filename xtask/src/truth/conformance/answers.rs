//! What the loader answers, and whether the kernel answered the same.

use std::collections::HashMap;

use lkm_kernel::Bookkeeper;
use lkm_kernel::FileFacts;
use lkm_kernel::Kernel;
use lkm_kernel::Profile;

use super::super::memory::Export;
use super::super::store;
use super::ask::Answer;
use super::cases::BLACKLISTED;
use super::cases::Case;

/// Parameters whose text is made by code of the module.
const BY_CODE: &[&str] = &["p_even"];

/// Asks the loader all cases and prints how the answers compare; whether all are the same.
pub(crate) fn compare(
    profile: &Profile,
    exports: &HashMap<Vec<u8>, Export>,
    cases: &[Case],
    answers: &[Answer],
) -> bool {
    let mut boot = usize::MAX;
    let mut kernel = Kernel::new(profile.clone());
    let mut host = Bookkeeper::new(profile);
    let mut tally = Tally::default();
    for (case, theirs) in cases.iter().zip(answers) {
        if theirs.boot != boot {
            boot = theirs.boot;
            kernel = Kernel::new(profile.clone());
            kernel.options.module_blacklist = vec![BLACKLISTED.to_owned()];
            host = Bookkeeper::new(profile);
            host.facts.smp = true;
            for (name, export) in exports {
                host.export(name, export.address, Some(export.crc), export.gpl_only, &export.namespace);
            }
        }
        if theirs.crashed {
            tally.crashes += 1;
            tally.differences.push(format!("{}: the kernel crashed", case.name));
            continue;
        }
        let ours = ask(&mut kernel, &mut host, case);
        tally.case(case, &ours, theirs);
    }
    tally.print(cases.len());
    tally.differences.is_empty()
}

/// One case for the loader.
fn ask(kernel: &mut Kernel, host: &mut Bookkeeper, case: &Case) -> Answer {
    let mut answer = Answer::default();
    kernel.options.modules_disabled |= case.disabled;
    host.lines.clear();
    host.results = case.returns.iter().map(|&value| Some(value as u64)).collect();
    if let Some(file) = &case.file {
        let arguments = Some(case.arguments.as_bytes());
        let result = if case.by_init_module {
            lkm_kernel::init_module(kernel, host, file, arguments)
        } else {
            let facts = FileFacts::regular(file.len() as u64);
            lkm_kernel::finit_module(kernel, host, &facts, file, arguments, case.flags)
        };
        answer.result = result.map_or_else(|error| error.returned(), |_| 0);
        answer.log = log(host);
        answer.tainted = kernel.taints.bits();
        answer.proc_modules = kernel.proc_modules();
        if answer.result >= 0 {
            let name = case.module.replace('/', "!");
            for entry in kernel.sysfs_list(format!("{name}/parameters").as_bytes()).unwrap_or_default() {
                let entry = String::from_utf8_lossy(&entry.name).into_owned();
                let contents = kernel.sysfs_read(host, format!("{name}/parameters/{entry}").as_bytes());
                let contents =
                    contents.map(|bytes| store::hex(&bytes)).map_err(|errno| i64::from(errno.raw()));
                answer.parameters.insert(entry, contents);
            }
        }
    }
    host.lines.clear();
    host.results.clear();
    if case.file.is_none() || answer.result >= 0 && !case.keep {
        let result = lkm_kernel::delete_module(kernel, host, Some(case.module.as_bytes()), case.delete_flags);
        answer.deleted = Some(result.map_or_else(|error| -i64::from(error.errno().raw()), |()| 0));
        answer.delete_log = log(host);
        answer.delete_tainted = kernel.taints.bits();
    }
    answer
}

fn log(host: &Bookkeeper) -> Vec<String> {
    let record = |(level, text): &(lkm_module::Level, String)| {
        text.trim_end_matches('\n')
            .split('\n')
            .map(|line| format!("<{}>{line}", *level as u8))
            .collect::<Vec<_>>()
    };
    host.lines.iter().flat_map(record).collect()
}

/// How many answers were the same.
#[derive(Debug, Default)]
struct Tally {
    crashes: usize,
    results: usize,
    logs: usize,
    lines: usize,
    taints: usize,
    views: usize,
    parameters: usize,
    removals: usize,
    differences: Vec<String>,
}

impl Tally {
    fn case(&mut self, case: &Case, ours: &Answer, theirs: &Answer) {
        let mut say = |what: &str, ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
            self.differences.push(format!(
                "{}: {what}\n          ours   {ours:?}\n          theirs {theirs:?}",
                case.name
            ));
        };
        if ours.result == theirs.result.min(0) {
            self.results += 1
        } else {
            say("result", &ours.result, &theirs.result)
        }
        let code_ran = super::code_ran(case, theirs);
        if same_log(&ours.log, &theirs.log, code_ran) {
            self.logs += 1;
            self.lines += ours.log.len();
        } else {
            say("log", &ours.log, &theirs.log);
        }
        if case.file.is_some() {
            if ours.tainted == theirs.tainted {
                self.taints += 1
            } else {
                say("taints", &ours.tainted, &theirs.tainted)
            }
            let (own, real) =
                (without_addresses(&ours.proc_modules), without_addresses(&theirs.proc_modules));
            if own == real { self.views += 1 } else { say("/proc/modules", &own, &real) }
        }
        for (name, real) in &theirs.parameters {
            let own = ours.parameters.get(name);
            if own == Some(real) || BY_CODE.contains(&name.as_str()) {
                self.parameters += 1;
            } else {
                let show = |text: Option<&Result<String, i64>>| match text {
                    Some(Ok(text)) => String::from_utf8_lossy(&store::unhex(text)).into_owned(),
                    other => format!("{other:?}"),
                };
                say(&format!("parameter {name}"), &show(own), &show(Some(real)));
            }
        }
        if ours.result < 0 && theirs.result >= 0 || ours.result >= 0 && theirs.result < 0 {
            return;
        }
        if theirs.deleted.is_some() || ours.deleted.is_some() {
            let (own, real) = ((ours.deleted, ours.delete_tainted), (theirs.deleted, theirs.delete_tainted));
            let same =
                own == real && same_log(&ours.delete_log, &theirs.delete_log, theirs.deleted == Some(0));
            if same {
                self.removals += 1;
            } else {
                say("removal", &(own, &ours.delete_log), &(real, &theirs.delete_log));
            }
        }
    }

    fn print(&self, cases: usize) {
        let row = |name: &str, count: usize| println!("    {name:<50}{count:>12}");
        row("cases", cases);
        row("  that crash the kernel", self.crashes);
        row("results that are the same", self.results);
        row("logs that are the same", self.logs);
        row("  with lines of the loader", self.lines);
        row("taints that are the same", self.taints);
        row("/proc/modules that are the same", self.views);
        row("parameters that read the same", self.parameters);
        row("removals that are the same", self.removals);
        row("answers that differ", self.differences.len());
        for difference in &self.differences {
            println!("      {difference}");
        }
    }
}

/// Whether the logs are the same but for addresses. When the module's code ran, the kernel's may have more lines.
fn same_log(ours: &[String], theirs: &[String], code_ran: bool) -> bool {
    let shown = |line: &String| without_addresses(line).trim_end().to_owned();
    let mut theirs = theirs.iter().map(shown);
    let mut ours = ours.iter().map(shown);
    if code_ran { ours.all(|line| theirs.any(|other| other == line)) } else { ours.eq(theirs) }
}

/// A text with every number of eight or more hexadecimal digits replaced, and what `%p` prints for them early.
fn without_addresses(text: &str) -> String {
    let text = text.replace("(____ptrval____)", "00000000").replace("(ptrval)", "00000000");
    let mut shown = String::new();
    let mut digits = String::new();
    for character in text.chars().chain(['\0']) {
        if character.is_ascii_hexdigit() {
            digits.push(character);
            continue;
        }
        shown.push_str(if digits.len() >= 8 { "ADDRESS" } else { &digits });
        digits.clear();
        if character != '\0' {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_do_not_count_and_other_lines_only_when_code_ran() {
        assert_eq!(without_addresses("val ffffffffc0201000, type 10"), "val ADDRESS, type 10");
        let ours = [String::from("<4>a 0000000012345678")];
        let theirs = [String::from("<6>hello"), String::from("<4>a 0000000087654321")];
        assert!(same_log(&ours, &theirs, true));
        assert!(!same_log(&ours, &theirs, false));
        assert!(!same_log(&theirs, &ours, true));
    }

    #[test]
    fn any_other_answer_is_a_difference() {
        let case = Case {
            name: String::from("a case"),
            file: Some(Vec::new()),
            module: String::from("hello"),
            arguments: String::new(),
            flags: 0,
            by_init_module: false,
            returns: Vec::new(),
            dumps: false,
            disabled: false,
            keep: false,
            delete_flags: 0,
        };
        let same = Answer { result: -8, log: vec![String::from("<3>no")], ..Answer::default() };
        let differs = |ours: Answer| {
            let mut tally = Tally::default();
            tally.case(&case, &ours, &same);
            !tally.differences.is_empty()
        };
        assert!(!differs(same.clone()));
        assert!(differs(Answer { result: -22, ..same.clone() }));
        assert!(differs(Answer { log: Vec::new(), ..same.clone() }));
        assert!(differs(Answer { tainted: 1, ..same.clone() }));
        assert!(differs(Answer { proc_modules: String::from("hello"), ..same.clone() }));
    }
}
