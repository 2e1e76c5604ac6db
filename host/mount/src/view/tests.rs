//! Views over plain directories.

use super::*;
use convoy_backup::browse_directory;
use convoy_driver_sdk::Timestamp;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Backups that are directories: each has the name of its own. Counts how often one is opened.
#[derive(Debug)]
struct Directories(PathBuf, AtomicUsize);

impl Shelf for Directories {
    fn open_tree(&self, listed: &Listed) -> BackupResult<Arc<dyn Browse>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        browse_directory(&self.0.join(&listed.backup))
    }

    fn open_image(&self, _: &Listed) -> BackupResult<Arc<dyn ReadAt>> {
        Err(BackupError::Cancelled)
    }

    fn has_files(&self) -> bool {
        false
    }

    fn open_files(&self, _: Arc<dyn ReadAt>) -> Result<Arc<dyn Browse>, MountError> {
        Err(MountError::Keeper("none".to_owned()))
    }
}

fn listed(volume: &str, backup: &str, created: Option<i64>) -> Listed {
    let created = created.map(Timestamp::from_unix);
    Listed { volume: volume.into(), backup: backup.into(), created, kind: BackupKind::Tree }
}

fn shelf(dir: &std::path::Path, backups: &[&str]) -> Arc<Directories> {
    for backup in backups {
        std::fs::create_dir(dir.join(backup)).unwrap();
        std::fs::write(dir.join(backup).join("name"), backup).unwrap();
    }
    Arc::new(Directories(dir.to_owned(), AtomicUsize::new(0)))
}

fn names(view: &View, place: &Place) -> Vec<String> {
    let (mut names, mut from) = (Vec::new(), Cursor::Number(0));
    while from != Cursor::End {
        let (page, next) = view.list(place, &from, 2).unwrap();
        assert!(page.len() <= 2);
        names.extend(page.into_iter().map(|(name, _)| String::from_utf8(name).unwrap()));
        from = next;
    }
    names
}

fn at(view: &View, path: &str) -> Option<Found> {
    let mut place = view.top();
    let mut found = None;
    for name in path.split('/') {
        found = Some(view.lookup(&place, name.as_bytes()).unwrap()?);
        place = found.as_ref()?.place.clone();
    }
    found
}

#[test]
fn backups_are_directories_by_time_and_two_of_one_second_are_two() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(dir.path(), &["b-1", "b-2", "b-3", "odd"]);
    let all = vec![
        listed("vol", "b-3", Some(1_796_019_366)),
        listed("vol", "b-2", Some(1_796_019_366)),
        listed("vol", "b-1", Some(1_796_019_365)),
        listed("vol", "odd", None),
        listed("../up", "b-1", Some(5)),
        listed("another", "..", None),
    ];
    let view = View::new(all, shelf.clone());
    assert_eq!(names(&view, &Place::Top), ["volumes"]);
    assert_eq!(names(&view, &Place::Volumes), ["vol"], "the others are no names of directories");
    let volume = at(&view, "volumes/vol").unwrap().place;
    let seconds = ["latest", "odd", "2026-11-30T06:16:05Z", "2026-11-30T06:16:06Z", "2026-11-30T06:16:06Z-2"];
    assert_eq!(names(&view, &volume), seconds);
    let latest = at(&view, "volumes/vol/latest").unwrap();
    assert_eq!(target(&latest.entry), Some(&b"2026-11-30T06:16:06Z-2"[..]));
    for (path, expected) in [
        ("volumes/vol/odd/name", "odd"),
        ("volumes/vol/2026-11-30T06:16:05Z/name", "b-1"),
        ("volumes/vol/2026-11-30T06:16:06Z/name", "b-2"),
        ("volumes/vol/2026-11-30T06:16:06Z-2/name", "b-3"),
    ] {
        let file = view.open(&at(&view, path).unwrap().place).unwrap();
        assert_eq!(file.data.read_at(0, 99).unwrap(), expected);
    }
    for nothing in ["volumes/none", "volumes/vol/none", "volumes/vol/odd/none", "name"] {
        assert!(at(&view, nothing).is_none(), "{nothing}");
    }
}

#[test]
fn a_backup_is_opened_when_it_is_entered_and_few_stay_open() {
    let dir = tempfile::tempdir().unwrap();
    let backups: Vec<String> = (0..20).map(|number| format!("b-{number:02}")).collect();
    let shelf = shelf(dir.path(), &backups.iter().map(String::as_str).collect::<Vec<_>>());
    let all = backups.iter().zip(0..).map(|(backup, at)| listed("vol", backup, Some(at))).collect();
    let view = View::new(all, shelf.clone());
    let volume = at(&view, "volumes/vol").unwrap().place;
    assert_eq!(names(&view, &volume).len(), 21);
    for number in 0..20 {
        assert!(!view.look(&Place::Backup(number)).unwrap().known);
    }
    assert_eq!(shelf.1.load(Ordering::Relaxed), 0, "nothing was opened");
    for number in 0..20 {
        assert_eq!(names(&view, &Place::Backup(number)), ["name"]);
        assert!(view.look(&Place::Backup(number)).unwrap().known);
        assert!(view.open_count() <= 4, "{}", view.open_count());
    }
    assert_eq!(shelf.1.load(Ordering::Relaxed), 20);
    names(&view, &Place::Backup(19));
    assert_eq!(shelf.1.load(Ordering::Relaxed), 20, "it is open still");
    // What is in use stays open, up to a bound.
    let file = |number| view.open(&Place::File(number, RelPath::new("name").unwrap()));
    let open: Vec<OpenFile> = (0..OPEN_MOST).map(|number| file(number).unwrap()).collect();
    let error = file(OPEN_MOST).unwrap_err().to_string();
    assert!(error.contains("other backups are in use"), "{error}");
    for (number, file) in open.iter().enumerate() {
        assert_eq!(file.data.read_at(0, 99).unwrap(), format!("b-{number:02}"));
    }
    drop(open);
    file(OPEN_MOST).unwrap();
    view.close();
    assert_eq!(view.open_count(), 0);
}

#[test]
fn the_root_of_one_backup_is_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(dir.path(), &["b-1"]);
    let view = View::of_backup(listed("vol", "b-1", None), shelf).unwrap();
    assert_eq!(names(&view, &view.top()), ["name"]);
    assert!(view.look(&view.top()).unwrap().known);
}
