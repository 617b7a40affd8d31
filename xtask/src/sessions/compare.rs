//! Holding what our commands did against what the reference did.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::case::Case;
use super::case::Part;
use super::case::Tool;
use super::differences;
use super::machine::Files;
use crate::error::Context;
use crate::error::Result;

/// What came out of all cases.
pub(super) struct Compared {
    pub(super) text: String,
    pub(super) failures: usize,
    pub(super) occurred: BTreeSet<&'static str>,
}

/// What one tool did in a case.
struct Answer {
    code: Option<u8>,
    out: String,
    err: Vec<String>,
    /// Some of these lines had a place in libkmod's source, which was taken out.
    positions: bool,
    modules: Vec<String>,
    look: String,
    /// What preparing it said; nothing, if all is well.
    before: String,
}

impl Answer {
    fn of(files: &Files, number: usize, tool: Tool) -> Result<Answer> {
        let file = |end: &str| {
            let name = format!("{number}.{}.{end}", tool.name());
            let bytes = files.get(&name).with_context(|| format!("there is no result {name}"))?;
            Result::Ok(bytes.iter().map(|&byte| text_of(byte)).collect::<String>())
        };
        Ok(Answer {
            code: file("code")?.trim().parse().ok(),
            out: file("out")?,
            positions: false,
            err: file("err")?.lines().map(str::to_owned).collect(),
            modules: file("modules")?.lines().map(without_address).collect(),
            look: file("look")?,
            before: file("before")?,
        })
    }

    fn take_positions_out(&mut self) {
        for line in &mut self.err {
            if let Some(shorter) = without_position(line) {
                *line = shorter;
                self.positions = true;
            }
        }
    }

    fn first(&self) -> &str {
        self.err.first().map_or("", String::as_str)
    }
}

/// Bytes beyond ASCII must be told apart, not read.
fn text_of(byte: u8) -> char {
    char::from(byte)
}

/// A message of libkmod without the place in its source: `../libkmod/FILE.c:LINE FUNCTION() `. What it says before it knows who it
/// speaks for has the program's name, too.
fn without_position(line: &str) -> Option<String> {
    let (before, rest) = line.split_once("../libkmod/")?;
    let mut words = rest.splitn(3, ' ');
    let (_file, _function, text) = (words.next()?, words.next()?, words.next()?);
    let before = if before == "libkmod: ERROR " { "modprobe: ERROR: " } else { before };
    Some(format!("{before}{text}"))
}

/// A line of /proc/modules without the address, which no two loads share.
fn without_address(line: &str) -> String {
    let words = line.split(' ').enumerate().filter(|(index, _)| *index != 5).map(|(_, word)| word);
    words.collect::<Vec<_>>().join(" ")
}

pub(super) fn all(cases: &[&'static Case], files: &Files, release: &str, show: bool) -> Result<Compared> {
    let mut compared = Compared { text: String::new(), failures: 0, occurred: BTreeSet::new() };
    for (number, case) in cases.iter().enumerate() {
        let (reference, ours) = case.pair.tools();
        let mut reference = reference.map(|tool| Answer::of(files, number, tool)).transpose()?;
        if let Some(reference) = &mut reference {
            reference.take_positions_out();
        }
        let ours = Answer::of(files, number, ours)?;
        let problems = problems(case, reference.as_ref(), &ours, release);
        if problems.is_empty() {
            compared.occurred.extend(case.difference.map(|difference| difference.row));
            if reference.as_ref().is_some_and(|reference| reference.positions) {
                compared.occurred.insert(differences::POSITIONS);
            }
            if reference.is_some() && ours.err.iter().any(|line| is_explanation(line)) {
                compared.occurred.insert(differences::EXPLANATIONS);
            }
        } else {
            compared.failures += 1;
        }
        if show || !problems.is_empty() {
            let _ = writeln!(compared.text, "  {}: {}", case.name, case.run.trim());
            for problem in &problems {
                let _ = writeln!(compared.text, "      NOT AS IT SHOULD BE: {problem}");
            }
            for (name, answer) in [("reference", reference.as_ref()), ("ours", Some(&ours))] {
                if let Some(answer) = answer {
                    describe(&mut compared.text, name, answer);
                }
            }
        }
    }
    Ok(compared)
}

fn problems(case: &Case, reference: Option<&Answer>, ours: &Answer, release: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let judged = reference.unwrap_or(ours);
    for answer in [Some(ours), reference].into_iter().flatten() {
        if !answer.before.is_empty() {
            problems.push(format!("the state could not be made: {}", answer.before.trim()));
        }
    }
    if judged.code != Some(case.code) {
        problems.push(format!("the exit code should be {}", case.code));
    }
    let says = case.says.replace("$V", release);
    if !says.is_empty() && judged.first() != says {
        problems.push(format!("the first line should be: {says}"));
    }
    let explanation = ours.err.get(1..).unwrap_or_default().join("\n");
    for text in case.explains {
        if !explanation.contains(text) {
            problems.push(format!("the lines after the first should have: {text}"));
        }
    }
    for text in case.shows {
        if !ours.out.contains(text) && !ours.look.contains(text) {
            problems.push(format!("ours should print: {text}"));
        }
    }
    let Some(reference) = reference else { return problems };
    let different = different(reference, ours);
    let expected: BTreeSet<Part> =
        case.difference.map(|difference| difference.parts.iter().copied().collect()).unwrap_or_default();
    for part in different.difference(&expected) {
        problems.push(format!("different: {part:?}"));
    }
    for part in expected.difference(&different) {
        problems.push(format!("should be different and is not: {part:?}"));
    }
    if let Some(difference) = case.difference {
        let all = format!("{}\n{}\n{}", ours.out, ours.err.join("\n"), ours.look);
        if !all.contains(difference.ours) {
            problems.push(format!("ours should say: {}", difference.ours));
        }
    }
    problems
}

fn different(reference: &Answer, ours: &Answer) -> BTreeSet<Part> {
    let mut parts = BTreeSet::new();
    if reference.code != ours.code {
        parts.insert(Part::Code);
    }
    if reference.out != ours.out {
        parts.insert(Part::Out);
    }
    if reference.first() != ours.first() || !with_explanations(&reference.err, &ours.err) {
        parts.insert(Part::Err);
    }
    if reference.modules != ours.modules {
        parts.insert(Part::Modules);
    }
    if reference.look != ours.look {
        parts.insert(Part::Look);
    }
    parts
}

/// Whether our lines are those of the reference, with nothing between and behind them but explanations.
fn with_explanations(reference: &[String], ours: &[String]) -> bool {
    let mut reference = reference.iter().peekable();
    let expected = |line: &String| {
        if reference.next_if_eq(&line).is_some() {
            return true;
        }
        is_explanation(line)
    };
    ours.iter().all(expected) && reference.peek().is_none()
}

/// Whether a line is of those that stand behind a refusal.
fn is_explanation(line: &str) -> bool {
    ["  kernel: ", "  cause: ", "  try: "].iter().any(|start| line.starts_with(start))
}

fn describe(text: &mut String, name: &str, answer: &Answer) {
    let code = answer.code.map_or("none".to_owned(), |code| code.to_string());
    let _ = writeln!(text, "      {name}: exit code {code}");
    let parts = [("out", &answer.out), ("err", &answer.err.join("\n")), ("look", &answer.look)];
    for (what, said) in parts {
        let lines: Vec<&str> = said.lines().collect();
        for line in lines.iter().take(LINES) {
            let _ = writeln!(text, "          {what}: {line}");
        }
        if lines.len() > LINES {
            let _ = writeln!(text, "          {what}: and {} lines more", lines.len() - LINES);
        }
    }
    let _ = writeln!(text, "          modules: {}", answer.modules.join(" | "));
}

/// Lines that are shown of an output.
const LINES: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u8, out: &str, err: &str) -> Answer {
        Answer {
            code: Some(code),
            out: out.to_owned(),
            err: err.lines().map(str::to_owned).collect(),
            positions: false,
            modules: Vec::new(),
            look: String::new(),
            before: String::new(),
        }
    }

    #[test]
    fn explanations_are_no_difference_and_all_else_is() {
        let reference = answer(1, "a\n", "x: ERROR: no\nx: ERROR: never");
        assert!(
            different(
                &reference,
                &answer(1, "a\n", "x: ERROR: no\n  cause: it is\nx: ERROR: never\n  try: it")
            )
            .is_empty()
        );
        let parts = |ours| different(&reference, &ours).into_iter().collect::<Vec<_>>();
        assert_eq!(parts(answer(0, "a\n", "x: ERROR: no\nx: ERROR: never")), [Part::Code]);
        assert_eq!(parts(answer(1, "a", "x: ERROR: no\nx: ERROR: never")), [Part::Out]);
        assert_eq!(parts(answer(1, "a\n", "x: ERROR: never\nx: ERROR: no")), [Part::Err]);
        assert_eq!(parts(answer(1, "a\n", "  cause: it is\nx: ERROR: no\nx: ERROR: never")), [Part::Err]);
        assert_eq!(parts(answer(1, "a\n", "x: ERROR: no\nbecause\nx: ERROR: never")), [Part::Err]);
        assert_eq!(parts(answer(1, "a\n", "x: ERROR: no")), [Part::Err]);
    }

    #[test]
    fn a_difference_must_occur_and_be_listed() {
        const SAME: Case = Case::fails("a", "insmod", "x: ERROR: no");
        const OTHER: Case = Case::fails("b", "insmod", "").differs("row", &[Part::Code], "because");
        let (no, yes) = (answer(1, "", "x: ERROR: no"), answer(0, "because", "x: ERROR: no"));
        assert!(problems(&SAME, Some(&no), &no, "").is_empty());
        assert_eq!(problems(&SAME, Some(&no), &yes, ""), ["different: Code", "different: Out"]);
        assert_eq!(problems(&OTHER, Some(&no), &yes, ""), ["different: Out"]);
        assert_eq!(
            problems(&OTHER, Some(&no), &no, ""),
            ["should be different and is not: Code", "ours should say: because"]
        );
        const EXPLAINED: Case = Case::ours("c", "insmod", 1, "x: no").explains(&["why"]);
        assert_eq!(
            problems(&EXPLAINED, None, &answer(1, "", "x: no\nthis is why"), ""),
            Vec::<String>::new()
        );
        assert_eq!(problems(&EXPLAINED, None, &answer(2, "", "x: why"), "").len(), 3);
    }

    #[test]
    fn places_in_the_source_are_cut_out() {
        let said = [
            "rmmod: ERROR: ../libkmod/libkmod-module.c:856 kmod_module_remove_module() could not remove 'x': Busy",
            "libkmod: ERROR ../libkmod/libkmod-config.c:712 kmod_config_parse: x.conf line 1: ignoring",
        ];
        let shorter = said.map(|line| without_position(line).unwrap());
        assert_eq!(
            shorter,
            ["rmmod: ERROR: could not remove 'x': Busy", "modprobe: ERROR: x.conf line 1: ignoring"]
        );
        assert_eq!(without_position("rmmod: ERROR: no"), None);
    }

    #[test]
    fn addresses_are_cut_off() {
        assert_eq!(without_address("a 1 0 b,c, Live 0xffffffff (OE)"), "a 1 0 b,c, Live (OE)");
        assert_eq!(without_address("a 1 0 - Live 0xffffffff"), "a 1 0 - Live");
    }
}
