//! The harness itself: a test that leaves something behind fails, and says what.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use convoy_tests::child::Child;
use convoy_tests::error::{Context, check};
use convoy_tests::namespace::apart;
use convoy_tests::turns;
use convoy_tests::{Engine, Lab, Result, Storage, leaks, patience, run};

#[test]
fn a_mount_left_behind_is_found_and_cleared() -> Result<()> {
    let lab = Lab::new()?;
    let place = lab.make("a place with spaces")?;
    run::capture(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&place))?.ok()?;
    let said = lab.finish().err().map(|error| error.to_string()).unwrap_or_default();
    check(said.contains("a place with spaces"), || format!("the mount was not reported: {said:?}"))?;
    check(leaks::mounts(lab.directory())?.is_empty(), || "the mount is still there".to_owned())?;
    check(!lab.directory().exists(), || "the directory is still there".to_owned())
}

#[test]
fn a_process_left_behind_is_found_and_ended() -> Result<()> {
    let lab = Lab::new()?;
    let mut command = Command::new("sleep");
    command.arg("1000");
    lab.origin().mark(&mut command);
    let child = Child::start(&mut command, &lab.path("sleep.log"))?;
    let said = lab.finish().err().map(|error| error.to_string()).unwrap_or_default();
    check(said.contains("sleep 1000"), || format!("the process was not reported: {said:?}"))?;
    check(leaks::processes(lab.directory()).is_empty(), || "the process is still there".to_owned())?;
    drop(child);
    Ok(())
}

#[test]
fn a_loop_device_left_behind_is_found_and_detached() -> Result<()> {
    let lab = Lab::new()?;
    let file = lab.path("disk");
    fs::write(&file, vec![0; 1 << 20]).during(|| "cannot write".to_owned())?;
    run::capture(Command::new("losetup").arg("--find").arg(&file))?.ok()?;
    let said = lab.finish().err().map(|error| error.to_string()).unwrap_or_default();
    check(said.contains("loop device"), || format!("the loop device was not reported: {said:?}"))?;
    let devices = run::capture(&mut Command::new("losetup"))?.ok()?;
    check(!devices.contains("convoy-lab-"), || format!("still attached: {devices}"))
}

/// A namespace that lasts lets go of what other labs have mounted, overlays included, and keeps what its own
/// has.
#[test]
fn nobody_holds_what_a_lab_has_unmounted() -> Result<()> {
    Lab::run(|own| {
        let kept = Storage::new(own, "ext4", 64 << 20, "")?;
        let other = Lab::new()?;
        let storage = Storage::new(&other, "ext4", 64 << 20, "")?;
        let (upper, work) = (storage.path().join("upper"), storage.path().join("work"));
        let above = other.make("above")?;
        run::capture(Command::new("mkdir").args([&upper, &work]))?.ok()?;
        let layers = format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), work.display());
        run::capture(Command::new("mount").args(["-t", "overlay", "-o", &layers, "none"]).arg(&above))?
            .ok()?;

        let words = apart("cat /proc/self/mountinfo; echo ready; exec sleep 60");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        own.origin().mark(&mut command);
        let namespace = Child::start(&mut command, &own.path("namespace.log"))?;
        let mut mounts = String::new();
        patience::until("a mount namespace", Duration::from_secs(10), || {
            mounts = fs::read_to_string(namespace.log()).during(|| "cannot read its log".to_owned())?;
            Ok(mounts.ends_with("ready\n"))
        })?;
        let holds = |path: &Path| mounts.contains(&format!(" {} ", path.display()));
        check(holds(kept.path()), || format!("it let go of its own:\n{mounts}"))?;
        check(!holds(storage.path()) && !holds(&above), || format!("it holds another's:\n{mounts}"))?;

        run::capture(Command::new("umount").arg(&above))?.ok()?;
        drop(storage);
        other.finish()
    })
}

#[test]
fn an_engine_of_our_own_runs_containers_and_leaves_nothing() -> Result<()> {
    Lab::run(|lab| {
        let engine = Engine::start(lab, &lab.path("nobody.sock"))?;
        let said =
            engine.ok(&["run", "--rm", "--network", "none", "convoy-busybox", "/bin/echo", "hello"])?;
        check(said == "hello", || said.clone())
    })
}

/// Two test runs on one machine: their engines take turns, since each would see the plugins of the other.
#[test]
fn an_engine_waits_for_that_of_another_run() -> Result<()> {
    Lab::run(|lab| {
        let mut command = Command::new("flock");
        command.args([turns::LOCK, "sh", "-c", "echo locked; sleep 2"]);
        lab.origin().mark(&mut command);
        let mut other = Child::start(&mut command, &lab.path("other.log"))?;
        patience::until("the lock of another run", Duration::from_secs(200), || {
            Ok(fs::read_to_string(other.log()).is_ok_and(|text| text == "locked\n"))
        })?;
        let _engine = Engine::start(lab, &lab.path("nobody.sock"))?;
        check(other.ended()?.is_some(), || "the engine did not wait".to_owned())
    })
}
