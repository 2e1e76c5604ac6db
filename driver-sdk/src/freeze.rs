//! Holding a file system still while something below it is copied.

#![allow(unsafe_code, reason = "an ioctl that has no safe call")]

use crate::{DriverError, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, ioctl, opcode};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

const FIFREEZE: Opcode = opcode::read_write::<i32>(b'X', 119);
const FITHAW: Opcode = opcode::read_write::<i32>(b'X', 120);

/// A frozen file system: writers wait. It thaws when this is dropped, and by itself when a time limit passes,
/// so that a snapshot that hangs does not hang the containers with it.
///
/// The kernel does not thaw when the process dies: call [`thaw`] for every volume when a driver opens.
#[derive(Debug)]
pub struct Frozen {
    mountpoint: PathBuf,
    done: Option<Sender<()>>,
    watch: Option<JoinHandle<bool>>,
}

impl Frozen {
    /// Flushes and freezes the file system mounted there for at most `limit`.
    ///
    /// # Errors
    /// `Busy` if it is frozen already, `Unsupported` if it cannot be.
    pub fn freeze(mountpoint: &Path, limit: Duration) -> Result<Self> {
        let dir = open(mountpoint)?;
        command::<FIFREEZE>(&dir).map_err(|error| match error {
            Errno::BUSY => {
                DriverError::busy(format!("the file system at {} is frozen already", mountpoint.display()))
            }
            Errno::OPNOTSUPP | Errno::NOTTY => {
                DriverError::unsupported(format_args!("freezing the file system at {}", mountpoint.display()))
            }
            error => DriverError::io(format_args!("freeze {}", mountpoint.display()), &error.into()),
        })?;
        let (done, finished) = channel();
        let path = mountpoint.to_owned();
        let watch = std::thread::Builder::new().name("thaw".to_owned()).spawn(move || {
            let in_time = !matches!(finished.recv_timeout(limit), Err(RecvTimeoutError::Timeout));
            if !in_time {
                tracing::warn!(path = %path.display(), ?limit, "thawed a file system: its snapshot took too long");
            }
            if let Err(error) = command::<FITHAW>(&dir) {
                tracing::error!(path = %path.display(), %error, "cannot thaw a file system");
            }
            in_time
        });
        match watch {
            Ok(watch) => Ok(Self { mountpoint: mountpoint.to_owned(), done: Some(done), watch: Some(watch) }),
            Err(error) => {
                thaw(mountpoint)?;
                Err(DriverError::io("start the thread that thaws", &error))
            }
        }
    }

    /// Lets writers go on.
    ///
    /// # Errors
    /// `Busy` if the time limit had passed: what was copied may not be of one moment.
    pub fn thaw(mut self) -> Result<()> {
        if self.release() {
            return Ok(());
        }
        Err(DriverError::busy(format!(
            "the file system at {} could not be held still long enough",
            self.mountpoint.display()
        )))
    }

    fn release(&mut self) -> bool {
        drop(self.done.take());
        self.watch.take().is_none_or(|watch| watch.join().unwrap_or(false))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.release();
    }
}

/// Thaws what a crash left frozen; a file system that is not frozen is left as it is.
///
/// # Errors
/// When the directory cannot be opened or the kernel refuses.
pub fn thaw(mountpoint: &Path) -> Result<()> {
    match command::<FITHAW>(&open(mountpoint)?) {
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOTTY) => Ok(()),
        Err(error) => Err(DriverError::io(format_args!("thaw {}", mountpoint.display()), &error.into())),
    }
}

/// Both commands take no argument and change no memory of this process.
fn command<const OPCODE: Opcode>(dir: &OwnedFd) -> rustix::io::Result<()> {
    // SAFETY: `FIFREEZE` and `FITHAW` are given with the sizes of `linux/fs.h`; the kernel ignores the
    // argument.
    unsafe { ioctl(dir, IntegerSetter::<OPCODE>::new_usize(0)) }
}

fn open(mountpoint: &Path) -> Result<OwnedFd> {
    rustix::fs::open(mountpoint, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| DriverError::io(format_args!("open {}", mountpoint.display()), &error.into()))
}
