//! The account of a comparison.

use std::collections::BTreeMap;

/// Lines of one kind that are printed before the rest is only counted.
const LINES: usize = 40;

/// Sums over modules, and everything that is not as it should be.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) modules: usize,
    pub(crate) loaded: usize,
    pub(crate) sections: usize,
    pub(crate) relocations: usize,
    /// Bytes compared after the relocations.
    pub(crate) relocated: usize,
    /// Bytes compared right before the init function.
    pub(crate) before_init: usize,
    pub(crate) reproduced: BTreeMap<&'static str, usize>,
    pub(crate) masked: BTreeMap<&'static str, usize>,
    /// Lines and files of /proc and /sys that are the same.
    views: BTreeMap<&'static str, usize>,
    /// Those that show run-time state.
    pub(crate) run_time: BTreeMap<&'static str, usize>,
    addresses: Vec<String>,
    unexplained: Vec<String>,
    problems: Vec<String>,
}

impl Report {
    /// A section lies elsewhere.
    pub(crate) fn address(&mut self, line: String) {
        self.addresses.push(line);
    }

    /// Bytes that differ, one line each; empty lines are bytes that another line shows.
    pub(crate) fn unexplained(&mut self, lines: Vec<String>) {
        self.unexplained.extend(lines);
    }

    /// Something that is neither an address nor a byte.
    pub(crate) fn problem(&mut self, line: String) {
        self.problems.push(line);
    }

    /// A line or file of a view is the same.
    pub(crate) fn view(&mut self, name: &'static str) {
        *self.views.entry(name).or_default() += 1;
    }

    /// Adds another report.
    pub(crate) fn add(&mut self, other: Report) {
        self.modules += other.modules;
        self.loaded += other.loaded;
        self.sections += other.sections;
        self.relocations += other.relocations;
        self.relocated += other.relocated;
        self.before_init += other.before_init;
        let sums = [
            (&mut self.masked, other.masked),
            (&mut self.reproduced, other.reproduced),
            (&mut self.views, other.views),
            (&mut self.run_time, other.run_time),
        ];
        for (sum, counts) in sums {
            for (name, count) in counts {
                *sum.entry(name).or_default() += count;
            }
        }
        self.addresses.extend(other.addresses);
        self.unexplained.extend(other.unexplained);
        self.problems.extend(other.problems);
    }

    /// Nothing differs.
    pub(crate) fn agrees(&self) -> bool {
        self.modules > 0
            && self.addresses.is_empty()
            && self.unexplained.is_empty()
            && self.problems.is_empty()
    }

    pub(crate) fn print(&self) {
        let row = |name: &str, count: usize| println!("    {name:<50}{count:>12}");
        row("modules", self.modules);
        row("  whose init function succeeded", self.loaded);
        row("sections", self.sections);
        row("relocations", self.relocations);
        row("bytes compared after relocation", self.relocated);
        row("bytes compared before init", self.before_init);
        println!("    changed between the two, and reproduced");
        for (name, &count) in &self.reproduced {
            row(&format!("  {}", if name.is_empty() { "(no rule)" } else { name }), count);
        }
        println!("    masked: run-time state, differs");
        for (name, &count) in &self.masked {
            row(&format!("  {name}"), count);
        }
        println!("    lines and files of /proc and /sys that are the same");
        for (name, &count) in &self.views {
            row(&format!("  {name}"), count);
        }
        println!("    those that show run-time state");
        for (name, &count) in &self.run_time {
            row(&format!("  {name}"), count);
        }
        row("addresses that differ", self.addresses.len());
        row("bytes unexplained", self.unexplained.len());
        row("other differences", self.problems.len());
        for lines in [&self.problems, &self.addresses, &self.unexplained] {
            for line in lines.iter().filter(|line| !line.is_empty()).take(LINES) {
                println!("      {line}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn one_byte_is_enough_to_disagree() {
        let mut report = Report { modules: 1, ..Report::default() };
        assert!(report.agrees());
        let mut other = Report::default();
        other.unexplained(vec![String::from("a byte")]);
        report.add(other);
        assert!(!report.agrees());
        assert!(!Report::default().agrees(), "comparing nothing proves nothing");
    }
}
