/// Severity of a kernel log line, as in `<4>`: the smaller, the more severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// `KERN_EMERG`
    Emerg = 0,
    /// `KERN_ALERT`
    Alert = 1,
    /// `KERN_CRIT`
    Crit = 2,
    /// `KERN_ERR`
    Err = 3,
    /// `KERN_WARNING`, the level of a printk that names none
    Warning = 4,
    /// `KERN_NOTICE`
    Notice = 5,
    /// `KERN_INFO`
    Info = 6,
    /// `KERN_DEBUG`
    Debug = 7,
}

impl Level {
    /// The level of a number 0 to 7.
    pub const fn from_number(number: u8) -> Option<Level> {
        Some(match number {
            0 => Level::Emerg,
            1 => Level::Alert,
            2 => Level::Crit,
            3 => Level::Err,
            4 => Level::Warning,
            5 => Level::Notice,
            6 => Level::Info,
            7 => Level::Debug,
            _ => return None,
        })
    }
}

/// Bytes from a file shown as text: valid UTF-8 as it is, anything else as `\xNN`, as `/dev/kmsg` shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<'a>(pub &'a [u8]);

impl core::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl core::fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn levels_and_their_numbers() {
        for number in 0..8 {
            assert_eq!(Level::from_number(number).map(|level| level as u8), Some(number));
        }
        assert_eq!(Level::from_number(8), None);
        assert!(Level::Err < Level::Warning);
    }

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        assert_eq!(format!("{}", Text("Grüße".as_bytes())), "Grüße");
        assert_eq!(format!("{}", Text(b"a\xff\xc3b")), "a\\xff\\xc3b");
        assert_eq!(format!("{:?}", Text(b"x")), "\"x\"");
    }
}
