//! Sockets that systemd made and hands over (`LISTEN_FDS`, see sd_listen_fds(3)): clients that come while the
//! daemon restarts wait instead of failing.

#![allow(unsafe_code, reason = "systemd hands sockets over as numbers")]

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::AcceptConn;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;

/// More than anybody hands over: a number beyond is a mistake.
const MOST: u32 = 64;

/// What systemd calls Docker's socket (`FileDescriptorName=`). Any other is the admin one.
const DOCKER: &str = "docker";

/// systemd handed over what cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the socket {name:?} that was handed over: {why}")]
pub struct ActivationError {
    /// The socket's name, as its unit has it.
    name: String,
    why: String,
}

/// The sockets that were handed over.
#[derive(Debug, Default)]
pub struct ActivationSockets {
    /// The socket of the whole API.
    pub admin: Option<UnixListener>,
    /// The socket of Docker's calls alone.
    pub docker: Option<UnixListener>,
}

/// Takes over the sockets that are meant for this process. To be called once, before other threads are
/// started.
///
/// # Errors
/// [`ActivationError`] when what was handed over is no listening unix socket, or is there twice.
pub fn take() -> Result<ActivationSockets, ActivationError> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let names = meant(
        std::process::id(),
        &variable("LISTEN_PID"),
        &variable("LISTEN_FDS"),
        &variable("LISTEN_FDNAMES"),
    );
    let mut handed = ActivationSockets::default();
    for (descriptor, name) in (FIRST..).zip(names) {
        // SAFETY: the environment says that these descriptors were opened for this very process, which has
        // not touched them; this function is called once.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let listener = listener(descriptor).map_err(|why| ActivationError { name: name.clone(), why })?;
        let place = if name == DOCKER { &mut handed.docker } else { &mut handed.admin };
        if place.replace(listener).is_some() {
            let why = "there are two of the kind; FileDescriptorName= says which is which: admin, docker"
                .to_owned();
            return Err(ActivationError { name, why });
        }
    }
    Ok(handed)
}

fn listener(descriptor: OwnedFd) -> Result<UnixListener, String> {
    let fd = descriptor.as_fd();
    // Nothing that the daemon starts is to have it.
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC).map_err(|error| error.to_string())?;
    let listens = getsockopt(&fd, AcceptConn).map_err(|error| error.to_string())?;
    let listener = UnixListener::from(descriptor);
    // Of a socket of another kind this fails.
    if !listens || listener.local_addr().is_err() {
        return Err("expected a listening unix socket".to_owned());
    }
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    Ok(listener)
}

/// The names of the sockets that are meant for a process.
fn meant(process: u32, pid: &str, count: &str, names: &str) -> Vec<String> {
    if pid.parse() != Ok(process) {
        return Vec::new();
    }
    let count = count.parse().unwrap_or(0).min(MOST);
    let mut names = names.split(':').map(str::to_owned);
    (0..count).map(|_| names.next().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_this_process_is_taken() {
        assert_eq!(meant(7, "7", "2", "admin:docker"), ["admin", "docker"]);
        assert_eq!(meant(7, "7", "1", ""), [""]);
        for (pid, count) in [("8", "2"), ("", "2"), ("7", ""), ("7", "-1"), ("7", "x"), ("x", "1")] {
            assert!(meant(7, pid, count, "admin").is_empty(), "{pid} {count}");
        }
    }

    #[test]
    fn anything_but_a_listening_unix_socket_is_refused() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(listener(one.into()).is_err());
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listener(tcp.into()).is_err());
        assert!(listener(std::fs::File::open("/dev/null").unwrap().into()).is_err());
        let dir = tempfile::tempdir().unwrap();
        assert!(listener(UnixListener::bind(dir.path().join("s")).unwrap().into()).is_ok());
    }
}
