//! Options as glibc's `getopt_long` takes them apart: operands between options, abbreviated long options, values
//! behind `=` or in the next argument, and its texts for what is wrong.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// What the command knows it by: its letter, or any other byte if it has only a long form. Two long forms of one
    /// thing have the same key.
    pub key: u8,
    /// It has a one-letter form, which is the key.
    pub short: bool,
    /// The long form; empty if there is none.
    pub long: &'static str,
    /// What its value is called in the help; `None` if it has none.
    pub value: Option<&'static str>,
    /// What it does, for the help; lines after the first are indented there. Empty: known for compatibility and not
    /// shown.
    pub help: &'static str,
}

impl Spec {
    /// An option without a value, in both forms.
    pub const fn flag(key: u8, long: &'static str, help: &'static str) -> Spec {
        Spec { key, short: true, long, value: None, help }
    }

    /// An option with a value, in both forms.
    pub const fn with_value(key: u8, long: &'static str, value: &'static str, help: &'static str) -> Spec {
        Spec { key, short: true, long, value: Some(value), help }
    }

    /// The same option without its letter.
    pub const fn only_long(self) -> Spec {
        Spec { short: false, ..self }
    }

    /// The same option, not shown in the help.
    pub const fn hidden(self) -> Spec {
        Spec { help: "", ..self }
    }

    /// How the help names it: `-F, --field=FIELD`.
    pub fn forms(&self) -> String {
        let short = if self.short { format!("-{}", char::from(self.key)) } else { "   ".into() };
        let (joint, long) = match (self.short, self.long) {
            (_, "") => ("", String::new()),
            (true, long) => (", ", format!("--{long}")),
            (false, long) => (" ", format!("--{long}")),
        };
        let value = match self.value {
            Some(value) if self.long.is_empty() => format!(" {value}"),
            Some(value) => format!("={value}"),
            None => String::new(),
        };
        format!("{short}{joint}{long}{value}")
    }
}

/// Goes over arguments, one option at each step; what is no option is an operand.
#[derive(Debug)]
pub struct Getopt<'a> {
    specs: &'static [Spec],
    rest: std::slice::Iter<'a, OsString>,
    /// Letters of the present argument that are still to be read.
    letters: &'a [u8],
    operands: Vec<&'a OsStr>,
    posix: bool,
    ended: bool,
}

/// An option that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opt<'a> {
    /// Key of its [`Spec`].
    pub key: u8,
    /// Its value; empty for one that has none.
    pub value: &'a OsStr,
}

/// glibc's text for what is wrong, without the program's name before it and without newline.
pub type Message = Vec<u8>;

impl<'a> Getopt<'a> {
    /// Starts before the first argument (the program's name is none). `posix`: the first operand ends the options.
    pub fn new(specs: &'static [Spec], args: &'a [OsString], posix: bool) -> Getopt<'a> {
        Getopt { specs, rest: args.iter(), letters: &[], operands: Vec::new(), posix, ended: false }
    }

    /// The operands. They are complete after [`Iterator::next`] gave `None`.
    pub fn operands(self) -> Vec<&'a OsStr> {
        self.operands
    }

    fn short(&mut self) -> Result<Opt<'a>, Message> {
        let (letter, rest) =
            self.letters.split_first().map_or((0, &[][..]), |(&letter, rest)| (letter, rest));
        self.letters = rest;
        let Some(spec) = self.specs.iter().find(|spec| spec.short && spec.key == letter) else {
            return Err(quoted(b"invalid option -- ", &[letter], b""));
        };
        let mut value = OsStr::new("");
        if spec.value.is_some() {
            value = match std::mem::take(&mut self.letters) {
                [] => self
                    .rest
                    .next()
                    .ok_or_else(|| quoted(b"option requires an argument -- ", &[letter], b""))?,
                attached => OsStr::from_bytes(attached),
            };
        }
        Ok(Opt { key: letter, value })
    }

    fn long(&mut self, text: &'a [u8]) -> Result<Opt<'a>, Message> {
        let equals = text.iter().position(|&byte| byte == b'=');
        let (name, attached) = text.split_at(equals.unwrap_or(text.len()));
        let named = |spec: &&Spec| !spec.long.is_empty() && spec.long.as_bytes().starts_with(name);
        let exact = self.specs.iter().find(|spec| !name.is_empty() && spec.long.as_bytes() == name);
        let spec = match exact {
            Some(spec) => spec,
            None => {
                let mut candidates = self.specs.iter().filter(named);
                let Some(first) = candidates.next() else {
                    return Err(quoted(b"unrecognized option ", &[b"--", text].concat(), b""));
                };
                // Two names of one thing are none of two meanings.
                if candidates.any(|other| other.key != first.key) {
                    return Err(self.ambiguous(text, named));
                }
                first
            }
        };
        let long = [b"--", spec.long.as_bytes()].concat();
        let value = match (spec.value.is_some(), attached.split_first()) {
            (false, None) => OsStr::new(""),
            (false, Some(_)) => return Err(quoted(b"option ", &long, b" doesn't allow an argument")),
            (true, Some((_, value))) => OsStr::from_bytes(value),
            (true, None) => {
                self.rest.next().ok_or_else(|| quoted(b"option ", &long, b" requires an argument"))?
            }
        };
        Ok(Opt { key: spec.key, value })
    }

    fn ambiguous(&self, text: &[u8], named: impl Fn(&&Spec) -> bool) -> Message {
        let mut message = quoted(b"option ", &[b"--", text].concat(), b" is ambiguous; possibilities:");
        for spec in self.specs.iter().filter(named) {
            message.extend(quoted(b" ", &[b"--", spec.long.as_bytes()].concat(), b""));
        }
        message
    }
}

fn quoted(before: &[u8], text: &[u8], after: &[u8]) -> Message {
    [before, b"'", text, b"'", after].concat()
}

impl<'a> Iterator for Getopt<'a> {
    type Item = Result<Opt<'a>, Message>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.letters.is_empty() {
            return Some(self.short());
        }
        loop {
            let arg: &'a OsStr = self.rest.next()?;
            match arg.as_bytes() {
                _ if self.ended => self.operands.push(arg),
                b"--" => self.ended = true,
                [b'-', b'-', name @ ..] => return Some(self.long(name)),
                [b'-', letters @ ..] if !letters.is_empty() => {
                    self.letters = letters;
                    return Some(self.short());
                }
                _ => {
                    self.operands.push(arg);
                    self.ended = self.posix;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPECS: &[Spec] = &[
        Spec::flag(b'a', "author", ""),
        Spec::flag(b'f', "force", ""),
        Spec::flag(1, "force-modversion", "").only_long(),
        Spec::flag(2, "force-vermagic", "").only_long(),
        Spec::with_value(b'F', "field", "FIELD", ""),
        Spec::flag(b'i', "ignore-install", ""),
        Spec::flag(b'i', "ignore-remove", "").only_long(),
    ];

    /// Options as `key=value`, then what is wrong, then the operands.
    fn all(args: &[&str], posix: bool) -> (Vec<String>, Vec<String>) {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let mut options = Getopt::new(SPECS, &args, posix);
        let found = options
            .by_ref()
            .map(|option| match option {
                Ok(option) => format!("{}={}", option.key.escape_ascii(), option.value.to_str().unwrap()),
                Err(message) => String::from_utf8(message).unwrap(),
            })
            .collect();
        (found, options.operands().iter().map(|operand| operand.to_str().unwrap().into()).collect())
    }

    #[test]
    fn options_and_operands_in_any_order() {
        let (found, operands) =
            all(&["x", "-af", "-", "-Fv", "--field=", "-F", "-a", "--", "-a", "--b"], false);
        assert_eq!(found, ["a=", "f=", "F=v", "F=", "F=-a"]);
        assert_eq!(operands, ["x", "-", "-a", "--b"]);
        let (found, operands) = all(&["-a", "x", "-f", "--"], true);
        assert_eq!((found, operands), (vec!["a=".into()], vec!["x".into(), "-f".into(), "--".into()]));
    }

    #[test]
    fn forms_as_the_help_shows_them() {
        let forms = |spec: Spec| spec.forms();
        assert_eq!(forms(Spec::flag(b'a', "author", "")), "-a, --author");
        assert_eq!(forms(Spec::with_value(b'F', "field", "FIELD", "")), "-F, --field=FIELD");
        assert_eq!(forms(Spec::flag(1, "json", "").only_long()), "    --json");
        assert_eq!(forms(Spec::with_value(b'P', "", "CHAR", "")), "-P CHAR");
    }

    #[test]
    fn long_options_may_be_cut_where_they_stay_unique() {
        let cases = [
            ("--fi=x", "F=x"),
            ("--force", "f="),
            ("--force-m", "\\x01="),
            ("--ignore", "i="),
            (
                "--force-",
                "option '--force-' is ambiguous; possibilities: '--force-modversion' '--force-vermagic'",
            ),
            (
                "--f=1",
                "option '--f=1' is ambiguous; possibilities: '--force' '--force-modversion' '--force-vermagic' \
                 '--field'",
            ),
            ("--bogus=1", "unrecognized option '--bogus=1'"),
            ("--aut=1", "option '--author' doesn't allow an argument"),
            ("--fie", "option '--field' requires an argument"),
            ("-F", "option requires an argument -- 'F'"),
            ("-x", "invalid option -- 'x'"),
        ];
        for (arg, expected) in cases {
            assert_eq!(all(&[arg], false).0, [expected], "{arg}");
        }
    }
    proptest! {
        #[test]
        fn any_arguments_come_to_an_end(args in prop::collection::vec("(-|--|--f|-F|=)?[-=afFxor]{0,4}", 0..8)) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let (found, operands) = all(&args, false);
            let letters: usize = args.iter().map(|arg| arg.len()).sum();
            prop_assert!(found.len() <= letters && operands.len() <= args.len());
        }
    }
}
