//! The lines of a configuration file.

use std::borrow::Cow;

use super::Alias;
use super::Blacklist;
use super::Bytes;
use super::Command;
use super::Config;
use super::Deny;
use super::Options;
use super::Origin;
use super::Problem;
use super::SoftDependency;
use super::WeakDependency;
use super::named;
use super::push;

/// Lines with their numbers. A `\` at the end of a line joins it with the next, before any other character it stands
/// for that character: to write one it takes two.
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
    /// There are `\` or zero bytes in it.
    has_special: bool,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Lines<'a> {
        Lines { rest: text, number: 0, has_special: find(text, b'\\').is_some() || find(text, 0).is_some() }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, Cow<'a, [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        self.number += 1;
        let end = find(self.rest, b'\n').unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at_checked(end)?;
        if self.has_special && line.iter().any(|byte| matches!(byte, b'\\' | 0)) {
            return Some(self.unescaped());
        }
        self.rest = rest.get(1..).unwrap_or_default();
        Some((self.number, Cow::Borrowed(line)))
    }
}

/// Where a byte is first; eight at a time, for most of a configuration is comments.
fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let pattern = ONES * u64::from(wanted);
    let (words, _) = bytes.as_chunks::<8>();
    let without = |word: &&[u8; 8]| {
        // A zero byte borrows from its highest bit, where it had none itself.
        let difference = u64::from_ne_bytes(**word) ^ pattern;
        difference.wrapping_sub(ONES) & !difference & (ONES << 7) == 0
    };
    let start = words.iter().take_while(without).count() * 8;
    let rest = bytes.get(start..)?;
    rest.iter().position(|byte| *byte == wanted).map(|at| start + at)
}

impl<'a> Lines<'a> {
    /// A line with `\` or a zero byte in it.
    fn unescaped(&mut self) -> (usize, Cow<'a, [u8]>) {
        let mut line = Vec::new();
        while let Some((byte, rest)) = self.rest.split_first() {
            self.rest = rest;
            match (byte, rest) {
                (b'\n', _) => break,
                (b'\\', [b'\n', rest @ ..]) => {
                    self.rest = rest;
                    self.number += 1;
                }
                (b'\\', [escaped, rest @ ..]) => {
                    self.rest = rest;
                    line.push(*escaped);
                }
                (b'\\', []) => {}
                _ => line.push(*byte),
            }
        }
        // To kmod a line is a C string.
        if let Some(end) = line.iter().position(|byte| *byte == 0) {
            line.truncate(end);
        }
        (self.number, Cow::Owned(line))
    }
}

/// Cuts off the first word and the one blank after it.
fn word<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = rest.iter().position(|byte| !is_blank(byte))?;
    let text = rest.get(start..)?;
    let end = text.iter().position(is_blank).unwrap_or(text.len());
    *rest = text.get(end + 1..).unwrap_or(&[]);
    text.get(..end)
}

/// Adds what one line says.
pub(super) fn add(config: &mut Config, origin: Origin, line: &[u8]) {
    if line.starts_with(b"#") {
        return;
    }
    let mut rest = line;
    let Some(keyword) = word(&mut rest) else { return };
    if matches!(keyword, b"include" | b"config") {
        config.problems.push(Problem::Deprecated(origin, keyword.to_vec()));
    } else if add_statement(config, &origin, keyword, rest).is_none() {
        config.problems.push(Problem::BadLine(origin, keyword.to_vec()));
    }
}

/// `None` if the line is not understood.
fn add_statement(config: &mut Config, origin: &Origin, keyword: &[u8], mut rest: &[u8]) -> Option<()> {
    let origin = origin.clone();
    let name = word(&mut rest).and_then(named)?;
    let tail = || (!rest.is_empty()).then(|| Bytes::from(rest));
    match keyword {
        b"alias" => {
            let module = word(&mut rest).and_then(named)?;
            push(&mut config.aliases, Alias { pattern: name, module, origin });
        }
        b"blacklist" => push(&mut config.blacklist, Blacklist { module: name, origin }),
        b"deny" => push(&mut config.deny, Deny { pattern: name, origin }),
        b"options" => {
            tail()?;
            push(&mut config.options, Options::new(name, rest, origin));
        }
        b"install" => push(&mut config.install, Command { pattern: name, command: tail()?, origin }),
        b"remove" => push(&mut config.remove, Command { pattern: name, command: tail()?, origin }),
        b"softdep" => {
            push(&mut config.soft_dependencies, SoftDependency { pattern: name, text: tail()?, origin });
        }
        b"weakdep" => {
            push(&mut config.weak_dependencies, WeakDependency { pattern: name, text: tail()?, origin });
        }
        _ => return None,
    }
    Some(())
}
