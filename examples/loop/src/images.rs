//! The image files. Each is made under another name in the directory for unfinished work, and gets its own
//! when it is whole and durable.

use convoy_driver_sdk::protocol::Opened;
use convoy_driver_sdk::{DriverError, ErrorKind, Name, Result, atomic, reflink};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind as Io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Images hold what containers wrote, secrets too.
const DIR_MODE: u32 = 0o700;
const IMAGE_MODE: u32 = 0o600;
/// A snapshot is never written again: what compares two of them relies on it.
const SNAPSHOT_MODE: u32 = 0o400;

/// The directory of the images.
#[derive(Debug)]
pub(crate) struct Images {
    path: PathBuf,
}

/// Bytes of the file system with the images.
pub(crate) struct Space {
    pub(crate) total: u64,
    pub(crate) free: u64,
}

/// For `map_err`: what was being done, and where.
pub(crate) fn io<'a>(what: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> DriverError + 'a {
    move |error| DriverError::io(format_args!("{what} {}", path.display()), &error)
}

impl Images {
    /// Makes the directories that are missing.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        for dir in ["volumes", "snapshots", "work"] {
            let dir = path.join(dir);
            atomic::create_dir(&dir, DIR_MODE).map_err(io("make", &dir))?;
        }
        // As the kernel names it: mounts and loop devices are found by their paths.
        let path = path.canonicalize().map_err(io("find", path))?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn volume(&self, name: &Name) -> PathBuf {
        self.path.join("volumes").join(format!("{name}.img"))
    }

    fn snapshots(&self, volume: &Name) -> PathBuf {
        self.path.join("snapshots").join(volume.as_str())
    }

    pub(crate) fn snapshot(&self, volume: &Name, snapshot: &Name) -> PathBuf {
        self.snapshots(volume).join(format!("{snapshot}.img"))
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    pub(crate) fn space(&self) -> Result<Space> {
        let found =
            rustix::fs::statvfs(&self.path).map_err(|error| io("look at", &self.path)(error.into()))?;
        Ok(Space { total: found.f_blocks * found.f_frsize, free: found.f_bavail * found.f_frsize })
    }

    /// An empty image among the unfinished work.
    pub(crate) fn make(&self, work: &str, size: u64) -> Result<PathBuf> {
        let path = self.work().join(work);
        let mut options = OpenOptions::new();
        let file =
            options.write(true).create_new(true).mode(IMAGE_MODE).open(&path).map_err(io("make", &path))?;
        file.set_len(size).map_err(io("size", &path)).inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        Ok(path)
    }

    /// A copy of an image among the unfinished work: the same blocks, nothing is moved. Not durable yet.
    pub(crate) fn share(&self, source: &Path, work: &str, snapshot: bool) -> Result<PathBuf> {
        let path = self.work().join(work);
        reflink::clone_file(source, &path, if snapshot { SNAPSHOT_MODE } else { IMAGE_MODE }).map_err(
            |error| match error.kind {
                ErrorKind::NotFound => missing(source),
                _ => error,
            },
        )?;
        Ok(path)
    }

    /// Gives a finished image the place of a volume, where nothing is yet.
    pub(crate) fn place_volume(&self, work: &Path, name: &Name) -> Result<()> {
        sync(work)?;
        reflink::place(work, &self.volume(name))
    }

    /// Gives a finished image the place of a volume in one step; what was there is gone.
    pub(crate) fn replace_volume(&self, work: &Path, name: &Name) -> Result<()> {
        sync(work)?;
        rename(work, &self.volume(name))
    }

    /// Gives a finished image the place of a snapshot. What is there is in no record: nobody was ever told of
    /// it.
    pub(crate) fn place_snapshot(&self, work: &Path, volume: &Name, snapshot: &Name) -> Result<()> {
        sync(work)?;
        let dir = self.snapshots(volume);
        atomic::create_dir(&dir, DIR_MODE).map_err(io("make", &dir))?;
        rename(work, &self.snapshot(volume, snapshot))
    }

    /// Removes a snapshot, durably; succeeds when it is gone.
    pub(crate) fn remove_snapshot(&self, volume: &Name, snapshot: &Name) -> Result<()> {
        let path = self.snapshot(volume, snapshot);
        match atomic::remove(&path) {
            Err(error) if error.kind() == Io::NotFound => Ok(()),
            other => other.map_err(io("remove", &path)),
        }
    }

    /// Removes an image and all its snapshots, durably; succeeds when they are gone.
    pub(crate) fn remove_all(&self, volume: &Name) -> Result<()> {
        let image = self.volume(volume);
        atomic::remove(&image).map_err(io("remove", &image))?;
        let dir = self.snapshots(volume);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != Io::NotFound => Err(io("remove", &dir)(error)),
            _ => Ok(()),
        }
    }

    /// Removes the snapshots of a volume that are in no record: cut off while they were made or deleted.
    pub(crate) fn remove_unrecorded(
        &self,
        volume: &Name,
        known: impl Fn(&Name) -> bool,
    ) -> Result<Vec<String>> {
        let dir = self.snapshots(volume);
        let mut removed = Vec::new();
        let entries = match std::fs::read_dir(&dir) {
            Err(error) if error.kind() == Io::NotFound => return Ok(removed),
            other => other.map_err(io("read", &dir))?,
        };
        for entry in entries {
            let file = entry.map_err(io("read", &dir))?.file_name();
            let name = file
                .to_str()
                .and_then(|file| file.strip_suffix(".img"))
                .and_then(|stem| Name::parse(stem).ok());
            if let Some(name) = name.filter(|name| !known(name)) {
                self.remove_snapshot(volume, &name)?;
                removed.push(name.to_string());
            }
        }
        Ok(removed)
    }

    /// Removes what is among the unfinished work.
    pub(crate) fn clear_work(&self, opened: &mut Opened) -> Result<()> {
        let work = self.work();
        let mut removed = 0;
        for entry in std::fs::read_dir(&work).map_err(io("read", &work))? {
            let path = entry.map_err(io("read", &work))?.path();
            match std::fs::remove_file(&path).map_err(io("remove", &path)) {
                Ok(()) => removed += 1,
                Err(error) => opened.warnings.push(error.to_string()),
            }
        }
        if removed > 0 {
            opened.recovered.push(format!("removed {removed} unfinished images"));
        }
        Ok(())
    }
}

/// The length of an image.
pub(crate) fn length(image: &Path) -> Result<u64> {
    match std::fs::metadata(image) {
        Ok(found) => Ok(found.len()),
        Err(error) if error.kind() == Io::NotFound => Err(missing(image)),
        Err(error) => Err(io("look at", image)(error)),
    }
}

/// Lengthens an image, durably.
pub(crate) fn lengthen(image: &Path, size: u64) -> Result<()> {
    let file = OpenOptions::new().write(true).open(image).map_err(io("open", image))?;
    file.set_len(size).and_then(|()| file.sync_all()).map_err(io("lengthen", image))
}

/// Puts an image on stable storage.
pub(crate) fn sync(image: &Path) -> Result<()> {
    File::open(image).and_then(|file| file.sync_all()).map_err(io("sync", image))
}

pub(crate) fn discard(work: &Path) {
    match std::fs::remove_file(work) {
        Err(error) if error.kind() != Io::NotFound => {
            tracing::warn!(path = %work.display(), %error, "unfinished work stays until the next start");
        }
        _ => {}
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(io("put an image at", to))?;
    let dir = to.parent().unwrap_or(Path::new("/"));
    atomic::sync_dir(dir).map_err(io("sync", dir))
}

fn missing(image: &Path) -> DriverError {
    DriverError::data_loss(format!("the image {} is gone", image.display()))
        .hint("is the file system with the images (loop.path) mounted?")
}
