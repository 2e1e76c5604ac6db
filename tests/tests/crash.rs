//! Many clients at once, and daemons killed in the middle: what was acknowledged is there, what is there is
//! known.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use convoy_tests::error::{Error, check};
use convoy_tests::http::Client;
use convoy_tests::{Carrier, Convoy, Lab, Result, Setup, each_carrier, tree};
use serde_json::json;

each_carrier!(
    of_many_creates_of_one_name_one_wins,
    a_list_never_fails_while_others_create_and_delete,
    a_storm_with_kills_loses_nothing_acknowledged,
    a_backup_cut_off_by_a_kill_is_invisible_and_repeatable,
);

fn of_many_creates_of_one_name_one_wins(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, carrier).start()?;
        let socket = convoy.setup().socket.clone();
        for round in 0..20 {
            let body = json!({"Name": format!("contended{round}")}).to_string();
            let winners: usize = thread::scope(|scope| {
                let creates: Vec<_> = (0..16)
                    .map(|_| {
                        scope.spawn(|| Client::connect(&socket)?.ask("POST", "/v1/volumes/create", &body))
                    })
                    .collect();
                let answers = creates.into_iter().filter_map(|create| create.join().ok());
                answers.filter(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200)).count()
            });
            check(winners == 1, || format!("{winners} of 16 won round {round}"))?;
        }
        // Docker's create of one name is repeatable: all win, once.
        let body = json!({"Name": "docker"});
        let failures: usize = thread::scope(|scope| {
            let creates: Vec<_> =
                (0..16).map(|_| scope.spawn(|| Client::connect(&socket)?.docker("Create", &body))).collect();
            creates.into_iter().filter_map(|create| create.join().ok()).filter(Result::is_err).count()
        });
        assert_eq!(failures, 0);
        assert_eq!(convoy.names()?.len(), 21);
        Ok(())
    })
}

fn a_list_never_fails_while_others_create_and_delete(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, carrier).start()?;
        let socket = convoy.setup().socket.clone();
        convoy.ok(&["create", "steady"])?;
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let busy: Vec<_> = (0..2)
                .map(|worker| {
                    let (socket, done) = (&socket, &done);
                    scope.spawn(move || -> Result<()> {
                        let mut client = Client::connect(socket)?;
                        let name = format!("coming-and-going{worker}");
                        while !done.load(Ordering::Relaxed) {
                            client
                                .ask("POST", "/v1/volumes/create", &json!({"Name": name}).to_string())?
                                .ok()?;
                            client
                                .ask("DELETE", "/v1/volumes/", &json!({"VolumeName": name}).to_string())?
                                .ok()?;
                        }
                        Ok(())
                    })
                })
                .collect();
            let mut result = Ok(());
            for _ in 0..200 {
                result = convoy.names().and_then(|names| {
                    check(names.contains(&"steady".to_owned()), || format!("a list without it: {names:?}"))
                });
                if result.is_err() {
                    break;
                }
            }
            done.store(true, Ordering::Relaxed);
            for worker in busy {
                worker.join().map_err(|_| Error::Unexpected("a worker panicked".to_owned()))??;
            }
            result
        })
    })
}

/// What the clients of the storm were told.
#[derive(Debug, Default)]
struct Told {
    /// What surely is: volumes and their snapshots.
    there: BTreeMap<String, BTreeSet<String>>,
    /// What was deleted, acknowledged.
    gone: BTreeSet<String>,
    /// What was asked for and never answered.
    open: BTreeSet<String>,
}

fn a_storm_with_kills_loses_nothing_acknowledged(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let mut convoy = Setup::vfs(lab, carrier).start()?;
        let told = Mutex::new(Told::default());
        // A storm in which little happened would prove nothing: on a busy machine it goes on for longer.
        for round in 0..60 {
            storm(&mut convoy, &told, round)?;
            convoy.start_again()?;
            let (there, gone) = compare(&convoy, &told)?;
            if round >= 7 && there > 20 && gone > 5 {
                break;
            }
            check(round < 59, || format!("{there} volumes and {gone} deleted in {round} rounds"))?;
        }
        for name in convoy.names()? {
            convoy.ok(&["delete", &name])?;
        }
        let left = tree::names(&convoy.setup().volumes)?;
        assert_eq!(left, ["config"], "something is left that no volume owns");
        nothing_but_directories(&convoy.setup().volumes)?;
        nothing_but_directories(&convoy.setup().root.join("vfs"))
    })
}

/// Clients work until the daemon is killed under them.
fn storm(convoy: &mut Convoy, told: &Mutex<Told>, round: u64) -> Result<()> {
    let socket = convoy.setup().socket.clone();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|worker| {
                let socket = &socket;
                scope.spawn(move || work(socket, told, &format!("r{round}w{worker}")))
            })
            .collect();
        thread::sleep(Duration::from_millis(60 + 37 * (round % 8)));
        let killed = convoy.kill();
        for worker in workers {
            // Each ends with the error of the broken connection.
            worker.join().map_err(|_| Error::Unexpected("a worker panicked".to_owned()))?;
        }
        killed
    })
}

fn work(socket: &Path, told: &Mutex<Told>, prefix: &str) {
    let Ok(mut client) = Client::connect(socket) else { return };
    let mut ask = |method: &str, path: &str, body: serde_json::Value| {
        client.ask(method, path, &body.to_string()).and_then(|answer| answer.ok()).is_ok()
    };
    let note = |action: &dyn Fn(&mut Told)| {
        if let Ok(mut told) = told.lock() {
            action(&mut told);
        }
    };
    for number in 0.. {
        let name = format!("{prefix}n{number}");
        let snapshot = format!("s-{name}");
        note(&|told| {
            told.open.insert(name.clone());
        });
        if !ask("POST", "/v1/volumes/create", json!({"Name": name})) {
            return;
        }
        note(&|told| {
            told.open.remove(&name);
            told.there.insert(name.clone(), BTreeSet::new());
        });
        if number % 2 == 0 {
            note(&|told| {
                told.open.insert(snapshot.clone());
            });
            if !ask("POST", "/v1/snapshots/create", json!({"Name": snapshot, "VolumeName": name})) {
                return;
            }
            note(&|told| {
                told.open.remove(&snapshot);
                told.there.entry(name.clone()).or_default().insert(snapshot.clone());
            });
        }
        if number % 3 == 0 {
            note(&|told| {
                told.there.remove(&name);
                told.open.insert(name.clone());
            });
            if !ask("DELETE", "/v1/volumes/", json!({"VolumeName": name})) {
                return;
            }
            note(&|told| {
                told.open.remove(&name);
                told.gone.insert(name.clone());
            });
        }
    }
}

/// Compares what clients were told with what the daemon knows and with what is on disk. Says how many volumes
/// are surely there, and how many surely gone.
fn compare(convoy: &Convoy, told: &Mutex<Told>) -> Result<(usize, usize)> {
    let told = told.lock().map_err(|_| Error::Unexpected("a worker panicked".to_owned()))?;
    let list = convoy.connect()?.ask("GET", "/v1/volumes/list", "")?.json()?;
    let names: BTreeSet<String> =
        list.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    for (name, snapshots) in &told.there {
        check(names.contains(name), || format!("{name} was acknowledged and is lost"))?;
        for snapshot in snapshots {
            let there = list.pointer(&format!("/{name}/Snapshots/{snapshot}")).is_some();
            check(there, || format!("snapshot {snapshot} of {name} was acknowledged and is lost"))?;
        }
    }
    for name in &names {
        check(!told.gone.contains(name), || format!("{name} was deleted and is back"))?;
        check(told.there.contains_key(name) || told.open.contains(name), || {
            format!("{name}: nobody asked for it")
        })?;
    }
    let on_disk = tree::names(&convoy.setup().volumes)?;
    for name in on_disk.iter().filter_map(|name| name.to_str()).filter(|name| *name != "config") {
        check(names.contains(name), || format!("{name} is on disk and nobody knows it"))?;
    }
    Ok((told.there.len(), told.gone.len()))
}

/// Directories may remain, and the driver's own configuration and locks; no record, no data.
fn nothing_but_directories(place: &Path) -> Result<()> {
    for line in tree::describe(place)?.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let own = name.ends_with(".cfg") || name.ends_with("lock");
        check(own || line.contains(" directory "), || format!("left in {}: {line}", place.display()))?;
    }
    Ok(())
}

fn a_backup_cut_off_by_a_kill_is_invisible_and_repeatable(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let mut convoy = Setup::vfs(lab, carrier).start()?;
        convoy.ok(&["create", "source"])?;
        let place = convoy.setup().volumes.join("source");
        for number in 0_u32..400 {
            let words = (0..5_000_u32).map(|i| i.wrapping_mul(2_654_435_761) >> (number % 24));
            let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
            fs::write(place.join(format!("file{number}")), bytes)
                .map_err(|source| Error::Io { what: "data".to_owned(), source })?;
        }
        let store = lab.make("store")?;
        let url = format!("vfs://{}", store.display());
        let snapshot = "cut";
        for delay in [5_u64, 20, 60] {
            let socket = convoy.setup().socket.clone();
            let body = json!({"SnapshotName": snapshot, "URL": url}).to_string();
            let took = json!({"VolumeName": "source", "Name": snapshot}).to_string();
            thread::scope(|scope| -> Result<()> {
                let asked = scope.spawn(|| -> Result<()> {
                    let mut client = Client::connect(&socket)?;
                    client.ask("POST", "/v1/snapshots/create", &took)?;
                    client.ask("POST", "/v1/backups/create", &body)?;
                    Ok(())
                });
                thread::sleep(Duration::from_millis(delay));
                convoy.kill()?;
                let _ = asked.join();
                Ok(())
            })?;
            convoy.start_again()?;
            let snapshots = convoy.inspect("source")?;
            if snapshots.pointer("/Snapshots/cut").is_some() {
                convoy.ok(&["snapshot", "delete", snapshot])?;
            }
        }
        // After all that: the same names work, and every backup that is listed can be restored.
        convoy.ok(&["snapshot", "create", "source", "--name", snapshot])?;
        convoy.ok(&["backup", "create", snapshot, "--dest", &url])?;
        let list = convoy.ok(&["backup", "list", &url])?;
        let list: serde_json::Map<_, _> =
            serde_json::from_str(&list).map_err(|error| Error::Unexpected(error.to_string()))?;
        check(!list.is_empty(), || "no backup".to_owned())?;
        let expected = tree::describe(&place)?;
        for (number, backup) in list.keys().enumerate() {
            let name = format!("restored{number}");
            convoy.ok(&["create", &name, "--backup", backup])?;
            assert_eq!(tree::describe(&convoy.setup().volumes.join(&name))?, expected);
        }
        Ok(())
    })
}
