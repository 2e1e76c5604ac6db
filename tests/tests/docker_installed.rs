//! The Debian package: installed, upgraded, removed and purged, on a machine with systemd and Docker.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use convoy_tests::engine::{COUNT, IMAGE, image};
use convoy_tests::error::{Context, check};
use convoy_tests::package::{deb, tree};
use convoy_tests::run::capture;
use convoy_tests::{Lab, Machine, Result, patience, programs};
use serde_json::Value;

/// Long enough for a restart by systemd.
const SOON: Duration = Duration::from_secs(30);

/// A package of what was built, with two of the drivers: each adds a hundred megabytes before it is
/// optimised.
fn package(lab: &Lab) -> Result<PathBuf> {
    let tree = tree::make(&lab.path("tree"), &programs::directory()?, &["vfs", "devicemapper"])?;
    deb::build(&tree, lab.directory(), deb::Compression::None)
}

#[test]
fn dpkg_takes_what_it_brought_and_nothing_else() -> Result<()> {
    Lab::run_on_disk(|lab| deb::check(&package(lab)?, &lab.path("bare")))
}

#[test]
fn it_is_stripped_has_nothing_twice_and_brings_its_documents() -> Result<()> {
    Lab::run_on_disk(|lab| {
        let package = package(lab)?;
        let there = lab.path("unpacked");
        capture(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&there))?.ok()?;
        let drivers = there.join("usr/lib/convoy/drivers");
        let library = drivers.join("libconvoy_driver_devicemapper.so");
        for program in [&there.join("usr/bin/convoy"), &drivers.join("convoy-driver-vfs"), &library] {
            let sections =
                capture(Command::new("readelf").args(["--wide", "--sections"]).arg(program))?.ok()?;
            check(sections.contains(".dynsym") && !sections.contains(".symtab"), || {
                format!("{} has symbols that nobody needs:\n{sections}", program.display())
            })?;
        }
        // It can be loaded all the same.
        capture(
            Command::new(there.join("usr/bin/convoy"))
                .args(["driver", "run"])
                .arg(&library)
                .args(["--", "describe"]),
        )?
        .ok()?;
        check(!drivers.join("libconvoy_driver_vfs.so").exists(), || "vfs is built in".to_owned())?;
        for document in ["changelog.gz", "copyright", "cli.md", "operations/install.md", "drivers/vfs.md"] {
            check(there.join("usr/share/doc/convoy").join(document).is_file(), || format!("no {document}"))?;
        }
        let maintainer =
            capture(Command::new("dpkg-deb").arg("--field").arg(&package).arg("Maintainer"))?.ok()?;
        check(maintainer.ends_with('>') && !maintainer.contains("localhost"), || maintainer)
    })
}

/// The daemon's process on the machine.
fn daemon(machine: &Machine) -> Result<String> {
    machine.ok(&["systemctl", "show", "--property=MainPID", "--value", "convoy.service"])
}

/// The container counts on in its volume.
fn counts_on(machine: &Machine) -> Result<()> {
    let count = || machine.ok(&["docker", "exec", "counter", "cat", "/data/count"]);
    let before = count()?;
    patience::until("the next number", SOON, || Ok(count()? != before))
}

#[test]
fn it_works_at_once_and_through_all_that_happens_to_a_machine() -> Result<()> {
    Lab::run_on_disk(|lab| {
        let package = package(lab)?;
        let mut machine = Machine::boot(lab)?;
        let file = machine.root().join("root/convoy.deb");
        fs::copy(&package, &file).during(|| format!("cannot copy to {}", file.display()))?;
        machine.ok(&["dpkg", "--install", "/root/convoy.deb"])?;

        works_at_once(lab, &machine)?;
        killed_upgraded_and_reloaded(&machine)?;
        stopped_and_woken(&machine)?;

        // Docker starts the container again, and asks for its volume: convoy is there first.
        machine.shut_down()?;
        machine.boot_again()?;
        running_again(&machine)?;
        machine.kill()?;
        machine.boot_again()?;
        running_again(&machine)?;

        removed_and_purged(&machine)
    })
}

fn works_at_once(lab: &Lab, machine: &Machine) -> Result<()> {
    let image = image(lab)?;
    let there = machine.root().join("root/image.tar");
    fs::copy(image, &there).during(|| format!("cannot copy to {}", there.display()))?;
    machine.ok(&["docker", "import", "/root/image.tar", IMAGE])?;
    // As the guide says it: no plugin installed, no volume made, no daemon started by hand.
    let run = [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        "--volume-driver",
        "convoy",
        "-v",
        "data:/data",
        IMAGE,
    ];
    machine.ok(&[&run[..], &["sh", "-c", "echo kept > /data/file"]].concat())?;
    let kept = "/var/lib/rancher/convoy/vfs/volumes/data/file";
    check(machine.ok(&["cat", kept])? == "kept", || "the volume is not where the guide says".to_owned())?;
    // Told to stop, it does: a shell that is the first process of a container would have to be killed.
    let count = format!("trap 'exit 0' TERM; {COUNT}");
    let again = ["-d", "--name", "counter", "--restart", "always", "--network", "none"];
    let volume = ["--volume-driver", "convoy", "-v", "counted:/data", IMAGE, "sh", "-c", &count];
    machine.ok(&[&["docker", "run"], &again[..], &volume].concat())?;
    for (file, says) in [
        ("/usr/share/bash-completion/completions/convoy", "complete"),
        ("/usr/share/doc/convoy/copyright", "License"),
    ] {
        check(machine.ok(&["cat", file])?.contains(says), || format!("{file} does not say {says:?}"))?;
    }
    machine.ok(&["convoy", "config", "check", "/etc/convoy/convoy.toml"])?;
    let drivers = machine.ok(&["convoy", "driver", "list"])?;
    for driver in ["vfs", "devicemapper"] {
        check(drivers.contains(driver), || format!("no driver {driver}: {drivers}"))?;
    }
    counts_on(machine)
}

fn killed_upgraded_and_reloaded(machine: &Machine) -> Result<()> {
    let first = daemon(machine)?;
    machine.ok(&["kill", "-9", &first])?;
    // The call waits at the socket, which is systemd's, until there is a daemon again.
    machine.ok(&["convoy", "list"])?;
    let second = daemon(machine)?;
    check(first != second, || "the killed daemon was not started again".to_owned())?;
    counts_on(machine)?;

    machine.ok(&["dpkg", "--install", "/root/convoy.deb"])?;
    machine.ok(&["convoy", "list"])?;
    let third = daemon(machine)?;
    check(second != third, || "an upgrade leaves the old daemon running".to_owned())?;
    counts_on(machine)?;

    machine.shell("echo 'log-level = \"debug\"' > /etc/convoy/convoy.toml")?;
    machine.ok(&["systemctl", "reload", "convoy.service"])?;
    patience::until("the new setting", SOON, || {
        let shown: Value = serde_json::from_str(&machine.ok(&["convoy", "config", "show"])?)
            .during(|| "cannot read the settings".to_owned())?;
        Ok(shown["log-level"]["Value"] == "debug")
    })?;
    check(daemon(machine)? == third, || "a reload restarts the daemon".to_owned())
}

fn stopped_and_woken(machine: &Machine) -> Result<()> {
    machine.ok(&["systemctl", "stop", "convoy.service"])?;
    check(daemon(machine)? == "0", || "it runs after its stop".to_owned())?;
    counts_on(machine)?;
    // Whoever calls wakes it.
    machine.ok(&["convoy", "snapshot", "create", "counted", "--name", "one"])?;
    check(daemon(machine)? != "0", || "nothing runs after a call".to_owned())
}

/// After a boot.
fn running_again(machine: &Machine) -> Result<()> {
    patience::until("the container's restart", SOON, || {
        Ok(machine.ok(&["docker", "inspect", "--format={{.State.Running}}", "counter"])? == "true")
    })?;
    counts_on(machine)?;
    machine.ok(&["convoy", "snapshot", "inspect", "one"])?;
    check(machine.ok(&["systemctl", "--failed", "--no-legend", "list-units", "convoy*"])?.is_empty(), || {
        "systemd says that something of convoy failed".to_owned()
    })
}

fn removed_and_purged(machine: &Machine) -> Result<()> {
    machine.ok(&["dpkg", "--remove", "convoy"])?;
    // Its volumes are the containers' as long as they run.
    counts_on(machine)?;
    check(!machine.run(&["systemctl", "is-active", "convoy.socket"])?.success(), || {
        "a socket is left".to_owned()
    })?;
    let settings = machine.root().join("etc/convoy/convoy.toml");
    check(settings.exists(), || "removal takes the settings".to_owned())?;
    machine.ok(&["dpkg", "--purge", "convoy"])?;
    // Who uses which volume is remembered as long as the machine runs: a new daemon would have to know.
    let find =
        "find /usr /etc /run -xdev -path '*convoy*' -not -path /run/convoy -not -path '/run/convoy/mounts*'";
    let left = machine.shell(find)?;
    check(left.is_empty(), || format!("purging leaves {left}"))?;
    let kept = machine.ok(&["cat", "/var/lib/rancher/convoy/vfs/volumes/data/file"])?;
    check(kept == "kept", || "purging takes volumes".to_owned())
}
