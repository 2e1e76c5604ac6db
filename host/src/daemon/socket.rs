//! The daemon's socket: taken over from a dead daemon, never from a live one.

use super::root::lock;
use rustix::fs::Mode;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that cannot be listened at.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A live daemon has it.
    #[error("another convoy daemon is listening at {}: stop it first, or choose another --socket", path.display())]
    Live {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is there and is no socket: move it away, or choose another --socket", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot listen at {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
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

/// Listens at a path. Only root may connect: the socket is made with mode 0660.
///
/// Changes the process's umask for a moment: to be called before there are other threads.
///
/// # Errors
/// [`SocketError`].
pub fn listen(path: &Path) -> Result<(UnixListener, Socket), SocketError> {
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
    let before = rustix::process::umask(Mode::from_raw_mode(0o117));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(failed)?;
    let socket = Socket { path: path.to_owned(), _lock: lock };
    listener.set_nonblocking(true).map_err(failed)?;
    Ok((listener, socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_live_socket_is_refused_and_a_stale_one_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/convoy.sock");
        let (listener, socket) = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(listen(&path), Err(SocketError::Live { .. })));
        drop((listener, socket));
        assert!(!path.exists());

        // Of 0.5: alive, then dead.
        let other = UnixListener::bind(&path).unwrap();
        assert!(matches!(listen(&path), Err(SocketError::Live { .. })));
        drop(other);
        assert!(path.exists());
        let (_listener, socket) = listen(&path).unwrap();
        drop(socket);

        std::fs::write(&path, "not a socket").unwrap();
        assert!(matches!(listen(&path), Err(SocketError::NoSocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a socket");
    }
}
