//! The daemon's sockets: taken over from a dead daemon, never from a live one; or handed over by systemd.

use super::activation::{self, ActivationError, ActivationSockets};
use super::root::lock;
use convoy_cli::settings::Settings;
use nix::unistd::Group;
use rustix::fs::{AtFlags, CWD, Gid, Mode};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum SocketError {
    #[error("another convoy daemon is listening at {}: stop it first, or choose another \
             --socket", path.display())]
    Live { path: PathBuf },
    #[error("{} is there and is no socket: move it away, or choose another --socket", path.display())]
    NoSocket { path: PathBuf },
    #[error("no group {group:?} for the socket {}: make it, or name another as socket-group", path.display())]
    NoGroup { group: String, path: PathBuf },
    #[error(transparent)]
    Activation(#[from] ActivationError),
    #[error("cannot listen at {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A socket that is listened at; removed when dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// Held as long as the socket: what two daemons would do at once, one does.
    _lock: File,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// The sockets of a daemon.
#[derive(Debug)]
pub struct Listening {
    /// For everything. One that systemd made is systemd's to remove.
    pub admin: (UnixListener, Option<Socket>),
    /// For Docker's calls alone.
    pub docker: Option<(UnixListener, Option<Socket>)>,
    /// Where they are, for the log.
    pub names: String,
}

/// Takes the sockets that systemd hands over, and makes the others.
///
/// To be called before there are other threads.
pub fn open(settings: &Settings) -> Result<Listening, SocketError> {
    let ActivationSockets { admin, docker } = activation::take()?;
    let mut names = vec![match &admin {
        Some(_) => "handed over".to_owned(),
        None => settings.socket.display().to_string(),
    }];
    let ignored = (admin.is_some() && settings.socket_group.is_some())
        || (docker.is_some() && settings.docker_socket_group.is_some());
    if ignored {
        tracing::warn!(
            "the group of a socket that systemd hands over is set in its socket unit: SocketGroup=, \
             SocketMode="
        );
    }
    let admin = match admin {
        Some(listener) => (listener, None),
        None => made(&settings.socket, settings.socket_group.as_deref())?,
    };
    let docker = match (docker, &settings.docker_socket) {
        (Some(listener), _) => {
            names.push("handed over for Docker".to_owned());
            Some((listener, None))
        }
        (None, Some(path)) => {
            names.push(path.display().to_string());
            Some(made(path, settings.docker_socket_group.as_deref())?)
        }
        (None, None) => None,
    };
    Ok(Listening { admin, docker, names: names.join(", ") })
}

fn made(path: &Path, group: Option<&str>) -> Result<(UnixListener, Option<Socket>), SocketError> {
    listen(path, group).map(|(listener, socket)| (listener, Some(socket)))
}

/// Listens at a path. Only root may connect, and the members of `group`: whoever may has root's power over
/// volumes.
///
/// Changes the process's umask for a moment: to be called before there are other threads.
pub fn listen(path: &Path, group: Option<&str>) -> Result<(UnixListener, Socket), SocketError> {
    let group = group.map(|name| group_id(name, path)).transpose()?;
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock = lock(Path::new(&lock_path)).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => SocketError::Live { path: path.to_owned() },
        _ => failed(source),
    })?;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NoSocket { path: path.to_owned() });
        }
        // Convoy 0.5 has no lock file: ask.
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(SocketError::Live { path: path.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                tracing::info!(path = %path.display(), "removed the socket of a daemon that is gone");
                std::fs::remove_file(path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        },
    }
    // The socket is made with the mode that it keeps: to change it by its path afterwards could change
    // something else.
    let mask = if group.is_some() { 0o117 } else { 0o177 };
    let before = rustix::process::umask(Mode::from_raw_mode(mask));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(failed)?;
    let socket = Socket { path: path.to_owned(), _lock: lock };
    if let Some(group) = group {
        rustix::fs::chownat(CWD, path, None, Some(group), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failed(error.into()))?;
    }
    listener.set_nonblocking(true).map_err(failed)?;
    Ok((listener, socket))
}

fn group_id(name: &str, path: &Path) -> Result<Gid, SocketError> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(Gid::from_raw(group.gid.as_raw())),
        Ok(None) => Err(SocketError::NoGroup { group: name.to_owned(), path: path.to_owned() }),
        Err(error) => Err(SocketError::Io { path: path.to_owned(), source: error.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_live_socket_is_refused_and_a_stale_one_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/convoy.sock");
        let (listener, socket) = listen(&path, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(listen(&path, None), Err(SocketError::Live { .. })));
        drop((listener, socket));
        assert!(!path.exists());
        assert!(matches!(listen(&path, Some("no-such-group")), Err(SocketError::NoGroup { .. })));
        assert!(!path.exists());

        // Of 0.5: alive, then dead.
        let other = UnixListener::bind(&path).unwrap();
        assert!(matches!(listen(&path, None), Err(SocketError::Live { .. })));
        drop(other);
        assert!(path.exists());
        let (_listener, socket) = listen(&path, None).unwrap();
        drop(socket);

        let (_listener, socket) = listen(&path, Some("1")).unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.permissions().mode() & 0o777, found.gid()), (0o660, 1));
        drop(socket);

        std::fs::write(&path, "not a socket").unwrap();
        assert!(matches!(listen(&path, None), Err(SocketError::NoSocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a socket");
    }
}
