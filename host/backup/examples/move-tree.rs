//! Backs up and restores by hand, without a daemon: for measurements, and for tests that kill it.
//!
//! `move-tree backup STORE-DIR VOLUME BACKUP SOURCE`, where SOURCE is a directory, or a device or file used
//! as one; `restore STORE-DIR VOLUME BACKUP TARGET`; `prune STORE-DIR VOLUME`;
//! `label STORE-DIR VOLUME BACKUP NOTE`. Prints one JSON line: milliseconds, bytes, peak memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use convoy_backup::{
    BackupMeta, BackupOptions, Engine, Extents, LabelChange, Progress, PruneOptions, RestoreOptions,
    SameFile, Source, Target, Unencrypted,
};
use convoy_objectstore::{DirectoryStore, ObjectStore};
use tokio_util::sync::CancellationToken;

/// Peak resident memory of this process in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let engine = Engine::default();
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    let started = Instant::now();
    let said = match args[..] {
        ["backup", store, volume, backup, source] => {
            let store: Arc<dyn ObjectStore> = Arc::new(DirectoryStore::open(store).await?);
            let meta = BackupMeta {
                backup: backup.into(),
                volume: volume.into(),
                driver: "vfs".into(),
                volume_created: convoy_backup::timestamp::now(),
                snapshot: backup.into(),
                ..BackupMeta::default()
            };
            let path = Path::new(source).to_owned();
            let source = if path.is_dir() {
                Source::Tree { path, same: SameFile::ChangeTime }
            } else {
                use std::io::{Seek, SeekFrom};
                let size = std::fs::File::open(&path)?.seek(SeekFrom::End(0))?;
                Source::Block { device: path, size, extents: Extents::All }
            };
            let done =
                engine.backup(store, meta, source, &BackupOptions::default(), &progress, &cancel).await?;
            serde_json::json!({ "read": done.stats.bytes_read, "added": done.stats.bytes_added, "files": done.stats.files })
        }
        ["restore", store, volume, backup, target] => {
            let store: Arc<dyn ObjectStore> = Arc::new(DirectoryStore::open(store).await?);
            let path = Path::new(target).to_owned();
            let target = if path.is_dir() {
                Target::Tree { path }
            } else {
                let size = std::fs::metadata(&path)?.len();
                Target::Block { device: path, size, zeroed: false }
            };
            let done = engine
                .restore(store, volume, backup, target, &RestoreOptions::default(), &progress, &cancel)
                .await?;
            serde_json::json!({ "bytes": done.bytes, "files": done.files })
        }
        ["label", store, volume, backup, note] => {
            let store: Arc<dyn ObjectStore> = Arc::new(DirectoryStore::open(store).await?);
            let change = LabelChange { note: Some(note.to_owned()), ..LabelChange::default() };
            engine.label(store, volume, backup, &change, None, Unencrypted::default()).await?;
            serde_json::json!({ "labels": 1 })
        }
        ["prune", store, volume] => {
            let store: Arc<dyn ObjectStore> = Arc::new(DirectoryStore::open(store).await?);
            let done =
                engine.prune(store, Some(volume), &PruneOptions::default(), &progress, &cancel).await?;
            serde_json::json!({ "objects": done.objects, "bytes": done.bytes })
        }
        _ => return Err("see the top of this file for what it takes".into()),
    };
    let millis = started.elapsed().as_millis();
    #[allow(clippy::print_stdout)]
    {
        println!("{}", serde_json::json!({ "millis": millis, "peak_kib": peak(), "done": said }));
    }
    Ok(())
}
