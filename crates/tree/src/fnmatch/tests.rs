use proptest::prelude::*;

use super::*;

/// Answers of glibc 2.36: `yes` or `no`, a pattern and a text on each line, drawn at random from the elements that a
/// pattern can have. Made by Python: `ctypes.CDLL("libc.so.6").fnmatch(pattern.encode(), text.encode(), 0) == 0`.
const CASES: &str = include_str!("cases.tsv");

#[test]
fn the_answers_are_those_of_the_c_library() {
    let mut wrong = Vec::new();
    for line in CASES.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [answer, pattern, text] = fields.as_slice() else { panic!("{line:?}") };
        if fnmatch(pattern.as_bytes(), text.as_bytes()) != (*answer == "yes") {
            wrong.push(line);
        }
    }
    assert!(CASES.lines().count() >= 600);
    assert!(wrong.is_empty(), "{} wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(40)]);
}

#[test]
fn many_stars_cost_no_more_than_the_product_of_the_lengths() {
    let pattern = b"*a".repeat(2000);
    let mut text = vec![b'a'; 20_000];
    text.push(b'b');
    assert!(!fnmatch(&pattern, &text));
    text.pop();
    assert!(fnmatch(&pattern, &text));
}

proptest! {
    #[test]
    fn a_text_without_special_characters_matches_itself_only(a in "[a-c:_,]{0,8}", b in "[a-c:_,]{0,8}") {
        prop_assert!(fnmatch(a.as_bytes(), a.as_bytes()));
        prop_assert_eq!(fnmatch(a.as_bytes(), b.as_bytes()), a == b);
    }

    #[test]
    fn any_bytes_are_answered(pattern: Vec<u8>, text: Vec<u8>) {
        let star = [pattern.as_slice(), b"*"].concat();
        prop_assert!(!fnmatch(&pattern, &text) || pattern.ends_with(b"\\") || fnmatch(&star, &text));
    }
}
