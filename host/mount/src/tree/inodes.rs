//! The inodes that the kernel knows, until it forgets them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use fuser::INodeNo;

use crate::view::{Found, Place, Same};

/// See the [module](self). A number follows from what it is of, so that it is the same when it is looked up
/// again.
#[derive(Debug)]
pub(super) struct Inodes {
    top: Place,
    known: HashMap<u64, Inode>,
}

#[derive(Debug)]
struct Inode {
    place: Place,
    same: Same,
    lookups: u64,
}

impl Inodes {
    pub(super) fn new(top: Place) -> Self {
        Self { top, known: HashMap::new() }
    }

    /// The number of something. Two things get the same in one of 2^64 cases; those that are known to the
    /// kernel at the same time never do: see [`Self::remember`].
    pub(super) fn number(&self, found: &Found) -> INodeNo {
        if found.place == self.top {
            return INodeNo::ROOT;
        }
        let mut hasher = DefaultHasher::new();
        found.same.hash(&mut hasher);
        // 0 is none, 1 the root, and some tools take the last one for an error.
        INodeNo(hasher.finish().clamp(2, u64::MAX - 1))
    }

    /// The number of something that the kernel is told of, once more.
    pub(super) fn remember(&mut self, found: &Found) -> INodeNo {
        let INodeNo(mut number) = self.number(found);
        loop {
            match self.known.entry(number) {
                Entry::Vacant(free) => {
                    free.insert(Inode { place: found.place.clone(), same: found.same.clone(), lookups: 1 });
                    return INodeNo(number);
                }
                Entry::Occupied(mut taken) if taken.get().same == found.same => {
                    taken.get_mut().lookups += 1;
                    return INodeNo(number);
                }
                Entry::Occupied(_) => number = number.wrapping_add(1).max(2),
            }
        }
    }

    /// What has a number; `None` for one that nobody was told of.
    pub(super) fn place(&self, number: INodeNo) -> Option<Place> {
        if number == INodeNo::ROOT {
            return Some(self.top.clone());
        }
        self.known.get(&number.0).map(|inode| inode.place.clone())
    }

    /// Forgets what the kernel was told so many times.
    pub(super) fn forget(&mut self, number: INodeNo, times: u64) {
        if let Entry::Occupied(mut inode) = self.known.entry(number.0) {
            let left = inode.get().lookups.saturating_sub(times);
            inode.get_mut().lookups = left;
            if left == 0 {
                inode.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::named_directory;
    use convoy_tree::RelPath;

    fn found(name: &str, first: &str) -> Found {
        let at = |name: &str| Place::File(0, RelPath::new(name).unwrap());
        Found { place: at(name), entry: named_directory(), known: true, same: Same::Place(at(first)) }
    }

    #[test]
    fn names_of_one_file_have_one_number_which_goes_when_it_is_forgotten() {
        let mut inodes = Inodes::new(Place::Top);
        let (one, other) = (inodes.remember(&found("a", "a")), inodes.remember(&found("b", "a")));
        assert_eq!(one, other);
        assert_ne!(inodes.remember(&found("c", "c")), one);
        inodes.forget(one, 1);
        assert!(inodes.place(one).is_some(), "the kernel still knows one of them");
        inodes.forget(one, 1);
        assert!(inodes.place(one).is_none());
        assert_eq!(inodes.known.len(), 1);
        assert_eq!(inodes.place(INodeNo::ROOT), Some(Place::Top));
        assert_eq!(inodes.remember(&found("a", "a")), one, "as before");
    }

    #[test]
    fn what_would_have_a_number_that_is_taken_gets_another() {
        let mut inodes = Inodes::new(Place::Top);
        let found = found("a", "a");
        let number = inodes.number(&found);
        let place = Place::Volume(7);
        let stranger = Inode { same: Same::Place(place.clone()), place: place.clone(), lookups: 1 };
        inodes.known.insert(number.0, stranger);
        let other = inodes.remember(&found);
        assert_ne!(other, number);
        assert_eq!((inodes.place(number), inodes.place(other)), (Some(place), Some(found.place)));
    }
}
