//! `depmod.d`: which of several modules of one name counts, and where else modules are looked for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use lkm_module::Errno;

use super::ere::Ere;
use super::note::Note;
use crate::config::Problem;
use crate::config::files;
use crate::config::lines::Lines;

/// Where `depmod.d` is looked for, the first one first.
pub const DIRECTORIES: [&str; 5] =
    ["/etc/depmod.d", "/run/depmod.d", "/usr/local/lib/depmod.d", "/usr/lib/depmod.d", "/lib/depmod.d"];

/// A word of a `search` line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Search {
    /// `built-in`: everything that no other word names.
    BuiltIn,
    /// `external`: the directories of `external` lines.
    External,
    /// A directory below that of the modules.
    Below(Vec<u8>),
}

/// What `depmod.d` says for one kernel.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    search: Vec<Search>,
    /// Paths below the directory of the modules, without `.ko`.
    overrides: Vec<Vec<u8>>,
    external: Vec<PathBuf>,
    exclude: Vec<Vec<u8>>,
}

impl Rules {
    /// Reads the files that count for this kernel release. Each source is a directory, whose `*.conf` files count, or a
    /// file; files are read in the order of their base names, and of two with one name that of the earlier source.
    ///
    /// ```
    /// use lkm_tree::depmod::{Rules, DIRECTORIES};
    ///
    /// let sources: Vec<_> = DIRECTORIES.iter().map(Into::into).collect();
    /// let rules = Rules::read(&sources, b"6.1.0-56-amd64", &mut |note| eprintln!("{note}"));
    /// # let _ = rules;
    /// ```
    pub fn read(sources: &[PathBuf], release: &[u8], note: &mut dyn FnMut(Note)) -> Rules {
        let mut rules = Rules::default();
        let mut problems = Vec::new();
        let list = files::list(sources, &mut problems);
        for problem in problems {
            note(match problem {
                Problem::Directory(path) => Note::ConfigDirectory(path),
                Problem::Io(path, error) => Note::Config(path, super::sections::errno_of(&error)),
                other => Note::Config(PathBuf::from(other.to_string()), Errno::EINVAL),
            });
        }
        for path in list {
            match std::fs::read(&path) {
                Ok(text) => rules.add_text(&path, &text, release, note),
                Err(error) => note(Note::Config(path, super::sections::errno_of(&error))),
            }
        }
        rules
    }

    /// Adds what the text of a file says; the path is for notes only.
    pub fn add_text(&mut self, path: &Path, text: &[u8], release: &[u8], note: &mut dyn FnMut(Note)) {
        for (number, line) in Lines::new(text) {
            if line.starts_with(b"#") {
                continue;
            }
            let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
            let Some(command) = words.next() else { continue };
            let lossy = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
            let done = match command {
                b"search" => {
                    self.search.extend(words.map(|word| match word {
                        b"built-in" => Search::BuiltIn,
                        b"external" => Search::External,
                        directory => Search::Below(directory.to_vec()),
                    }));
                    true
                }
                b"override" => match (words.next(), words.next(), words.next()) {
                    (Some(name), Some(pattern), Some(directory)) => {
                        if is_for(pattern, release) {
                            self.overrides.push([directory, b"/", name].concat());
                        } else {
                            let (path, pattern) = (path.to_owned(), lossy(pattern));
                            note(Note::OtherKernel(path, number, "override kernel", pattern));
                        }
                        true
                    }
                    _ => false,
                },
                // kmod takes one directory of a line, whatever its manual says.
                b"external" => match (words.next(), words.next()) {
                    (Some(pattern), Some(directory)) => {
                        if is_for(pattern, release) {
                            self.external.push(PathBuf::from(OsStr::from_bytes(directory)));
                        } else {
                            let (path, pattern) = (path.to_owned(), lossy(pattern));
                            note(Note::OtherKernel(path, number, "external directory", pattern));
                        }
                        true
                    }
                    _ => false,
                },
                b"exclude" => {
                    self.exclude.extend(words.map(<[u8]>::to_vec));
                    true
                }
                b"include" | b"make_map_files" => {
                    note(Note::NotParsed(path.to_owned(), number, lossy(command)));
                    true
                }
                _ => false,
            };
            if !done {
                note(Note::BadLine(path.to_owned(), number, lossy(command)));
            }
        }
    }

    /// Directories beside that of the modules, in the order in which they are gone through.
    pub fn external(&self) -> impl Iterator<Item = &Path> {
        self.external.iter().rev().map(PathBuf::as_path)
    }

    /// Whether an entry of a directory is passed over: by an `exclude` line, or as `build` and `source`, which lead from
    /// a kernel's modules to its sources.
    pub fn is_excluded(&self, name: &[u8]) -> bool {
        matches!(name, b"build" | b"source") || self.exclude.iter().any(|excluded| excluded == name)
    }

    /// Whether `new` takes the place of `old`, which has the same name and was found before it. Both are below the
    /// directory of the modules, or absolute if they are in an external one.
    pub(super) fn replaces(&self, new: &[u8], old: &[u8]) -> bool {
        let is_below = |path: &[u8]| !path.starts_with(b"/");
        let stem = |path: &[u8]| {
            let name = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            let (directory, name) = path.split_at(name);
            let end = name.iter().position(|byte| *byte == b'.').unwrap_or(name.len());
            [directory, name.get(..end).unwrap_or(name)].concat()
        };
        for wanted in self.overrides.iter().rev() {
            if is_below(new) && stem(new) == *wanted {
                return true;
            }
            if is_below(old) && stem(old) == *wanted {
                return false;
            }
        }
        let default = [Search::Below(b"updates".to_vec())];
        let search = if self.search.is_empty() { &default[..] } else { &self.search };
        let matches = |path: &[u8], search: &Search| match search {
            Search::BuiltIn => false,
            Search::External => {
                !is_below(path)
                    && self
                        .external
                        .iter()
                        .any(|directory| starts_with(path, directory.as_os_str().as_encoded_bytes()))
            }
            Search::Below(directory) => is_below(path) && starts_with(path, directory),
        };
        // The earlier a word, the higher its rank; what no word names has that of `built-in`, or the lowest.
        let (mut new_rank, mut old_rank, mut rest_rank) = (None, None, None);
        for (rank, word) in search.iter().rev().enumerate() {
            if *word == Search::BuiltIn {
                rest_rank = Some(rank);
            } else if matches(new, word) {
                // kmod looks at the old one only if this is not the place of the new one: of two in one place the
                // later wins.
                new_rank = Some(rank);
            } else if matches(old, word) {
                old_rank = Some(rank);
            }
        }
        new_rank.or(rest_rank) > old_rank.or(rest_rank)
    }
}

/// Whether a path is in a directory.
fn starts_with(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| directory.ends_with(b"/") || matches!(rest.first(), None | Some(b'/')))
}

/// Whether a line with this pattern is for this kernel.
fn is_for(pattern: &[u8], release: &[u8]) -> bool {
    pattern == b"*" || Ere::new(pattern).is_some_and(|pattern| pattern.is_in(release))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> (Rules, Vec<String>) {
        let (mut rules, mut notes) = (Rules::default(), Vec::new());
        rules.add_text("x.conf".as_ref(), text.as_bytes(), b"6.1.0-56-amd64", &mut |note| {
            notes.push(note.to_string())
        });
        (rules, notes)
    }

    #[test]
    fn search_lines_rank_places() {
        let wins = |text: &str, new: &str, old: &str| rules(text).0.replaces(new.as_bytes(), old.as_bytes());
        assert!(wins("", "updates/a.ko", "kernel/a.ko"));
        assert!(!wins("", "kernel/a.ko", "updates/a.ko"));
        assert!(!wins("", "kernel/a.ko", "extra/a.ko"));
        assert!(!wins("", "updatesx/a.ko", "kernel/a.ko"));
        let text = "search extra built-in\nsearch last";
        assert!(wins(text, "extra/a.ko", "kernel/a.ko"));
        assert!(wins(text, "kernel/a.ko", "last/a.ko"));
        assert!(!wins(text, "last/b/a.ko", "extra/a.ko"));
        let text = "external * /ext\nsearch built-in external";
        assert!(!wins(text, "/ext/a.ko", "kernel/a.ko"));
        assert!(wins(text, "kernel/a.ko", "/ext/b/a.ko"));
        let text = "search built-in extra\noverride a-b 6.1 extra/sub\noverride c ^5 extra";
        assert!(wins(text, "extra/sub/a-b.ko.xz", "kernel/a-b.ko"));
        assert!(!wins(text, "kernel/a-b.ko", "extra/sub/a-b.ko"));
        assert!(!wins(text, "extra/c.ko", "kernel/c.ko"));
    }

    #[test]
    fn lines_that_say_nothing_are_noted() {
        let (rules, notes) = rules(
            "# comment\n\noverride m\nbogus\ninclude x\nexternal ^5 /a\nexternal 6 /b /x\nexternal 6 /c\nexclude this that\nexternal *\n",
        );
        assert_eq!(
            notes,
            [
                "x.conf:3: ignoring bad line starting with 'override'",
                "x.conf:4: ignoring bad line starting with 'bogus'",
                "x.conf:5: command include is deprecated and not parsed anymore",
                "x.conf:6: external directory did not match ^5",
                "x.conf:10: ignoring bad line starting with 'external'",
            ]
        );
        assert_eq!(rules.external().collect::<Vec<_>>(), [Path::new("/c"), Path::new("/b")]);
        assert!(rules.is_excluded(b"this") && rules.is_excluded(b"build") && !rules.is_excluded(b"thi"));
    }
}
