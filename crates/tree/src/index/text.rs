//! The text files of `/lib/modules/VERSION`: `modules.dep`, `.alias`, `.symbols`, `.softdep`, `.weakdep`, `.devname`,
//! which `depmod` writes, and `modules.order`, `.builtin`, `.builtin.modinfo`, which the kernel's build leaves.
//!
//! Every reader borrows from the bytes of the file and gives one item a line, or an error that names the line. Empty
//! lines and those that start with `#` are passed over.
//!
//! ```
//! use lkm_tree::index::text;
//!
//! let file = b"kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko\n";
//! let line = text::dependencies(file).next().unwrap()?;
//! assert_eq!(line.path, b"kernel/fs/ext4/ext4.ko");
//! assert_eq!(line.depends().count(), 2);
//! # Ok::<(), text::LineError>(())
//! ```

use std::fmt;

/// A line that is not as the file's format has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// Number of the line, from 1; of the entry in `modules.builtin.modinfo`.
    pub line: usize,
    /// The line.
    pub text: Vec<u8>,
    /// What a line of this file looks like.
    pub expected: &'static str,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: '{}' is not of the form '{}'", self.line, self.text.escape_ascii(), self.expected)
    }
}

impl std::error::Error for LineError {}

/// A line of `modules.dep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DependencyLine<'a> {
    /// The module's file, relative to the directory that the index is in unless it starts with `/`.
    pub path: &'a [u8],
    rest: &'a [u8],
}

impl<'a> DependencyLine<'a> {
    /// Reads one line, which is also what a value in `modules.dep.bin` is. `None` if it has no `:`.
    pub fn parse(line: &'a [u8]) -> Option<DependencyLine<'a>> {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some(DependencyLine { path: line.get(..colon)?, rest: line.get(colon + 1..)? })
    }

    /// The files of all modules it needs, directly or through others. The one to load first is the last.
    pub fn depends(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        words(self.rest)
    }
}

/// Reads `modules.dep`.
pub fn dependencies(file: &[u8]) -> impl Iterator<Item = Result<DependencyLine<'_>, LineError>> {
    parsed(file, "PATH: PATH ...", DependencyLine::parse)
}

/// A line of `modules.alias` or `modules.symbols`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AliasLine<'a> {
    /// A pattern, or `symbol:NAME`; as the module has it, its `-` not replaced.
    pub pattern: &'a [u8],
    /// The module it stands for.
    pub module: &'a [u8],
}

/// Reads `modules.alias` or `modules.symbols`.
pub fn aliases(file: &[u8]) -> impl Iterator<Item = Result<AliasLine<'_>, LineError>> {
    parsed(file, "alias PATTERN MODULE", |line| {
        // A module may ask for an alias with a blank in it; the module is what follows the last one.
        let body = line.strip_prefix(b"alias ")?;
        let blank = body.iter().rposition(|byte| *byte == b' ')?;
        let (pattern, module) = (body.get(..blank)?, body.get(blank + 1..)?);
        (!pattern.is_empty() && !module.is_empty()).then_some(AliasLine { pattern, module })
    })
}

/// A line of `modules.softdep`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SoftDependencyLine<'a> {
    /// The module the line is about.
    pub module: &'a [u8],
    /// What is loaded before it.
    pub before: Vec<&'a [u8]>,
    /// What is loaded after it.
    pub after: Vec<&'a [u8]>,
}

/// Reads `modules.softdep`.
pub fn soft_dependencies(file: &[u8]) -> impl Iterator<Item = Result<SoftDependencyLine<'_>, LineError>> {
    parsed(file, "softdep MODULE pre: MODULE ... post: MODULE ...", |line| {
        let mut words = words(line);
        (words.next()? == b"softdep").then_some(())?;
        let mut found = SoftDependencyLine { module: words.next()?, ..SoftDependencyLine::default() };
        (found.before, found.after) = soft_words(words);
        Some(found)
    })
}

/// Sorts the words of a soft dependency under `pre:` and `post:`; what precedes both counts for nothing.
pub(crate) fn soft_words<'a>(words: impl Iterator<Item = &'a [u8]>) -> (Vec<&'a [u8]>, Vec<&'a [u8]>) {
    let (mut before, mut after, mut ignored) = (Vec::new(), Vec::new(), Vec::new());
    let mut list = &mut ignored;
    for word in words {
        match word {
            b"pre:" => list = &mut before,
            b"post:" => list = &mut after,
            word => list.push(word),
        }
    }
    (before, after)
}

/// A line of `modules.weakdep`, which kmod writes from version 33 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeakDependencyLine<'a> {
    /// The module the line is about.
    pub module: &'a [u8],
    /// What it may ask for while it runs: a boot image should have it, nobody loads it for that.
    pub weak: Vec<&'a [u8]>,
}

/// Reads `modules.weakdep`.
pub fn weak_dependencies(file: &[u8]) -> impl Iterator<Item = Result<WeakDependencyLine<'_>, LineError>> {
    parsed(file, "weakdep MODULE MODULE ...", |line| {
        let mut words = words(line);
        (words.next()? == b"weakdep").then_some(())?;
        Some(WeakDependencyLine { module: words.next()?, weak: words.collect() })
    })
}

/// Kind of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// `c`
    Character,
    /// `b`
    Block,
}

/// A line of `modules.devname`: a device node that may be made before its module is loaded, because opening it loads
/// the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNode<'a> {
    /// The module.
    pub module: &'a [u8],
    /// Path of the node below `/dev`.
    pub name: &'a [u8],
    /// Character or block device.
    pub kind: DeviceKind,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
}

/// Reads `modules.devname`.
pub fn device_nodes(file: &[u8]) -> impl Iterator<Item = Result<DeviceNode<'_>, LineError>> {
    parsed(file, "MODULE NAME c|bMAJOR:MINOR", |line| {
        let mut words = words(line);
        let (module, name, device) = (words.next()?, words.next()?, words.next()?);
        let (kind, numbers) = match device {
            [b'c', numbers @ ..] => (DeviceKind::Character, numbers),
            [b'b', numbers @ ..] => (DeviceKind::Block, numbers),
            _ => return None,
        };
        let (major, minor) = std::str::from_utf8(numbers).ok()?.split_once(':')?;
        let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
        words.next().is_none().then_some(DeviceNode { module, name, kind, major, minor })
    })
}

/// Reads `modules.order` or `modules.builtin`: one path a line, in the order in which modules were linked.
pub fn paths(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines(file).map(|(_, line)| line)
}

/// An entry of `modules.builtin.modinfo`: one field of a module that is part of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltinField<'a> {
    /// The module.
    pub module: &'a [u8],
    /// Name of the field, as in a module's `.modinfo`.
    pub field: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

/// Reads `modules.builtin.modinfo`, whose entries `MODULE.FIELD=VALUE` end in a NUL each.
pub fn builtin_fields(file: &[u8]) -> impl Iterator<Item = Result<BuiltinField<'_>, LineError>> {
    let entries = file.split(|byte| *byte == 0).enumerate().filter(|(_, entry)| !entry.is_empty());
    entries.map(|(position, entry)| {
        let field = || {
            let equals = entry.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (entry.get(..equals)?, entry.get(equals + 1..)?);
            let dot = name.iter().position(|byte| *byte == b'.')?;
            Some(BuiltinField { module: name.get(..dot)?, field: name.get(dot + 1..)?, value })
        };
        field().ok_or_else(|| LineError {
            line: position + 1,
            text: entry.to_vec(),
            expected: "MODULE.FIELD=VALUE",
        })
    })
}

/// The lines that say something, with their numbers.
fn lines(file: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let numbered = file.split(|byte| *byte == b'\n').enumerate();
    numbered
        .filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"))
        .map(|(position, line)| (position + 1, line))
}

fn parsed<'a, T>(
    file: &'a [u8],
    expected: &'static str,
    parse: impl Fn(&'a [u8]) -> Option<T>,
) -> impl Iterator<Item = Result<T, LineError>> {
    lines(file)
        .map(move |(line, text)| parse(text).ok_or_else(|| LineError { line, text: text.to_vec(), expected }))
}

pub(crate) fn words(text: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_of_each_file_is_read() {
        let file = b"a.ko:\n# said\n\nb.ko: x/c.ko d.ko\n";
        let lines: Vec<_> = dependencies(file).map(Result::unwrap).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].path, lines[0].depends().count()), (b"a.ko".as_slice(), 0));
        assert_eq!(lines[1].depends().collect::<Vec<_>>(), [b"x/c.ko".as_slice(), b"d.ko"]);

        let line = aliases(b"alias of:N*T*Cfoo bar baz\n").next().unwrap().unwrap();
        assert_eq!((line.pattern, line.module), (b"of:N*T*Cfoo bar".as_slice(), b"baz".as_slice()));

        let line = soft_dependencies(b"softdep a x pre: b c post: d pre: e\n").next().unwrap().unwrap();
        assert_eq!(line.module, b"a");
        assert_eq!(line.before, [b"b", b"c", b"e"]);
        assert_eq!(line.after, [b"d"]);

        let line = weak_dependencies(b"weakdep a b c\n").next().unwrap().unwrap();
        assert_eq!((line.module, line.weak.len()), (b"a".as_slice(), 2));

        let node = device_nodes(b"# x\ntun net/tun c10:200\n").next().unwrap().unwrap();
        assert_eq!((node.module, node.name), (b"tun".as_slice(), b"net/tun".as_slice()));
        assert_eq!((node.kind, node.major, node.minor), (DeviceKind::Character, 10, 200));

        assert_eq!(paths(b"kernel/a.ko\nkernel/b.ko\n").count(), 2);

        let field = builtin_fields(b"ext4.parm=a=b.c:d\0").next().unwrap().unwrap();
        assert_eq!((field.module, field.field), (b"ext4".as_slice(), b"parm".as_slice()));
        assert_eq!(field.value, b"a=b.c:d");
    }

    #[test]
    fn what_is_no_line_of_the_file_is_named() {
        let error = dependencies(b"a.ko:\nb.ko c.ko\n").nth(1).unwrap().unwrap_err();
        assert_eq!(error.to_string(), "line 2: 'b.ko c.ko' is not of the form 'PATH: PATH ...'");
        for bad in ["alias a", "alias  b", "aliasa b"] {
            assert!(aliases(bad.as_bytes()).next().unwrap().is_err(), "{bad}");
        }
        for bad in ["a b c10", "a b x1:2", "a b c1:2:3", "a b c1:2 d", "a b", "a b c-1:2"] {
            assert!(device_nodes(bad.as_bytes()).next().unwrap().is_err(), "{bad}");
        }
        assert!(soft_dependencies(b"softdep").next().unwrap().is_err());
        assert!(weak_dependencies(b"softdep a b").next().unwrap().is_err());
        assert_eq!(builtin_fields(b"a.b=c\0ext4.name\0").nth(1).unwrap().unwrap_err().line, 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(file: Vec<u8>) {
            dependencies(&file).for_each(drop);
            aliases(&file).for_each(drop);
            soft_dependencies(&file).for_each(drop);
            weak_dependencies(&file).for_each(drop);
            device_nodes(&file).for_each(drop);
            paths(&file).for_each(drop);
            builtin_fields(&file).for_each(drop);
        }
    }
}
