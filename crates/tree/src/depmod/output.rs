//! The contents of the index files.

use std::path::Path;

use lkm_module::Errno;

use super::graph::Closure;
use super::graph::Graph;
use super::graph::KERNEL;
use super::hash::SYMBOL_BUCKETS;
use super::hash::sort_as_table;
use super::note::Note;
use super::scan::Facts;
use super::sections::errno_of;
use super::walk::Found;
use crate::index::binary::BuildError;
use crate::index::binary::IndexBuilder;
use crate::name::underscores;
use crate::words::Strings;

/// One index file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFile {
    /// Its name, such as `modules.dep`.
    pub name: &'static str,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl IndexFile {
    /// It is for the eye and for scripts; the others are for look-ups.
    pub fn is_text(&self) -> bool {
        !self.name.ends_with(".bin")
    }
}

/// What the files are made of.
pub(super) struct Input<'a> {
    pub(super) root: &'a Path,
    pub(super) found: &'a [Found],
    pub(super) facts: &'a Facts,
    pub(super) graph: &'a Graph,
    pub(super) built_in: [BuiltIn; 2],
    pub(super) duplicates: bool,
    /// Only the text files are wanted, and nothing that concerns others is told.
    pub(super) text_only: bool,
}

type Made = Result<(Vec<IndexFile>, Vec<Note>), BuildError>;

/// Makes the wanted groups of files ([`GROUPS`](super::digest::GROUPS)), in the order in which kmod writes them. Gives
/// with them whether nothing was to be said about each group.
pub(super) fn make(
    input: &Input<'_>,
    wanted: [bool; 4],
    threads: bool,
    note: &mut dyn FnMut(Note),
) -> Result<(Vec<IndexFile>, [bool; 4]), BuildError> {
    let tasks: [fn(&Input<'_>) -> Made; 4] = [dependencies, aliases, symbols, rest];
    let run = |group: usize| -> Made {
        match (wanted.get(group), tasks.get(group)) {
            (Some(true), Some(task)) => task(input),
            _ => Ok((Vec::new(), Vec::new())),
        }
    };
    let made: [Made; 4] = if threads && wanted.iter().filter(|wanted| **wanted).count() > 1 {
        std::thread::scope(|scope| {
            let other = std::thread::Builder::new().spawn_scoped(scope, || [run(1), run(3)]);
            let (dependencies, symbols) = (run(0), run(2));
            let [aliases, rest] = match other.ok().and_then(|thread| thread.join().ok()) {
                Some(made) => made,
                None => [run(1), run(3)],
            };
            [dependencies, aliases, symbols, rest]
        })
    } else {
        [run(0), run(1), run(2), run(3)]
    };
    let mut files = Vec::new();
    let mut silent = [true; 4];
    for (made, silent) in made.into_iter().zip(&mut silent) {
        let (made, notes) = made?;
        *silent = notes.is_empty();
        notes.into_iter().for_each(&mut *note);
        files.extend(made);
    }
    Ok((files, silent))
}

fn text(name: &'static str, bytes: Vec<u8>) -> IndexFile {
    IndexFile { name, bytes }
}

/// A list that the kernel's build leaves.
pub(super) struct BuiltIn {
    name: &'static str,
    pub(super) bytes: Vec<u8>,
    error: Option<Errno>,
}

impl BuiltIn {
    /// `modules.builtin` and `modules.builtin.modinfo`.
    pub(super) fn read(root: &Path) -> [BuiltIn; 2] {
        ["modules.builtin", "modules.builtin.modinfo"].map(|name| match std::fs::read(root.join(name)) {
            Ok(bytes) => BuiltIn { name, bytes, error: None },
            Err(error) => BuiltIn { name, bytes: Vec::new(), error: Some(errno_of(&error)) },
        })
    }

    fn missing(&self, root: &Path) -> Option<Note> {
        self.error.map(|errno| Note::Missing(self.name, root.to_owned(), errno))
    }
}

impl Input<'_> {
    /// A builder of an index if one is wanted.
    fn index(&self) -> Option<IndexBuilder> {
        (!self.text_only).then(IndexBuilder::new)
    }
}

/// Adds an index, if one is wanted.
fn binary(
    files: &mut Vec<IndexFile>,
    name: &'static str,
    builder: Option<IndexBuilder>,
) -> Result<(), BuildError> {
    if let Some(builder) = builder {
        files.push(IndexFile { name, bytes: builder.finish()? });
    }
    Ok(())
}

/// Puts a value into an index, if one is wanted. False if the key is none.
fn insert(
    index: &mut Option<IndexBuilder>,
    key: &[u8],
    value: &[u8],
    priority: u32,
) -> Result<bool, BuildError> {
    match index.as_mut().map_or(Ok(()), |index| index.insert(key, value, priority)) {
        Err(BuildError::Key(_)) => Ok(false),
        other => other.map(|()| true),
    }
}

fn dependencies(input: &Input<'_>) -> Made {
    let mut lines = Vec::new();
    let mut index = input.index();
    let mut room = Closure::default();
    let mut notes = Vec::new();
    for (module, found) in input.found.iter().enumerate() {
        let start = lines.len();
        lines.extend_from_slice(&found.path);
        lines.push(b':');
        for &needed in input.graph.all_needs(module, &mut room) {
            if let Some(needed) = input.found.get(needed as usize) {
                lines.push(b' ');
                lines.extend_from_slice(&needed.path);
            }
        }
        if !insert(&mut index, &found.name, lines.get(start..).unwrap_or(&[]), module as u32)? {
            notes.push(not_ascii(&found.name, &found.name));
        }
        lines.push(b'\n');
    }
    let mut files = vec![text("modules.dep", lines)];
    binary(&mut files, "modules.dep.bin", index)?;
    Ok((files, notes))
}

fn not_ascii(alias: &[u8], module: &[u8]) -> Note {
    Note::NotAscii(String::from_utf8_lossy(alias).into_owned(), String::from_utf8_lossy(module).into_owned())
}

/// The value of a field if this is its key.
fn value_of<'a>(field: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    match field.strip_prefix(key)? {
        [] => Some(&[]),
        [b'=', value @ ..] => Some(value),
        _ => None,
    }
}

fn append(out: &mut Vec<u8>, parts: [&[u8]; 5]) {
    out.reserve(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn aliases(input: &Input<'_>) -> Made {
    let mut lines = b"# Aliases extracted from modules themselves.\n".to_vec();
    let mut soft = b"# Soft dependencies extracted from modules themselves.\n".to_vec();
    let mut weak = b"# Weak dependencies extracted from modules themselves.\n".to_vec();
    let mut index = input.index();
    let mut notes = Vec::new();
    let mut key = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let lossy = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    for (module, found) in input.found.iter().enumerate() {
        let Some((part, record)) = input.facts.of(module) else { continue };
        seen.clear();
        for field in Strings(part.info(record)) {
            if let Some(alias) = value_of(field, b"alias") {
                append(&mut lines, [b"alias ", alias, b" ", &found.name, b"\n"]);
                if index.is_none() {
                    continue;
                }
                if !underscores_into(alias, &mut key) {
                    notes.push(Note::Bracket(lossy(alias)));
                    continue;
                }
                if !insert(&mut index, &key, &found.name, module as u32)? {
                    notes.push(not_ascii(alias, &found.name));
                }
                if input.duplicates && !seen.insert(key.clone()) {
                    notes.push(Note::DuplicateAlias(lossy(&key), lossy(&found.name)));
                }
            } else if let Some(value) = value_of(field, b"softdep") {
                append(&mut soft, [b"softdep ", &found.name, b" ", value, b"\n"]);
            } else if let Some(value) = value_of(field, b"weakdep") {
                append(&mut weak, [b"weakdep ", &found.name, b" ", value, b"\n"]);
            }
        }
    }
    let mut files = vec![text("modules.alias", lines)];
    binary(&mut files, "modules.alias.bin", index)?;
    files.extend([text("modules.softdep", soft), text("modules.weakdep", weak)]);
    Ok((files, notes))
}

/// The key of an alias. False if its brackets do not pair.
fn underscores_into(alias: &[u8], key: &mut Vec<u8>) -> bool {
    key.clear();
    if !alias.iter().any(|byte| matches!(byte, b'[' | b']')) {
        key.extend(alias.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }));
        return true;
    }
    match underscores(alias) {
        Some(text) => {
            key.extend_from_slice(&text);
            true
        }
        None => false,
    }
}

fn symbols(input: &Input<'_>) -> Made {
    let mut lines = b"# Aliases for symbols, used by symbol_request().\n".to_vec();
    let mut index = input.index();
    let mut notes = Vec::new();
    let names = &input.graph.names;
    let owned =
        |number: &u32| input.graph.symbols.get(*number as usize).is_some_and(|symbol| symbol.owner != KERNEL);
    let mut numbers: Vec<u32> = (0..names.len() as u32).filter(owned).collect();
    sort_as_table(&mut numbers, SYMBOL_BUCKETS, |number| names.get(*number));
    let mut key = Vec::new();
    for number in numbers {
        let Some(symbol) = input.graph.symbols.get(number as usize) else { continue };
        let Some(owner) = input.found.get(symbol.owner as usize) else { continue };
        key.clear();
        key.extend_from_slice(b"symbol:");
        key.extend_from_slice(names.get(number));
        for part in [b"alias ", key.as_slice(), b" ", &owner.name, b"\n"] {
            lines.extend_from_slice(part);
        }
        if !insert(&mut index, &key, &owner.name, symbol.owner)? {
            notes.push(not_ascii(&key, &owner.name));
        }
    }
    let mut files = vec![text("modules.symbols", lines)];
    binary(&mut files, "modules.symbols.bin", index)?;
    Ok((files, notes))
}

/// What is made of the lists that the kernel's build leaves, and the device nodes.
fn rest(input: &Input<'_>) -> Made {
    let (mut files, mut notes) = (Vec::new(), Vec::new());
    if !input.text_only {
        let [list, fields] = &input.built_in;
        notes.extend(list.missing(input.root));
        binary(&mut files, "modules.builtin.bin", Some(builtin(&list.bytes, &mut notes)?))?;
        notes.extend(fields.missing(input.root));
        binary(&mut files, "modules.builtin.alias.bin", Some(builtin_aliases(&fields.bytes, &mut notes)?))?;
    }
    files.push(text("modules.devname", device_nodes(input, &mut notes)));
    Ok((files, notes))
}

fn builtin(list: &[u8], notes: &mut Vec<Note>) -> Result<IndexBuilder, BuildError> {
    let mut index = Some(IndexBuilder::new());
    for line in list.split_inclusive(|byte| *byte == b'\n') {
        if !line.first().is_some_and(u8::is_ascii_alphabetic) {
            notes.push(Note::BuiltinLine(String::from_utf8_lossy(line).into_owned()));
            continue;
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let module = Found::new(line.to_vec());
        if !insert(&mut index, &module.name, b"", 0)? {
            notes.push(not_ascii(&module.name, &module.name));
        }
    }
    Ok(index.unwrap_or_default())
}

fn builtin_aliases(fields: &[u8], notes: &mut Vec<Note>) -> Result<IndexBuilder, BuildError> {
    let mut index = Some(IndexBuilder::new());
    for field in crate::index::text::builtin_fields(fields).flatten().filter(|field| field.field == b"alias")
    {
        match underscores(field.value) {
            Some(key) => {
                if !insert(&mut index, &key, field.module, 0)? {
                    notes.push(not_ascii(field.value, field.module));
                }
            }
            None => notes.push(Note::Bracket(String::from_utf8_lossy(field.value).into_owned())),
        }
    }
    Ok(index.unwrap_or_default())
}

fn device_nodes(input: &Input<'_>, notes: &mut Vec<Note>) -> Vec<u8> {
    let mut lines = Vec::new();
    for (module, found) in input.found.iter().enumerate() {
        let Some((part, record)) = input.facts.of(module) else { continue };
        let (mut name, mut number) = (None, None);
        for field in Strings(part.info(record)) {
            let Some(alias) = field.strip_prefix(b"alias=") else { continue };
            if let Some(node) = alias.strip_prefix(b"devname:") {
                name = Some(node);
            } else if let Some(device) = device(alias) {
                number = Some(device);
            }
            if name.is_some() && number.is_some() {
                break;
            }
        }
        let Some(name) = name else { continue };
        let Some((kind, major, minor)) = number else {
            let lossy = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
            notes.push(Note::NoDeviceNumber(lossy(&found.name), lossy(name)));
            continue;
        };
        if lines.is_empty() {
            lines.extend_from_slice(b"# Device nodes to trigger on-demand module loading.\n");
        }
        lines.extend_from_slice(&found.name);
        lines.push(b' ');
        lines.extend_from_slice(name);
        lines.extend_from_slice(format!(" {kind}{major}:{minor}\n").as_bytes());
    }
    lines
}

/// The device that an alias `char-major-MAJOR-MINOR` or `block-major-MAJOR-MINOR` names; what follows is not looked at.
fn device(alias: &[u8]) -> Option<(char, u32, u32)> {
    let (kind, rest) = match (alias.strip_prefix(b"char-major-"), alias.strip_prefix(b"block-major-")) {
        (Some(rest), _) => ('c', rest),
        (_, Some(rest)) => ('b', rest),
        _ => return None,
    };
    let number = |text: &[u8]| -> Option<(u32, usize)> {
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let value = text
            .get(..digits)?
            .iter()
            .fold(0_u32, |value, digit| value.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
        (digits > 0).then_some((value, digits))
    };
    let (major, used) = number(rest)?;
    let (minor, _) = number(rest.get(used..)?.strip_prefix(b"-")?)?;
    Some((kind, major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_from_aliases() {
        assert_eq!(device(b"char-major-10-200"), Some(('c', 10, 200)));
        assert_eq!(device(b"block-major-7-1xyz"), Some(('b', 7, 1)));
        for other in ["char-major-10-*", "char-major-*", "char-major-10", "block-10-1", "char-major--1"] {
            assert_eq!(device(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn keys_have_underscores_outside_of_sets() {
        let mut key = Vec::new();
        assert!(underscores_into(b"a-b[c-d]-", &mut key));
        assert_eq!(key, b"a_b[c-d]_");
        assert!(underscores_into(b"a-b", &mut key));
        assert_eq!(key, b"a_b");
        assert!(!underscores_into(b"a]", &mut key) && !underscores_into(b"[", &mut key));
    }
}
