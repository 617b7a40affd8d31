//! `MODPROBE_OPTIONS`: options from the environment, and for the commands that are run.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;

/// The words of a value: separated by blanks, which `"` and `'` make ordinary.
pub(super) fn words(value: &[u8]) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    for byte in value {
        match (quote, *byte) {
            (None, b' ') => words.extend(word.take()),
            (None, mark @ (b'"' | b'\'')) => {
                quote = Some(mark);
                word.get_or_insert_default();
            }
            (Some(mark), byte) if mark == byte => quote = None,
            (_, byte) => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words.into_iter().map(OsString::from_vec).collect()
}

/// What is put into the environment of commands: what was there before, and more.
pub(super) struct Children {
    value: Option<Vec<u8>>,
}

impl Children {
    pub(super) fn new(value: Option<OsString>) -> Children {
        Children { value: value.map(|value| value.as_bytes().to_vec()) }
    }

    pub(super) fn add(&mut self, words: &[&[u8]]) {
        for word in words {
            match &mut self.value {
                Some(value) => value.push(b' '),
                None => self.value = Some(Vec::new()),
            }
            self.value.get_or_insert_default().extend_from_slice(word);
        }
    }

    pub(super) fn value(self) -> Option<OsString> {
        self.value.map(OsString::from_vec)
    }
}

/// A number as C writes one: decimal, `0x` hexadecimal, or `0` octal.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => u64::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_blanks_together() {
        let cases: [(&str, &[&str]); 6] = [
            ("", &[]),
            ("-q", &["-q"]),
            ("  -C  a ", &["-C", "a"]),
            ("-C 'a b' -q", &["-C", "a b", "-q"]),
            ("-C\"a 'b\"c ''", &["-Ca 'bc", ""]),
            ("'open end", &["open end"]),
        ];
        for (value, expected) in cases {
            assert_eq!(words(value.as_bytes()), expected.map_os(), "{value}");
        }
    }

    trait MapOs {
        fn map_os(&self) -> Vec<OsString>;
    }

    impl MapOs for &[&str] {
        fn map_os(&self) -> Vec<OsString> {
            self.iter().map(OsString::from).collect()
        }
    }

    #[test]
    fn children_are_told_in_order() {
        let mut children = Children::new(None);
        children.add(&[b"-C", b"x"]);
        children.add(&[b"-v"]);
        assert_eq!(children.value(), Some("-C x -v".into()));
        let mut children = Children::new(Some("-q".into()));
        assert_eq!(Children::new(None).value(), None);
        children.add(&[b"-s"]);
        assert_eq!(children.value(), Some("-q -s".into()));
    }

    #[test]
    fn numbers_as_strtoul_reads_them() {
        let cases =
            [("10", Some(10)), ("0x1F", Some(31)), ("010", Some(8)), ("0", Some(0)), ("x", None), ("", None)];
        for (text, expected) in cases {
            assert_eq!(number(text.as_bytes()), expected, "{text}");
        }
    }
}
