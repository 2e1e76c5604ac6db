//! What differs between two trees.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use convoy_tree::{Entry, Kind, RelPath};
use crossbeam_channel::{Receiver, Sender, bounded};
use tokio_util::sync::CancellationToken;

use super::{Each, check, read_piece};
use crate::browse::{Browse, Node, Take, UnsharedSegments, Visit, is_of, unshared_segments};
use crate::error::{BackupError, BackupResult};

/// How many nodes, and about how many bytes of them, are handed from a walk at once.
const BATCH: (usize, usize) = (256, 1 << 20);

/// A difference. Where something was replaced by something of another kind, it is one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the new tree has it.
    Added(Node),
    /// Only the old tree has it.
    Removed(Node),
    /// Its data differ; or its kind, the target of the link, or the number of the device.
    Data {
        /// As it was.
        old: Node,
        /// As it is.
        new: Node,
    },
    /// Only its owner, mode, time of change, attributes or flags differ. The time of a directory does not
    /// count: it follows from what is in it.
    Metadata {
        /// As it was.
        old: Node,
        /// As it is.
        new: Node,
    },
}

/// Two trees to compare.
#[derive(Debug, Clone, Copy)]
pub struct Compare<'a> {
    /// The tree that counts as the older one.
    pub old: &'a dyn Browse,
    /// The other.
    pub new: &'a dyn Browse,
    /// Whether both are backups of one store: only then do their digests of content tell the same.
    pub one_store: bool,
}

/// Hands out what differs at and below `top`, in the order of paths. Where only one tree has `top`, all of it
/// was added or removed.
///
/// Files of another size differ. Of those of one size, the digests of content tell, where both have one of
/// the same store: same digest, same data. Else files with the same time of change (to the nanosecond) count
/// as the same, and all others are read.
///
/// # Errors
/// Those of [`Browse`], [`BackupError::Cancelled`], and what `each` fails with.
pub fn compare(
    trees: Compare<'_>,
    top: &RelPath,
    cancel: &CancellationToken,
    each: Each<'_, Change>,
) -> BackupResult<()> {
    let has = |tree: &dyn Browse| match tree.stat(top) {
        Ok(_) => Ok(true),
        Err(BackupError::NoPath { .. }) => Ok(false),
        Err(error) => Err(error),
    };
    let (in_old, in_new) = (has(trees.old)?, has(trees.new)?);
    if !in_old && !in_new {
        return trees.new.stat(top).map(drop);
    }
    let parts = if trees.one_store { parts(trees, cancel)? } else { None };
    let mut each_pair = |old: Option<Node>, new: Option<Node>| match (old, new) {
        (Some(old), Some(new)) if differs(trees, &old, &new, cancel)? => each(Change::Data { old, new }),
        (Some(old), Some(new)) if !same_metadata(&old.entry, &new.entry) => {
            each(Change::Metadata { old, new })
        }
        (Some(old), None) => each(Change::Removed(old)),
        (None, Some(new)) => each(Change::Added(new)),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    };
    let there = [(trees.old, in_old), (trees.new, in_new)];
    pairs(there, parts.as_ref(), top, cancel, &mut each_pair)
}

/// The parts of two backups of one store that have to be compared; none if that is all of them.
fn parts<'a>(trees: Compare<'a>, cancel: &CancellationToken) -> BackupResult<Option<UnsharedSegments<'a>>> {
    let Some(parts) = unshared_segments(trees.old, trees.new)? else { return Ok(None) };
    let mut hides = false;
    let mut look = |old: Option<Node>, new: Option<Node>| {
        if let (Some(old), Some(new)) = (&old, &new) {
            hides |= UnsharedSegments::could_hide_links(old, new);
        }
        Ok(())
    };
    // Of everything: a file may have further names anywhere.
    pairs([(trees.old, true), (trees.new, true)], Some(&parts), &RelPath::root(), cancel, &mut look)?;
    Ok((!hides).then_some(parts))
}

/// Takes what both trees, or one of them, have at a path.
type EachPair<'a> = &'a mut dyn FnMut(Option<Node>, Option<Node>) -> BackupResult<()>;

/// Hands out what stands at each path at and below `top`; of `parts`, if there are some.
fn pairs(
    trees: [(&dyn Browse, bool); 2],
    parts: Option<&UnsharedSegments<'_>>,
    top: &RelPath,
    cancel: &CancellationToken,
    each: EachPair<'_>,
) -> BackupResult<()> {
    std::thread::scope(|scope| {
        let mut number = 0;
        let [mut old, mut new] = trees.map(|(tree, there)| {
            let (nodes, received) = bounded(2);
            let is_new = number == 1;
            number += 1;
            if there {
                scope.spawn(move || match parts {
                    Some(parts) => {
                        send(&nodes, &mut |take| parts.walk(is_new, &mut |path| Ok(is_of(path, top)), take))
                    }
                    None => send(&nodes, &mut |take| {
                        tree.walk(top, &mut |node| {
                            let goes_on = ControlFlow::Continue(Visit::Continue);
                            Ok(if take(node)?.is_break() { ControlFlow::Break(()) } else { goes_on })
                        })
                    }),
                });
            }
            Side { received, ready: Vec::new().into_iter() }
        });
        let (mut left, mut right) = (old.next()?, new.next()?);
        loop {
            check(cancel)?;
            let order = match (&left, &right) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.entry.path.cmp(&new.entry.path),
            };
            let taken_left = if order.is_le() { std::mem::replace(&mut left, old.next()?) } else { None };
            let taken_right = if order.is_ge() { std::mem::replace(&mut right, new.next()?) } else { None };
            each(taken_left, taken_right)?;
        }
    })
}

/// The nodes of one walk, as another thread finds them.
struct Side {
    received: Receiver<BackupResult<Vec<Node>>>,
    ready: std::vec::IntoIter<Node>,
}

impl Side {
    fn next(&mut self) -> BackupResult<Option<Node>> {
        loop {
            if let Some(node) = self.ready.next() {
                return Ok(Some(node));
            }
            match self.received.recv() {
                Ok(batch) => self.ready = batch?.into_iter(),
                Err(_) => return Ok(None),
            }
        }
    }
}

/// Sends what a walk finds, until nobody takes it any more.
fn send(nodes: &Sender<BackupResult<Vec<Node>>>, walk: &mut dyn FnMut(Take<'_>) -> BackupResult<()>) {
    let (mut batch, mut weight) = (Vec::new(), 0);
    let walked = walk(&mut |node| {
        weight += self::weight(&node);
        batch.push(node);
        if batch.len() >= BATCH.0 || weight >= BATCH.1 {
            weight = 0;
            if nodes.send(Ok(std::mem::take(&mut batch))).is_err() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    });
    // An error says that nobody takes it any more.
    let _ = nodes.send(walked.map(|()| batch));
}

fn weight(node: &Node) -> usize {
    let xattrs = node.entry.xattrs.iter();
    let xattrs: usize = xattrs.map(|(name, value)| name.as_bytes().len() + value.as_bytes().len()).sum();
    size_of::<Node>() + node.entry.path.as_bytes().len() + xattrs
}

fn differs(trees: Compare<'_>, old: &Node, new: &Node, cancel: &CancellationToken) -> BackupResult<bool> {
    if old.entry.kind != new.entry.kind {
        return Ok(true);
    }
    if old.entry.kind != Kind::File {
        return Ok(false);
    }
    if old.entry.size != new.entry.size {
        return Ok(true);
    }
    let same_time = old.entry.mtime == new.entry.mtime;
    match (old.content, new.content) {
        (Some(old), Some(new)) if trees.one_store && old == new => Ok(false),
        // Other digests may be of the same data, cut in another way: then the time tells, or reading.
        (Some(_), Some(_)) if trees.one_store && !same_time => Ok(true),
        (Some(_), Some(_)) if trees.one_store => read_differs(trees, old, new, cancel),
        _ if same_time => Ok(false),
        _ => read_differs(trees, old, new, cancel),
    }
}

/// Reads both files up to the first byte that differs.
fn read_differs(
    trees: Compare<'_>,
    old: &Node,
    new: &Node,
    cancel: &CancellationToken,
) -> BackupResult<bool> {
    let path = &old.entry.path;
    let read = || {
        let (one, other) = (trees.old.open(path)?, trees.new.open(path)?);
        let mut offset = 0;
        while offset < one.size() && offset < other.size() {
            check(cancel)?;
            let (a, b) = (read_piece(&*one, offset)?, read_piece(&*other, offset)?);
            let common = a.len().min(b.len());
            if a.get(..common) != b.get(..common) {
                return Ok(true);
            }
            offset += common as u64;
        }
        Ok(one.size() != other.size())
    };
    read().map_err(|error: BackupError| error.of_file(&new.entry.path))
}

fn same_metadata(old: &Entry, new: &Entry) -> bool {
    let of = |entry: &Entry| (entry.mode, entry.uid, entry.gid, entry.flags, entry.project);
    of(old) == of(new) && old.xattrs == new.xattrs && (old.is_dir() || old.mtime == new.mtime)
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Memory, path, trees};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn told(old: &Memory, new: &Memory, top: &str, one_store: bool) -> BackupResult<Vec<String>> {
        let mut told = Vec::new();
        let trees = Compare { old, new, one_store };
        compare(trees, &path(top), &CancellationToken::new(), &mut |change| {
            told.push(match change {
                Change::Added(node) => format!("+{}", node.entry.path),
                Change::Removed(node) => format!("-{}", node.entry.path),
                Change::Data { new, .. } => format!("M{}", new.entry.path),
                Change::Metadata { new, .. } => format!("U{}", new.entry.path),
            });
            Ok(())
        })?;
        Ok(told)
    }

    #[test]
    fn each_kind_of_change_is_told() {
        let (mut old, mut new) = (Memory::default(), Memory::default());
        for tree in [&mut old, &mut new] {
            tree.dir("d");
            tree.file("d/same", b"same");
        }
        old.file("d/gone", b"x");
        new.file("d/new", b"x");
        old.file("d/data", b"one");
        new.file("d/data", b"two").mtime.sec += 1;
        old.file("d/touched", b"one");
        new.file("d/touched", b"one").mtime.nsec += 1;
        old.file("kind", b"");
        new.dir("kind");
        old.put(path("link"), Kind::Symlink { target: "a".into() });
        new.put(path("link"), Kind::Symlink { target: "b".into() });
        new.dir("d").mtime.sec += 9;
        new.nodes.get_mut(&RelPath::root()).unwrap().entry.uid = 7;
        let all = ["U.", "Md/data", "-d/gone", "+d/new", "Ud/touched", "Mkind", "Mlink"];
        assert_eq!(told(&old, &new, "", true).unwrap(), all);
        assert_eq!(told(&old, &new, "d", true).unwrap(), ["Md/data", "-d/gone", "+d/new", "Ud/touched"]);
        assert_eq!(told(&old, &new, "d/gone", true).unwrap(), ["-d/gone"]);
        assert_eq!(told(&old, &new, "d/new", true).unwrap(), ["+d/new"]);
        let missing = told(&old, &new, "d/never", true).unwrap_err();
        assert!(matches!(missing, BackupError::NoPath { .. }), "{missing}");
    }

    #[test]
    fn what_is_unsure_is_read_and_named_when_it_cannot_be() {
        let (mut old, mut new) = (Memory::default(), Memory::default());
        old.file("f", b"0123456789");
        new.file("f", b"0123456789").mtime.sec += 1;
        assert_eq!(told(&old, &new, "", false).unwrap(), ["Uf"]);
        new.damage.insert(path("f"), 6);
        let error = told(&old, &new, "", false).unwrap_err();
        assert!(error.to_string().contains("/f"), "{error}");
        assert_eq!(told(&old, &new, "", true).unwrap(), ["Uf"], "the digest tells it");
        new.damage.clear();
        new.file("f", b"012345678X").mtime.sec += 1;
        assert_eq!(told(&old, &new, "", false).unwrap(), ["Mf"]);
    }

    #[test]
    fn it_ends_when_nobody_wants_more() {
        let (old, mut new) = (Memory::default(), Memory::default());
        for number in 0..2000 {
            new.file(&format!("{number}"), b"");
        }
        let (mut count, cancel) = (0, CancellationToken::new());
        let trees = Compare { old: &old, new: &new, one_store: true };
        let ended = compare(trees, &RelPath::root(), &cancel, &mut |_| {
            count += 1;
            cancel.cancel();
            Ok(())
        });
        assert!(matches!(ended, Err(BackupError::Cancelled)) && count == 1);
    }

    /// What differs, found path by path in two maps.
    fn naive(old: &Memory, new: &Memory) -> Vec<String> {
        let paths: BTreeSet<_> = old.nodes.keys().chain(new.nodes.keys()).collect();
        let told = |path: &RelPath| match (old.nodes.get(path), new.nodes.get(path)) {
            (Some(_), None) => Some(format!("-{path}")),
            (None, _) => Some(format!("+{path}")),
            (Some(a), Some(b)) if a.entry.kind != b.entry.kind => Some(format!("M{path}")),
            (Some(a), Some(b)) => {
                let dir = a.entry.is_dir();
                if old.data.get(path) != new.data.get(path) && a.entry.mtime != b.entry.mtime
                    || a.entry.size != b.entry.size
                {
                    return Some(format!("M{path}"));
                }
                let same = a.entry.mode == b.entry.mode && (dir || a.entry.mtime == b.entry.mtime);
                (!same).then(|| format!("U{path}"))
            }
        };
        paths.into_iter().filter_map(told).collect()
    }

    proptest! {
        #[test]
        fn a_comparison_tells_what_two_maps_tell(old in trees(), new in trees(), one_store: bool) {
            // Data that changed under the same time are not looked for without digests.
            let (old, mut new) = (old, new);
            for (path, node) in &mut new.nodes {
                let same_time = old.nodes.get(path).is_some_and(|old| old.entry.mtime == node.entry.mtime);
                if same_time && old.data.contains_key(path) && new.data.get(path) != old.data.get(path) {
                    node.entry.mtime.nsec += 1;
                }
            }
            prop_assert_eq!(told(&old, &new, "", one_store).unwrap(), naive(&old, &new));
        }
    }
}
