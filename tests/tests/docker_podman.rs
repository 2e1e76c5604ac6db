//! Podman calls the same plugin, and gives it 5 seconds unless told otherwise. What else it does with convoy
//! is run by `docker_examples.rs`, from `docs/operations/podman.md`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use convoy_tests::error::{Context, check};
use convoy_tests::run::{Output, capture};
use convoy_tests::{Carrier, Convoy, Lab, Result, Setup, patience};

/// How long the restore may take here.
const LIMIT: Duration = Duration::from_secs(80);

/// How much is restored, in bytes, and how much of it may be read in a second: for more than 5 seconds.
const BYTES: usize = 30 << 20;
const BANDWIDTH: &str = "3M";

/// Podman with files of its own and these settings of its engine.
fn podman(lab: &Lab, socket: &Path, settings: &str, words: &[&str]) -> Result<Output> {
    let file = lab.path("containers.conf");
    let plugin = format!("[engine.volume_plugins]\nconvoy = \"{}\"\n", socket.display());
    fs::write(&file, format!("[engine]\nevents_logger = \"file\"\n{settings}\n{plugin}"))
        .during(|| "cannot write the settings of Podman".to_owned())?;
    let mut command = Command::new("podman");
    command.arg("--root").arg(lab.path("pod")).arg("--runroot").arg(lab.path("podrun"));
    command.args(["--storage-driver", "vfs"]).args(words).env("CONTAINERS_CONF", file);
    capture(&mut command)
}

fn is_there(convoy: &Convoy, volume: &str) -> Result<bool> {
    let jobs = convoy.ok(&["jobs", "--output", "json"])?;
    Ok(!jobs.contains("restore") && convoy.names()?.iter().any(|name| name == volume))
}

#[test]
fn a_restore_that_podman_gives_up_goes_on_and_is_taken_when_it_is_whole() -> Result<()> {
    Lab::run_on_disk(|lab| {
        let store = format!("vfs://{}", lab.make("store")?.display());
        let settings = lab.path("convoy.toml");
        let named = format!("[destinations.\"{store}\"]\n");
        let write = |text: &str| fs::write(&settings, text).during(|| "cannot write the settings".to_owned());
        write(&named)?;
        let config = settings.display().to_string();
        let convoy = Setup::vfs(lab, Carrier::Builtin).with(&["--config", &config]).start()?;
        convoy.ok(&["create", "data"])?;
        let mut noise = 88_172_645_463_325_252_u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            noise.to_be_bytes()
        })
        .flatten()
        .take(BYTES)
        .collect();
        let volumes = convoy.setup().volumes.clone();
        fs::write(volumes.join("data/file"), &bytes).during(|| "cannot write to the volume".to_owned())?;
        convoy.ok(&["snapshot", "create", "data", "--name", "monday"])?;
        let url = convoy.ok(&["backup", "create", "monday", "--dest", &store])?.replace("\\u0026", "&");
        write(&format!("{named}bandwidth = \"{BANDWIDTH}\"\n"))?;
        convoy.ok(&["config", "reload"])?;

        let backup = format!("backup={url}");
        let create = |name: &'static str| ["volume", "create", "--driver", "convoy", "-o", &backup, name];
        let socket = convoy.setup().socket.clone();
        // Nobody's users restore from anywhere else, and Podman has to hear of it.
        let nowhere = "backup=vfs:///nowhere?backup=backup-0123456789abcdef&volume=data";
        let elsewhere = ["volume", "create", "--driver", "convoy", "-o", nowhere, "no"];
        let told = podman(lab, &socket, "", &elsewhere)?.refused()?;
        check(told.contains("vfs:///nowhere") && !is_there(&convoy, "no")?, || told)?;
        let told = podman(lab, &socket, "", &create("slow"))?.refused()?;
        check(told.contains("deadline exceeded"), || told)?;
        patience::until("the end of the restore", LIMIT, || is_there(&convoy, "slow"))?;
        podman(lab, &socket, "", &create("slow"))?.ok()?;
        // As the documents have it.
        podman(lab, &socket, "volume_plugin_timeout = 600", &create("patient"))?.ok()?;
        let listed = podman(lab, &socket, "", &["volume", "ls", "--quiet"])?.ok()?;
        check(listed == "patient\nslow", || listed)?;
        for volume in ["slow", "patient"] {
            let restored = fs::read(volumes.join(volume).join("file"));
            let restored = restored.during(|| format!("cannot read {volume}"))?;
            check(restored == bytes, || format!("{volume} is not what was backed up"))?;
            podman(lab, &socket, "", &["volume", "rm", volume])?.ok()?;
        }
        check(convoy.names()? == ["data"], || "a volume that Podman removed is there".to_owned())
    })
}
