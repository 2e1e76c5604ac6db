//! An adversary who may call Docker, against the host: with a real engine, containers and block devices. Each
//! test fails when the attack succeeds. What the daemon's calls themselves refuse is in
//! `host/tests/daemon/hostile_docker_user.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use convoy_tests::error::{Context, check};
use convoy_tests::run::capture;
use convoy_tests::{Carrier, Convoy, Engine, Lab, Result, Setup, Storage};

/// A user who is nobody here.
const STRANGER: &str = "64123";

/// A daemon whose default driver has block volumes, with further options.
fn with_blocks(lab: &Lab, storage: &Storage, options: &[&str]) -> Result<Convoy> {
    let images = format!("loop.path={}", storage.path().display());
    let mut setup = Setup::bare(lab).with(&["--drivers", "process:loop", "--driver-opts", &images]);
    for option in options {
        setup = setup.with(&["--driver-opts", option]);
    }
    setup.start()
}

/// The user that a stranger on the host becomes by a program that a container made set-user-ID in its volume.
fn attack(engine: &Engine, convoy: &Convoy, volume: &str) -> Result<String> {
    engine.background("box", volume, "exec sleep 1000")?;
    let place = convoy.mount_point(volume)?;
    let tool = Path::new(&place).join("tool");
    fs::copy("/usr/bin/id", &tool).during(|| "a program in the volume".to_owned())?;
    engine.exec("box", "chmod 4755 /data/tool && chmod 755 /data")?;
    let mode = fs::metadata(&tool).during(|| "the program".to_owned())?.permissions().mode();
    check(mode & 0o7777 == 0o4755, || format!("the bits are data, and are {mode:o}"))?;
    // A stranger who has got there, by whatever way.
    let mut command = Command::new("setpriv");
    command.args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups", "./tool", "-u"]);
    let user = capture(command.current_dir(place))?.ok()?;
    engine.ok(&["rm", "-f", "box"])?;
    Ok(user)
}

#[test]
fn set_user_id_programs_in_volumes_have_no_effect_on_the_host() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let convoy = with_blocks(lab, &storage, &[])?;
        let engine = Engine::start(lab, &convoy.setup().socket)?;
        for fs in ["ext4", "xfs"] {
            let (option, size) = (format!("fs={fs}"), "size=320M");
            engine.ok(&["volume", "create", "--driver", engine.plugin(), "-o", &option, "-o", size, fs])?;
            assert_eq!(attack(&engine, &convoy, fs)?, STRANGER, "{fs}");
        }
        Ok(())
    })
}

#[test]
fn set_user_id_programs_work_where_the_operator_says_so() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let convoy = with_blocks(lab, &storage, &["loop.mountoptions=suid,dev,discard"])?;
        let engine = Engine::start(lab, &convoy.setup().socket)?;
        engine.ok(&["volume", "create", "--driver", engine.plugin(), "-o", "size=64M", "meant"])?;
        assert_eq!(attack(&engine, &convoy, "meant")?, "0");
        Ok(())
    })
}

/// Where the kernel does not mount a directory on itself, a daemon that others could attack does not start.
#[test]
fn a_directory_that_cannot_be_sheltered_is_refused() -> Result<()> {
    Lab::run_on_disk(|lab| {
        let mut setup = Setup::vfs(lab, Carrier::Builtin);
        setup.wrapper = ["setpriv", "--bounding-set", "-sys_admin"].map(str::to_owned).into();
        let volumes = setup.volumes.clone();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).during(|| "a mode".to_owned())
        };
        fs::create_dir(&volumes).during(|| "the volumes".to_owned())?;
        mode(lab.directory(), 0o755)?;
        mode(&volumes, 0o755)?;
        let said = setup.start_refused()?;
        check(said.contains(&format!("chmod 0700 {}", volumes.display())), || said.clone())?;
        mode(&volumes, 0o700)?;
        setup.start()?.ok(&["create", "vol1"]).map(drop)
    })
}

/// Every option that the drivers at hand declare is answered from Docker as the driver says.
#[test]
fn every_declared_option_is_answered_as_its_driver_says() -> Result<()> {
    Lab::run(|lab| {
        let drivers = ["builtin:vfs", "process:loop", "process:tmpfs"];
        let flags: Vec<&str> = drivers.iter().flat_map(|driver| ["--drivers", driver]).collect();
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let images = format!("loop.path={}", storage.path().display());
        let convoy = Setup::bare(lab).with(&flags).with(&["--driver-opts", &images]).start()?;
        let listed: serde_json::Value = serde_json::from_str(&convoy.ok(&["driver", "list"])?)
            .map_err(|error| convoy_tests::Error::Unexpected(error.to_string()))?;
        // Others may be installed.
        let listed = listed.as_object().into_iter().flatten().filter(|(_, told)| told["NotLoaded"] != true);
        let mut asked = 0;
        for (driver, told) in listed {
            for option in told["CreateOptions"].as_array().into_iter().flatten() {
                let name = option["Name"].as_str().unwrap_or_default();
                let options = serde_json::json!({"driver": driver, name: "nonsense"});
                let body = serde_json::json!({"Name": "asked", "Opts": options}).to_string();
                let answer = convoy.connect()?.ask("POST", "/VolumeDriver.Create", &body)?.body;
                let refused = answer.contains("is for operators");
                check(refused != (option["Docker"] == true), || format!("{driver}.{name}: {answer}"))?;
                asked += 1;
            }
        }
        check(asked >= 5, || format!("only {asked} options were found"))
    })
}

/// A third driver's words are in `dockers_users_give_the_options_that_a_driver_says_are_for_them` of the
/// daemon.
#[test]
fn docker_is_told_which_line_to_add() -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, Carrier::Builtin).start()?;
        let engine = Engine::start(lab, &convoy.setup().socket)?;
        let create = ["volume", "create", "--driver", engine.plugin(), "-o"];
        let from = "backup=vfs:///srv/secret?backup=backup-1&volume=vol1";
        let refused = engine.run(&[&create[..], &[from, "stolen"]].concat())?.refused()?;
        check(refused.contains("[destinations.\"vfs:///srv/secret\"]"), || refused.clone())?;
        let refused =
            engine.run(&[&create[..], &["endpoint=http://127.0.0.1:1", "stolen"]].concat())?.refused()?;
        check(refused.contains("endpoint is for operators"), || refused.clone())?;
        assert!(convoy.names()?.is_empty());
        Ok(())
    })
}
