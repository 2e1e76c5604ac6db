//! What cases put into volumes, and whether it is still there.

use crate::check::{Outcome, ensure, io, same};
use crate::pattern::{self, Tree};
use crate::rules::{self, Rule};
use crate::subject::Subject;
use convoy_driver_sdk::Name;
use std::fmt::Display;
use std::path::Path;

/// Writes the one file that [`has_file`] looks for into a mounted volume.
pub(super) fn write_file(path: &Path) -> Outcome {
    io(rules::MOUNT, "write a file into the volume", std::fs::write(path.join("file"), "content"))
}

/// As [`write_file`], of a volume that is not mounted.
pub(super) fn put_file(kit: &Subject, volume: &Name) -> Outcome {
    write_file(&kit.mount(volume)?)?;
    kit.unmount(volume)
}

pub(super) fn has_file(path: &Path, rule: Rule, what: &str) -> Outcome {
    let content = std::fs::read_to_string(path.join("file")).unwrap_or_default();
    same(rule, what, &"content".to_owned(), &content)
}

/// As [`has_file`]; the volume is unmounted afterwards.
pub(super) fn keeps_file(kit: &Subject, volume: &Name, rule: Rule, what: &str) -> Outcome {
    has_file(&kit.mount(volume)?, rule, what)?;
    kit.unmount(volume)
}

/// Fills a mounted volume with files that are hard to keep, and reads them.
pub(super) fn fill_volume(path: &Path, seed: u64) -> Outcome<Tree> {
    io(rules::MOUNT, "write files into the volume", pattern::write(path, seed))?;
    io(rules::MOUNT, "read the volume", pattern::read(path))
}

/// Makes a volume with such files, which is not mounted.
pub(super) fn filled(kit: &Subject, purpose: &str) -> Outcome<(Name, Tree)> {
    let name = kit.create(purpose)?;
    let files = fill_volume(&kit.mount(&name)?, 4)?;
    kit.unmount(&name)?;
    Ok((name, files))
}

/// The tree at a path is the one expected. `reading` and `what` begin the messages.
pub(super) fn same_files(
    rule: Rule,
    reading: impl Display,
    path: &Path,
    expected: &Tree,
    what: impl Display,
) -> Outcome {
    let found = io(rule, reading, pattern::read(path))?;
    let differences = pattern::differences(expected, &found);
    ensure(rule, differences.is_empty(), || format!("{what}: {}", differences.join("; ")))
}

/// A volume that was taken back from `is` to `was` is one of both; and `was`, if that was acknowledged.
pub(super) fn reverted_or_not(
    kit: &Subject,
    (rule, reading): (Rule, Rule),
    (volume, was, is): (&Name, &Tree, &Tree),
    acknowledged: bool,
    when: impl Display,
) -> Outcome {
    let path = kit.mount(volume)?;
    let found = io(reading, "read the volume", pattern::read(&path))?;
    kit.unmount(volume)?;
    let (new, old) = (pattern::differences(was, &found), pattern::differences(is, &found));
    ensure(rule, new.is_empty() || (old.is_empty() && !acknowledged), || {
        let new = new.join("; ");
        format!("{when}: expected the volume as before or as the snapshot, found neither: {new}")
    })
}
