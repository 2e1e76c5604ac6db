//! Searches many backups, or many snapshots.

use super::super::error::backup_error;
use super::super::memory::Share;
use super::super::secret::Secret;
use super::super::service::Backups;
use super::super::store::Store;
use super::super::trees::{Tree, died, open_backup};
use super::{Lines, entries, read};
use convoy_activity::jobs::Running;
use convoy_backup::look::{self, Pattern, Versions};
use convoy_backup::{BackupError, BackupInfo, RestoreOptions, Searched};
use convoy_client::types::{BrowseLine, FindFiles, FoundFile};
use convoy_driver_sdk::Timestamp;
use convoy_driver_sdk::protocol::Snapshot;
use convoy_objectstore::{BackupUrl, plain_url};
use convoy_volumes::{Entry, Error, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Where what is found goes, and what was told already.
struct Told<L> {
    lines: L,
    versions: Versions,
    /// What need not be read again, by volume.
    searched: HashMap<String, Searched>,
}

/// What is searched, one tree after the other.
struct Search<L> {
    pattern: Pattern,
    told: Arc<Mutex<Told<L>>>,
    /// What could not be searched.
    failed: Vec<Error>,
    /// How many trees there are.
    all: u64,
    /// Whether a note of a tree was told: one is enough.
    noted: bool,
}

impl Backups {
    /// Finds files in the backups at a destination, or in all snapshots, the newest first: a line for each
    /// version. What cannot be searched is told in notes, and in the end by an error.
    ///
    /// # Errors
    /// [`Error::Backup`] for a pattern that is no glob; those of the store; what could not be searched.
    pub(crate) async fn find_files(
        &self,
        asked: FindFiles,
        job: &Running,
        request_id: &str,
        lines: impl Lines<FoundFile>,
    ) -> Result<()> {
        let pattern = Pattern::new(&asked.pattern).map_err(backup_error)?;
        let since = match asked.since.as_str() {
            "" => i64::MIN,
            text => {
                let time =
                    Timestamp::parse(text).map_err(|error| Error::InvalidRequest(error.to_string()))?;
                time.unix()
            }
        };
        let told = Told { lines, versions: Versions::default(), searched: HashMap::new() };
        let told = Arc::new(Mutex::new(told));
        let mut search = Search { pattern, told, failed: Vec::new(), all: 0, noted: false };
        if asked.url.is_empty() {
            self.find_in_snapshots(&asked, since, &mut search, job, request_id).await?;
        } else {
            self.find_in_backups(&asked, since, &mut search, job, request_id).await?;
        }
        search.end()
    }

    async fn find_in_backups<L: Lines<FoundFile>>(
        &self,
        asked: &FindFiles,
        since: i64,
        search: &mut Search<L>,
        job: &Running,
        request_id: &str,
    ) -> Result<()> {
        let url = plain_url(&asked.url);
        self.refuse_to_look(&url)?;
        let store = self.destinations().open_known(&self.engine, &url, &asked.endpoint).await?;
        let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        let (key, unencrypted) = store.key_to_read(&self.engine, secret, asked.allow_unencrypted).await?;
        let volume = (!asked.volume_name.is_empty()).then_some(asked.volume_name.as_str());
        let listed = self.engine.list_checked(Arc::clone(&store.objects), volume, key.as_ref()).await;
        let listing = listed.map_err(|error| store.missing(error, &asked.volume_name, None))?;
        for (volume, backup, error) in listing.unreadable {
            search.all += 1;
            search.fail(&store.destination.backup_url(&backup, &volume), backup_error(error)).await?;
        }
        let options = RestoreOptions { key, unencrypted, allow_losses: false };
        let made = |info: &BackupInfo| Timestamp::parse(&info.created).map_or(i64::MIN, Timestamp::unix);
        let mut backups: Vec<BackupInfo> =
            listing.backups.into_iter().filter(|info| made(info) >= since).collect();
        backups.sort_by_key(|info| std::cmp::Reverse((made(info), info.backup.clone())));
        let share = self.memory.share(job).await?;
        for info in backups {
            search.all += 1;
            let url = store.destination.backup_url(&info.backup, &info.volume);
            let opened = self.open_listed(&store, &info, &options, &share, job).await;
            let found = FoundFile {
                backup_url: url.clone(),
                snapshot_name: info.snapshot,
                volume_name: info.volume,
                created_time: info.created,
                ..FoundFile::default()
            };
            self.search(search, opened, found, &url, Some(&share), job, request_id).await?;
        }
        Ok(())
    }

    async fn open_listed(
        &self,
        store: &Store,
        info: &BackupInfo,
        options: &RestoreOptions,
        share: &Share,
        job: &Running,
    ) -> Result<Tree> {
        let backup = BackupUrl {
            destination: store.destination.clone(),
            backup: info.backup.clone(),
            volume: info.volume.clone(),
        };
        open_backup(store, &backup, info, options, share, job).await
    }

    async fn find_in_snapshots<L: Lines<FoundFile>>(
        &self,
        asked: &FindFiles,
        since: i64,
        search: &mut Search<L>,
        job: &Running,
        request_id: &str,
    ) -> Result<()> {
        let volumes = match asked.volume_name.as_str() {
            "" => self.volumes.all(),
            name => match self.volumes.get(name) {
                Some(entry) => vec![entry],
                None => return Err(Error::VolumeNotFound(name.to_owned())),
            },
        };
        let mut snapshots: Vec<(Entry, Snapshot)> = volumes
            .iter()
            .flat_map(|entry| entry.volume.snapshots.iter().map(|snapshot| (entry.clone(), snapshot.clone())))
            .filter(|(_, snapshot)| snapshot.created.unix() >= since)
            .collect();
        snapshots.sort_by_key(|(_, snapshot)| {
            std::cmp::Reverse((
                snapshot.created.unix(),
                snapshot.volume.to_string(),
                snapshot.name.to_string(),
            ))
        });
        for (entry, snapshot) in snapshots {
            search.all += 1;
            let place = format!("snapshot {} of volume {}", snapshot.name, entry.volume.name);
            let opened = self.open_snapshot(&entry, &snapshot, job, request_id).await;
            let found = FoundFile {
                snapshot_name: snapshot.name.to_string(),
                volume_name: entry.volume.name.to_string(),
                created_time: snapshot.created.to_legacy(),
                ..FoundFile::default()
            };
            self.search(search, opened, found, &place, None, job, request_id).await?;
        }
        Ok(())
    }

    /// Searches one tree. What is wrong with it is told, and ends nothing.
    #[allow(clippy::too_many_arguments, reason = "a tree, what is searched for, and for whom")]
    async fn search<L: Lines<FoundFile>>(
        &self,
        search: &mut Search<L>,
        opened: Result<Tree>,
        found: FoundFile,
        place: &str,
        share: Option<&Share>,
        job: &Running,
        request_id: &str,
    ) -> Result<()> {
        job.is_patient();
        let mut trees = match opened {
            Ok(tree) => vec![tree],
            Err(error) => return search.fail(place, error).await,
        };
        let note = trees.first().and_then(|tree| tree.note.clone());
        if let Some(note) = note.filter(|_| !search.noted) {
            search.noted = true;
            search.note(note).await?;
        }
        let (told, pattern) = (Arc::clone(&search.told), search.pattern.clone());
        // Too many versions are not this tree's fault.
        let ended = Arc::new(Mutex::new(None));
        let why = Arc::clone(&ended);
        let result = read(&mut trees, job, share, move |[tree], cancel| {
            let Told { lines, versions, searched } = &mut *told.lock();
            let searched = searched.entry(found.volume_name.clone()).or_default();
            look::find(&*tree.browse, &pattern, searched, cancel, &mut |node| match versions
                .is_new(&found.volume_name, &node)
            {
                Ok(true) => {
                    lines(BrowseLine::Entry(FoundFile { file: entries::file(&node), ..found.clone() }))
                }
                Ok(false) => Ok(()),
                Err(error) => {
                    *why.lock() = Some(error);
                    Err(BackupError::Cancelled)
                }
            })
        })
        .await;
        for tree in trees {
            tree.close(self, request_id).await;
        }
        if let Some(error) = ended.lock().take() {
            return Err(backup_error(error));
        }
        match result {
            Ok(()) => Ok(()),
            Err(error) => search.fail(place, error).await,
        }
    }
}

impl<L: Lines<FoundFile>> Search<L> {
    /// Tells something between two trees. Whoever reads slowly may keep it waiting.
    async fn note(&self, text: String) -> Result<()> {
        let told = Arc::clone(&self.told);
        let noted = tokio::task::spawn_blocking(move || (told.lock().lines)(BrowseLine::Note(text)));
        noted.await.map_err(died)?.map_err(backup_error)
    }

    async fn fail(&mut self, place: &str, error: Error) -> Result<()> {
        if matches!(error, Error::Cancelled(_)) {
            return Err(error);
        }
        self.note(format!("{place} was not searched to its end: {}", error.full_text())).await?;
        self.failed.push(error);
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        let (failed, all) = (self.failed.len(), self.all);
        let Some(first) = self.failed.pop() else { return Ok(()) };
        Err(Error::Backup {
            kind: first.kind(),
            message: format!("{failed} of {all} could not be searched: what they have is not told"),
            hint: Some("the notes above say which, and why".to_owned()),
        })
    }
}
