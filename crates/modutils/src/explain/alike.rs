//! Names that a misspelt one may have meant.

use super::shown::shown;

/// Names that are given at most.
const NAMES: usize = 3;

/// Of these names the ones that are nearest to `name`, if they are near: one letter in four may differ, two at most.
pub(crate) fn names<'a>(name: &[u8], known: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let allowed = (name.len() / 3).min(2);
    if allowed == 0 || name.len() > 64 {
        return Vec::new();
    }
    let mut near: Vec<(usize, &[u8])> = known
        .filter(|other| other.len().abs_diff(name.len()) <= allowed)
        .map(|other| (distance(name, other), other))
        .filter(|(distance, _)| (1..=allowed).contains(distance))
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(NAMES).map(|(_, name)| shown(name)).collect()
}

/// Letters to change, insert, leave out or swap with their neighbour to make one of the other.
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, &a) in one.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, &b) in other.iter().enumerate() {
            let at = |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX - 1);
            let mut cost = (at(&last, column) + usize::from(a != b))
                .min(at(&last, column + 1) + 1)
                .min(at(&next, column) + 1);
            let swapped =
                row > 0 && column > 0 && one.get(row - 1) == Some(&b) && other.get(column - 1) == Some(&a);
            if swapped {
                cost = cost.min(at(&before, column - 1) + 1);
            }
            next.push(cost);
        }
        before = std::mem::replace(&mut last, next);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let cases: [(&str, &str, usize); 7] = [
            ("", "", 0),
            ("ab", "", 2),
            ("ext4", "ext4", 0),
            ("ext4", "etx4", 1),
            ("loop", "lop", 1),
            ("kitten", "sitting", 3),
            ("a", "b", 1),
        ];
        for (one, other, expected) in cases {
            assert_eq!(distance(one.as_bytes(), other.as_bytes()), expected, "{one} {other}");
            assert_eq!(distance(other.as_bytes(), one.as_bytes()), expected, "{other} {one}");
        }
    }

    #[test]
    fn only_near_names_are_given() {
        let known: Vec<&[u8]> = vec![b"ext4", b"ext2", b"vfat", b"btrfs", b"snd_pcm"];
        let near = |name: &str| names(name.as_bytes(), known.iter().copied());
        assert_eq!(near("etx4"), ["ext4"]);
        assert_eq!(near("ext3"), ["ext2", "ext4"]);
        assert_eq!(near("snd_pmc"), ["snd_pcm"]);
        assert_eq!(near("xy"), Vec::<String>::new());
        assert_eq!(near("reiserfs"), Vec::<String>::new());
    }
}
