//! Schedules, and whether the destinations they back up to can be reached.

use super::findings::{Findings, error, info, warning};
use crate::app::App;
use convoy_client::types::{ListBackups, ScheduleStatus};
use convoy_driver_sdk::Timestamp;
use convoy_drivers::RequestContext;
use convoy_objectstore::{Destination, StoreOptions};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// How long a destination may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Names no volume: asking for its backups shows whether a destination can be used, and costs next to
/// nothing.
const NOBODY: &str = "convoy-doctor";

/// Beyond this S3 refuses requests, in seconds.
const REFUSED: u64 = 900;

/// Beyond this a clock is wrong, in seconds.
const WRONG: u64 = 60;

pub(super) async fn examine(app: &App, request_id: &str, findings: &mut Findings) {
    let schedules = app.schedules().status().await;
    for schedule in schedules.values() {
        of_schedule(schedule, findings);
    }
    let mut destinations: BTreeSet<(String, String)> = app.schedules().destinations().into_iter().collect();
    let known: BTreeSet<String> = destinations.iter().map(|(url, _)| url.clone()).collect();
    let made = app.backups().last_backups().into_iter().map(|(_, url, _)| url);
    destinations.extend(made.filter(|url| !known.contains(url)).map(|url| (url, String::new())));
    // What no schedule uses is there for the day of a restore.
    let config = app.config();
    let configured: Vec<String> = config.backups.destinations.urls().map(whole).collect();
    let looked_at: Vec<String> = destinations.iter().map(|(url, _)| whole(url)).collect();
    let unused = configured.iter().filter(|url| !looked_at.iter().any(|known| known.starts_with(*url)));
    destinations.extend(unused.map(|url| (url.clone(), String::new())));
    for (url, endpoint) in destinations {
        destination(app, url, endpoint, request_id, findings).await;
    }
}

fn of_schedule(schedule: &ScheduleStatus, findings: &mut Findings) {
    let subject = format!("schedule {}", schedule.name);
    if !schedule.message.is_empty() {
        let finding = error(subject.clone(), schedule.message.clone());
        findings.add(
            "schedules",
            finding.hint("it does not run, or not for all volumes, until this is repaired"),
        );
    }
    if schedule.volumes.is_empty() && schedule.message.is_empty() {
        let hint = "check the patterns and labels of the schedule; `convoy list` shows the volumes";
        findings.add("schedules", warning(subject.clone(), "it is for no volume there is").hint(hint));
    }
    for (volume, known) in schedule.volumes.iter().filter(|(_, known)| !known.error.is_empty()) {
        let since = if known.last_success.is_empty() { "never" } else { &known.last_success };
        let text =
            format!("the last run for volume {volume} failed, the last success was {since}: {}", known.error);
        let hint =
            format!("repair the reason and run it: convoy schedule run {} --volume {volume}", schedule.name);
        findings.add("schedules", error(subject.clone(), text).hint(hint));
    }
}

async fn destination(app: &App, url: String, endpoint: String, request_id: &str, findings: &mut Findings) {
    let subject = format!("destination {url}");
    let asked = ListBackups {
        url: url.clone(),
        endpoint: endpoint.clone(),
        volume_name: NOBODY.to_owned(),
        ..ListBackups::default()
    };
    let call = RequestContext::new(request_id).within(PATIENCE);
    let listing = app.backups().list_if_any(&asked, &call);
    match tokio::time::timeout(PATIENCE, listing).await {
        Ok(Ok(_)) => {
            let credentials = app.config().backups.destinations.credentials(&url).ok().flatten();
            let with = credentials.map(|credentials| format!(" ({credentials})")).unwrap_or_default();
            findings.add("backups", info(subject.clone(), format!("it can be reached{with}")));
            older(app, &subject, &url, &endpoint, findings).await;
        }
        Ok(Err(failed)) => {
            let hint = failed.hint().unwrap_or_else(|| "check network, credentials and the URL".to_owned());
            findings
                .add("backups", error(subject.clone(), format!("it cannot be used: {failed}")).hint(hint));
        }
        Err(_) => {
            let text = format!("it does not answer within {} s", PATIENCE.as_secs());
            findings.add(
                "backups",
                error(subject.clone(), text).hint("check the network, or the server of the mount"),
            );
        }
    }
    if let Some(server) = server(&url, &endpoint)
        && let Some(skew) = skew(&server).await
    {
        clock(&subject, skew, findings);
    }
}

/// An URL with the slash at its end that says where its last part ends.
fn whole(url: impl AsRef<str>) -> String {
    let url = url.as_ref();
    if url.ends_with('/') { url.to_owned() } else { format!("{url}/") }
}

/// Tells what is older than this host saw it. What cannot be told in time is not told.
async fn older(app: &App, subject: &str, url: &str, endpoint: &str, findings: &mut Findings) {
    if let Ok(Ok(older)) = tokio::time::timeout(PATIENCE, app.backups().older(url, endpoint)).await {
        let hint = "find out who deleted it; `convoy backup verify` checks what is there and takes it for \
                    the present state";
        for text in older {
            findings.add("backups", warning(subject.to_owned(), text).hint(hint));
        }
    }
}

fn clock(subject: &str, skew: u64, findings: &mut Findings) {
    let text = format!("its clock and this machine's differ by {skew} s");
    let hint = "let the clock be set from the network (systemd-timesyncd, chrony)";
    if skew > REFUSED {
        let text = format!("{text}: requests are refused");
        findings.add("machine", error(format!("clock, {subject}"), text).hint(hint));
    } else if skew > WRONG {
        findings.add("machine", warning(format!("clock, {subject}"), text).hint(hint));
    }
}

/// Gives the server whose clock matters to a destination.
fn server(url: &str, endpoint: &str) -> Option<String> {
    let destination: Destination = url.parse().ok()?;
    let mut options = StoreOptions::default();
    if !endpoint.is_empty() {
        options.set("endpoint", endpoint.to_owned());
    }
    destination.place().scheme.server(destination.place(), &options)
}

/// How many seconds the clock of a server is away from ours. Every answer has its time, a refusal too.
async fn skew(server: &str) -> Option<u64> {
    // An error says that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(PATIENCE).build().ok()?;
    let answer = client.head(server).send().await.ok()?;
    let date = answer.headers().get(reqwest::header::DATE)?.to_str().ok()?;
    let theirs = rfc2822(date)?;
    let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Some(ours.abs_diff(theirs))
}

fn rfc2822(date: &str) -> Option<u64> {
    let time = jiff::fmt::rfc2822::parse(date).ok()?;
    let time = Timestamp::from_unix(time.timestamp().as_second());
    u64::try_from(time.unix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        assert_eq!(server("s3://b@eu-west-1/p/", "").as_deref(), Some("https://s3.eu-west-1.amazonaws.com/"));
        assert_eq!(server("s3://b/p/", "http://minio:9000").as_deref(), Some("http://minio:9000"));
        assert_eq!((server("s3://b/p/", ""), server("vfs:///b/", "")), (None, None));
    }

    #[test]
    fn a_clock_that_is_wrong_is_told() {
        assert_eq!(rfc2822("Wed, 25 Nov 2026 22:54:49 GMT"), Some(1_795_647_289));
        for (skew, severity) in [(0, None), (61, Some("warning")), (901, Some("error"))] {
            let mut findings = Findings::default();
            clock("s3://b/", skew, &mut findings);
            let told = findings.into_diagnosis(true).findings;
            assert_eq!(told.first().map(|told| told.severity.as_str()), severity, "{skew}");
        }
    }
}
