//! Whole volumes in place with a real engine: its containers stop and run again.

use convoy_tests::engine::COUNT;
use convoy_tests::error::{Context, check};
use convoy_tests::{Carrier, Convoy, Engine, Error, Lab, Result, Setup, patience};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A daemon and an engine that know each other.
fn start(lab: &Lab) -> Result<(Convoy, Engine)> {
    let file = lab.path("convoy.toml");
    fs::write(&file, "").during(|| "cannot write the settings".to_owned())?;
    let config = file.display().to_string();
    let convoy = Setup::vfs(lab, Carrier::Builtin).with(&["--config", &config]).start()?;
    let engine = Engine::start(lab, &convoy.setup().socket)?;
    let socket = engine.socket().display().to_string();
    let settings = format!("[scheduling]\ndocker-socket = \"{socket}\"\n");
    fs::write(&file, settings).during(|| "cannot write the settings".to_owned())?;
    let pid = i32::try_from(convoy.id()).map_err(|error| Error::Unexpected(error.to_string()))?;
    kill(Pid::from_raw(pid), Signal::SIGHUP).during(|| "cannot signal the daemon".to_owned())?;
    patience::until("the engine's socket is taken over", Duration::from_secs(20), || {
        Ok(convoy.ok(&["config", "show"])?.contains(&socket))
    })?;
    Ok((convoy, engine))
}

fn runs(engine: &Engine, container: &str) -> Result<bool> {
    Ok(engine.ok(&["inspect", "--format", "{{.State.Running}}", container])?.trim() == "true")
}

/// A container counts on in its volume.
fn counts(engine: &Engine, container: &str) -> Result<()> {
    check(runs(engine, container)?, || format!("{container} does not run"))?;
    let before = engine.exec(container, "cat /data/count")?;
    patience::until("the container counts", Duration::from_secs(20), || {
        Ok(engine.exec(container, "cat /data/count")? != before)
    })
}

#[test]
fn a_container_stops_its_volume_is_restored_in_place_and_it_runs_again() -> Result<()> {
    Lab::run(|lab| {
        let (convoy, engine) = start(lab)?;
        engine.ok(&["volume", "create", "--driver", engine.plugin(), "data"])?;
        engine.shell("data", "echo first > /data/file")?;
        convoy.ok(&["snapshot", "create", "data", "--name", "monday"])?;
        let store = lab.make("store")?;
        let url =
            convoy.ok(&["backup", "create", "monday", "--dest", &format!("vfs://{}", store.display())])?;
        let url = url.trim().replace("\\u0026", "&");
        engine.background("app", "data", COUNT)?;
        engine.exec("app", "echo second > /data/file; echo more > /data/more")?;

        let refused = convoy.refused(&["restore", "monday", "--in-place", "data"])?;
        check(refused.contains("used by the containers app"), || refused.clone())?;
        convoy.ok(&["restore", "monday", "--in-place", "data", "--stop"])?;
        check(engine.exec("app", "cat /data/file")? == "first", || {
            "the file is not that of monday".to_owned()
        })?;
        check(engine.exec("app", "ls /data")?.contains("count"), || "it does not count".to_owned())?;
        check(!engine.exec("app", "ls /data")?.contains("more"), || "what came since is there".to_owned())?;
        counts(&engine, "app")?;

        // A restore that fails in the middle changes nothing, and the container runs again, too.
        engine.exec("app", "echo third > /data/file")?;
        damage(&store)?;
        let failed = convoy.run(&["restore", &url, "--in-place", "data", "--stop"])?;
        check(!failed.success(), || "a damaged backup was restored".to_owned())?;
        check(engine.exec("app", "cat /data/file")? == "third", || "the volume is not as before".to_owned())?;
        counts(&engine, "app")?;
        let failed = convoy.refused(&["restore", "nosuch", "--in-place", "data", "--stop"])?;
        check(failed.contains("nosuch"), || failed.clone())?;
        counts(&engine, "app")
    })
}

/// Exchanges the bytes of all packs below a directory.
fn damage(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).during(|| format!("cannot list {}", dir.display()))? {
        let path = entry.during(|| format!("cannot list {}", dir.display()))?.path();
        if path.is_dir() {
            damage(&path)?;
        } else if path.components().any(|part| part.as_os_str() == "packs") {
            let bytes = fs::read(&path).during(|| format!("cannot read {}", path.display()))?;
            let bytes: Vec<u8> = bytes.iter().map(|byte| byte ^ 0xff).collect();
            fs::write(&path, bytes).during(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}
