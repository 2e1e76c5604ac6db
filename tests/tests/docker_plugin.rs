//! convoy as a managed plugin: `docker plugin create`, and containers with its volumes.

use convoy_tests::error::check;
use convoy_tests::{Engine, Lab, Result, plugin, programs};

#[test]
fn a_managed_plugin_keeps_volumes_over_its_restart() -> Result<()> {
    Lab::run(|lab| {
        let place = lab.make("plugin")?;
        plugin::make(&place, &programs::directory()?, &["vfs"])?;
        // The engine's own spec for a plugin beside it names a socket where nobody listens: nothing but the managed
        // one can serve these volumes.
        let engine = Engine::start(lab, &lab.path("nobody.sock"))?;
        engine.ok(&["plugin", "create", "convoy-managed", &place.to_string_lossy()])?;
        let result = use_it(&engine);
        // Before the engine goes: what it has mounted for a plugin stays mounted otherwise.
        engine.remove_containers()?;
        engine.ok(&["plugin", "disable", "-f", "convoy-managed"])?;
        engine.ok(&["plugin", "rm", "-f", "convoy-managed"])?;
        result
    })
}

fn use_it(engine: &Engine) -> Result<()> {
    engine.ok(&["plugin", "set", "convoy-managed", "CONVOY_DOCKER_REMOVE=delete"])?;
    engine.ok(&["plugin", "enable", "convoy-managed"])?;
    engine.ok(&["volume", "create", "-d", "convoy-managed", "held"])?;
    let run = |shell: &str| {
        let words = ["run", "--rm", "--network", "none", "-v", "held:/data", convoy_tests::engine::IMAGE];
        engine.ok(&[&words[..], &["/bin/sh", "-c", shell]].concat())
    };
    run("echo kept > /data/file")?;
    // The plugin is restarted: records and data are on the host.
    engine.ok(&["plugin", "disable", "-f", "convoy-managed"])?;
    engine.ok(&["plugin", "enable", "convoy-managed"])?;
    let read = run("cat /data/file")?;
    check(read == "kept", || format!("after a restart of the plugin the file reads {read:?}"))?;
    let driver = engine.ok(&["volume", "inspect", "-f", "{{.Driver}}", "held"])?;
    check(driver.starts_with("convoy-managed"), || format!("the volume is of driver {driver}"))?;
    engine.ok(&["volume", "rm", "held"])?;
    let names = engine.ok(&["volume", "ls", "-q"])?;
    check(!names.contains("held"), || format!("still there: {names}"))
}
