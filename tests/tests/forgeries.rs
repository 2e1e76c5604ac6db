//! Encrypted and other backups at one destination, and destinations that somebody else has changed, as an
//! operator meets them.

use std::fs;
use std::path::Path;
use std::process::Command;

use convoy_tests::error::{Context, Error, check};
use convoy_tests::{Carrier, Convoy, Lab, Result, Setup, run};
use serde_json::Value;

/// A daemon with a volume and a snapshot of it, a destination, and the file of a key.
struct World {
    convoy: Convoy,
    destination: String,
    key: String,
}

impl World {
    fn new(lab: &Lab, with_settings: bool) -> Result<Self> {
        let destination = format!("vfs://{}/", lab.make("store")?.display());
        let key = lab.secret("key", "32 bytes or more that nobody could guess")?;
        let key = key.display().to_string();
        let file = lab.path("destinations.toml");
        let settings = format!("[destinations.\"{destination}\"]\nencryption-key-file = \"{key}\"\n");
        fs::write(&file, if with_settings { &settings } else { "" }).during(|| "settings".to_owned())?;
        let flags = ["--destinations", &file.display().to_string()].map(str::to_owned);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let convoy = Setup::vfs(lab, Carrier::Builtin).with(&flags).start()?;
        convoy.ok(&["create", "data"])?;
        fs::write(convoy.setup().volumes.join("data/file"), "what is in the volume")
            .during(|| "fill a volume".to_owned())?;
        convoy.ok(&["snapshot", "create", "data", "--name", "snap"])?;
        Ok(Self { convoy, destination, key })
    }

    fn back_up(&self, flags: &[&str]) -> Result<String> {
        let words = [&["backup", "create", "snap", "--dest", &self.destination][..], flags].concat();
        Ok(self.convoy.ok(&words)?.replace("\\u0026", "&"))
    }

    /// What a check finds: the exit code and the kinds of problems.
    fn verify(&self, flags: &[&str]) -> Result<(Option<i32>, Vec<String>, Value)> {
        let ran = self.convoy.run(&[&["backup", "verify", &self.destination][..], flags].concat())?;
        let report: Value = serde_json::from_str(&ran.stdout)
            .map_err(|error| Error::Unexpected(format!("{error}: {ran:?}")))?;
        let problems = report["Problems"].as_array().cloned().unwrap_or_default();
        let kinds = problems.iter().filter_map(|problem| problem["Kind"].as_str().map(str::to_owned));
        Ok((ran.status.code(), kinds.collect(), report))
    }

    fn list(&self) -> Result<Value> {
        let text = self.convoy.ok(&["backup", "list", &self.destination])?;
        serde_json::from_str(&text).map_err(|error| Error::Unexpected(format!("{error}: {text}")))
    }
}

fn says(text: &str, part: &str) -> Result<()> {
    check(text.contains(part), || format!("{part:?} is not in: {text}"))
}

fn is<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Result<()> {
    check(found == expected, || format!("expected {expected:?}, found {found:?}"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    run::capture(Command::new("cp").arg("-a").arg(from).arg(to))?.ok().map(drop)
}

#[test]
fn a_backup_in_the_clear_is_restored_only_when_allowed() -> Result<()> {
    Lab::run(|lab| {
        let world = World::new(lab, false)?;
        let convoy = &world.convoy;
        let with_key = ["--encryption-key-file", world.key.as_str()];
        let plain = world.back_up(&[])?;
        let old = world.back_up(&["--format", "v0"])?;

        // With a key neither is believed, also in a store that has no keys.
        for url in [&plain, &old] {
            let create = [&["create", "copy", "--backup", url][..], &with_key].concat();
            says(&convoy.refused(&create)?, "with a key only what the key vouches for is believed")?;
            says(&convoy.refused(&create)?, "--allow-unencrypted")?;
        }
        let (code, kinds, _) = world.verify(&with_key)?;
        is(&(code, kinds), &(Some(3), vec!["unencrypted".to_owned(); 2]))?;
        let allowed = [with_key[0], with_key[1], "--allow-unencrypted"];
        let (code, kinds, _) = world.verify(&allowed)?;
        is(&(code, kinds), &(Some(0), Vec::new()))?;
        convoy.ok(&[&["create", "copy", "--backup", &plain][..], &allowed].concat())?;
        convoy.ok(&[&["create", "old", "--backup", &old][..], &allowed].concat())?;

        // What was encrypted stays so unless told.
        let sealed = world.back_up(&with_key)?;
        let refused = convoy.refused(&["backup", "create", "snap", "--dest", &world.destination])?;
        says(&refused, "would not be encrypted")?;
        says(&refused, "--encryption none")?;
        let told = world.back_up(&["--encryption", "none", "--encryption-key-file", &world.key])?;
        let listed = world.list()?;
        let encrypted = |url: &str| listed[url]["Encrypted"].as_str().map(str::to_owned);
        let expected = [None, None, Some("true".to_owned()), None];
        is(&[&plain, &old, &sealed, &told].map(|url| encrypted(url)), &expected)?;
        says(&convoy.ok(&["backup", "inspect", &sealed])?, "\"Encrypted\": \"true\"")?;

        // A missing key is said to be a missing key, and nothing is called garbage.
        let (code, kinds, report) = world.verify(&[])?;
        is(&(code, kinds), &(Some(1), vec!["no-key".to_owned()]))?;
        is(&report["Garbage"], &Value::from(0))
    })
}

#[test]
fn from_docker_nothing_in_the_clear_is_restored_where_a_key_is_set() -> Result<()> {
    Lab::run(|lab| {
        let world = World::new(lab, true)?;
        let plain = world.back_up(&["--encryption", "none"])?;
        for options in [
            serde_json::json!({"backup": plain}),
            serde_json::json!({"backup": plain, "allow-unencrypted": "true"}),
            serde_json::json!({"backup": plain, "AllowUnencrypted": "true"}),
            serde_json::json!({"backup": plain, "allow_unencrypted": "true"}),
        ] {
            let body = serde_json::json!({"Name": "copy", "Opts": options});
            let refused = world.convoy.connect()?.docker("Create", &body);
            check(refused.is_err(), || format!("{options} was accepted"))?;
        }
        check(!world.convoy.names()?.contains(&"copy".to_owned()), || "a volume is left".to_owned())
    })
}

#[test]
fn a_destination_that_was_put_back_is_noticed() -> Result<()> {
    Lab::run(|lab| {
        let world = World::new(lab, true)?;
        let store = lab.path("store");
        let first = world.back_up(&[])?;
        copy(&store, &lab.path("older"))?;
        world.back_up(&[])?;
        check(world.list()?[&first].get("Warning").is_none(), || "it warns of nothing".to_owned())?;
        fs::remove_dir_all(&store).during(|| "remove the store".to_owned())?;
        copy(&lab.path("older"), &store)?;

        // Told by whatever looks, and by a check once.
        says(world.list()?[&first]["Warning"].as_str().unwrap_or_default(), "an older state")?;
        says(&world.convoy.run(&["doctor"])?.stdout, "an older state")?;
        let third = world.back_up(&[])?;
        says(world.list()?[&third]["Warning"].as_str().unwrap_or_default(), "an older state")?;
        let (code, kinds, _) = world.verify(&[])?;
        is(&(code, kinds), &(Some(3), vec!["older".to_owned()]))?;
        let (code, kinds, _) = world.verify(&[])?;
        is(&(code, kinds), &(Some(0), Vec::new()))?;

        // What this host deletes itself is nothing to tell.
        world.convoy.ok(&["backup", "delete", &third])?;
        check(world.list()?[&first].get("Warning").is_none(), || "it deleted that itself".to_owned())
    })
}

#[test]
fn forged_backups_push_no_real_ones_out_of_what_a_schedule_keeps() -> Result<()> {
    Lab::run(|lab| {
        let store = lab.make("store")?;
        let destination = format!("vfs://{}/", store.display());
        let key = lab.secret("key", "32 bytes or more that nobody could guess")?;
        let settings = format!(
            "[destinations.\"{destination}\"]\nencryption-key-file = \"{}\"\n\n[[schedule]]\nname = \"kept\"\n\
             cron = \"@yearly\"\nvolumes = [\"data\"]\nkind = \"backup\"\ndestination = \"{destination}\"\n\
             keep = {{ last = 2 }}\n",
            key.display()
        );
        let file = lab.path("convoy.toml");
        fs::write(&file, settings).during(|| "settings".to_owned())?;
        let flags = ["--config", &file.display().to_string()].map(str::to_owned);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let convoy = Setup::vfs(lab, Carrier::Builtin).with(&flags).start()?;
        convoy.ok(&["create", "data"])?;
        for _ in 0..2 {
            convoy.ok(&["schedule", "run", "kept"])?;
            // Names of snapshots are of seconds.
            std::thread::sleep(std::time::Duration::from_millis(1100));
        }
        let records = store.join("convoy-objectstore/volumes/da/ta/data/backups");
        let names = || -> Result<Vec<String>> {
            let entries = fs::read_dir(&records).during(|| "look into the store".to_owned())?;
            let mut names: Vec<String> =
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            Ok(names)
        };
        let real = names()?;
        is(&real.len(), &2)?;
        let read = |name: &String| -> Result<Value> {
            let bytes = fs::read(records.join(name)).during(|| "read a record".to_owned())?;
            serde_json::from_slice(&bytes).map_err(|error| Error::Unexpected(error.to_string()))
        };
        // What the newest says of itself, said of two more, in the clear.
        let mut all = real.iter().map(read).collect::<Result<Vec<_>>>()?;
        all.sort_by_key(|record| record["SnapshotName"].as_str().map(str::to_owned));
        let mut forged = all.pop().unwrap_or_default();
        for number in 0..2 {
            let name = format!("backup-000000000000000{number}");
            forged["Name"] = name.clone().into();
            if let Some(fields) = forged.as_object_mut() {
                fields.retain(|key, _| key != "KeyId" && key != "Mac");
            }
            fs::write(records.join(format!("backup_{name}.cfg")), forged.to_string())
                .during(|| "forge".to_owned())?;
        }
        convoy.ok(&["schedule", "retain", "kept"])?;
        let left = names()?;
        check(real.iter().all(|name| left.contains(name)), || format!("{real:?} {left:?}"))
    })
}
