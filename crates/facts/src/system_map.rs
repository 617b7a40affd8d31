//! `System.map` and `/proc/kallsyms`: addresses of a kernel's symbols.

use std::collections::BTreeMap;

use crate::FactsError;
use crate::Source;

/// One line: address in hexadecimal, type letter, name, and in `/proc/kallsyms` the module in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Zero to those who may not know.
    pub address: u64,
    /// As `nm` prints it.
    pub kind: u8,
    /// The symbol.
    pub name: &'a str,
    /// The module that it belongs to.
    pub module: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Line<'a>> {
        let mut words = line.split_ascii_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let [kind] = *words.next()?.as_bytes() else { return None };
        let name = words.next()?;
        let module = match words.next() {
            Some(word) => Some(word.strip_prefix('[')?.strip_suffix(']')?),
            None => None,
        };
        (kind.is_ascii_alphabetic() && words.next().is_none()).then_some(Line { address, kind, name, module })
    }
}

/// The lines of the text.
pub fn lines<'a>(text: &'a str, source: &'a Source) -> impl Iterator<Item = Result<Line<'a>, FactsError>> {
    text.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(move |(number, line)| {
        let damaged =
            || FactsError::damaged(source, format_args!("line {} is no symbol: {line}", number + 1));
        Line::parse(line).ok_or_else(damaged)
    })
}

/// Whether a text looks like one: its first line is a symbol. That of Debian's stub, which says in which package the real
/// one is, has more words.
pub fn is_system_map(text: &[u8]) -> bool {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.len() < 4096 && std::str::from_utf8(line).is_ok_and(|line| Line::parse(line).is_some())
}

/// What a list of symbols says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// Addresses of the image's symbols that are known by one address only. Empty if all are hidden.
    pub addresses: BTreeMap<String, u64>,
    /// Names that stand in an export table of the image (`__ksymtab_NAME`), with whether it is the GPL one where the
    /// list tells. Kernels from 6.4 or so on, and `/proc/kallsyms` of any, do not list them.
    pub exported: Vec<String>,
}

/// Takes the symbols of the image; those of modules are left out.
pub fn parse(text: &str, source: &Source) -> Result<Symbols, FactsError> {
    let mut symbols = Symbols::default();
    let mut ambiguous = Vec::new();
    for line in lines(text, source) {
        let line = line?;
        if line.module.is_some() {
            continue;
        }
        if let Some(name) = line.name.strip_prefix("__ksymtab_") {
            symbols.exported.push(name.to_owned());
        }
        if line.address != 0
            && let Some(other) = symbols.addresses.insert(line.name.to_owned(), line.address)
            && other != line.address
        {
            ambiguous.push(line.name);
        }
    }
    for name in ambiguous {
        symbols.addresses.remove(name);
    }
    Ok(symbols)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_of_the_image() {
        let text = "ffffffff81000000 T _text\n\
                    ffffffff81000010 t helper\n\
                    ffffffff81000020 t helper\n\
                    ffffffff82000000 r __ksymtab__printk\n\
                    ffffffffc0000000 t hello_init\t[hello]\n";
        let symbols = parse(text, &Source::new("m")).unwrap();
        assert_eq!(symbols.exported, ["_printk"]);
        assert_eq!(symbols.addresses.keys().collect::<Vec<_>>(), ["__ksymtab__printk", "_text"]);
        assert_eq!(symbols.addresses["_text"], 0xffff_ffff_8100_0000);
        let source = Source::new("m");
        let line = lines(text, &source).last().unwrap().unwrap();
        assert_eq!((line.name, line.module, line.kind), ("hello_init", Some("hello"), b't'));
    }

    #[test]
    fn hidden_addresses_are_none_and_other_text_an_error() {
        let symbols = parse("0000000000000000 T _text\n", &Source::new("m")).unwrap();
        assert!(symbols.addresses.is_empty());
        assert_eq!(
            parse("0 T a\nhello\n", &Source::new("m")).unwrap_err().to_string(),
            "m: line 2 is no symbol: hello"
        );
        assert!(is_system_map(b"c0008000 T stext\n"));
        for text in [
            "",
            "hello",
            "c0008000 TT stext",
            "0x1 T a",
            "0 T",
            "ffffffffffffffff B The real one is elsewhere",
        ] {
            assert!(!is_system_map(text.as_bytes()), "{text}");
        }
    }
}
