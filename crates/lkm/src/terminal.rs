//! Text of modules made safe to print.

use std::fmt::Write;

/// `text` without control characters (but tabs), so that a module's strings cannot steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            let _ = write!(shown, "\\x{:02x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn escapes_are_shown_not_sent() {
        assert_eq!(printable("a\tb\x1b[31m\u{9b}ö"), "a\tb\\x1b[31m\\x9bö");
    }
}
