//! The record store: one small JSON file a volume, in a directory.
//!
//! What is acknowledged is durable (see [`crate::atomic`]). A record that cannot be read is reported as
//! damaged, with its name, and left as it is: it never counts as missing or as empty.

use crate::{DriverError, ErrorKind, Name, atomic};
use rustix::fs::{Mode, OFlags};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// Records are readable by their owner only: a driver may keep what others should not see.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Why a record could not be read, written or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum RecordError {
    /// The file is there but is not such a record.
    #[error("the record {} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// A record of that name exists already.
    #[error("the record {} exists already", path.display())]
    Exists { path: PathBuf },
    /// A value that JSON cannot hold.
    #[error("cannot write the record {}: {source}", path.display())]
    Unwritable { path: PathBuf, source: serde_json::Error },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl From<RecordError> for DriverError {
    fn from(error: RecordError) -> Self {
        let text = error.to_string();
        match error {
            RecordError::Damaged { path, .. } => Self::new(ErrorKind::DataLoss, text).hint(format!(
                "the file was left as it is: put a good copy of {} there, or move it away to forget the \
                 volume",
                path.display()
            )),
            RecordError::Exists { .. } => Self::new(ErrorKind::AlreadyExists, text),
            RecordError::Unwritable { .. } => Self::new(ErrorKind::Internal, text),
            RecordError::Io { action, path, source } => {
                Self::io(format_args!("cannot {action} {}", path.display()), &source)
            }
        }
    }
}

/// Every record of a store, as [`RecordStore::load_all`] found them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listing<T> {
    /// Every record, by name, readable or not.
    pub records: BTreeMap<Name, Result<T, RecordError>>,
    /// Files that look like records of this store but whose names no volume can have.
    pub misnamed: Vec<PathBuf>,
}

/// A directory of records of one type: `<prefix><name><suffix>`.
///
/// ```no_run
/// use convoy_driver_sdk::records::RecordStore;
/// use convoy_driver_sdk::{Name, Timestamp};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Record {
///     created: Timestamp,
///     deleting: bool,
/// }
///
/// let records = RecordStore::<Record>::volumes("/var/lib/rancher/convoy/scratch", "scratch")?;
/// let name = Name::from_static("vol1");
/// records.insert(&name, &Record { created: Timestamp::now(), deleting: false })?;
/// for (name, record) in records.load_all()?.records {
///     println!("{name}: {}", record.map_or_else(|damaged| damaged.to_string(), |it|
///     it.created.to_string()));
/// }
/// # Ok::<(), convoy_driver_sdk::records::RecordError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RecordStore<T> {
    dir: PathBuf,
    prefix: String,
    suffix: String,
    record: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> RecordStore<T> {
    /// Opens a store: makes the directory if it is missing and removes what crashed writers left in it.
    ///
    /// # Errors
    /// [`RecordError::Io`] when the directory cannot be made or read.
    pub fn open(
        dir: impl Into<PathBuf>,
        prefix: impl Into<String>,
        suffix: impl Into<String>,
    ) -> Result<Self, RecordError> {
        let dir = dir.into();
        atomic::create_dir(&dir, DIR_MODE).map_err(io_error("make the directory", &dir))?;
        let left = atomic::clean(&dir).map_err(io_error("read the directory", &dir))?;
        if left > 0 {
            tracing::info!(dir = %dir.display(), left, "removed what interrupted writes had left");
        }
        Ok(Self { dir, prefix: prefix.into(), suffix: suffix.into(), record: PhantomData })
    }

    /// The store of a driver's volumes, named as convoy always has: `<driver>_volume_<name>.json`.
    pub fn volumes(dir: impl Into<PathBuf>, driver: &str) -> Result<Self, RecordError> {
        Self::open(dir, format!("{driver}_volume_"), ".json")
    }

    /// The directory of the records.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of a record, whether it exists or not.
    pub fn path(&self, name: &Name) -> PathBuf {
        self.dir.join(format!("{}{name}{}", self.prefix, self.suffix))
    }

    /// Reads a record; `None` when there is none.
    ///
    /// # Errors
    /// [`RecordError::Damaged`] if it is there but cannot be understood, [`RecordError::Io`].
    pub fn load(&self, name: &Name) -> Result<Option<T>, RecordError> {
        read(&self.path(name))
    }

    /// Whether a record of that name is there, damaged or not.
    ///
    /// # Errors
    /// [`RecordError::Io`] when it cannot be found out.
    pub fn exists(&self, name: &Name) -> Result<bool, RecordError> {
        let path = self.path(name);
        path.try_exists().map_err(io_error("look for the record", &path))
    }

    /// Reads every record. One that cannot be read does not hide the others.
    ///
    /// # Errors
    /// [`RecordError::Io`] when the directory itself cannot be read.
    pub fn load_all(&self) -> Result<Listing<T>, RecordError> {
        let mut listing = Listing { records: BTreeMap::new(), misnamed: Vec::new() };
        for entry in std::fs::read_dir(&self.dir).map_err(io_error("read the directory", &self.dir))? {
            let file = entry.map_err(io_error("read the directory", &self.dir))?.file_name();
            let Some(stem) = file
                .to_str()
                .and_then(|file| file.strip_prefix(self.prefix.as_str()))
                .and_then(|rest| rest.strip_suffix(self.suffix.as_str()))
            else {
                continue;
            };
            let path = self.dir.join(&file);
            match Name::parse(stem) {
                Err(_) => listing.misnamed.push(path),
                Ok(name) => match read(&path).transpose() {
                    // Deleted by somebody else since the directory was read.
                    None => {}
                    Some(record) => {
                        listing.records.insert(name, record);
                    }
                },
            }
        }
        Ok(listing)
    }

    /// Writes a record that must not exist yet. Of several that try at once, one wins.
    ///
    /// # Errors
    /// [`RecordError::Exists`], [`RecordError::Unwritable`], [`RecordError::Io`]; nothing has changed.
    pub fn insert(&self, name: &Name, record: &T) -> Result<(), RecordError> {
        let path = self.path(name);
        let bytes = to_json(&path, record)?;
        match atomic::create_atomic(&path, &bytes, FILE_MODE) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(RecordError::Exists { path }),
            done => done.map_err(io_error("write the record", &path)),
        }
    }

    /// Writes a record, replacing the one of that name.
    ///
    /// # Errors
    /// [`RecordError::Unwritable`], [`RecordError::Io`]; the old record is still there.
    pub fn save(&self, name: &Name, record: &T) -> Result<(), RecordError> {
        let path = self.path(name);
        let bytes = to_json(&path, record)?;
        atomic::write_atomic(&path, &bytes, FILE_MODE).map_err(io_error("write the record", &path))
    }

    /// Removes a record. Succeeds when it is gone already.
    pub fn delete(&self, name: &Name) -> Result<(), RecordError> {
        let path = self.path(name);
        atomic::remove(&path).map_err(io_error("remove the record", &path))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordError> {
    let damaged = |reason: String| RecordError::Damaged { path: path.to_owned(), reason };
    match read_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            Err(damaged("expected a file, found a directory".to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Err(damaged("expected a file, found something else of that name".to_owned()))
        }
        Err(source) => Err(RecordError::Io { action: "read the record", path: path.to_owned(), source }),
        Ok(bytes) if bytes.is_empty() => Err(damaged("expected JSON, found an empty file".to_owned())),
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(error.to_string())),
    }
}

/// Reads a file. A FIFO of that name is not waited for.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn to_json<T: Serialize>(path: &Path, record: &T) -> Result<Vec<u8>, RecordError> {
    serde_json::to_vec(record).map_err(|source| RecordError::Unwritable { path: path.to_owned(), source })
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> RecordError + 'a {
    move |source| RecordError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Record {
        size: u64,
        text: String,
    }

    fn store(dir: &Path) -> RecordStore<Record> {
        RecordStore::volumes(dir, "test").unwrap()
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn names_are_those_of_convoy_0_5() {
        let dir = tempfile::tempdir().unwrap();
        assert!(store(dir.path()).path(&name("vol1")).ends_with("test_volume_vol1.json"));
    }

    #[test]
    fn inserts_once_saves_often_and_deletes() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir.path().join("new"));
        let (vol, mut record) = (name("vol1"), Record { size: 1, text: "a&b".into() });
        assert_eq!(store.load(&vol).unwrap(), None);
        store.insert(&vol, &record).unwrap();
        assert!(matches!(store.insert(&vol, &record), Err(RecordError::Exists { .. })));
        record.size = 2;
        store.save(&vol, &record).unwrap();
        assert_eq!(store.load(&vol).unwrap(), Some(record));
        store.delete(&vol).unwrap();
        store.delete(&vol).unwrap();
        assert!(!store.exists(&vol).unwrap());
    }

    #[test]
    fn damage_is_named_and_hides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let good = Record { size: 7, text: String::new() };
        store.insert(&name("good"), &good).unwrap();
        std::fs::write(store.path(&name("empty")), "").unwrap();
        std::fs::write(store.path(&name("half")), r#"{"size":"#).unwrap();
        std::fs::create_dir(store.path(&name("folder"))).unwrap();
        std::fs::write(dir.path().join("test_volume_x.json"), "{}").unwrap();
        std::fs::write(dir.path().join("other_volume_vol.json"), "{}").unwrap();
        let listing = store.load_all().unwrap();
        assert_eq!(listing.misnamed, [dir.path().join("test_volume_x.json")]);
        assert_eq!(listing.records.len(), 4);
        assert_eq!(listing.records["good"].as_ref().unwrap(), &good);
        for bad in ["empty", "half", "folder"] {
            assert!(matches!(listing.records[bad], Err(RecordError::Damaged { .. })), "{bad}");
            let error = DriverError::from(store.load(&name(bad)).unwrap_err());
            assert_eq!(error.kind, ErrorKind::DataLoss);
            assert!(error.hint.unwrap().contains(bad));
        }
    }

    #[test]
    fn a_fifo_in_the_place_of_a_record_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let fifo = store.path(&name("fifo"));
        rustix::fs::mknodat(rustix::fs::CWD, fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(matches!(store.load(&name("fifo")), Err(RecordError::Damaged { .. })));
    }

    /// What a crash can leave: the new record's bytes cut anywhere in a temporary file, the old record in
    /// place.
    fn crashed(dir: &Path, old: Option<&Record>, new: &Record, cut: usize) {
        let store = store(dir);
        if let Some(old) = old {
            store.insert(&name("vol1"), old).unwrap();
        }
        let bytes = serde_json::to_vec(new).unwrap();
        std::fs::write(dir.join(".convoy-4242-0.tmp"), &bytes[..cut.min(bytes.len())]).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_cut_off_write_leaves_the_old_record(
            old in proptest::option::of((any::<u64>(), ".{0,20}")),
            new in (any::<u64>(), ".{0,20}"),
            cut in 0usize..80,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let old = old.map(|(size, text)| Record { size, text });
            crashed(dir.path(), old.as_ref(), &Record { size: new.0, text: new.1 }, cut);
            let reopened = store(dir.path());
            prop_assert_eq!(&reopened.load(&name("vol1")).unwrap(), &old);
            let files = std::fs::read_dir(dir.path()).unwrap().count();
            prop_assert_eq!(files, usize::from(old.is_some()));
            prop_assert_eq!(reopened.load_all().unwrap().records.len(), files);
        }

        #[test]
        fn bytes_that_are_no_record_are_damage(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let dir = tempfile::tempdir().unwrap();
            let store = store(dir.path());
            std::fs::write(store.path(&name("vol1")), &bytes).unwrap();
            match store.load(&name("vol1")) {
                Ok(Some(record)) => {
                    prop_assert_eq!(serde_json::from_slice::<Record>(&bytes).unwrap(), record);
                }
                other => prop_assert!(matches!(other, Err(RecordError::Damaged { .. })), "{:?}", other),
            }
        }
    }
}
