//! Keeping a driver's process running.

use super::launch::{RunningProcess, launch};
use super::{Phase, Shared, SupervisorRequest};
use crate::answer;
use crate::context::RequestContext;
use convoy_driver_sdk::protocol::{Open, Opened, Request};
use convoy_driver_sdk::wire::method;
use rustix::process::{Pid, Signal};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a process may take to reconcile when it is opened again.
const OPEN: Duration = Duration::from_secs(300);
/// How long a process has after SIGTERM, and to be gone after SIGKILL.
const TERM: Duration = Duration::from_secs(2);

pub(super) async fn supervise(shared: Arc<Shared>, first: RunningProcess) {
    let mut running = Some(first);
    let mut failures = 0;
    loop {
        if let Some(process) = running.take() {
            let since = Instant::now();
            match watch(&shared, process).await {
                ProcessEnd::Stopped => return stopped(&shared),
                ProcessEnd::Ended(reason) => {
                    failures = if since.elapsed() >= shared.policy.well_after { 1 } else { failures + 1 };
                    failed(&shared, reason);
                }
            }
        }
        if !pause(&shared, &mut failures).await {
            return stopped(&shared);
        }
        shared.phase.send_replace(Phase::Starting);
        let started = tokio::select! {
            started = start_again(&shared) => started,
            // What was started is killed when it is dropped.
            () = stop_wished(&shared) => return stopped(&shared),
        };
        match started {
            Ok(process) => running = Some(process),
            Err(reason) => {
                failures += 1;
                failed(&shared, reason);
            }
        }
    }
}

enum ProcessEnd {
    Stopped,
    Ended(String),
}

/// Until the process ends, or is to be stopped.
async fn watch(shared: &Shared, mut process: RunningProcess) -> ProcessEnd {
    shared.record.lock().pid = process.child.id();
    shared.phase.send_replace(Phase::Ready(Arc::clone(&process.connection)));
    let reason = loop {
        tokio::select! {
            status = process.child.wait() => break ended(status),
            reason = process.connection.silent() => {
                // Its end is the better reason, if that is why.
                break process.how_it_ended().await.unwrap_or(reason);
            }
            () = shared.requested.notified() => {
                if let Some(SupervisorRequest::Stop { drain }) = shared.take_request() {
                    drain_and_stop(shared, &mut process, drain).await;
                    return ProcessEnd::Stopped;
                }
            }
        }
    };
    // Nobody calls it any more before its calls fail.
    shared.phase.send_replace(Phase::Starting);
    process.connection.give_up(&reason);
    let _ = process.child.kill().await;
    ProcessEnd::Ended(reason)
}

fn ended(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("the driver process ended ({status})"),
        Err(error) => format!("the driver process is lost: {error}"),
    }
}

fn failed(shared: &Shared, reason: String) {
    tracing::error!(driver = %shared.name, reason, "a driver process failed");
    let mut record = shared.record.lock();
    record.pid = None;
    record.last_error = Some(reason);
}

fn stopped(shared: &Shared) {
    shared.record.lock().pid = None;
    shared.phase.send_replace(Phase::Stopped);
}

/// Waits before the next start; `false` when there shall be none.
async fn pause(shared: &Shared, failures: &mut u32) -> bool {
    loop {
        let end = if *failures >= shared.policy.give_up_after {
            shared.phase.send_replace(Phase::Failed);
            tracing::error!(driver = %shared.name, failures = *failures, "a driver was given up");
            None
        } else {
            let doubled = shared.policy.first_pause.saturating_mul(1 << failures.saturating_sub(1).min(16));
            let until = Instant::now() + doubled.min(shared.policy.longest_pause);
            shared.phase.send_replace(Phase::Waiting { until });
            Some(until)
        };
        let sleep = async {
            match end {
                Some(end) => tokio::time::sleep_until(end.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => return true,
            () = shared.requested.notified() => match shared.take_request() {
                Some(SupervisorRequest::Stop { .. }) => return false,
                Some(SupervisorRequest::Restart) => {
                    *failures = 0;
                    return true;
                }
                None => {}
            }
        }
    }
}

async fn stop_wished(shared: &Shared) {
    loop {
        shared.requested.notified().await;
        if let Some(SupervisorRequest::Stop { .. }) = shared.take_request() {
            return;
        }
    }
}

/// Starts the program anew and opens the driver as it was open.
async fn start_again(shared: &Shared) -> Result<RunningProcess, String> {
    shared.record.lock().restarts += 1;
    let (mut process, _) =
        launch(&shared.path, Some(&shared.name), true).await.map_err(|error| error.to_string())?;
    let open = shared.record.lock().open.clone();
    if let Some(open) = open {
        let opened = match reopen(&process, open).await {
            Ok(opened) => opened,
            Err(reason) => {
                let reason =
                    process.how_it_ended().await.map_or(reason, |end| format!("{end} while it was opened"));
                process.connection.give_up(&reason);
                return Err(reason);
            }
        };
        for line in opened.recovered {
            tracing::info!(driver = %shared.name, "recovered after a restart: {line}");
        }
        for line in opened.warnings {
            tracing::warn!(driver = %shared.name, "{line}");
        }
    }
    tracing::info!(driver = %shared.name, pid = process.child.id(), "started a driver process again");
    Ok(process)
}

async fn reopen(process: &RunningProcess, request: Open) -> Result<Opened, String> {
    let call = RequestContext::new("restart").within(OPEN);
    let asked = request.clone();
    let answer = process.connection.call(Open::METHOD, request, call).map_err(|error| error.to_string())?;
    tokio::select! {
        answer = answer => {
            let json = answer.map_err(|error| format!("it could not be opened: {error}"))?;
            answer::read(&asked, &json)
                .map_err(|broken| broken.error(&process.connection.driver(), Open::METHOD).message)
        }
        reason = process.connection.silent() => Err(reason),
        () = tokio::time::sleep(OPEN) => Err(format!("it could not be opened within {} s", OPEN.as_secs())),
    }
}

/// Goodbye, then SIGTERM, then SIGKILL.
async fn drain_and_stop(shared: &Shared, process: &mut RunningProcess, drain: Duration) {
    process.connection.notify(method::GOODBYE, &serde_json::Map::new()).await;
    let mut gone = tokio::time::timeout(drain, process.child.wait()).await.is_ok();
    if !gone {
        tracing::warn!(driver = %shared.name, ?drain, "a driver did not finish in time");
        if let Some(pid) = process.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        gone = tokio::time::timeout(TERM, process.child.wait()).await.is_ok();
    }
    if !gone {
        let _ = process.child.start_kill();
        let _ = tokio::time::timeout(TERM, process.child.wait()).await;
    }
    process.connection.give_up("the driver was stopped");
}
