//! `cargo xtask demo`: the main job, with a real Docker engine, shown step by step.

mod narrator;

use std::path::Path;
use std::time::Instant;

use convoy_tests::error::{Context as _, check};
use convoy_tests::{Engine, Error, Lab, Result, Setup, leaks, programs};

use crate::cargo;
use narrator::Narrator;

/// What the first container writes.
const NOTE: &str = "written by a container on Monday";

/// Shows the job; `svg` is a file for a picture of it. Everything happens in a directory of its own, which is
/// gone afterwards.
///
/// # Errors
/// When any step does not do what it must; the logs are shown.
pub(crate) fn run(svg: Option<&Path>) -> Result<()> {
    eprintln!("building convoy (a few minutes the first time)");
    programs::choose(cargo::build_programs(&["convoy"], false)?);
    let start = Instant::now();
    leaks::sweep()?;
    let lab = Lab::apart()?;
    let narrator = Narrator::new(lab.directory())?;
    let shown = show(&lab, &narrator);
    if narrator.interrupted() {
        lab.finish()?;
        return Err(Error::Unexpected("interrupted; everything is cleaned up".to_owned()));
    }
    if shown.is_err() {
        lab.show_logs();
    }
    shown.and(lab.finish())?;
    if let Some(file) = svg {
        std::fs::write(file, narrator.picture()).during(|| format!("cannot write {}", file.display()))?;
    }
    let seconds = start.elapsed().as_secs_f64();
    narrator.done(&format!("OK: written, snapshotted, backed up, restored and read back in {seconds:.1} s"));
    Ok(())
}

fn show(lab: &Lab, narrator: &Narrator) -> Result<()> {
    narrator.title(
        "One container writes to a convoy volume. The volume is snapshotted and backed up, a second volume \
         is restored\nfrom the backup, and another container reads the file back.",
    );
    narrator.note(&format!(
        "DEMO={} holds everything, and is removed in the end.\nconvoy and docker are called with the sockets \
         in it.",
        lab.directory().display()
    ));

    narrator.step("A convoy daemon with its default driver, and a Docker engine of our own");
    let store = format!("vfs://{}", lab.make("store")?.display());
    let settings = lab.path("convoy.toml");
    // Docker's users restore from destinations that the settings name.
    std::fs::write(&settings, format!("[destinations.{store:?}]\n"))
        .during(|| "the demo's settings".to_owned())?;
    let setup = Setup::bare(lab).with(&["--config", &settings.to_string_lossy()]);
    narrator.command("echo '[destinations.\"vfs://$DEMO/store\"]' > $DEMO/convoy.toml");
    narrator.command("convoy daemon --root $DEMO/root --config $DEMO/convoy.toml &");
    let convoy = setup.start()?;
    narrator.command("dockerd --data-root $DEMO/docker ... &");
    let engine = Engine::start_as(lab, &setup.socket, &plugin_name(), false)?;
    let plugin = engine.plugin().to_owned();
    narrator.answer(&format!("convoy is known to this engine as {plugin}"));
    let docker = |words: &[&str]| narrator.run("docker", words, || engine.run(words));
    let client = |words: &[&str]| narrator.run("convoy", words, || convoy.run(words));
    let container = |volume: &str, shell: &str| {
        let mount = format!("{volume}:/data");
        docker(&["run", "--rm", "--network", "none", "-v", &mount, "convoy-busybox", "sh", "-c", shell])
    };

    narrator.step("A container writes to a volume");
    docker(&["volume", "create", "--driver", &plugin, "notes"])?;
    container("notes", &format!("echo {NOTE} > /data/note; mkdir -m 750 /data/dir"))?;

    narrator.step("The volume is snapshotted, then changed, then snapshotted again");
    client(&["snapshot", "create", "notes", "--name", "monday"])?;
    container("notes", "echo added on Tuesday >> /data/note")?;
    client(&["snapshot", "create", "notes", "--name", "tuesday"])?;

    narrator.step("Both snapshots are backed up; the second backup stores only what changed");
    let monday = client(&["backup", "create", "monday", "--dest", &store])?;
    let tuesday = client(&["backup", "create", "tuesday", "--dest", &store])?;
    client(&["--output", "table", "backup", "list", &store])?;

    narrator.step("The volume is lost");
    docker(&["volume", "rm", "notes"])?;
    client(&["--output", "table", "list"])?;

    narrator.step("New volumes are restored from the backups, and other containers read the file");
    client(&["create", "from-monday", "--backup", &monday])?;
    docker(&["volume", "create", "--driver", &plugin, "-o", &format!("backup={tuesday}"), "from-tuesday"])?;
    let first = container("from-monday", "cat /data/note; stat -c '%A %n' /data/dir")?;
    let second = container("from-tuesday", "cat /data/note")?;
    check(first == format!("{NOTE}\ndrwxr-x--- /data/dir"), || format!("restored wrongly: {first:?}"))?;
    check(second == format!("{NOTE}\nadded on Tuesday"), || format!("restored wrongly: {second:?}"))
}

/// The plain name when it is free on this machine.
fn plugin_name() -> String {
    let plain = "convoy-demo";
    if Path::new(leaks::PLUGINS).join(format!("{plain}.spec")).exists() {
        return format!("{plain}-{}", std::process::id());
    }
    plain.to_owned()
}
