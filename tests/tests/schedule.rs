//! Schedules with a real engine: volumes by label, dumps by hooks in containers, settings read again.

use convoy_tests::error::{Context, check};
use convoy_tests::{Carrier, Engine, Error, Lab, Result, Setup, patience};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::time::Duration;

const SETTINGS: &str = r#"
[scheduling]
docker-socket = "ENGINE"

[[schedule]]
name = "daily"
cron = "@daily"
labels = ["com.example.backup=daily"]
kind = "backup"
destination = "STORE"

[[schedule.before]]
exec = ["/bin/sh", "-c", "echo dump of $CONVOY_VOLUME for $CONVOY_SCHEDULE > /data/dump"]
labels = ["com.example.role=database"]

[[schedule]]
name = "broken"
cron = "@daily"
volumes = ["labelled"]
kind = "snapshot"

[[schedule.before]]
exec = ["/bin/sh", "-c", "echo the database is away >&2; exit 4"]
"#;

#[test]
fn labels_choose_volumes_and_hooks_run_in_their_containers() -> Result<()> {
    Lab::run(|lab| {
        let file = lab.path("convoy.toml");
        fs::write(&file, "").during(|| "cannot write the settings".to_owned())?;
        let config = file.display().to_string();
        let convoy = Setup::vfs(lab, Carrier::Builtin).with(&["--config", &config]).start()?;
        let engine = Engine::start(lab, &convoy.setup().socket)?;
        let store = format!("vfs://{}", lab.make("store")?.display());
        let settings =
            SETTINGS.replace("ENGINE", &engine.socket().display().to_string()).replace("STORE", &store);
        fs::write(&file, settings).during(|| "cannot write the settings".to_owned())?;

        let create = ["volume", "create", "--driver", engine.plugin()];
        engine.ok(&[&create[..], &["--label", "com.example.backup=daily", "labelled"]].concat())?;
        engine.ok(&[&create[..], &["--label", "com.example.backup=weekly", "other"]].concat())?;
        engine.ok(&[&create[..], &["plain"]].concat())?;
        for (name, label, volume) in [
            ("database", "com.example.role=database", "labelled:/data"),
            ("cache", "com.example.role=cache", "labelled:/data"),
            ("elsewhere", "com.example.role=database", "plain:/data"),
        ] {
            let flags = ["-d", "--name", name, "--label", label];
            engine.ok(&engine.words(&flags, volume, "sleep 600"))?;
        }
        let pid = i32::try_from(convoy.id()).map_err(|error| Error::Unexpected(error.to_string()))?;
        kill(Pid::from_raw(pid), Signal::SIGHUP).during(|| "cannot signal the daemon".to_owned())?;
        patience::until("the schedules are taken over", Duration::from_secs(20), || {
            Ok(convoy.ok(&["schedule", "list"])?.contains("\"labelled\""))
        })?;
        let listed = convoy.ok(&["schedule", "list"])?;
        check(!listed.contains("\"other\"") && !listed.contains("\"plain\""), || listed.clone())?;

        let ran = convoy.ok(&["schedule", "run", "daily"])?;
        let report: serde_json::Value =
            serde_json::from_str(&ran).map_err(|error| Error::Unexpected(format!("{error}: {ran}")))?;
        let backup = report["Runs"][0]["Backup"].as_str().unwrap_or_default();
        convoy.ok(&["create", "restored", "--backup", backup])?;
        assert_eq!(engine.shell("restored", "cat /data/dump")?, "dump of labelled for daily");
        assert_eq!(engine.shell("plain", "ls /data")?, "", "containers of other volumes are left alone");

        let failed = convoy.run(&["schedule", "run", "broken"])?.refused()?;
        check(failed.contains("(exit code 4): the database is away"), || failed.clone())?;
        check(failed.contains("in container "), || failed.clone())?;
        Ok(())
    })
}
