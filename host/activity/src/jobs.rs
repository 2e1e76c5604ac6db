//! Long work: what runs, how far it is, and how it is stopped.

use crate::metrics::METRICS;
use convoy_client::types::{DriverCall, Job, Progress};
use convoy_driver_sdk::context::Progress as DriverProgress;
use convoy_driver_sdk::{Name, Timestamp};
use convoy_drivers::RequestContext;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long work that makes no progress is taken for work. After that its storage hangs (an NFS server that
/// is gone keeps the threads that read from it), and nobody else is to wait for what it occupies.
pub const STALLED: Duration = Duration::from_secs(300);

/// The jobs that run. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Jobs(Arc<Mutex<BTreeMap<String, Arc<State>>>>);

/// Every kind of job.
pub const KINDS: [&str; 25] = [
    "volume create",
    "restore",
    "restore parts",
    "restore in place",
    "snapshot clone",
    "snapshot create",
    "snapshot revert",
    "backup create",
    "backup verify",
    "backup prune",
    "backup stats",
    "schedule run",
    "scheduled snapshot",
    "scheduled backup",
    "doctor",
    "backup ls",
    "backup find",
    "backup diff",
    "backup cat",
    "backup dump",
    "snapshot ls",
    "snapshot find",
    "snapshot diff",
    "snapshot cat",
    "snapshot dump",
];

/// What a job is about, or other work that somebody asked for.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// `backup create`, `restore`, `snapshot create` and the like.
    pub kind: &'static str,
    /// The volume; empty where there is none.
    pub volume: String,
    /// The snapshot; empty where there is none.
    pub snapshot: String,
    /// The destination or backup; empty where there is none.
    pub url: String,
    /// The schedule; empty where there is none.
    pub schedule: String,
}

impl About {
    /// Describes work with one volume.
    pub fn volume(kind: &'static str, volume: &str) -> Self {
        Self { kind, volume: volume.to_owned(), ..Self::default() }
    }

    /// Names the kind of the event that tells of its failure.
    pub fn failure(&self) -> &'static str {
        match self.kind.split(' ').next() {
            Some("backup" | "key") => "backup.failure",
            Some("snapshot") => "snapshot.failure",
            Some("schedule") => "schedule.failure",
            _ => "volume.failure",
        }
    }
}

#[derive(Debug)]
struct State {
    id: String,
    about: About,
    started_at: Timestamp,
    started: Instant,
    progress: watch::Sender<Progress>,
    moved: Mutex<LastProgress>,
    cancel: CancellationToken,
    /// What names its calls of drivers.
    request_id: Mutex<String>,
    failed: AtomicBool,
}

/// How far a job was when that changed last.
#[derive(Debug)]
struct LastProgress {
    mark: Progress,
    at: Instant,
}

/// Progress but for rates, which change by themselves. Totals grow while it is counted what there is to do.
fn mark(progress: &Progress) -> Progress {
    Progress { bytes_per_second: None, eta_seconds: None, ..progress.clone() }
}

/// A job that runs; dropping it ends it.
#[derive(Debug)]
pub struct Running {
    jobs: Jobs,
    state: Arc<State>,
}

impl Jobs {
    /// Begins a job; its kind is one of [`KINDS`].
    pub fn begin(&self, about: About) -> Running {
        let state = Arc::new(State {
            id: format!("job-{:016x}", rand::random::<u64>()),
            about,
            started_at: Timestamp::now(),
            started: Instant::now(),
            progress: watch::Sender::default(),
            moved: Mutex::new(LastProgress { mark: mark(&Progress::default()), at: Instant::now() }),
            cancel: CancellationToken::new(),
            request_id: Mutex::default(),
            failed: AtomicBool::new(false),
        });
        debug_assert!(KINDS.contains(&state.about.kind), "{} is not among the kinds", state.about.kind);
        self.0.lock().insert(state.id.clone(), Arc::clone(&state));
        tracing::debug!(job = state.id, kind = state.about.kind, volume = state.about.volume, "began");
        Running { jobs: self.clone(), state }
    }

    /// Lists what runs, by id. `calls` are those that drivers have not answered, with the driver of each.
    pub fn list(&self, calls: &[(Name, DriverCall)]) -> BTreeMap<String, Job> {
        let all = self.0.lock();
        all.iter().map(|(id, state)| (id.clone(), state.describe(calls))).collect()
    }

    /// Asks a job to stop. Answers whether there is one of that id.
    pub fn cancel(&self, id: &str) -> bool {
        let all = self.0.lock();
        all.get(id).inspect(|state| state.cancel.cancel()).is_some()
    }

    /// Asks everything to stop.
    pub fn cancel_all(&self) {
        self.0.lock().values().for_each(|state| state.cancel.cancel());
    }
}

impl State {
    fn describe(&self, calls: &[(Name, DriverCall)]) -> Job {
        let request_id = self.request_id.lock();
        let mine = calls.iter().filter(|(_, call)| !request_id.is_empty() && call.request_id == *request_id);
        let in_words = |(driver, call): &(Name, DriverCall)| format!("driver {driver}: {}", call.in_words());
        Job {
            id: self.id.clone(),
            kind: self.about.kind.to_owned(),
            volume: self.about.volume.clone(),
            snapshot: self.about.snapshot.clone(),
            url: self.about.url.clone(),
            state: if self.cancel.is_cancelled() { "cancelling" } else { "running" }.to_owned(),
            started_at: self.started_at.to_legacy(),
            idle_seconds: self.idle().as_secs(),
            progress: self.progress.borrow().clone(),
            calls: mine.map(in_words).collect(),
        }
    }

    fn moves_to(&self, progress: &Progress) {
        let (mark, mut moved) = (mark(progress), self.moved.lock());
        if moved.mark != mark {
            *moved = LastProgress { mark, at: Instant::now() };
        }
    }

    /// Says that it is well, as far as it is.
    fn touch(&self) {
        self.moved.lock().at = Instant::now();
    }

    /// For how long it has made no progress.
    fn idle(&self) -> Duration {
        self.moved.lock().at.elapsed()
    }

    /// Adds what follows from the bytes and the time they took.
    fn with_rate(&self, mut progress: Progress) -> Progress {
        let elapsed = self.started.elapsed().as_secs();
        if progress.bytes_per_second.is_none() && elapsed > 0 && progress.bytes_done > 0 {
            let rate = progress.bytes_done / elapsed;
            progress.bytes_per_second = Some(rate);
            progress.eta_seconds = progress
                .bytes_total
                .and_then(|total| total.saturating_sub(progress.bytes_done).checked_div(rate));
        }
        progress
    }
}

impl Running {
    /// Names the job.
    pub fn id(&self) -> &str {
        &self.state.id
    }

    /// Says what it is about.
    pub fn about(&self) -> &About {
        &self.state.about
    }

    /// Counts it among those that failed.
    pub fn failed(&self) {
        self.state.failed.store(true, Ordering::Relaxed);
    }

    /// Gives the token that is cancelled when the job is to stop.
    pub fn cancel(&self) -> CancellationToken {
        self.state.cancel.clone()
    }

    /// Gives a receiver of how far the job is.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.state.progress.subscribe()
    }

    /// Gives a function to report progress with, from any thread.
    pub fn reporter(&self) -> impl Fn(Progress) + Send + Sync + 'static {
        let state = Arc::clone(&self.state);
        move |progress| {
            state.moves_to(&progress);
            let mut progress = state.with_rate(progress);
            state.progress.send_modify(|now| {
                progress.warnings.append(&mut now.warnings);
                *now = progress;
            });
        }
    }

    /// Adds what whoever asked for the job has to know at its end.
    pub fn warn(&self, warnings: impl IntoIterator<Item = String>) {
        let warnings: Vec<String> = warnings.into_iter().collect();
        if !warnings.is_empty() {
            self.state.progress.send_modify(|now| now.warnings.extend(warnings));
        }
    }

    /// Says that it is well although it makes no progress: it waits for others.
    pub fn is_patient(&self) {
        self.state.touch();
    }

    /// Runs a part of the job to its end. If nothing moves for as long as `patience`, `stalled` runs beside
    /// it, once.
    pub async fn attended<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = T>,
        stalled: impl Future<Output = ()>,
    ) -> T {
        self.is_patient();
        let mut work = pin!(work);
        tokio::select! {
            biased;
            result = &mut work => return result,
            () = self.stalls(patience) => {}
        }
        let State { id, about, .. } = &*self.state;
        let (volume, seconds) = (&about.volume, patience.as_secs());
        tracing::warn!(
            job = id,
            kind = about.kind,
            volume,
            seconds,
            "no progress: others wait for it no longer"
        );
        futures::future::join(work, stalled).await.0
    }

    async fn stalls(&self, patience: Duration) {
        while let Some(left) = patience.checked_sub(self.state.idle()).filter(|left| !left.is_zero()) {
            tokio::time::sleep(left).await;
        }
    }

    /// Creates the context for calls of drivers in this job.
    pub fn call(&self, request_id: &str) -> RequestContext {
        *self.state.request_id.lock() = request_id.to_owned();
        let (report, state) = (self.reporter(), Arc::clone(&self.state));
        RequestContext::new(request_id).with_cancel(self.cancel()).with_progress(move |progress| {
            report(from_driver(progress));
            // A driver that says the same again has looked: a provider may take long from one percent to the
            // next.
            state.touch();
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.jobs.0.lock().remove(&self.state.id);
        let failed = self.state.failed.load(Ordering::Relaxed);
        METRICS.job_ended(self.state.about.kind, failed, self.state.started.elapsed());
        tracing::debug!(job = self.state.id, kind = self.state.about.kind, "ended");
    }
}

fn from_driver(progress: DriverProgress) -> Progress {
    let mut wire = Progress { phase: progress.note.unwrap_or_default(), ..Progress::default() };
    match progress.unit.as_str() {
        "files" => {
            wire.files_done = Some(progress.done);
            wire.files_total = progress.total;
        }
        "bytes" => {
            wire.bytes_done = progress.done;
            wire.bytes_total = progress.total;
        }
        unit => {
            let total = progress.total.map(|total| format!(" of {total}")).unwrap_or_default();
            let counted = format!("{}{total} {unit}", progress.done);
            wire.phase = if wire.phase.is_empty() { counted } else { format!("{} ({counted})", wire.phase) };
        }
    }
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_listed_while_it_runs_and_can_be_cancelled() {
        let jobs = Jobs::default();
        let about = About { kind: "restore", volume: "vol1".to_owned(), ..About::default() };
        let running = jobs.begin(about);
        let call = running.call("r1");
        call.progress(DriverProgress::new(5, "bytes").total(Some(10)).note(Some("copying".to_owned())));
        let made = |request_id: &str| DriverCall {
            method: "volume.create".to_owned(),
            request_id: request_id.to_owned(),
            volume: "vol1".to_owned(),
            seconds: 100,
            waiting: false,
        };
        let calls = [made("r0"), made("r1")].map(|call| (Name::from_static("vfs"), call));
        let listed = jobs.list(&calls).remove(running.id()).unwrap();
        assert_eq!(listed.calls, ["driver vfs: volume.create of vol1 has not been answered for 100 s"]);
        assert_eq!((listed.kind.as_str(), listed.state.as_str()), ("restore", "running"));
        assert_eq!((listed.progress.bytes_done, listed.progress.bytes_total), (5, Some(10)));
        assert!(!call.cancel().is_cancelled());
        assert!(jobs.cancel(running.id()));
        assert!(call.cancel().is_cancelled());
        assert_eq!(jobs.list(&[])[running.id()].state, "cancelling");
        drop(running);
        assert!(jobs.list(&[]).is_empty() && !jobs.cancel("job-1"));
    }

    #[tokio::test]
    async fn a_job_stalls_once_nothing_moves_and_not_before() {
        const PATIENCE: Duration = Duration::from_secs(2);
        let jobs = Jobs::default();
        let running = jobs.begin(About::volume("restore", "vol1"));
        let report = running.reporter();
        let stalled = std::cell::Cell::new(false);
        let work = async {
            for step in 0..6 {
                tokio::time::sleep(PATIENCE / 4).await;
                report(Progress { bytes_done: step, ..Progress::default() });
            }
            let call = running.call("r1");
            for _ in 0..6 {
                tokio::time::sleep(PATIENCE / 4).await;
                let told = DriverProgress::new(40, "percent").total(Some(100));
                call.progress(told);
            }
            running.is_patient();
            assert!(!stalled.get(), "while it moved, or its driver looked");
            // Telling the same again is no progress.
            let told_again = Progress { bytes_done: 5, bytes_per_second: Some(7), ..Progress::default() };
            while !stalled.get() {
                tokio::time::sleep(PATIENCE / 4).await;
                report(told_again.clone());
            }
            assert!(jobs.list(&[])[running.id()].idle_seconds >= PATIENCE.as_secs());
            tokio::time::sleep(PATIENCE / 2).await;
            "done"
        };
        let stalls = async { assert!(!stalled.replace(true), "once") };
        assert_eq!(running.attended(PATIENCE, work, stalls).await, "done");
    }

    #[test]
    fn other_units_become_text() {
        let percent = DriverProgress::new(40, "percent").total(Some(100));
        assert_eq!(from_driver(percent).phase, "40 of 100 percent");
    }
}
