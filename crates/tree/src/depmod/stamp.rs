//! By what a file is known to be the one that was read before.

use std::time::Duration;
use std::time::SystemTime;

use rustix::fs::Stat;

/// State of a file: it is unchanged as long as all of these are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Bytes in it.
    pub(super) size: u64,
    /// Number of its inode.
    pub(super) inode: u64,
    /// When its contents changed, in nanoseconds since 1970.
    pub(super) modified: i64,
    /// When its contents or its inode changed, in nanoseconds since 1970. No program can set it back.
    pub(super) changed: i64,
}

// The types of these fields are not the same on all architectures.
#[allow(clippy::unnecessary_cast)]
impl Stamp {
    pub(super) fn of(stat: &Stat) -> Stamp {
        let nanoseconds =
            |seconds: i64, nanoseconds: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds);
        Stamp {
            size: stat.st_size as u64,
            inode: stat.st_ino as u64,
            modified: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    /// Device and inode: what is the same file has the same.
    pub(super) fn identity(stat: &Stat) -> (u64, u64) {
        (stat.st_dev as u64, stat.st_ino as u64)
    }

    /// Whether a later write to the file must show in its stamp. File systems count time in ticks of up to 10 ms (2 s
    /// on some), so one that was changed a moment ago may change again without a new time.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        const TICK: Duration = Duration::from_millis(50);
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let limit =
            now.checked_sub(TICK).map_or(0, |limit| i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX));
        self.changed < limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_well_in_the_past_are_settled() {
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i64;
        let at = |ago: i64| Stamp { changed: since - ago * 1_000_000, ..Stamp::default() };
        assert!(at(200).is_settled(now));
        assert!(!at(10).is_settled(now) && !at(0).is_settled(now) && !at(-500).is_settled(now));
    }
}
