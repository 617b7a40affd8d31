//! The tokenizer of parameter texts: `next_arg()`.

use alloc::vec::Vec;

/// A parameter text while it is being taken apart in place, as the kernel does it: separators become NUL.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    /// The text with a NUL at its end.
    bytes: Vec<u8>,
    /// Where the next token starts.
    next: usize,
}

/// One `name`, or `name=value`: offsets of NUL-terminated texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arg {
    pub(crate) name: usize,
    pub(crate) value: Option<usize>,
}

/// `isspace()` of the kernel, which thinks in ISO 8859-1.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, 9..=13 | 32 | 0xa0)
}

impl Args {
    /// Takes a text up to its first NUL.
    pub(crate) fn new(text: &[u8]) -> Args {
        let mut bytes: Vec<u8> = text.iter().copied().take_while(|&byte| byte != 0).collect();
        bytes.push(0);
        let mut args = Args { bytes, next: 0 };
        args.skip_spaces();
        args
    }

    /// Takes a text as one value.
    pub(crate) fn whole(text: &[u8]) -> Args {
        let mut bytes: Vec<u8> = text.iter().copied().take_while(|&byte| byte != 0).collect();
        let next = bytes.len();
        bytes.push(0);
        Args { bytes, next }
    }

    /// The byte at an offset; NUL behind the end.
    fn at(&self, offset: usize) -> u8 {
        self.bytes.get(offset).copied().unwrap_or(0)
    }

    /// Ends a text at an offset.
    pub(crate) fn cut(&mut self, offset: usize) {
        if let Some(byte) = self.bytes.get_mut(offset) {
            *byte = 0;
        }
    }

    fn skip_spaces(&mut self) {
        while is_space(self.at(self.next)) {
            self.next += 1;
        }
    }

    /// The text from an offset to its NUL.
    pub(crate) fn text(&self, offset: usize) -> &[u8] {
        let rest = self.bytes.get(offset..).unwrap_or(&[]);
        let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
        rest.get(..end).unwrap_or(&[])
    }

    /// Cuts the text from an offset on at its first comma: where it ends, and whether that was the end of all of it.
    pub(crate) fn cut_at_comma(&mut self, offset: usize) -> (usize, bool) {
        let rest = self.bytes.get(offset..).unwrap_or(&[]);
        let length = rest.iter().position(|&byte| byte == b',' || byte == 0).unwrap_or(rest.len());
        let last = rest.get(length) != Some(&b',');
        self.cut(offset + length);
        (offset + length, last)
    }

    /// All of it, NULs and all.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the unread rest starts.
    pub(crate) fn rest(&self) -> usize {
        self.next
    }

    /// Takes the next token; `None` at the end.
    pub(crate) fn next_arg(&mut self) -> Option<Arg> {
        let mut start = self.next;
        if self.at(start) == 0 {
            return None;
        }
        let quoted = self.at(start) == b'"';
        let mut in_quote = quoted;
        if quoted {
            start += 1;
        }

        let mut end = start;
        let mut equals = None;
        loop {
            let byte = self.at(end);
            if byte == 0 || (is_space(byte) && !in_quote) {
                break;
            }
            // A `=` at the very start belongs to the name.
            if byte == b'=' && equals.is_none() && end > start {
                equals = Some(end);
            }
            if byte == b'"' {
                in_quote = !in_quote;
            }
            end += 1;
        }
        let separator = self.at(end) != 0;

        let mut value = None;
        if let Some(equals) = equals {
            self.cut(equals);
            let mut from = equals + 1;
            if self.at(from) == b'"' {
                from += 1;
                if self.at(end - 1) == b'"' {
                    self.cut(end - 1);
                }
            }
            value = Some(from);
        }
        if quoted && end > start && self.at(end - 1) == b'"' {
            self.cut(end - 1);
        }
        self.cut(end);
        self.next = if separator { end + 1 } else { end };
        self.skip_spaces();
        Some(Arg { name: start, value })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &[u8]) -> Vec<(String, Option<String>)> {
        let mut args = Args::new(text);
        let mut all = vec![];
        while let Some(arg) = args.next_arg() {
            let text = |offset| String::from_utf8_lossy(args.text(offset)).into_owned();
            all.push((text(arg.name), arg.value.map(text)));
        }
        all
    }

    fn pair(name: &str, value: &str) -> (String, Option<String>) {
        (name.into(), Some(value.into()))
    }

    fn bare(name: &str) -> (String, Option<String>) {
        (name.into(), None)
    }

    #[test]
    fn splits_at_blanks_and_the_first_equals_sign() {
        assert_eq!(tokens(b"  a=1\tb=2=3 c\n"), [pair("a", "1"), pair("b", "2=3"), bare("c")]);
        assert_eq!(tokens(b""), []);
        assert_eq!(tokens(b"x="), [pair("x", "")]);
    }

    #[test]
    fn an_equals_sign_at_the_start_splits_nothing() {
        assert_eq!(tokens(b"=x y"), [bare("=x"), bare("y")]);
        assert_eq!(tokens(b"=a=b"), [pair("=a", "b")]);
    }

    #[test]
    fn quotes_keep_blanks_and_are_dropped_around_a_value() {
        assert_eq!(tokens(b"s=\"a b\" t"), [pair("s", "a b"), bare("t")]);
        assert_eq!(tokens(b"\"s=a b\" t"), [pair("s", "a b"), bare("t")]);
        assert_eq!(tokens(b"s=a\" \"b"), [pair("s", "a\" \"b")], "inside a value they stay");
        assert_eq!(tokens(b"s=\"a b"), [pair("s", "a b")], "an open quote reaches to the end");
        assert_eq!(tokens(b"s=\""), [pair("s", "")]);
        assert_eq!(tokens(b"\""), [bare("")]);
        assert_eq!(tokens(b"\"\" a"), [bare(""), bare("a")]);
    }

    #[test]
    fn the_no_break_space_is_a_blank() {
        assert_eq!(tokens(b"a\xa0b"), [bare("a"), bare("b")]);
    }

    #[test]
    fn ends_at_a_nul() {
        assert_eq!(tokens(b"a\0b"), [bare("a")]);
    }

    proptest! {
        #[test]
        fn any_text_ends(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut args = Args::new(&text);
            let mut count = 0;
            while let Some(arg) = args.next_arg() {
                let _ = (args.text(arg.name), arg.value.map(|value| args.text(value).len()));
                count += 1;
                prop_assert!(count <= text.len());
            }
        }

        #[test]
        fn plain_words_come_back(words in proptest::collection::vec("[a-z]{1,8}(=[a-z0-9,]{0,8})?", 0..10)) {
            let found = tokens(words.join(" ").as_bytes());
            let expected: Vec<_> = words
                .iter()
                .map(|word| match word.split_once('=') {
                    Some((name, value)) => pair(name, value),
                    None => bare(word),
                })
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
