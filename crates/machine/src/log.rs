//! The kernel log of the embedded machine.

use core::mem::Discriminant;
use core::mem::discriminant;

use lkm_module::Level;

use crate::printk::Complaint;
use crate::printk::prefix;

/// Bytes of text that one record holds, its prefixes and the newline at its end included: `LOG_LINE_MAX` of Linux 6.1 without
/// the NUL.
const RECORD_MAX: usize = 991;
/// Records kept; a module in an endless loop must not fill the host's memory.
const RECORDS_MAX: usize = 100_000;

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its level.
    pub level: Level,
    /// Nanoseconds since the machine was started, by its own clock.
    pub time: u64,
    /// Its text without the newline at its end. Bytes that are not UTF-8 are shown as `\xNN`.
    pub text: String,
}

/// The log with the state of the record that may still be continued.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) lines: Vec<LogLine>,
    open: bool,
    lost: u64,
    /// Which kinds of complaints of formats have been printed: each is once.
    complained: Vec<Discriminant<Complaint>>,
}

impl Log {
    /// Takes a formatted text of `printk` with the prefixes in it.
    pub(crate) fn store(&mut self, time: u64, text: &[u8]) {
        let text = text.get(..RECORD_MAX.min(text.len())).unwrap_or_default();
        let found = prefix(text);
        let text = text.get(found.length..).unwrap_or_default();
        let (text, complete) = match text.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let text = lkm_module::Text(text).to_string();
        if found.continues
            && self.open
            && let Some(last) = self.lines.last_mut()
            && last.text.len() + text.len() <= RECORD_MAX
        {
            last.text.push_str(&text);
            self.open = !complete;
            return;
        }
        self.open = !complete;
        self.push(LogLine { level: found.level.unwrap_or(Level::Warning), time, text });
    }

    /// Takes a line of the kernel's own.
    pub(crate) fn push(&mut self, line: LogLine) {
        if self.lines.len() >= RECORDS_MAX {
            self.lost += 1;
            return;
        }
        self.lines.push(line);
    }

    /// Whether a complaint is the first of its kind.
    pub(crate) fn complains(&mut self, complaint: Complaint) -> bool {
        let kind = discriminant(&complaint);
        let first = !self.complained.contains(&kind);
        if first {
            self.complained.push(kind);
        }
        first
    }

    /// A complete line; what is open is closed.
    pub(crate) fn line(&mut self, level: Level, time: u64, text: String) {
        self.open = false;
        self.push(LogLine { level, time, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(log: &Log) -> Vec<(Level, &str)> {
        log.lines.iter().map(|line| (line.level, line.text.as_str())).collect()
    }

    #[test]
    fn levels_continuation_and_newlines() {
        let mut log = Log::default();
        log.store(1, b"\x016info\n");
        log.store(2, b"plain");
        log.store(3, b"\x01c, continued");
        log.store(4, b"\x01c to the end\n");
        log.store(5, b"\x01calone\n");
        log.store(6, b"\x013\x016first level counts\n");
        log.store(7, b"bad \xff byte\n");
        assert_eq!(
            texts(&log),
            [
                (Level::Info, "info"),
                (Level::Warning, "plain, continued to the end"),
                (Level::Warning, "alone"),
                (Level::Err, "first level counts"),
                (Level::Warning, "bad \\xff byte"),
            ]
        );
    }

    #[test]
    fn a_record_has_an_end() {
        let mut log = Log::default();
        log.store(0, &[b'x'; 5000]);
        assert_eq!(log.lines[0].text.len(), RECORD_MAX);
        log.store(0, b"\x01cmore\n");
        assert_eq!(log.lines.len(), 2);
    }
}
