//! `examples/compose`, as a person runs it: Docker Compose, a real engine, a schedule.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use convoy_tests::error::{Context, check};
use convoy_tests::{Carrier, Convoy, Engine, Error, Lab, Result, Setup, patience, run};

/// How long the database may take for some more orders; one is made each second.
const ORDERS: Duration = Duration::from_secs(40);

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/compose").join(name)
}

/// The settings of the example, with the engine and the store of the lab in them.
fn settings(lab: &Lab, engine: &Path, store: &Path) -> Result<String> {
    let text =
        fs::read_to_string(example("convoy.toml")).during(|| "the settings of the example".to_owned())?;
    for replaced in ["/var/run/docker.sock", "/srv/backups"] {
        check(text.contains(replaced), || format!("no {replaced} in {text}"))?;
    }
    let text = text
        .replace("/var/run/docker.sock", &engine.display().to_string())
        .replace("/srv/backups", &store.display().to_string());
    let file = lab.path("convoy.toml");
    fs::write(&file, text).during(|| "cannot write the settings".to_owned())?;
    Ok(file.display().to_string())
}

fn compose(engine: &Engine, words: &[&str]) -> Result<String> {
    run::capture(&mut engine.compose("shop", &example("compose.yaml"), words))?.ok()
}

/// The numbers of the entries in the journal.
fn entries(convoy: &Convoy) -> Result<Vec<u64>> {
    let journal = convoy.setup().volumes.join("shop_journal/journal");
    let text = fs::read_to_string(&journal).unwrap_or_default();
    let numbers = text.lines().map(|line| line.split(':').next().unwrap_or_default().parse());
    numbers
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| Error::Unexpected(format!("{error}: {text}")))
}

/// Waits until the journal has grown by two entries since it had so many, and checks that it has no gap.
fn grows(convoy: &Convoy, from: usize) -> Result<usize> {
    let mut found = Vec::new();
    patience::until("more entries in the journal", ORDERS, || {
        found = entries(convoy)?;
        Ok(found.len() >= from + 2)
    })?;
    let expected: Vec<u64> = (1..).take(found.len()).collect();
    assert_eq!(found, expected, "the database did not go on where it was");
    Ok(found.len())
}

#[test]
fn the_compose_example_keeps_its_data() -> Result<()> {
    Lab::run(|lab| {
        let checked = Setup::vfs(lab, Carrier::Builtin);
        let file = example("convoy.toml").display().to_string();
        run::capture(&mut checked.client(&["config", "check", &file])?)?.ok()?;

        let store = lab.make("store")?;
        let empty = lab.path("convoy.toml");
        fs::write(&empty, "").during(|| "cannot write the settings".to_owned())?;
        let config = empty.display().to_string();
        let mut convoy = Setup::vfs(lab, Carrier::Builtin).with(&["--config", &config]).start()?;
        let engine = Engine::start(lab, &convoy.setup().socket)?;
        settings(lab, &engine.socket(), &store)?;
        convoy.stop()?;
        convoy.start_again()?;

        compose(&engine, &["up", "-d"])?;
        let written = grows(&convoy, 0)?;
        assert_eq!(convoy.names()?, ["shop_journal", "shop_orders"]);
        let said =
            engine.ok(&["volume", "inspect", "-f", "{{.Driver}} {{json .Options}}", "shop_journal"])?;
        assert_eq!(said, format!("{} {{\"mode\":\"0750\"}}", engine.plugin()));

        // A service that is started again, or dies, goes on where it was.
        compose(&engine, &["restart", "-t", "5", "database"])?;
        let written = grows(&convoy, written)?;
        compose(&engine, &["up", "-d", "--force-recreate", "database"])?;
        let written = grows(&convoy, written)?;

        // The schedule finds the volume by its label, and the hook the container by its own.
        let ran = convoy.ok(&["schedule", "run", "nightly"])?;
        let report: serde_json::Value =
            serde_json::from_str(&ran).map_err(|error| Error::Unexpected(format!("{error}: {ran}")))?;
        let runs = report["Runs"].as_array().map(Vec::len);
        assert_eq!((runs, report["Runs"][0]["Volume"].as_str()), (Some(1), Some("shop_journal")), "{ran}");
        let backup = report["Runs"][0]["Backup"].as_str().unwrap_or_default().to_owned();

        // Down and up again: Docker keeps the volumes, and nobody has them mounted meanwhile.
        compose(&engine, &["down", "-t", "5"])?;
        assert_eq!(convoy.names()?, ["shop_journal", "shop_orders"]);
        for volume in convoy.names()? {
            assert_eq!(convoy.mount_point(&volume)?, "", "{volume}");
        }
        compose(&engine, &["up", "-d"])?;
        let written = grows(&convoy, written)?;

        // `down -v` has Docker remove both: convoy keeps the data of one and deletes that of the other.
        compose(&engine, &["down", "-t", "5", "-v"])?;
        assert_eq!(convoy.names()?, Vec::<String>::new());
        assert!(!convoy.setup().volumes.join("shop_orders").exists(), "retain=delete kept the data");
        compose(&engine, &["up", "-d"])?;
        let written = grows(&convoy, written)?;

        // Back to the backup, under the same name: Compose takes the volume that is there.
        compose(&engine, &["down", "-t", "5"])?;
        convoy.ok(&["delete", "shop_journal"])?;
        convoy.ok(&["create", "shop_journal", "--backup", &backup])?;
        let restored = entries(&convoy)?;
        check(!restored.is_empty() && restored.len() < written, || format!("{restored:?}"))?;
        let dump = convoy.setup().volumes.join("shop_journal/dump");
        let dump = fs::read_to_string(dump).during(|| "the dump of the hook".to_owned())?;
        check(dump.lines().count() <= restored.len(), || dump.clone())?;
        compose(&engine, &["up", "-d"])?;
        grows(&convoy, restored.len())?;
        compose(&engine, &["down", "-t", "5", "-v"])?;
        Ok(())
    })
}
