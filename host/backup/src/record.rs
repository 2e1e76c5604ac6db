//! The JSON records of a store: `volume.cfg` and `backup_<name>.cfg`, as 0.5 wrote them and extended.
//!
//! 0.5 ignores keys that it does not know, so a record carries everything a newer reader wants beside what
//! 0.5 wants. A backup in the new format would be nothing to 0.5, which would restore an empty volume and call
//! it success. Therefore its record names, where 0.5 looks for data, a file and a block that do not exist:
//! 0.5 lists and inspects the backup as any other, and a restore fails with an error that shows the name
//! [`PLACEHOLDER`].
//!
//! The record of an encrypted backup ends in a code, `"Mac"`, over every byte before it. It is taken over
//! bytes and not over fields: whatever is changed, added, left out or said twice, the code no longer fits.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use convoy_objectstore::ObjectStore;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::crypt::StoreKey;
use crate::error::{BackupError, BackupResult};
use crate::exclude::Excluded;
use crate::format::limits::{
    CONFIG_MAX, EXCLUDED_RULES_MAX, OPTION_MAX, OPTIONS_MAX, RECORD_MAX, RECORD_V0_MAX, TAGS_MAX, TEXT_MAX,
};
use crate::labels::{KeepUntil, Labels};
use crate::layout::VolumeDir;
use crate::memory::Charge;

/// The newest format of a backup that is understood. 0 is that of 0.5.
pub(crate) const FORMAT_VERSION: u64 = 1;

/// What 0.5 finds where it looks for the data of a backup in the new format.
pub(crate) const PLACEHOLDER: &str = "this-backup-needs-convoy-0.6-or-later";

/// Memory for a block of a record, with the room a list leaves that grows.
const BLOCK: usize = 160;

/// `volume.cfg`. Of use to 0.5; here a hint: what matters is in the records of the backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeConfig {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) driver: String,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) created_time: String,
    /// The last backup made of blocks by 0.5, or as by 0.5. A newer one is never named here: 0.5 would build
    /// on it.
    #[serde(default)]
    pub(crate) last_backup_name: String,
    /// The last backup in the new format.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) last_backup: String,
}

/// A block of 0.5.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct V0Block {
    pub(crate) offset: u64,
    pub(crate) block_checksum: String,
}

/// The single file of 0.5.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct V0File {
    pub(crate) file_path: String,
}

/// Where the manifest of a backup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ManifestRef {
    /// The run that wrote it.
    pub(crate) run: String,
    /// Bytes of the volume.
    pub(crate) size: u64,
    /// BLAKE3 of the object, hexadecimal.
    pub(crate) blake3: String,
}

/// What a backup cost and holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BackupStats {
    /// Regular files, hard links not counted again.
    pub files: u64,
    /// Bytes the backup stands for: files without their holes, or blocks that are not zero.
    pub bytes: u64,
    /// Bytes that were read from the source.
    pub bytes_read: u64,
    /// Bytes that were added to the store, packs and manifest.
    pub bytes_added: u64,
    /// Milliseconds it took.
    pub millis: u64,
    /// Things of the source that are not in the backup, since the file system did not tell them or they were
    /// mounted from elsewhere.
    #[serde(skip_serializing_if = "is_zero")]
    pub warnings: u64,
}

/// The record of a backup: `backup_<name>.cfg`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BackupRecord {
    pub(crate) name: String,
    /// 0.5 leaves it empty, and so do we; see `driver_name`.
    #[serde(default)]
    pub(crate) driver: String,
    pub(crate) volume_name: String,
    #[serde(default)]
    pub(crate) snapshot_name: String,
    #[serde(default)]
    pub(crate) snapshot_created_at: String,
    #[serde(default)]
    pub(crate) created_time: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) blocks: Vec<V0Block>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) single_file: Option<V0File>,

    /// Everything below is not known to 0.5. Missing means 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) format_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) driver_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) volume_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) volume_created_at: Option<String>,
    /// `tree` or `block`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) manifest: Option<ManifestRef>,
    /// The key that encrypts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_id: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) options: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stats: Option<BackupStats>,
    /// What rules left out.
    #[serde(default, skip_serializing_if = "Excluded::is_empty")]
    pub(crate) excluded: Excluded,
    /// Counts the encrypted backups of a volume: greater than that of every earlier one that its writer knew
    /// of.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) sequence: u64,
    /// What people say of it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub(crate) labels: Labels,
    /// As it is in the object; [`BackupRecord::seal`] writes it.
    #[serde(default, skip_serializing)]
    pub(crate) mac: Option<String>,
    /// The code and what it is over, read from the bytes.
    #[serde(skip)]
    pub(crate) code: Option<RecordCode>,
}

/// The code at the end of an encrypted backup's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordCode {
    /// BLAKE3 of the bytes before it.
    digest: [u8; 32],
    mac: [u8; 32],
}

impl RecordCode {
    /// Whether this key made it, for the record of this backup.
    pub(crate) fn fits(&self, key: &StoreKey, volume: &str, backup: &str) -> bool {
        // BLAKE3's hashes compare in constant time.
        key.record_mac(volume, backup, &self.digest) == blake3::Hash::from(self.mac)
    }
}

/// What stands before the code. 64 hexadecimal digits and [`AFTER_MAC`] follow, and nothing else.
const BEFORE_MAC: &[u8] = br#","Mac":""#;
const AFTER_MAC: &[u8] = br#""}"#;

/// The code of a record, if its bytes end in one.
fn code(bytes: &[u8]) -> Option<RecordCode> {
    let rest = bytes.strip_suffix(AFTER_MAC)?;
    let (rest, digits) = rest.split_last_chunk::<64>()?;
    let said = rest.strip_suffix(BEFORE_MAC)?;
    let mac = <[u8; 32]>::try_from(hex::decode(digits).ok()?).ok()?;
    Some(RecordCode { digest: *blake3::hash(said).as_bytes(), mac })
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Reads just the version, so that a record from the future is told from a damaged one, and how much there is
/// of what there may be much of: before any of that takes memory.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outline {
    #[serde(default)]
    format_version: u64,
    #[serde(default)]
    blocks: Count,
    #[serde(default)]
    options: Count,
    #[serde(default)]
    labels: LabelsOutline,
    #[serde(default)]
    excluded: ExcludedOutline,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExcludedOutline {
    #[serde(default)]
    rules: Count,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LabelsOutline {
    #[serde(default)]
    tags: Count,
}

/// Until when the backup is kept whose record these bytes are. Nothing else of it takes memory.
pub(crate) fn keep_until(bytes: &[u8]) -> Option<KeepUntil> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Record {
        labels: Option<Pin>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pin {
        keep_until: Option<KeepUntil>,
    }
    serde_json::from_slice::<Record>(bytes).ok()?.labels?.keep_until
}

/// How many elements a list has, or an object. What is neither has none.
#[derive(Default)]
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Counter;
        impl<'de> Visitor<'de> for Counter {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or an object")
            }

            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count(0))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }
        from.deserialize_any(Counter)
    }
}

impl BackupRecord {
    /// The blocks that 0.5 has of a device of so many bytes: in order, and no two at one place, so that they
    /// are no more than it can have.
    pub(crate) fn blocks_before(&self, size: u64) -> Vec<V0Block> {
        let mut next = 0;
        let fits = |block: &&V0Block| {
            let fits = block.offset >= next && block.offset < size;
            if fits {
                next = block.offset.saturating_add(crate::v0::BLOCK);
            }
            fits
        };
        self.blocks.iter().filter(fits).cloned().collect()
    }

    /// Bytes that the backup stands for: as it says, or as its blocks tell. An archive of 0.5 does not tell.
    pub(crate) fn bytes(&self) -> Option<u64> {
        if let Some(stats) = &self.stats {
            return Some(stats.bytes);
        }
        let blocks = self.format_version == 0 && self.v0_file().is_none();
        blocks.then(|| (self.blocks.len() as u64).saturating_mul(crate::v0::BLOCK))
    }

    /// The key of 0.5's single file; `None` for a backup of blocks, where 0.5 writes an empty one.
    pub(crate) fn v0_file(&self) -> Option<&str> {
        let file = self.single_file.as_ref().filter(|_| self.format_version == 0)?;
        Some(file.file_path.as_str()).filter(|path| !path.is_empty())
    }

    /// Whether its data is sealed. The format of 0.5 knows nothing of that, whatever a record in it says.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.format_version > 0 && self.key_id.is_some()
    }

    /// Reads the record of a backup. The memory its blocks take is charged.
    pub(crate) async fn load(
        store: &dyn ObjectStore,
        volume: &VolumeDir,
        backup: &str,
        charge: &mut Charge,
    ) -> BackupResult<Self> {
        let key = volume.backup(backup)?;
        let bytes = match charge.memory().read(store, &key, RECORD_V0_MAX).await {
            Ok(bytes) => bytes,
            // 0.5 looks for the volume first, and its error names the volume's record then.
            Err(e) if e.not_found() => {
                store.head(&volume.config()).await?;
                return Err(e);
            }
            Err(e) => return Err(e),
        };
        Self::of_backup(volume, backup, &bytes, charge)
    }

    /// Reads the record of this backup from its bytes.
    pub(crate) fn of_backup(
        volume: &VolumeDir,
        backup: &str,
        bytes: &[u8],
        charge: &mut Charge,
    ) -> BackupResult<Self> {
        let key = volume.backup(backup)?;
        let record = Self::parse(&key, bytes, charge)?;
        if record.name != backup || record.volume_name != volume.name() {
            let why = format!("it is the record of backup {} of volume {}", record.name, record.volume_name);
            return Err(BackupError::damaged(key, why));
        }
        Ok(record)
    }

    /// Reads a record from its bytes. The memory its blocks take is charged.
    pub(crate) fn parse(key: &str, bytes: &[u8], charge: &mut Charge) -> BackupResult<Self> {
        let outline: Outline = serde_json::from_slice(bytes).map_err(|e| BackupError::damaged(key, e))?;
        if outline.format_version > FORMAT_VERSION {
            return Err(BackupError::Version {
                key: key.to_owned(),
                found: outline.format_version,
                known: FORMAT_VERSION,
            });
        }
        let too_large =
            |what: &str| Err(BackupError::damaged(key, format_args!("{what} larger than can be")));
        if outline.format_version > 0 && bytes.len() > RECORD_MAX {
            return too_large("it is");
        }
        if outline.options.0 > OPTIONS_MAX {
            return too_large("its list of options is");
        }
        if outline.labels.tags.0 > TAGS_MAX {
            return too_large("its list of tags is");
        }
        if outline.excluded.rules.0 > EXCLUDED_RULES_MAX {
            return too_large("its list of rules is");
        }
        let blocks = outline.blocks.0.saturating_mul(BLOCK);
        // Texts together are no longer than all of it.
        charge.add(key, blocks.max(bytes.len()))?;
        let mut record: Self = serde_json::from_slice(bytes).map_err(|e| BackupError::damaged(key, e))?;
        record.code = code(bytes);
        if record.mac.is_some() && record.code.is_none() {
            return Err(BackupError::not_authentic(key, "its code does not stand at its end"));
        }
        if !record.texts_are_possible() {
            return too_large("a text in it is");
        }
        charge.keep(blocks.max(bytes.len().min(RECORD_MAX)));
        Ok(record)
    }

    /// Whether no text is longer than what a record may say.
    fn texts_are_possible(&self) -> bool {
        let optional = |text: &'_ Option<String>| text.as_deref().is_none_or(|text| text.len() <= TEXT_MAX);
        let texts = [
            &self.name,
            &self.driver,
            &self.volume_name,
            &self.snapshot_name,
            &self.snapshot_created_at,
            &self.created_time,
        ];
        let manifest = self.manifest.as_ref();
        texts.into_iter().all(|text| text.len() <= TEXT_MAX)
            && [&self.driver_name, &self.volume_created_at, &self.kind, &self.key_id, &self.mac]
                .into_iter()
                .all(optional)
            && self.single_file.as_ref().is_none_or(|file| file.file_path.len() <= TEXT_MAX)
            && manifest.is_none_or(|m| m.run.len().max(m.blake3.len()) <= TEXT_MAX)
            && self.blocks.iter().all(|block| block.block_checksum.len() <= 64)
            && self.labels.are_possible()
            && self.excluded.is_possible()
            && self.options.iter().all(|(key, value)| key.len() <= TEXT_MAX && value.len() <= OPTION_MAX)
    }

    /// The bytes to store.
    pub(crate) fn to_bytes(&self) -> BackupResult<Bytes> {
        json(self)
    }

    /// The bytes to store, with the code that this key makes.
    pub(crate) fn seal(&self, key: &StoreKey) -> BackupResult<Bytes> {
        Ok(sealed(&json(self)?, key, &self.volume_name, &self.name))
    }
}

/// A record in JSON, without a code, with the code that this key makes.
pub(crate) fn sealed(json: &[u8], key: &StoreKey, volume: &str, backup: &str) -> Bytes {
    let said = json.strip_suffix(b"}").unwrap_or(json);
    let mac = key.record_mac(volume, backup, blake3::hash(said).as_bytes());
    [said, BEFORE_MAC, mac.to_hex().as_bytes(), AFTER_MAC].concat().into()
}

impl VolumeConfig {
    /// Reads the record of a volume, `volume.cfg`.
    pub(crate) async fn load(store: &dyn ObjectStore, volume: &VolumeDir) -> BackupResult<Self> {
        let key = volume.config();
        let bytes = store.get(&key, CONFIG_MAX).await?;
        serde_json::from_slice(&bytes).map_err(|e| BackupError::damaged(key, e))
    }

    /// Writes the record of a volume, `volume.cfg`.
    pub(crate) async fn store(&self, store: &dyn ObjectStore, volume: &VolumeDir) -> BackupResult<()> {
        Ok(store.put(&volume.config(), json(self)?).await?)
    }

    /// Whether both describe the same life of a volume.
    pub(crate) fn same_life(&self, other: &Self) -> bool {
        (&self.driver, self.size, &self.created_time) == (&other.driver, other.size, &other.created_time)
    }

    /// Keeps what `volume.cfg` said before it is replaced: backups of 0.5 have their driver and size from
    /// nowhere else. The name follows from the content, so hosts that do this at the same time do not disturb
    /// each other.
    pub(crate) async fn keep(&self, store: &dyn ObjectStore, volume: &VolumeDir) -> BackupResult<()> {
        let kept = Self { last_backup_name: String::new(), last_backup: String::new(), ..self.clone() };
        let bytes = json(&kept)?;
        let name = &blake3::hash(&bytes).to_hex()[..16];
        store.put_if_absent(&format!("{}{name}.json", volume.incarnations()), bytes).await?;
        Ok(())
    }
}

/// A record as bytes.
pub(crate) fn json<T: Serialize>(value: &T) -> BackupResult<Bytes> {
    match serde_json::to_vec(value) {
        Ok(bytes) => Ok(bytes.into()),
        Err(e) => Err(BackupError::Invalid(format!("a record cannot be written: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    #[test]
    fn records_of_0_5_are_read_and_written_byte_for_byte() {
        let single = r#"{"Name":"backup-be0cef8137d240a0","Driver":"","VolumeName":"vol1","SnapshotName":"snap1","SnapshotCreatedAt":"Mon Nov 23 08:38:07 +0000 2026","CreatedTime":"Mon Nov 23 08:38:07 +0000 2026","SingleFile":{"FilePath":"convoy-objectstore/volumes/vo/l1/vol1/BackupFiles/backup-be0cef8137d240a0.bak"}}"#;
        let record = BackupRecord::parse("k", single.as_bytes(), &mut Memory::new(1 << 20).charge()).unwrap();
        assert_eq!(record.to_bytes().unwrap(), single);
        let config = r#"{"Name":"pgdata","Driver":"devicemapper","Size":67108864,"CreatedTime":"Mon Nov 23 09:47:05 +0000 2026","LastBackupName":"backup-71d7e26aee0f4b1b"}"#;
        let parsed: VolumeConfig = serde_json::from_str(config).unwrap();
        assert_eq!(json(&parsed).unwrap(), config);
    }

    #[test]
    fn the_future_and_the_damaged_are_told_apart() {
        let future = br#"{"FormatVersion":2,"Name":7}"#;
        let parse = |bytes: &[u8]| BackupRecord::parse("k", bytes, &mut Memory::new(1 << 20).charge());
        assert!(matches!(parse(future), Err(BackupError::Version { found: 2, known: 1, .. })));
        for damaged in [&b""[..], b"{", b"[]", br#"{"Name":7}"#, b"\xff"] {
            assert!(matches!(parse(damaged), Err(BackupError::Damaged { .. })));
        }
    }
}
