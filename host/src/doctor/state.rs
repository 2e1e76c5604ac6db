//! The daemon's state against the drivers and the kernel.

use super::findings::{Findings, error, info, warning};
use crate::app::{App, names};
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{Capability, Check, Finding, Health, Probe};
use convoy_drivers::RequestContext;
use convoy_volumes::{CHANGE, Entry};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// How long a mount may take to say what it is: a server that hangs does not answer at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// On how many of those whose data is kept there is a remark each.
const REMARKS: usize = 100;

pub(super) async fn examine(app: &App, repair: bool, request_id: &str, findings: &mut Findings) {
    let call = RequestContext::new(request_id);
    let mut told = BTreeSet::new();
    for driver in app.volumes().drivers().iter() {
        let area = format!("driver {}", driver.name());
        if let Some(failure) = driver.failure() {
            let hint = failure.hint.clone().unwrap_or_else(|| "see the daemon's log".to_owned());
            let text = format!("it is not open, its volumes cannot be used: {failure}");
            findings.add(&area, error("driver", text).hint(hint));
            continue;
        }
        match driver.call(Probe::new(), &call.within(PATIENCE)).await {
            Ok(probed) if probed.healthy => {
                let version = driver.description().map(|told| told.version.clone()).unwrap_or_default();
                findings.add(
                    &area,
                    info("driver", probed.message.unwrap_or(format!("version {version} is ready"))),
                );
            }
            Ok(probed) => findings.add(&area, warning("driver", probed.message.unwrap_or_default())),
            Err(failed) => findings.add(&area, from_driver("driver", &failed)),
        }
        if driver.can(Capability::Check) {
            match driver.call(Check::new().repair(repair), &call.within(CHANGE)).await {
                Ok(checked) => {
                    for finding in checked.findings {
                        told.insert((driver.name().to_owned(), finding.subject.clone()));
                        findings.add(&area, finding);
                    }
                }
                Err(failed) => findings.add(&area, from_driver("check", &failed)),
            }
        }
    }
    kept(app, &call, findings).await;
    for entry in app.volumes().all() {
        let area = format!("driver {}", entry.driver.name());
        let subject = format!("volume {}", entry.volume.name);
        // The driver knows better than the index what is wrong and what to do.
        let is_told = told.contains(&(entry.driver.name().to_owned(), subject.clone()));
        if let Health::Damaged(why) = &entry.volume.health
            && !is_told
        {
            let text = format!("it cannot be used: {why}");
            let hint = "its record was left as it is: repair it by hand, or restore the volume from a backup";
            findings.add(&area, error(subject, text).hint(hint));
        }
        if let Some(half) = app.volumes().half_restored(&entry)
            && !app.volumes().is_being_restored(&entry.volume.name)
        {
            let subject = format!("volume {}", entry.volume.name);
            let text = format!(
                "a restore in place from {} is not finished, and the volume cannot be mounted",
                half.what()
            );
            findings.add(&area, error(subject, text).hint(half.ways_out(&entry)));
        }
        mount(app, &entry, repair, request_id, findings).await;
    }
    stopped(app, findings);
}

/// Containers that were stopped for a restore and do not run again yet.
fn stopped(app: &App, findings: &mut Findings) {
    let records = match app.stopped().all() {
        Ok(records) => records,
        Err(failed) => return findings.add("docker", error("stopped containers", failed.to_string())),
    };
    for (volume, record) in records.into_iter().filter(|(it, _)| !app.volumes().is_being_restored(it)) {
        let subject = format!("volume {volume}");
        match record {
            Ok(record) => {
                let text = format!("these containers were stopped for it: {}", names(&record.containers));
                let hint = "they are started again when its restore has ended, or one that was cut off was \
                            repeated; else restart the daemon, or start them with `docker start`";
                findings.add("docker", warning(subject, text).hint(hint));
            }
            Err(why) => {
                let text = format!("which containers were stopped for it cannot be read: {why}");
                findings.add("docker", error(subject, text).hint("start them, and remove the record"));
            }
        }
    }
}

/// Remarks on data that is kept of volumes that were forgotten: nobody would know of it otherwise.
async fn kept(app: &App, call: &RequestContext, findings: &mut Findings) {
    let (kept, failed) = app.volumes().kept(true, call).await;
    let more = kept.len().saturating_sub(REMARKS);
    for (driver, kept) in kept.iter().take(REMARKS) {
        let (area, name) = (format!("driver {}", driver.name()), &kept.name);
        let size = match kept.size {
            Some(size) if kept.at_least => format!("more than {size} bytes"),
            Some(size) => format!("{size} bytes"),
            None => "an unknown number of bytes".to_owned(),
        };
        let since = kept.since.map(|since| format!(" since {since}")).unwrap_or_default();
        let note = kept.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
        let text = format!("{size} are kept{since} of a volume that was forgotten{note}");
        let hint = format!(
            "`convoy create {name} --driver {}` brings it back, `convoy delete --kept {name}` deletes it",
            driver.name()
        );
        findings.add(&area, info(format!("kept volume {name}"), text).hint(hint));
    }
    if more > 0 {
        findings.add("drivers", info("kept volumes", format!("{more} more: see `convoy list --kept`")));
    }
    // That one is not open is told already.
    for (driver, failed) in failed.iter().filter(|(driver, _)| driver.failure().is_none()) {
        findings.add(&format!("driver {}", driver.name()), from_driver("kept volumes", failed));
    }
}

fn from_driver(subject: &str, failed: &convoy_driver_sdk::DriverError) -> Finding {
    let finding = error(subject, format!("it does not answer as it should: {failed}"));
    match &failed.hint {
        Some(hint) => finding.hint(hint.clone()),
        None => finding.hint("see the daemon's log"),
    }
}

/// What the ledger says is used has to be there.
async fn mount(app: &App, entry: &Entry, repair: bool, request_id: &str, findings: &mut Findings) {
    let name = &entry.volume.name;
    let used = app.volumes().mountpoint(name).filter(|_| app.volumes().is_used(name));
    let Some(at) = used else { return };
    // What is mounted in another namespace is not seen from here.
    if !app.config().general.mount_namespace_fd.is_empty() {
        return;
    }
    let area = format!("driver {}", entry.driver.name());
    let subject = format!("volume {name}");
    let is_device = entry.driver.can(Capability::ReadBlock);
    let looking = tokio::task::spawn_blocking({
        let at = at.clone();
        move || look(&at, is_device)
    });
    let problem = match tokio::time::timeout(PATIENCE, looking).await {
        Ok(Ok(Ok(()))) => return,
        Ok(Ok(Err(problem))) => problem,
        Ok(Err(failed)) => failed.to_string(),
        Err(_) => {
            let text = format!("{} does not answer: its storage hangs", at.display());
            let hint = "see whether the server or the disk behind it is there; what uses it waits for it";
            return findings.add(&area, error(subject, text).hint(hint));
        }
    };
    let mut finding = error(subject, format!("it is used, but {problem}"));
    finding.repairable = true;
    if repair {
        match app.volumes().mount_again(name, &RequestContext::new(request_id)).await {
            Ok(()) => finding.repaired = true,
            Err(failed) => {
                finding.message = format!("{}; mounting it again failed: {failed}", finding.message)
            }
        }
    }
    findings.add(
        &area,
        finding.hint("`convoy doctor --repair` mounts it again; containers that run see it after a restart"),
    );
}

/// Blocks for as long as the storage does.
fn look(at: &Path, is_device: bool) -> Result<(), String> {
    let found =
        std::fs::metadata(at).map_err(|failed| format!("{} cannot be looked at: {failed}", at.display()))?;
    if !found.is_dir() {
        return Err(format!("{} is no directory", at.display()));
    }
    if !is_device {
        return Ok(());
    }
    let mounts = MountTable::read().map_err(|failed| failed.to_string())?;
    if mounts.is_mounted(at) { Ok(()) } else { Err(format!("nothing is mounted at {}", at.display())) }
}
