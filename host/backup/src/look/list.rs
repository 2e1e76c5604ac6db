//! What is in a directory.

use std::ops::ControlFlow;

use convoy_tree::RelPath;
use tokio_util::sync::CancellationToken;

use super::{Each, check};
use crate::browse::{Browse, Node, Visit};
use crate::error::BackupResult;

/// Entries that are asked for at once.
const PAGE: usize = 1024;

/// Hands out what is in the directory `path`, by name; with `recursive` everything below it. Of anything else
/// than a directory, itself.
///
/// # Errors
/// Those of [`Browse`], [`BackupError::Cancelled`](crate::BackupError::Cancelled), and what `each` fails
/// with.
pub fn list(
    tree: &dyn Browse,
    path: &RelPath,
    recursive: bool,
    cancel: &CancellationToken,
    each: Each<'_, Node>,
) -> BackupResult<()> {
    let node = tree.stat(path)?;
    if !node.entry.is_dir() {
        return each(node);
    }
    if recursive {
        return tree.walk(path, &mut |node| {
            check(cancel)?;
            if node.entry.path != *path {
                each(node)?;
            }
            Ok(ControlFlow::Continue(Visit::Continue))
        });
    }
    let mut after: Option<RelPath> = None;
    loop {
        check(cancel)?;
        let page = tree.list(path, after.as_ref(), PAGE)?;
        let more = page.len() >= PAGE;
        after = page.last().map(|node| node.entry.path.clone());
        page.into_iter().try_for_each(&mut *each)?;
        if !more {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Memory, path};
    use super::*;
    use crate::error::BackupError;

    fn names(tree: &Memory, at: &str, recursive: bool) -> Vec<String> {
        let mut names = Vec::new();
        list(tree, &path(at), recursive, &CancellationToken::new(), &mut |node| {
            names.push(node.entry.path.to_string());
            Ok(())
        })
        .unwrap();
        names
    }

    #[test]
    fn a_directory_of_any_size_is_listed_whole_and_in_order() {
        let mut tree = Memory::default();
        tree.dir("many");
        for number in 0..2 * PAGE {
            tree.file(&format!("many/{number:05}"), b"");
        }
        tree.dir("many/00000.d");
        tree.file("many/00000.d/deep", b"");
        let listed = names(&tree, "many", false);
        assert_eq!(listed.len(), 2 * PAGE + 1);
        assert!(listed.is_sorted() && !listed.contains(&"many/00000.d/deep".to_owned()));
        assert_eq!(names(&tree, "many", true).len(), 2 * PAGE + 2);
        assert_eq!(names(&tree, "many/00007", false), ["many/00007"]);
        assert_eq!(names(&tree, "", false), ["many"]);
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is_and_cancelling_ends_it() {
        let mut tree = Memory::default();
        tree.dir("etc");
        tree.file("etc/hosts", b"");
        let cancel = CancellationToken::new();
        let missing = list(&tree, &path("etc/nginx/conf"), false, &cancel, &mut |_| Ok(())).unwrap_err();
        assert!(
            matches!(&missing, BackupError::NoPath { nearest, .. } if *nearest == path("etc")),
            "{missing}"
        );
        cancel.cancel();
        for recursive in [false, true] {
            let ended = list(&tree, &path(""), recursive, &cancel, &mut |_| Ok(()));
            assert!(matches!(ended, Err(BackupError::Cancelled)));
        }
    }
}
