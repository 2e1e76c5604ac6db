//! Docker's calls, one after the other on one connection, as the engine makes them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use convoy_tests::error::Context;
use convoy_tests::http::{self, Client};
use convoy_tests::{Carrier, Convoy, Lab, Result, Setup};
use serde_json::{Value, json};

use super::table::Row;

/// How often a volume goes through its whole life.
const CYCLES: u32 = 500;

/// How often a call is asked that costs next to nothing.
const CALLS: u32 = 5_000;

pub(super) fn run(lab: &Lab) -> Result<Vec<Row>> {
    let mut rows = vec![
        Row::new("one durable write on this disk, p50", micros(durable_write(lab)?, 0.5), "us"),
        Row::new("a mark removed after it, p50", micros(take_back(lab, false)?, 0.5), "us"),
        Row::new("a mark kept to be used again, as vfs does, p50", micros(take_back(lab, true)?, 0.5), "us"),
    ];
    let mut pairs = Vec::new();
    for (carrier, name) in
        [(Carrier::Builtin, "builtin"), (Carrier::Library, "library"), (Carrier::Process, "process")]
    {
        let convoy = Setup::vfs(lab, carrier).start()?;
        if carrier == Carrier::Builtin {
            // Time for what a start leaves to do: idle is after that.
            std::thread::sleep(Duration::from_secs(1));
            rows.extend(private_memory(&convoy, "an idle daemon")?);
        }
        let mut client = convoy.connect()?;
        let cycle = cycles(&mut client)?;
        let mut row =
            Row::new(format!("Create+Mount+Unmount+Remove, {name}, mean"), mean_millis(&cycle), "ms");
        if carrier != Carrier::Process {
            row = row.goal(2.0).before(8.0);
        }
        rows.push(row);
        client.docker("Create", &json!({"Name": "steady"}))?;
        client.docker("Mount", &json!({"Name": "steady", "ID": "0"}))?;
        for (call, before) in [("Get", 350.0), ("Path", 380.0)] {
            let times = repeat(&mut client, call, &json!({"Name": "steady"}))?;
            let what = format!("{call}, {name}");
            rows.push(
                Row::new(format!("{what}, p50"), micros(times.clone(), 0.5), "us").goal(100.0).before(before),
            );
            rows.push(Row::new(format!("{what}, p99"), micros(times, 0.99), "us"));
        }
        pairs.push(driver_call(&mut client)?);
    }
    if let [_, library, process] = pairs.as_slice() {
        let [library, process] = [library, process].map(|times| micros(times.clone(), 0.5));
        rows.push(Row::new("a call that asks the driver, library, p50", library, "us"));
        rows.push(Row::new("a call that asks the driver, process, p50", process, "us"));
        rows.push(Row::new("what a process adds to it, p50", process - library, "us").goal(100.0));
    }
    Ok(rows)
}

/// Memory that is the daemon's alone: what it wrote, and its own code and constants.
pub(super) fn private_memory(convoy: &Convoy, of: &str) -> Result<[Row; 2]> {
    let (dirty, clean) = convoy.private_kib()?;
    let mebibytes = |kib: u64| f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0;
    Ok([
        Row::new(format!("private memory of {of}, written"), mebibytes(dirty), "MiB"),
        Row::new(format!("private memory of {of}, its program"), mebibytes(clean), "MiB"),
    ])
}

fn cycles(client: &mut Client) -> Result<Vec<Duration>> {
    let cycle = |client: &mut Client, number: u32| -> Result<Duration> {
        let name = format!("cycle{number}");
        let start = Instant::now();
        client.docker("Create", &json!({"Name": name}))?;
        client.docker("Mount", &json!({"Name": name, "ID": "a"}))?;
        client.docker("Unmount", &json!({"Name": name, "ID": "a"}))?;
        client.docker("Remove", &json!({"Name": name}))?;
        Ok(start.elapsed())
    };
    for number in 0..20 {
        cycle(client, CYCLES + number)?;
    }
    (0..CYCLES).map(|number| cycle(client, number)).collect()
}

fn repeat(client: &mut Client, call: &str, body: &Value) -> Result<Vec<Duration>> {
    // The call alone: what the engine makes of the answer is the engine's.
    let (path, body) = (format!("/VolumeDriver.{call}"), body.to_string());
    let once = |client: &mut Client| -> Result<Duration> {
        let start = Instant::now();
        let answer = client.ask_with("POST", &path, &[http::DOCKER], &body)?;
        let took = start.elapsed();
        http::checked(call, &answer)?;
        Ok(took)
    };
    for _ in 0..200 {
        once(client)?;
    }
    (0..CALLS).map(|_| once(client)).collect()
}

/// The cheapest call that always reaches the driver: an inspection of the volume.
fn driver_call(client: &mut Client) -> Result<Vec<Duration>> {
    let body = json!({"VolumeName": "steady"}).to_string();
    let once = |client: &mut Client| -> Result<Duration> {
        let start = Instant::now();
        client.ask("GET", "/v1/volumes/", &body)?.ok()?;
        Ok(start.elapsed())
    };
    for _ in 0..200 {
        once(client)?;
    }
    (0..CALLS).map(|_| once(client)).collect()
}

/// What the disk makes every acknowledged change cost: a file written, synced, renamed, its directory synced.
fn durable_write(lab: &Lab) -> Result<Vec<Duration>> {
    let directory = lab.make("durable")?;
    let write = |_| {
        let start = Instant::now();
        write_durably(&directory)?;
        Ok(start.elapsed())
    };
    (0..200).map(write).collect()
}

/// What a directory costs that was made before a durable write and is of no use after it: removed, which may
/// wait for the file system's journal, or renamed to be used again, as vfs does with its marks of creates.
fn take_back(lab: &Lab, again: bool) -> Result<Vec<Duration>> {
    let directory = lab.make(if again { "marks-again" } else { "marks" })?;
    let (mark, spare) = (directory.join("mark"), directory.join("spare"));
    let what = || "a mark".to_owned();
    let cycle = |number| {
        if again && number > 0 { fs::rename(&spare, &mark) } else { fs::create_dir(&mark) }.during(what)?;
        write_durably(&directory)?;
        let start = Instant::now();
        if again { fs::rename(&mark, &spare) } else { fs::remove_dir(&mark) }.during(what)?;
        Ok(start.elapsed())
    };
    (0..200).map(cycle).collect()
}

fn write_durably(directory: &Path) -> Result<()> {
    let what = || "a durable write".to_owned();
    let mut file = File::create(directory.join("new")).during(what)?;
    file.write_all(&[b'x'; 300]).during(what)?;
    file.sync_all().during(what)?;
    fs::rename(directory.join("new"), directory.join("record")).during(what)?;
    File::open(directory).and_then(|directory| directory.sync_all()).during(what)
}

fn mean_millis(times: &[Duration]) -> f64 {
    let total: Duration = times.iter().sum();
    total.as_secs_f64() * 1e3 / f64::from(u32::try_from(times.len().max(1)).unwrap_or(u32::MAX))
}

/// The time that a share of the calls did not exceed.
pub(super) fn micros(mut times: Vec<Duration>, share: f64) -> f64 {
    times.sort();
    // A share between 0 and 1 of a length is a whole number again, within it.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let at = (times.len() as f64 * share) as usize;
    times.get(at.min(times.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
