//! Completion in shells, with names that the daemon knows.
//!
//! `convoy completions SHELL` prints a script that runs convoy again, at each press of Tab, with [`VARIABLE`]
//! set: [`answer`]. Then the daemon is asked for names. It has half a second; without an answer there are no
//! names, and never an error: that would land in the user's prompt. [`bash`] is a script of our own, since
//! bash takes URLs apart.

use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Elvish, Fish, Powershell, Shells, Zsh};
use convoy_client::Client;
use convoy_client::types::ListBackups;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

mod bash;

/// The variable in which a shell's script says which shell it is.
const VARIABLE: &str = "CONVOY_COMPLETE";

/// How long to wait for the daemon.
const PATIENCE: Duration = Duration::from_millis(500);

/// Most candidates of a kind: a longer list helps nobody.
const MOST: usize = 1000;

const SHELLS: Shells<'static> = Shells(&[&bash::Bash, &Elvish, &Fish, &Powershell, &Zsh]);

/// Answers a shell that asks for completions, if it is one that runs the program.
pub(crate) fn answer() -> bool {
    let asked = CompleteEnv::with_factory(crate::command).var(VARIABLE).bin("convoy").completer("convoy");
    let here = std::env::current_dir().ok();
    // What is wrong with the question is nothing for a prompt.
    asked.shells(SHELLS).try_complete(std::env::args_os(), here.as_deref()).unwrap_or(true)
}

/// The script for a shell.
///
/// # Errors
/// The shell is none that there is a script for.
pub(crate) fn script(shell: clap_complete::Shell) -> std::io::Result<Vec<u8>> {
    let name = shell.to_string();
    let known = SHELLS.completer(&name);
    let known = known.ok_or_else(|| std::io::Error::other(format!("there is no script for {name}")))?;
    let mut script = Vec::new();
    known.write_registration(VARIABLE, "convoy", "convoy", "convoy", &mut script)?;
    if name == "zsh" {
        // Where zsh loads the file at the first Tab, that one is to be answered as well.
        script.extend_from_slice(
            b"if [[ \"$funcstack[1]\" == _convoy ]]; then _clap_dynamic_completer_convoy \"$@\"; fi\n",
        );
    }
    Ok(script)
}

pub(crate) fn volumes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let volumes = ask(async |client| client.list_volumes().await.ok()).unwrap_or_default();
        candidates(volumes.into_values().map(|volume| (volume.name, volume.driver)))
    })
}

/// What `delete` takes: names of volumes or, with `--kept`, of what is kept of volumes that were forgotten.
pub(crate) fn deletable() -> ArgValueCandidates {
    if !std::env::args_os().any(|word| word == "--kept") {
        return volumes();
    }
    ArgValueCandidates::new(|| {
        let listed = ask(async |client| client.list_kept().await.ok()).unwrap_or_default();
        candidates(listed.kept.into_iter().map(|kept| (kept.name, kept.driver)))
    })
}

pub(crate) fn snapshots() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let volumes = ask(async |client| client.list_volumes().await.ok()).unwrap_or_default();
        candidates(volumes.into_values().flat_map(|volume| {
            let names = volume.snapshots.unwrap_or_default().into_keys();
            names.map(move |name| (name, format!("of {}", volume.name)))
        }))
    })
}

pub(crate) fn drivers() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let drivers = ask(async |client| client.list_drivers().await.ok()).unwrap_or_default();
        candidates(drivers.into_iter().map(|(name, driver)| (name, driver.summary)))
    })
}

pub(crate) fn schedules() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let schedules = ask(async |client| client.list_schedules().await.ok()).unwrap_or_default();
        candidates(schedules.into_iter().map(|(name, schedule)| (name, schedule.kind)))
    })
}

pub(crate) fn jobs() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let jobs = ask(async |client| client.list_jobs().await.ok()).unwrap_or_default();
        candidates(jobs.into_iter().map(|(id, job)| (id, format!("{} {}", job.kind, job.volume))))
    })
}

pub(crate) fn destinations() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let known = ask(async |client| Some(known_destinations(&client).await)).unwrap_or_default();
        candidates(known.into_iter().map(|url| (url, String::new())))
    })
}

/// URLs of backups: those at the destination that is typed already, else those at the destinations of
/// schedules.
pub(crate) fn backups() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(typed) = current.to_str() else { return Vec::new() };
        let asked = async |client: Client| {
            let destinations = match typed.split('?').next() {
                Some(url) if url.contains(":/") => [url.to_owned()].into(),
                _ => known_destinations(&client).await,
            };
            let mut urls = Vec::new();
            for url in destinations {
                let request = ListBackups { url, must_exist: true, ..ListBackups::default() };
                let Ok(listed) = client.list_backups(&request).await else { continue };
                urls.extend(listed.into_iter().map(|(url, backup)| {
                    (
                        url,
                        format!(
                            "{} of {}, {}",
                            backup.snapshot_name, backup.volume_name, backup.created_time
                        ),
                    )
                }));
            }
            Some(urls)
        };
        let urls = ask(asked).unwrap_or_default();
        candidates(urls.into_iter().filter(|(url, _)| url.starts_with(typed)))
    })
}

async fn known_destinations(client: &Client) -> BTreeSet<String> {
    let schedules = client.list_schedules().await.unwrap_or_default();
    let destinations = schedules.into_values().map(|schedule| schedule.destination);
    destinations.filter(|destination| !destination.is_empty()).collect()
}

/// Names, each with a word about it.
fn candidates(names: impl Iterator<Item = (String, String)>) -> Vec<CompletionCandidate> {
    let printable = |(name, _): &(String, String)| !name.is_empty() && !name.contains(char::is_control);
    let candidate = |(name, about): (String, String)| {
        let about: String = about.chars().filter(|letter| !letter.is_control()).collect();
        CompletionCandidate::new(name).help((!about.is_empty()).then(|| about.into()))
    };
    names.filter(printable).take(MOST).map(candidate).collect()
}

/// Asks the daemon something, for as long as somebody who pressed Tab waits.
fn ask<T>(question: impl AsyncFnOnce(Client) -> Option<T>) -> Option<T> {
    let client = Client::new(socket(std::env::args_os().skip_while(|word| word != "--")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, question(client)).await.ok().flatten() })
}

/// The socket that the line to complete names, or else the environment.
fn socket(words: impl Iterator<Item = OsString>) -> PathBuf {
    // Bash makes words of their own of `=`.
    let mut words = words.filter(|word| word != "=");
    while let Some(word) = words.next() {
        let after = word.to_str().and_then(|word| word.strip_prefix("--socket=")).map(OsString::from);
        let named = if word == "--socket" || word == "-s" { words.next() } else { after };
        if let Some(socket) = named.filter(|socket| !socket.is_empty()) {
            return socket.into();
        }
    }
    let said = std::env::var_os("CONVOY_SOCKET").filter(|socket| !socket.is_empty());
    said.map_or_else(|| convoy_client::DEFAULT_SOCKET.into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_one_on_the_line() {
        let of = |line: &str| socket(line.split(' ').map(OsString::from));
        for line in
            ["convoy --socket /s list", "convoy list --socket=/s", "convoy -s /s", "convoy --socket = /s x"]
        {
            assert_eq!(of(line), PathBuf::from("/s"), "{line}");
        }
    }
}
