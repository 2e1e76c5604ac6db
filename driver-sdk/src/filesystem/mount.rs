//! Mounting and unmounting, in this mount namespace or another, never longer than the call.

#![allow(unsafe_code, reason = "a thread of its own leaves the others' working directory")]

use super::ext4;
use crate::command::{Command, CommandError};
use crate::message::setters;
use crate::{Context, DriverError, ErrorKind, Result};
use convoy_tree::{StableStorage, TreeResult};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How often a waiting call is asked whether to go on.
const CHECK_EVERY: Duration = Duration::from_millis(20);

/// How long a program that is started may hold what is open here, at most, and how often that is looked at.
const STARTING: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_millis(10);

/// What to mount where.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Mount {
    /// A device, or whatever the file system takes instead: `server:/export`, a directory for a bind mount.
    pub source: PathBuf,
    /// An existing directory; for a bind mount of a file, a file.
    pub target: PathBuf,
    /// `ext4`, `xfs`, `btrfs`, `tmpfs`, `nfs`, `cifs`, `fuse.sshfs`. Of a bind mount it means nothing.
    pub fs_type: String,
    /// As after `mount -o`: `ro,noatime,nouuid`; `bind` or `rbind` for a bind mount. `nosuid` and `nodev`
    /// hold unless `suid` and `dev` are given: what a container leaves on a volume must not serve other users
    /// of the host. Options are in messages: pass no secret, but have it in a file (`credentials=FILE`).
    pub options: String,
    /// The mount namespace to mount in (`/proc/<pid>/ns/mnt`).
    pub namespace: Option<PathBuf>,
}

impl Mount {
    /// A mount without options, in this mount namespace.
    pub fn new(source: impl Into<PathBuf>, target: impl Into<PathBuf>, fs_type: impl Into<String>) -> Self {
        let (source, target, fs_type) = (source.into(), target.into(), fs_type.into());
        Self { source, target, fs_type, options: String::new(), namespace: None }
    }

    setters! {
        options: String,
        namespace: Option<PathBuf>,
    }
}

/// Mounts a file system; with the option `remount`, changes the options of one that is mounted. Mounting what
/// is mounted already mounts it twice: look into [`crate::mountinfo::MountTable`] first. An ext4 of which
/// [`super::grow`] was cut off is grown before it is mounted to be written to.
///
/// # Errors
/// As [`super::grow`]; by the kernel's answer; `DeadlineExceeded` or `Cancelled` when the call ends first,
/// while the kernel goes on.
pub fn mount(mount: &Mount, context: &Context) -> Result<()> {
    let Mount { source, target, fs_type, options, namespace, .. } = mount.clone();
    let what = format!("mount {} ({fs_type}) at {}", source.display(), target.display());
    let remount = options.split(',').any(|option| option == "remount");
    if let Some(package) = helper(&fs_type) {
        return by_helper(mount, package, context);
    }
    let bind = options.split(',').find(|option| ["bind", "rbind"].contains(option)).filter(|_| !remount);
    let recursive = bind == Some("rbind");
    let bind = bind.is_some();
    let (flags, data) = split_options(&options);
    if !remount && !flags.contains(MountFlags::RDONLY) && fs_type == "ext4" && ext4::is_unfinished(&source) {
        ext4::grow_unmounted(&source, context)?;
    }
    let data =
        CString::new(data).map_err(|_| DriverError::invalid(format!("{what}: a NUL byte in {options:?}")))?;
    interruptible(what, namespace, context, move || {
        if remount {
            return rustix::mount::mount_remount(&target, flags, data.as_c_str());
        }
        if bind {
            if recursive {
                rustix::mount::mount_bind_recursive(&source, &target)?;
            } else {
                rustix::mount::mount_bind(&source, &target)?;
            }
            if flags.is_empty() {
                return Ok(());
            }
            // The kernel takes the flags of a bind mount in a second step alone.
            return rustix::mount::mount_remount(&target, flags | MountFlags::BIND, c"").inspect_err(|_| {
                let _ = rustix::mount::unmount(&target, UnmountFlags::DETACH);
            });
        }
        rustix::mount::mount(&source, &target, fs_type.as_str(), flags, data.as_c_str())
    })
}

/// The package of the program that mounts a file system which the kernel does not mount by itself.
fn helper(fs_type: &str) -> Option<&'static str> {
    match fs_type {
        "nfs" | "nfs4" => Some("nfs-common"),
        "cifs" | "smb3" => Some("cifs-utils"),
        "fuse" => Some("fuse3"),
        _ => fs_type.starts_with("fuse.").then_some("fuse3"),
    }
}

/// Mounts as `mount -t` does: by `mount.nfs` and its kin.
fn by_helper(mount: &Mount, package: &'static str, context: &Context) -> Result<()> {
    let Mount { source, target, fs_type, options, namespace, .. } = mount;
    // What comes later wins: as in `split_options`, `suid` and `dev` have to be asked for.
    let options = format!("nosuid,nodev,{options}");
    let options = options.trim_end_matches(',');
    let command = Command::new("mount").package("mount").args(["-t", fs_type, "-o", options, "--"]);
    let mounted = command.arg(source).arg(target).namespace(namespace.as_deref()).run(context);
    mounted.map(drop).map_err(|error| {
        let missing =
            matches!(&error, CommandError::Failed { stderr, .. } if stderr.contains("helper program"));
        let error = DriverError::from(error);
        if missing {
            error.hint(format!("install the package {package}, which has mount.{fs_type}"))
        } else {
            error
        }
    })
}

/// Unmounts what is mounted last at a path. Succeeds when nothing is mounted there.
///
/// What was written to it is on the disk afterwards, also when another mount namespace has a copy of the
/// mount and so keeps the file system going.
///
/// What is in use is tried for half a second: every program that is started anywhere in this process has,
/// until it runs, a copy of each file that is open here.
///
/// # Errors
/// `Busy` while somebody uses it, by the kernel's answer otherwise; `DeadlineExceeded` or `Cancelled` when
/// the call ends first, while the kernel goes on.
pub fn unmount(target: &Path, namespace: Option<&Path>, context: &Context) -> Result<()> {
    let what = format!("unmount {}", target.display());
    let path = target.to_owned();
    interruptible(what, namespace.map(Path::to_owned), context, move || {
        if let Err(error) = sync(&path) {
            // A file system that has shut down never succeeds, and is to be unmounted all the same.
            tracing::warn!(path = %path.display(), %error, "what was written last may not be on the disk");
        }
        let until = Instant::now() + STARTING;
        loop {
            match rustix::mount::unmount(&path, UnmountFlags::NOFOLLOW) {
                Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
                Err(Errno::BUSY) if Instant::now() < until => std::thread::sleep(AGAIN),
                result => return result,
            }
        }
    })
    .map_err(|error| match error.kind {
        ErrorKind::Busy => error.hint(format!("see who uses it with: fuser -vm {}", target.display())),
        _ => error,
    })
}

/// Makes what was written to a mounted file system durable. Nothing to do where none is mounted.
fn sync(mountpoint: &Path) -> TreeResult<()> {
    let found = rustix::fs::statx(CWD, mountpoint, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    let mounted = found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    if mounted { StableStorage::of(mountpoint)?.sync() } else { Ok(()) }
}

/// Runs a system call that may block for ever on a thread of its own, so that the call can end before it.
fn interruptible(
    what: String,
    namespace: Option<PathBuf>,
    context: &Context,
    call: impl FnOnce() -> rustix::io::Result<()> + Send + 'static,
) -> Result<()> {
    let (answer, answered) = channel();
    std::thread::Builder::new()
        .name("mount".to_owned())
        .spawn(move || {
            let entered = namespace.as_deref().map_or(Ok(()), enter);
            let result = entered.and_then(|()| call().map_err(std::io::Error::from));
            // Nobody listens any more if the call ended first.
            let _ = answer.send(result);
        })
        .map_err(|error| DriverError::io(format_args!("start a thread to {what}"), &error))?;
    loop {
        match answered.recv_timeout(CHECK_EVERY) {
            Ok(result) => return result.map_err(|error| failure(&what, &error)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(DriverError::internal(format!("{what}: the thread ended")));
            }
            Err(RecvTimeoutError::Timeout) => context.check().map_err(|mut error| {
                error.message = format!("{what}: {}", error.message);
                error.hint("the kernel may still finish it: try again, or see the kernel log if it does not")
            })?,
        }
    }
}

/// Moves this thread alone into a mount namespace.
fn enter(namespace: &Path) -> std::io::Result<()> {
    let file = File::open(namespace)?;
    // SAFETY: only the root and working directory cease to be shared with the other threads; no descriptors
    // do.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS)? };
    rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Mount))?;
    Ok(())
}

fn failure(what: &str, error: &std::io::Error) -> DriverError {
    let built = DriverError::io(what, error);
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NODEV) => DriverError::unavailable(built.message)
            .retryable(false)
            .hint("this kernel does not know the file system: load its module"),
        // The superblock is not there or not whole.
        Some(Errno::INVAL | Errno::UCLEAN | Errno::BADMSG) => {
            DriverError::data_loss(built.message).hint("the kernel log (dmesg) says what it did not accept")
        }
        _ => built,
    }
}

/// Options that are flags of the system call, and whether they set or clear; all others go to the file
/// system.
const FLAGS: &[(&str, MountFlags, bool)] = &[
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("lazytime", MountFlags::LAZYTIME, true),
];

fn split_options(options: &str) -> (MountFlags, String) {
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mut data = Vec::new();
    for option in options
        .split(',')
        .filter(|option| !option.is_empty() && !matches!(*option, "defaults" | "remount" | "bind" | "rbind"))
    {
        match FLAGS.iter().find(|(name, ..)| *name == option) {
            Some((_, flag, set)) => flags.set(*flag, *set),
            None => data.push(option),
        }
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_data_are_told_apart() {
        let (flags, data) = split_options("defaults,ro,noatime,nouuid,size=1m,rw");
        let harmless = MountFlags::NOSUID | MountFlags::NODEV;
        assert_eq!((flags, data.as_str()), (harmless | MountFlags::NOATIME, "nouuid,size=1m"));
        assert_eq!(split_options("bind,ro"), (harmless | MountFlags::RDONLY, String::new()));
        assert_eq!(split_options("").0, harmless, "what nobody asked for has no effect");
        assert_eq!(split_options("suid,noatime,dev").0, MountFlags::NOATIME);
        assert_eq!(split_options("dev").0, MountFlags::NOSUID);
    }
}
