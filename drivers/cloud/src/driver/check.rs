//! What is not as it should be, for `convoy doctor`. Repairs finish or undo what was cut off; nothing is
//! deleted that somebody may have written.

use super::{CloudDriver, recover};
use crate::provider::{CloudVolume, Handle, Provider, Purpose, SnapshotState};
use crate::record::VolumeRecord;
use convoy_driver_sdk::protocol::{Check, Checked, Finding, Health, Opened, Severity};
use convoy_driver_sdk::{Context, Result};

impl<P: Provider> CloudDriver<P> {
    pub(super) fn check(&self, request: Check, context: &Context) -> Result<Checked> {
        let mut findings = Vec::new();
        self.check_operations(request.repair, &mut findings, context)?;
        let (records, misnamed) = self.records.all()?;
        findings.extend(misnamed.iter().map(|path| {
            Finding::new(Severity::Warning, "records", format!("{} is no record of a volume", path.display()))
                .hint("see what it is, and move it away")
        }));
        let mut good = Vec::new();
        for (name, record) in &records {
            match record {
                Ok(record) => good.push(record),
                Err(error) => findings.push(
                    Finding::new(Severity::Error, format!("volume {name}"), error.message.clone())
                        .hint("restore the record, or move it away and take the volume again by its name"),
                ),
            }
        }
        self.check_access(&good, &mut findings, context);
        self.check_volumes(&good, request.repair, &mut findings, context)?;
        self.check_orphans(request.repair, &mut findings, context);
        Ok(Checked::new(findings))
    }

    /// Operations that were cut off.
    fn check_operations(&self, repair: bool, findings: &mut Vec<Finding>, context: &Context) -> Result<()> {
        if repair {
            let mut swept = Opened::default();
            self.sweep(&mut swept, context)?;
            let done = |line| Finding::new(Severity::Warning, "operations", line).repaired(true);
            findings.extend(swept.recovered.into_iter().map(done));
        }
        for (token, intent) in self.intents.all()? {
            if self.intents.is_live(&token) {
                continue;
            }
            findings.push(match intent {
                Ok(intent) => Finding::new(
                    Severity::Warning,
                    format!("volume {}", intent.label.volume),
                    format!(
                        "an operation that began at {} was cut off and is not undone yet",
                        intent.started
                    ),
                )
                .hint(format!("it is tried again every minute; what it made bears the token {token}"))
                .repairable(!repair),
                Err(error) => Finding::new(Severity::Error, "operations", error.to_string()).hint(format!(
                    "see by its token {token} what it left in the cloud, delete that and the file"
                )),
            });
        }
        Ok(())
    }

    /// Whether the credentials allow what the driver does.
    fn check_access(&self, records: &[&VolumeRecord], findings: &mut Vec<Finding>, context: &Context) {
        let volume = records.first().map(|record| record.id.as_str());
        let snapshot = records.iter().flat_map(|record| record.snapshots.values()).next();
        let asked = self.provider.access(volume, snapshot.map(|snapshot| snapshot.id.as_str()), context);
        let mut allowed = Vec::new();
        for (action, answer) in asked {
            match answer {
                Ok(()) => allowed.push(action),
                Err(error) => {
                    let subject = format!("access to {action}");
                    let mut found = Finding::new(Severity::Error, subject, error.message);
                    found.hint = error.hint;
                    findings.push(found);
                }
            }
        }
        if !allowed.is_empty() {
            let place = format!("{} in {}", self.provider.instance(), self.provider.region());
            let text = format!("{place} may: {}", allowed.join(", "));
            findings.push(Finding::new(Severity::Info, "access", text));
        }
    }

    /// Records against what the provider and the kernel have.
    fn check_volumes(
        &self,
        records: &[&VolumeRecord],
        repair: bool,
        findings: &mut Vec<Finding>,
        context: &Context,
    ) -> Result<()> {
        self.cache.clear();
        let seen = self.look(records, context);
        if let Some(reason) = seen.silent {
            findings.push(
                Finding::new(Severity::Error, "volumes", reason).hint("see that the provider can be reached"),
            );
            return Ok(());
        }
        let table = self.mount_table()?;
        for record in records {
            let subject = format!("volume {}", record.name);
            if record.deleting {
                findings.push(self.check_deletion(record, repair, context));
                continue;
            }
            let volume = seen.volumes.get(&record.id);
            if let Health::Damaged(reason) = self.view(record, &seen, &table).health {
                findings.push(Finding::new(Severity::Error, &subject, reason));
            } else if let Some(volume) = volume {
                findings.extend(self.check_attachment(&subject, volume));
            }
            for entry in record.snapshots.values() {
                let subject = format!("snapshot {} of volume {}", entry.name, record.name);
                match seen.snapshots.get(&entry.id).map(|snapshot| &snapshot.state) {
                    None => findings.push(
                        Finding::new(
                            Severity::Error,
                            subject,
                            format!("{} no longer exists in {}", entry.id, self.provider.region()),
                        )
                        .hint("forget it with `convoy snapshot delete`"),
                    ),
                    Some(SnapshotState::Failed(reason)) => findings.push(
                        Finding::new(Severity::Error, subject, format!("{} failed: {reason}", entry.id))
                            .hint("delete it and take another"),
                    ),
                    Some(SnapshotState::Pending(_) | SnapshotState::Completed) => {}
                }
            }
        }
        Ok(())
    }

    fn check_deletion(&self, record: &VolumeRecord, repair: bool, context: &Context) -> Finding {
        let message = "its deletion was cut off".to_owned();
        let mut found = Finding::new(Severity::Warning, format!("volume {}", record.name), message);
        if !repair {
            return found.hint("delete it again").repairable(true);
        }
        match self.delete_recorded(record, context) {
            Ok(()) => found.repaired(true),
            Err(error) => {
                found.message = format!("{}: {}", found.message, error.message);
                found
            }
        }
    }

    /// A volume that is whole: can it be used here?
    fn check_attachment(&self, subject: &str, volume: &CloudVolume) -> Option<Finding> {
        if let Err(error) = self.provider.attachable(volume) {
            let mut found = Finding::new(Severity::Error, subject, error.message);
            found.hint = error.hint;
            return Some(found);
        }
        let place = volume.attachment.as_ref()?;
        if !place.ready {
            let text = format!("{} is neither attached nor detached: that is under way, or stuck", volume.id);
            return Some(Finding::new(Severity::Warning, subject, text).hint(
                "if it stays so, detach it with the provider's own tools, after its container has stopped",
            ));
        }
        let handle = Handle {
            id: &volume.id,
            cloud_name: volume.cloud_name.as_deref(),
            device: place.device.as_deref(),
        };
        let text = match self.provider.device(handle) {
            Ok(Some(_)) => return None,
            Ok(None) => format!("{} is attached here, but the kernel does not show it", volume.id),
            Err(error) => error.message,
        };
        Some(
            Finding::new(Severity::Error, subject, text)
                .hint("detach and attach it, or restart the instance"),
        )
    }

    /// What this host made and nothing here knows. What only held a copy of a snapshot is deleted by a
    /// repair.
    fn check_orphans(&self, repair: bool, findings: &mut Vec<Finding>, context: &Context) {
        let volumes = self.orphans(context).map(|volumes| {
            volumes.into_iter().map(|volume| self.check_orphan(&volume, repair, context)).collect::<Vec<_>>()
        });
        let snapshots = self.orphan_snapshots(context);
        for found in [volumes, snapshots] {
            match found {
                Ok(found) => findings.extend(found),
                Err(error) => findings.push(Finding::new(
                    Severity::Error,
                    "orphans",
                    format!("cannot look for what was forgotten: {}", error.message),
                )),
            }
        }
    }

    fn check_orphan(&self, volume: &CloudVolume, repair: bool, context: &Context) -> Finding {
        let found =
            Finding::new(Severity::Warning, format!("cloud volume {}", volume.id), recover::orphan(volume));
        let Some(purpose) = recover::forgotten_purpose(volume) else {
            let name = volume.label.as_ref().map_or("", |label| label.volume.as_str());
            return found.hint(format!(
                "if it is not wanted, take it and `convoy delete {name}`: until then it costs"
            ));
        };
        let elsewhere = volume.attachment.as_ref().is_some_and(|place| !place.here);
        if purpose != Purpose::Reading || elsewhere {
            return found.hint("delete it with the provider's own tools if it is not wanted");
        }
        let mut found = found.hint("`convoy doctor --repair` deletes it: it is a copy of a snapshot");
        if !repair {
            return found.repairable(true);
        }
        let deleted = self
            .provider
            .detach(&volume.id, context)
            .and_then(|()| self.provider.delete_volume(&volume.id, context));
        match deleted {
            Ok(()) => found.repaired(true),
            Err(error) => {
                found.message = format!("{} ({})", found.message, error.message);
                found
            }
        }
    }

    fn orphan_snapshots(&self, context: &Context) -> Result<Vec<Finding>> {
        let mut found = self.provider.snapshots_of_host(context)?;
        let known = self.known()?;
        found.retain(|snapshot| !known.has(&snapshot.id, snapshot.label.as_ref()));
        let finding = |snapshot: crate::provider::CloudSnapshot| {
            let of = snapshot.label.as_ref().map_or("", |label| label.volume.as_str());
            let text = format!("it was taken here of {of} ({}), and no volume here knows it", snapshot.size);
            Finding::new(Severity::Warning, format!("cloud snapshot {}", snapshot.id), text)
                .hint("delete it with the provider's own tools if it is not wanted")
        };
        Ok(found.into_iter().map(finding).collect())
    }
}
