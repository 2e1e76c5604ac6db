//! Keeping a volume to its size, where the file system can: by a project of its own on ext4 and XFS, as a
//! subvolume on btrfs.
//!
//! The directory itself says which project is its own: it has it before the project gets a limit, and the
//! limit is taken away before the directory goes. So whatever is cut off leaves no limit that nobody knows
//! of, and no two directories share a project: what a volume goes back to is another directory, with another
//! project. The directories of snapshots are in none of them.
//!
//! Linux lets the owner of a file, root in a container too, put it into any project. So which project is the
//! directory's own is written into an attribute that only root of the host can change, and a directory that
//! is in another one has none: nobody can have the limit of another volume changed or taken away.

mod kernel;

use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use convoy_driver_sdk::tree::Project;
use nix::libc;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, statfs};
use nix::unistd::syncfs;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::error::Obstacle;
use crate::project;

/// The numbers of projects that volumes get.
const OURS: RangeInclusive<u32> = 0x4000_0000..=0x7fff_ffff;
/// The attribute of a volume's directory that says which project is its own.
const OWN: &str = "trusted.convoy.project";
/// How many numbers are tried until one is free.
const TRIES: u32 = 1000;
/// Limits are multiples of this, the largest block of a file system.
const GRAIN: u64 = 64 << 10;
/// More no file system is.
const MOST: u64 = 1 << 62;

/// How a file system keeps a directory to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotas {
    Projects,
    /// Quota groups of subvolumes.
    Subvolumes,
}

/// A size as the file system can keep it.
fn rounded(size: u64) -> u64 {
    size.min(MOST).next_multiple_of(GRAIN)
}

impl Quotas {
    /// What the file system of a directory has, be it in force or not.
    fn known(dir: &Path) -> Option<Self> {
        match statfs(dir).ok()?.filesystem_type() {
            EXT4_SUPER_MAGIC | XFS_SUPER_MAGIC => Some(Self::Projects),
            BTRFS_SUPER_MAGIC => Some(Self::Subvolumes),
            _ => None,
        }
    }

    /// How directories that are made in `dir` can be kept to a limit.
    pub(crate) fn of(dir: &Path) -> Result<Self, Obstacle> {
        let quotas = Self::known(dir).ok_or(Obstacle::FileSystem)?;
        let file = File::open(dir)?;
        match quotas {
            Self::Projects => {
                if !kernel::projects_are_limited(&file)? {
                    return Err(Obstacle::ProjectsOff);
                }
                let project = Project::of(&file);
                if project.inherited && project.id != 0 {
                    return Err(Obstacle::OtherProject(project.id));
                }
            }
            Self::Subvolumes if !kernel::groups_of(&file)?.is_dir() => return Err(Obstacle::SubvolumesOff),
            Self::Subvolumes => {}
        }
        Ok(quotas)
    }

    /// Makes an empty directory that can be limited. It has no limit yet.
    pub(crate) fn make(self, dir: &Path) -> io::Result<()> {
        match self {
            Self::Projects => {
                fs::DirBuilder::new().mode(0o700).create(dir)?;
                claim(&File::open(dir)?)
            }
            Self::Subvolumes => {
                let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
                    return Err(io::ErrorKind::InvalidInput.into());
                };
                kernel::create_subvolume(File::open(parent)?, name)?;
                fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            }
        }
    }

    fn usage(self, dir: &File) -> io::Result<Option<kernel::Usage>> {
        match self {
            Self::Projects => own_project(dir).map(|own| kernel::project_usage(dir, own.id)).transpose(),
            Self::Subvolumes if kernel::is_subvolume(dir)? => kernel::subvolume_usage(dir).map(Some),
            Self::Subvolumes => Ok(None),
        }
    }

    /// The bytes in a directory that can be limited.
    ///
    /// # Errors
    /// [`Obstacle::MadeWithout`] for another.
    pub(crate) fn used(self, dir: &Path) -> Result<u64, Obstacle> {
        let dir = open(dir)?;
        if self == Self::Subvolumes {
            // It counts what is on the disk.
            syncfs(&dir).map_err(io::Error::from)?;
        }
        Ok(self.usage(&dir)?.ok_or(Obstacle::MadeWithout)?.bytes)
    }

    /// Limits a directory that can be limited, durably with what is synced next.
    pub(crate) fn limit(self, dir: &Path, size: u64) -> Result<(), Obstacle> {
        let dir = open(dir)?;
        let limit = Some(rounded(size));
        match self {
            Self::Projects => {
                let own = own_project(&dir).ok_or(Obstacle::MadeWithout)?;
                kernel::limit_project(&dir, own.id, limit)?;
            }
            Self::Subvolumes if kernel::is_subvolume(&dir)? => {
                kernel::limit_subvolume(&dir, limit)?;
                // A sync of files alone leaves it out.
                syncfs(&dir).map_err(io::Error::from)?;
            }
            Self::Subvolumes => return Err(Obstacle::MadeWithout),
        }
        Ok(())
    }
}

/// Whether a volume's directory in `place` is kept to `size` at this moment.
pub(crate) fn enforced(place: &Path, dir: &Path, size: u64) -> Result<(), Obstacle> {
    let quotas = Quotas::of(place)?;
    match quotas.usage(&open(dir)?)?.and_then(|usage| usage.limit) {
        None => Err(Obstacle::MadeWithout),
        Some(limit) if limit != rounded(size) => Err(Obstacle::Differs(limit)),
        Some(_) => Ok(()),
    }
}

/// The project of a directory that has one of ours; 0 for none.
pub(crate) fn own_id(dir: &Path) -> u32 {
    open(dir).ok().and_then(|dir| own_project(&dir)).map_or(0, |own| own.id)
}

/// A directory and no link: what an administrator has linked to is elsewhere, and has what limit they gave
/// it.
fn open(dir: &Path) -> Result<File, Obstacle> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    File::options().read(true).custom_flags(flags).open(dir).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP | libc::ENOTDIR) => Obstacle::MadeWithout,
        _ => error.into(),
    })
}

fn own_project(dir: &File) -> Option<Project> {
    let found = Some(Project::of(dir)).filter(|project| project.inherited && OURS.contains(&project.id))?;
    let mut value = [0_u8; 16];
    let length = rustix::fs::fgetxattr(dir, OWN, &mut value).ok()?;
    (value.get(..length)? == found.id.to_string().as_bytes()).then_some(found)
}

/// Takes from a directory what says which project is its own: it is that of where it was copied from.
pub(crate) fn disown(dir: &Path) -> io::Result<()> {
    match rustix::fs::removexattr(dir, OWN) {
        Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Gives an empty directory a project that nothing else has.
fn claim(dir: &File) -> io::Result<()> {
    let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    for number in (0..TRIES).map(|further| moment.wrapping_add(further)) {
        let id = OURS.start() | (number & (OURS.end() - OURS.start()));
        if kernel::project_usage(dir, id)? != kernel::Usage::default() {
            continue;
        }
        Project { id, inherited: true }.give(dir)?;
        // Another process may have taken it in the same moment: then both take another.
        if kernel::project_usage(dir, id)?.files == 1 {
            let number = id.to_string();
            return Ok(rustix::fs::fsetxattr(dir, OWN, number.as_bytes(), XattrFlags::empty())?);
        }
    }
    Err(io::ErrorKind::QuotaExceeded.into())
}

/// Takes the limit from a directory that is about to be removed.
pub(crate) fn release(dir: &Path) {
    let (Some(quotas), Ok(dir)) = (Quotas::known(dir), open(dir)) else { return };
    let released = (|| match quotas {
        Quotas::Projects => match own_project(&dir) {
            Some(own) => kernel::limit_project(&dir, own.id, None),
            None => Ok(()),
        },
        Quotas::Subvolumes if kernel::is_subvolume(&dir)? && kernel::groups_of(&dir)?.is_dir() => {
            kernel::limit_subvolume(&dir, None)?;
            // As newer kernels do with the subvolume.
            let _ = kernel::remove_group(&dir);
            Ok(())
        }
        Quotas::Subvolumes => Ok(()),
    })();
    if let Err(error) = released {
        tracing::warn!(%error, "cannot take away the limit of what is removed");
    }
}

/// Whether a directory may be replaced by one with a limit: it is in no project but one of ours.
pub(crate) fn is_free(dir: &Path) -> bool {
    let id = project::of(dir).id;
    id == 0 || OURS.contains(&id)
}
