//! What a machine does to a daemon: ten thousand volumes, a file system that is full or becomes read-only,
//! and the end.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use convoy_tests::error::{Context, Error, check};
use convoy_tests::http::Client;
use convoy_tests::{Carrier, Convoy, Lab, Result, Setup, each_carrier, patience, run};
use serde_json::{Value, json};

each_carrier!(a_full_disk_costs_what_needs_room_and_no_more, a_root_that_becomes_read_only_is_read_on,);

/// How many connections a test makes at once.
const CLIENTS: usize = 8;

/// Has several clients carry out work for the numbers below `count`.
fn by_many(
    socket: &Path,
    count: usize,
    work: impl Fn(&mut Client, usize) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let client = || -> Result<()> {
            let mut client = Client::connect(socket)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                work(&mut client, number)?;
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let panicked = || Err(Error::Unexpected("a client panicked".to_owned()));
        clients.into_iter().map(|client| client.join().unwrap_or_else(|_| panicked())).collect()
    });
    results.into_iter().collect()
}

/// The names Docker is told.
fn told_docker(convoy: &Convoy) -> Result<BTreeSet<String>> {
    let answer = convoy.connect()?.docker("List", &json!({}))?;
    let volumes = answer["Volumes"].as_array().cloned().unwrap_or_default();
    Ok(volumes.iter().filter_map(|volume| volume["Name"].as_str().map(str::to_owned)).collect())
}

/// The names by every way there is to list them, which must agree.
fn listed(convoy: &Convoy) -> Result<BTreeSet<String>> {
    let docker = told_docker(convoy)?;
    let admin: BTreeSet<String> = convoy.names()?.into_iter().collect();
    let cli = convoy.ok(&["list"])?;
    let cli: serde_json::Map<String, Value> = serde_json::from_str(&cli)
        .map_err(|error| Error::Unexpected(format!("the command line lists no map: {error}")))?;
    let cli: BTreeSet<String> = cli.keys().cloned().collect();
    check(docker == admin && admin == cli, || {
        format!(
            "{} volumes for Docker, {} by the API, {} by the command line",
            docker.len(),
            admin.len(),
            cli.len()
        )
    })?;
    Ok(docker)
}

#[test]
fn ten_thousand_volumes_are_made_found_again_and_used() -> Result<()> {
    const COUNT: usize = 10_000;
    let name = |number: usize| format!("volume-{number:05}");
    Lab::run(|lab| {
        let mut convoy = Setup::vfs(lab, Carrier::Builtin).start()?;
        let socket = convoy.setup().socket.clone();
        by_many(&socket, COUNT, |client, number| {
            client.docker("Create", &json!({ "Name": name(number) })).map(drop)
        })?;
        let all: BTreeSet<String> = (0..COUNT).map(name).collect();
        check(listed(&convoy)? == all, || "not what was made".to_owned())?;

        convoy.stop()?;
        convoy.start_again()?;
        check(listed(&convoy)? == all, || "not what was there before the restart".to_owned())?;

        // Some here and there, first and last among them.
        let used: Vec<usize> = (0..COUNT).step_by(101).chain([COUNT - 1]).collect();
        by_many(&socket, used.len(), |client, at| {
            let body = json!({ "Name": name(used[at]), "ID": format!("container{at}") });
            let mounted = client.docker("Mount", &body)?;
            let place = mounted["Mountpoint"].as_str().unwrap_or_default().to_owned();
            fs::write(Path::new(&place).join("file"), name(used[at])).during(|| format!("a file in {place}"))
        })?;
        let deleted: Vec<usize> = (0..COUNT).step_by(13).filter(|number| !used.contains(number)).collect();
        by_many(&socket, deleted.len(), |client, at| {
            let body = json!({ "VolumeName": name(deleted[at]) }).to_string();
            client.ask("DELETE", "/v1/volumes/", &body)?.ok().map(drop)
        })?;
        convoy.kill()?;
        convoy.start_again()?;
        let left: BTreeSet<String> =
            (0..COUNT).filter(|number| !deleted.contains(number)).map(name).collect();
        check(listed(&convoy)? == left, || "not what was left".to_owned())?;
        for number in &used {
            let place = convoy.mount_point(&name(*number))?;
            let found =
                fs::read_to_string(Path::new(&place).join("file")).during(|| format!("a file in {place}"))?;
            assert_eq!(found, name(*number));
        }
        by_many(&socket, used.len(), |client, at| {
            let body = json!({ "Name": name(used[at]), "ID": format!("container{at}") });
            client.docker("Unmount", &body).map(drop)
        })?;
        let refused = convoy.refused(&["delete", &name(deleted[0])])?;
        check(refused.contains("not found") || refused.contains("cannot find"), || refused.clone())?;
        Ok(())
    })
}

fn mount(words: &[&str], place: &Path) -> Result<()> {
    run::capture(Command::new("mount").args(words).arg(place))?.ok().map(drop)
}

fn unmount(place: &Path) -> Result<()> {
    run::capture(Command::new("umount").arg(place))?.ok().map(drop)
}

/// A daemon whose root and volumes are below one directory.
fn below(lab: &Lab, carrier: Carrier, place: &Path) -> Setup {
    let mut setup = Setup::vfs(lab, carrier);
    let before = setup.volumes.display().to_string();
    setup.root = place.join("root");
    setup.volumes = place.join("volumes");
    let after = setup.volumes.display().to_string();
    setup.flags.iter_mut().for_each(|flag| *flag = flag.replace(&before, &after));
    setup
}

/// What goes on while nothing can be written.
fn is_read(convoy: &Convoy, names: &BTreeSet<String>) -> Result<()> {
    check(listed(convoy)? == *names, || "not all volumes are listed".to_owned())?;
    let kept = json!({ "Name": "kept" });
    let mut client = convoy.connect()?;
    assert_eq!(client.docker("Get", &kept)?["Volume"]["Name"], "kept");
    let place = client.docker("Path", &kept)?["Mountpoint"].as_str().unwrap_or_default().to_owned();
    let file = Path::new(&place).join("file");
    assert_eq!(fs::read_to_string(&file).during(|| format!("{}", file.display()))?, "kept");
    check(convoy.inspect("kept")?["Snapshots"]["first"].is_object(), || "the snapshot is gone".to_owned())?;
    convoy.ok(&["info"])?;
    convoy.ok(&["snapshot", "inspect", "first"])?;
    Ok(())
}

/// A volume that is mounted by `container`, with a file and a snapshot.
fn prepare(convoy: &Convoy) -> Result<()> {
    convoy.ok(&["create", "kept"])?;
    convoy.ok(&["create", "idle"])?;
    let mounted = convoy.connect()?.docker("Mount", &json!({ "Name": "kept", "ID": "container" }))?;
    let place = mounted["Mountpoint"].as_str().unwrap_or_default().to_owned();
    fs::write(Path::new(&place).join("file"), "kept").during(|| format!("a file in {place}"))?;
    convoy.ok(&["snapshot", "create", "kept", "--name", "first"]).map(drop)
}

/// Everything works as if nothing had been.
fn is_well(convoy: &Convoy) -> Result<()> {
    convoy.ok(&["create", "afterwards"])?;
    convoy.ok(&["snapshot", "create", "kept", "--name", "second"])?;
    convoy.ok(&["snapshot", "delete", "second"])?;
    convoy.connect()?.docker("Unmount", &json!({ "Name": "kept", "ID": "container" }))?;
    assert_eq!(convoy.mount_point("kept")?, "");
    convoy.ok(&["delete", "afterwards"]).map(drop)
}

fn a_full_disk_costs_what_needs_room_and_no_more(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let place = lab.make("small")?;
        mount(&["-t", "tmpfs", "-o", "size=4M,mode=700", "none"], &place)?;
        let in_it = || -> Result<()> {
            let mut convoy = below(lab, carrier, &place).start()?;
            prepare(&convoy)?;
            // Many make volumes until nothing fits any more, and while the rest is filled up.
            let acknowledged = Mutex::new(BTreeSet::from(["kept".to_owned(), "idle".to_owned()]));
            let refusals = Mutex::new(Vec::new());
            let full = place.join("filling");
            by_many(&convoy.setup().socket, 600, |client, number| {
                if number == 100 {
                    let room = vec![0; 8 << 20];
                    let filled = fs::write(&full, room);
                    check(filled.is_err(), || "8 MiB fit on 4 MiB".to_owned())?;
                }
                let name = format!("made{number}");
                let answer =
                    client.ask("POST", "/v1/volumes/create", &json!({ "Name": name }).to_string())?;
                // What to do is told beside the message.
                let told = format!("{}{}", answer.body, answer.headers.join("\n"));
                match answer.status {
                    200 => acknowledged.lock().map(|mut names| names.insert(name)).is_ok(),
                    _ => refusals.lock().map(|mut refusals| refusals.push(told)).is_ok(),
                };
                Ok(())
            })?;
            let acknowledged = acknowledged.into_inner().unwrap_or_default();
            let refusals = refusals.into_inner().unwrap_or_default();
            check(!refusals.is_empty(), || "everything found room".to_owned())?;
            for refused in &refusals {
                let clear =
                    refused.contains("No space left on device") && refused.contains("free some space");
                check(clear, || format!("this does not say what to do: {refused}"))?;
            }
            is_read(&convoy, &acknowledged)?;
            let refused = convoy.refused(&["snapshot", "create", "kept", "--name", "second"])?;
            check(refused.contains("No space left on device"), || refused.clone())?;
            // Who leaves can leave, and what is deleted makes room.
            let mut client = convoy.connect()?;
            client.docker("Mount", &json!({ "Name": "idle", "ID": "other" }))?;
            client.docker("Unmount", &json!({ "Name": "idle", "ID": "other" }))?;

            fs::remove_file(&full).during(|| "make room".to_owned())?;
            is_well(&convoy)?;
            check(listed(&convoy)? == acknowledged, || "not what was acknowledged".to_owned())?;
            convoy.kill()?;
            convoy.start_again()?;
            check(listed(&convoy)? == acknowledged, || "not what was acknowledged, after a kill".to_owned())?;
            for entry in fs::read_dir(place.join("volumes")).during(|| "the volumes".to_owned())? {
                let name =
                    entry.during(|| "the volumes".to_owned())?.file_name().to_string_lossy().into_owned();
                check(name == "config" || acknowledged.contains(&name), || {
                    format!("{name} was left behind")
                })?;
            }
            convoy.stop()
        };
        let result = in_it();
        result.and(unmount(&place))
    })
}

fn a_root_that_becomes_read_only_is_read_on(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let place = lab.make("place")?;
        // Over itself, read-only: every path leads there, as after a disk error.
        let freeze = || {
            mount(&["--bind", &place.to_string_lossy()], &place)?;
            mount(&["-o", "remount,bind,ro"], &place)
        };
        let in_it = |frozen: &mut bool| -> Result<()> {
            let mut convoy = below(lab, carrier, &place).start()?;
            prepare(&convoy)?;
            let names = BTreeSet::from(["kept".to_owned(), "idle".to_owned()]);
            *frozen = true;
            freeze()?;
            is_read(&convoy, &names)?;
            let writing: [&[&str]; 5] = [
                &["create", "another"],
                &["delete", "idle"],
                &["delete", "--reference", "idle"],
                &["snapshot", "create", "idle", "--name", "second"],
                &["snapshot", "delete", "first"],
            ];
            for words in writing {
                let refused = convoy.refused(words)?;
                let clear =
                    refused.contains("Read-only file system") && refused.contains("see the kernel log");
                check(clear, || format!("{words:?} does not say what to do: {refused}"))?;
            }
            is_read(&convoy, &names)?;
            // What needs no writing goes on: a container that starts, and one that ends.
            let mut client = convoy.connect()?;
            client.docker("Mount", &json!({ "Name": "idle", "ID": "other" }))?;
            client.docker("Unmount", &json!({ "Name": "idle", "ID": "other" }))?;
            let store = lab.make("store")?;
            let url =
                convoy.ok(&["backup", "create", "first", "--dest", &format!("vfs://{}", store.display())])?;
            check(url.contains("backup="), || url.clone())?;

            unmount(&place)?;
            *frozen = false;
            is_well(&convoy)?;
            check(listed(&convoy)? == names, || "not what there was".to_owned())?;
            convoy.ok(&["create", "restored", "--backup", url.trim()])?;
            convoy.stop()?;

            *frozen = true;
            freeze()?;
            let refused = convoy.setup().start_refused()?;
            let clear =
                refused.contains("Read-only file system") && refused.contains(&*place.to_string_lossy());
            check(clear, || format!("this does not say what to do: {refused}"))?;
            unmount(&place)?;
            *frozen = false;
            convoy.start_again()?;
            assert_eq!(listed(&convoy)?.len(), 3);
            convoy.stop()
        };
        let mut frozen = false;
        let result = in_it(&mut frozen);
        if frozen { result.and(unmount(&place)) } else { result }
    })
}

/// Holds the locks of all volumes, as another host that is in the midst of something does, until it is
/// dropped.
struct Held {
    _lock: fs::File,
}

impl Held {
    fn all(setup: &Setup) -> Result<Self> {
        let path = setup.volumes.join("config/lock");
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .during(|| format!("{}", path.display()))?;
        // Of this process, which is none of those that use the directory.
        rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| Error::Unexpected(format!("cannot lock {}: {errno}", path.display())))?;
        Ok(Self { _lock: file })
    }
}

fn ask_to_end(convoy: &Convoy) -> Result<()> {
    let pid = i32::try_from(convoy.id()).map_err(|error| Error::Unexpected(error.to_string()))?;
    let signal = nix::sys::signal::Signal::SIGTERM;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal)
        .map_err(|errno| Error::Unexpected(format!("cannot signal the daemon: {errno}")))
}

/// Waits until the driver has a call to carry out.
fn is_under_way(convoy: &Convoy) -> Result<()> {
    let waiting = |line: &str| line.starts_with("convoy_driver_calls_waiting") && line.ends_with(" 1");
    patience::until("a call to be under way", Duration::from_secs(60), || {
        Ok(convoy.ok(&["metrics"])?.lines().any(waiting))
    })
}

#[test]
fn what_runs_at_the_end_is_finished_and_answered_or_undone_in_time() -> Result<()> {
    Lab::run(|lab| {
        let mut convoy = Setup::vfs(lab, Carrier::Builtin).with(&["--stop-timeout", "90s"]).start()?;
        convoy.ok(&["create", "first"])?;
        let socket = convoy.setup().socket.clone();
        let log = convoy.setup().log.clone();
        let said = |words: &str| fs::read_to_string(&log).unwrap_or_default().matches(words).count();
        let create = |name: &str| {
            let (socket, body) = (socket.clone(), json!({ "Name": name }).to_string());
            thread::spawn(move || Client::connect(&socket)?.ask("POST", "/v1/volumes/create", &body))
        };
        let answer = |asked: thread::JoinHandle<Result<convoy_tests::http::Answer>>| {
            asked.join().unwrap_or_else(|_| Err(Error::Unexpected("a client panicked".to_owned())))
        };
        let waiting = |words: &str, count: usize| {
            patience::until(words, Duration::from_secs(60), || Ok(said(words) >= count))
        };

        // It gets its lock after the signal, and is answered.
        let held = Held::all(convoy.setup())?;
        let asked = create("second");
        is_under_way(&convoy)?;
        ask_to_end(&convoy)?;
        waiting("waiting for running calls", 1)?;
        check(Client::connect(&socket).and_then(|mut new| new.ask("GET", "/v1/info", "")).is_err(), || {
            "a daemon that ends takes new calls".to_owned()
        })?;
        drop(held);
        let answered = answer(asked)?;
        check(answered.status == 200, || answered.body.clone())?;
        convoy.wait_for_end()?;

        // It never gets it: it is cancelled, undone, and told so, and the daemon ends.
        let flags: Vec<String> = convoy.setup().flags.iter().map(|flag| flag.replace("90s", "3s")).collect();
        convoy.set_flags(&flags);
        convoy.start_again()?;
        assert_eq!(convoy.names()?, ["first", "second"]);
        let held = Held::all(convoy.setup())?;
        let asked = create("third");
        is_under_way(&convoy)?;
        ask_to_end(&convoy)?;
        convoy.wait_for_end()?;
        check(answer(asked).map_or(true, |answered| answered.status != 200), || {
            "it was acknowledged".to_owned()
        })?;
        drop(held);
        convoy.start_again()?;
        assert_eq!(convoy.names()?, ["first", "second"]);
        check(!convoy.setup().volumes.join("third").exists(), || "something of it is left".to_owned())
    })
}
