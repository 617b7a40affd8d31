//! The `.bin` indexes: `modules.dep.bin`, `modules.alias.bin`, `modules.symbols.bin`, `modules.builtin.bin` and
//! `modules.builtin.alias.bin`.
//!
//! A file is a Patricia trie over 7-bit keys, all numbers big-endian:
//!
//! ```text
//! file:  u32 magic, u32 version, u32 reference to the root, nodes in any order
//! node:  [prefix: bytes, NUL]            if the reference has PREFIX
//!        [u8 first, u8 last,
//!         u32 reference * (last-first+1)] if it has CHILDREN; 0 where there is none
//!        [u32 count, count * (u32 priority, value: bytes, NUL)]   if it has VALUES
//! ```
//!
//! A reference is the offset of a node in its low 28 bits and what that node has in the high ones. The character that
//! leads to a child is in the table of its parent, not in the child's prefix.
//!
//! What the keys and values are is up to the file: in `modules.dep.bin` the key is a module and the value the line of
//! `modules.dep`; in the alias files the key is a pattern and the value a module; `symbols` has `symbol:NAME`.
//!
//! ```
//! use lkm_tree::index::binary::{Index, IndexBuilder};
//!
//! let mut builder = IndexBuilder::new();
//! builder.insert(b"pci:v00008086d*", b"e1000", 1)?;
//! builder.insert(b"pci:v*", b"generic", 2)?;
//! let index = Index::new(builder.finish()?)?;
//! let found = index.matching(b"pci:v00008086d0000100E")?;
//! assert_eq!(found.iter().map(|value| value.text).collect::<Vec<_>>(), [b"e1000".as_slice(), b"generic"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::fnmatch::fnmatch;

mod build;

pub use build::BuildError;
pub use build::IndexBuilder;

/// First four bytes of an index.
pub const MAGIC: u32 = 0xB007_F457;

/// Version of the format, the only one in use since module-init-tools 3.5.
pub const VERSION: u32 = 0x0002_0001;

const PREFIX: u32 = 0x8000_0000;
const VALUES: u32 = 0x4000_0000;
const CHILDREN: u32 = 0x2000_0000;
const OFFSET: u32 = 0x0FFF_FFFF;
/// Bytes before the first node.
const HEADER: usize = 12;

/// Why an index cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum IndexError {
    /// The file could not be read.
    Io(PathBuf, io::Error),
    /// It does not start as an index does.
    NotAnIndex,
    /// It is an index of this version, which is not [`VERSION`].
    Version(u32),
    /// The node at this offset, in bytes, runs over the end of the file.
    Truncated(usize),
    /// Nodes refer to each other so that a walk would never end, or would last longer than the file has bytes.
    Tangled,
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IndexError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            IndexError::NotAnIndex => f.write_str("it is not an index that depmod wrote"),
            IndexError::Version(version) => {
                write!(f, "the index has version {:#010x}, only {VERSION:#010x} is known", version)
            }
            IndexError::Truncated(offset) => {
                write!(f, "the index is cut or damaged: what starts at byte {offset} has no end")
            }
            IndexError::Tangled => {
                f.write_str("the index is damaged: its nodes refer to each other in a circle")
            }
        }
    }
}

impl std::error::Error for IndexError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            IndexError::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

/// One value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// Rank among the values of one look-up, smallest first: the position of the module in the order of `depmod`.
    pub priority: u32,
    /// What the key stands for.
    pub text: &'a [u8],
}

/// An index over the bytes of its file, however they are held: read, mapped or borrowed.
///
/// Nothing is unpacked; a look-up touches the nodes on its way and no others. A damaged file gives an error where the
/// damage is met, and no walk passes more bytes than it has.
#[derive(Clone, Debug)]
pub struct Index<B> {
    bytes: B,
    root: u32,
}

impl Index<Vec<u8>> {
    /// Reads the index in a file.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let bytes = std::fs::read(path).map_err(|error| IndexError::Io(path.to_owned(), error))?;
        Index::new(bytes)
    }
}

/// Called with the path of a node that has values, the node, and what the walk may still pass.
type Visit<'v, 'a> = dyn FnMut(&[u8], &Node<'a>, &mut Budget) -> Result<(), IndexError> + 'v;

/// A node, its parts still as they lie in the file.
struct Node<'a> {
    prefix: &'a [u8],
    first: u8,
    children: &'a [u8],
    /// What follows the number of values, and the number.
    values: &'a [u8],
    count: u32,
    offset: usize,
}

impl<'a> Node<'a> {
    fn read(bytes: &'a [u8], reference: u32) -> Result<Node<'a>, IndexError> {
        let offset = (reference & OFFSET) as usize;
        let cut = || IndexError::Truncated(offset);
        let mut rest = bytes.get(offset..).ok_or_else(cut)?;
        let mut node = Node { prefix: &[], first: 0, children: &[], values: &[], count: 0, offset };
        if reference & PREFIX != 0 {
            (node.prefix, rest) = split_string(rest).ok_or_else(cut)?;
        }
        if reference & CHILDREN != 0 {
            let ([first, last], table) = rest.split_first_chunk().ok_or_else(cut)?;
            let length = last.checked_sub(*first).map(|last| (usize::from(last) + 1) * 4).ok_or_else(cut)?;
            node.first = *first;
            (node.children, rest) = table.split_at_checked(length).ok_or_else(cut)?;
        }
        if reference & VALUES != 0 {
            let (count, values) = split_u32(rest).ok_or_else(cut)?;
            node.count = count;
            node.values = values;
        }
        Ok(node)
    }

    /// The reference to the child for a character.
    fn child(&self, character: u8) -> Option<u32> {
        let at = usize::from(character.checked_sub(self.first)?) * 4;
        let (reference, _) = split_u32(self.children.get(at..)?)?;
        (reference & OFFSET != 0).then_some(reference)
    }

    fn children(&self) -> impl DoubleEndedIterator<Item = (u8, u32)> {
        let first = self.first;
        self.children.chunks_exact(4).enumerate().filter_map(move |(position, entry)| {
            let (reference, _) = split_u32(entry)?;
            let character = first.checked_add(u8::try_from(position).ok()?)?;
            (reference & OFFSET != 0).then_some((character, reference))
        })
    }

    fn values(&self) -> impl Iterator<Item = Result<Value<'a>, IndexError>> {
        let mut rest = self.values;
        let mut left = self.count;
        let offset = self.offset;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let value = split_u32(rest).and_then(|(priority, text)| {
                let (text, after) = split_string(text)?;
                Some((Value { priority, text }, after))
            });
            match value {
                Some((value, after)) => {
                    rest = after;
                    Some(Ok(value))
                }
                None => {
                    left = 0;
                    Some(Err(IndexError::Truncated(offset)))
                }
            }
        })
    }

    /// Bytes of the node apart from its values.
    fn size(&self) -> usize {
        self.prefix.len() + self.children.len() + 1
    }
}

fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

impl<B: AsRef<[u8]>> Index<B> {
    /// Takes the bytes of an index file, after a look at their header.
    pub fn new(bytes: B) -> Result<Self, IndexError> {
        let header = |bytes: &[u8]| {
            let (magic, rest) = split_u32(bytes)?;
            let (version, rest) = split_u32(rest)?;
            let (root, _) = split_u32(rest)?;
            Some((magic, version, root))
        };
        match header(bytes.as_ref()) {
            Some((MAGIC, VERSION, root)) => Ok(Index { bytes, root }),
            Some((MAGIC, version, _)) => Err(IndexError::Version(version)),
            _ => Err(IndexError::NotAnIndex),
        }
    }

    fn root(&self) -> Result<Option<Node<'_>>, IndexError> {
        if self.root & OFFSET == 0 { Ok(None) } else { self.node(self.root).map(Some) }
    }

    fn node(&self, reference: u32) -> Result<Node<'_>, IndexError> {
        Node::read(self.bytes.as_ref(), reference)
    }

    /// The node of exactly this key.
    fn node_of(&self, key: &[u8]) -> Result<Option<Node<'_>>, IndexError> {
        let mut next = self.root()?;
        let mut rest = key;
        while let Some(node) = next {
            let Some(after) = rest.strip_prefix(node.prefix) else { return Ok(None) };
            let Some((character, after)) = after.split_first() else { return Ok(Some(node)) };
            rest = after;
            next = node.child(*character).map(|reference| self.node(reference)).transpose()?;
        }
        Ok(None)
    }

    /// The first value of exactly this key.
    pub fn find(&self, key: &[u8]) -> Result<Option<&[u8]>, IndexError> {
        let Some(node) = self.node_of(key)? else { return Ok(None) };
        Ok(node.values().next().transpose()?.map(|value| value.text))
    }

    /// All values of exactly this key, in the order of the file.
    pub fn values(&self, key: &[u8]) -> Result<Vec<Value<'_>>, IndexError> {
        match self.node_of(key)? {
            Some(node) => node.values().collect(),
            None => Ok(Vec::new()),
        }
    }

    /// The values of all keys that, taken as patterns ([`fnmatch`]), match this text; smallest priority first and, as
    /// kmod has it, of two equal ones the one met last.
    pub fn matching(&self, text: &[u8]) -> Result<Vec<Value<'_>>, IndexError> {
        let mut found = Found::default();
        let mut budget = Budget::of(self.bytes.as_ref());
        let mut next = self.root()?;
        let mut rest = text;
        while let Some(node) = next {
            budget.spend(node.size())?;
            if let Some(wild) = node.prefix.iter().position(|byte| is_wild(*byte)) {
                let (plain, pattern) = node.prefix.split_at(wild);
                if let Some(rest) = rest.strip_prefix(plain) {
                    let start = pattern.to_vec();
                    self.walk(node, start, &mut budget, &mut |pattern, node, budget| {
                        found.add_matching(pattern, rest, node, budget)
                    })?;
                }
                break;
            }
            let Some(after) = rest.strip_prefix(node.prefix) else { break };
            rest = after;
            for wild in *b"*?[" {
                let Some(reference) = node.child(wild) else { continue };
                let child = self.node(reference)?;
                budget.spend(child.size())?;
                let start = [&[wild], child.prefix].concat();
                self.walk(child, start, &mut budget, &mut |pattern, node, budget| {
                    found.add_matching(pattern, rest, node, budget)
                })?;
            }
            let Some((character, after)) = rest.split_first() else {
                found.add(&node, &mut budget)?;
                break;
            };
            // The patterns below were all tried above.
            if is_wild(*character) {
                break;
            }
            rest = after;
            next = node.child(*character).map(|reference| self.node(reference)).transpose()?;
        }
        Ok(found.sorted())
    }

    /// Calls `each` with every key and value, keys in the order of their bytes.
    pub fn for_each<'a>(&'a self, mut each: impl FnMut(&[u8], Value<'a>)) -> Result<(), IndexError> {
        let mut budget = Budget::of(self.bytes.as_ref());
        let Some(root) = self.root()? else { return Ok(()) };
        budget.spend(root.size())?;
        let start = root.prefix.to_vec();
        self.walk(root, start, &mut budget, &mut |key, node, budget| {
            for value in node.values() {
                let value = value?;
                budget.spend(value.text.len() + 5)?;
                each(key, value);
            }
            Ok(())
        })
    }

    /// Visits a node, whose path is `path`, and all below it, in the order of their paths.
    fn walk<'a>(
        &'a self,
        start: Node<'a>,
        mut path: Vec<u8>,
        budget: &mut Budget,
        visit: &mut Visit<'_, 'a>,
    ) -> Result<(), IndexError> {
        // A stack of its own instead of recursion: a damaged file may be one long chain.
        let mut open: Vec<(usize, u8, u32)> = Vec::new();
        let mut node = start;
        loop {
            if node.count > 0 {
                visit(&path, &node, budget)?;
            }
            let length = path.len();
            open.extend(node.children().rev().map(|(character, reference)| (length, character, reference)));
            let Some((length, character, reference)) = open.pop() else { return Ok(()) };
            node = self.node(reference)?;
            budget.spend(node.size())?;
            path.truncate(length);
            path.push(character);
            path.extend_from_slice(node.prefix);
        }
    }
}

fn is_wild(byte: u8) -> bool {
    matches!(byte, b'*' | b'?' | b'[')
}

/// Bytes that a walk may still pass: in a sound file every byte belongs to one node, so no walk sees one twice.
struct Budget(usize);

impl Budget {
    fn of(bytes: &[u8]) -> Budget {
        // A root without anything in it takes no bytes and still counts one.
        Budget(bytes.len().saturating_sub(HEADER) + 1)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), IndexError> {
        self.0 = self.0.checked_sub(bytes).ok_or(IndexError::Tangled)?;
        Ok(())
    }
}

#[derive(Default)]
struct Found<'a> {
    values: Vec<Value<'a>>,
}

impl<'a> Found<'a> {
    fn add(&mut self, node: &Node<'a>, budget: &mut Budget) -> Result<(), IndexError> {
        for value in node.values() {
            let value = value?;
            budget.spend(value.text.len() + 5)?;
            self.values.push(value);
        }
        Ok(())
    }

    /// By priority; of equal ones the one met last is the first.
    fn sorted(mut self) -> Vec<Value<'a>> {
        self.values.reverse();
        self.values.sort_by_key(|value| value.priority);
        self.values
    }

    fn add_matching(
        &mut self,
        pattern: &[u8],
        text: &[u8],
        node: &Node<'a>,
        budget: &mut Budget,
    ) -> Result<(), IndexError> {
        if fnmatch(pattern, text) { self.add(node, budget) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
