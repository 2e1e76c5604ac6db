//! What can be said without a daemon: of the machine, and of the records as files.

use super::findings::{Findings, error, info, warning};
use convoy_client::types::Diagnosis;
use convoy_driver_sdk::{Name, atomic};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

const AREA: &str = "daemon";

/// The largest file that is taken for a record.
const MAX_RECORD_BYTES: u64 = 16 << 20;

/// How long a directory outside the root may take to say what is in it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How deep records lie: `<root>/<driver>/volumes/<volume>/` and the like.
const DEPTH: usize = 4;

/// Examines the machine, and a daemon's directory while no daemon runs.
pub fn examine(root: &Path, socket: &Path, repair: bool) -> Diagnosis {
    let mut findings = Findings::default();
    super::machine::examine(root, &mut findings);
    // A socket nobody listens at need not be there.
    let there = if socket.exists() { socket } else { Path::new("") };
    super::docker::examine(there, &mut findings);
    if root.is_dir() {
        match lock(root) {
            Ok(Some(_held)) => {
                listening(socket, &mut findings);
                records(root, DEPTH, &mut findings);
                kept(root, &mut findings);
                leftovers(root, DEPTH, repair, &mut findings);
            }
            Ok(None) => {
                let text =
                    format!("a daemon uses {}, but none answers at {}", root.display(), socket.display());
                let hint = "name its socket with --socket; if it hangs, see its log and restart it: what is \
                            mounted stays mounted";
                findings.add(AREA, error("daemon", text).hint(hint));
            }
            Err(failed) => findings.add(
                AREA,
                error("lock", format!("the lock of {} cannot be tried: {failed}", root.display())),
            ),
        }
    }
    findings.into_diagnosis(false)
}

/// Takes the daemon's lock for as long as the file is held; `None` if a daemon has it.
fn lock(root: &Path) -> io::Result<Option<Option<File>>> {
    let file = match File::open(root.join("lock")) {
        Ok(file) => file,
        Err(failed) if failed.kind() == io::ErrorKind::NotFound => return Ok(Some(None)),
        Err(failed) => return Err(failed),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Some(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(failed) => Err(failed.into()),
    }
}

fn listening(socket: &Path, findings: &mut Findings) {
    let text = match UnixStream::connect(socket) {
        Ok(_) => format!("somebody listens at {} who is no convoy daemon of this root", socket.display()),
        Err(_) => "it does not run".to_owned(),
    };
    let hint = "start it with `systemctl start convoy`, or `convoy daemon`";
    findings.add(AREA, error("daemon", text).hint(hint));
}

/// Every record is JSON; which driver it belongs to does not matter.
fn records(dir: &Path, depth: usize, findings: &mut Findings) {
    let mut good = 0usize;
    for path in files(dir, depth) {
        let is_record = path.extension().is_some_and(|it| it == "json" || it == "cfg");
        if !is_record || path.metadata().is_ok_and(|it| it.len() > MAX_RECORD_BYTES) {
            continue;
        }
        let read = std::fs::read(&path).map_err(|failed| failed.to_string());
        match read.and_then(|bytes| {
            serde_json::from_slice::<serde_json::Value>(&bytes).map_err(|it| it.to_string())
        }) {
            Ok(_) => good += 1,
            Err(failed) => {
                let subject = format!("record {}", path.display());
                let hint = "the daemon leaves it as it is and lists what it is of as damaged: repair it by \
                            hand, or restore from a backup";
                findings.add(AREA, error(subject, format!("it cannot be read: {failed}")).hint(hint));
            }
        }
    }
    findings.add(AREA, info("records", format!("{good} can be read")));
}

/// Remarks on data that is kept of volumes that were forgotten, as far as records of it are files
/// `<driver>_kept_<name>.json`, below the root or where a `.cfg` of a driver says that its records are.
fn kept(root: &Path, findings: &mut Findings) {
    let mut found = files(root, DEPTH);
    let elsewhere: Vec<_> = found.iter().filter_map(|path| records_elsewhere(path, root)).collect();
    for dir in elsewhere {
        match files_soon(dir.clone()) {
            Some(there) => found.extend(there),
            None => {
                let text = format!("{} does not answer: its storage hangs", dir.display());
                let hint = "see whether the server or the disk behind it is there";
                findings.add(AREA, error("records", text).hint(hint));
            }
        }
    }
    for path in found {
        let file =
            path.file_name().and_then(|name| name.to_str()).and_then(|file| file.strip_suffix(".json"));
        let Some((driver, name)) = file.and_then(|stem| stem.split_once("_kept_")) else { continue };
        if Name::parse(driver).is_err() || Name::parse(name).is_err() {
            continue;
        }
        let text = format!("data of a volume that was forgotten is kept; its record is {}", path.display());
        let hint = "once the daemon runs, `convoy list --kept` tells its size";
        findings.add(&format!("driver {driver}"), info(format!("kept volume {name}"), text).hint(hint));
    }
}

/// The files in a directory, unless its storage hangs.
fn files_soon(dir: PathBuf) -> Option<Vec<PathBuf>> {
    let (found, wait) = std::sync::mpsc::channel();
    // One that hangs ends with the program.
    std::thread::spawn(move || found.send(files(&dir, 0)));
    wait.recv_timeout(PATIENCE).ok()
}

/// The directory outside the root that a driver's own settings name as that of its records.
fn records_elsewhere(path: &Path, root: &Path) -> Option<PathBuf> {
    let settings = path.extension().is_some_and(|it| it == "cfg");
    if !settings || path.metadata().ok()?.len() > MAX_RECORD_BYTES {
        return None;
    }
    let settings: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let dir = PathBuf::from(settings["ConfigPath"].as_str()?);
    (dir.is_absolute() && !dir.starts_with(root)).then_some(dir)
}

fn leftovers(root: &Path, depth: usize, repair: bool, findings: &mut Findings) {
    let temporary =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(atomic::is_temporary);
    let left: Vec<PathBuf> = files(root, depth).into_iter().filter(temporary).collect();
    if left.is_empty() {
        return;
    }
    let mut finding =
        warning("leftovers", format!("{} writes were cut off and left a temporary file", left.len()));
    finding.repairable = true;
    if repair {
        let dirs: std::collections::BTreeSet<&Path> = left.iter().filter_map(|path| path.parent()).collect();
        let removed: usize = dirs.into_iter().filter_map(|dir| atomic::clean(dir).ok()).sum();
        finding.repaired = removed == left.len();
    }
    findings
        .add(AREA, finding.hint("the daemon removes them when it starts, or `convoy doctor --repair` now"));
}

/// Files below a directory, never those of volumes: nothing deeper, no link followed.
fn files(dir: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            // The content of volumes is nobody's business, and may be large.
            Ok(kind) if kind.is_dir() && depth > 0 && !is_content(&entry.path()) => {
                found.extend(files(&entry.path(), depth - 1));
            }
            _ => {}
        }
    }
    found
}

/// Directories in which drivers keep what is in volumes and snapshots.
fn is_content(dir: &Path) -> bool {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parent = dir.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    matches!(name, "mounts" | "snapshots" | "trees") || (parent == "volumes" && name != "config")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_and_leftovers_are_found_and_leftovers_removed() {
        let root = tempfile::tempdir().unwrap();
        let records = root.path().join("vfs");
        std::fs::create_dir(&records).unwrap();
        std::fs::write(root.path().join("lock"), "").unwrap();
        std::fs::write(root.path().join("convoy.cfg"), "{}").unwrap();
        std::fs::write(records.join("vfs_volume_a.json"), "{\"Name\":").unwrap();
        std::fs::write(records.join(".convoy-1-1.tmp"), "half").unwrap();
        let volume = root.path().join("vfs/volumes/data");
        std::fs::create_dir_all(&volume).unwrap();
        std::fs::write(volume.join("theirs.json"), "{ not ours").unwrap();
        let socket = root.path().join("convoy.sock");
        let of = |repair| {
            let told = examine(root.path(), &socket, repair);
            assert!(!told.daemon);
            told.findings.into_iter().filter(|told| told.area == AREA).collect::<Vec<_>>()
        };
        let told = of(false);
        let subject = |text: &str| told.iter().find(|told| told.subject.starts_with(text)).cloned().unwrap();
        assert!(subject("record ").subject.ends_with("vfs_volume_a.json"));
        assert_eq!(told.iter().filter(|told| told.subject.starts_with("record ")).count(), 1);
        assert!(subject("leftovers").repairable && !subject("leftovers").repaired);
        assert_eq!(subject("daemon").message, "it does not run");
        assert!(of(true).iter().any(|told| told.subject == "leftovers" && told.repaired));
        assert!(!records.join(".convoy-1-1.tmp").exists());
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_told_from_one_that_does_not_run() {
        let root = tempfile::tempdir().unwrap();
        let file = File::create(root.path().join("lock")).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        let told = examine(root.path(), &root.path().join("convoy.sock"), false);
        assert!(told.findings.iter().any(|told| told.message.contains("but none answers at")), "{told:?}");
    }
}
