//! What is not as it should be: records against directories, what operations left, locks and room.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{Checked, Finding, Probed, Severity};
use convoy_driver_sdk::tree::remove_tree;
use convoy_driver_sdk::{DriverError, Name, atomic};
use nix::sys::statvfs::statvfs;

use crate::catalog::Catalog;
use crate::error::{Obstacle, VfsError, VfsResult, io_error};
use crate::files::exists;
use crate::image::changed_size;
use crate::layout::{CONFIG, IMAGE, Layout};
use crate::record::VolumeRecord;
use crate::resize::{correct_limit, correct_size};
use crate::trash::{self, Aside};
use crate::workspace::abandoned;
use crate::{reconcile, shelter, sizes};

/// Less than this part (a hundredth) of all bytes, or files, free is worth a word.
const LOW: u64 = 100;
const NAMED: usize = 10;

struct Checker<'a> {
    catalog: &'a Catalog,
    repair: bool,
    findings: Vec<Finding>,
    /// The volumes whose size is not enforced, by why and what to do.
    unlimited: BTreeMap<(String, &'static str), Vec<Name>>,
}

/// Looks for what is not as it should be, and mends what is safe to mend if `repair` says so.
pub(crate) fn check(catalog: &Catalog, repair: bool) -> VfsResult<Checked> {
    if !catalog.layout.config().is_dir() {
        return Err(VfsError::PathGone(catalog.layout.path.clone()));
    }
    let mut checker = Checker { catalog, repair, findings: Vec::new(), unlimited: BTreeMap::new() };
    checker.storage()?;
    checker.leftovers()?;
    checker.set_aside();
    checker.volumes()?;
    checker.sizes();
    checker.kept()?;
    checker.strangers()?;
    Ok(Checked::new(checker.findings))
}

/// Says in a moment whether volumes can be used.
pub(crate) fn probe(layout: &Layout) -> VfsResult<Probed> {
    let path = &layout.path;
    if !layout.config().is_dir() {
        return Err(VfsError::PathGone(path.clone()));
    }
    let [(_, free, all), _] = space(path)?;
    let message = (free < all / LOW).then(|| format!("{free} of {all} bytes are free"));
    Ok(Probed::well().message(message))
}

/// Warns of a share that is mounted without locks: no other host may use it.
pub(crate) fn missing_locks(layout: &Layout) -> Option<String> {
    let path = fs::canonicalize(&layout.path).ok()?;
    let table = MountTable::read().ok()?;
    let mount = table.containing(&path)?;
    let unlocked = |option: &String| {
        option == "nolock" || option.starts_with("local_lock=") && option != "local_lock=none"
    };
    mount.super_options.iter().chain(&mount.options).any(unlocked).then(|| {
        format!(
            "{} is mounted without locks between hosts: no other host may use these volumes",
            mount.mountpoint.display()
        )
    })
}

impl Checker<'_> {
    fn found(
        &mut self,
        severity: Severity,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut Finding {
        self.findings.push(Finding::new(severity, subject, message));
        // Just put there.
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    /// Tells of an error, with what to do about it.
    fn failed(
        &mut self,
        severity: Severity,
        subject: impl Into<String>,
        error: impl Into<DriverError>,
    ) -> &mut Finding {
        let DriverError { message, hint, .. } = error.into();
        let finding = self.found(severity, subject, message);
        finding.hint = hint;
        finding
    }

    /// Tells of something that `mend` makes good, if that is wanted.
    fn repairable(&mut self, subject: String, message: String, mend: impl FnOnce() -> VfsResult<()>) {
        let repaired = self.repair.then(mend);
        let finding = self.found(Severity::Warning, subject, message);
        match repaired {
            None => finding.repairable = true,
            Some(Ok(())) => finding.repaired = true,
            Some(Err(error)) => finding.hint = Some(format!("the repair failed: {error}")),
        }
    }

    /// Room and locks.
    fn storage(&mut self) -> VfsResult<()> {
        let path = &self.catalog.layout.path;
        let subject = path.display().to_string();
        for (what, free, all) in space(path)? {
            if free < all / LOW {
                self.found(Severity::Warning, &subject, format!("{free} of {all} {what} are free"));
            }
        }
        if let Some(text) = missing_locks(&self.catalog.layout) {
            self.found(Severity::Warning, &subject, text);
        }
        let real = fs::canonicalize(path).map_err(io_error("find", path))?;
        if let Err(error) = shelter::refuse_reachable(&real, &real) {
            self.failed(Severity::Error, &subject, error);
        }
        // The name of no volume: nobody waits for that.
        match self.catalog.locks.try_acquire(&Name::from_static(CONFIG)) {
            Ok(_) | Err(VfsError::Locked(_)) => {}
            Err(error) => {
                let finding = self.failed(Severity::Error, subject, error);
                finding.hint.get_or_insert_with(|| "volumes cannot be changed without locks".to_owned());
            }
        }
        Ok(())
    }

    /// What was cut off and is not settled yet.
    fn leftovers(&mut self) -> VfsResult<()> {
        let left: Vec<_> = abandoned(&self.catalog.layout, Duration::ZERO).map(|(dir, _lock)| dir).collect();
        if self.repair && !left.is_empty() {
            let (done, warnings) = reconcile::settle(self.catalog);
            for text in done {
                self.found(Severity::Warning, "unfinished work", text).repaired = true;
            }
            for text in warnings {
                self.found(Severity::Warning, "unfinished work", text);
            }
        }
        for dir in left {
            let text = format!("{} belongs to a process that is gone", dir.display());
            self.repairable("unfinished work".to_owned(), text, || match exists(&dir) {
                true => Err(VfsError::Unsettled(dir.clone())),
                false => Ok(()),
            });
        }
        let config = self.catalog.layout.config();
        let temporary = temporaries(&config).map_err(io_error("read the directory", &config))?;
        if temporary > 0 {
            let text = format!("{temporary} half-written files of interrupted writes");
            self.repairable(config.display().to_string(), text, || {
                atomic::clean(&config).map(drop).map_err(io_error("clean", &config))
            });
        }
        Ok(())
    }

    /// What could not be removed or settled.
    fn set_aside(&mut self) {
        for aside in trash::aside(&self.catalog.layout.aside()) {
            let Aside { path, volume, why, deleted, size } = aside;
            let shown = path.display();
            if deleted {
                let text = format!("{size} of what was deleted are still at {shown}: {why}");
                self.repairable(format!("volume {volume}"), text, || Ok(remove_tree(&path)?));
            } else {
                self.found(
                    Severity::Warning,
                    format!("volume {volume}"),
                    format!("{size} are at {shown}: {why}"),
                );
            }
            let by_hand = match deleted {
                true => format!(
                    "convoy doctor --repair tries again; by hand: chattr -R -i -a {shown}; rm -rf {shown}"
                ),
                false => format!("take out of it what is needed, then remove it: rm -rf {shown}"),
            };
            if let Some(finding) = self.findings.last_mut().filter(|finding| !finding.repaired) {
                finding.hint.get_or_insert(by_hand);
            }
        }
    }

    /// Records, and whether what they say is there.
    fn volumes(&mut self) -> VfsResult<()> {
        let listing = self.catalog.records.load_all()?;
        for path in listing.misnamed {
            let text = "a record whose name no volume can have";
            self.found(Severity::Warning, path.display().to_string(), text).hint = Some(
                "rename the directory and the record (its file and its \"Name\") to use the volume"
                    .to_owned(),
            );
        }
        for (name, record) in listing.records {
            let subject = format!("volume {name}");
            match record {
                Err(error) => {
                    self.failed(Severity::Error, subject, error);
                }
                Ok(record) => self.volume(&subject, &record),
            }
        }
        Ok(())
    }

    fn volume(&mut self, subject: &str, record: &VolumeRecord) {
        let data = self.catalog.data(record);
        if !data.is_dir() {
            let text = format!("its data is not at {}", data.display());
            self.found(Severity::Error, subject, text).hint = Some(
                "is the file system with the volumes mounted? If the data is gone, delete the volume"
                    .to_owned(),
            );
        } else if record.prepare_for_vm && !data.join(IMAGE).is_file() {
            self.found(Severity::Error, subject, format!("its image {IMAGE} is missing"));
        } else if let Some(size) = changed_size(record, &data) {
            let text = format!("its image has {size} bytes, and its record says {}", record.size);
            let catalog = self.catalog;
            self.repairable(subject.to_owned(), text, || correct_size(catalog, &record.name));
        }
        match sizes::enforced(self.catalog, record) {
            // Without its data it has more urgent troubles.
            Some(Err(_)) if !data.is_dir() => {}
            Some(Err(obstacle @ Obstacle::Differs(_))) => {
                let text = format!("{obstacle}, and its record says {}", record.size);
                let catalog = self.catalog;
                self.repairable(subject.to_owned(), text, || correct_limit(catalog, &record.name));
            }
            Some(Err(obstacle)) => {
                let names = self.unlimited.entry((obstacle.to_string(), obstacle.hint())).or_default();
                names.push(record.name.clone());
            }
            Some(Ok(())) | None => {}
        }
        for snapshot in record.snapshots.values() {
            let path = self.catalog.snapshot_path(record, snapshot);
            if !exists(&path) {
                let text = format!("the data of its snapshot {} is not at {}", snapshot.name, path.display());
                self.found(Severity::Error, subject, text).hint =
                    Some("delete the snapshot if its data is gone for good".to_owned());
            }
        }
    }

    /// Sizes that are only written down.
    fn sizes(&mut self) {
        for ((why, hint), names) in std::mem::take(&mut self.unlimited) {
            let shown: Vec<_> = names.iter().take(NAMED).map(Name::as_str).collect();
            let more = names.len() - shown.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let text = format!("the sizes of {}{more} are not enforced: {why}", shown.join(", "));
            self.found(Severity::Info, "sizes", text).hint = Some(hint.to_owned());
        }
    }

    /// Records of volumes whose data was kept, and is there no more.
    fn kept(&mut self) -> VfsResult<()> {
        for (name, record) in self.catalog.kept.load_all()?.records {
            let subject = format!("kept volume {name}");
            match record {
                Err(error) => {
                    self.failed(Severity::Warning, subject, error);
                }
                Ok(record) if !exists(&self.catalog.data(&record)) && record.snapshots.is_empty() => {
                    let catalog = self.catalog;
                    self.repairable(subject, "a record of data that is gone".to_owned(), || {
                        Ok(catalog.kept.delete(&name)?)
                    });
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Directories that no record speaks of. What is in them may be dear to somebody: they are only told.
    fn strangers(&mut self) -> VfsResult<()> {
        let layout = &self.catalog.layout;
        for name in directories(&layout.path)?.into_iter().filter(|name| name.as_str() != CONFIG) {
            if !self.catalog.records.exists(&name)? && !self.catalog.kept.exists(&name)? {
                self.found(Severity::Warning, format!("volume {name}"), "its directory has no record").hint =
                    Some(format!("a create of {name} takes it over"));
            }
        }
        let snapshots = layout.config().join("snapshots");
        for volume in directories(&snapshots)? {
            let record = match self.catalog.record(&volume) {
                Ok(None) => self.catalog.kept_record(&volume),
                other => other,
            };
            // What a damaged one knows is known to nobody.
            let Ok(record) = record else { continue };
            for snapshot in directories(&layout.snapshots(&volume))? {
                if !record.as_ref().is_some_and(|record| record.snapshots.contains_key(&snapshot)) {
                    let path = layout.snapshot(&volume, &snapshot);
                    let text = format!("no record speaks of {}", path.display());
                    self.found(Severity::Warning, format!("snapshot {snapshot} of {volume}"), text).hint =
                        Some("remove the directory if nobody needs it".to_owned());
                }
            }
        }
        Ok(())
    }
}

/// Bytes and files of a file system: how many are free, and how many there are.
fn space(path: &Path) -> VfsResult<[(&'static str, u64, u64); 2]> {
    let space = statvfs(path).map_err(io_error("look at", path))?;
    let unit = space.fragment_size();
    Ok([
        ("bytes", space.blocks_available() * unit, space.blocks() * unit),
        ("files", space.files_available(), space.files()),
    ])
}

/// The directories whose names volumes and snapshots can have.
fn directories(dir: &Path) -> VfsResult<Vec<Name>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io_error("read the directory", dir))?,
    };
    let mut names: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Name::parse(entry.file_name().to_str()?).ok())
        .collect();
    names.sort();
    Ok(names)
}

/// How many temporary files nobody writes any more.
fn temporaries(dir: &Path) -> std::io::Result<usize> {
    let left = fs::read_dir(dir)?.flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(atomic::is_temporary)
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
    });
    Ok(left.count())
}
