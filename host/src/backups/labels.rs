//! Tags, notes and pins of backups: from requests to the engine, and which backups a filter wants.

use super::error::{backup_error, word};
use super::secret::Secret;
use super::service::Backups;
use super::shown::shown;
use convoy_activity::events::about;
use convoy_backup::{BackupError, KeepUntil, LabelChange, LabelError, Labels, PinChange};
use convoy_client::types::{BackupInfo, CreateBackup, Event, LabelBackup, ListBackups};
use convoy_driver_sdk::ErrorKind;
use convoy_objectstore::{plain_url, split};
use convoy_volumes::{Error, Result};
use std::sync::Arc;

impl Backups {
    /// Changes what is said of a backup, and answers what is known of it then.
    ///
    /// # Errors
    /// For labels that cannot be; for a backup that a storage system keeps itself; those of the store.
    pub async fn label(&self, asked: &LabelBackup) -> Result<BackupInfo> {
        let url = plain_url(&asked.url);
        if let Some(driver) = self.provider(split(&url).0) {
            let what = "tags, notes and pins of backups";
            return Err(Error::Unsupported { driver: driver.name().clone(), what });
        }
        let asked = asked.clone();
        self.in_store(move |this| async move { this.label_in_store(&url, &asked).await }).await
    }

    async fn label_in_store(&self, url: &str, asked: &LabelBackup) -> Result<BackupInfo> {
        let change = change(asked).map_err(refused)?;
        let (store, backup) = self.destinations().open_backup(url, &asked.endpoint).await?;
        let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        let (key, unencrypted) = store.key_to_read(&self.engine, secret, asked.allow_unencrypted).await?;
        let objects = || Arc::clone(&store.objects);
        let missing = |error| store.missing(error, &backup.volume, Some(&backup.backup));
        let labelled = self
            .engine
            .label(objects(), &backup.volume, &backup.backup, &change, key.as_ref(), unencrypted)
            .await
            .map_err(missing)?;
        let info = self.engine.inspect(objects(), &backup.volume, &backup.backup).await.map_err(missing)?;
        let event = about("backup.label", "", &backup.volume);
        self.events.send(Event { message: backup.to_string(), ..event });
        tracing::info!(%backup, tags = ?labelled.tags, keep_until = ?labelled.keep_until, "labelled a backup");
        Ok(shown(&convoy_backup::BackupInfo { labels: labelled, ..info }, &backup.to_string(), true))
    }
}

/// What a new backup is to have from the beginning.
pub(super) fn of_new(asked: &CreateBackup) -> Result<Labels> {
    let until = |text: &str| KeepUntil::parse(text, jiff::Timestamp::now());
    let keep_until = Some(asked.keep_until.as_str()).filter(|text| !text.is_empty()).map(until);
    let labels = Labels {
        tags: asked.tags.clone(),
        note: asked.note.clone(),
        keep_until: keep_until.transpose().map_err(refused)?,
    };
    labels.check().map_err(refused)?;
    Ok(labels)
}

fn change(asked: &LabelBackup) -> std::result::Result<LabelChange, LabelError> {
    Ok(LabelChange {
        set: asked.set.clone(),
        remove: asked.remove.iter().cloned().collect(),
        note: asked.note.clone(),
        pin: match asked.keep_until.as_deref() {
            None => PinChange::Leave,
            Some("") => PinChange::Unpin,
            Some(text) => PinChange::Pin(KeepUntil::parse(text, jiff::Timestamp::now())?),
        },
    })
}

fn refused(error: LabelError) -> Error {
    backup_error(BackupError::Label(error))
}

/// Says of a backup that it is pinned, with what lets it be deleted; any other error as it is.
pub(super) fn pinned(error: BackupError, url: &str) -> std::result::Result<Error, BackupError> {
    let BackupError::Pinned { .. } = &error else { return Err(error) };
    Ok(Error::Backup {
        kind: ErrorKind::InUse,
        message: error.to_string(),
        hint: Some(format!("`convoy backup unpin {}` lets it be deleted", word(url))),
    })
}

/// Which backups a request wants by what people say of them.
pub(super) struct LabelFilter {
    tags: Vec<(String, Option<String>)>,
    pinned: bool,
}

impl LabelFilter {
    /// The filter of a request.
    ///
    /// # Errors
    /// For a tag without a key.
    pub(super) fn of(asked: &ListBackups) -> Result<Self> {
        let tag = |text: &String| {
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (text.as_str(), None),
            };
            if key.is_empty() {
                let text = format!("invalid tag {text:?}: expected KEY or KEY=VALUE");
                return Err(Error::InvalidRequest(text));
            }
            Ok((key.to_owned(), value))
        };
        Ok(Self { tags: asked.tags.iter().map(tag).collect::<Result<_>>()?, pinned: asked.pinned })
    }

    /// Whether a backup is wanted: it has all of the tags, and is pinned if that is asked for.
    pub(super) fn wants(&self, labels: &Labels) -> bool {
        let has = |(key, value): &(String, Option<String>)| {
            labels.tags.get(key).is_some_and(|found| value.as_ref().is_none_or(|value| found == value))
        };
        self.tags.iter().all(has) && (!self.pinned || labels.pinned(jiff::Timestamp::now()))
    }

    /// Whether it wants only some.
    pub(super) fn is_given(&self) -> bool {
        self.pinned || !self.tags.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_wants_every_tag_and_the_pin() {
        let labels = Labels {
            tags: [("env".to_owned(), "prod".to_owned()), ("keep".to_owned(), String::new())].into(),
            keep_until: Some(KeepUntil::Forever),
            ..Labels::default()
        };
        let wants = |tags: &[&str], pinned: bool, labels: &Labels| {
            let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            LabelFilter::of(&ListBackups { tags, pinned, ..ListBackups::default() }).unwrap().wants(labels)
        };
        assert!(wants(&[], false, &Labels::default()));
        assert!(wants(&["env"], true, &labels) && wants(&["env=prod", "keep="], false, &labels));
        assert!(!wants(&["env=test"], false, &labels) && !wants(&["env", "other"], false, &labels));
        assert!(!wants(&["env=prod"], true, &Labels { keep_until: None, ..labels }));
        let none = ListBackups { tags: vec!["=prod".to_owned()], ..ListBackups::default() };
        assert!(LabelFilter::of(&none).is_err());
    }
}
