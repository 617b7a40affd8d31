//! Colours, only where a person looks at a terminal.

use std::fmt;
use std::io::IsTerminal;

use anstyle::AnsiColor;
use anstyle::Style;

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A heading or a name that carries the line.
    Strong,
    /// What succeeded.
    Good,
    /// What deserves attention.
    Warn,
    /// What failed.
    Bad,
    /// What is there for completeness.
    Faint,
}

/// Whether and how text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Palette {
    on: bool,
}

impl Palette {
    /// Colours if standard output is a terminal and `NO_COLOR` is unset or empty.
    pub(crate) fn for_stdout() -> Palette {
        Palette { on: std::io::stdout().is_terminal() && allowed() }
    }

    #[cfg(test)]
    pub(crate) const fn plain() -> Palette {
        Palette { on: false }
    }

    /// `text`, coloured by its role.
    pub(crate) fn paint<T: fmt::Display>(self, role: Role, text: T) -> Painted<T> {
        let style = match role {
            Role::Strong => Style::new().bold(),
            Role::Good => AnsiColor::Green.on_default(),
            Role::Warn => AnsiColor::Yellow.on_default(),
            Role::Bad => AnsiColor::Red.on_default().bold(),
            Role::Faint => Style::new().dimmed(),
        };
        Painted { style: self.on.then_some(style), text }
    }
}

fn allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|value| value != "dumb")
}

/// Text with the colour it is printed in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Painted<T> {
    style: Option<Style>,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.style {
            Some(style) => write!(f, "{style}{}{style:#}", self.text),
            None => self.text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_has_no_escapes_and_coloured_text_ends_its_colour() {
        assert_eq!(Palette::plain().paint(Role::Bad, "no").to_string(), "no");
        let painted = Palette { on: true }.paint(Role::Bad, "no").to_string();
        assert!(painted.starts_with("\x1b[") && painted.ends_with("\x1b[0m") && painted.contains("no"));
    }
}
