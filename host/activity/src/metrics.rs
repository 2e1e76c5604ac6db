//! Counts what happens while the daemon runs: metrics in the text form of OpenMetrics, which Prometheus
//! reads.
//!
//! Counters belong to the process and not to a service, as the log does: whatever happens counts where it
//! happens.

use convoy_driver_sdk::{DriverError, ErrorKind};
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The type of content that metrics are sent as.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds in seconds: from memory to a cloud that attaches a disk.
const CALL_SECONDS: [f64; 12] = [0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0];

/// Bounds in seconds: from a snapshot to a backup that takes a day.
const JOB_SECONDS: [f64; 10] = [0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0];

/// The counters of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// Counters, each with its labels.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Counters,
    request_seconds: Histograms,
    driver_calls: Counters,
    driver_seconds: Histograms,
    driver_waiting: Family<Labels, Gauge>,
    job_seconds: Histograms,
    jobs: Counters,
    bytes: Counters,
    runs: Counters,
    events: Counters,
}

/// Bytes that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytes {
    /// Bytes of volumes that were backed up.
    BackedUp,
    /// Bytes that were read for backups.
    Read,
    /// Bytes that were added to stores.
    Stored,
    /// Bytes that were written by restores.
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

fn labels<const N: usize>(labels: [(&'static str, &str); N]) -> Labels {
    labels.map(|(name, value)| (name, value.to_owned())).into()
}

fn call_seconds() -> Histogram {
    Histogram::new(CALL_SECONDS)
}

fn job_seconds() -> Histogram {
    Histogram::new(JOB_SECONDS)
}

fn job_labels(kind: &str, failed: bool) -> Labels {
    labels([("kind", kind), ("result", if failed { "failure" } else { "success" })])
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("convoy");
        let requests = counters(&mut registry, "requests", "Calls of the API that were answered");
        let request_seconds =
            histograms(&mut registry, "request_duration", "How long calls of the API took", call_seconds);
        let driver_calls = counters(&mut registry, "driver_calls", "Calls of drivers that ended");
        let driver_seconds =
            histograms(&mut registry, "driver_call_duration", "How long calls of drivers took", call_seconds);
        let driver_waiting = Family::<Labels, Gauge>::default();
        let help = "Calls of drivers that are being waited for";
        registry.register("driver_calls_waiting", help, driver_waiting.clone());
        let job_seconds = histograms(
            &mut registry,
            "job_duration",
            "How long work took that is listed as a job",
            job_seconds,
        );
        let jobs = counters(&mut registry, "jobs", "Jobs that ended");
        let bytes = Counters::default();
        let help = "Bytes of volumes that were backed up, read for it, added to stores, and restored";
        registry.register_with_unit("data", help, Unit::Bytes, bytes.clone());
        let runs = counters(&mut registry, "schedule_runs", "Runs of schedules that ended, and skipped ones");
        let events = counters(&mut registry, "events", "What happened, by kind");
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

    /// Counts an answered call of the API. `result` is `ok` or the kind of the error.
    pub fn answered(&self, call: &str, result: &str, took: Duration) {
        self.request_seconds.get_or_create(&labels([("call", call)])).observe(took.as_secs_f64());
        self.requests.get_or_create(&labels([("call", call), ("result", result)])).inc();
    }

    /// Begins to count a call of a driver.
    pub fn calling(&'static self, driver: &str, method: &'static str) -> Calling {
        let waiting = self.driver_waiting.get_or_create_owned(&labels([("driver", driver)]));
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

    /// Counts a job that ended.
    pub fn job_ended(&self, kind: &str, failed: bool, took: Duration) {
        self.job_seconds.get_or_create(&labels([("kind", kind)])).observe(took.as_secs_f64());
        self.jobs.get_or_create(&job_labels(kind, failed)).inc();
    }

    /// Counts bytes that were moved.
    pub fn moved(&self, what: Bytes, bytes: u64) {
        self.bytes.get_or_create(&labels([("what", what.as_str())])).inc_by(bytes);
    }

    /// Counts a run of a schedule: one that ended, `success` or `failure`, or that did not take place,
    /// `skip`.
    pub fn ran(&self, schedule: &str, result: &str) {
        self.runs.get_or_create(&labels([("schedule", schedule), ("result", result)])).inc();
    }

    /// Writes all counters as text. Those of these jobs, events and schedules that are not counted yet are
    /// written as 0: of a counter that comes with its first event, Prometheus never sees it grow, and the
    /// first run after a start would be missing in every `increase()`.
    pub fn encode<'a>(
        &self,
        jobs: &[&str],
        events: &[&str],
        schedules: impl Iterator<Item = &'a str>,
    ) -> Result<String, std::fmt::Error> {
        for what in [Bytes::BackedUp, Bytes::Read, Bytes::Stored, Bytes::Restored] {
            drop(self.bytes.get_or_create(&labels([("what", what.as_str())])));
        }
        for kind in jobs {
            for failed in [false, true] {
                drop(self.jobs.get_or_create(&job_labels(kind, failed)));
            }
        }
        for kind in events {
            drop(self.events.get_or_create(&labels([("kind", kind)])));
        }
        for schedule in schedules {
            for result in ["success", "failure", "skip"] {
                drop(self.runs.get_or_create(&labels([("schedule", schedule), ("result", result)])));
            }
        }
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts an event.
    pub fn happened(&self, kind: &str) {
        self.events.get_or_create(&labels([("kind", kind)])).inc();
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
    /// Ends the call.
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
        let call = [("driver", self.driver.as_str()), ("method", self.method)];
        self.metrics.driver_seconds.get_or_create(&labels(call)).observe(self.began.elapsed().as_secs_f64());
        let result = ("result", self.result.as_deref().unwrap_or("cancelled"));
        self.metrics.driver_calls.get_or_create(&labels([call[0], call[1], result])).inc();
    }
}

fn counters(registry: &mut Registry, name: &str, help: &str) -> Counters {
    let counters = Counters::default();
    registry.register(name, help, counters.clone());
    counters
}

fn histograms(registry: &mut Registry, name: &str, help: &str, new: fn() -> Histogram) -> Histograms {
    let histograms = Histograms::new_with_constructor(new);
    registry.register_with_unit(name, help, Unit::Seconds, histograms.clone());
    histograms
}

/// Names a kind of error as in the driver protocol.
pub fn kind_name(kind: ErrorKind) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
