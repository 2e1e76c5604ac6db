//! Backups as the API tells them.

use convoy_backup::{BackupKind, Labels};
use convoy_client::types::{BackupInfo, Pairs};

/// The key of a listed backup for which a key vouches.
pub(super) const AUTHENTIC: &str = "Authentic";
/// The key of a listed backup that no schedule and no `backup delete` deletes at present.
pub(crate) const PINNED: &str = "Pinned";
/// The key of a listed backup that says until when it is kept.
const KEEP_UNTIL: &str = "KeepUntil";
const NOTE: &str = "Note";
/// What stands before the key of a tag.
const TAG: &str = "Tag.";

/// A backup as the API tells it; without `details`, one in the clear is told as 0.5 told it.
pub(super) fn shown(info: &convoy_backup::BackupInfo, url: &str, details: bool) -> BackupInfo {
    let mut pairs: Pairs = info.to_map(url);
    if let Some(bytes) = info.bytes.filter(|_| details) {
        pairs.insert("Bytes".to_owned(), bytes.to_string());
    }
    if let Some(stats) = info.stats.as_ref().filter(|_| details) {
        pairs.insert("BytesAdded".to_owned(), stats.bytes_added.to_string());
        if info.kind == BackupKind::Tree {
            pairs.insert("Files".to_owned(), stats.files.to_string());
        }
        pairs.insert("Warnings".to_owned(), stats.warnings.to_string());
    }
    // Backups in the clear are shown as always.
    for (key, said) in [("Encrypted", info.encrypted), (AUTHENTIC, info.authentic)] {
        if said {
            pairs.insert(key.to_owned(), "true".to_owned());
        }
    }
    show(&info.labels, &mut pairs);
    if !info.excluded.is_empty() {
        pairs.insert("ExcludedFiles".to_owned(), info.excluded.files.to_string());
        pairs.insert("ExcludedDirectories".to_owned(), info.excluded.directories.to_string());
        for by in &info.excluded.rules {
            let said = format!("{} files, {} directories", by.files, by.directories);
            pairs.insert(format!("Excluded.{}", by.rule), said);
        }
    }
    pairs.into()
}

/// What people say of a backup, as the API tells it.
#[derive(Debug, Default)]
pub(crate) struct SaidOfBackup {
    pub(crate) tags: Pairs,
    pub(crate) note: String,
    /// Empty where it is not pinned at present.
    pub(crate) keep_until: String,
}

/// What is said of a backup that was listed.
pub(crate) fn said(backup: &BackupInfo) -> SaidOfBackup {
    let text = |key: &str| backup.extra.get(key).cloned().unwrap_or_default();
    let tag = |(key, value): (&String, &String)| Some((key.strip_prefix(TAG)?.to_owned(), value.clone()));
    SaidOfBackup {
        tags: backup.extra.iter().filter_map(tag).collect(),
        note: text(NOTE),
        keep_until: if backup.extra.contains_key(PINNED) { text(KEEP_UNTIL) } else { String::new() },
    }
}

/// Adds what people say of a backup to what is shown of it.
fn show(labels: &Labels, pairs: &mut Pairs) {
    for (key, value) in &labels.tags {
        pairs.insert(format!("{TAG}{key}"), value.clone());
    }
    if !labels.note.is_empty() {
        pairs.insert(NOTE.to_owned(), labels.note.clone());
    }
    if let Some(until) = labels.keep_until {
        pairs.insert(KEEP_UNTIL.to_owned(), until.to_string());
    }
    if labels.pinned(jiff::Timestamp::now()) {
        pairs.insert(PINNED.to_owned(), "true".to_owned());
    }
}
