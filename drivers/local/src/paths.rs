//! Which directories of the host may be volumes, how they are opened, and what they are called.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use convoy_driver_sdk::Name;
use convoy_driver_sdk::mountinfo::MountTable;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

/// Directories of the system: not volumes as a whole, though what is in them may be.
const WHOLE: [&str; 17] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin",
    "/sys", "/usr", "/var", "/var/lib", "/var/run",
];
/// What the kernel and running programs show as files: nothing in it is data.
const SHOWN: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/var/run"];
/// File systems whose server may not answer: they are not looked at.
const REMOTE: [&str; 12] = [
    "9p",
    "afs",
    "ceph",
    "cifs",
    "fuse.sshfs",
    "fuse.rclone",
    "fuse.s3fs",
    "glusterfs",
    "nfs",
    "nfs4",
    "smb3",
    "fuse.glusterfs",
];
/// How much of a path is in the name of its volume, in bytes.
const READABLE: usize = 80;

/// What is not Docker's data, and where it is.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    /// The driver's own directories, and those of its snapshots.
    pub(crate) own: Vec<PathBuf>,
    /// The data roots of the engines.
    pub(crate) engines: Vec<PathBuf>,
}

/// Says why a directory of the host is not a volume, by its path alone.
pub(crate) fn refuse_path(path: &Path, reserved: &Reserved) -> Option<String> {
    if WHOLE.iter().any(|whole| path == Path::new(whole)) {
        return Some("it is a directory of the system as a whole".to_owned());
    }
    if let Some(shown) = SHOWN.iter().find(|shown| path.starts_with(shown)) {
        return Some(format!("what is in {shown} is no data"));
    }
    if let Some(own) = reserved.own.iter().find(|own| own.starts_with(path) || path.starts_with(own)) {
        return Some(format!("convoy's own directory {} is in it, or it is in that", own.display()));
    }
    if let Some(root) = reserved.engines.iter().find(|root| root.starts_with(path) || path.starts_with(root))
    {
        return Some(format!("the engine's own directory {} is in it, or it is in that", root.display()));
    }
    None
}

/// Says why what is at a path is not a volume. A server that may not answer is not asked.
pub(crate) fn refuse_place(path: &Path, mounts: &MountTable) -> Option<String> {
    let mount = mounts.containing(path);
    if let Some(kind) = mount.map(|mount| mount.fs_type.as_str()).filter(|kind| REMOTE.contains(kind)) {
        return Some(format!("it is on a server ({kind})"));
    }
    match open_at(path, OFlags::PATH) {
        Ok(found) => match kind_of(&found) {
            Ok(FileType::Directory) => None,
            Ok(FileType::RegularFile) => Some("it is a file".to_owned()),
            Ok(FileType::Socket) => Some("it is a socket".to_owned()),
            Ok(_) => Some("it is no directory".to_owned()),
            Err(error) => Some(format!("it cannot be looked at: {error}")),
        },
        Err(Errno::NOENT) => Some("it is not there".to_owned()),
        Err(Errno::LOOP) => Some("a symbolic link is in its path: mount the real path instead".to_owned()),
        Err(error) => Some(format!("it cannot be looked at: {}", io::Error::from(error))),
    }
}

fn kind_of(fd: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Opens what is at a path, through no link.
fn open_at(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(CWD, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Opens a directory of the host that containers have: through no link, since containers may write above it.
pub(crate) fn open_bind(path: &Path) -> io::Result<OwnedFd> {
    Ok(open_at(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME)?)
}

/// Opens the directory of a volume in the engine's data root: only root changes what is above it, but it is
/// no link itself.
pub(crate) fn open_volume(path: &Path) -> io::Result<OwnedFd> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = File::open(parent)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(&parent, name, flags, Mode::empty())?)
}

/// The name of the volume that a directory of the host is: what can be read of its path, and a part of its
/// hash.
pub(crate) fn name_of(path: &Path) -> Option<Name> {
    let bytes = path.as_os_str().as_bytes();
    let readable: String = bytes
        .iter()
        .skip(1)
        .map(|byte| match byte {
            b'/' => '-',
            byte if byte.is_ascii_alphanumeric() || b"_.-".contains(byte) => char::from(*byte),
            _ => '_',
        })
        .collect();
    // The end of a path says more than its beginning.
    let readable = readable.get(readable.len().saturating_sub(READABLE)..).unwrap_or_default();
    let hash = Sha256::digest(bytes);
    let hash: String = hash.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    Name::parse(format!("bind-{readable}-{hash}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_of_the_system_and_of_convoy_are_no_volumes() {
        let reserved = Reserved {
            own: vec!["/var/lib/rancher/convoy/local".into(), "/mnt/snapshots".into()],
            engines: vec!["/var/lib/docker".into()],
        };
        for refused in [
            "/",
            "/etc",
            "/proc",
            "/proc/self",
            "/sys/fs/cgroup",
            "/dev/shm",
            "/run/docker.sock",
            "/var",
            "/var/run/docker.sock",
            "/var/lib",
            "/var/lib/rancher",
            "/mnt",
            "/mnt/snapshots/x",
            "/var/lib/docker",
            "/var/lib/docker/volumes/data/_data",
            "/usr",
        ] {
            assert!(refuse_path(Path::new(refused), &reserved).is_some(), "{refused}");
        }
        for taken in ["/srv", "/home/user/data", "/etc/nginx", "/var/lib/postgresql", "/var/lib/docker2"] {
            assert_eq!(refuse_path(Path::new(taken), &reserved), None, "{taken}");
        }
    }

    #[test]
    fn only_directories_are_volumes_and_no_link_leads_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(real.join("data/deep")).unwrap();
        std::fs::write(real.join("file"), "x").unwrap();
        std::os::unix::fs::symlink("data", real.join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(real.join("sock")).unwrap();
        let none = MountTable::default();
        let why = |name: &str| refuse_place(&real.join(name), &none).unwrap_or_default();
        assert_eq!(why("data/deep"), "");
        assert_eq!(why("file"), "it is a file");
        assert_eq!(why("sock"), "it is a socket");
        assert_eq!(why("none"), "it is not there");
        assert!(why("link").contains("symbolic link") && why("link/deep").contains("symbolic link"));
        open_bind(&real.join("data/deep")).unwrap();
        open_bind(&real.join("link/deep")).unwrap_err();
        open_bind(&real.join("file")).unwrap_err();
        open_volume(&real.join("link/deep")).unwrap();
        open_volume(&real.join("link")).unwrap_err();
        let line = format!("36 35 98:0 / {} rw - nfs4 server:/x rw\n", real.display());
        let server = MountTable::parse(line.as_bytes()).unwrap();
        assert!(refuse_place(&real.join("data"), &server).unwrap().contains("nfs4"));
    }

    #[test]
    fn names_can_be_read() {
        let name = name_of(Path::new("/srv/app/my data")).unwrap();
        assert!(
            name.starts_with("bind-srv-app-my_data-") && name.len() == "bind-srv-app-my_data-".len() + 10
        );
        assert_ne!(name_of(Path::new("/srv/a-b")), name_of(Path::new("/srv/a/b")));
    }

    proptest! {
        #[test]
        fn every_path_has_a_name(parts in proptest::collection::vec("[^/\0]{1,255}", 1..40)) {
            let path = format!("/{}", parts.join("/"));
            let name = name_of(Path::new(&path));
            prop_assert!(name.is_some_and(|name| name.len() <= 120));
        }
    }
}
