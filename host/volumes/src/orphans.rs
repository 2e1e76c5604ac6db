//! The volumes of a driver that could not be started, by the names of its records.
//!
//! They cannot be used, but they are known: Docker is told what is wrong and not that they are gone, and no
//! empty volume takes their name.

use crate::driver::ManagedDriver;
use crate::index::MergeReport;
use crate::name_cache::NameCache;
use crate::service::Volumes;
use convoy_driver_sdk::protocol::{Health, Volume};
use convoy_driver_sdk::{Name, Timestamp};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long records outside the daemon's root are looked for: they may be on a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What of a driver's own settings says where its records are, if they are not in its directory.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    config_path: PathBuf,
}

/// What all records have.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OrphanRecord {
    created_time: String,
}

impl Volumes {
    /// Puts the volumes of a driver that failed into the index. `root` is the daemon's.
    pub(crate) async fn add_orphans(&self, driver: &Arc<ManagedDriver>, root: &Path) -> MergeReport {
        let Some(error) = driver.failure() else { return MergeReport::default() };
        let why = match error.hint {
            Some(hint) if driver.is_opening() => {
                format!("driver {} is not open yet: {}: {hint}", driver.name(), error.message)
            }
            _ => format!("driver {} did not start: {error}", driver.name()),
        };
        let listing = self.index.begin_listing();
        let found = found(&self.name_cache, root.join(driver.name().as_str()), driver.name()).await;
        let volumes = found
            .into_iter()
            .map(|(name, created)| Volume::new(name, 0, created).health(Health::Damaged(why.clone())))
            .collect();
        self.index.merge(&listing, driver, volumes, |_| true)
    }
}

/// The volumes that have records, and when they were made; where those cannot be reached, the volumes as they
/// were last listed.
async fn found(known: &NameCache, root: PathBuf, driver: &Name) -> Vec<(Name, Timestamp)> {
    let settings: Option<Settings> = read(&root.join(format!("{driver}.cfg")));
    let mut found = records(&root, driver);
    let Some(Settings { config_path }) = settings else { return found };
    let looking = tokio::task::spawn_blocking({
        let driver = driver.clone();
        move || records(&config_path, &driver)
    });
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(Ok(elsewhere)) => found.extend(elsewhere),
        _ => found.extend(known.of(driver)),
    }
    found
}

fn records(dir: &Path, driver: &Name) -> Vec<(Name, Timestamp)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let name = file
            .to_str()
            .and_then(|file| file.strip_prefix(&format!("{driver}_volume_")))
            .and_then(|rest| rest.strip_suffix(".json"))
            .and_then(|name| Name::parse(name).ok());
        if let Some(name) = name {
            let created = read::<OrphanRecord>(&entry.path())
                .and_then(|record| Timestamp::parse(&record.created_time).ok())
                .unwrap_or_else(|| Timestamp::from_unix(0));
            found.push((name, created));
        }
    }
    found
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
