//! What calls leave in the driver's directories when the driver is killed in their midst.

use super::{kill_after, moments, timed};
use crate::cases::restore::{abort, kinds, prepare_usual};
use crate::cases::snapshots::delete as delete_snapshot;
use crate::check::{Outcome, done, fail, skip};
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::protocol::{Capability, CloseSnapshot, OpenSnapshot, SourceKind};
use convoy_driver_sdk::{DriverError, Name};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a driver may take to remove what it has put aside.
const SETTLE: Duration = Duration::from_secs(10);
/// How many files are looked at; a driver whose volumes have more is not for this case.
const MANY: usize = 100_000;
/// How many files a message names.
const NAMED: usize = 5;

pub(in crate::cases) fn tidy(kit: &Subject) -> Outcome {
    let name = kit.name("tidy");
    // A name that has been used may leave something for good, such as a lock.
    life(kit, &name, None)?;
    let make = || done(rules::CREATE, "volume.create", kit.call(kit.create_request(&name)));
    let (_, whole) = timed(make)?;
    done(rules::DELETE, "volume.delete", kit.delete(&name))?;
    kit.restart()?;
    let before = files(&kit.places())?;
    for delay in moments(kit, whole) {
        life(kit, &name, Some(delay))?;
    }
    kit.restart()?;
    let end = Instant::now() + SETTLE;
    loop {
        let now = files(&kit.places())?;
        let more: Vec<_> =
            now.difference(&before).take(NAMED).map(|path| path.display().to_string()).collect();
        if more.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            let text = "after calls that were killed, and the volume was deleted";
            return fail(rules::TIDY, format!("{text}: expected no new files, found {}", more.join(", ")));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Makes a volume, reads a snapshot of it and restores one; nothing of it is left. Each call that puts
/// something into the driver's directories is killed after `delay`, if there is one.
fn life(kit: &Subject, name: &Name, delay: Option<Duration>) -> Outcome {
    for kind in kinds(kit).unwrap_or_default() {
        let call = || prepare_usual(kit, name, kind);
        if let Some(prepared) = cut(kit, delay, "restore.prepare", call)? {
            abort(kit, &prepared.handle)?;
        }
    }
    cut(kit, delay, "volume.create", || kit.call(kit.create_request(name)))?;
    if kit.get(name).is_err() {
        done(rules::WHOLE, "volume.create, repeated", kit.call(kit.create_request(name)))?;
    }
    if kit.can(Capability::Snapshots) && (kit.can(Capability::ReadTree) || kit.can(Capability::ReadBlock)) {
        let snapshot = kit.snapshot(name, "tidy")?;
        let either = [SourceKind::Tree, SourceKind::Block].map(Some);
        for kind in if kit.can(Capability::ReadEither) { &either[..] } else { &[None] } {
            let call = || {
                let (volume, snapshot) = (name.clone(), snapshot.clone());
                kit.call(OpenSnapshot::new(volume, snapshot).kind(*kind))
            };
            if let Some(opened) = cut(kit, delay, "snapshot.open", call)? {
                let close = kit.call(CloseSnapshot::new(opened.handle));
                done(rules::SNAPSHOT_OPEN, "snapshot.close", close)?;
            }
        }
        done(rules::SNAPSHOT, "snapshot.delete", delete_snapshot(kit, name, &snapshot))?;
    }
    done(rules::DELETE, "volume.delete", kit.delete(name)).map(drop)
}

/// Makes a call; of one that is killed there is an answer or none.
fn cut<T: Send>(
    kit: &Subject,
    delay: Option<Duration>,
    what: &str,
    call: impl FnOnce() -> Result<T, DriverError> + Send,
) -> Outcome<Option<T>> {
    match delay {
        Some(delay) => kill_after(kit, delay, call),
        None => done(rules::WHOLE, what, call()).map(Some),
    }
}

/// All files in these directories, but not in what is mounted in them.
fn files(places: &[PathBuf]) -> Outcome<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut left: Vec<(PathBuf, u64)> = places.iter().filter_map(|place| directory(place)).collect();
    while let Some((place, device)) = left.pop() {
        // What goes meanwhile is gone.
        for path in std::fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path()) {
            left.extend(directory(&path).filter(|(_, on)| *on == device));
            found.insert(path);
            if found.len() > MANY {
                return skip(format!("there are more than {MANY} files in its directories"));
            }
        }
    }
    Ok(found)
}

/// A directory, with the device it is on.
fn directory(path: &Path) -> Option<(PathBuf, u64)> {
    let found = path.symlink_metadata().ok().filter(std::fs::Metadata::is_dir)?;
    Some((path.to_owned(), found.dev()))
}
