//! Binary indexes taken apart, by a reader of the runner's own.

use std::fmt::Write;

const MAGIC: u32 = 0xb007_f457;
const VERSION: u32 = 0x0002_0001;

const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;
const OFFSET: u32 = 0x0fff_ffff;

/// The keys and values of an index, a line each, in the order of the keys; `None` for any other file.
pub(crate) fn describe(bytes: &[u8]) -> Option<Vec<u8>> {
    if word(bytes, 0)? != MAGIC || word(bytes, 4)? != VERSION {
        return None;
    }
    let mut lines = String::from("index:\n");
    // No tree has more nodes than the file has bytes.
    let mut budget = bytes.len();
    node(bytes, word(bytes, 8)?, &mut Vec::new(), &mut lines, &mut budget)?;
    Some(lines.into_bytes())
}

fn node(bytes: &[u8], at: u32, key: &mut Vec<u8>, lines: &mut String, budget: &mut usize) -> Option<()> {
    *budget = budget.checked_sub(1)?;
    let mut place = (at & OFFSET) as usize;
    let depth = key.len();
    if at & HAS_PREFIX != 0 {
        key.extend(string(bytes, &mut place)?);
    }
    let mut children = Vec::new();
    if at & HAS_CHILDREN != 0 {
        let (first, last) = (*bytes.get(place)?, *bytes.get(place + 1)?);
        place += 2;
        for byte in first..=last {
            let child = word(bytes, place)?;
            place += 4;
            if child != 0 {
                children.push((byte, child));
            }
        }
    }
    if at & HAS_VALUES != 0 {
        let count = word(bytes, place)?;
        place += 4;
        for _ in 0..count {
            let priority = word(bytes, place)?;
            place += 4;
            let value = string(bytes, &mut place)?;
            writeln!(lines, "{} {priority} {}", key.escape_ascii(), value.escape_ascii()).ok()?;
        }
    }
    for (byte, child) in children {
        key.push(byte);
        node(bytes, child, key, lines, budget)?;
        key.pop();
    }
    key.truncate(depth);
    Some(())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn string<'a>(bytes: &'a [u8], place: &mut usize) -> Option<&'a [u8]> {
    let rest = bytes.get(*place..)?;
    let len = rest.iter().position(|&byte| byte == 0)?;
    *place += len + 1;
    rest.get(..len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_index() {
        let mut bytes = [MAGIC.to_be_bytes(), VERSION.to_be_bytes(), [0; 4]].concat();
        let leaf = bytes.len() as u32;
        bytes.extend([1_u32.to_be_bytes(), 7_u32.to_be_bytes()].concat());
        bytes.extend(b"v\0");
        let root = bytes.len() as u32;
        bytes.extend(b"ab\0zz");
        bytes.extend((HAS_VALUES | leaf).to_be_bytes());
        bytes[8..12].copy_from_slice(&(HAS_PREFIX | HAS_CHILDREN | root).to_be_bytes());
        assert_eq!(describe(&bytes).unwrap(), b"index:\nabz 7 v\n");
        assert_eq!(describe(b"text of a file that is no index"), None);
        bytes.truncate(16);
        assert_eq!(describe(&bytes), None);
    }
}
