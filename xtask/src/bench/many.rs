//! A host with very many volumes.

use std::time::{Duration, Instant};

use convoy_tests::error::check;
use convoy_tests::{Carrier, Lab, Result, Setup};
use serde_json::json;

use super::calls::{micros, private_memory};
use super::table::Row;

const VOLUMES: u32 = 10_000;

pub(super) fn run(lab: &Lab) -> Result<Vec<Row>> {
    let mut convoy = Setup::vfs(lab, Carrier::Library).start()?;
    let mut client = convoy.connect()?;
    for number in 0..VOLUMES {
        client.docker("Create", &json!({"Name": format!("volume{number:05}")}))?;
    }
    let mut list = |call: &dyn Fn(&mut convoy_tests::http::Client) -> Result<String>| -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..30 {
            let start = Instant::now();
            let body = call(&mut client)?;
            times.push(start.elapsed());
            check(body.contains("volume09999"), || "the list is incomplete".to_owned())?;
        }
        Ok(micros(times, 0.5) / 1e3)
    };
    let docker = list(&|client| client.ask("POST", "/VolumeDriver.List", "{}")?.ok())?;
    let admin = list(&|client| client.ask("GET", "/v1/volumes/list", "")?.ok())?;
    let [written, program] = private_memory(&convoy, "a daemon with 10,000 volumes")?;
    convoy.stop()?;
    let mut starts = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        convoy.start_again()?;
        starts.push(start.elapsed());
        convoy.stop()?;
    }
    Ok(vec![
        Row::new("List of 10,000 volumes, Docker, p50", docker, "ms").goal(50.0),
        Row::new("list of 10,000 volumes, admin API, p50", admin, "ms"),
        Row::new("start with 10,000 volumes", millis(&starts), "ms"),
        written,
        program,
    ])
}

fn millis(times: &[Duration]) -> f64 {
    micros(times.to_vec(), 0.5) / 1e3
}
