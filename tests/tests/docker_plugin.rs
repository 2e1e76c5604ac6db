//! convoy as a managed plugin: `docker plugin create`, and containers with its volumes.

use convoy_tests::error::check;
use convoy_tests::{Engine, Lab, Result, Storage, plugin, programs, run};
use std::path::Path;
use std::process::Command;

#[test]
fn a_managed_plugin_keeps_volumes_over_its_restart() -> Result<()> {
    Lab::run(|lab| {
        let place = lab.make("plugin")?;
        plugin::make(&place, &programs::directory()?, &["vfs"])?;
        with_plugin(lab, &place, use_it)
    })
}

/// Where the engine is in a container itself, nothing that is mounted may grow: it grows before it is
/// mounted.
#[test]
fn an_ext4_that_was_resized_in_a_managed_plugin_mounts_again() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 1 << 30, "")?;
        let place = lab.make("plugin")?;
        plugin::make(&place, &programs::directory()?, &["loop"])?;
        plugin::bind(&place, storage.path(), Path::new("/srv/images"))?;
        with_plugin(lab, &place, resize_it)
    })
}

/// Starts an engine, which has the plugin in a directory, and ends both.
fn with_plugin(lab: &Lab, place: &Path, test: impl FnOnce(&Engine) -> Result<()>) -> Result<()> {
    // The engine's own spec for a plugin beside it names a socket where nobody listens: nothing but the
    // managed one can serve these volumes.
    let engine = Engine::start(lab, &lab.path("nobody.sock"))?;
    engine.ok(&["plugin", "create", "convoy-managed", &place.to_string_lossy()])?;
    let result = test(&engine);
    // Before the engine goes: what it has mounted for a plugin stays mounted otherwise.
    engine.remove_containers()?;
    engine.ok(&["plugin", "disable", "-f", "convoy-managed"])?;
    engine.ok(&["plugin", "rm", "-f", "convoy-managed"])?;
    result
}

fn resize_it(engine: &Engine) -> Result<()> {
    let options = "CONVOY_DRIVER_OPTS=loop.path=/srv/images";
    engine.ok(&["plugin", "set", "convoy-managed", "CONVOY_DRIVERS=loop", options])?;
    engine.ok(&["plugin", "set", "convoy-managed", "CONVOY_DOCKER_REMOVE=delete"])?;
    engine.ok(&["plugin", "enable", "convoy-managed"])?;
    engine.ok(&["volume", "create", "-d", "convoy-managed", "-o", "size=64M", "held"])?;
    let run = |shell: &str| {
        let words = ["run", "--rm", "--network", "none", "-v", "held:/data", convoy_tests::engine::IMAGE];
        engine.ok(&[&words[..], &["/bin/sh", "-c", shell]].concat())
    };
    run("echo kept > /data/file")?;
    // The one place where engines have the sockets of their plugins.
    let id = engine.ok(&["plugin", "inspect", "-f", "{{.Id}}", "convoy-managed"])?;
    let socket = Path::new("/run/docker/plugins").join(id).join("convoy.sock");
    let mut resize = Command::new(programs::convoy()?);
    resize.arg("--socket").arg(socket).args(["resize", "held", "192M"]);
    run::capture(&mut resize)?.ok()?;
    // More than it had before.
    let read = run("dd if=/dev/zero of=/data/more bs=1048576 count=100 2> /dev/null && cat /data/file")?;
    check(read == "kept", || format!("after it was resized the file reads {read:?}"))?;
    engine.ok(&["volume", "rm", "held"]).map(drop)
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
