//! `convoy doctor`: tools, pool, and whether records and pool tell the same.

use super::DeviceMapper;
use crate::error::Result as DmResult;
use crate::pool::PoolStatus;
use crate::state::{ThinId, VolumeRecord};
use crate::tools;
use convoy_driver_sdk::command::{Command, CommandError};
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::{Check, Checked, Finding, Severity};
use convoy_driver_sdk::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Above so many mappings the blocks that nobody owns are not looked for: the list of all mappings is a file
/// of 70 bytes for each.
const MAX_MAPPINGS: u64 = 2_000_000;

impl DeviceMapper {
    pub(super) fn examine(&self, request: Check, context: &Context) -> Result<Checked> {
        let mut findings = self.check_tools(context);
        if self.pool.kernel().state(self.pool.name())?.is_none() {
            findings.push(self.check_offline(context));
            return Ok(Checked::new(findings));
        }
        let status = self.pool.status()?;
        findings.push(self.check_pool(&status));
        if status.metadata_snapshot {
            findings.extend(self.check_metadata_snapshot(request.repair, context));
        }
        findings.extend(self.check_pending(request.repair, context));
        match self.check_records(context) {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(
                self.about_pool(
                    Severity::Error,
                    format!("its devices cannot be compared with the records: {error}"),
                )
                .hint("install thin-provisioning-tools; see what the finding about the pool says"),
            ),
        }
        Ok(Checked::new(findings))
    }

    fn about_pool(&self, severity: Severity, message: String) -> Finding {
        Finding::new(severity, format!("pool {}", self.pool.name()), message)
    }

    /// Which programs there are, of thin-provisioning-tools and of the file systems in use.
    fn check_tools(&self, context: &Context) -> Vec<Finding> {
        let mut kinds: BTreeSet<&str> =
            self.store.all().iter().map(|record| record.filesystem.as_str()).collect();
        kinds.insert(self.settings.filesystem.as_str());
        let mut wanted: Vec<_> =
            THIN_TOOLS.iter().map(|(program, what)| (*program, tools::PACKAGE, *what)).collect();
        for (_, package, programs) in FS_TOOLS.iter().filter(|(kind, ..)| kinds.contains(kind.as_str())) {
            wanted.extend(programs.iter().map(|(program, what)| (*program, *package, *what)));
        }
        let mut findings = Vec::new();
        for (program, package, what) in wanted {
            // Not all of them know this option; here it matters that they start.
            let asked = Command::new(program).package(package).arg("-V").run(context);
            if let Err(error @ (CommandError::NotInstalled { .. } | CommandError::Start { .. })) = asked {
                findings.push(
                    Finding::new(
                        Severity::Error,
                        format!("tool {program}"),
                        format!("{error}; it is needed to {what}"),
                    )
                    .hint(format!("install the package {package}")),
                );
            }
        }
        let version = self.tools.version.as_deref().unwrap_or("not installed");
        findings.push(if self.tools.no_delta.is_empty() {
            Finding::new(Severity::Info, tools::PACKAGE, format!("version {version}"))
        } else {
            Finding::new(Severity::Warning, tools::PACKAGE, self.tools.no_delta.clone())
                .hint("backups read everything in use until another version is installed")
        });
        findings
    }

    fn check_pool(&self, status: &PoolStatus) -> Finding {
        match self.warning(status) {
            Some(warning) => {
                let severity = if self.works(status) { Severity::Warning } else { Severity::Error };
                self.about_pool(severity, warning)
            }
            None => self.about_pool(
                Severity::Info,
                format!("{}; data: {}, metadata: {}", status.state.as_str(), status.data, status.metadata),
            ),
        }
    }

    /// The pool does not run: somebody ended it under this driver. Its metadata can be checked now, and is
    /// not changed.
    fn check_offline(&self, context: &Context) -> Finding {
        let hint = "start the daemon again: it starts the pool";
        match tools::look_at_metadata(self.pool.metadata(), context) {
            Ok(()) => self.about_pool(
                Severity::Error,
                "it does not run; thin_check finds its metadata whole".to_owned(),
            ),
            Err(error) => self.about_pool(Severity::Error, format!("it does not run; {error}")),
        }
        .hint(hint)
    }

    /// A metadata snapshot that no reader of ours keeps hinders every backup.
    fn check_metadata_snapshot(&self, repair: bool, context: &Context) -> Option<Finding> {
        let released = self.reader.release_stale(&self.pool, repair, context)?;
        let finding = self
            .about_pool(
                Severity::Warning,
                "somebody keeps a metadata snapshot, which backups need for themselves".to_owned(),
            )
            .hint(format!("dmsetup message {} 0 release_metadata_snap", self.pool.name()));
        Some(finding.repaired(released).repairable(true))
    }

    /// What was cut off, or waits for a device to be closed.
    fn check_pending(&self, repair: bool, context: &Context) -> Vec<Finding> {
        let waiting = self.journal.abandoned();
        if waiting.is_empty() {
            return Vec::new();
        }
        if repair {
            for line in self.settle(context) {
                tracing::info!("{line}");
            }
        }
        let left: BTreeSet<ThinId> = self.journal.abandoned().iter().map(|pending| pending.dev_id).collect();
        let told = waiting.into_iter().map(|pending| {
            let message = format!("{}: the device {} is still to be deleted", pending.what, pending.dev_id);
            let finding = self
                .about_pool(Severity::Info, message)
                .hint("it goes when nobody has it open any more: dmsetup info -c says who is open");
            finding.repaired(!left.contains(&pending.dev_id)).repairable(true)
        });
        told.collect()
    }

    /// Records without devices, devices without records, and blocks that no device has.
    fn check_records(&self, context: &Context) -> DmResult<Vec<Finding>> {
        let present = self.reader.mapped(&self.pool, &self.root, context)?;
        let mut findings = Vec::new();
        let records = self.store.all();
        for record in &records {
            findings.extend(missing(record, &present));
        }
        for (name, why) in self.store.page(None, usize::MAX).unreadable {
            findings.push(
                Finding::new(Severity::Error, format!("volume {name}"), why)
                    .hint("put a good copy of the record back; it is read with the next use"),
            );
        }
        let recorded = self.store.ids();
        let pending: BTreeSet<ThinId> = self.journal.pending();
        for id in present.keys().filter(|id| !recorded.contains(id) && !pending.contains(id)) {
            findings.push(
                self.about_pool(
                    Severity::Warning,
                    format!(
                        "it has a device {id} that no record names; it is left alone, for it may be what \
                        a lost record named"
                    ),
                )
                .hint(format!("if it is not needed: dmsetup message {} 0 'delete {id}'", self.pool.name())),
            );
        }
        findings.extend(self.check_blocks(present.values().sum(), context)?);
        Ok(findings)
    }

    /// Blocks that are taken and that no device has: a power cut leaves them.
    fn check_blocks(&self, mappings: u64, context: &Context) -> DmResult<Option<Finding>> {
        if mappings > MAX_MAPPINGS {
            let text = format!(
                "{mappings} mappings: blocks that nobody owns are not looked for above {MAX_MAPPINGS}"
            );
            return Ok(Some(self.about_pool(Severity::Info, text)));
        }
        let block = self.pool.block_bytes();
        // What is given out or taken back meanwhile is not lost: only what is too much before and after.
        let before = self.pool.status()?.data;
        let owned = self.reader.owned_blocks(&self.pool, before.total / block, &self.root, context)?;
        let after = self.pool.status()?.data;
        let lost = (before.used.min(after.used) / block).saturating_sub(owned);
        if lost == 0 {
            return Ok(None);
        }
        let text = format!(
            "{lost} blocks of {block} bytes are taken and belong to no device, as a power cut leaves them"
        );
        let (pool, metadata) = (self.pool.name(), self.pool.metadata().display());
        Ok(Some(self.about_pool(Severity::Warning, text).hint(format!(
            "a start after a reboot takes them back with thin-provisioning-tools 1.0 or later; with any \
             version: stop the daemon, unmount, `dmsetup remove` the volumes and {pool}, `thin_repair -i \
             {metadata} -o <another device>` and start with that as dm.metadatadev and --ignore-config-file"
        ))))
    }
}

/// The volume's or its snapshots' devices that the pool does not have.
fn missing(record: &VolumeRecord, present: &BTreeMap<ThinId, u64>) -> Vec<Finding> {
    let subject = format!("volume {}", record.name);
    let mut findings = Vec::new();
    if !present.contains_key(&record.dev_id) {
        let text = format!("the pool has no device {}, which its record names", record.dev_id);
        findings.push(
            Finding::new(Severity::Error, subject.clone(), text)
                .hint("revert it to a snapshot, or delete it and restore a backup"),
        );
    }
    for snapshot in record.snapshots.values().filter(|snapshot| !present.contains_key(&snapshot.dev_id)) {
        let text = format!("the pool has no device {} of its snapshot {}", snapshot.dev_id, snapshot.name);
        findings.push(Finding::new(Severity::Error, subject.clone(), text).hint("delete the snapshot"));
    }
    findings
}

/// Programs, each with what it is needed for.
type Programs = &'static [(&'static str, &'static str)];

const THIN_TOOLS: Programs = &[
    ("thin_delta", "back up what is in use, or changed"),
    ("thin_ls", "compare records with the pool"),
    ("thin_check", "check the pool's metadata when it starts"),
    ("thin_dump", "find blocks that nobody owns"),
    ("thin_repair", "mend damaged metadata"),
];

const FS_TOOLS: [(FsKind, &str, Programs); 3] = [
    (FsKind::Ext4, "e2fsprogs", &[("mkfs.ext4", "create volumes"), ("resize2fs", "resize volumes")]),
    (FsKind::Xfs, "xfsprogs", &[("mkfs.xfs", "create volumes"), ("xfs_growfs", "resize volumes")]),
    (
        FsKind::Btrfs,
        "btrfs-progs",
        &[
            ("mkfs.btrfs", "create volumes"),
            ("btrfs", "resize volumes"),
            ("btrfstune", "clone and restore volumes"),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_pool_lacks_is_told_of_volume_and_snapshot() {
        let text = include_str!("../../tests/fixtures/v0.5.2/root/devicemapper_volume_pgdata.json");
        let record: VolumeRecord = serde_json::from_str(text).unwrap();
        let told = |ids: &[ThinId]| {
            let found = missing(&record, &ids.iter().map(|id| (*id, 0)).collect());
            found.into_iter().map(|finding| finding.message).collect::<Vec<_>>()
        };
        assert!(told(&[1, 2, 3]).is_empty());
        assert_eq!(told(&[2, 3]), ["the pool has no device 1, which its record names"]);
        assert_eq!(told(&[1, 3]).len(), 1);
    }
}
