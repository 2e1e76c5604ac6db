//! Starting a driver's program.

#![allow(
    unsafe_code,
    reason = "what a child does between fork and exec, and a descriptor that it gets by number"
)]

use super::confine;
use rustix::process::{Pid, Signal};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// The descriptor a driver finds its socket at.
const DRIVER_FD: RawFd = 3;

/// What a driver inherits of the environment, beside variables that begin with its own name (`EBS_...`).
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "RUST_BACKTRACE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Prefixes of variables that certain drivers inherit: the credentials of their clouds.
const INHERITED_BY: &[(&str, &str)] = &[("ebs", "AWS_"), ("digitalocean", "DO_")];

/// A program that runs, and the host's end of its socket.
pub(super) struct ChildProcess {
    pub(super) child: Child,
    pub(super) socket: UnixStream,
}

/// Starts a program with one end of a socket. It dies with this process.
pub(super) async fn start(path: &Path, driver: &str) -> io::Result<ChildProcess> {
    let (path, driver) = (path.to_owned(), driver.to_owned());
    let runtime = tokio::runtime::Handle::current();
    let (answer, answered) = oneshot::channel();
    let job = Box::new(move || {
        let _runtime = runtime.enter();
        let _ = answer.send(spawn(&path, &driver));
    });
    spawner()?.send(job).map_err(|_| io::Error::other("the thread that starts drivers has ended"))?;
    answered.await.map_err(|_| io::Error::other("the thread that starts drivers has ended"))?
}

type Job = Box<dyn FnOnce() + Send>;

/// The kernel ties the death signal of a child to the thread that forked it: so that is a thread that lives as
/// long as this program, not one of a pool.
fn spawner() -> io::Result<&'static Sender<Job>> {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    if let Some(sender) = SPAWNER.get() {
        return Ok(sender);
    }
    let (sender, jobs) = channel::<Job>();
    std::thread::Builder::new()
        .name("driver-spawner".to_owned())
        .spawn(move || jobs.iter().for_each(|job| job()))?;
    Ok(SPAWNER.get_or_init(|| sender))
}

fn spawn(path: &Path, driver: &str) -> io::Result<ChildProcess> {
    let (socket, theirs) = UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    // Number 3 is in use here while the child is made, by this if by nothing else: so the pipe over which the
    // standard library reports a failed exec has another number, and is not overwritten in the child.
    let placeholder = rustix::io::fcntl_dupfd_cloexec(&theirs, DRIVER_FD)?;
    let mut command = Command::new(path);
    command
        .env_clear()
        .envs(
            std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(|name| inherited(name, driver))),
        )
        .env(convoy_driver_sdk::wire::FD_VARIABLE, DRIVER_FD.to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let (parent, raw) = (rustix::process::getpid(), theirs.as_raw_fd());
    // SAFETY: between fork and exec only system calls are made; nothing is allocated or locked.
    unsafe {
        command.pre_exec(move || prepare(parent, raw));
    }
    let child = command.spawn()?;
    drop((placeholder, theirs));
    Ok(ChildProcess { child, socket })
}

/// In the child, before the program.
fn prepare(parent: Pid, socket: RawFd) -> io::Result<()> {
    confine::confine()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(parent) {
        // The host died before the kernel was told to care.
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    // SAFETY: the descriptor is open in the parent until after the fork.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    if socket.as_raw_fd() == DRIVER_FD {
        return Ok(rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?);
    }
    // SAFETY: whatever has that number in the child is closed by this; nothing here uses it.
    let mut target =
        std::mem::ManuallyDrop::new(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(DRIVER_FD) });
    Ok(rustix::io::dup2(socket, &mut target)?)
}

fn inherited(name: &str, driver: &str) -> bool {
    let own = driver.to_uppercase().replace(['-', '.'], "_");
    let credentials = INHERITED_BY.iter().any(|(of, prefix)| *of == driver && name.starts_with(prefix));
    INHERITED.contains(&name)
        || credentials
        || name.strip_prefix(&own).is_some_and(|rest| rest.starts_with('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_inherited() {
        assert!(inherited("PATH", "vfs") && inherited("MY_STORE_TOKEN", "my-store"));
        assert!(inherited("AWS_SECRET_ACCESS_KEY", "ebs"));
        for foreign in ["AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "VFSX", "VFS", "DOCKER_HOST"] {
            assert!(!inherited(foreign, "vfs"), "{foreign}");
        }
    }
}
