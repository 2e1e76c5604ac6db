//! The process itself, under the names every exporter uses.

use super::gauges::{Gauges, as_float};
use std::time::{SystemTime, UNIX_EPOCH};

/// Ticks a second in what the kernel tells processes, on every architecture convoy runs on.
const TICKS: f64 = 100.0;

/// Adds memory, file descriptors, threads, CPU time and the start of the process.
pub(super) fn add(gauges: &mut Gauges) {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    // The name of the program, in brackets, may contain anything.
    let Some((_, rest)) = stat.rsplit_once(") ") else { return };
    let fields: Vec<f64> = rest.split(' ').map(|field| field.parse().unwrap_or_default()).collect();
    // proc(5): the third field comes first here.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or_default();
    gauges.counter("process_cpu_seconds", "CPU time used", &[], (field(14) + field(15)) / TICKS);
    gauges.gauge("process_threads", "Threads", &[], field(20));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    if let Some(kib) = resident.and_then(|text| text.trim().parse::<u64>().ok()) {
        gauges.gauge("process_resident_memory_bytes", "Memory in use", &[], as_float(kib * 1024));
    }
    if let Ok(uptime) = std::fs::read_to_string("/proc/uptime") {
        let uptime: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let started = now - uptime + field(22) / TICKS;
        gauges.gauge("process_start_time_seconds", "When the process was started", &[], started);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        gauges.gauge("process_open_fds", "Open file descriptors", &[], as_float(open.count() as u64));
    }
}
