//! The first keys of a directory: of one that holds millions, no more are kept than a page has.

use std::collections::BinaryHeap;

use crate::store::Depth;

pub(super) struct First<'a> {
    after: Option<&'a str>,
    depth: Depth,
    most: usize,
    keys: BinaryHeap<String>,
}

impl<'a> First<'a> {
    /// At most so many keys that belong into a page after `after`.
    pub(super) fn new(after: Option<&'a str>, depth: Depth, most: usize) -> Self {
        Self { after, depth, most, keys: BinaryHeap::new() }
    }

    /// Adds a key; that of a directory ends in `/`.
    pub(super) fn add(&mut self, key: String) {
        // All keys below a directory begin with its name: it can be passed over as a whole.
        let passed = self.after.is_some_and(|after| {
            key.as_str() <= after
                && !(self.depth == Depth::All && key.ends_with('/') && after.starts_with(&key))
        });
        if passed || (self.keys.len() >= self.most && self.keys.peek().is_some_and(|last| *last < key)) {
            return;
        }
        self.keys.push(key);
        if self.keys.len() > self.most {
            self.keys.pop();
        }
    }

    pub(super) fn sorted(self) -> Vec<String> {
        self.keys.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_million_names_a_page_is_kept() {
        let mut first = First::new(Some("d/000000100"), Depth::One, 50);
        let mut most = 0;
        for n in (0..1_000_000).rev() {
            first.add(format!("d/{n:09}"));
            most = most.max(first.keys.len());
        }
        assert_eq!(most, 50);
        let expected: Vec<_> = (101..151).map(|n| format!("d/{n:09}")).collect();
        assert_eq!(first.sorted(), expected);
    }

    #[test]
    fn the_directory_a_page_ended_in_is_gone_into_again() {
        for (depth, expected) in [(Depth::All, vec!["d/a/", "d/b"]), (Depth::One, vec!["d/b"])] {
            let mut first = First::new(Some("d/a/x"), depth, 10);
            ["d/a/", "d/b", "d/a"].iter().for_each(|key| first.add((*key).to_owned()));
            assert_eq!(first.sorted(), expected);
        }
    }
}
