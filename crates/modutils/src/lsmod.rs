//! `lsmod`: the loaded modules, from one read of `/proc/modules`.

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

/// A line of `/proc/modules`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Loaded<'a> {
    name: &'a str,
    /// Bytes.
    size: u64,
    /// `None` where the kernel cannot unload modules.
    references: Option<i64>,
    /// Modules that use it.
    holders: Vec<&'a str>,
    /// It cannot be unloaded.
    permanent: bool,
    state: &'a str,
    /// As the kernel shows it: zero to those who may not know.
    address: &'a str,
    taints: &'a str,
}

impl<'a> Loaded<'a> {
    /// `NAME SIZE REFERENCES HOLDERS STATE ADDRESS [(TAINTS)]`; kernels without unloading say `-` for the third and
    /// fourth, kernels before 2.6 have no more than four.
    fn parse(line: &'a str) -> Option<Loaded<'a>> {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next()?;
        let size = fields.next()?.parse().ok()?;
        let references = fields.next().and_then(|count| count.parse().ok());
        let users = fields.next().unwrap_or("-").split(',').filter(|user| !user.is_empty() && *user != "-");
        let (permanent, holders): (Vec<&str>, Vec<&str>) = users.partition(|user| *user == "[permanent]");
        Some(Loaded {
            name,
            size,
            references,
            holders,
            permanent: !permanent.is_empty(),
            state: fields.next().unwrap_or(""),
            address: fields.next().unwrap_or(""),
            taints: fields.next().unwrap_or("").trim_matches(['(', ')']),
        })
    }

    fn row(&self) -> String {
        let references = self.references.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let blank = if self.holders.is_empty() { "" } else { " " };
        format!("{:<19} {:>8}  {references}{blank}{}\n", self.name, self.size, self.holders.join(","))
    }
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
    let text = String::from_utf8_lossy(&text);
    let modules = text.lines().filter_map(Loaded::parse);
    if json {
        let modules: Vec<Loaded<'_>> = modules.collect();
        let text = serde_json::to_string_pretty(&modules).unwrap_or_default();
        context.print(format!("{text}\n").as_bytes());
    } else {
        context.print(b"Module                  Size  Used by\n");
        for module in modules {
            context.print(module.row().as_bytes());
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use crate::testing::Fake;

    const MODULES: &str = "\
nf_tables 372736 2 nft_ct,nft_fib, Live 0x0000000000000000
nft_ct 24576 0 - Live 0x0000000000000000 (OE)
stuck 16384 1 [permanent], Loading 0xffffffffc0000000
old 100 - - Live 0x0
a_name_of_more_than_nineteen 123456789 3 x, Live 0x0
";

    #[test]
    fn the_list() {
        let fake = Fake { modules: Some(MODULES.into()), ..Fake::default() };
        let expected = "\
Module                  Size  Used by
nf_tables             372736  2 nft_ct,nft_fib
nft_ct                 24576  0
stuck                  16384  1
old                      100  -
a_name_of_more_than_nineteen 123456789  3 x
";
        assert_eq!(fake.run(&["lsmod"]), (0, expected.into(), String::new()));
        let (code, out, _) = fake.run(&["lsmod", "--json"]);
        let list: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(code, 0);
        assert_eq!(list.as_array().unwrap().len(), 5);
        assert_eq!(list[0]["holders"], serde_json::json!(["nft_ct", "nft_fib"]));
        assert_eq!(list[1]["taints"], "OE");
        assert_eq!((&list[2]["permanent"], &list[2]["state"]), (&true.into(), &"Loading".into()));
        assert!(list[3]["references"].is_null());
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
