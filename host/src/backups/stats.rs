//! What the backups at a destination are, and what they take there.

use super::error::backup_error;
use super::progress::watched;
use super::secret::Secret;
use super::service::Backups;
use super::store::Store;
use convoy_activity::jobs::Running;
use convoy_backup::{Fault, Progress, StatsOptions, StatsSummary};
use convoy_client::types::{CountBackups, Problem, StatsReport, VolumeStats};
use convoy_volumes::Result;
use std::sync::Arc;

impl Backups {
    pub(super) async fn stats_in_store(
        &self,
        url: &str,
        asked: &CountBackups,
        job: &Running,
    ) -> Result<StatsReport> {
        let store = self.destinations().open_known(&self.engine, url, &asked.endpoint).await?;
        let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        // Counting restores nothing: what is not encrypted counts too.
        let (key, _) = store.key_to_read(&self.engine, secret, true).await?;
        let volume = (!asked.volume_name.is_empty()).then_some(asked.volume_name.as_str());
        let (options, progress, cancel) = (StatsOptions { key }, Progress::new(), job.cancel());
        let engine = self.memory.share(job).await?;
        let running =
            Box::pin(engine.stats(Arc::clone(&store.objects), volume, &options, &progress, &cancel));
        let summary = watched(job, &engine, &progress, "counting", running).await;
        let summary = summary.map_err(|error| match volume {
            Some(volume) => store.missing(error, volume, None),
            None => backup_error(error),
        })?;
        Ok(report(&store, summary))
    }
}

fn report(store: &Store, summary: StatsSummary) -> StatsReport {
    let problem = |fault: &Fault| Problem {
        backup_url: match fault.backup.as_str() {
            "" => String::new(),
            backup => store.destination.backup_url(backup, &fault.volume),
        },
        object: String::new(),
        message: fault.what.clone(),
        kind: fault.kind.as_str().to_owned(),
    };
    let problems: Vec<Problem> = summary.faults.iter().map(problem).collect();
    let mut volumes = summary.volumes;
    volumes.sort_by(|one, other| one.volume.cmp(&other.volume));
    let total = volumes.iter().fold(start(), |total, volume| together(&total, volume));
    StatsReport {
        total: shown(&total),
        volumes: volumes.iter().map(shown).collect(),
        more_problems: summary.fault_count.saturating_sub(problems.len() as u64),
        problems,
        skipped: summary.skipped,
        sealed: summary.sealed,
    }
}

/// A total of nothing, of which all is known.
fn start() -> convoy_backup::VolumeStats {
    let chunks = convoy_backup::ChunkStats { exact: true, ..convoy_backup::ChunkStats::default() };
    convoy_backup::VolumeStats {
        chunks: Some(chunks),
        unneeded_bytes: Some(0),
        ..convoy_backup::VolumeStats::default()
    }
}

/// Two volumes share no chunk. What is not known of one is not known of both.
fn together(
    one: &convoy_backup::VolumeStats,
    other: &convoy_backup::VolumeStats,
) -> convoy_backup::VolumeStats {
    let sum = u64::saturating_add;
    let both = |(one, other)| convoy_backup::ChunkStats::together(one, other);
    convoy_backup::VolumeStats {
        volume: String::new(),
        backups: sum(one.backups, other.backups),
        encrypted: sum(one.encrypted, other.encrypted),
        unmeasured: sum(one.unmeasured, other.unmeasured),
        files: sum(one.files, other.files),
        logical_bytes: sum(one.logical_bytes, other.logical_bytes),
        chunked_bytes: sum(one.chunked_bytes, other.chunked_bytes),
        stored_bytes: sum(one.stored_bytes, other.stored_bytes),
        packs: sum(one.packs, other.packs),
        chunks: one.chunks.zip(other.chunks).map(both),
        unneeded_bytes: one.unneeded_bytes.zip(other.unneeded_bytes).map(|(one, other)| sum(one, other)),
    }
}

fn shown(stats: &convoy_backup::VolumeStats) -> VolumeStats {
    let chunks = stats.chunks.as_ref();
    VolumeStats {
        volume: stats.volume.clone(),
        backups: stats.backups,
        unmeasured: stats.unmeasured,
        files: stats.files,
        logical_bytes: stats.logical_bytes,
        stored_bytes: stats.stored_bytes,
        packs: stats.packs,
        chunks: chunks.map(|chunks| chunks.distinct),
        chunks_estimated: chunks.is_some_and(|chunks| !chunks.exact),
        chunk_bytes: chunks.map(|chunks| chunks.bytes),
        chunk_stored_bytes: chunks.map(|chunks| chunks.stored_bytes),
        dedup_ratio: chunks.and_then(|chunks| ratio(stats.chunked_bytes, chunks.bytes)),
        compression_ratio: chunks.and_then(|chunks| ratio(chunks.bytes, chunks.stored_bytes)),
        unneeded_bytes: stats.unneeded_bytes,
    }
}

/// To two digits; none of nothing.
fn ratio(of: u64, to: u64) -> Option<f64> {
    // Bytes are far below 2^52: exact enough as floats.
    (to > 0).then(|| (of as f64 / to as f64 * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(bytes: u64, chunks: Option<u64>) -> convoy_backup::VolumeStats {
        let chunks = chunks.map(|bytes| convoy_backup::ChunkStats {
            distinct: 2,
            exact: true,
            stored: 2,
            bytes,
            stored_bytes: bytes / 2,
        });
        convoy_backup::VolumeStats {
            volume: "v".to_owned(),
            backups: 1,
            logical_bytes: bytes,
            chunked_bytes: bytes,
            stored_bytes: 10,
            unneeded_bytes: Some(1),
            chunks,
            ..convoy_backup::VolumeStats::default()
        }
    }

    #[test]
    fn a_total_knows_what_is_known_of_all() {
        let both = together(&together(&start(), &volume(300, Some(100))), &volume(100, Some(100)));
        let both = shown(&both);
        assert_eq!((both.backups, both.logical_bytes, both.chunks), (2, 400, Some(4)));
        assert_eq!((both.dedup_ratio, both.compression_ratio), (Some(2.0), Some(2.0)));
        assert_eq!((both.unneeded_bytes, both.volume.as_str()), (Some(2), ""));
        let one = shown(&together(&volume(300, Some(100)), &volume(100, None)));
        assert_eq!((one.logical_bytes, one.chunks, one.dedup_ratio), (400, None, None));
        assert_eq!(shown(&start()).dedup_ratio, None, "there is no share of nothing");
    }
}
