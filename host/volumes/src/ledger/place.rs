//! Where the ledger lies: in [`RUN`], a directory for each root. `/run` is the place for what ends with the
//! boot, as mounts do, and on most machines it is in memory, so that a mount waits for no disk. Where it
//! cannot
//! be used the ledger is `<root>/mounts`; and a ledger with files in it stays where it is.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where the ledgers of all daemons lie side by side, each named after device and inode of its root.
pub const RUN: &str = "/run/convoy/mounts";

/// The ledger's directory in a root.
const NAME: &str = "mounts";

/// A file in `<root>/mounts` with the boot whose ledger is in [`RUN`]. If that went away within the boot, it
/// was a container's, and will go away again.
const MARKER: &str = "boot";

/// The ledger cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the mount ledger: {what} {}: {source}", path.display())]
pub struct LedgerError {
    pub(super) what: &'static str,
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

/// The directory of a ledger, and what it was found to be.
#[derive(Debug)]
pub(super) struct LedgerDir {
    /// Where it is. It exists.
    pub(super) path: PathBuf,
    /// Whether it has nothing of this boot: see [`Ledger::is_first`](super::Ledger::is_first).
    pub(super) first: bool,
    /// The file in the root that names this boot; `None` for a ledger in the root itself.
    marker: Option<PathBuf>,
}

impl LedgerDir {
    /// Names a directory that exists and belongs to nobody else.
    pub(super) fn at(path: PathBuf, first: bool) -> Self {
        Self { path, first, marker: None }
    }

    /// Removes a directory outside the root that is of no use any more.
    pub(super) fn remove_if_empty(&self) {
        if let Some(marker) = &self.marker
            && fs::remove_dir(&self.path).is_ok()
        {
            // Left behind, it says that the ledger was lost: then what is mounted is adopted, and nothing is.
            let _ = fs::remove_file(marker);
        }
    }
}

/// Finds the directory of a root's ledger, or makes it.
pub(super) fn settle(root: &Path, run: &Path, boot_id: &str) -> Result<LedgerDir, LedgerError> {
    let here = root.join(NAME);
    let failed = |what| {
        let path = here.clone();
        move |source| LedgerError { what, path, source }
    };
    let mut first = false;
    match fs::symlink_metadata(&here) {
        Ok(found) if found.is_symlink() => {
            first = adopt(root, &here, boot_id).map_err(failed("replace"))?;
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Unless an adoption was cut off when it was all but done.
            first = fs::rename(here.with_extension("new"), &here).is_err();
        }
        Err(error) => return Err(failed("read")(error)),
    }
    let id = fs::metadata(root).map_err(failed("read"))?;
    let there = run.join(format!("{:x}-{:x}", id.dev(), id.ino()));
    if !here.exists() {
        // Of another root that is gone.
        let _ = fs::remove_dir_all(&there);
        DirBuilder::new().mode(0o700).create(&here).map_err(failed("make"))?;
    }
    let mut files = fs::read_dir(&here).map_err(failed("read"))?.flatten();
    if files.any(|file| file.file_name() != MARKER) {
        return Ok(LedgerDir::at(here, first));
    }
    let marker = here.join(MARKER);
    let of_now = fs::read_to_string(&marker).is_ok_and(|marked| marked == boot_id);
    match make(run, &there) {
        Ok(is_new) if is_new && of_now => {
            let _ = fs::remove_dir(&there);
            fs::remove_file(&marker).map_err(failed("write"))?;
            Ok(LedgerDir::at(here, true))
        }
        Ok(_) => {
            if !of_now {
                fs::write(&marker, boot_id).map_err(failed("write"))?;
            }
            Ok(LedgerDir { path: there, first, marker: Some(marker) })
        }
        Err(error) => {
            tracing::debug!(run = %run.display(), %error, "the mount ledger lies in the root");
            Ok(LedgerDir::at(here, first))
        }
    }
}

/// Makes a ledger's directory in one that nobody else can write to. Whether it was not there.
fn make(run: &Path, dir: &Path) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(0o700).create(run)?;
    ours(run)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|()| true),
    }
}

fn ours(dir: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(dir)?;
    if !found.is_dir() || found.uid() != nix::unistd::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a directory of ours alone"));
    }
    Ok(())
}

/// Puts a directory in the place of the link that earlier versions made to a directory `<boot id>.<random>`
/// in
/// memory, with what is in there of this root and boot. Whether that is gone although the boot is the same.
fn adopt(root: &Path, link: &Path, boot_id: &str) -> io::Result<bool> {
    let former = fs::read_link(link)?;
    let of_now =
        former.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(boot_id));
    let new = link.with_extension("new");
    if new.is_dir() {
        fs::remove_dir_all(&new)?;
    }
    DirBuilder::new().mode(0o700).create(&new)?;
    // The file `.root` ends with the root's path: a copied root has a link to the ledger of another.
    let owner = (of_now && ours(&former).is_ok()).then(|| fs::read(former.join(".root")).ok()).flatten();
    let ours =
        owner.is_some_and(|owner| owner.ends_with(&[b"\0", root.as_os_str().as_encoded_bytes()].concat()));
    if ours {
        for file in fs::read_dir(&former)?.flatten().filter(|file| file.file_name() != ".root") {
            fs::copy(file.path(), new.join(file.file_name()))?;
        }
    }
    let lost = of_now && !former.exists();
    fs::remove_file(link)?;
    fs::rename(&new, link)?;
    if ours {
        let _ = fs::remove_dir_all(&former);
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A root, and a place for ledgers.
    fn places() -> (tempfile::TempDir, tempfile::TempDir) {
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
    }

    fn is_in(place: &LedgerDir, run: &tempfile::TempDir) -> bool {
        place.path.parent() == Some(run.path()) && place.path.is_dir()
    }

    #[test]
    fn it_is_found_again_and_made_again_after_a_boot() {
        let (root, run) = places();
        let made = settle(root.path(), run.path(), "boot-1").unwrap();
        assert!(made.first && is_in(&made, &run), "{made:?}");
        let file = made.path.join("vol1.json");
        fs::write(&file, "{}").unwrap();
        let again = settle(root.path(), run.path(), "boot-1").unwrap();
        assert!(!again.first && again.path == made.path && file.exists(), "{again:?}");
        again.remove_if_empty();
        assert!(file.exists());
        fs::remove_dir_all(&made.path).unwrap();
        let booted = settle(root.path(), run.path(), "boot-2").unwrap();
        assert!(!booted.first && is_in(&booted, &run), "{booted:?}");
        booted.remove_if_empty();
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 0);
        let after = settle(root.path(), run.path(), "boot-2").unwrap();
        assert!(!after.first && is_in(&after, &run), "{after:?}");
    }

    #[test]
    fn memory_that_went_away_alone_is_not_trusted_again() {
        let (root, run) = places();
        let made = settle(root.path(), run.path(), "boot").unwrap();
        fs::remove_dir_all(&made.path).unwrap();
        let after = settle(root.path(), run.path(), "boot").unwrap();
        assert!(after.first, "what is mounted has to be adopted");
        assert_eq!(after.path, root.path().join("mounts"));
    }

    #[test]
    fn a_directory_with_files_stays() {
        let (root, run) = places();
        let dir = root.path().join("mounts");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("vol1.json"), "{}").unwrap();
        let used = settle(root.path(), run.path(), "boot").unwrap();
        assert!(!used.first && used.path == dir);
        fs::remove_file(dir.join("vol1.json")).unwrap();
        let moved = settle(root.path(), run.path(), "boot").unwrap();
        assert!(!moved.first && is_in(&moved, &run));
    }

    #[test]
    fn where_run_cannot_be_used_it_lies_in_the_root() {
        let (root, run) = places();
        let blocked = run.path().join("file");
        fs::write(&blocked, "").unwrap();
        for run in [blocked.as_path(), &blocked.join("mounts")] {
            let place = settle(root.path(), run, "boot").unwrap();
            assert!(place.path == root.path().join("mounts") && place.path.is_dir());
        }
    }

    #[test]
    fn what_others_can_write_to_is_not_trusted() {
        let (root, run) = places();
        let (open, link) = (run.path().join("open"), run.path().join("link"));
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        symlink(run.path(), &link).unwrap();
        for run in [&open, &link] {
            let made = settle(root.path(), run, "boot").unwrap();
            assert_eq!(made.path, root.path().join("mounts"));
            assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_copied_root_has_a_ledger_of_its_own() {
        let (root, run) = places();
        let copy = tempfile::tempdir().unwrap();
        let made = settle(root.path(), run.path(), "boot").unwrap();
        fs::create_dir(copy.path().join(NAME)).unwrap();
        let copied = settle(copy.path(), run.path(), "boot").unwrap();
        assert!(is_in(&copied, &run) && copied.path != made.path && made.path.exists(), "{copied:?}");
    }

    #[test]
    fn the_ledger_of_an_earlier_version_is_adopted() {
        for (owner, boot, adopted) in [("own", "boot", true), ("other", "boot", false), ("own", "old", false)]
        {
            let (root, run) = places();
            let former = run.path().join(format!("{boot}.0123abcd"));
            DirBuilder::new().mode(0o700).create(&former).unwrap();
            let path = root.path().as_os_str().as_encoded_bytes();
            let owner = if owner == "own" { path } else { b"/elsewhere" };
            fs::write(former.join(".root"), [b"mnt:[1]\0", owner].concat()).unwrap();
            fs::write(former.join("vol1.json"), "{}").unwrap();
            let here = root.path().join(NAME);
            symlink(&former, &here).unwrap();
            let place = settle(root.path(), run.path(), "boot").unwrap();
            assert!(!place.first && !here.is_symlink(), "{place:?}");
            assert_eq!((place.path == here, former.exists()), (adopted, !adopted), "{place:?}");
            assert_eq!(place.path.join("vol1.json").exists(), adopted);
        }
        let (root, run) = places();
        symlink(run.path().join("boot.gone"), root.path().join(NAME)).unwrap();
        assert!(settle(root.path(), run.path(), "boot").unwrap().first, "what is mounted has to be adopted");
    }
}
