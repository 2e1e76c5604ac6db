//! The backups at a destination as one tree of directories, for whatever shows it: FUSE, WebDAV.
//!
//! ```text
//! volumes/V/2026-11-30T06:16:06Z/     what is in the backup
//! volumes/V/latest                    a symbolic link to the newest
//! volumes/V/2026-11-30T06:16:06Z/disk.img, files/     where it is of a block device
//! ```
//!
//! What a list of backups says is known from the beginning. A backup is opened when somebody enters it, and
//! closed when others were entered since. All calls block.

mod catalog;
mod named;
mod opened;

use std::sync::Arc;
use std::time::SystemTime;

use convoy_backup::{BackupError, BackupKind, BackupResult, Browse, Node, ReadAt};
use convoy_tree::{Entry, Kind, RelPath};

use crate::MountError;
use catalog::Catalog;
use named::{directory, link};
use opened::{Content, OpenBackup, OpenBackups};

pub use catalog::Listed;
pub use opened::OPEN_MOST;

/// The directory in which the volumes are.
const VOLUMES: &[u8] = b"volumes";
/// The link to the newest backup of a volume.
const LATEST: &str = "latest";
/// The device in a backup of one.
const IMAGE: &[u8] = b"disk.img";
/// The files on that device.
const FILES: &[u8] = b"files";

/// Opens what a [`View`] shows. Its calls block.
pub trait Shelf: std::fmt::Debug + Send + Sync + 'static {
    /// Opens the backup of a tree.
    ///
    /// # Errors
    /// As [`Engine::browse`](convoy_backup::Engine::browse).
    fn open_tree(&self, listed: &Listed) -> BackupResult<Arc<dyn Browse>>;

    /// Opens the backup of a device.
    ///
    /// # Errors
    /// As [`Engine::open_image`](convoy_backup::Engine::open_image).
    fn open_image(&self, listed: &Listed) -> BackupResult<Arc<dyn ReadAt>>;

    /// Whether [`Self::open_files`] can do anything.
    fn has_files(&self) -> bool;

    /// Opens the files on a device.
    ///
    /// # Errors
    /// [`MountError`].
    fn open_files(&self, image: Arc<dyn ReadAt>) -> Result<Arc<dyn Browse>, MountError>;
}

/// Where something is in a [`View`]. Backups and volumes have numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// The root of all.
    Top,
    /// The directory of volumes.
    Volumes,
    /// A volume's directory of backups.
    Volume(usize),
    /// The link to its newest one.
    Latest(usize),
    /// A backup: the root of its tree, or the directory of its device.
    Backup(usize),
    /// The device in a backup.
    Image(usize),
    /// Something in a backup's tree, or on its device.
    File(usize, RelPath),
}

/// What two names of one file have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Same {
    /// The place of its first name.
    Place(Place),
    /// The number of its inode on a backup's device.
    Inode(usize, u64),
}

/// Something that is there.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where.
    pub place: Place,
    /// Its metadata. The path is that in its backup.
    pub entry: Entry,
    /// Whether the metadata is the real one: that of a backup's root is not known before it is opened.
    pub known: bool,
    /// Which file it is.
    pub same: Same,
}

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// At the entry with this number.
    Number(usize),
    /// Behind this path.
    After(RelPath),
    /// Nowhere.
    End,
}

/// Names with what they are of, and where the listing goes on behind them.
pub type Page = (Vec<(Vec<u8>, Found)>, Cursor);

/// A file that is open for reading. Its backup stays open with it.
#[derive(Debug)]
pub struct OpenFile {
    /// Its data.
    pub data: Arc<dyn ReadAt>,
    _backup: Arc<OpenBackup>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct View {
    catalog: Catalog,
    backups: OpenBackups,
    top: Place,
    made: SystemTime,
}

impl View {
    /// A view of these backups. Those with names that no directory can have are left out, and logged.
    #[must_use]
    pub fn new(listed: Vec<Listed>, shelf: Arc<dyn Shelf>) -> Self {
        Self::at(Place::Top, listed, shelf)
    }

    /// A view of one backup: its root is the root.
    ///
    /// # Errors
    /// Those of the store: it is opened at once.
    pub fn of_backup(listed: Listed, shelf: Arc<dyn Shelf>) -> BackupResult<Self> {
        let view = Self::at(Place::Backup(0), vec![listed], shelf);
        view.backups.open(0)?;
        Ok(view)
    }

    fn at(top: Place, listed: Vec<Listed>, shelf: Arc<dyn Shelf>) -> Self {
        let (catalog, listed) = Catalog::new(listed);
        Self { catalog, backups: OpenBackups::new(listed, shelf), top, made: SystemTime::now() }
    }

    /// The root.
    pub fn top(&self) -> Place {
        self.top.clone()
    }

    /// How many backups are open.
    pub fn open_count(&self) -> usize {
        self.backups.count()
    }

    /// A place in words, for messages.
    pub fn name(&self, place: &Place) -> String {
        let backup = |number: usize| {
            let listed = self.backups.listed(number);
            match (&self.top, listed) {
                (Place::Top, Some(listed)) => {
                    format!("volumes/{}/{}", listed.volume, self.catalog.name(number))
                }
                _ => String::new(),
            }
        };
        match place {
            Place::Top => "/".to_owned(),
            Place::Volumes => "volumes".to_owned(),
            Place::Volume(number) => format!("volumes/{}", self.catalog.volume_name(*number)),
            Place::Latest(number) => format!("volumes/{}/{LATEST}", self.catalog.volume_name(*number)),
            Place::Backup(number) => backup(*number),
            Place::Image(number) => format!("{}/disk.img", backup(*number)),
            Place::File(number, path) => format!("{}/{}", backup(*number), path.shown()),
        }
    }

    /// Makes sure that the metadata of a place is known: see [`Found::known`].
    ///
    /// # Errors
    /// Those of the store.
    pub fn learn(&self, place: &Place) -> BackupResult<()> {
        match place {
            Place::Backup(number) if self.kind(*number) == Some(BackupKind::Tree) => {
                self.backups.open(*number).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// What is at a place.
    ///
    /// # Errors
    /// [`BackupError::NoPath`]; those of the store.
    pub fn look(&self, place: &Place) -> BackupResult<Found> {
        let made = |number: usize| self.backups.listed(number).and_then(Listed::made).unwrap_or(self.made);
        let (entry, known) = match place {
            Place::Top | Place::Volumes => (directory(self.made), true),
            Place::Volume(number) => {
                (directory(self.catalog.latest(*number).map_or(self.made, |(latest, _)| made(latest))), true)
            }
            Place::Latest(number) => {
                let (latest, name) = self.catalog.latest(*number).ok_or_else(|| self.nothing(place))?;
                (link(name, made(latest)), true)
            }
            Place::Backup(number) => match (self.kind(*number), self.backups.root(*number)) {
                (None, _) => return Err(self.nothing(place)),
                (Some(BackupKind::Block), _) => (directory(made(*number)), true),
                (Some(BackupKind::Tree), Some(root)) => (root.clone(), true),
                (Some(BackupKind::Tree), None) => (directory(made(*number)), false),
            },
            Place::Image(number) => {
                let open = self.backups.open(*number)?;
                let Content::Device { image, .. } = &open.content else { return Err(self.nothing(place)) };
                (named::image(image.size(), made(*number)), true)
            }
            Place::File(number, path) => {
                let open = self.backups.open(*number)?;
                let node = self.tree(*number, &open)?.stat(path)?;
                return Ok(found(*number, &open, node));
            }
        };
        Ok(Found { place: place.clone(), entry, known, same: Same::Place(place.clone()) })
    }

    /// What has a name in a directory; `None` if nothing has.
    ///
    /// # Errors
    /// Those of the store; [`BackupError::NotDirectory`].
    pub fn lookup(&self, directory: &Place, name: &[u8]) -> BackupResult<Option<Found>> {
        let text = std::str::from_utf8(name).unwrap_or_default();
        let place = match directory {
            Place::Top => (name == VOLUMES).then_some(Place::Volumes),
            Place::Volumes => self.catalog.volume(text).map(Place::Volume),
            Place::Volume(number) if text == LATEST => {
                self.catalog.latest(*number).map(|_| Place::Latest(*number))
            }
            Place::Volume(number) => self.catalog.backup(*number, text).map(Place::Backup),
            Place::Backup(number) if self.kind(*number) == Some(BackupKind::Block) => match name {
                IMAGE => Some(Place::Image(*number)),
                FILES if self.backups.has_files() => Some(Place::File(*number, RelPath::root())),
                _ => None,
            },
            Place::Backup(number) => RelPath::root().join(name).ok().map(|path| Place::File(*number, path)),
            Place::File(number, path) => path.join(name).ok().map(|path| Place::File(*number, path)),
            Place::Latest(_) | Place::Image(_) => None,
        };
        match place.map(|place| self.look(&place)) {
            None | Some(Err(BackupError::NoPath { .. })) => Ok(None),
            Some(found) => found.map(Some),
        }
    }

    /// At most `limit` entries of a directory.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub fn list(&self, directory: &Place, from: &Cursor, limit: usize) -> BackupResult<Page> {
        let in_tree = match directory {
            Place::Backup(number) if self.kind(*number) == Some(BackupKind::Tree) => {
                Some((*number, RelPath::root()))
            }
            Place::File(number, path) => Some((*number, path.clone())),
            _ => None,
        };
        match in_tree {
            Some((number, path)) => self.list_tree(number, &path, from, limit),
            None => self.list_named(directory, from, limit),
        }
    }

    fn list_tree(&self, number: usize, path: &RelPath, from: &Cursor, limit: usize) -> BackupResult<Page> {
        let after = match from {
            Cursor::Number(_) => None,
            Cursor::After(path) => Some(path),
            Cursor::End => return Ok((Vec::new(), Cursor::End)),
        };
        let open = self.backups.open(number)?;
        let nodes = self.tree(number, &open)?.list(path, after, limit)?;
        let next = match nodes.last().filter(|_| nodes.len() >= limit) {
            Some(last) => Cursor::After(last.entry.path.clone()),
            None => Cursor::End,
        };
        let named = |node: Node| {
            let name = node.entry.path.split().map(|(_, name)| name.to_vec()).unwrap_or_default();
            (name, found(number, &open, node))
        };
        Ok((nodes.into_iter().map(named).collect(), next))
    }

    fn list_named(&self, directory: &Place, from: &Cursor, limit: usize) -> BackupResult<Page> {
        let Cursor::Number(first) = *from else { return Ok((Vec::new(), Cursor::End)) };
        let mut page = Vec::new();
        for number in first..first.saturating_add(limit) {
            let child = match directory {
                Place::Top => (number == 0).then(|| (VOLUMES.to_vec(), Place::Volumes)),
                Place::Volumes => {
                    let name = self.catalog.volume_name(number);
                    (!name.is_empty()).then(|| (name.as_bytes().to_vec(), Place::Volume(number)))
                }
                Place::Volume(volume) => match (number, self.catalog.latest(*volume)) {
                    (_, None) => None,
                    (0, Some(_)) => Some((LATEST.into(), Place::Latest(*volume))),
                    (_, Some(_)) => self
                        .catalog
                        .nth(*volume, number - 1)
                        .map(|backup| (self.catalog.name(backup).as_bytes().to_vec(), Place::Backup(backup))),
                },
                Place::Backup(backup) => match number {
                    0 => Some((IMAGE.to_vec(), Place::Image(*backup))),
                    1 if self.backups.has_files() => {
                        Some((FILES.to_vec(), Place::File(*backup, RelPath::root())))
                    }
                    _ => None,
                },
                _ => return Err(BackupError::NotDirectory { path: RelPath::root(), found: "a file" }),
            };
            let Some((name, place)) = child else { return Ok((page, Cursor::End)) };
            // What is on a device is not mounted before somebody enters it.
            let found = if matches!(place, Place::File(..)) {
                let (entry, same) = (named::directory(self.made), Same::Place(place.clone()));
                Found { place, entry, known: false, same }
            } else {
                self.look(&place)?
            };
            page.push((name, found));
        }
        Ok((page, Cursor::Number(first.saturating_add(limit))))
    }

    /// Opens a file.
    ///
    /// # Errors
    /// [`BackupError::NotFile`]; those of the store.
    pub fn open(&self, place: &Place) -> BackupResult<OpenFile> {
        let (data, backup) = match place {
            Place::Image(number) => {
                let open = self.backups.open(*number)?;
                let Content::Device { image, .. } = &open.content else { return Err(self.nothing(place)) };
                (Arc::clone(image), open)
            }
            Place::File(number, path) => {
                let open = self.backups.open(*number)?;
                (Arc::from(self.tree(*number, &open)?.open(path)?), open)
            }
            _ => return Err(BackupError::NotFile { path: RelPath::root(), found: "a directory" }),
        };
        Ok(OpenFile { data, _backup: backup })
    }

    /// Closes every backup; of files that are open the data stays open.
    pub fn close(&self) {
        self.backups.close();
    }

    fn kind(&self, number: usize) -> Option<BackupKind> {
        self.backups.listed(number).map(|listed| listed.kind)
    }

    /// The tree of a backup, or that on its device.
    fn tree(&self, number: usize, open: &OpenBackup) -> BackupResult<Arc<dyn Browse>> {
        match &open.content {
            Content::Tree(tree) => Ok(Arc::clone(tree)),
            Content::Device { image, files } => {
                let mut files = files.lock();
                if let Some(files) = &*files {
                    return Ok(Arc::clone(files));
                }
                let opened = self.backups.open_files(Arc::clone(image)).map_err(|error| match error {
                    MountError::Open(error) => error,
                    error => BackupError::Io {
                        action: "look into",
                        what: self.name(&Place::Image(number)),
                        source: std::io::Error::other(error),
                    },
                })?;
                *files = Some(Arc::clone(&opened));
                Ok(opened)
            }
        }
    }

    fn nothing(&self, place: &Place) -> BackupError {
        let path = match place {
            Place::File(_, path) => path.clone(),
            _ => RelPath::root(),
        };
        BackupError::NoPath { place: self.name(place), path, nearest: RelPath::root() }
    }
}

/// A node of a backup. A manifest does not count the names of a file. Where it has hard links at all each file
/// has two: then programs compare the numbers of inodes, and find those that are one file.
fn found(number: usize, open: &OpenBackup, node: Node) -> Found {
    let place = Place::File(number, node.entry.path.clone());
    let mut entry = node.entry;
    let on_device = matches!(open.content, Content::Device { .. });
    let same = match node.first_name {
        Some(first) => Same::Place(Place::File(number, first)),
        None if on_device && entry.nlink > 1 && !entry.is_dir() => Same::Inode(number, entry.ino),
        None => Same::Place(place.clone()),
    };
    if !on_device {
        entry.nlink = if entry.is_dir() || open.hard_links { 2 } else { 1 };
    }
    Found { place, entry, known: true, same }
}

/// One name in a tree, or none.
fn is_name(name: &str) -> bool {
    name.len() <= 255 && RelPath::root().join(name.as_bytes()).is_ok()
}

/// Whether this is a symbolic link, and to what.
#[must_use]
pub fn target(entry: &Entry) -> Option<&[u8]> {
    match &entry.kind {
        Kind::Symlink { target } => Some(target.as_bytes()),
        _ => None,
    }
}

/// A directory, for tests.
#[cfg(test)]
pub(crate) fn named_directory() -> Entry {
    directory(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
