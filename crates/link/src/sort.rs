//! The kernel's `sort()`: a heapsort, whose order of equal keys is visible in module memory.

use core::cmp::Ordering;

use crate::rules::SortVersion;

/// Sorts as the kernel's `sort()` of that version does: the same comparisons in the same order, so that elements
/// with equal keys end where the kernel leaves them. `cmp` may contradict itself; the result is then that of the
/// kernel too.
pub fn heapsort<T>(version: SortVersion, items: &mut [T], mut cmp: impl FnMut(&T, &T) -> Ordering) {
    if items.len() < 2 {
        return;
    }
    match version {
        SortVersion::Textbook => textbook(items, &mut cmp),
        SortVersion::BottomUp => bottom_up(items, &mut cmp),
        SortVersion::BottomUpPairs => bottom_up_pairs(items, &mut cmp),
    }
}

fn textbook<T>(items: &mut [T], cmp: &mut impl FnMut(&T, &T) -> Ordering) {
    for root in (0..items.len() / 2).rev() {
        sift_top_down(items, root, cmp);
    }
    for end in (1..items.len()).rev() {
        items.swap(0, end);
        sift_top_down(&mut items[..end], 0, cmp);
    }
}

fn sift_top_down<T>(heap: &mut [T], mut root: usize, cmp: &mut impl FnMut(&T, &T) -> Ordering) {
    loop {
        let mut child = 2 * root + 1;
        if child >= heap.len() {
            return;
        }
        if child + 1 < heap.len() && cmp(&heap[child], &heap[child + 1]).is_lt() {
            child += 1;
        }
        if cmp(&heap[root], &heap[child]).is_ge() {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}

fn bottom_up<T>(items: &mut [T], cmp: &mut impl FnMut(&T, &T) -> Ordering) {
    for root in (0..items.len() / 2).rev() {
        sift_bottom_up(items, root, Ordering::is_ge, cmp);
    }
    for end in (1..items.len()).rev() {
        items.swap(0, end);
        sift_bottom_up(&mut items[..end], 0, Ordering::is_ge, cmp);
    }
}

fn bottom_up_pairs<T>(items: &mut [T], cmp: &mut impl FnMut(&T, &T) -> Ordering) {
    for root in (0..items.len() / 2).rev() {
        sift_bottom_up(items, root, Ordering::is_gt, cmp);
    }
    let mut end = items.len();
    while end > 3 {
        end -= 1;
        items.swap(0, end);
        // The second largest is one of the root's children: it goes right below, and both holes are sifted.
        let second = if cmp(&items[1], &items[2]).is_le() { 2 } else { 1 };
        end -= 1;
        items.swap(second, end);
        sift_bottom_up(&mut items[..end], second, Ordering::is_gt, cmp);
        sift_bottom_up(&mut items[..end], 0, Ordering::is_gt, cmp);
    }
    end -= 1;
    items.swap(0, end);
    if end == 2 && cmp(&items[0], &items[1]).is_gt() {
        items.swap(0, 1);
    }
}

/// Moves the element at `root` to its place: first down to a leaf along the larger children, then back up.
/// `left_wins` says for which outcome of comparing left with right child the left one is taken.
fn sift_bottom_up<T>(
    heap: &mut [T],
    root: usize,
    left_wins: fn(Ordering) -> bool,
    cmp: &mut impl FnMut(&T, &T) -> Ordering,
) {
    let mut at = root;
    while 2 * at + 2 < heap.len() {
        let left = 2 * at + 1;
        at = if left_wins(cmp(&heap[left], &heap[left + 1])) { left } else { left + 1 };
    }
    if 2 * at + 2 == heap.len() {
        at = 2 * at + 1;
    }
    while at != root && cmp(&heap[root], &heap[at]).is_ge() {
        at = (at - 1) / 2;
    }
    let place = at;
    while at != root {
        at = (at - 1) / 2;
        heap.swap(at, place);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const ALL: [SortVersion; 3] = [SortVersion::Textbook, SortVersion::BottomUp, SortVersion::BottomUpPairs];

    proptest! {
        #[test]
        fn sorts_a_permutation(keys in prop::collection::vec(0u8..20, 0..80)) {
            for version in ALL {
                let mut items: Vec<(u8, usize)> = keys.iter().copied().enumerate().map(|(i, k)| (k, i)).collect();
                heapsort(version, &mut items, |a, b| a.0.cmp(&b.0));
                prop_assert!(items.is_sorted_by_key(|item| item.0));
                let mut places: Vec<usize> = items.iter().map(|item| item.1).collect();
                places.sort_unstable();
                prop_assert!(places.iter().copied().eq(0..keys.len()));
            }
        }

        #[test]
        fn survives_a_contradicting_comparison(answers in prop::collection::vec(-1i8..2, 1..50), len in 0usize..60) {
            for version in ALL {
                let mut items: Vec<usize> = (0..len).collect();
                let mut turn = 0;
                heapsort(version, &mut items, |_, _| { turn += 1; answers[turn % answers.len()].cmp(&0) });
                items.sort_unstable();
                prop_assert!(items.into_iter().eq(0..len));
            }
        }
    }

    // Expected orders come from a second formulation in another language.
    #[test]
    fn equal_keys_end_where_each_version_leaves_them() {
        let keys = [5, 1, 1, 7, 5, 3, 3, 3, 1, 9, 5, 0, 7, 2, 1, 5, 5, 9, 0, 3, 2];
        let expected = [
            (
                SortVersion::Textbook,
                [11, 18, 14, 1, 2, 8, 20, 13, 6, 5, 7, 19, 10, 4, 0, 16, 15, 12, 3, 9, 17],
            ),
            (
                SortVersion::BottomUp,
                [11, 18, 14, 1, 2, 8, 20, 13, 6, 5, 7, 19, 10, 4, 0, 16, 15, 12, 3, 9, 17],
            ),
            (
                SortVersion::BottomUpPairs,
                [11, 18, 8, 1, 2, 14, 13, 20, 7, 19, 5, 6, 16, 0, 15, 4, 10, 3, 12, 17, 9],
            ),
        ];
        for (version, order) in expected {
            let mut items: Vec<(i32, usize)> =
                keys.iter().copied().enumerate().map(|(i, k)| (k, i)).collect();
            heapsort(version, &mut items, |a, b| a.0.cmp(&b.0));
            let got: Vec<usize> = items.iter().map(|item| item.1).collect();
            assert_eq!(got, order, "{version:?}");
        }
    }
}
