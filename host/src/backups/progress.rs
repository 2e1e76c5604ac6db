//! The engine's counters as a job's progress.

use super::memory::Share;
use convoy_activity::jobs::{Running, STALLED};
use convoy_backup::{Phase, Progress};
use convoy_client::types;
use std::time::Duration;

/// How often the counters are read.
const PERIOD: Duration = Duration::from_millis(200);

/// Runs work of the engine with its share of memory, which is lent when it stalls, and tells the job how far
/// it is. `phase` names the moving of data.
pub(super) async fn watched<T>(
    job: &Running,
    share: &Share,
    progress: &Progress,
    phase: &str,
    work: impl Future<Output = T>,
) -> T {
    let report = job.reporter();
    let told = async {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => {
                    report(wire(progress, phase));
                    return result;
                }
                () = tokio::time::sleep(PERIOD) => report(wire(progress, phase)),
            }
        }
    };
    job.attended(STALLED, told, async { share.lend() }).await
}

fn wire(progress: &Progress, phase: &str) -> types::Progress {
    let now = progress.snapshot();
    let with_files = now.files_total > 0;
    types::Progress {
        phase: match now.phase {
            Phase::Data => phase.to_owned(),
            other => other.as_str().to_owned(),
        },
        bytes_done: now.bytes_done,
        bytes_total: (now.bytes_total > 0).then_some(now.bytes_total),
        files_done: with_files.then_some(now.files_done),
        files_total: with_files.then_some(now.files_total),
        bytes_transferred: Some(now.bytes_moved),
        ..types::Progress::default()
    }
}
