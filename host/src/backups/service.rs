//! The backup service: what it is made of.

use super::last::{Last, LastBackups};
use super::memory::Memory;
use super::seen::SeenBackups;
use crate::config::destinations::Destinations;
use crate::config::{BackupSettings, Excludes};
use convoy_activity::events::Events;
use convoy_backup::{Engine, EngineOptions, ExcludeRules};
use convoy_driver_sdk::{ErrorKind, Name};
use convoy_volumes::{Error, Result, Volumes};
use parking_lot::RwLock;
use std::path::Path;
use std::sync::Arc;

/// The backup service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Backups {
    pub(super) volumes: Arc<Volumes>,
    pub(super) events: Events,
    /// For what needs little memory; what moves data takes a share of `memory`.
    pub(super) engine: Engine,
    pub(super) memory: Memory,
    destinations: Arc<RwLock<Arc<Destinations>>>,
    excludes: Arc<RwLock<Arc<Excludes>>>,
    last: Arc<LastBackups>,
    pub(super) seen: Arc<SeenBackups>,
}

impl Backups {
    /// Creates the backup service for `volumes`, which tells `events` what it did; its state lives under
    /// `root`.
    pub fn new(volumes: Arc<Volumes>, events: Events, settings: BackupSettings, root: &Path) -> Self {
        let mut options = EngineOptions::default();
        if let Some(memory) = settings.memory {
            options.memory = memory;
        }
        Self {
            volumes,
            events,
            engine: Engine::new(options),
            memory: Memory::new(options, root),
            destinations: Arc::new(RwLock::new(Arc::new(settings.destinations))),
            excludes: Arc::new(RwLock::new(Arc::new(settings.excludes))),
            last: Arc::new(LastBackups::open(root)),
            seen: Arc::new(SeenBackups::open(root)),
        }
    }

    /// Takes these settings for every call that comes from now on, but for the memory.
    pub fn set_settings(&self, settings: &BackupSettings) {
        *self.destinations.write() = Arc::new(settings.destinations.clone());
        *self.excludes.write() = Arc::new(settings.excludes.clone());
    }

    /// Gives what the settings leave out of the backups of a volume.
    pub(super) fn excluded_from(&self, volume: &str) -> ExcludeRules {
        let excludes = Arc::clone(&self.excludes.read());
        excludes.of(volume)
    }

    /// Gives the settings of destinations as they are now.
    pub(super) fn destinations(&self) -> Arc<Destinations> {
        Arc::clone(&self.destinations.read())
    }

    /// Lists the last backup that was made of each volume at each destination, as far as this daemon knows.
    pub fn last_backups(&self) -> Vec<(Name, String, Last)> {
        self.last.all()
    }

    /// Finds the last backup of a volume at any destination, as far as this daemon knows.
    pub fn last_of(&self, volume: &str) -> Option<Last> {
        self.last.of(volume).into_iter().max_by_key(|last| last.time)
    }

    /// Names the snapshots of a volume that its next backups build on.
    pub fn bases(&self, volume: &str) -> impl Iterator<Item = String> {
        self.last.of(volume).into_iter().map(|last| last.snapshot)
    }

    /// Writes down that a backup was made.
    pub(super) async fn note(&self, volume: &Name, destination: String, last: Last) {
        let (notes, volume) = (Arc::clone(&self.last), volume.clone());
        // An error says that the daemon is going down.
        let _ = tokio::task::spawn_blocking(move || notes.note(&volume, &destination, last)).await;
    }

    /// Writes down that a backup is gone.
    pub(super) async fn forget(&self, backup: &str) {
        let (notes, backup) = (Arc::clone(&self.last), backup.to_owned());
        let _ = tokio::task::spawn_blocking(move || notes.forget(&backup)).await;
    }

    /// Runs work of the engine on a thread of its own: it moves and checks much, and would keep calls waiting
    /// that only ask for something.
    pub(super) async fn in_store<T, F>(&self, work: impl FnOnce(Self) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let (this, runtime, span) =
            (self.clone(), tokio::runtime::Handle::current(), tracing::Span::current());
        let done = tokio::task::spawn_blocking(move || span.in_scope(|| runtime.block_on(work(this))));
        done.await.unwrap_or_else(|error| {
            Err(Error::Backup {
                kind: ErrorKind::Internal,
                message: format!("the daemon failed in this work: {error}"),
                hint: Some("see its log".to_owned()),
            })
        })
    }
}
