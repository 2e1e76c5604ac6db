//! Listings in key order, page by page, and the removal of unfinished writes.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::first::First;
use super::info;
use super::write::PARTIAL_PREFIX;
use crate::error::StoreError;
use crate::store::{Depth, Page};

/// Entries in a page.
const PAGE: usize = 10_000;

/// A page of what is in, or below, a directory.
pub(super) fn page(root: &Path, dir: &str, depth: Depth, after: Option<&str>) -> Result<Page, StoreError> {
    let mut page = Page::default();
    collect(root, dir, depth, after, &mut page)?;
    Ok(page)
}

/// Adds the entries of a directory that come after `after`; tells whether the page is full.
fn collect(
    root: &Path,
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
            (false, _) => match fs::metadata(root.join(&child)) {
                Ok(meta) => page.objects.push(info(&child, &meta)),
                // Deleted while we were listing.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(StoreError::from_io("list", &child, e)),
            },
        }
    }
    Ok(false)
}

/// Keys directly in a directory that come after `after`, those of directories ending in `/`, sorted: a page of them, and one to tell
/// that there are more. Hidden and odd names are not objects.
fn children(root: &Path, dir: &str, depth: Depth, after: Option<&str>) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(root.join(dir)) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(StoreError::from_io("list", dir, e)),
    };
    let mut names = First::new(after, depth, PAGE + 1);
    for entry in entries {
        let entry = entry.map_err(|e| StoreError::from_io("list", dir, e))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            names.add(format!("{dir}{name}/"));
        } else if kind.is_file() {
            names.add(format!("{dir}{name}"));
        }
    }
    Ok(names.sorted())
}

/// Removes hidden files of writers that died, older than `older_than` by the file system's clock.
pub(super) fn sweep(root: &Path, dir: &str, older_than: Duration) -> Result<u64, StoreError> {
    if !root.join(dir).is_dir() {
        return Ok(0);
    }
    // The file system's clock, which on NFS is the server's, is what a new file's time says.
    let probe = super::write::Partial::create(root, &format!("{dir}sweep"))?;
    let now = probe.modified().unwrap_or_else(SystemTime::now);
    drop(probe);
    let mut removed = 0;
    sweep_below(&root.join(dir), now, older_than, &mut removed)
        .map_err(|e| StoreError::from_io("sweep", dir, e))?;
    Ok(removed)
}

fn sweep_below(dir: &Path, now: SystemTime, older_than: Duration, removed: &mut u64) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            match sweep_below(&entry.path(), now, older_than, removed) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        } else if kind.is_file() && entry.file_name().to_string_lossy().starts_with(PARTIAL_PREFIX) {
            let old = entry
                .metadata()
                .and_then(|m| m.modified())
                .is_ok_and(|m| now.duration_since(m).is_ok_and(|age| age > older_than));
            if old && fs::remove_file(entry.path()).is_ok() {
                *removed += 1;
            }
        }
    }
    Ok(())
}
