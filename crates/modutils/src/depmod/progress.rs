//! A line that tells how far a long run is, on a terminal only.

use std::io::IsTerminal;
use std::time::Duration;
use std::time::Instant;

use crate::Context;

/// What takes less is over before it is read.
const DELAY: Duration = Duration::from_millis(400);
/// Between two states of the line.
const PACE: Duration = Duration::from_millis(100);

/// The line.
pub(super) struct Progress {
    /// When the next state is due; `None` if there is no terminal.
    due: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// A line on standard error, if that is a terminal that can erase one.
    pub(super) fn new() -> Progress {
        let is_plain = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_wanted = !is_plain && std::io::stderr().is_terminal();
        Progress { due: is_wanted.then(|| Instant::now() + DELAY), shown: false }
    }

    pub(super) fn show(&mut self, context: &mut Context<'_>, done: usize, total: usize) {
        if done >= total {
            self.clear(context);
            return;
        }
        let now = Instant::now();
        if self.due.is_some_and(|due| now >= due) {
            self.due = Some(now + PACE);
            self.shown = true;
            // No colour, so NO_COLOR changes nothing.
            let percent = done * 100 / total.max(1);
            let _ = write!(context.err, "\r\x1b[K{percent:3} % of {total} modules");
            let _ = context.err.flush();
        }
    }

    /// Erases the line, before a message or at the end.
    pub(super) fn clear(&mut self, context: &mut Context<'_>) {
        if self.shown {
            self.shown = false;
            let _ = context.err.write_all(b"\r\x1b[K");
        }
    }
}
