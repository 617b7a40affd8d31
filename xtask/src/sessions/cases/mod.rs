//! The cases, by command. Those that cannot be undone come last.

mod busybox;
mod config;
mod explain;
mod insmod;
mod last;
mod lsmod;
mod modinfo;
mod modprobe;
mod remove;
mod rmmod;
mod show;
mod usage;

use super::case::Case;

const TABLES: &[&[Case]] = &[
    insmod::CASES,
    rmmod::CASES,
    lsmod::CASES,
    modinfo::CASES,
    modprobe::CASES,
    show::CASES,
    config::CASES,
    remove::CASES,
    explain::CASES,
    busybox::CASES,
    usage::CASES,
    last::CASES,
];

/// All cases in their order.
pub(super) fn all() -> impl Iterator<Item = &'static Case> {
    TABLES.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_words_of_the_shell() {
        let mut names = BTreeSet::new();
        for case in super::all() {
            assert!(names.insert(case.name), "{} is there twice", case.name);
            assert!(case.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{}", case.name);
        }
    }
}
