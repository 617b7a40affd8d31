//! Holding an answer to what it has to be.

use std::fmt::Write;

use crate::case::Expected;
use crate::case::Step;
use crate::case::Written;
use crate::fixture::Node;
use crate::run::Answer;
use crate::trace::End;

/// What is wrong with an answer, a line for each thing; empty if nothing is. `kmod` is kmod 30's answer to the same.
pub(crate) fn differences(step: &Step, kmod: &Answer, answer: &Answer) -> Vec<String> {
    let mut wrong = Vec::new();
    let program = step.words.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
    let (err, explained) = split_explanations(&answer.err);
    match &step.expected {
        Expected::Kmod => {
            let (kmod_err, _) = split_explanations(&kmod.err);
            compare("end", &kmod.end, &answer.end, &mut wrong);
            let mut outs = [text(&kmod.out), text(&answer.out)];
            if let Some((before, more)) = step.inserted {
                outs[0] = outs[0].replacen(before, &format!("{more}{before}"), 1);
            }
            if step.any_order {
                outs = outs.map(|out| {
                    let mut lines: Vec<&str> = out.split_inclusive('\n').collect();
                    lines.sort_unstable();
                    lines.concat()
                });
            }
            compare("stdout", &outs[0], &outs[1], &mut wrong);
            let (kmod_err, err) = (without_places(program, &kmod_err), without_places(program, &err));
            compare("stderr", &kmod_err, &err, &mut wrong);
            compare("calls", &kmod.calls, &answer.calls, &mut wrong);
            compare("loaded", &kmod.loaded, &answer.loaded, &mut wrong);
            let mut files = kmod.files.clone();
            for (path, contents) in &step.instead {
                files.insert(path.clone(), Some(Node::File(0o644, contents.as_bytes().to_vec())));
            }
            for path in files.keys().chain(answer.files.keys().filter(|path| !files.contains_key(*path))) {
                let (one, other) = (files.get(path), answer.files.get(path));
                // Directories are made on the way to their files.
                if one != other
                    && !(one.is_none() && (is_addition(path) || other == Some(&Some(Node::Directory))))
                {
                    wrong.push(format!("{path}: {}", unlike(one, other)));
                }
            }
        }
        Expected::Written(written) => compare_written(written, program, answer, &err, &mut wrong),
    }
    for text in &step.explained {
        if !explained.iter().any(|line| line.contains(text)) {
            wrong.push(format!("no explanation has {text:?}, only {explained:?}"));
        }
    }
    wrong
}

fn compare_written(written: &Written, program: &str, answer: &Answer, err: &str, wrong: &mut Vec<String>) {
    compare("end", &End::Code(written.code), &answer.end, wrong);
    if !written.any_out {
        compare("stdout", &written.out, &text(&answer.out), wrong);
    }
    compare("stderr", &written.err, &without_places(program, err), wrong);
    let mut calls = answer.calls.clone();
    if written.repeats {
        calls.dedup();
    }
    compare("calls", written.calls.as_ref().unwrap_or(&Vec::new()), &calls, wrong);
    let mut files: Vec<&String> = answer.files.keys().filter(|path| !is_addition(path)).collect();
    for (path, contents) in &written.files {
        files.retain(|&other| other != path);
        match (answer.files.get(path), contents) {
            (Some(Some(Node::File(_, bytes))), Some(contents)) => {
                compare(path, contents, &text(bytes), wrong);
            }
            (Some(Some(_)), None) => {}
            (found, _) => wrong.push(format!("{path} is not written: {}", show(found))),
        }
    }
    // Directories that were made for the files.
    files.retain(|other| !written.files.iter().any(|(path, _)| path.starts_with(&format!("{other}/"))));
    if !files.is_empty() {
        wrong.push(format!("also changed: {files:?}"));
    }
}

fn compare<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, found: &T, wrong: &mut Vec<String>) {
    if expected != found {
        wrong.push(format!("{what}: {expected:?}\n      but is {found:?}"));
    }
}

/// What depmod writes besides what kmod 30 writes: what it keeps to be faster the next time, and the weak dependencies
/// of later releases, which a case of their own looks at.
fn is_addition(path: &str) -> bool {
    ["/modules.lkm-cache.bin", "/modules.weakdep"].iter().any(|end| path.ends_with(end))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Where two states of a file begin to differ.
fn unlike(one: Option<&Option<Node>>, other: Option<&Option<Node>>) -> String {
    if let (Some(Some(Node::File(mode, bytes))), Some(Some(Node::File(other_mode, other_bytes)))) =
        (one, other)
        && mode == other_mode
    {
        let (one, other) = (text(bytes), text(other_bytes));
        let same = one.lines().zip(other.lines()).take_while(|(one, other)| one == other).count();
        let line = |text: &str| text.lines().nth(same).unwrap_or("the end").to_owned();
        return format!("line {}: {:?}\n      but is {:?}", same + 1, line(&one), line(&other));
    }
    format!("{}\n      but is {}", show(one), show(other))
}

fn show(node: Option<&Option<Node>>) -> String {
    match node {
        None => "unchanged".into(),
        Some(None) => "removed".into(),
        Some(Some(Node::File(mode, bytes))) => {
            let mut text = format!("{mode:o} \"{}\"", bytes.escape_ascii());
            if let Some((cut, _)) = text.char_indices().nth(60) {
                text.truncate(cut);
                let _ = write!(text, "...");
            }
            text
        }
        Some(Some(node)) => format!("{node:?}"),
    }
}

/// Standard error without the lines that explain, and these.
fn split_explanations(err: &[u8]) -> (String, Vec<String>) {
    let (mut rest, mut explained) = (String::new(), Vec::new());
    for line in String::from_utf8_lossy(err).split_inclusive('\n') {
        if ["  kernel: ", "  cause: ", "  try: "].iter().any(|start| line.starts_with(start)) {
            explained.push(line.trim_end().to_owned());
        } else {
            rest.push_str(line);
        }
    }
    (rest, explained)
}

/// Parts of messages that are left out.
const SAID_OTHERWISE: &[&str] = &[": ctx=0x", " magic check fail: ", " major version check fail: "];

/// Messages of kmod 30's library begin with a place in its sources, which later releases leave out, and with the library's
/// name as long as the program has not set up its own. Some are about addresses in its memory, or numbers in a damaged index,
/// which the cases ask to be named in an explanation.
fn without_places(program: &str, err: &str) -> String {
    let mut text = String::new();
    for line in
        err.split_inclusive('\n').filter(|line| !SAID_OTHERWISE.iter().any(|part| line.contains(part)))
    {
        let message = line.strip_prefix("libkmod: ERROR ../libkmod/").and_then(|rest| rest.split_once(": "));
        let placed = line
            .split_once(" ../libkmod/")
            .and_then(|(start, rest)| Some((start, rest.split_once("() ")?.1)));
        match (message, placed) {
            (Some((_, message)), _) => {
                let _ = write!(text, "{program}: ERROR: {message}");
            }
            (None, Some((start, message))) => {
                let _ = write!(text, "{start} {message}");
            }
            (None, None) => text.push_str(line),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_kept_apart() {
        let err = b"x: ERROR: a\n  cause: b\n  other\n  try: c\n";
        let (rest, explained) = split_explanations(err);
        assert_eq!(rest, "x: ERROR: a\n  other\n");
        assert_eq!(explained, ["  cause: b", "  try: c"]);
    }

    #[test]
    fn places_in_sources_are_no_part_of_a_message() {
        let line = "libkmod: ERROR ../libkmod/libkmod-config.c:712 kmod_config_parse: a.conf line 1: bad\n";
        assert_eq!(without_places("modprobe", line), "modprobe: ERROR: a.conf line 1: bad\n");
        let line = "rmmod: ERROR: ../libkmod/libkmod-module.c:799 some_function() could not remove 'x'\n";
        assert_eq!(without_places("rmmod", line), "rmmod: ERROR: could not remove 'x'\n");
        assert_eq!(without_places("rmmod", "rmmod: ERROR: ctx=0x55 path=/x error=none\n"), "");
        assert_eq!(without_places("rmmod", "rmmod: ERROR: x\n"), "rmmod: ERROR: x\n");
    }
}
