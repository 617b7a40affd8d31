//! The answer of `depmod --check`.

use lkm_tree::depmod::Check;
use lkm_tree::depmod::FileState;
use lkm_tree::depmod::Stale;
use serde::Serialize;

use crate::Context;

#[derive(Serialize)]
struct Answer<'a> {
    current: bool,
    files: Vec<File<'a>>,
    modules: Modules<'a>,
}

#[derive(Serialize)]
struct Modules<'a> {
    new: &'a [String],
    gone: &'a [String],
    changed: &'a [String],
}

#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    surplus: Option<usize>,
}

fn file<'a>(name: &'a str, state: &'a FileState) -> File<'a> {
    let file = File { name, state: "current", why: None, missing: None, surplus: None };
    match state {
        FileState::Missing(why) => File { state: "missing", why: Some(why), ..file },
        FileState::Damaged(why) => File { state: "damaged", why: Some(why), ..file },
        FileState::Stale(stale) => File {
            state: "stale",
            missing: Some(stale.missing_count),
            surplus: Some(stale.surplus_count),
            ..file
        },
        _ => file,
    }
}

/// Prints what is not current; as JSON everything.
pub(super) fn show(context: &mut Context<'_>, check: &Check, json: bool) {
    if json {
        let answer = Answer {
            current: check.is_current(),
            files: check.files.iter().map(|(name, state)| file(name, state)).collect(),
            modules: Modules { new: &check.new, gone: &check.gone, changed: &check.changed },
        };
        let mut text = serde_json::to_vec_pretty(&answer).unwrap_or_default();
        text.push(b'\n');
        context.print(&text);
        return;
    }
    let mut text = String::new();
    for (name, state) in &check.files {
        match state {
            FileState::Missing(why) => text.push_str(&format!("{name}: missing: {why}\n")),
            FileState::Damaged(why) => text.push_str(&format!("{name}: damaged: {why}\n")),
            FileState::Stale(stale) => stale_text(&mut text, name, stale),
            _ => {}
        }
    }
    for (title, modules) in [("new", &check.new), ("gone", &check.gone), ("changed", &check.changed)] {
        for module in modules {
            text.push_str(&format!("{title}: {module}\n"));
        }
    }
    context.print(text.as_bytes());
}

fn stale_text(text: &mut String, name: &str, stale: &Stale) {
    let count = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 entry {what}")),
        count => Some(format!("{count} entries {what}")),
    };
    let counts = [count(stale.missing_count, "missing"), count(stale.surplus_count, "too many")];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    text.push_str(&format!("{name}: stale: {}\n", counts.join(", ")));
    if name.ends_with(".bin") {
        return;
    }
    for (sign, items, all) in
        [('+', &stale.missing, stale.missing_count), ('-', &stale.surplus, stale.surplus_count)]
    {
        for item in items {
            text.push_str(&format!("  {sign} {item}\n"));
        }
        if all > items.len() {
            text.push_str(&format!("  {sign} ... {} more\n", all - items.len()));
        }
    }
}
