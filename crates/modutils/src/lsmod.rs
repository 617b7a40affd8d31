//! `lsmod`: the loaded modules, from one read of `/proc/modules`.

use std::borrow::Cow;
use std::ffi::OsString;

use serde::Serialize;

use crate::Context;
use crate::command;
use crate::command::Command;
use crate::getopt::Spec;

pub(crate) const COMMAND: Command = Command {
    name: "lsmod",
    about: "list the loaded modules",
    synopsis: &["[options]"],
    description: "Prints the loaded modules with their sizes in bytes, how often each is used, and by which modules, from one read of
/proc/modules.",
    options: OPTIONS,
    run,
};

const OPTIONS: &[Spec] = &[
    Spec::flag(b'j', "json", "a JSON array, with state, address and taints").only_long(),
    command::SYSLOG,
    command::VERBOSE,
    command::VERSION,
    command::HELP,
];

/// A line of `/proc/modules`: `NAME SIZE REFERENCES HOLDERS STATE ADDRESS [(TAINTS)]`. Kernels without unloading say `-`
/// for the third and fourth, kernels before 2.6 have no more than four.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    name: &'a [u8],
    /// Bytes, decimal.
    size: &'a [u8],
    references: &'a [u8],
    /// Names with a comma behind each, or `-`.
    users: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(mut line: &'a [u8]) -> Option<Line<'a>> {
        let (name, size) = (word(&mut line), word(&mut line));
        let valid = !name.is_empty() && !size.is_empty() && size.iter().all(u8::is_ascii_digit);
        valid.then(|| Line { name, size, references: word(&mut line), users: word(&mut line), rest: line })
    }

    /// The modules that use it.
    fn holders(&self) -> impl Iterator<Item = &'a [u8]> {
        let users = self.users.split(|&byte| byte == b',');
        users.filter(|user| !user.is_empty() && *user != b"-" && *user != PERMANENT)
    }

    /// Appends the row that kmod prints.
    fn print(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name);
        pad(out, 19, self.name.len());
        out.push(b' ');
        pad(out, 8, self.size.len());
        out.extend_from_slice(self.size);
        out.extend_from_slice(b"  ");
        out.extend_from_slice(if self.references.is_empty() { b"-" } else { self.references });
        // Usually there are no users, or names with nothing special among them.
        match self.users {
            b"" | b"-" => {}
            users if !users.contains(&b'[') && !users.starts_with(b",") => {
                out.push(b' ');
                out.extend_from_slice(users.strip_suffix(b",").unwrap_or(users));
            }
            _ => {
                for (position, holder) in self.holders().enumerate() {
                    out.push(if position == 0 { b' ' } else { b',' });
                    out.extend_from_slice(holder);
                }
            }
        }
        out.push(b'\n');
    }
}

/// What the list has among the users of a module that cannot be unloaded.
const PERMANENT: &[u8] = b"[permanent]";

/// The next word of a line; empty at its end.
fn word<'a>(line: &mut &'a [u8]) -> &'a [u8] {
    let end = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    *line = rest.get(1..).unwrap_or(rest);
    word
}

fn pad(out: &mut Vec<u8>, width: usize, length: usize) {
    const BLANKS: &[u8] = &[b' '; 19];
    out.extend_from_slice(BLANKS.get(..width.saturating_sub(length)).unwrap_or(BLANKS));
}

/// A module for `--json`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Loaded<'a> {
    name: Cow<'a, str>,
    /// Bytes.
    size: u64,
    /// `None` where the kernel cannot unload modules.
    references: Option<i64>,
    /// Modules that use it.
    holders: Vec<Cow<'a, str>>,
    /// It cannot be unloaded.
    permanent: bool,
    state: Cow<'a, str>,
    /// As the kernel shows it: zero to those who may not know.
    address: Cow<'a, str>,
    taints: Cow<'a, str>,
}

impl<'a> Loaded<'a> {
    fn of(line: &Line<'a>) -> Loaded<'a> {
        let mut rest = line.rest;
        let (state, address, taints) = (word(&mut rest), word(&mut rest), word(&mut rest));
        let taints = taints.strip_prefix(b"(").unwrap_or(taints);
        Loaded {
            name: String::from_utf8_lossy(line.name),
            size: number(line.size).unwrap_or(u64::MAX),
            references: number(line.references),
            holders: line.holders().map(String::from_utf8_lossy).collect(),
            permanent: line.users.split(|&byte| byte == b',').any(|user| user == PERMANENT),
            state: String::from_utf8_lossy(state),
            address: String::from_utf8_lossy(address),
            taints: String::from_utf8_lossy(taints.strip_suffix(b")").unwrap_or(taints)),
        }
    }
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

pub(crate) fn run(context: &mut Context<'_>, args: &[OsString]) -> u8 {
    let parsed = match COMMAND.parse(context, args) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let json = !parsed.options.is_empty();
    if !parsed.operands.is_empty() {
        context.complain_bytes(&[b"Usage: ", context.program()].concat());
        return 1;
    }
    let text = match context.kernel.modules() {
        Ok(text) => text,
        Err(errno) => {
            context.complain(&format!("Error: could not get list of modules: {}", errno.text()));
            return 1;
        }
    };
    let lines = text.split(|&byte| byte == b'\n').filter_map(Line::parse);
    if json {
        let modules: Vec<Loaded<'_>> = lines.map(|line| Loaded::of(&line)).collect();
        let text = serde_json::to_string_pretty(&modules).unwrap_or_default();
        context.print(format!("{text}\n").as_bytes());
    } else {
        let mut rows = Vec::with_capacity(text.len());
        rows.extend_from_slice(b"Module                  Size  Used by\n");
        for line in lines {
            line.print(&mut rows);
        }
        context.print(&rows);
    }
    0
}

#[cfg(test)]
mod tests {
    use crate::testing::Fake;

    const MODULES: &str = "\
nf_tables 372736 2 nft_ct,nft_fib, Live 0x0000000000000000
nft_ct 24576 0 - Live 0x0000000000000000 (OE)
stuck 16384 1 nft_ct,[permanent], Loading 0xffffffffc0000000
alone 16384 1 [permanent], Live 0x0
old 100 - - Live 0x0
short 7
bad x 0 - Live 0x0

a_name_of_more_than_nineteen 123456789 3 x, Live 0x0
";

    #[test]
    fn the_list() {
        let fake = Fake { modules: Some(MODULES.into()), ..Fake::default() };
        let expected = "\
Module                  Size  Used by
nf_tables             372736  2 nft_ct,nft_fib
nft_ct                 24576  0
stuck                  16384  1 nft_ct
alone                  16384  1
old                      100  -
short                      7  -
a_name_of_more_than_nineteen 123456789  3 x
";
        assert_eq!(fake.run(&["lsmod"]), (0, expected.into(), String::new()));
        let (code, out, _) = fake.run(&["lsmod", "--json"]);
        let list: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(code, 0);
        assert_eq!(list.as_array().unwrap().len(), 7);
        assert_eq!(list[0]["holders"], serde_json::json!(["nft_ct", "nft_fib"]));
        assert_eq!(list[1]["taints"], "OE");
        assert_eq!((&list[2]["permanent"], &list[2]["state"]), (&true.into(), &"Loading".into()));
        assert!(list[4]["references"].is_null());
    }

    #[test]
    fn an_empty_list_and_none() {
        let none = Fake { modules: Some(String::new()), ..Fake::default() };
        assert_eq!(
            none.run(&["lsmod"]),
            (0, "Module                  Size  Used by\n".into(), String::new())
        );
        let absent = "Error: could not get list of modules: No such file or directory\n";
        assert_eq!(Fake::default().run(&["lsmod"]), (1, String::new(), absent.into()));
        assert_eq!(none.run(&["lsmod", "x"]), (1, String::new(), "Usage: lsmod\n".into()));
    }
}
