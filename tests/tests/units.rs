//! The units of systemd, read by systemd itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use convoy_tests::error::{Context, check};
use convoy_tests::{Lab, Machine, Result, programs, run};

const UNITS: [&str; 3] = ["convoy.service", "convoy.socket", "convoy-docker.socket"];

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd")
}

/// What systemd says of the units, after `change`, in a directory.
fn verify(directory: &Path, change: impl Fn(String) -> String) -> Result<String> {
    // Not installed here, so systemd is to look at the program that was built.
    let program = programs::convoy()?.display().to_string();
    for unit in UNITS {
        let text = fs::read_to_string(shipped().join(unit)).during(|| format!("cannot read {unit}"))?;
        let text = change(text.replace("/usr/bin/convoy", &program));
        fs::write(directory.join(unit), text).during(|| format!("cannot write {unit}"))?;
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).args(UNITS.map(|unit| directory.join(unit)));
    let output = run::capture(&mut command)?;
    Ok(format!("{}{}", output.stdout, output.stderr))
}

/// What `systemd-analyze security` gives a service that may do everything is 9.6.
const EXPOSURE: u32 = 76;

#[test]
fn the_daemon_is_no_more_exposed_than_it_has_to_be() -> Result<()> {
    let unit = shipped().join("convoy.service");
    let text = fs::read_to_string(&unit).during(|| "cannot read the unit".to_owned())?;
    // Each of these gives the daemon a mount namespace of its own, and containers would get empty
    // directories.
    for fatal in [
        "Private",
        "ProtectSystem",
        "ProtectHome",
        "ProtectProc",
        "ProtectKernel",
        "ProtectControlGroups",
        "ProcSubset",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "InaccessiblePaths",
        "BindPaths",
        "TemporaryFileSystem",
        "RootDirectory",
        "DynamicUser",
        "MountFlags",
    ] {
        check(!text.lines().any(|line| line.starts_with(fatal)), || format!("{fatal} is set"))?;
    }
    check(text.lines().any(|line| line == "LimitCORE=0"), || "cores are dumped".to_owned())?;
    // Fails when it is worse.
    let worse = |threshold: u32| -> Result<run::Output> {
        let mut command = Command::new("systemd-analyze");
        command
            .args(["security", "--offline=true", "--no-pager"])
            .arg(format!("--threshold={threshold}"))
            .arg(&unit);
        run::capture(&mut command)
    };
    worse(EXPOSURE)?.ok()?;
    check(worse(EXPOSURE - 1)?.ok().is_err(), || "it has become better: lower EXPOSURE".to_owned())
}

#[test]
fn systemd_has_nothing_to_say_of_the_units() -> Result<()> {
    Lab::run(|lab| {
        let directory = lab.make("units")?;
        let ours =
            |said: &str| said.lines().filter(|line| line.contains("convoy")).collect::<Vec<_>>().join("\n");
        let said = ours(&verify(&directory, |text| text)?);
        check(said.is_empty(), || said.clone())?;
        // It does look: a key that it does not know, and a program that is not there.
        let said = ours(&verify(&directory, |text| text.replace("OOMScoreAdjust=", "OOMScore="))?);
        check(said.contains("OOMScore"), || format!("nothing said of an unknown key: {said:?}"))?;
        let said = ours(&verify(&directory, |text| text.replace(" daemon\n", ".gone daemon\n"))?);
        check(said.contains("not executable"), || format!("nothing said of a missing program: {said:?}"))?;
        let listed = fs::read_dir(shipped()).during(|| "cannot list the units".to_owned())?.count();
        check(listed == UNITS.len(), || format!("{listed} units are shipped, {} are checked", UNITS.len()))
    })
}

/// A machine of systemd's runs the units as they are shipped.
#[test]
fn the_confined_service_mounts_in_the_hosts_namespace_and_says_when_a_reload_fails() -> Result<()> {
    Lab::run_on_disk(|lab| {
        let machine = Machine::boot(lab)?;
        let put = |from: &Path, to: &str| {
            let to = machine.root().join(to);
            fs::copy(from, &to).map(drop).during(|| format!("cannot copy to {}", to.display()))
        };
        put(&programs::convoy()?, "usr/bin/convoy")?;
        for unit in UNITS {
            put(&shipped().join(unit), &format!("etc/systemd/system/{unit}"))?;
        }
        machine.ok(&["systemctl", "daemon-reload"])?;
        machine.ok(&["systemctl", "start", "convoy.service"])?;
        machine.ok(&["convoy", "create", "data"])?;
        let at = machine.ok(&["convoy", "mount", "data"])?;
        machine.ok(&["test", "-d", at.trim()])?;
        let daemon = machine.ok(&["systemctl", "show", "--property=MainPID", "--value", "convoy.service"])?;
        let of = |process: &str, what: &str| machine.ok(&["readlink", &format!("/proc/{process}/ns/{what}")]);
        check(of("1", "mnt")? == of(daemon.trim(), "mnt")?, || {
            "the daemon mounts for itself alone".to_owned()
        })?;
        let status =
            machine.shell(&format!("grep -E 'NoNewPrivs|Seccomp:' /proc/{}/status", daemon.trim()))?;
        let set: Vec<&str> = status.split_whitespace().collect();
        check(set == ["NoNewPrivs:", "1", "Seccomp:", "2"], || status.clone())?;

        machine.shell("echo 'docker-remove = \"never\"' > /etc/convoy/convoy.toml")?;
        let failed =
            machine.shell("! systemctl reload convoy.service && systemctl status convoy.service; true")?;
        check(failed.contains("expected keep or delete"), || failed.clone())?;
        machine.shell("echo 'docker-remove = \"delete\"' > /etc/convoy/convoy.toml")?;
        machine.ok(&["systemctl", "reload", "convoy.service"])?;
        let shown = machine.ok(&["convoy", "config", "show"])?;
        check(shown.contains("\"Value\": \"delete\""), || shown.clone())
    })
}
