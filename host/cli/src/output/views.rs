//! What people see of each kind of answer.

use super::table::{Width, fitted, heading, pairs, printable, row, table};
use super::values::{bytes, duration, or_dash, seconds, shell, size, time};
use convoy_client::types::{
    BackupInfo, ConfigValue, CreatedBackup, DriverCall, DriverOption, DriverStatus, Event, Info, Job,
    ListedKept, Pairs, PruneReport, ReloadedConfig, Snapshot, VerifyReport, Volume,
};
use std::collections::{BTreeMap, BTreeSet};

/// Shows what `convoy list` answers.
pub fn volumes(volumes: &BTreeMap<String, Volume>, width: Width) -> String {
    let of = |volume: &Volume, key: &str| volume.driver_info.as_ref().and_then(|info| info.get(key).cloned());
    // Where no volume has a backup, the table is as narrow as can be.
    let backed_up = volumes.values().any(|volume| of(volume, "LastBackup").is_some());
    let rows = volumes.values().map(|volume| {
        let said = |key| of(volume, key);
        let mut row = row![
            volume.name,
            volume.driver,
            size(said("Size").as_ref()),
            counted_bytes(said("Used").as_ref()),
            volume.snapshots.as_ref().map_or(0, BTreeMap::len),
            time(&volume.created_time),
        ];
        if backed_up {
            row.push(counted_bytes(said("LastBackupBytes").as_ref()));
            row.push(or_dash(&said("LastBackupFiles").unwrap_or_default()));
        }
        row.push(or_dash(&volume.mount_point));
        row
    });
    let mut header = vec!["NAME", "DRIVER", "SIZE", "USED", "SNAPSHOTS", "CREATED"];
    header.extend(backed_up.then_some(["LAST BACKUP", "FILES"]).into_iter().flatten());
    header.push("MOUNTED AT");
    fitted(&header, rows, &["NAME", "MOUNTED AT"], width)
}

/// `list --kept`: what is kept, what to know of it, and what to type.
pub fn kept(listed: &ListedKept, width: Width) -> String {
    let rows = listed.kept.iter().map(|kept| {
        let size = match kept.size {
            Some(size) if kept.at_least => format!("> {}", bytes(size)),
            Some(size) => bytes(size),
            None => "-".to_owned(),
        };
        row![kept.name, kept.driver, size, kept.snapshots, or_dash(&time(&kept.since)), or_dash(&kept.path)]
    });
    let header = ["NAME", "DRIVER", "SIZE", "SNAPSHOTS", "KEPT SINCE", "AT"];
    let mut text = fitted(&header, rows, &["NAME", "AT"], width);
    for kept in listed.kept.iter().filter(|kept| !kept.note.is_empty()) {
        text += &printable(&format!("{}: {}", kept.name, kept.note));
        text += "\n";
    }
    for (driver, why) in &listed.failed {
        text += &printable(&format!("Driver {driver} cannot tell what it keeps: {why}"));
        text += "\n";
    }
    if !listed.kept.is_empty() {
        text += "\n`convoy create NAME --driver DRIVER` brings it back, ";
        text += "`convoy delete --kept NAME` deletes it.\n";
    }
    text
}

/// `list --driver`: a table for each driver, with what it says of its volumes.
pub fn driver_form(volumes: &BTreeMap<String, Pairs>, width: Width) -> String {
    let mut drivers: BTreeMap<&str, BTreeMap<&str, &Pairs>> = BTreeMap::new();
    for (name, info) in volumes {
        let driver = info.get("Driver").map_or("", String::as_str);
        drivers.entry(driver).or_default().insert(name, info);
    }
    let section = |(driver, volumes): (&str, BTreeMap<&str, &Pairs>)| {
        let keys: BTreeSet<&str> =
            volumes.values().flat_map(|info| info.keys()).map(String::as_str).collect();
        let keys: Vec<&str> =
            keys.into_iter().filter(|key| !matches!(*key, "Driver" | "VolumeName")).collect();
        let rows = volumes.iter().map(|(name, info)| {
            let cell = |key: &&str| said(key, info.get(*key).map_or("", String::as_str));
            std::iter::once((*name).to_owned()).chain(keys.iter().map(cell)).collect()
        });
        let header: Vec<&str> = std::iter::once("NAME").chain(keys.iter().copied()).collect();
        heading(&format!("Driver {driver}")) + &fitted(&header, rows, &header, width)
    };
    drivers.into_iter().map(section).collect::<String>().trim_start().to_owned()
}

/// A value that a driver gives, as people read it.
fn said(key: &str, value: &str) -> String {
    match key {
        "Size" => size(Some(&value.to_owned())),
        "VolumeCreatedAt" | "SnapshotCreatedAt" => time(value),
        _ => or_dash(value),
    }
}

/// `inspect`, and a verbose create.
pub fn volume(volume: &Volume) -> String {
    let mut text = pairs(
        [
            ("Name", volume.name.clone()),
            ("Driver", volume.driver.clone()),
            ("Created", time(&volume.created_time)),
            ("Mounted at", or_dash(&volume.mount_point)),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .chain(details(volume.driver_info.as_ref())),
    );
    if let Some(info) = &volume.driver_info {
        let above = |key: &str| SHOWN_ABOVE.contains(&key) || key == "Used" || key.starts_with("LastBackup");
        let own = info.iter().filter(|(key, _)| !above(key));
        text += &heading("What the driver says");
        text += &pairs(own.map(|(key, value)| (key.as_str(), value.clone())));
    }
    if let Some(snapshots) = volume.snapshots.as_ref().filter(|snapshots| !snapshots.is_empty()) {
        let mut snapshots: Vec<_> = snapshots.values().collect();
        snapshots.sort_by_key(|snapshot| seconds(&snapshot.created_time));
        let counted = snapshots.iter().any(|snapshot| snapshot.driver_info.contains_key("Files"));
        let rows = snapshots.into_iter().map(|snapshot| {
            let mut row = row![snapshot.name, time(&snapshot.created_time), held(&snapshot.driver_info)];
            row.extend(counted.then(|| files(&snapshot.driver_info)));
            row
        });
        let mut header = vec!["SNAPSHOT", "CREATED", "SIZE"];
        header.extend(counted.then_some("FILES"));
        text += "\n";
        text += &table(&header, rows);
    }
    text
}

/// What is in use of a volume, and its last backup.
fn details(info: Option<&Pairs>) -> Vec<(&'static str, String)> {
    let said = |key| info.and_then(|info| info.get(key));
    let mut told = Vec::new();
    told.extend(said("Used").map(|used| ("Used", counted_bytes(Some(used)))));
    if let Some(last) = said("LastBackup") {
        let of_files = said("LastBackupFiles").map(|files| format!(" in {files} files")).unwrap_or_default();
        let held = said("LastBackupBytes").map(|held| format!(", {}{of_files}", counted_bytes(Some(held))));
        told.push(("Last backup", time(last) + &held.unwrap_or_default()));
        let added = said("LastBackupBytesAdded").map(|added| counted_bytes(Some(added)));
        told.extend(added.map(|added| ("It added to the store", added)));
        told.extend(said("LastBackupURL").map(|url| ("Its URL", shell(url))));
    }
    told
}

/// The bytes in a snapshot; those of its device where what is in it is not known.
fn held(info: &Pairs) -> String {
    match info.get("Bytes") {
        Some(held) => counted_bytes(Some(held)),
        None => size(info.get("Size")),
    }
}

/// The regular files in a snapshot.
fn files(info: &Pairs) -> String {
    or_dash(info.get("Files").map_or("", String::as_str))
}

/// Keys of `DriverInfo` that repeat what the volume says itself.
const SHOWN_ABOVE: [&str; 4] = ["Driver", "MountPoint", "VolumeName", "VolumeCreatedAt"];

/// `snapshot inspect`, and a verbose create.
pub fn snapshot(snapshot: &Snapshot) -> String {
    let mut text = pairs([
        ("Name", snapshot.name.clone()),
        ("Volume", snapshot.volume_name.clone()),
        ("Created", time(&snapshot.created_time)),
    ]);
    if snapshot.driver_info.contains_key("Bytes") {
        text += &pairs([("Size", held(&snapshot.driver_info)), ("Files", files(&snapshot.driver_info))]);
    }
    text += &heading("What the driver says");
    let own = snapshot.driver_info.iter().filter(|(key, _)| !matches!(key.as_str(), "Bytes" | "Files"));
    text + &pairs(own.map(|(key, value)| (key.as_str(), value.clone())))
}

/// `snapshot list`: the newest of a volume last.
pub fn snapshots(snapshots: &[Snapshot], width: Width) -> String {
    // Where no driver counts files, the table is as narrow as can be.
    let counted = snapshots.iter().any(|snapshot| snapshot.driver_info.contains_key("Files"));
    let rows = snapshots.iter().map(|snapshot| {
        let mut row = row![
            snapshot.volume_name,
            snapshot.name,
            time(&snapshot.created_time),
            held(&snapshot.driver_info)
        ];
        row.extend(counted.then(|| files(&snapshot.driver_info)));
        row
    });
    let mut header = vec!["VOLUME", "SNAPSHOT", "CREATED", "SIZE"];
    header.extend(counted.then_some("FILES"));
    fitted(&header, rows, &["VOLUME", "SNAPSHOT"], width)
}

/// `backup list`: the newest of a volume last.
pub fn backups(backups: &BTreeMap<String, BackupInfo>, width: Width) -> String {
    let mut backups: Vec<_> = backups.values().collect();
    backups.sort_by_key(|backup| (&backup.volume_name, seconds(&backup.created_time)));
    let warned = backups.clone();
    // Where nothing is said of any backup, the table is as narrow as can be.
    let labelled = backups.iter().any(|backup| !labels(backup).is_empty());
    let rows = backups.into_iter().map(|backup| {
        let mut row = row![
            backup.volume_name,
            backup.snapshot_name,
            time(&backup.created_time),
            logical(backup),
            backup.extra.get("Files").map_or_else(|| "-".to_owned(), |files| or_dash(files)),
            counted_bytes(backup.extra.get("BytesAdded")),
            encrypted(backup),
        ];
        row.extend(labelled.then(|| or_dash(&labels(backup))));
        row.push(shell(&backup.backup_url));
        row
    });
    let mut header = vec!["VOLUME", "SNAPSHOT", "CREATED", "SIZE", "FILES", "ADDED", "ENCRYPTED"];
    header.extend(labelled.then_some("LABELS"));
    header.push("BACKUP");
    let mut text = fitted(&header, rows, &["VOLUME", "SNAPSHOT", "LABELS", "BACKUP"], width);
    let warnings: BTreeSet<&String> =
        warned.iter().filter_map(|backup| backup.extra.get("Warning")).collect();
    for warning in warnings {
        text += &printable(&format!("Warning: {warning}."));
        text += "\n";
    }
    text
}

/// The bytes that a backup stands for; where they are not known, those of the volume.
fn logical(backup: &BackupInfo) -> String {
    match backup.extra.get("Bytes") {
        Some(held) => counted_bytes(Some(held)),
        None => size(Some(&backup.volume_size)),
    }
}

/// A number of bytes, which may be none; a dash where it is not known.
fn counted_bytes(number: Option<&String>) -> String {
    number.and_then(|number| number.parse().ok()).map_or_else(|| "-".to_owned(), bytes)
}

/// What people say of a backup, in a line: whether it is pinned, and its tags.
fn labels(backup: &BackupInfo) -> String {
    let pinned =
        backup.extra.get("Pinned").map(|_| match backup.extra.get("KeepUntil").map(String::as_str) {
            Some("forever") | None => "pinned".to_owned(),
            Some(until) => format!("pinned until {until}"),
        });
    let tags = backup.extra.iter().filter_map(|(key, value)| {
        let key = key.strip_prefix("Tag.")?;
        Some(if value.is_empty() { key.to_owned() } else { format!("{key}={value}") })
    });
    pinned.into_iter().chain(tags).collect::<Vec<_>>().join(" ")
}

/// Whether a backup is encrypted. What a storage system keeps itself it encrypts or not, as it is set there.
fn encrypted(backup: &BackupInfo) -> &'static str {
    let in_store = ["vfs://", "s3://"].iter().any(|scheme| backup.backup_url.starts_with(scheme));
    match backup.extra.get("Encrypted").map(String::as_str) {
        Some("true") => "yes",
        _ if in_store => "no",
        _ => "-",
    }
}

/// Shows what `convoy backup inspect` answers.
pub fn backup(backup: &BackupInfo) -> String {
    let known = [
        ("Backup", shell(&backup.backup_url)),
        ("Created", time(&backup.created_time)),
        ("Volume", backup.volume_name.clone()),
        ("Volume created", time(&backup.volume_created_at)),
        ("Size", logical(backup)),
        ("Size of the volume", size(Some(&backup.volume_size))),
        ("Driver", backup.driver_name.clone()),
        ("Snapshot", backup.snapshot_name.clone()),
        ("Snapshot created", time(&backup.snapshot_created_at)),
        ("Encrypted", encrypted(backup).to_owned()),
    ]
    .into_iter()
    .filter(|(key, value)| *key != "Size of the volume" || value != "-");
    let extra = backup.extra.iter().filter(|(key, _)| !matches!(key.as_str(), "Encrypted" | "Bytes"));
    let extra = extra.map(|(key, value)| match key.as_str() {
        "BytesAdded" => ("Added to the store", counted_bytes(Some(value))),
        "Warnings" => ("Left out", value.clone()),
        "ExcludedFiles" => ("Files left out by rules", value.clone()),
        "ExcludedDirectories" => ("Directories left out by rules", value.clone()),
        "KeepUntil" => ("Kept until", value.clone()),
        other => (other, value.clone()),
    });
    pairs(known.chain(extra))
}

/// `backup create`: the URL, to be copied, and what it took.
pub fn created_backup(created: &CreatedBackup) -> String {
    let mut text = shell(&created.url) + "\n";
    if let Some(cost) = &created.cost {
        let left_out = match cost.warnings {
            0 => String::new(),
            number => format!("; {number} left out, see the warnings"),
        };
        let excluded = match (cost.excluded_files, cost.excluded_directories) {
            (0, 0) => String::new(),
            (files, directories) => {
                format!("; rules left out {files} files and {directories} directories")
            }
        };
        // A volume of blocks has no files.
        let files = if cost.files > 0 { format!(" in {} files", cost.files) } else { String::new() };
        text += &format!(
            "{}{files}, {} read, {} added to the store, in {}{left_out}{excluded}.\n",
            bytes(cost.bytes),
            bytes(cost.bytes_read),
            bytes(cost.bytes_added),
            duration(cost.millis)
        );
    }
    text
}

/// Shows what `convoy backup verify` answers.
pub fn verified(report: &VerifyReport, width: Width) -> String {
    let mut looked = format!("{} backups, {} read and checked", report.backups, bytes(report.bytes_read));
    if report.garbage > 0 {
        looked +=
            &format!("; {} objects that none needs, which `convoy backup prune` removes", report.garbage);
    }
    if report.problems.is_empty() {
        return format!("All is well: {looked}.\n");
    }
    let rows = report.problems.iter().map(|problem| {
        let backup = if problem.backup_url.is_empty() { "-".to_owned() } else { shell(&problem.backup_url) };
        row![problem.message, problem.object, backup]
    });
    let problems = fitted(&["WHAT", "OBJECT", "BACKUP"], rows, &["OBJECT", "BACKUP"], width);
    let count =
        |kinds: &[&str]| report.problems.iter().filter(|it| kinds.contains(&it.kind.as_str())).count();
    let unchecked = count(&["no-key"]);
    let distrusted = count(&["unencrypted", "not-authentic", "older"]);
    let damage = report.problems.len() - unchecked - distrusted;
    let found: Vec<String> = [
        (damage, "Damage found"),
        (distrusted, "Found what is not to be trusted"),
        (unchecked, "Not checked for want of the key"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{what} ({count} problems)"))
    .collect();
    format!("{problems}\n{}: {looked}.\n", found.join(". "))
}

/// Shows what `convoy backup prune` answers.
pub fn pruned(report: &PruneReport) -> String {
    let verb = if report.dry_run { "Would remove" } else { "Removed" };
    let skipped: String =
        report.skipped.iter().map(|line| format!("Left alone: {}\n", printable(line))).collect();
    let (objects, volumes) = (report.objects, report.volumes);
    format!("{skipped}{verb} {objects} objects with {} of {volumes} volumes.\n", bytes(report.bytes))
}

/// Shows what `convoy backup key list` answers.
// The type is that of the answer.
#[expect(clippy::ptr_arg)]
pub fn keys(names: &Vec<String>) -> String {
    if names.is_empty() {
        return "No key: nothing here is encrypted.\n".to_owned();
    }
    table(&["KEY"], names.iter().map(|name| row![name]))
}

/// Shows what `convoy info` answers.
pub fn info(info: &Info) -> String {
    let general = &info.general;
    let yes_or_no = |value| if value { "yes" } else { "no" }.to_owned();
    let mut text = pairs([
        ("Root", general.root.clone()),
        ("Drivers", general.driver_list.join(", ")),
        ("Default driver", general.default_driver.clone()),
        ("Mount namespace", or_dash(&general.mount_namespace_fd)),
        ("Docker's delete is ignored", yes_or_no(general.ignore_docker_delete)),
        ("Docker's mount creates", yes_or_no(general.create_on_docker_mount)),
        ("Command timeout", or_dash(&general.cmd_timeout)),
    ]);
    if !info.settings.is_empty() {
        text += &heading("Settings on disk");
        text += &all(&info.settings);
    }
    for (name, info) in &info.drivers {
        text += &heading(&format!("Driver {name}"));
        text += &all(info);
    }
    text
}

/// Shows what `convoy config reload` answers.
pub fn reloaded(reloaded: &ReloadedConfig) -> String {
    let mut text = match reloaded.applied.as_slice() {
        [] => "The settings were read again: none changed\n".to_owned(),
        applied => format!("The settings were read again. Changed: {}\n", applied.join(", ")),
    };
    if !reloaded.needs_restart.is_empty() {
        text += &format!("These change with the next restart: {}\n", reloaded.needs_restart.join(", "));
    }
    text
}

/// Shows what `convoy config show` answers.
pub fn config(settings: &BTreeMap<String, ConfigValue>, width: Width) -> String {
    let rows = settings.iter().map(|(key, setting)| row![key, or_dash(&setting.value), setting.source]);
    fitted(&["SETTING", "VALUE", "FROM"], rows, &["SETTING", "VALUE", "FROM"], width)
}

/// Shows what `convoy jobs list` answers.
pub fn jobs(jobs: &BTreeMap<String, Job>, width: Width) -> String {
    let rows = jobs.values().map(|job| {
        row![
            job.id,
            job.kind,
            or_dash(&job.volume),
            or_dash(&job.snapshot),
            time(&job.started_at),
            job.state,
            progress(job)
        ]
    });
    let header = ["ID", "WHAT", "VOLUME", "SNAPSHOT", "STARTED", "STATE", "PROGRESS"];
    // An id is to be copied, and progress to be read.
    fitted(&header, rows, &["VOLUME", "SNAPSHOT"], width)
}

fn progress(job: &Job) -> String {
    let progress = &job.progress;
    let mut parts = vec![match progress.bytes_total {
        Some(total) => format!("{} of {}", bytes(progress.bytes_done), bytes(total)),
        None => bytes(progress.bytes_done),
    }];
    match (progress.files_done, progress.files_total) {
        (Some(done), Some(total)) => parts.push(format!("{done} of {total} files")),
        (Some(done), None) => parts.push(format!("{done} files")),
        (None, _) => {}
    }
    if !job.calls.is_empty() && job.still().is_some() {
        parts.extend(job.calls.iter().cloned());
        return parts.join(", ");
    }
    if let Some(seconds) = job.still() {
        // Rates are of the time when something moved.
        parts.push(format!("nothing for {seconds} s"));
        return parts.join(", ");
    }
    parts.extend(progress.bytes_per_second.map(|rate| format!("{}/s", bytes(rate))));
    parts.extend(progress.eta_seconds.map(|seconds| format!("{seconds} s left")));
    parts.join(", ")
}

/// Shows what `convoy driver list` answers.
pub fn drivers(drivers: &BTreeMap<String, DriverStatus>) -> String {
    let rows = drivers.iter().map(|(key, driver)| {
        let state = match driver {
            DriverStatus { healthy: true, .. } => "ready",
            DriverStatus { error, .. } if !error.is_empty() => "cannot be loaded",
            DriverStatus { not_loaded: true, .. } => "installed",
            _ => "not ready",
        };
        // A call that takes long is worth a word although others are answered.
        let old = driver.calls.iter().max_by_key(|call| call.seconds).filter(|call| call.seconds >= 10);
        let message = match (driver.message.as_str(), old) {
            ("", Some(call)) => call.in_words(),
            (message, _) => message.to_owned(),
        };
        let state = if message.is_empty() { state.to_owned() } else { format!("{state}: {message}") };
        let name = if driver.default { format!("{key} (default)") } else { key.clone() };
        let carrier = driver.pid.map_or(driver.carrier.clone(), |pid| format!("{} {pid}", driver.carrier));
        row![name, driver.version, carrier, state]
    });
    let mut text = table(&["NAME", "VERSION", "REACHED AS", "STATE"], rows);
    for (key, driver) in drivers {
        text += &heading(key);
        let rows = [
            ("Why not", driver.error.clone()),
            ("What", driver.summary.clone()),
            ("From", driver.path.clone()),
            ("Can", driver.capabilities.join(", ")),
        ];
        text += &pairs(rows.into_iter().filter(|(_, value)| !value.is_empty()));
        text += &calls(&driver.calls);
        text += &options("--driver-opts", &driver.options, |_| "");
        let note = |option: &DriverOption| if option.docker { "" } else { " (not by Docker's users)" };
        text += &options("create --opt", &driver.create_options, note);
    }
    text
}

fn calls(calls: &[DriverCall]) -> String {
    if calls.is_empty() {
        return String::new();
    }
    let rows = calls.iter().map(|call| {
        let state = if call.waiting { "waits for others" } else { "not answered" };
        let age = format!("{} s", call.seconds);
        row![call.method, or_dash(&call.volume), age, state, call.request_id]
    });
    table(&["CALL", "VOLUME", "AGE", "STATE", "REQUEST"], rows)
}

fn options(title: &str, options: &[DriverOption], note: impl Fn(&DriverOption) -> &'static str) -> String {
    if options.is_empty() {
        return String::new();
    }
    let rows = options.iter().map(|option| {
        let default = match (&option.default, option.required) {
            (_, true) => "required".to_owned(),
            (Some(default), false) => default.clone(),
            (None, false) => "-".to_owned(),
        };
        row![option.name, default, format!("{}{}", option.help, note(option))]
    });
    table(&[title, "DEFAULT", ""], rows)
}

/// A line of `events`.
pub fn event(event: &Event) -> String {
    let about = [&event.volume, &event.snapshot, &event.url, &event.driver, &event.message];
    let about: Vec<&str> = about.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    printable(&format!("{}  {:<16} {}", time(&event.time), event.kind, about.join("  ")))
}

fn all(info: &Pairs) -> String {
    pairs(info.iter().map(|(key, value)| (key.as_str(), value.clone())))
}
