//! Where things are in a store. Names of volumes and backups are checked here, once.

use crate::error::{BackupError, BackupResult};

/// Everything of convoy's in a store is below this.
pub(crate) const ROOT: &str = "convoy-objectstore/";
/// Every volume is below this.
pub(crate) const VOLUMES: &str = "convoy-objectstore/volumes/";

/// Whether a name follows convoy's rule, `^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`. One letter is let pass: 0.5 made such volumes.
pub(crate) fn valid_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
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
        if !valid_name(name) {
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
        self.key("volume.cfg")
    }

    pub(crate) fn incarnations(&self) -> String {
        self.key("incarnations/")
    }

    pub(crate) fn backups(&self) -> String {
        self.key("backups/")
    }

    /// The record of a backup.
    pub(crate) fn backup(&self, backup: &str) -> BackupResult<String> {
        if !valid_name(backup) {
            return Err(BackupError::Invalid(format!("{backup:?} is not a backup name")));
        }
        Ok(self.key(format_args!("backups/backup_{backup}.cfg")))
    }

    /// The backup whose record has this key.
    pub(crate) fn backup_of(&self, key: &str) -> Option<String> {
        let name = key.strip_prefix(&self.backups())?.strip_prefix("backup_")?.strip_suffix(".cfg")?;
        valid_name(name).then(|| name.to_owned())
    }

    /// A block of 0.5; `checksum` is hexadecimal, or anything else that came from a record.
    pub(crate) fn v0_block(&self, checksum: &str) -> BackupResult<String> {
        if checksum.len() != 64 || !checksum.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return Err(BackupError::Invalid(format!("{checksum:?} is not the checksum of a block")));
        }
        Ok(self.key(format_args!("blocks/{}/{}/{checksum}.blk", &checksum[0..2], &checksum[2..4])))
    }

    pub(crate) fn v0_blocks(&self) -> String {
        self.key("blocks/")
    }

    /// The single file of 0.5.
    pub(crate) fn v0_file(&self, backup: &str) -> String {
        self.key(format_args!("BackupFiles/{backup}.bak"))
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
        self.key(format_args!("packs/{run:016x}/{seq:08x}.pack"))
    }

    pub(crate) fn manifests(&self) -> String {
        self.key("manifests/")
    }

    pub(crate) fn manifest(&self, run: u64) -> String {
        self.key(format_args!("manifests/{run:016x}.mft"))
    }

    pub(crate) fn runs(&self) -> String {
        self.key("runs/")
    }

    pub(crate) fn run(&self, run: u64) -> String {
        self.key(format_args!("runs/{run:016x}.json"))
    }

    pub(crate) fn moves(&self) -> String {
        self.key("moves/")
    }

    pub(crate) fn locks(&self) -> String {
        self.key("locks/")
    }
}

/// The run and number of a pack by its key.
pub(crate) fn parse_pack(key: &str) -> Option<(u64, u32)> {
    let mut parts = key.rsplit('/');
    let seq = u32::from_str_radix(parts.next()?.strip_suffix(".pack")?, 16).ok()?;
    Some((parse_run(parts.next()?)?, seq))
}

/// A run by the hexadecimal digits that name it.
pub(crate) fn parse_run(text: &str) -> Option<u64> {
    if text.len() == 16 { u64::from_str_radix(text, 16).ok() } else { None }
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

    #[test]
    fn pack_names_are_read_back() {
        let vol = VolumeDir::new("vol1").unwrap();
        assert_eq!(parse_pack(&vol.pack(7, 9)), Some((7, 9)));
        assert_eq!(parse_pack("x/packs/7/9.pack"), None);
    }
}
