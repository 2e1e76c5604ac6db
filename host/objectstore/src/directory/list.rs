//! Listings in key order, page by page, and the removal of unfinished writes.

use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, unlinkat};
use rustix::io::Errno;

use super::beneath::{Root, kind};
use super::first::First;
use super::write::{Partial, is_partial};
use super::{info, modified};
use crate::error::StoreError;
use crate::store::{Depth, Page, check_key};

const PAGE: usize = 10_000;

/// A page of what is in, or below, a directory.
pub(super) fn page(root: &Root, dir: &str, depth: Depth, after: Option<&str>) -> Result<Page, StoreError> {
    let mut page = Page::default();
    collect(root, dir, depth, after, &mut page)?;
    Ok(page)
}

/// Adds the entries of a directory that come after `after`; tells whether the page is full.
fn collect(
    root: &Root,
    dir: &str,
    depth: Depth,
    after: Option<&str>,
    page: &mut Page,
) -> Result<bool, StoreError> {
    for child in children(root, dir, depth, after)? {
        if page.objects.len() + page.dirs.len() >= PAGE {
            page.next = page.objects.iter().map(|o| &o.key).chain(&page.dirs).max().cloned();
            return Ok(true);
        }
        match (child.ends_with('/'), depth) {
            (true, Depth::One) => page.dirs.push(child),
            (true, Depth::All) => {
                if collect(root, &child, depth, after, page)? {
                    return Ok(true);
                }
            }
            (false, _) => match root.look("list", &child) {
                Ok(stat) => page.objects.push(info(&child, &stat)),
                // Deleted or replaced while we were listing.
                Err(StoreError::NotFound { .. } | StoreError::Foreign { .. }) => {}
                Err(e) => return Err(e),
            },
        }
    }
    Ok(false)
}

/// Keys directly in a directory that come after `after`, those of directories ending in `/`, sorted: a page
/// of them, and one to tell that there are more. Names that no key can have are not objects, and neither is
/// what is no file: nothing is below a link.
fn children(root: &Root, dir: &str, depth: Depth, after: Option<&str>) -> Result<Vec<String>, StoreError> {
    let mut keys = First::new(after, depth, PAGE + 1);
    let (mut strange, mut count) = (None, 0_u64);
    each_entry(root, "list", dir, &mut |name, kind| {
        let key = format!("{dir}{name}");
        if check_key(&key).is_err() {
            return;
        }
        match kind {
            FileType::Directory => keys.add(key + "/"),
            FileType::RegularFile => keys.add(key),
            _ => {
                count += 1;
                strange.get_or_insert(key);
            }
        }
    })?;
    if let Some(first) = strange {
        tracing::warn!(key = first, count, "passed over what is neither file nor directory in a store");
    }
    Ok(keys.sorted())
}

/// Calls `found` with each name in a directory, and what it is. There are none in one that is not there.
fn each_entry(
    root: &Root,
    op: &'static str,
    dir: &str,
    found: &mut dyn FnMut(&str, FileType),
) -> Result<(), StoreError> {
    let failed = |e: Errno| StoreError::from_io(op, dir, e.into());
    let at = match root.dir(dir.trim_end_matches('/')) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    for entry in Dir::read_from(&at).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        match entry.file_type() {
            _ if matches!(name, "." | "..") => {}
            // Not every file system says in its listings what is what.
            FileType::Unknown => {
                if let Ok(stat) = rustix::fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW) {
                    found(name, kind(&stat));
                }
            }
            known => found(name, known),
        }
    }
    Ok(())
}

/// Removes hidden files of writers that died, older than `older_than` by the file system's clock.
pub(super) fn sweep(root: &Root, dir: &str, older_than: Duration) -> Result<u64, StoreError> {
    match root.dir(dir.trim_end_matches('/')) {
        Ok(_) => {}
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(0),
        Err(e) => return Err(StoreError::from_io("sweep", dir, e.into())),
    }
    // The file system's clock, which on NFS is the server's, is what a new file's time says.
    let probe = Partial::create(root, &format!("{dir}sweep"))?;
    let now = probe.modified().unwrap_or_else(SystemTime::now);
    drop(probe);
    let mut removed = 0;
    sweep_below(root, dir, now, older_than, &mut removed)?;
    Ok(removed)
}

fn sweep_below(
    root: &Root,
    dir: &str,
    now: SystemTime,
    older_than: Duration,
    removed: &mut u64,
) -> Result<(), StoreError> {
    let (mut partials, mut dirs) = (Vec::new(), Vec::new());
    each_entry(root, "sweep", dir, &mut |name, kind| match kind {
        FileType::RegularFile if is_partial(name) => partials.push(name.to_owned()),
        FileType::Directory => dirs.push(name.to_owned()),
        _ => {}
    })?;
    if !partials.is_empty() {
        let at = root.dir(dir.trim_end_matches('/'));
        let at = at.map_err(|e| StoreError::from_io("sweep", dir, e.into()))?;
        for name in &partials {
            let old = rustix::fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
                kind(&stat) == FileType::RegularFile
                    && now.duration_since(modified(&stat)).is_ok_and(|age| age > older_than)
            });
            if old && unlinkat(&at, name, AtFlags::empty()).is_ok() {
                *removed += 1;
            }
        }
    }
    for name in dirs {
        let below = format!("{dir}{name}");
        // Where no key can be nobody has written.
        if check_key(&below).is_err() {
            continue;
        }
        match sweep_below(root, &(below + "/"), now, older_than, removed) {
            // Removed or replaced since it was listed.
            Ok(()) | Err(StoreError::NotFound { .. } | StoreError::Foreign { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
