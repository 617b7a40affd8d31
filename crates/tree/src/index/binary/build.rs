//! Making an index.

use std::fmt;

use super::CHILDREN;
use super::MAGIC;
use super::OFFSET;
use super::PREFIX;
use super::VALUES;
use super::VERSION;
use crate::words;

/// Why an index cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// A key has a byte that the format cannot hold: NUL, or one above 127. The key.
    Key(Vec<u8>),
    /// A value has a NUL. The value.
    Value(Vec<u8>),
    /// The file would be larger than 256 MiB, which is as far as references reach.
    TooLarge,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Key(key) => {
                write!(f, "'{}' is not plain ASCII and cannot be indexed", key.escape_ascii())
            }
            BuildError::Value(value) => {
                write!(f, "'{}' has a NUL and cannot be indexed", value.escape_ascii())
            }
            BuildError::TooLarge => f.write_str("the index would be larger than 256 MiB"),
        }
    }
}

impl std::error::Error for BuildError {}

/// Gathers keys and values and writes them as an index, byte for byte as the `depmod` of kmod 30 does.
#[derive(Clone, Debug, Default)]
pub struct IndexBuilder {
    entries: Vec<Entry>,
    texts: Vec<u8>,
}

/// Places in `texts`; one allocation for all, since there are tens of thousands.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key: usize,
    value: usize,
    end: usize,
    priority: u32,
}

/// A node that may still get children.
struct Open {
    /// Length of the keys up to the end of its prefix.
    depth: usize,
    /// Its values among the sorted entries.
    values: std::ops::Range<usize>,
    children: Vec<(u8, u32)>,
}

impl IndexBuilder {
    /// An empty index.
    pub fn new() -> IndexBuilder {
        IndexBuilder::default()
    }

    /// Adds one value of a key; a key may have several, and the same one twice. Values of one key are written by
    /// priority and, if that is equal, the last one inserted first.
    pub fn insert(&mut self, key: &[u8], value: &[u8], priority: u32) -> Result<(), BuildError> {
        if !words::is_plain(key) {
            return Err(BuildError::Key(key.to_vec()));
        }
        if words::nul(value).is_some() {
            return Err(BuildError::Value(value.to_vec()));
        }
        let start = self.texts.len();
        self.texts.extend_from_slice(key);
        self.texts.extend_from_slice(value);
        let end = self.texts.len();
        self.entries.push(Entry { key: start, value: start + key.len(), end, priority });
        Ok(())
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        &self.texts[entry.key..entry.value]
    }

    /// The bytes of the file.
    pub fn finish(mut self) -> Result<Vec<u8>, BuildError> {
        let mut entries = std::mem::take(&mut self.entries);
        // Insertion order is that of the places in `texts`; the latest comes first.
        entries.reverse();
        entries.sort_by(|a, b| words::compare(self.key(a), self.key(b)).then(a.priority.cmp(&b.priority)));

        let mut out = Vec::with_capacity(self.texts.len());
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 4]);

        // The way from the root to the key that was read last. A node is written when the next key leaves it, hence
        // after its children: the order of kmod 30.
        let mut way = Vec::new();
        let mut top = Open { depth: 0, values: 0..0, children: Vec::new() };
        let mut last: &[u8] = b"";
        let mut position = 0;
        while let Some(entry) = entries.get(position) {
            let key = self.key(entry);
            let same =
                entries[position..].iter().take_while(|other| words::same(self.key(other), key)).count();
            let values = position..position + same;
            position = values.end;
            let common = words::common(last, key);
            self.leave(&mut way, &mut top, last, common, &entries, &mut out)?;
            if key.is_empty() {
                top.values = values;
            } else {
                let node = Open { depth: key.len(), values, children: Vec::new() };
                way.push(std::mem::replace(&mut top, node));
            }
            last = key;
        }
        self.leave(&mut way, &mut top, last, 0, &entries, &mut out)?;
        let root = self.write(&top, b"", &entries, &mut out)?;
        out[8..12].copy_from_slice(&root.to_be_bytes());
        Ok(out)
    }

    /// Writes the nodes on the way to `last` that are deeper than `depth`.
    fn leave(
        &self,
        way: &mut Vec<Open>,
        top: &mut Open,
        last: &[u8],
        depth: usize,
        entries: &[Entry],
        out: &mut Vec<u8>,
    ) -> Result<(), BuildError> {
        while top.depth > depth {
            let parent = match way.pop() {
                Some(parent) if parent.depth >= depth => parent,
                above => {
                    way.extend(above);
                    Open { depth, values: 0..0, children: Vec::new() }
                }
            };
            let node = std::mem::replace(top, parent);
            let reference = self.write(&node, &last[top.depth + 1..node.depth], entries, out)?;
            top.children.push((last[top.depth], reference));
        }
        Ok(())
    }

    fn write(
        &self,
        node: &Open,
        prefix: &[u8],
        entries: &[Entry],
        out: &mut Vec<u8>,
    ) -> Result<u32, BuildError> {
        let offset = u32::try_from(out.len()).ok().filter(|offset| *offset <= OFFSET);
        let mut reference = offset.ok_or(BuildError::TooLarge)?;
        if !prefix.is_empty() {
            reference |= PREFIX;
            out.extend_from_slice(prefix);
            out.push(0);
        }
        if let (Some((first, _)), Some((end, _))) = (node.children.first(), node.children.last()) {
            reference |= CHILDREN;
            out.extend_from_slice(&[*first, *end]);
            let table = out.len();
            out.resize(table + (usize::from(end - first) + 1) * 4, 0);
            for (character, child) in &node.children {
                let at = table + usize::from(character - first) * 4;
                out[at..at + 4].copy_from_slice(&child.to_be_bytes());
            }
        }
        let values = &entries[node.values.clone()];
        if !values.is_empty() {
            reference |= VALUES;
            let count = u32::try_from(values.len()).map_err(|_| BuildError::TooLarge)?;
            out.extend_from_slice(&count.to_be_bytes());
            for value in values {
                out.extend_from_slice(&value.priority.to_be_bytes());
                out.extend_from_slice(&self.texts[value.value..value.end]);
                out.push(0);
            }
        }
        Ok(reference)
    }
}
