//! Backups of the storage's own.

use super::copies::equals;
use super::data::TwoDays;
use super::snapshots;
use crate::check::{Outcome, already_exists, done, ensure, not_found, refused, same};
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::protocol::{
    BackupInfo, CreateBackup, DeleteBackup, InspectBackup, ListBackups, Volume,
};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};

pub(super) fn request(volume: &Name, snapshot: &Name) -> CreateBackup {
    CreateBackup::new(volume.clone(), snapshot.clone())
}

pub(super) fn make(kit: &Subject, volume: &Name, snapshot: &Name) -> Outcome<String> {
    let url = done(rules::BACKUP, "backup.create", kit.call(request(volume, snapshot)))?.url;
    kit.backup(&url);
    Ok(url)
}

pub(super) fn restore(kit: &Subject, name: &Name, url: &str) -> Result<Volume, DriverError> {
    let mut request = kit.create_request(name);
    request.options.insert("backup".to_owned(), url.to_owned());
    kit.call(request)
}

fn inspect(kit: &Subject, url: &str) -> Result<BackupInfo, DriverError> {
    kit.call(InspectBackup::new(url.to_owned()))
}

fn delete(kit: &Subject, url: &str) -> Result<(), DriverError> {
    kit.call(DeleteBackup::new(url.to_owned())).map(drop)
}

fn listed(kit: &Subject, volume: Option<&Name>) -> Outcome<Vec<String>> {
    let request = ListBackups::new().volume(volume.cloned());
    let found = done(rules::BACKUP, "backup.list", kit.call(request))?;
    Ok(found.backups.into_iter().map(|backup| backup.url).collect())
}

pub(super) fn life(kit: &Subject) -> Outcome {
    let description = kit.handle().description().clone();
    let scheme = description.backup_scheme.unwrap_or_else(|| description.name.to_string());
    let days = TwoDays::make(kit)?;
    let url = make(kit, &days.volume, &days.monday)?;
    ensure(rules::BACKUP, url.starts_with(&format!("{scheme}://")), || {
        format!("backup.create: expected a URL that begins with {scheme}://, found {url}")
    })?;
    // Its answer may have been lost.
    make(kit, &days.volume, &days.monday)?;
    let info = done(rules::BACKUP, "backup.inspect", inspect(kit, &url))?;
    same(rules::BACKUP, "the URL of the backup inspected", &url, &info.url)?;
    let of = (info.volume.as_str(), info.snapshot.as_str());
    same(rules::BACKUP, "what the backup is of", &(days.volume.as_str(), "monday"), &of)?;
    for volume in [None, Some(&days.volume)] {
        let urls = listed(kit, volume)?;
        ensure(rules::BACKUP, urls.contains(&url), || {
            format!("backup.list: expected {url}, found {urls:?}")
        })?;
    }
    let another = kit.name("none");
    let urls = listed(kit, Some(&another))?;
    ensure(rules::BACKUP, urls.is_empty(), || {
        format!("backup.list of a volume without backups: expected none, found {urls:?}")
    })?;
    // Beside the volume it is of, which goes on.
    let restored = |what: &str| {
        let name = kit.name("restored");
        let made = done(rules::BACKUP_DATA, &format!("volume.create of {what}"), restore(kit, &name, &url))?;
        same(rules::BACKUP_DATA, "the name of the volume made of a backup", &name, &made.name)?;
        equals(kit, &name, &days.was, rules::BACKUP_DATA, what)?;
        kit.unmount(&name)
    };
    restored("a backup")?;
    let taken = restore(kit, &days.volume, &url);
    already_exists(rules::CREATE, "volume.create of a backup, over a volume", taken)?;
    done(rules::SNAPSHOT, "snapshot.delete", snapshots::delete(kit, &days.volume, &days.monday))?;
    restored("a backup whose snapshot is deleted")?;
    kit.unmount(&days.volume)?;
    done(rules::DELETE, "volume.delete", kit.delete(&days.volume))?;
    kit.restart()?;
    restored("a backup whose volume is deleted")?;
    done(rules::BACKUP, "backup.delete", delete(kit, &url))?;
    gone(kit, &url)
}

/// Nothing knows the backup any more.
fn gone(kit: &Subject, url: &str) -> Outcome {
    not_found(rules::BACKUP, "backup.delete of what is not there", delete(kit, url))?;
    not_found(rules::BACKUP, "backup.inspect of what is not there", inspect(kit, url))?;
    let name = kit.name("none");
    not_found(rules::BACKUP, "volume.create of a backup that is not there", restore(kit, &name, url))?;
    not_found(rules::BACKUP, "volume.get after a refused create", kit.get(&name))?;
    let urls = listed(kit, None)?;
    ensure(rules::BACKUP, !urls.iter().any(|listed| listed == url), || {
        format!("backup.list: {url} is not there and listed")
    })
}

pub(super) fn unknown(kit: &Subject) -> Outcome {
    let volume = kit.create("unknown")?;
    let snapshot = Name::from_static("none");
    let answer = kit.call(request(&volume, &snapshot));
    not_found(rules::UNKNOWN, "backup.create of no snapshot", answer)?;
    let answer = kit.call(request(&kit.name("none"), &snapshot));
    not_found(rules::UNKNOWN, "backup.create of no volume", answer)?;
    for url in ["", "kit", "kit-no-such-scheme://here/backup-1"] {
        let invalid = [ErrorKind::InvalidArgument, ErrorKind::NotFound];
        refused(rules::BACKUP, &format!("backup.inspect of {url:?}"), &invalid, inspect(kit, url))?;
        refused(rules::BACKUP, &format!("backup.delete of {url:?}"), &invalid, delete(kit, url))?;
    }
    Ok(())
}
