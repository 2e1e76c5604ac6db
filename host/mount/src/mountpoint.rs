//! The directory at which a view is mounted.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use crate::detached;

/// Why nothing can be mounted at a directory.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each says what its fields are")]
pub enum MountpointError {
    #[error("cannot mount at {}: {source}; make the directory first: mkdir -p {}", path.display(), path.display())]
    Missing { path: PathBuf, source: io::Error },
    #[error("cannot mount at {}: it is no directory", path.display())]
    NotDirectory { path: PathBuf },
    #[error("cannot mount at {}: the directory is not empty, and what is in it could not be seen any more; name an empty one", path.display())]
    NotEmpty { path: PathBuf },
    #[error("cannot mount at {}: a mount is there that nobody serves any more; remove it first: umount {}", path.display(), path.display())]
    Dead { path: PathBuf },
    #[error("cannot mount at {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("only root can mount: run it with sudo, or use `convoy backup serve`, which needs no rights")]
    NotRoot,
    #[error("the kernel has no FUSE ({0}): modprobe fuse, or use `convoy backup serve`, which needs none")]
    NoFuse(#[source] io::Error),
    #[error("cannot mount at {}: {source}", path.display())]
    Mount { path: PathBuf, source: io::Error },
}

/// An empty directory to mount at.
#[derive(Debug)]
pub struct Mountpoint {
    path: PathBuf,
    directory: OwnedFd,
}

impl Mountpoint {
    /// Opens the directory.
    ///
    /// # Errors
    /// [`MountpointError`] for one that is not there, or not empty; where this user may not mount.
    pub fn open(path: &Path) -> Result<Self, MountpointError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => MountpointError::Missing { path: path.to_owned(), source },
            io::ErrorKind::NotADirectory => MountpointError::NotDirectory { path: path.to_owned() },
            _ if source.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) => {
                MountpointError::Dead { path: path.to_owned() }
            }
            _ => MountpointError::Open { path: path.to_owned(), source },
        };
        let path = fs::canonicalize(path).map_err(failed)?;
        if fs::read_dir(&path).map_err(failed)?.next().is_some() {
            return Err(MountpointError::NotEmpty { path });
        }
        if !rustix::process::geteuid().is_root() {
            return Err(MountpointError::NotRoot);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        Ok(Self { path, directory })
    }

    /// Mounts a FUSE file system there. Gives the mount, and what its server needs. `everybody`: whether other
    /// users may enter; the kernel holds them to the modes and ACLs of files.
    ///
    /// # Errors
    /// [`MountpointError`]; nothing is mounted then.
    pub fn attach(self, everybody: bool) -> Result<(Attached, OwnedFd), MountpointError> {
        let fuse = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let fuse = fuse.map_err(MountpointError::NoFuse)?;
        let number = fuse.as_raw_fd().to_string();
        let mut options = vec![
            ("source", Some("convoy")),
            ("subtype", Some("convoy")),
            ("fd", Some(number.as_str())),
            ("rootmode", Some("040000")),
            ("user_id", Some("0")),
            ("group_id", Some("0")),
            ("default_permissions", None),
        ];
        if everybody {
            options.push(("allow_other", None));
        }
        let failed = |source: io::Error| MountpointError::Mount { path: self.path.clone(), source };
        let mount = detached::mount("fuse", &options).map_err(|error| failed(error.into()))?;
        let id = mount_id(&mount).map_err(failed)?;
        let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&mount, "", &self.directory, "", whole).map_err(|error| failed(error.into()))?;
        Ok((Attached { path: self.path, id }, fuse.into()))
    }
}

/// A mount that was made.
#[derive(Debug)]
pub struct Attached {
    path: PathBuf,
    id: u64,
}

impl Attached {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the mount out of the tree of directories at once, whoever still uses it. Does nothing if somebody
    /// has unmounted it.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn detach(&self) -> io::Result<()> {
        if !is_mounted(&self.path, self.id)? {
            return Ok(());
        }
        match unmount(&self.path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Err(Errno::INVAL) => Ok(()),
            other => Ok(other?),
        }
    }
}

/// The kernel's number of a mount: `proc_pid_fdinfo(5)`. Asks nobody who serves it.
fn mount_id(mount: &OwnedFd) -> io::Result<u64> {
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", mount.as_raw_fd()))?;
    let number = told.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let number = number.and_then(|number| number.trim().parse().ok());
    number.ok_or_else(|| io::Error::other("the kernel does not tell the number of a mount"))
}

/// Whether the mount with this number is at this path, and is the last that was mounted there.
fn is_mounted(path: &Path, id: u64) -> io::Result<bool> {
    let table = io::read_to_string(File::open("/proc/self/mountinfo")?)?;
    let path = escaped(path);
    let mut at_path = table.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let number: u64 = fields.next()?.parse().ok()?;
        (fields.nth(3)? == path).then_some(number)
    });
    Ok(at_path.next_back() == Some(id))
}

/// A path as `/proc/self/mountinfo` writes it.
fn escaped(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.chars().fold(String::with_capacity(text.len()), |mut text, letter| {
        match letter {
            ' ' => text.push_str("\\040"),
            '\t' => text.push_str("\\011"),
            '\n' => text.push_str("\\012"),
            '\\' => text.push_str("\\134"),
            other => text.push(other),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_the_kernel_does() {
        assert_eq!(escaped(Path::new("/a b\\c")), "/a\\040b\\134c");
    }

    #[test]
    fn what_is_no_empty_directory_is_refused_in_words() {
        let dir = std::env::temp_dir().join(format!("convoy-mountpoint-{}", std::process::id()));
        let told = |path: &Path| Mountpoint::open(path).map(drop).unwrap_err().to_string();
        assert!(told(&dir).contains("mkdir -p"), "{}", told(&dir));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        let (not_empty, file) = (told(&dir), told(&dir.join("file")));
        fs::remove_dir_all(&dir).unwrap();
        assert!(not_empty.contains("not empty"), "{not_empty}");
        assert!(file.contains("no directory"), "{file}");
    }
}
