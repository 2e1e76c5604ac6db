//! Where things are in a store. Names of volumes and backups are checked here, once.

use crate::error::{BackupError, BackupResult};
use crate::format::PackId;
use convoy_objectstore::has_name_form;

/// Everything of convoy's in a store is below this.
pub(crate) const ROOT: &str = "convoy-objectstore/";
/// Every volume is below this.
pub(crate) const VOLUMES: &str = "convoy-objectstore/volumes/";

/// An object of a volume: which one of those that convoy writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Object {
    /// The record of a volume, `volume.cfg`.
    Config,
    /// What `volume.cfg` said before, by the name it was kept under.
    Incarnation(u64),
    /// The record of a backup.
    Record(String),
    /// A block of 0.5, by its checksum.
    V0Block(String),
    /// The single file of a backup of 0.5.
    V0File(String),
    Pack(PackId),
    Manifest(u64),
    /// The mark of an unfinished run.
    Run(u64),
    /// Where the chunks of a pack are now.
    Relocations(PackId),
    Lock(LockName),
    /// A lock in [`VolumeDir::labels`].
    LabelsLock(LockName),
}

/// What the name of a lock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LockName {
    pub(crate) exclusive: bool,
    pub(crate) id: u64,
    /// What its holder renews, and not the lock itself.
    pub(crate) beat: bool,
}

impl LockName {
    fn parse(name: &str) -> Option<Self> {
        let (id, end) = name.split_once('.')?;
        let (letter, id) = id.split_once('-')?;
        Some(Self { exclusive: letter == "x", id: number(id)?, beat: end == "beat" })
    }
}

impl std::fmt::Display for LockName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let letter = if self.exclusive { 'x' } else { 's' };
        write!(f, "{letter}-{:016x}.{}", self.id, if self.beat { "beat" } else { "lock" })
    }
}

/// The directory of a volume in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeDir {
    name: String,
    /// Ends in `/`.
    dir: String,
}

impl VolumeDir {
    /// The directory of a volume of that name.
    pub(crate) fn new(name: &str) -> BackupResult<Self> {
        if !has_name_form(name) {
            return Err(BackupError::Invalid(format!("{name:?} is not a volume name")));
        }
        let padded = format!("{name:!<4}");
        let dir = format!("{VOLUMES}{}/{}/{padded}/", &padded[0..2], &padded[2..4]);
        Ok(Self { name: name.to_owned(), dir })
    }

    /// The place of a store's keys, which are locked as a volume is. No volume can have this name.
    pub(crate) fn keys() -> Self {
        Self { name: "(keys)".to_owned(), dir: format!("{ROOT}keys/") }
    }

    /// The volume a directory of the third level belongs to; `None` if it is not convoy's.
    pub(crate) fn from_dir(dir: &str) -> Option<Self> {
        let padded = dir.strip_suffix('/')?.rsplit('/').next()?;
        let volume = Self::new(padded.trim_end_matches('!')).ok()?;
        (volume.dir == dir).then_some(volume)
    }

    /// The place of the lock that orders changes of the labels of backups and deletions of records. convoy
    /// 0.5, which takes every name in `backups/` for a backup, never looks here.
    pub(crate) fn labels(&self) -> Self {
        Self { name: self.name.clone(), dir: format!("{}labels/", self.dir) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn dir(&self) -> &str {
        &self.dir
    }

    fn key(&self, rest: impl std::fmt::Display) -> String {
        format!("{}{rest}", self.dir)
    }

    pub(crate) fn config(&self) -> String {
        self.key_of(&Object::Config)
    }

    pub(crate) fn incarnations(&self) -> String {
        self.key("incarnations/")
    }

    pub(crate) fn backups(&self) -> String {
        self.key("backups/")
    }

    /// The record of a backup.
    pub(crate) fn backup(&self, backup: &str) -> BackupResult<String> {
        if !has_name_form(backup) {
            return Err(BackupError::Invalid(format!("{backup:?} is not a backup name")));
        }
        Ok(self.key_of(&Object::Record(backup.to_owned())))
    }

    /// The backup whose record has this key.
    pub(crate) fn backup_of(&self, key: &str) -> Option<String> {
        match self.object(key)? {
            Object::Record(name) => Some(name),
            _ => None,
        }
    }

    /// A block of 0.5; `checksum` is hexadecimal, or anything else that came from a record.
    pub(crate) fn v0_block(&self, checksum: &str) -> BackupResult<String> {
        if !is_checksum(checksum) {
            return Err(BackupError::Invalid(format!("{checksum:?} is not the checksum of a block")));
        }
        Ok(self.key_of(&Object::V0Block(checksum.to_owned())))
    }

    pub(crate) fn v0_blocks(&self) -> String {
        self.key("blocks/")
    }

    /// The single file of 0.5.
    pub(crate) fn v0_file(&self, backup: &str) -> String {
        self.key_of(&Object::V0File(backup.to_owned()))
    }

    pub(crate) fn v0_files(&self) -> String {
        self.key("BackupFiles/")
    }

    pub(crate) fn packs(&self) -> String {
        self.key("packs/")
    }

    pub(crate) fn packs_of(&self, run: u64) -> String {
        self.key(format_args!("packs/{run:016x}/"))
    }

    pub(crate) fn pack(&self, run: u64, seq: u32) -> String {
        self.key_of(&Object::Pack(PackId { run, seq }))
    }

    pub(crate) fn manifests(&self) -> String {
        self.key("manifests/")
    }

    pub(crate) fn manifest(&self, run: u64) -> String {
        self.key_of(&Object::Manifest(run))
    }

    pub(crate) fn runs(&self) -> String {
        self.key("runs/")
    }

    pub(crate) fn run(&self, run: u64) -> String {
        self.key_of(&Object::Run(run))
    }

    pub(crate) fn moves(&self) -> String {
        self.key("moves/")
    }

    /// The object that says where the chunks of a pack are now.
    pub(crate) fn moves_of(&self, pack: PackId) -> String {
        self.key_of(&Object::Relocations(pack))
    }

    pub(crate) fn locks(&self) -> String {
        self.key("locks/")
    }

    /// Where an object is.
    fn key_of(&self, object: &Object) -> String {
        match object {
            Object::Config => self.key("volume.cfg"),
            Object::Incarnation(name) => self.key(format_args!("incarnations/{name:016x}.json")),
            Object::Record(backup) => self.key(format_args!("backups/backup_{backup}.cfg")),
            Object::V0Block(sum) => {
                let (first, second) = (sum.get(0..2).unwrap_or_default(), sum.get(2..4).unwrap_or_default());
                self.key(format_args!("blocks/{first}/{second}/{sum}.blk"))
            }
            Object::V0File(backup) => self.key(format_args!("BackupFiles/{backup}.bak")),
            Object::Pack(PackId { run, seq }) => self.key(format_args!("packs/{run:016x}/{seq:08x}.pack")),
            Object::Manifest(run) => self.key(format_args!("manifests/{run:016x}.mft")),
            Object::Run(run) => self.key(format_args!("runs/{run:016x}.json")),
            Object::Relocations(PackId { run, seq }) => {
                self.key(format_args!("moves/{run:016x}-{seq:08x}.idx"))
            }
            Object::Lock(name) => self.key(format_args!("locks/{name}")),
            Object::LabelsLock(name) => self.key(format_args!("labels/locks/{name}")),
        }
    }

    /// What has a key. Only the very keys that convoy makes are known: what is merely similar is a
    /// stranger's, whose place and meaning nobody knows, and is never deleted.
    pub(crate) fn object(&self, key: &str) -> Option<Object> {
        let rest = key.strip_prefix(&self.dir)?;
        let object = match rest.split_once('/') {
            None => Object::Config,
            Some(("incarnations", name)) => Object::Incarnation(number(name.strip_suffix(".json")?)?),
            Some(("backups", name)) => {
                Object::Record(name.strip_prefix("backup_")?.strip_suffix(".cfg")?.to_owned())
            }
            Some(("blocks", name)) => {
                Object::V0Block(name.rsplit('/').next()?.strip_suffix(".blk")?.to_owned())
            }
            Some(("BackupFiles", name)) => Object::V0File(name.strip_suffix(".bak")?.to_owned()),
            Some(("packs", name)) => {
                let (run, seq) = name.split_once('/')?;
                Object::Pack(pack(run, seq.strip_suffix(".pack")?)?)
            }
            Some(("manifests", name)) => Object::Manifest(number(name.strip_suffix(".mft")?)?),
            Some(("runs", name)) => Object::Run(number(name.strip_suffix(".json")?)?),
            Some(("moves", name)) => {
                let (run, seq) = name.strip_suffix(".idx")?.split_once('-')?;
                Object::Relocations(pack(run, seq)?)
            }
            Some(("locks", name)) => Object::Lock(LockName::parse(name)?),
            Some(("labels", name)) => Object::LabelsLock(LockName::parse(name.strip_prefix("locks/")?)?),
            Some(_) => return None,
        };
        let proper = match &object {
            Object::Record(name) | Object::V0File(name) => has_name_form(name),
            Object::V0Block(checksum) => is_checksum(checksum),
            _ => true,
        };
        (proper && self.key_of(&object) == key).then_some(object)
    }

    /// The pack that has a key.
    pub(crate) fn pack_of(&self, key: &str) -> Option<PackId> {
        match self.object(key)? {
            Object::Pack(pack) => Some(pack),
            _ => None,
        }
    }
}

/// SHA-512 of a block, shortened to 32 bytes, as 0.5 writes it.
fn is_checksum(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn number(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

fn pack(run: &str, seq: &str) -> Option<PackId> {
    Some(PackId { run: number(run)?, seq: u32::from_str_radix(seq, 16).ok()? })
}

/// A run by the hexadecimal digits that name it.
pub(crate) fn parse_run(text: &str) -> Option<u64> {
    number(text).filter(|run| format!("{run:016x}") == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_where_0_5_put_them() {
        assert_eq!(VolumeDir::new("web").unwrap().dir(), "convoy-objectstore/volumes/we/b!/web!/");
        assert_eq!(
            VolumeDir::new("ab").unwrap().config(),
            "convoy-objectstore/volumes/ab/!!/ab!!/volume.cfg"
        );
        let vol = VolumeDir::new("pgdata").unwrap();
        assert_eq!(
            vol.backup("b-1").unwrap(),
            "convoy-objectstore/volumes/pg/da/pgdata/backups/backup_b-1.cfg"
        );
        assert_eq!(vol.backup_of(&vol.backup("b-1").unwrap()).as_deref(), Some("b-1"));
        for name in ["a", "ab", "abc", "abcd", "abcde", "a.b-c_d"] {
            let vol = VolumeDir::new(name).unwrap();
            assert_eq!(VolumeDir::from_dir(vol.dir()).unwrap(), vol);
        }
    }

    #[test]
    fn names_cannot_leave_their_place() {
        for bad in ["", "..", "../x", "a/b", ".a", "-a", "a b", "a\0", "ä1", "a!"] {
            assert!(VolumeDir::new(bad).is_err(), "{bad:?}");
            assert!(VolumeDir::new("vol").unwrap().backup(bad).is_err(), "{bad:?}");
        }
        assert!(VolumeDir::new("vol").unwrap().v0_block("../../../../etc/passwd").is_err());
        assert!(VolumeDir::from_dir("convoy-objectstore/volumes/xx/b!/web!/").is_none());
    }

    /// One of each.
    fn objects() -> Vec<Object> {
        let pack = PackId { run: 0xab, seq: 0xcd };
        let name = |exclusive, beat| LockName { exclusive, id: 0xab, beat };
        let lock = |exclusive, beat| Object::Lock(name(exclusive, beat));
        vec![
            Object::Config,
            Object::Incarnation(0xab),
            Object::Record("b-1".into()),
            Object::V0Block("ab".repeat(32)),
            Object::V0File("b-1".into()),
            Object::Pack(pack),
            Object::Manifest(0xab),
            Object::Run(0xab),
            Object::Relocations(pack),
            lock(true, false),
            lock(true, true),
            lock(false, false),
            lock(false, true),
            Object::LabelsLock(name(true, false)),
            Object::LabelsLock(name(true, true)),
        ]
    }

    #[test]
    fn every_object_is_known_by_its_key() {
        for volume in
            ["vol1", "ab"].map(|name| VolumeDir::new(name).unwrap()).into_iter().chain([VolumeDir::keys()])
        {
            for object in objects() {
                let key = volume.key_of(&object);
                assert_eq!(volume.object(&key), Some(object), "{key}");
            }
        }
        assert_eq!(VolumeDir::new("vol2").unwrap().object(&VolumeDir::new("vol1").unwrap().config()), None);
    }

    /// Whatever is done to a key of convoy's at whichever place: it is another object of convoy's, whose key
    /// reads the same, or none.
    #[test]
    fn a_key_that_is_merely_similar_is_nobodys() {
        let volume = VolumeDir::new("vol1").unwrap();
        let changes: [&str; 14] =
            ["", "/", "//", ".", "..", "/../", "x", "+", "-", " ", "A", "0", "\n", "./"];
        for object in objects() {
            let key = volume.key_of(&object);
            let start = volume.dir().len();
            for at in start..=key.len() {
                for end in at..=key.len().min(at + 3) {
                    for change in changes {
                        let changed = format!("{}{change}{}", &key[..at], &key[end..]);
                        if let Some(found) = volume.object(&changed) {
                            assert_eq!(volume.key_of(&found), changed);
                            // Names and digits may change; the kind, the depth and the length of numbers do
                            // not.
                            let same = std::mem::discriminant(&found) == std::mem::discriminant(&object);
                            assert!(same, "{key} and {changed}");
                            assert_eq!(changed.matches('/').count(), key.matches('/').count());
                            let named = matches!(found, Object::Record(_) | Object::V0File(_));
                            assert!(named || changed.len() == key.len(), "{changed}");
                        }
                    }
                }
            }
        }
        let dir = volume.dir();
        for strange in [
            "packs/+0000000000000ab/000000cd.pack",
            "packs/00000000000000AB/000000cd.pack",
            "packs/evil/00000000000000ab/000000cd.pack",
            "packs/00000000000000ab/cd.pack",
            "packs/00000000000000ab/000000cd.pack/x",
            "runs/+0000000000000ab.json",
            "moves/00000000000000ab-+00000cd.idx",
            "BackupFiles/a/b.bak",
            "BackupFiles/../volume.cfg.bak",
            "backups/backup_a/b.cfg",
            "locks/y-00000000000000ab.lock",
            "locks/x-00000000000000ab.lock.lock",
            "labels/x-00000000000000ab.lock",
            "labels/locks/locks/x-00000000000000ab.lock",
            "labels/labels/locks/x-00000000000000ab.lock",
            "blocks/ab/ab/ab.blk",
            "manifests/notes.txt",
            "volume.cfg.orig",
        ] {
            assert_eq!(volume.object(&format!("{dir}{strange}")), None, "{strange}");
        }
        assert_eq!(parse_run("+0000000000000ab"), None);
        assert_eq!(parse_run("00000000000000ab"), Some(0xab));
    }
}
