//! The intended differences, as the table in the documentation has them.

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::paths;

/// Where the table is.
const DOCUMENT: &str = "crates/modutils/DIFFERENCES.md";

/// A row of the table that cases here show.
pub(crate) struct Row {
    /// Its first column.
    pub(crate) what: &'static str,
}

/// The row that is found without a case that names it: wherever a refusal of ours is explained.
pub(crate) const EXPLANATIONS: &str = "lines behind a refusal";
/// The row that is found without a case that names it: wherever libkmod's messages have a place in its source.
pub(crate) const POSITIONS: &str = "messages of libkmod itself";

/// The rows that must occur in a session, each in at least one case.
pub(crate) const ROWS: &[Row] = &[
    Row { what: EXPLANATIONS },
    Row { what: POSITIONS },
    Row { what: "texts of `--help` and `--version`" },
    Row { what: "options of `insmod`" },
    Row { what: "options of `rmmod`" },
    Row { what: "options of `lsmod`" },
    Row { what: "gzip and lzma" },
    Row { what: "zstd" },
    Row { what: "blanks in the value of a parameter" },
    Row { what: "`rmmod` of a part of the kernel that no index lists" },
    Row { what: "a dependency whose file is gone" },
    Row { what: "paths as arguments of `modprobe`" },
    Row { what: "names for `--show-exports` and `--show-modversions`" },
    Row { what: "several `softdep` lines for one module" },
    Row { what: "`install` and `softdep` for one module" },
    Row { what: "order of lines on standard output" },
    Row { what: "`modprobe -r --remove-holders`" },
];

/// Each difference that the cases show stands in the table with a reason.
pub(crate) fn check_document() -> Result<()> {
    let path = paths::root().join(DOCUMENT);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for row in ROWS {
        let found = rows(&text).find(|columns| columns.first().is_some_and(|what| *what == row.what));
        let columns = found.with_context(|| format!("{DOCUMENT} has no row {:?}", row.what))?;
        if columns.len() != 4 || columns.iter().any(|column| column.is_empty()) {
            return Err(Error::new(format!("{DOCUMENT}: the row {:?} needs four columns", row.what)));
        }
    }
    Ok(())
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim().trim_matches('|').split(" | ").map(str::trim).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sessions::cases;

    #[test]
    fn each_difference_of_a_case_is_a_row_and_each_row_has_a_case() {
        let rows: BTreeSet<&str> = ROWS.iter().map(|row| row.what).collect();
        assert_eq!(rows.len(), ROWS.len());
        let named = cases::all().filter_map(|case| case.difference.map(|difference| difference.row));
        let used: BTreeSet<&str> = named.chain([POSITIONS, EXPLANATIONS]).collect();
        assert_eq!(used, rows);
    }

    #[test]
    fn the_table_has_a_row_for_each() {
        check_document().unwrap();
        let table = "| what | kmod 30 | here | why |\n|---|---|---|---|\n| a | b | c | d |\n";
        assert_eq!(rows(table).nth(2).unwrap(), ["a", "b", "c", "d"]);
    }
}
