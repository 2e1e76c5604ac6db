//! `convoy driver list`: files, and what came of loading them.
//!
//! Drivers that the daemon has not loaded are loaded here to see whether they can be, each in a process of
//! its own: a library that brings its process down is then one line of the list, and not its end.

use super::{Installed, show, spec};
use crate::args::ListDriversArgs;
use crate::error::{Failure, Result};
use crate::output::{Output, views};
use convoy_client::types::{DriverOption, DriverStatus};
use convoy_client::{Client, Error, gojson};
use convoy_driver_sdk::DriverError;
use convoy_driver_sdk::protocol::{Description, OptionSpec};
use convoy_drivers::{Carrier, Drivers};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// How long a driver may take to describe itself; the host gives up a little earlier and says why.
const PATIENCE: Duration = Duration::from_secs(25);

/// What the process that loads a driver prints.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LoadReply {
    Description(Description),
    Error(DriverError),
}

pub(super) async fn list(
    args: &ListDriversArgs,
    installed: Installed,
    client: &Client,
    output: &mut Output,
) -> Result<()> {
    output.debug("GET /v1/drivers");
    let (mut drivers, running) = match client.list_drivers().await {
        Ok(drivers) => (drivers, true),
        Err(Error::NotRunning { .. } | Error::PermissionDenied { .. }) => (BTreeMap::new(), false),
        Err(error) => return Err(error.into()),
    };
    let mut under_way = Vec::new();
    for found in installed(&args.driver_path).installed() {
        let path = found.path.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
        // Beside a program, cargo writes what it was made of.
        let is_note = found.carrier == Carrier::Process && path.ends_with(".d");
        if is_note || drivers.values().any(|loaded| is_the_same(loaded, found.carrier, found.path.as_deref()))
        {
            continue;
        }
        let status = DriverStatus {
            name: found.name.to_string(),
            carrier: found.carrier.to_string(),
            error: found.problem.unwrap_or_default(),
            not_loaded: true,
            path,
            ..DriverStatus::default()
        };
        under_way.push(tokio::spawn(look(status, args.driver_path.clone())));
    }
    for task in under_way {
        let status = task.await.map_err(|error| Failure::Other { message: error.to_string(), hint: None })?;
        // As `--drivers` would have it: the name alone for what it means.
        let key = match drivers.contains_key(&status.name) {
            true => format!("{}:{}", status.carrier, status.name),
            false => status.name.clone(),
        };
        drivers.insert(key, status);
    }
    output.answer(&gojson::to_string(&drivers)?, views::drivers)?;
    if !running && output.is_for_people() {
        output.line(format_args!("\nNo daemon answers: the health of the drivers is not known."))?;
    }
    Ok(())
}

fn is_the_same(loaded: &DriverStatus, carrier: Carrier, path: Option<&Path>) -> bool {
    let real = path.map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()));
    loaded.carrier == carrier.as_str()
        && loaded.path == real.map(|path| path.display().to_string()).unwrap_or_default()
        || loaded.carrier.is_empty() && path.is_none() && carrier == Carrier::Builtin
}

async fn look(mut status: DriverStatus, driver_path: Vec<PathBuf>) -> DriverStatus {
    if !status.error.is_empty() {
        return status;
    }
    let what = if status.path.is_empty() { &status.name } else { &status.path };
    match load_apart(&format!("{}:{what}", status.carrier), &driver_path).await {
        Ok(LoadReply::Description(description)) => {
            status.name = description.name.to_string();
            status.version = description.version;
            status.protocol = description.protocol;
            status.summary = description.summary;
            status.capabilities = description.capabilities.iter().map(show::word).collect();
            status.options = description.options.into_iter().map(option).collect();
            status.create_options = description.create_options.into_iter().map(option).collect();
        }
        Ok(LoadReply::Error(error)) => {
            let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            status.error = format!("{}{hint}", error.message);
        }
        Err(error) => status.error = error,
    }
    status
}

async fn load_apart(spec: &str, driver_path: &[PathBuf]) -> std::result::Result<LoadReply, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = tokio::process::Command::new(program);
    command.args(["driver", "describe"]).arg(spec).stdin(Stdio::null()).kill_on_drop(true);
    command.env("CONVOY_DRIVER_PATH", std::env::join_paths(driver_path).unwrap_or_default());
    let told = match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(told) => told.map_err(|error| format!("cannot start this program again: {error}"))?,
        Err(_) => return Err(format!("it was not loaded within {} s", PATIENCE.as_secs())),
    };
    serde_json::from_slice(&told.stdout).map_err(|_| {
        format!(
            "loading it ended the program that loaded it ({}); as a library it would do so to the daemon",
            told.status
        )
    })
}

/// What a driver says of itself, asked in a process of its own; `None`: it cannot be loaded.
///
/// For who has no runtime: this starts one.
pub fn describe_apart(spec: &str, driver_path: &[PathBuf]) -> Option<Description> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    match runtime.block_on(load_apart(spec, driver_path)) {
        Ok(LoadReply::Description(description)) => Some(description),
        Ok(LoadReply::Error(_)) | Err(_) => None,
    }
}

/// What [`load_apart`] runs.
pub(super) async fn describe(driver: &str, drivers: &Drivers, output: &mut Output) -> Result<()> {
    let told = match drivers.load(&spec(driver)?).await {
        Ok(driver) => LoadReply::Description(driver.description().clone()),
        Err(error) => LoadReply::Error(error.into()),
    };
    output.line(serde_json::to_string(&told)?)
}

fn option(spec: OptionSpec) -> DriverOption {
    let OptionSpec { name, help, default, required, secret, docker, .. } = spec;
    DriverOption { name, help, default, required, secret, docker }
}
