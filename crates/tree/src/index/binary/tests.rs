use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn build(entries: &[(&str, &str, u32)]) -> Vec<u8> {
    let mut builder = IndexBuilder::new();
    for (key, value, priority) in entries {
        builder.insert(key.as_bytes(), value.as_bytes(), *priority).unwrap();
    }
    builder.finish().unwrap()
}

fn texts(values: &[Value<'_>]) -> Vec<String> {
    values.iter().map(|value| String::from_utf8(value.text.to_vec()).unwrap()).collect()
}

#[test]
fn the_bytes_are_those_of_the_format() {
    // Worked out by hand: "ab" and its two values by priority, "ac", the "a" that leads to both, the root.
    let bytes = build(&[("ab", "y", 2), ("ab", "x", 1), ("ac", "z", 3)]);
    let expected = [
        b"\xb0\x07\xf4\x57\x00\x02\x00\x01\x20\x00\x00\x30".as_slice(),
        b"\x00\x00\x00\x02\x00\x00\x00\x01x\x00\x00\x00\x00\x02y\x00",
        b"\x00\x00\x00\x01\x00\x00\x00\x03z\x00",
        b"bc\x40\x00\x00\x0c\x40\x00\x00\x1c",
        b"aa\x20\x00\x00\x26",
    ]
    .concat();
    assert_eq!(bytes, expected);
}

#[test]
fn an_empty_index_is_its_header() {
    let bytes = IndexBuilder::new().finish().unwrap();
    assert_eq!(bytes, b"\xb0\x07\xf4\x57\x00\x02\x00\x01\x00\x00\x00\x0c");
    let index = Index::new(bytes).unwrap();
    assert_eq!(index.find(b"x").unwrap(), None);
    assert!(index.matching(b"x").unwrap().is_empty());
    index.for_each(|_, _| panic!("nothing is in it")).unwrap();
}

#[test]
fn a_key_is_found_whole_and_not_in_part() {
    let bytes = build(&[("ext4", "a", 1), ("ext", "b", 2), ("e", "c", 3), ("", "root", 4)]);
    let index = Index::new(bytes).unwrap();
    for (key, value) in [("ext4", Some("a")), ("ext", Some("b")), ("e", Some("c")), ("", Some("root"))] {
        assert_eq!(index.find(key.as_bytes()).unwrap(), value.map(str::as_bytes), "{key}");
    }
    for key in ["ex", "ext44", "x", "f"] {
        assert_eq!(index.find(key.as_bytes()).unwrap(), None, "{key}");
    }
}

#[test]
fn patterns_match_and_their_values_come_by_priority() {
    let bytes = build(&[
        ("pci:v*d*", "late", 9),
        ("pci:v[18]*", "set", 5),
        ("pci:v?d1", "one", 2),
        ("pci:v8d1", "plain", 7),
        ("pci:v8d2", "other", 1),
    ]);
    let index = Index::new(bytes).unwrap();
    assert_eq!(texts(&index.matching(b"pci:v8d1").unwrap()), ["one", "set", "plain", "late"]);
    assert_eq!(texts(&index.matching(b"pci:v88d1").unwrap()), ["set", "late"]);
    assert!(index.matching(b"pci:").unwrap().is_empty());
}

#[test]
fn what_is_no_index_is_refused() {
    assert!(matches!(Index::new(b"".as_slice()), Err(IndexError::NotAnIndex)));
    assert!(matches!(Index::new(b"alias a b\n\n\n\n".as_slice()), Err(IndexError::NotAnIndex)));
    let mut other = build(&[]);
    other[7] = 9;
    assert!(matches!(Index::new(other), Err(IndexError::Version(0x0002_0009))));
}

#[test]
fn keys_and_values_the_format_cannot_hold_are_refused() {
    let mut builder = IndexBuilder::new();
    assert_eq!(builder.insert(b"a\xe4", b"", 0), Err(BuildError::Key(b"a\xe4".to_vec())));
    assert_eq!(builder.insert(b"a\0", b"", 0), Err(BuildError::Key(b"a\0".to_vec())));
    assert_eq!(builder.insert(b"a", b"\0", 0), Err(BuildError::Value(b"\0".to_vec())));
    assert_eq!(builder.finish().unwrap().len(), HEADER);
}

#[test]
fn a_cut_index_is_an_error_wherever_it_is_cut() {
    let bytes = build(&[("alpha", "1", 1), ("beta", "2", 2), ("al", "3", 3)]);
    for length in HEADER..bytes.len() {
        let index = Index::new(&bytes[..length]).unwrap();
        assert!(matches!(index.for_each(|_, _| ()), Err(IndexError::Truncated(_))), "{length}");
    }
}

#[test]
fn nodes_in_a_circle_end_the_walk() {
    // A root whose every child is the root.
    let mut bytes = build(&[]);
    bytes[8..12].copy_from_slice(&(CHILDREN | 12).to_be_bytes());
    bytes.extend_from_slice(b"*~");
    for _ in b'*'..=b'~' {
        bytes.extend_from_slice(&(CHILDREN | 12).to_be_bytes());
    }
    let index = Index::new(bytes).unwrap();
    assert!(matches!(index.for_each(|_, _| ()), Err(IndexError::Tangled)));
    assert!(matches!(index.matching(b"aaaa"), Err(IndexError::Tangled)));
    assert_eq!(index.find(b"aaaa").unwrap(), None);
}

proptest! {
    #[test]
    fn what_was_inserted_is_found(entries in vec(("[ab*?]{0,6}", "[xyz]{0,2}", 0u32..4), 0..40)) {
        let mut builder = IndexBuilder::new();
        // The same by plain means: for each key a list, a new value before those of equal priority.
        let mut model: BTreeMap<&[u8], Vec<(u32, &[u8])>> = BTreeMap::new();
        for (key, value, priority) in &entries {
            builder.insert(key.as_bytes(), value.as_bytes(), *priority).unwrap();
            let values = model.entry(key.as_bytes()).or_default();
            let at = values.iter().position(|(other, _)| other >= priority).unwrap_or(values.len());
            values.insert(at, (*priority, value.as_bytes()));
        }
        let index = Index::new(builder.finish().unwrap()).unwrap();
        let mut seen: Vec<(Vec<u8>, u32, Vec<u8>)> = Vec::new();
        index.for_each(|key, value| seen.push((key.to_vec(), value.priority, value.text.to_vec()))).unwrap();
        let flat: Vec<_> = model
            .iter()
            .flat_map(|(key, values)| values.iter().map(|(p, text)| (key.to_vec(), *p, text.to_vec())))
            .collect();
        prop_assert_eq!(seen, flat);
        for (key, values) in &model {
            prop_assert_eq!(index.find(key).unwrap(), Some(values[0].1));
        }
        for text in [b"".as_slice(), b"a", b"ab", b"abab", b"bbbaab"] {
            let mut expected: Vec<_> = model
                .iter()
                .filter(|(key, _)| fnmatch(key, text))
                .flat_map(|(_, values)| values.iter().copied())
                .collect();
            expected.sort();
            let mut found: Vec<_> =
                index.matching(text).unwrap().iter().map(|value| (value.priority, value.text)).collect();
            prop_assert!(found.is_sorted_by_key(|value| value.0));
            found.sort();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn damage_gives_an_answer_or_an_error(
        damage in vec((0usize..400, any::<u8>()), 1..6),
        key in "[ab*?]{0,6}",
    ) {
        let names: Vec<String> = (0..30).map(|n| format!("{:b}*{n}", n * 7)).collect();
        let entries: Vec<_> = names.iter().map(|name| (name.as_str(), "value", 1)).collect();
        let mut bytes = build(&entries);
        for (at, byte) in damage {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        if let Ok(index) = Index::new(bytes) {
            let _ = index.find(key.as_bytes());
            let _ = index.values(key.as_bytes());
            let _ = index.matching(key.as_bytes());
            let _ = index.for_each(|_, _| ());
        }
    }
}
