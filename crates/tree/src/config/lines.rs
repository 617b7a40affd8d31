//! The lines of a configuration file.

use std::borrow::Cow;

use super::Alias;
use super::Blacklist;
use super::Command;
use super::Config;
use super::Deny;
use super::Options;
use super::Origin;
use super::Problem;
use super::SoftDependency;
use super::WeakDependency;
use crate::name::underscores;

/// Lines with their numbers. A `\` at the end of a line joins it with the next, before any other character it stands
/// for that character: to write one it takes two.
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Lines<'a> {
        Lines { rest: text, number: 0 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, Cow<'a, [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        self.number += 1;
        let special = |byte: &u8| matches!(byte, b'\n' | b'\\' | 0);
        let end = self.rest.iter().position(special).unwrap_or(self.rest.len());
        match self.rest.split_at_checked(end)? {
            (line, [b'\n', rest @ ..]) => {
                self.rest = rest;
                Some((self.number, Cow::Borrowed(line)))
            }
            (line, []) => {
                self.rest = &[];
                Some((self.number, Cow::Borrowed(line)))
            }
            _ => Some(self.unescaped()),
        }
    }
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
    let name = word(&mut rest).and_then(underscores)?;
    let tail = || (!rest.is_empty()).then(|| rest.to_vec());
    match keyword {
        b"alias" => {
            let module = word(&mut rest).and_then(underscores)?;
            config.aliases.push(Alias { pattern: name, module, origin });
        }
        b"blacklist" => config.blacklist.push(Blacklist { module: name, origin }),
        b"deny" => config.deny.push(Deny { pattern: name, origin }),
        b"options" => config.options.push(Options::new(name, tail()?, origin)),
        b"install" => config.install.push(Command { pattern: name, command: tail()?, origin }),
        b"remove" => config.remove.push(Command { pattern: name, command: tail()?, origin }),
        b"softdep" => {
            config.soft_dependencies.push(SoftDependency { pattern: name, text: tail()?, origin });
        }
        b"weakdep" => {
            config.weak_dependencies.push(WeakDependency { pattern: name, text: tail()?, origin });
        }
        _ => return None,
    }
    Some(())
}
