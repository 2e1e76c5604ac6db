//! `[[schedule]]` as users write it.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use convoy_schedule::config::{Count, Kind, PinConfig, ScheduleConfig, SchedulingConfig};
use convoy_schedule::schedule::{Channel, Where};
use convoy_schedule::{InvalidSchedule, Schedule};
use serde::Deserialize;
use std::time::Duration;

#[derive(Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    scheduling: SchedulingConfig,
    #[serde(default)]
    schedule: Vec<ScheduleConfig>,
}

const EVERYTHING: &str = r#"
[scheduling]
parallel = 4
stalled-after = "90s"
docker-socket = "/run/docker.sock"

[[schedule]]
name = "nightly"
cron = "30 3 * * *"
timezone = "Europe/Berlin"
volumes = ["db-*", "web"]
exclude = ["*-cache"]
labels = ["com.example.backup=daily"]
kind = "backup"
destination = "s3://backups@eu-central-1/convoy/"
endpoint = "https://minio.example.com"
tags = { env = "prod", why = "nightly" }
note = "made by the schedule"
keep-until = "+2w"
encryption-key-file = "/etc/convoy/backup.key"
keep = { last = 3, daily = 7, weekly = 4, monthly = 12, yearly = "all" }
keep-snapshots = { last = 2 }
jitter = "10m"
catch-up = false
freeze = true
timeout = "12h"

[[schedule.before]]
exec = ["sh", "-c", "pg_dumpall -f /backup/dump.sql"]
labels = ["role=database"]
user = "postgres"
timeout = "10m"

[[schedule.after]]
command = ["/usr/local/bin/done"]
optional = true

[[schedule.notify]]
webhook = "https://alerts.example.com/hook"
headers = { Authorization = "Bearer x" }

[[schedule.notify]]
command = ["logger", "-t", "convoy"]
on = "always"

[[schedule]]
name = "hourly"
cron = "@hourly"
volumes = ["*"]
kind = "snapshot"
"#;

fn parse(text: &str) -> Result<Vec<Schedule>, InvalidSchedule> {
    Schedule::all(&toml::from_str::<File>(text).unwrap().schedule)
}

#[test]
fn every_field_arrives() {
    let file: File = toml::from_str(EVERYTHING).unwrap();
    assert_eq!(file.scheduling.parallel, 4);
    assert_eq!(file.scheduling.stalled_after.0, Duration::from_secs(90));
    assert_eq!(SchedulingConfig::default().stalled_after.0, Duration::from_secs(300));
    assert_eq!(file.schedule[0].keep.unwrap().yearly, Count::All);
    let schedules = Schedule::all(&file.schedule).unwrap();
    let nightly = &schedules[0];
    assert_eq!((nightly.kind, nightly.freeze, nightly.paused), (Kind::Backup, true, false));
    assert_eq!(nightly.timing.jitter, Duration::from_secs(600));
    assert!(!nightly.timing.catch_up && nightly.needs_docker());
    assert_eq!((nightly.tags["env"].as_str(), nightly.note.as_str()), ("prod", "made by the schedule"));
    assert_eq!(nightly.keep_until, Some(PinConfig::Days(14)));
    assert_eq!(nightly.timeout, Some(Duration::from_secs(12 * 3600)));
    let Where::Containers { labels, any: false, user: Some(user) } = &nightly.before[0].place else {
        unreachable!()
    };
    assert_eq!((labels[0].to_string().as_str(), user.as_str()), ("role=database", "postgres"));
    assert!(nightly.after[0].place == Where::Host && nightly.after[0].optional);
    assert!(matches!(&nightly.notify[0].channel, Channel::Webhook(_, headers) if headers.len() == 1));
    let hourly = &schedules[1];
    assert!(hourly.keep_snapshots.is_none() && hourly.timing.catch_up && !hourly.needs_docker());

    // What is shown can be written into the file.
    let again: File = toml::from_str(&toml::to_string(&file).unwrap()).unwrap();
    assert_eq!(again.schedule, file.schedule);
    assert_eq!(again.scheduling, file.scheduling);
}

#[test]
fn a_backup_keeps_its_last_snapshot_and_every_backup_unless_told() {
    let schedules =
        parse("[[schedule]]\nname='s1'\ncron='@daily'\nvolumes=['*']\nkind='backup'\ndestination='vfs:///b'")
            .unwrap();
    assert!(schedules[0].keep_backups.is_none() && schedules[0].keep_snapshots.is_some());
}

#[test]
fn nonsense_is_refused_with_what_was_expected() {
    let base = "cron = '@daily'\nvolumes = ['*']\n";
    for (text, expected) in [
        ("name = 'x'\nkind = 'snapshot'", "2 to 64 letters"),
        ("name = 'a/b'\nkind = 'snapshot'", "invalid name"),
        ("name = 's1'\nkind = 'snapshot'\ntimezone = 'Mars/Base'", "Europe/Berlin"),
        (
            "name = 's1'\nkind = 'snapshot'\ndestination = 'vfs:///b'",
            "destination is only for kind = \"backup\"",
        ),
        ("name = 's1'\nkind = 'snapshot'\nkeep = { last = 0 }", "leave it out to keep everything"),
        ("name = 's1'\nkind = 'snapshot'\njitter = '2 days'", "at most 24h"),
        ("name = 's1'\nkind = 'snapshot'\njitter = '25h'", "at most 24h"),
        ("name = 's1'\nkind = 'snapshot'\ntimeout = '-1s'", "at least 1s"),
        ("name = 's1'\nkind = 'snapshot'\nbefore = [{}]", "either command or exec"),
        (
            "name = 's1'\nkind = 'snapshot'\nbefore = [{ command = ['a'], exec = ['b'] }]",
            "either command or exec",
        ),
        (
            "name = 's1'\nkind = 'snapshot'\nafter = [{ command = ['a'], user = 'b' }]",
            "user of a hook is only for exec",
        ),
        ("name = 's1'\nkind = 'snapshot'\nnotify = [{}]", "either command or webhook"),
        ("name = 's1'\nkind = 'snapshot'\nnotify = [{ webhook = 'ftp://x' }]", "http:// or https://"),
        ("name = 's1'\nkind = 'backup'\nencryption-key-file = 'key'", "absolute"),
        (
            "name = 's1'\nkind = 'backup'\npassphrase-file = 'p'",
            "invalid passphrase-file \"p\": expected an absolute",
        ),
        ("name = 's1'\nkind = 'backup'\npassphrase-file = '/p'\nencryption-key-file = '/k'", "found both"),
        ("name = 's1'\nkind = 'snapshot'\npassphrase-file = '/p'", "passphrase-file is only for"),
        ("name = 's1'\nkind = 'backup'\nencryption = 'none'\npassphrase-file = '/p'", "found both"),
        ("name = 's1'\nkind = 'snapshot'\nencryption = 'none'", "encryption is only for"),
        ("name = 's1'\nkind = 'snapshot'\ntags = { a = 'b' }", "tags is only for kind = \"backup\""),
        ("name = 's1'\nkind = 'snapshot'\nnote = 'n'", "note is only for"),
        ("name = 's1'\nkind = 'snapshot'\nkeep-until = 'forever'", "keep-until is only for"),
    ] {
        let error = parse(&format!("[[schedule]]\n{text}\n{base}")).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    for text in ["0s", "-5m", "soon", "500ms"] {
        let error = toml::from_str::<File>(&format!("[scheduling]\nstalled-after = '{text}'"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("at least 1s, like 90s") && error.contains("stalled-after"), "{error}");
    }
    let often =
        "[[schedule]]\nname = 's1'\nkind = 'snapshot'\nvolumes = ['*']\ncron = '*/5 * * * *'\njitter = '5m'";
    assert!(parse(often).unwrap_err().to_string().contains("not shorter than the time between two runs"));
    let one = format!("[[schedule]]\nname = 's1'\nkind = 'snapshot'\n{base}");
    assert!(parse(&format!("{one}{one}")).unwrap_err().to_string().contains("two of this name"));
    for (text, expected) in [
        ("volums = []", "unknown field `volums`"),
        ("keep = { last = 'some' }", "\"all\""),
        ("keep = { last = -1 }", "\"all\""),
        ("keep = { lst = 1 }", "unknown field `lst`"),
        ("keep-until = '+5'", "like +90d"),
        ("keep-until = '+0d'", "like +90d"),
        ("keep-until = '+ 5d'", "like +90d"),
        ("keep-until = '+4000000000w'", "up to +36525d"),
    ] {
        let error = toml::from_str::<File>(&format!("{one}{text}\n")).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
