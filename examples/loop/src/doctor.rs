//! What `convoy doctor` asks: whether the records and the files agree.

use convoy_driver_sdk::protocol::{Checked, Finding, Severity};
use convoy_driver_sdk::{Name, Result};
use std::collections::BTreeSet;
use std::path::Path;

use crate::{LoopImages, images};

impl LoopImages {
    /// Nothing here is repaired: what a crash leaves, the next open has repaired already, and the rest needs
    /// a person.
    pub(crate) fn examine(&self) -> Result<Checked> {
        let mut findings = Vec::new();
        let listing = self.records.load_all()?;
        let mut names: BTreeSet<Name> = BTreeSet::new();
        for (name, record) in listing.records {
            let subject = format!("volume {name}");
            match record {
                Err(damaged) => findings.push(
                    Finding::new(Severity::Error, subject, damaged.to_string())
                        .hint("put a good copy of the record there, or move it away to forget the volume"),
                ),
                Ok(record) => {
                    let snapshots =
                        record.snapshots.keys().map(|snapshot| self.images.snapshot(&name, snapshot));
                    for image in std::iter::once(self.images.volume(&name)).chain(snapshots) {
                        if let Err(error) = images::length(&image) {
                            findings.push(
                                Finding::new(Severity::Error, &subject, error.message)
                                    .hint("is the file system with the images mounted?"),
                            );
                        }
                    }
                }
            }
            names.insert(name);
        }
        for misnamed in listing.misnamed {
            let text = format!("{} is no record of a volume", misnamed.display());
            findings.push(Finding::new(Severity::Warning, "records", text).hint("move it away"));
        }
        for (dir, suffix) in [("volumes", ".img"), ("snapshots", "")] {
            self.strangers(&self.images.path().join(dir), suffix, &names, &mut findings)?;
        }
        if let Some(message) = self.look()?.message {
            findings.push(Finding::new(Severity::Warning, "images", message).hint("free some space there"));
        }
        Ok(Checked::new(findings))
    }

    /// Files that no record speaks of: somebody put them there, or removed a record.
    fn strangers(
        &self,
        dir: &Path,
        suffix: &str,
        names: &BTreeSet<Name>,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        for entry in std::fs::read_dir(dir).map_err(images::io("read", dir))? {
            let entry = entry.map_err(images::io("read", dir))?;
            let file = entry.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(suffix));
            if !name.is_some_and(|name| names.contains(name)) {
                let text = format!("{} belongs to no volume", entry.path().display());
                let hint = "move it away, or restore the record of its volume";
                findings.push(Finding::new(Severity::Warning, "images", text).hint(hint));
            }
        }
        Ok(())
    }
}
