//! Which addresses are mapped, and for what.

use std::collections::BTreeMap;

use super::Access;

/// Ranges of the guest's address space with their permissions; neighbours may differ, none overlap.
#[derive(Debug, Default)]
pub(super) struct Pages(BTreeMap<u64, (u64, Access)>);

impl Pages {
    /// The range that holds an address: its start, its last address and its permissions.
    pub(super) fn find(&self, address: u64) -> Option<(u64, u64, Access)> {
        let (&start, &(last, access)) = self.0.range(..=address).next_back()?;
        (address <= last).then_some((start, last, access))
    }

    /// Adds a range; `false` if part of it is taken or it is empty or wraps.
    pub(super) fn insert(&mut self, base: u64, size: u64, access: Access) -> bool {
        let Some(last) = size.checked_sub(1).and_then(|n| base.checked_add(n)) else { return false };
        if self.0.range(..=last).next_back().is_some_and(|(_, &(end, _))| end >= base) {
            return false;
        }
        self.0.insert(base, (last, access));
        true
    }

    /// Cuts ranges so that one begins exactly at `at`.
    fn split(&mut self, at: u64) {
        if let Some((start, last, access)) = self.find(at)
            && start != at
        {
            self.0.insert(start, (at - 1, access));
            self.0.insert(at, (last, access));
        }
    }

    /// Changes permissions of what is mapped between two addresses.
    pub(super) fn protect(&mut self, base: u64, size: u64, access: Access) {
        let Some(last) = size.checked_sub(1).and_then(|n| base.checked_add(n)) else { return };
        self.split(base);
        if let Some(next) = last.checked_add(1) {
            self.split(next);
        }
        for (_, range) in self.0.range_mut(base..=last) {
            range.1 = access;
        }
    }

    /// Takes everything between two addresses away.
    pub(super) fn remove(&mut self, base: u64, size: u64) {
        let Some(last) = size.checked_sub(1).and_then(|n| base.checked_add(n)) else { return };
        self.split(base);
        if let Some(next) = last.checked_add(1) {
            self.split(next);
        }
        let gone: Vec<u64> = self.0.range(base..=last).map(|(&start, _)| start).collect();
        for start in gone {
            self.0.remove(&start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_and_finds() {
        let mut pages = Pages::default();
        assert!(pages.insert(0x1000, 0x4000, Access::READ_WRITE));
        assert!(!pages.insert(0x4000, 0x1000, Access::READ));
        assert!(pages.insert(0x5000, 0x1000, Access::READ));
        pages.protect(0x2000, 0x1000, Access::READ_EXECUTE);
        assert_eq!(pages.find(0x1fff), Some((0x1000, 0x1fff, Access::READ_WRITE)));
        assert_eq!(pages.find(0x2000), Some((0x2000, 0x2fff, Access::READ_EXECUTE)));
        assert_eq!(pages.find(0x3000), Some((0x3000, 0x4fff, Access::READ_WRITE)));
        assert_eq!(pages.find(0xfff), None);
        pages.remove(0x1000, 0x4000);
        assert_eq!(pages.find(0x4fff), None);
        assert_eq!(pages.find(0x5fff), Some((0x5000, 0x5fff, Access::READ)));
    }

    #[test]
    fn the_last_page_of_the_address_space_is_one_like_any_other() {
        let mut pages = Pages::default();
        assert!(pages.insert(u64::MAX - 0xfff, 0x1000, Access::READ));
        assert!(pages.find(u64::MAX).is_some());
        pages.protect(u64::MAX - 0xfff, 0x1000, Access::NONE);
        pages.remove(u64::MAX - 0xfff, 0x1000);
        assert!(pages.find(u64::MAX).is_none());
        assert!(!pages.insert(u64::MAX, 2, Access::READ));
    }
}
