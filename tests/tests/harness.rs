//! The harness itself: a test that leaves something behind fails, and says what.

use std::fs;
use std::process::Command;

use convoy_tests::child::Child;
use convoy_tests::error::{Context, check};
use convoy_tests::{Engine, Lab, Result, leaks, run};

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

#[test]
fn an_engine_of_our_own_runs_containers_and_leaves_nothing() -> Result<()> {
    Lab::run(|lab| {
        let engine = Engine::start(lab, &lab.path("nobody.sock"))?;
        let said =
            engine.ok(&["run", "--rm", "--network", "none", "convoy-busybox", "/bin/echo", "hello"])?;
        check(said == "hello", || said.clone())
    })
}
