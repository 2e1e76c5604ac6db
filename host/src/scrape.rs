//! What is looked up when somebody asks for metrics, beside what is counted as it happens.
//!
//! `gauges`: the numbers; `process`: those of the process itself.

mod gauges;
mod process;

use crate::app::App;
use convoy_activity::metrics::METRICS;
use convoy_activity::{events, jobs};
use convoy_client::types::{Pairs, ScheduleStatus};
use convoy_driver_sdk::Timestamp;
use convoy_driver_sdk::protocol::{Health, Info};
use convoy_drivers::RequestContext;
use gauges::{Gauges, as_float};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a driver may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes all metrics as text.
pub async fn text(app: &App, request_id: &str) -> Result<String, std::fmt::Error> {
    let mut gauges = Gauges::default();
    let build = [("version", env!("CARGO_PKG_VERSION"))];
    gauges.gauge("convoy_build_info", "1, with the version of the daemon", &build, 1.0);
    volumes(app, &mut gauges);
    drivers(app, &mut gauges, request_id).await;
    running_jobs(app, &mut gauges);
    backups(app, &mut gauges);
    let all = app.schedules().status().await;
    schedules(&all, &mut gauges);
    process::add(&mut gauges);
    let mut text = METRICS.encode(&jobs::KINDS, &events::KINDS, all.keys().map(String::as_str))?;
    encode_registry(&mut text, &gauges.into_registry())?;
    encode_eof(&mut text)?;
    Ok(text)
}

fn volumes(app: &App, gauges: &mut Gauges) {
    #[derive(Default)]
    struct Counted {
        volumes: u64,
        damaged: u64,
        snapshots: usize,
        mounted: u64,
        bytes: u64,
    }
    let mut by_driver: BTreeMap<String, Counted> = BTreeMap::new();
    for driver in app.volumes().drivers().iter() {
        by_driver.entry(driver.name().to_string()).or_default();
    }
    app.volumes().each(|entry| {
        let counted = by_driver.entry(entry.driver.name().to_string()).or_default();
        counted.volumes += 1;
        counted.damaged += u64::from(!matches!(entry.volume.health, Health::Good));
        counted.snapshots += entry.volume.snapshots.len();
        counted.mounted += u64::from(app.volumes().is_used(&entry.volume.name));
        counted.bytes = counted.bytes.saturating_add(entry.volume.size);
    });
    for (driver, counted) in &by_driver {
        let labels = [("driver", driver.as_str())];
        gauges.gauge("convoy_volumes", "Volumes", &labels, as_float(counted.volumes));
        let damaged = as_float(counted.damaged);
        gauges.gauge("convoy_volumes_damaged", "Volumes that cannot be used", &labels, damaged);
        gauges.gauge("convoy_snapshots", "Snapshots", &labels, as_float(counted.snapshots as u64));
        let mounted = as_float(counted.mounted);
        gauges.gauge("convoy_volumes_mounted", "Volumes that somebody uses", &labels, mounted);
        let bytes = as_float(counted.bytes);
        gauges.gauge("convoy_volumes_size_bytes", "The sizes of all volumes together", &labels, bytes);
    }
}

async fn drivers(app: &App, gauges: &mut Gauges, request_id: &str) {
    let call = RequestContext::new(request_id).within(PATIENCE);
    let asked = app.volumes().drivers().iter().map(|driver| {
        let call = &call;
        async move { (driver.status(call).await, driver.unless_silent(Info::new(), call).await) }
    });
    for (status, info) in futures::future::join_all(asked).await {
        let labels = [("driver", status.name.as_str())];
        gauges.gauge(
            "convoy_driver_up",
            "Whether the driver takes calls",
            &labels,
            f64::from(u8::from(status.healthy)),
        );
        let restarts = as_float(status.restarts);
        gauges.counter(
            "convoy_driver_restarts",
            "How often its process was started again",
            &labels,
            restarts,
        );
        if let Ok(info) = info {
            pool(gauges, &status.name, &info.info);
        }
    }
}

/// What a driver with a pool says of it: `PoolDataUsed` and the like.
fn pool(gauges: &mut Gauges, driver: &str, info: &Pairs) {
    for (part, used, total) in
        [("data", "PoolDataUsed", "PoolDataTotal"), ("metadata", "PoolMetadataUsed", "PoolMetadataTotal")]
    {
        let number = |key: &str| info.get(key).and_then(|text| text.parse::<u64>().ok()).map(as_float);
        let (Some(used), Some(total)) = (number(used), number(total)) else { continue };
        let labels = [("driver", driver), ("part", part)];
        let ratio = if total > 0.0 { used / total } else { 0.0 };
        gauges.gauge("convoy_pool_used_ratio", "How full the pool is, 0 to 1", &labels, ratio);
    }
}

fn running_jobs(app: &App, gauges: &mut Gauges) {
    let mut running: BTreeMap<String, u64> = BTreeMap::new();
    for job in app.jobs().list(&[]).into_values() {
        *running.entry(job.kind).or_default() += 1;
    }
    for (kind, count) in &running {
        gauges.gauge("convoy_jobs_running", "Running jobs", &[("kind", kind)], as_float(*count));
    }
    let calls = as_float(app.tasks() as u64);
    gauges.gauge("convoy_tasks", "Work that a stop of the daemon would wait for", &[], calls);
}

fn backups(app: &App, gauges: &mut Gauges) {
    for (volume, destination, last) in app.backups().last_backups() {
        if app.volumes().get(&volume).is_none() {
            continue;
        }
        let labels = [("volume", volume.as_str()), ("destination", destination.as_str())];
        let help = "When the last backup was made";
        gauges.gauge("convoy_backup_last_timestamp_seconds", help, &labels, seconds(last.time));
    }
}

fn schedules(all: &BTreeMap<String, ScheduleStatus>, gauges: &mut Gauges) {
    for (name, schedule) in all {
        let of_schedule = [("schedule", name.as_str())];
        if let Ok(next) = Timestamp::parse(&schedule.next) {
            let help = "When something runs next";
            gauges.gauge("convoy_schedule_next_timestamp_seconds", help, &of_schedule, seconds(next));
        }
        let waiting = schedule.volumes.values().filter(|volume| volume.state == "waiting").count();
        let help = "Runs that wait for others to end";
        gauges.gauge("convoy_schedule_waiting", help, &of_schedule, as_float(waiting as u64));
        for (volume, known) in &schedule.volumes {
            let labels = [("schedule", name.as_str()), ("volume", volume.as_str())];
            if let Ok(last) = Timestamp::parse(&known.last_success) {
                let help = "When a run last succeeded";
                gauges.gauge("convoy_schedule_last_success_timestamp_seconds", help, &labels, seconds(last));
            }
            if !known.last.is_empty() {
                let good = f64::from(u8::from(known.error.is_empty()));
                let help = "Whether the last run succeeded";
                gauges.gauge("convoy_schedule_last_run_good", help, &labels, good);
            }
        }
    }
}

fn seconds(time: Timestamp) -> f64 {
    as_float(u64::try_from(time.unix()).unwrap_or_default())
}
