//! Changes what people say of a backup: its record is written again, as a whole and with a new code.
//!
//! Two locks are held meanwhile. The volume's, shared, keeps away whoever removes data: a record that
//! somebody deletes at the same moment may come back, but then all of its data is still there. The lock of the
//! volume's labels, exclusive, is also taken by whoever deletes a record: a pin that was acknowledged is seen
//! by every deletion that begins later, and of two changes none is lost.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use convoy_objectstore::{ObjectStore, StoreError};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Engine, trust};
use crate::crypt::StoreKey;
use crate::error::{BackupError, BackupResult};
use crate::format::limits::{MEMBERS_MAX, RECORD_V0_MAX};
use crate::labels::{LabelChange, Labels};
use crate::layout::VolumeDir;
use crate::lock::{Lock, LockMode, LockTimes};
use crate::memory::Charge;
use crate::record::{BackupRecord, json, sealed};
use crate::types::Unencrypted;

/// The names of what a change replaces in a record.
const LABELS: &str = "Labels";
const MAC: &str = "Mac";

impl Engine {
    /// Changes the tags, the note and the pin of a backup, all or nothing, and answers what they are now.
    ///
    /// # Errors
    /// [`BackupError::Label`] for labels that cannot be; [`BackupError::KeyMissing`] and the like for an
    /// encrypted backup: only who has its key can say something of it. [`BackupError::Busy`] while data of the
    /// volume is removed. What the store says.
    pub async fn label(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &str,
        backup: &str,
        change: &LabelChange,
        key: Option<&StoreKey>,
        unencrypted: Unencrypted,
    ) -> BackupResult<Labels> {
        let volume = VolumeDir::new(volume)?;
        // What is not there is told before anything is written.
        store.head(&volume.backup(backup)?).await?;
        let times = self.options.lock_times();
        let shared = Lock::take(store.clone(), &volume, LockMode::Shared, "change of labels", times).await?;
        let labels = take(store.clone(), &volume, "change of labels", times).await;
        let result = match &labels {
            Ok(labels) => {
                let locks = [&shared, labels];
                let mut charge = self.options.memory().charge();
                write(&*store, &volume, backup, change, (key, unencrypted), locks, &mut charge).await
            }
            Err(_) => Ok(Labels::default()),
        };
        let taken = match labels {
            Ok(lock) => {
                lock.release().await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        shared.release().await;
        taken.and(result)
    }
}

/// Takes the lock that orders changes of labels and deletions of records.
pub(crate) async fn take(
    store: Arc<dyn ObjectStore>,
    volume: &VolumeDir,
    purpose: &str,
    times: LockTimes,
) -> BackupResult<Lock> {
    Lock::take(store, &volume.labels(), LockMode::Exclusive, purpose, times).await
}

async fn write(
    store: &dyn ObjectStore,
    volume: &VolumeDir,
    backup: &str,
    change: &LabelChange,
    (key, unencrypted): (Option<&StoreKey>, Unencrypted),
    locks: [&Lock; 2],
    charge: &mut Charge,
) -> BackupResult<Labels> {
    let object = volume.backup(backup)?;
    let memory = charge.memory();
    let bytes = memory.read(store, &object, RECORD_V0_MAX).await?;
    let record = BackupRecord::of_backup(volume, backup, &bytes, charge)?;
    let crypt = trust::open(volume, &record, key, unencrypted)?;
    if crypt.key().is_some() && record.code.is_none() {
        return Err(BackupError::Invalid(format!(
            "the record of backup {backup} has no code, as development versions before 0.6.0 wrote it: nothing is \
             said of it with the key. Back up again, and label that backup"
        )));
    }
    let labels = change.apply(&record.labels)?;
    if labels == record.labels {
        return Ok(labels);
    }
    // As text once more, and as it is written.
    charge.add(&object, bytes.len().saturating_mul(2).saturating_add(labels.weight()))?;
    let mut changed = relabelled(&object, &bytes, &labels)?;
    if let Some(key) = crypt.key() {
        changed = sealed(&changed, key, volume.name(), backup);
    }
    // What would not be read is not written.
    BackupRecord::of_backup(volume, backup, &changed, &mut memory.charge())?;
    for lock in locks {
        lock.check()?;
    }
    locks[0].within(store.put(&object, changed)).await?;
    for lock in locks {
        lock.confirm().await?;
    }
    Ok(labels)
}

/// The record with other labels and without a code. Whatever else is in it, known or not, stays as it is.
fn relabelled(object: &str, bytes: &[u8], labels: &Labels) -> BackupResult<Bytes> {
    let record: Members<'_> = serde_json::from_slice(bytes).map_err(|e| BackupError::damaged(object, e))?;
    let mut out = Vec::with_capacity(bytes.len() + 256);
    let mut member = |key: &str, value: &[u8]| -> BackupResult<()> {
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.extend_from_slice(&json(&key)?);
        out.push(b':');
        out.extend_from_slice(value);
        Ok(())
    };
    for (key, value) in record.0.iter().filter(|(key, _)| key != LABELS && key != MAC) {
        member(key, value.get().as_bytes())?;
    }
    if !labels.is_empty() {
        member(LABELS, &json(labels)?)?;
    }
    out.push(b'}');
    Ok(out.into())
}

/// The members of an object in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = object.next_entry()? {
                    if members.len() == MEMBERS_MAX {
                        return Err(serde::de::Error::custom("it has more members than a record has"));
                    }
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(InOrder)
    }
}

/// Whether an error says that no room is left.
pub(crate) fn is_full(error: &BackupError) -> bool {
    use std::io::ErrorKind;
    matches!(error, BackupError::Store(StoreError::Io { source, .. })
        if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}
