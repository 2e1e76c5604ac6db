//! How full mounted volumes are, as their file systems say it.

use crate::service::Volumes;
use convoy_driver_sdk::Name;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout_at};

/// How long a list waits for file systems to answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// One thread asks at a time: a file system that never answers costs no more than that one.
static ASKING: Mutex<()> = Mutex::const_new(());

impl Volumes {
    /// Bytes in use of the volumes, or of one, that are mounted and have a file system, or a quota, of their
    /// own size. Of a volume that is a directory (`Path` in what its driver says) that is known although
    /// nobody uses it. What does not answer within 300 ms is left out.
    pub async fn used(&self, only: Option<&str>) -> BTreeMap<Name, u64> {
        let mut used = BTreeMap::new();
        // There the same paths may be other file systems.
        if self.mount_namespace.is_some() {
            return used;
        }
        let mut asked: Vec<(Name, u64, PathBuf)> = Vec::new();
        self.index.each(|entry| {
            let (name, size) = (&entry.volume.name, entry.volume.size);
            // Of an image for a virtual machine nobody but that knows what is in use.
            let image = entry.volume.info.get("PrepareForVM").is_some_and(|is| is == "true");
            if size == 0 || image || only.is_some_and(|only| only != name.as_str()) {
                return;
            }
            let mounted = self.ledger.mountpoint(name);
            let at = mounted.or_else(|| entry.volume.info.get("Path").map(PathBuf::from));
            asked.extend(at.map(|at| (name.clone(), size, at)));
        });
        if asked.is_empty() {
            return used;
        }
        let deadline = Instant::now() + PATIENCE;
        let Ok(guard) = timeout_at(deadline, ASKING.lock()).await else { return used };
        let (tell, mut told) = mpsc::unbounded_channel();
        tokio::task::spawn_blocking(move || {
            let _guard = guard;
            for (name, size, at) in asked {
                let Some(bytes) = used_of(&at, size) else { continue };
                if tell.send((name, bytes)).is_err() {
                    // Nobody waits any more.
                    return;
                }
            }
        });
        while let Ok(Some((name, bytes))) = timeout_at(deadline, told.recv()).await {
            used.insert(name, bytes);
        }
        used
    }
}

/// Bytes in use at a mount point, if what is there is as large as the volume: a directory without a quota
/// tells of the whole file system that it is in. A file system's own records take less than half of it.
fn used_of(at: &Path, size: u64) -> Option<u64> {
    let space = rustix::fs::statvfs(at).ok()?;
    let total = space.f_blocks.saturating_mul(space.f_frsize);
    let free = space.f_bfree.saturating_mul(space.f_frsize);
    (total <= size && total >= size / 2).then(|| total.saturating_sub(free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_a_larger_file_system_is_not_taken_for_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let space = rustix::fs::statvfs(dir.path()).unwrap();
        let total = space.f_blocks * space.f_frsize;
        assert!(used_of(dir.path(), total).is_some());
        assert_eq!(used_of(dir.path(), total - 1), None);
        assert_eq!(used_of(dir.path(), total * 3), None);
        assert_eq!(used_of(&dir.path().join("gone"), total), None);
    }
}
