//! Daemons and engines that stop, die and come back while containers run.

use std::thread;
use std::time::Duration;

use convoy_tests::engine::COUNT;
use convoy_tests::error::check;
use convoy_tests::{Carrier, Convoy, Engine, Lab, Result, Setup, each_carrier, patience};

each_carrier!(
    convoy_restarts_while_a_container_runs,
    convoy_is_killed_while_containers_run,
    the_engine_restarts_and_its_containers_with_it,
    the_engine_restarts_and_its_containers_live_on,
    the_plugin_is_down_when_the_engine_starts,
    both_are_killed_and_come_back,
);

fn mounted(convoy: &Convoy, volume: &str) -> Result<bool> {
    Ok(!convoy.mount_point(volume)?.is_empty())
}

/// Waits until the counter in a container has moved on.
fn counts_on(engine: &Engine, container: &str) -> Result<()> {
    let before = engine.exec(container, "cat /data/count")?;
    patience::until("the next number", Duration::from_secs(10), || {
        Ok(engine.exec(container, "cat /data/count")? != before)
    })
}

fn convoy_restarts_while_a_container_runs(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let mut convoy = Setup::vfs(lab, carrier).start()?;
        let engine = Engine::start(lab, &convoy.setup().socket)?;
        engine.background("box", "counted", COUNT)?;
        convoy.stop()?;
        counts_on(&engine, "box")?;
        convoy.start_again()?;
        assert!(mounted(&convoy, "counted")?, "the mount was forgotten");
        counts_on(&engine, "box")?;
        engine.ok(&["rm", "-f", "box"])?;
        assert!(!mounted(&convoy, "counted")?);
        check(!engine.shell("counted", "cat /data/count")?.is_empty(), || "nothing counted".to_owned())
    })
}

fn convoy_is_killed_while_containers_run(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let mut convoy = Setup::vfs(lab, carrier).start()?;
        let engine = Engine::start(lab, &convoy.setup().socket)?;
        engine.background("one", "counted", COUNT)?;
        engine.background("two", "counted", "exec sleep 1000")?;
        convoy.kill()?;
        counts_on(&engine, "one")?;
        convoy.start_again()?;
        // Two users were counted before the kill, and two there still are.
        engine.ok(&["rm", "-f", "one"])?;
        assert!(mounted(&convoy, "counted")?, "unmounted under the second container");
        engine.exec("two", "cat /data/count")?;
        engine.ok(&["rm", "-f", "two"])?;
        assert!(!mounted(&convoy, "counted")?);
        convoy.ok(&["delete", "counted"])?;
        Ok(())
    })
}

fn the_engine_restarts_and_its_containers_with_it(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, carrier).start()?;
        let mut engine = Engine::start(lab, &convoy.setup().socket)?;
        let words = ["-d", "--name", "box", "--restart", "always", "--stop-timeout", "1"];
        engine.ok(&engine.words(&words, "counted:/data", COUNT))?;
        engine.stop()?;
        assert!(
            !mounted(&convoy, "counted")?,
            "the engine stopped its container and convoy still has it mounted"
        );
        engine.start_again()?;
        counts_on(&engine, "box")?;
        assert!(mounted(&convoy, "counted")?);
        engine.ok(&["rm", "-f", "box"])?;
        assert!(!mounted(&convoy, "counted")?);
        engine.ok(&["volume", "rm", "counted"])?;
        Ok(())
    })
}

fn the_engine_restarts_and_its_containers_live_on(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let mut convoy = Setup::vfs(lab, carrier).start()?;
        let mut engine = Engine::start_with_live_restore(lab, &convoy.setup().socket)?;
        engine.background("box", "counted", COUNT)?;
        engine.stop()?;
        assert!(mounted(&convoy, "counted")?, "the container lives on, its volume must too");
        convoy.kill()?;
        convoy.start_again()?;
        assert!(mounted(&convoy, "counted")?);
        engine.start_again()?;
        counts_on(&engine, "box")?;
        engine.ok(&["rm", "-f", "box"])?;
        assert!(!mounted(&convoy, "counted")?);
        Ok(())
    })
}

fn the_plugin_is_down_when_the_engine_starts(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let mut convoy = Setup::vfs(lab, carrier).start()?;
        let mut engine = Engine::start(lab, &convoy.setup().socket)?;
        engine.background("box", "counted", COUNT)?;
        engine.ok(&["rm", "-f", "box"])?;
        engine.stop()?;
        convoy.stop()?;
        engine.launch()?;
        thread::sleep(Duration::from_secs(1));
        convoy.start_again()?;
        engine.wait_until_it_answers()?;
        check(!engine.shell("counted", "cat /data/count")?.is_empty(), || "nothing there".to_owned())?;
        assert_eq!(engine.volumes()?, ["counted"]);
        Ok(())
    })
}

fn both_are_killed_and_come_back(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let mut convoy = Setup::vfs(lab, carrier).start()?;
        let mut engine = Engine::start(lab, &convoy.setup().socket)?;
        engine.ok(&engine.words(&["-d", "--name", "box", "--restart", "always"], "counted:/data", COUNT))?;
        engine.kill()?;
        convoy.kill()?;
        convoy.start_again()?;
        engine.start_again()?;
        counts_on(&engine, "box")?;
        assert!(mounted(&convoy, "counted")?);
        engine.ok(&["rm", "-f", "box"])?;
        // An engine that died never takes its old mounts back, and nobody can tell them from those of
        // containers that live on: the volume stays mounted until a person says otherwise.
        assert!(mounted(&convoy, "counted")?);
        let refused = convoy.refused(&["delete", "counted"])?;
        check(refused.contains("still mounted") && refused.contains("--force"), || refused.clone())?;
        convoy.ok(&["umount", "--force", "counted"])?;
        assert!(!mounted(&convoy, "counted")?);
        convoy.ok(&["delete", "counted"])?;
        Ok(())
    })
}
