//! A clock that jumps by days, forward and back, under a daemon with schedules, backups and mounts.

use super::check::{Failure, Step};
use super::daemon::Daemon;
use super::lab::sh;
use crate::{ensure, ensure_eq};
use convoy_tests::patience;
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;

const CONFIG: &str = "/run/clock.toml";
const STORE: &str = "vfs:///run/clock-store";

/// A daemon looks at the clock every quarter of a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// The second schedule is slow enough for the clock to jump in the midst of a run.
const SETTINGS: &str = r#"
[[schedule]]
name = "hourly"
cron = "0 * * * *"
timezone = "UTC"
volumes = ["db"]
kind = "backup"
destination = "vfs:///run/clock-store"
keep = { last = 1 }

[[schedule]]
name = "slow"
cron = "@yearly"
timezone = "UTC"
volumes = ["db"]
kind = "backup"
destination = "vfs:///run/clock-store"
timeout = "5m"

[[schedule.before]]
command = ["sh", "-c", "touch /run/clock-begun; while [ ! -e /run/clock-go ]; do sleep 0.1; done"]
timeout = "4m"
"#;

/// Half past an hour: nothing is due for half an hour.
const NOW: &str = "2026-06-10 12:30:00";

/// A daemon under a clock that jumps.
struct Clocked(Daemon);

impl Clocked {
    fn ok(&self, words: &[&str]) -> Step<String> {
        self.0.run(words).or_else(|failure| Err(Failure::new(format!("{failure}\n{}", self.0.log()?))))
    }

    fn json(&self, words: &[&str]) -> Step<Value> {
        Ok(serde_json::from_str(&self.ok(words)?)?)
    }

    /// The backups there are, by URL.
    fn backups(&self) -> Step<Vec<String>> {
        let listed = self.json(&["backup", "list", STORE])?;
        Ok(listed.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default())
    }

    /// Runs a schedule at once; the backup.
    fn back_up(&self, schedule: &str) -> Step<String> {
        let report = self.json(&["schedule", "run", schedule])?;
        ensure_eq!(report["Runs"][0]["Error"], "");
        Ok(report["Runs"][0]["Backup"].as_str().unwrap_or_default().to_owned())
    }

    /// Takes this in place of the rule of the hourly schedule.
    fn settings(&self, rule: &str) -> Step {
        std::fs::write(CONFIG, SETTINGS.replace("keep = { last = 1 }", rule))?;
        self.0.reload()
    }

    /// How often something was said.
    fn said(&self, words: &str) -> Step<usize> {
        Ok(self.0.log()?.matches(words).count())
    }

    fn wait(&self, what: &str, done: impl Fn() -> Step<bool>) -> Step {
        patience::wait(what, PATIENCE, done)
            .map_err(|failure| failure.with(&self.ok(&["schedule", "list"])).with(&self.0.log()))
    }

    /// What no clock changes.
    fn is_well(&self, content: &str) -> Step {
        let mounted = self.json(&["inspect", "db"])?["MountPoint"].as_str().unwrap_or_default().to_owned();
        ensure!(!mounted.is_empty(), "the mount was forgotten");
        ensure_eq!(std::fs::read_to_string(format!("{mounted}/file"))?, content);
        self.ok(&["create", "short-lived"])?;
        self.ok(&["mount", "short-lived"])?;
        self.ok(&["umount", "short-lived"])?;
        self.ok(&["snapshot", "create", "short-lived", "--name", "brief"])?;
        self.ok(&["snapshot", "delete", "brief"])?;
        self.ok(&["delete", "short-lived"]).map(drop)
    }
}

fn set_clock(to: &str) -> Step {
    sh(&format!("date -u -s '{to}'")).map(drop)
}

/// Sets the clock so many days forward or back.
fn jump(days: i64) -> Step {
    sh(&format!("date -u -s @$(($(date +%s) + {days} * 86400))")).map(drop)
}

pub(super) fn run() -> Step {
    set_clock(NOW)?;
    std::fs::create_dir_all("/run/clock-store")?;
    std::fs::write(CONFIG, SETTINGS)?;
    let daemon = Clocked(Daemon::launch("/run/clock", &["--config", CONFIG])?);
    daemon.ok(&["create", "db"])?;
    let place = daemon.ok(&["mount", "db"])?;
    let file = format!("{place}/file");
    std::fs::write(&file, "before")?;
    let before = daemon.back_up("hourly")?;
    ensure_eq!(daemon.backups()?, std::slice::from_ref(&before));

    // Ten days at once: of 240 moments that were missed one is made good, and what retention deletes is what
    // the rules say.
    jump(10)?;
    daemon.wait("a missed run is made good", || Ok(daemon.said("making good for what was missed")? > 0))?;
    daemon.wait("it ends", || Ok(daemon.backups()? != [before.clone()]))?;
    daemon.wait("nothing runs", || {
        Ok(daemon.json(&["jobs"])?.as_object().is_some_and(|jobs| jobs.is_empty()))
    })?;
    let ahead = daemon.backups()?;
    ensure_eq!(ahead.len(), 1);
    // Two looks at the clock later.
    std::thread::sleep(Duration::from_secs(31));
    ensure_eq!(daemon.said("making good for what was missed")?, 1);
    ensure_eq!(daemon.backups()?, ahead);
    daemon.is_well("before")?;
    println!("forward: one run");

    // Back again. What was made meanwhile is from the future, and may not be the end of what is made now.
    jump(-10)?;
    daemon.wait("the schedule goes on", || Ok(daemon.said("the clock was set back")? > 0))?;
    std::fs::write(&file, "after")?;
    let after = daemon.back_up("hourly")?;
    let both = daemon.backups()?;
    ensure!(both.contains(&after), "the newest backup was deleted for one from the future: {both:?}");
    ensure!(both.contains(&ahead[0]) && both.len() == 2, "{both:?}");
    daemon.ok(&["create", "restored", "--backup", &after])?;
    let restored =
        daemon.json(&["inspect", "restored"])?["DriverInfo"]["Path"].as_str().unwrap_or_default().to_owned();
    ensure_eq!(std::fs::read_to_string(format!("{restored}/file"))?, "after");
    ensure_eq!(daemon.said("making good for what was missed")?, 1);
    daemon.is_well("after")?;
    println!("back: nothing deleted, nothing repeated");

    // In the midst of a run, there and back. The other schedule would be right to run, and to delete what is
    // old by that clock.
    daemon.settings("keep = { last = 1 }\npaused = true")?;
    let mut command = daemon.0.command(&["schedule", "run", "slow"])?;
    let mut running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    daemon.wait("the run begins", || Ok(std::path::Path::new("/run/clock-begun").exists()))?;
    for days in [30, -60, 30] {
        jump(days)?;
        ensure!(running.try_wait()?.is_none(), "a clock that jumps ended a run: {}", daemon.0.log()?);
        let jobs = daemon.json(&["jobs"])?;
        let mut jobs = jobs.as_object().into_iter().flat_map(|jobs| jobs.values());
        ensure!(jobs.any(|job| job["State"] == "running"), "the run is no job any more");
        std::thread::sleep(Duration::from_secs(1));
    }
    daemon.settings("keep = { last = 1 }")?;
    std::fs::write("/run/clock-go", "")?;
    let output = running.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    daemon.ok(&["backup", "prune", STORE])?;
    let left = daemon.backups()?;
    ensure!(left.contains(&after) && left.len() == 3, "{left:?}");
    for backup in &left {
        daemon.ok(&["backup", "verify", backup])?;
    }
    daemon.is_well("after")?;
    comes_again(&daemon, &file, &ahead[0])?;
    daemon.ok(&["umount", "db"])?;
    daemon.ok(&["delete", "db"]).map(drop)
}

/// The moment that the wrong clock had shown: there is a snapshot of it, with what was there then.
fn comes_again(daemon: &Clocked, file: &str, before: &str) -> Step {
    std::fs::write(file, "again")?;
    let left = daemon.backups()?;
    ensure!(left.iter().any(|url| url == before), "{left:?}");
    jump(10)?;
    let newest = || Ok::<_, Failure>(daemon.backups()?.into_iter().find(|url| !left.contains(url)));
    daemon.wait("the moment comes again", || Ok(newest()?.is_some()))?;
    let newest = newest()?.unwrap_or_default();
    daemon.ok(&["create", "restored-again", "--backup", &newest])?;
    let restored = daemon.json(&["inspect", "restored-again"])?;
    let path = restored["DriverInfo"]["Path"].as_str().unwrap_or_default();
    ensure_eq!(std::fs::read_to_string(format!("{path}/file"))?, "again");
    println!("a moment that came again has a backup of its own");
    Ok(())
}
