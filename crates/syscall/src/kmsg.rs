//! The kernel's log, read from `/dev/kmsg`.
//!
//! Which lines belong to a call is decided by position: the device is opened and moved to its end before the call, and
//! what can be read from it afterwards came later. The times in the log would not do, because they are those of the
//! scheduler's clock, which no clock of user space shows.

use std::os::fd::OwnedFd;

use lkm_module::Errno;
use lkm_module::Level;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SeekFrom;

/// Bytes that any record fits in (`PRINTK_MESSAGE_MAX` is 8192 at most).
const RECORD: usize = 16 << 10;

/// Records that are read at most: a module that floods the log must not fill memory.
const RECORDS: usize = 4096;

/// The end of the log at one moment: what is logged later can be read from it.
#[derive(Debug)]
pub struct LogMark(Mark);

#[derive(Debug)]
enum Mark {
    Unreadable(Errno),
    Device(OwnedFd),
    Sequence(u64),
}

impl LogMark {
    /// A log that cannot be read, and why.
    pub const fn unreadable(errno: Errno) -> LogMark {
        LogMark(Mark::Unreadable(errno))
    }

    /// A place in a log that is not a device: the number of the next record.
    pub const fn sequence(number: u64) -> LogMark {
        LogMark(Mark::Sequence(number))
    }

    /// Why the log cannot be read.
    pub const fn error(&self) -> Option<Errno> {
        match self.0 {
            Mark::Unreadable(errno) => Some(errno),
            _ => None,
        }
    }

    /// What [`LogMark::sequence`] was given.
    pub const fn number(&self) -> Option<u64> {
        match self.0 {
            Mark::Sequence(number) => Some(number),
            _ => None,
        }
    }
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// How severe it is.
    pub level: Level,
    /// Who logged it, as in `syslog`: 0 is the kernel, everything else a process.
    pub facility: u32,
    /// Its number, counted from boot.
    pub sequence: u64,
    /// When, in microseconds of the kernel's scheduler clock.
    pub microseconds: u64,
    /// The task that logged it, `T` and its number, or `C` and a processor's outside of tasks
    /// (`CONFIG_PRINTK_CALLER`).
    pub caller: Option<Vec<u8>>,
    /// It continues the record before it.
    pub continues: bool,
    /// The text, without escapes and without the newline at its end. It may hold any bytes, newlines too.
    pub text: Vec<u8>,
}

impl LogRecord {
    /// A kernel's own line.
    pub fn new(level: Level, text: &[u8]) -> LogRecord {
        LogRecord {
            level,
            facility: 0,
            sequence: 0,
            microseconds: 0,
            caller: None,
            continues: false,
            text: text.to_vec(),
        }
    }

    /// Reads a record as `/dev/kmsg` gives it:
    /// `priority,sequence,microseconds,flag[,caller=...];text`, a newline, and lines with properties of a device.
    /// `None` if it is no such thing.
    pub fn parse(bytes: &[u8]) -> Option<LogRecord> {
        let (prefix, rest) = split_once(bytes, b';')?;
        let text = rest.split(|&byte| byte == b'\n').next().unwrap_or(&[]);
        let mut fields = prefix.split(|&byte| byte == b',');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<u64>().ok();
        let (priority, sequence, microseconds) = (number()?, number()?, number()?);
        let flag = fields.next().unwrap_or(b"-");
        let caller = fields.find_map(|field| field.strip_prefix(b"caller="));
        Some(LogRecord {
            level: Level::from_number((priority & 7) as u8)?,
            facility: u32::try_from(priority >> 3).ok()?,
            sequence,
            microseconds,
            caller: caller.map(<[u8]>::to_vec),
            continues: flag == b"+",
            text: unescape(text),
        })
    }
}

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == separator)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// Undoes the kernel's escapes: `\xNN` for whatever is not printable ASCII, and for the backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match after {
            [b'x', high, low, ..] if first == b'\\' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                result.push(high << 4 | low);
                rest = after.get(3..).unwrap_or(&[]);
            }
            None => {
                result.push(first);
                rest = after;
            }
        }
    }
    result
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Opens the log at its end.
pub(crate) fn mark() -> LogMark {
    let open = || {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let device = rustix::fs::open(c"/dev/kmsg", flags, Mode::empty())?;
        rustix::fs::seek(&device, SeekFrom::End(0))?;
        Ok(device)
    };
    match open() {
        Ok(device) => LogMark(Mark::Device(device)),
        Err(error) => LogMark::unreadable(crate::live::errno(error)),
    }
}

/// What was logged since, by the kernel on behalf of this task as far as can be told.
pub(crate) fn since(mark: LogMark) -> Result<Vec<LogRecord>, Errno> {
    let device = match mark.0 {
        Mark::Device(device) => device,
        Mark::Unreadable(errno) => return Err(errno),
        Mark::Sequence(_) => return Err(Errno::EINVAL),
    };
    let task = format!("T{}", rustix::thread::gettid().as_raw_nonzero());
    Ok(select(read_all(&device), task.as_bytes()))
}

fn read_all(device: &OwnedFd) -> Vec<LogRecord> {
    let mut records = Vec::new();
    let mut buffer = vec![0; RECORD];
    // A record that was overwritten before it was read (EPIPE) is followed by the oldest that is still there.
    for _ in 0..RECORDS {
        match rustix::io::read(device, &mut buffer[..]) {
            Ok(0) => break,
            Ok(length) => records.extend(buffer.get(..length).and_then(LogRecord::parse)),
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR | rustix::io::Errno::INVAL) => {}
            // All has been read (EAGAIN), or it cannot be.
            Err(_) => break,
        }
    }
    records
}

/// The kernel's own records, those of one task if records say whose they are, with continued lines put together.
fn select(records: Vec<LogRecord>, task: &[u8]) -> Vec<LogRecord> {
    // Seen from another process namespace the numbers are others, and none of them fits.
    let known = records.iter().any(|record| record.caller.as_deref() == Some(task));
    let mut selected: Vec<LogRecord> = Vec::new();
    for record in records {
        if record.facility != 0 || known && record.caller.as_deref() != Some(task) {
            continue;
        }
        match selected.last_mut() {
            Some(last) if record.continues => last.text.extend_from_slice(&record.text),
            _ => selected.push(record),
        }
    }
    selected
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_as_the_device_gives_them() {
        let record = LogRecord::parse(b"4,1213,9781537,-;hello: Unknown symbol foo (err -2)\n").unwrap();
        assert_eq!((record.level, record.facility), (Level::Warning, 0));
        assert_eq!((record.sequence, record.microseconds), (1213, 9_781_537));
        assert_eq!(record.text, b"hello: Unknown symbol foo (err -2)");
        assert_eq!((record.caller, record.continues), (None, false));

        let record =
            LogRecord::parse(b"30,7,1,-,caller=T341;a\\x5cb\\x0ac\\xc3\\xbc\n SUBSYSTEM=pci\n").unwrap();
        assert_eq!((record.level, record.facility), (Level::Info, 3));
        assert_eq!(record.caller.as_deref(), Some(&b"T341"[..]));
        assert_eq!(record.text, "a\\b\ncü".as_bytes());

        assert!(LogRecord::parse(b"6,1,2,+;more").unwrap().continues);
        assert_eq!(LogRecord::parse(b"6,1,2,-;cut \\x4 \\xzz \\").unwrap().text, b"cut \\x4 \\xzz \\");
        for bad in [&b""[..], b"6,1,2,-", b"a,1,2,-;x", b"6,1;x", b";"] {
            assert_eq!(LogRecord::parse(bad), None);
        }
    }

    #[test]
    fn lines_of_processes_and_other_tasks_are_left_out() {
        let record = |text: &str| LogRecord::parse(text.as_bytes()).unwrap();
        let texts = |records: &[&str]| {
            let selected = select(records.iter().map(|text| record(text)).collect(), b"T7");
            selected.into_iter().map(|record| String::from_utf8(record.text).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(
            texts(&["30,1,0,-;systemd", "4,2,0,c;one", "4,3,0,+; line", "6,4,0,-;two"]),
            ["one line", "two"]
        );
        let callers = ["4,1,0,-,caller=T7;mine", "4,2,0,-,caller=T8;other", "4,3,0,-,caller=C0;interrupt"];
        assert_eq!(texts(&callers), ["mine"]);
        assert_eq!(texts(&callers[1..]), ["other", "interrupt"]);
    }

    #[test]
    fn the_device_is_read_from_the_mark_on() {
        let text = format!("lkm-syscall: a line of test {}", std::process::id());
        let write = || std::fs::OpenOptions::new().write(true).open("/dev/kmsg");
        let (first, second) = (mark(), mark());
        if let Some(errno) = first.error() {
            assert_eq!(since(first), Err(errno));
            return;
        }
        let Ok(mut log) = write() else { return };
        std::io::Write::write_all(&mut log, format!("<4>{text}\n").as_bytes()).unwrap();
        let ours = |record: &LogRecord| record.text == text.as_bytes();
        let LogMark(Mark::Device(device)) = first else { unreachable!() };
        let written = read_all(&device).into_iter().find(ours).unwrap();
        // Whatever a process claims, the kernel marks its lines as not its own.
        assert_eq!((written.level, written.facility), (Level::Warning, 1));
        assert!(!since(second).unwrap().iter().any(ours));
        assert!(!since(mark()).unwrap().iter().any(ours));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = LogRecord::parse(&bytes);
            let text = unescape(&bytes);
            prop_assert!(text.len() <= bytes.len());
        }

        #[test]
        fn what_the_kernel_escapes_comes_back(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut raw = b"6,1,2,-;".to_vec();
            for &byte in &text {
                match byte {
                    b'\\' | 0..32 | 127.. => raw.extend(format!("\\x{byte:02x}").bytes()),
                    _ => raw.push(byte),
                }
            }
            raw.push(b'\n');
            prop_assert_eq!(LogRecord::parse(&raw).unwrap().text, text);
        }
    }
}
