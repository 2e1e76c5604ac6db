//! Where the ledger lies: in memory, where the machine has a place for what does not outlive it.
//!
//! A change of the ledger is part of every mount. On a disk it waits for the journal while a record of any
//! volume is made durable; on a tmpfs it waits for nothing. `<root>/mounts` is then a symbolic link to a
//! directory there, named after the boot and something random, so that it belongs to this root for certain.
//! Where there is no tmpfs for it, `<root>/mounts` is the directory; and one with files in it stays what it
//! is until they are gone.

use super::OpenError;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// The name of the ledger in a root directory.
const NAME: &str = "mounts";

/// In a ledger's directory in memory: the mount namespace of its daemon, a zero byte, and the path of the
/// root it is of. No link: whatever follows links through the root would go in circles.
pub(super) const OWNER: &str = ".root";

/// A ledger's directory.
#[derive(Debug)]
pub struct LedgerDir {
    /// Where it is. It exists.
    pub dir: PathBuf,
    /// Whether nothing is known of this boot although it may have mounts: those of convoy 0.5, which kept no
    /// ledger, or of a daemon whose memory is gone. What is mounted now is adopted.
    pub first: bool,
}

/// Where ledgers may lie: `/run` is the place for what ends with the boot, and a tmpfs on every machine that
/// systemd started. Where it is not, as in most containers, programs still find one to share memory in.
/// Whoever makes the directory there first is asked for by [`ours`].
pub const MEMORIES: [&str; 2] = ["/run/convoy/mounts", "/dev/shm/convoy-mounts"];

/// Finds the directory of a root's ledger, or makes it. In the first of `memories` that is on a tmpfs the
/// ledgers of all roots lie side by side; those of this mount namespace whose root is gone are removed.
///
/// # Errors
/// A directory that can be neither made nor read.
pub fn settle(root: &Path, memories: &[&Path], boot_id: &str) -> Result<LedgerDir, OpenError> {
    let link = root.join(NAME);
    let failed = |what| {
        let path = link.clone();
        move |source| OpenError { what, path, source }
    };
    memories.iter().filter(|memory| ours(memory).is_ok()).for_each(|memory| sweep(memory));
    let mut first = false;
    match fs::symlink_metadata(&link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => first = true,
        Err(error) => return Err(failed("read")(error)),
        Ok(found) if found.is_symlink() => {
            let dir = fs::read_link(&link).map_err(failed("read"))?;
            let here = dir.parent().is_some_and(|parent| memories.contains(&parent) && ours(parent).is_ok());
            let of_now =
                dir.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(boot_id));
            if here && of_now {
                // A copy of a root brings a link to the ledger of the one it was copied from.
                match owner(&dir) {
                    Ok(owner) if owner.root == root => {
                        if owner.namespace != namespace() {
                            own(&dir, root).map_err(failed("take"))?;
                        }
                        return Ok(LedgerDir { dir, first: false });
                    }
                    Ok(_) => {}
                    // This memory went away, and not with the machine: a container's. It would again.
                    Err(_) => return on_disk(&link, true).map_err(failed("replace")),
                }
            }
        }
        // With files in it, it is used as it is; else it gives way.
        Ok(_) if fs::remove_dir(&link).is_err() => return Ok(LedgerDir { dir: link, first }),
        Ok(_) => {}
    }
    for memory in memories {
        let dir = memory.join(format!("{boot_id}.{:08x}", rand::random::<u32>()));
        match in_memory(&dir, memory, root, &link) {
            Ok(()) => return Ok(LedgerDir { dir, first }),
            Err(error) => {
                tracing::debug!(memory = %memory.display(), %error, "no place for the mount ledger");
                drop_dir(&dir);
            }
        }
    }
    on_disk(&link, first).map_err(failed("make"))
}

/// Whether a directory is on a tmpfs.
pub(super) fn is_memory(dir: &Path) -> bool {
    statfs(dir).is_ok_and(|of| of.filesystem_type() == TMPFS_MAGIC)
}

/// Whether a directory is on a tmpfs and nobody else can write to it: `/dev/shm` is open to everybody.
fn ours(memory: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(memory)?;
    if !found.is_dir() || found.uid() != nix::unistd::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a directory of ours alone"));
    }
    if !is_memory(memory) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "not on a tmpfs"));
    }
    Ok(())
}

fn in_memory(dir: &Path, memory: &Path, root: &Path, link: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(memory)?;
    ours(memory)?;
    fs::DirBuilder::new().mode(0o700).create(dir)?;
    // The owner's name last: until then, nobody sweeps it.
    let new = link.with_extension("new");
    remove(&new)?;
    symlink(dir, &new)?;
    fs::rename(&new, link)?;
    own(dir, root)
}

/// Whose a ledger is.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    /// The mount namespace in which its root has that path.
    namespace: Vec<u8>,
    root: PathBuf,
}

/// A plugin that Docker manages sees the machine's `/dev/shm`, and has roots that nobody else sees.
fn namespace() -> Vec<u8> {
    fs::read_link("/proc/self/ns/mnt").map(|link| link.into_os_string().into_vec()).unwrap_or_default()
}

fn own(dir: &Path, root: &Path) -> io::Result<()> {
    let owner = [&namespace(), &b"\0"[..], root.as_os_str().as_bytes()].concat();
    super::replace(&dir.join(OWNER), &owner)
}

fn owner(dir: &Path) -> io::Result<Owner> {
    let mut namespace = fs::read(dir.join(OWNER))?;
    let end = namespace.iter().position(|byte| *byte == 0).ok_or(io::ErrorKind::InvalidData)?;
    let root = OsString::from_vec(namespace.split_off(end + 1)).into();
    namespace.truncate(end);
    Ok(Owner { namespace, root })
}

fn on_disk(link: &Path, first: bool) -> io::Result<LedgerDir> {
    if link.is_symlink() {
        remove(link)?;
    }
    convoy_driver_sdk::atomic::create_dir(link, 0o700)?;
    Ok(LedgerDir { dir: link.to_owned(), first })
}

/// Removes ledgers whose root is gone or has another one: a machine can be up for long. What daemons in other
/// mount namespaces have, only they can tell.
fn sweep(memory: &Path) {
    let here = namespace();
    for entry in fs::read_dir(memory).into_iter().flatten().flatten() {
        let dir = entry.path();
        let Ok(owner) = owner(&dir) else { continue };
        if owner.namespace != here {
            continue;
        }
        let gone = match fs::read_link(owner.root.join(NAME)) {
            Ok(link) => link != dir,
            // None, or not a link.
            Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput),
        };
        if gone {
            drop_dir(&dir);
        }
    }
}

fn drop_dir(dir: &Path) {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(dir = %dir.display(), %error, "cannot remove a ledger that nobody uses");
        }
        _ => {}
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root, and a place in memory. `/dev/shm` is a tmpfs wherever there are programs that share memory.
    fn places() -> (tempfile::TempDir, tempfile::TempDir) {
        (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap())
    }

    #[test]
    fn memory_is_found_again_and_made_again_after_a_boot() {
        let (root, memory) = places();
        let made = settle(root.path(), &[memory.path()], "boot-1").unwrap();
        assert!(made.first && made.dir.starts_with(memory.path()), "{made:?}");
        let file = root.path().join("mounts/vol1.json");
        fs::write(&file, "{}").unwrap();
        assert!(made.dir.join("vol1.json").exists());
        let again = settle(root.path(), &[memory.path()], "boot-1").unwrap();
        assert!(!again.first && again.dir == made.dir, "{again:?}");
        assert!(file.exists());
        let booted = settle(root.path(), &[memory.path()], "boot-2").unwrap();
        assert!(!booted.first && booted.dir != made.dir, "{booted:?}");
        assert!(!file.exists());
        settle(root.path(), &[memory.path()], "boot-2").unwrap();
        assert_eq!(fs::read_dir(memory.path()).unwrap().count(), 1, "that of the boot before is swept");
    }

    #[test]
    fn memory_that_went_away_alone_is_not_trusted_again() {
        let (root, memory) = places();
        let made = settle(root.path(), &[memory.path()], "boot").unwrap();
        fs::remove_dir_all(&made.dir).unwrap();
        let after = settle(root.path(), &[memory.path()], "boot").unwrap();
        assert!(after.first, "what is mounted has to be adopted");
        assert_eq!(after.dir, root.path().join("mounts"));
        assert!(!after.dir.is_symlink());
    }

    #[test]
    fn a_directory_with_files_stays() {
        let (root, memory) = places();
        let dir = root.path().join("mounts");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("vol1.json"), "{}").unwrap();
        let used = settle(root.path(), &[memory.path()], "boot").unwrap();
        assert!(!used.first && used.dir == dir && !dir.is_symlink());
        fs::remove_file(dir.join("vol1.json")).unwrap();
        let moved = settle(root.path(), &[memory.path()], "boot").unwrap();
        assert!(!moved.first && moved.dir.starts_with(memory.path()) && dir.is_symlink());
    }

    #[test]
    fn without_memory_it_lies_on_disk() {
        let (root, disk) =
            (tempfile::tempdir_in("/var/tmp").unwrap(), tempfile::tempdir_in("/var/tmp").unwrap());
        if is_memory(disk.path()) {
            return;
        }
        let place = settle(root.path(), &[disk.path()], "boot").unwrap();
        assert!(place.first && place.dir == root.path().join("mounts") && place.dir.is_dir());
        assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_others_can_write_to_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt;
        let ((root, open), own) = (places(), tempfile::tempdir_in("/dev/shm").unwrap());
        fs::set_permissions(open.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let elsewhere = own.path().join("link");
        symlink(open.path(), &elsewhere).unwrap();
        let memories = [open.path(), &elsewhere, &own.path().join("mounts")];
        let made = settle(root.path(), &memories, "boot").unwrap();
        assert!(made.dir.starts_with(memories[2]), "{made:?}");
        assert_eq!(fs::read_dir(open.path()).unwrap().count(), 0);
        assert_eq!(settle(root.path(), &memories, "boot").unwrap().dir, made.dir);
        // The link in the root counts no more once others can write where it leads.
        fs::set_permissions(memories[2], fs::Permissions::from_mode(0o777)).unwrap();
        let after = settle(root.path(), &memories, "boot").unwrap();
        assert!(after.dir == root.path().join("mounts") && !after.dir.is_symlink(), "{after:?}");
    }

    #[test]
    fn a_copied_root_and_one_that_is_gone() {
        let (root, memory) = places();
        let copy = tempfile::tempdir().unwrap();
        let made = settle(root.path(), &[memory.path()], "boot").unwrap();
        symlink(&made.dir, copy.path().join("mounts")).unwrap();
        let copied = settle(copy.path(), &[memory.path()], "boot").unwrap();
        assert!(copied.dir != made.dir && made.dir.exists(), "{copied:?}");
        drop(root);
        settle(copy.path(), &[memory.path()], "boot").unwrap();
        assert!(copied.dir.exists() && !made.dir.exists());
    }

    #[test]
    fn what_another_mount_namespace_has_stays_and_is_taken_along_by_its_own_root() {
        let (root, memory) = places();
        let made = settle(root.path(), &[memory.path()], "boot").unwrap();
        let elsewhere = [&b"mnt:[1]\0"[..], root.path().as_os_str().as_bytes()].concat();
        fs::write(made.dir.join(OWNER), &elsewhere).unwrap();
        // A daemon that sees another root there, or none.
        fs::rename(root.path().join(NAME), root.path().join("unseen")).unwrap();
        let (other, _) = places();
        settle(other.path(), &[memory.path()], "boot").unwrap();
        assert_eq!(fs::read(made.dir.join(OWNER)).unwrap(), elsewhere);

        fs::rename(root.path().join("unseen"), root.path().join(NAME)).unwrap();
        let again = settle(root.path(), &[memory.path()], "boot").unwrap();
        assert!(again.dir == made.dir && !again.first, "{again:?}");
        assert_eq!(owner(&made.dir).unwrap(), Owner { namespace: namespace(), root: root.path().to_owned() });
    }
}
