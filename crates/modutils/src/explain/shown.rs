//! Names and lines from elsewhere, made fit for a terminal.

use std::fmt;

/// Characters that are shown of a name or a line at most.
const WIDTH: usize = 400;

/// Bytes that came from a file or the kernel's log: valid UTF-8 as it is, anything else and control characters as
/// `\xNN`, so that they cannot command a terminal; what is longer than any message ends in `...`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut width = 0;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                width += 1;
                match character {
                    _ if width > WIDTH => return f.write_str("..."),
                    '\t' => f.write_str(" ")?,
                    _ if character.is_control() => write!(f, "\\x{:02x}", u32::from(character))?,
                    _ => write!(f, "{character}")?,
                }
            }
            for byte in chunk.invalid() {
                width += 1;
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// The text of [`Shown`].
pub(crate) fn shown(bytes: &[u8]) -> String {
    Shown(bytes).to_string()
}

/// `a`, `a and b`, `a, b and c`; of more than four the first three and how many there are besides.
pub(crate) fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] if names.len() <= 4 => format!("{} and {last}", first.join(", ")),
        [first, second, third, rest @ ..] => format!("{first}, {second}, {third} and {} more", rest.len()),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_bytes_are_escaped() {
        assert_eq!(shown("Grüße\tan".as_bytes()), "Grüße an");
        assert_eq!(shown(b"a\x1b[2Jb\x7f\xff\n"), "a\\x1b[2Jb\\x7f\\xff\\x0a");
        assert_eq!(shown("a\u{9b}b".as_bytes()), "a\\x9bb");
        let long = shown(&[b'x'; 1000]);
        assert_eq!((long.len(), long.ends_with("x...")), (WIDTH + 3, true));
    }

    #[test]
    fn lists_stay_short() {
        let names: Vec<String> = ["a", "b", "c", "d", "e", "f"].map(String::from).into();
        assert_eq!(listed(&names[..0]), "");
        assert_eq!(listed(&names[..1]), "a");
        assert_eq!(listed(&names[..2]), "a and b");
        assert_eq!(listed(&names[..4]), "a, b, c and d");
        assert_eq!(listed(&names), "a, b, c and 3 more");
    }
}
