//! What is counted while the daemon runs, and what is looked up when somebody asks: metrics in the text form
//! of OpenMetrics, which Prometheus reads.
//!
//! Counters belong to the process and not to a service, as the log does: whatever happens counts where it
//! happens. `scrape` adds what is looked up: volumes, mounts, pools, schedules, backups; `process`: the
//! process itself.

mod process;
pub mod scrape;

use convoy_driver_sdk::{DriverError, ErrorKind};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// What answers are sent as.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds in seconds: from memory to a cloud that attaches a disk.
const CALL_SECONDS: [f64; 12] = [0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0];

/// Bounds in seconds: from a snapshot to a backup that takes a day.
const JOB_SECONDS: [f64; 10] = [0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0];

/// The counters of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<CallLabels, Histogram, fn() -> Histogram>,
    driver_calls: Family<DriverLabels, Counter>,
    driver_seconds: Family<MethodLabels, Histogram, fn() -> Histogram>,
    driver_waiting: Family<DriverName, Gauge>,
    job_seconds: Family<KindLabel, Histogram, fn() -> Histogram>,
    jobs: Family<JobLabels, Counter>,
    bytes: Family<BytesLabel, Counter>,
    runs: Family<RunLabels, Counter>,
    events: Family<KindLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    call: String,
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriverLabels {
    driver: String,
    method: String,
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    driver: String,
    method: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriverName {
    driver: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    kind: String,
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BytesLabel {
    what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    schedule: String,
    result: String,
}

/// Bytes that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytes {
    /// Of volumes that were backed up.
    BackedUp,
    /// Read from them.
    Read,
    /// Added to stores.
    Stored,
    /// Written by restores.
    Restored,
}

impl Bytes {
    fn as_str(self) -> &'static str {
        match self {
            Self::BackedUp => "backed_up",
            Self::Read => "read",
            Self::Stored => "stored",
            Self::Restored => "restored",
        }
    }
}

impl JobLabels {
    fn new(kind: &str, failed: bool) -> Self {
        let result = if failed { "failure" } else { "success" };
        Self { kind: kind.to_owned(), result: result.to_owned() }
    }
}

fn of_calls() -> Histogram {
    Histogram::new(CALL_SECONDS)
}

fn of_jobs() -> Histogram {
    Histogram::new(JOB_SECONDS)
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("convoy");
        let requests = Family::default();
        let request_seconds = Family::new_with_constructor(of_calls as fn() -> Histogram);
        let driver_calls = Family::default();
        let driver_seconds = Family::new_with_constructor(of_calls as fn() -> Histogram);
        let driver_waiting = Family::default();
        let job_seconds = Family::new_with_constructor(of_jobs as fn() -> Histogram);
        let jobs = Family::default();
        let bytes = Family::default();
        let runs = Family::default();
        let events = Family::default();
        registry.register("requests", "Calls of the API that were answered", Family::clone(&requests));
        registry.register_with_unit(
            "request_duration",
            "How long calls of the API took",
            Unit::Seconds,
            Family::clone(&request_seconds),
        );
        registry.register("driver_calls", "Calls of drivers that ended", Family::clone(&driver_calls));
        registry.register_with_unit(
            "driver_call_duration",
            "How long calls of drivers took",
            Unit::Seconds,
            Family::clone(&driver_seconds),
        );
        registry.register(
            "driver_calls_waiting",
            "Calls of drivers that are being waited for",
            Family::clone(&driver_waiting),
        );
        registry.register_with_unit(
            "job_duration",
            "How long work took that is listed as a job",
            Unit::Seconds,
            Family::clone(&job_seconds),
        );
        registry.register("jobs", "Jobs that ended", Family::clone(&jobs));
        registry.register_with_unit(
            "data",
            "Bytes of volumes that were backed up, read for it, added to stores, and restored",
            Unit::Bytes,
            Family::clone(&bytes),
        );
        registry.register(
            "schedule_runs",
            "Runs of schedules that ended, and skipped ones",
            Family::clone(&runs),
        );
        registry.register("events", "What happened, by kind", Family::clone(&events));
        Self {
            registry,
            requests,
            request_seconds,
            driver_calls,
            driver_seconds,
            driver_waiting,
            job_seconds,
            jobs,
            bytes,
            runs,
            events,
        }
    }

    /// A call of the API was answered. `result` is `ok` or the kind of the error.
    pub fn answered(&self, call: &str, result: &str, took: Duration) {
        let call = call.to_owned();
        self.request_seconds.get_or_create(&CallLabels { call: call.clone() }).observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { call, result: result.to_owned() }).inc();
    }

    /// A driver is called.
    pub fn calling(&'static self, driver: &str, method: &'static str) -> Calling {
        let waiting = self.driver_waiting.get_or_create_owned(&DriverName { driver: driver.to_owned() });
        waiting.inc();
        Calling {
            metrics: self,
            driver: driver.to_owned(),
            method,
            waiting,
            began: Instant::now(),
            result: None,
        }
    }

    /// A job ended.
    pub fn job_ended(&self, kind: &str, failed: bool, took: Duration) {
        self.job_seconds.get_or_create(&KindLabel { kind: kind.to_owned() }).observe(took.as_secs_f64());
        self.jobs.get_or_create(&JobLabels::new(kind, failed)).inc();
    }

    /// Data was moved.
    pub fn moved(&self, what: Bytes, bytes: u64) {
        self.bytes.get_or_create(&BytesLabel { what: what.as_str().to_owned() }).inc_by(bytes);
    }

    /// A run of a schedule ended: `success` or `failure`; or did not take place: `skip`.
    pub fn ran(&self, schedule: &str, result: &str) {
        let labels = RunLabels { schedule: schedule.to_owned(), result: result.to_owned() };
        self.runs.get_or_create(&labels).inc();
    }

    /// What is not yet counted is there as 0: of a counter that comes with its first event, Prometheus never
    /// sees it grow, and the first run after a start would be missing in every `increase()`.
    pub fn prepare<'a>(&self, schedules: impl Iterator<Item = &'a str>) {
        for what in [Bytes::BackedUp, Bytes::Read, Bytes::Stored, Bytes::Restored] {
            drop(self.bytes.get_or_create(&BytesLabel { what: what.as_str().to_owned() }));
        }
        for kind in crate::jobs::KINDS {
            for failed in [false, true] {
                drop(self.jobs.get_or_create(&JobLabels::new(kind, failed)));
            }
        }
        for kind in crate::events::KINDS {
            drop(self.events.get_or_create(&KindLabel { kind: kind.to_owned() }));
        }
        for schedule in schedules {
            for result in ["success", "failure", "skip"] {
                let labels = RunLabels { schedule: schedule.to_owned(), result: result.to_owned() };
                drop(self.runs.get_or_create(&labels));
            }
        }
    }

    /// Something happened.
    pub fn happened(&self, kind: &str) {
        self.events.get_or_create(&KindLabel { kind: kind.to_owned() }).inc();
    }
}

/// A call of a driver that is waited for; one that is dropped without a result was cancelled.
#[derive(Debug)]
pub struct Calling {
    metrics: &'static Metrics,
    driver: String,
    method: &'static str,
    waiting: Gauge,
    began: Instant,
    result: Option<String>,
}

impl Calling {
    /// The call ended.
    pub fn ended<T>(mut self, result: &Result<T, DriverError>) {
        self.result = Some(match result {
            Ok(_) => "ok".to_owned(),
            Err(error) => kind_name(error.kind),
        });
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        self.waiting.dec();
        let (driver, method) = (std::mem::take(&mut self.driver), self.method.to_owned());
        let labels = MethodLabels { driver: driver.clone(), method: method.clone() };
        self.metrics.driver_seconds.get_or_create(&labels).observe(self.began.elapsed().as_secs_f64());
        let result = self.result.take().unwrap_or_else(|| "cancelled".to_owned());
        self.metrics.driver_calls.get_or_create(&DriverLabels { driver, method, result }).inc();
    }
}

/// The name of a kind of error, as in the driver protocol.
pub fn kind_name(kind: ErrorKind) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
