//! What earlier lives left: operations that were cut off, and clean-ups that failed.

use super::CloudDriver;
use crate::intent::{Intent, Operation};
use crate::provider::{CloudVolume, Label, Provider, Purpose};
use crate::record::VolumeRecord;
use crate::wait;
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{Opened, Probed};
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Name, Result, Timestamp, freeze};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long after a request was sent its effect may still come into sight.
const SETTLING: Duration = Duration::from_secs(120);
/// How often to try again what could not be undone.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// How long to wait for the end of what a request that was cut off has begun.
const ARRIVING_LIMIT: Duration = Duration::from_secs(4);

/// How an attempt to undo ended.
pub(super) enum UndoOutcome {
    /// Nothing is left; what was removed, in words.
    Settled(Option<String>),
    /// Nothing was found, but it is too early to be sure.
    Unsettled,
}

impl<P: Provider> CloudDriver<P> {
    /// At the start: finishes deletions, undoes everything else that was cut off, thaws, and reports what
    /// belongs to this host in the cloud without being known here.
    pub(super) fn recover(&self, context: &Context) -> Result<Opened> {
        let mut opened = Opened::default();
        let (records, misnamed) = self.records.all()?;
        opened
            .warnings
            .extend(misnamed.iter().map(|path| format!("{} is no record of a volume", path.display())));
        self.sweep(&mut opened, context)?;
        for record in records.values() {
            match record {
                Err(error) => opened.warnings.push(error.message.clone()),
                Ok(record) if record.deleting => self.finish_deletion(record, &mut opened, context),
                Ok(record) => {
                    self.thaw(record);
                    self.finish_snapshot_deletions(record, &mut opened, context);
                }
            }
        }
        self.report_orphans(&mut opened, context);
        Ok(opened)
    }

    /// Whether the driver is well; now and then, tries again what could not be undone before.
    pub(super) fn probe(&self, context: &Context) -> Result<Probed> {
        let due = {
            let mut swept = self.swept.lock();
            let due = swept.elapsed() >= SWEEP_EVERY;
            if due {
                *swept = Instant::now();
            }
            due
        };
        if due {
            let mut found = Opened::default();
            self.sweep(&mut found, context)?;
            for line in &found.recovered {
                tracing::info!(line, "settled an operation that was cut off");
            }
        }
        let left = self.unsettled()?;
        let message = (left > 0).then(|| format!("{left} operations that were cut off are not settled yet"));
        Ok(Probed::well().message(message))
    }

    /// How many operations were cut off and are not undone yet.
    pub(super) fn unsettled(&self) -> Result<usize> {
        Ok(self.intents.all()?.iter().filter(|(token, _)| !self.intents.is_live(token)).count())
    }

    pub(super) fn sweep(&self, found: &mut Opened, context: &Context) -> Result<()> {
        for (token, intent) in self.intents.all()? {
            let intent = match intent {
                Ok(intent) => intent,
                Err(error) => {
                    found
                        .warnings
                        .push(format!("{error}; see by its token {token} what it left in the cloud"));
                    continue;
                }
            };
            let Some(open) = self.intents.claim(&token, intent) else { continue };
            match self.undo(&open.intent, context) {
                Ok(UndoOutcome::Settled(what)) => {
                    found.recovered.extend(what);
                    // One that stays is settled again, to no effect. It keeps nobody from the others.
                    if let Err(error) = open.done() {
                        found.warnings.push(error.message);
                    }
                }
                Ok(UndoOutcome::Unsettled) => {}
                Err(error) => {
                    let volume = &open.intent.label.volume;
                    found
                        .warnings
                        .push(format!("an operation on {volume} is not undone yet: {}", error.message));
                }
            }
        }
        Ok(())
    }

    /// Removes what an operation left, unless a record says that it was complete. May be repeated.
    pub(super) fn undo(&self, intent: &Intent, context: &Context) -> Result<UndoOutcome> {
        let (records, _) = self.records.all()?;
        let records: Vec<_> = records.into_values().flatten().collect();
        match &intent.operation {
            Operation::Attached => {
                let Some(id) = &intent.resource else { return Ok(UndoOutcome::Settled(None)) };
                if records.iter().any(|record| record.id == *id) {
                    return Ok(UndoOutcome::Settled(None));
                }
                self.provider.detach(id, context)?;
                Ok(UndoOutcome::Settled(Some(format!(
                    "detached {id}, which was being taken as {}",
                    intent.label.volume
                ))))
            }
            Operation::Made => self.undo_made(intent, &records, context),
            Operation::Snapshot { of } => self.undo_snapshot(intent, of, &records, context),
            Operation::Copy => self.undo_snapshot(intent, "", &records, context),
        }
    }

    /// Undoes the operation that began to make a volume, if it is one of this root and was cut off; says
    /// whether it was.
    ///
    /// # Errors
    /// `Busy` if that operation is under way; when it cannot be undone now: it stays written down.
    pub(super) fn undo_cut_off(&self, volume: &CloudVolume, context: &Context) -> Result<bool> {
        let token = volume.label.as_ref().and_then(|label| label.token.as_deref());
        let Some(token) = token.and_then(|token| Name::parse(token).ok()) else { return Ok(false) };
        let intent = self.intents.load(&token)?.filter(|intent| intent.operation == Operation::Made);
        let Some(intent) = intent else { return Ok(false) };
        let taken = volume.attachment.as_ref().is_some_and(|attachment| !attachment.here)
            || self.records.all()?.0.into_values().flatten().any(|record| record.id == volume.id);
        if taken {
            return Ok(false);
        }
        let purpose = intent.label.purpose;
        let Some(mut open) = self.intents.claim(&token, intent) else {
            // What is being restored says so itself.
            return if purpose == Purpose::Restore { Ok(false) } else { Err(under_way(volume)) };
        };
        open.found(&volume.id)?;
        self.undo(&open.intent, context)?;
        open.done()?;
        Ok(true)
    }

    fn undo_made(&self, intent: &Intent, records: &[VolumeRecord], context: &Context) -> Result<UndoOutcome> {
        let token = intent.label.token.as_deref().unwrap_or_default();
        let path = self.restore_dir(token);
        if MountTable::read()?.is_mounted(&path) {
            self.unmount_privately(&path, context)?;
        }
        let mut ids: BTreeSet<_> = intent.resource.iter().cloned().collect();
        if ids.is_empty() {
            ids.extend(
                self.provider.volumes_with_token(&intent.label, context)?.into_iter().map(|volume| volume.id),
            );
        }
        if ids.is_empty() && settling(intent) {
            return Ok(UndoOutcome::Unsettled);
        }
        ids.retain(|id| !records.iter().any(|record| record.id == *id));
        for id in &ids {
            if let Some(place) = self.foreign(id, context)? {
                tracing::warn!(id, place, "left a volume alone that another instance has taken");
                continue;
            }
            self.remove(id, context)?;
        }
        let what = (!ids.is_empty()).then(|| {
            let ids = ids.into_iter().collect::<Vec<_>>().join(", ");
            format!("deleted {ids}, made for {} ({})", intent.label.volume, intent.label.purpose.as_str())
        });
        Ok(UndoOutcome::Settled(what))
    }

    /// Detaches and deletes a volume. A request of the call that was cut off may take effect in between: then
    /// once more.
    fn remove(&self, id: &str, context: &Context) -> Result<()> {
        let begin = Instant::now();
        let mut backoff = wait::Backoff::brief();
        loop {
            self.provider.detach(id, context)?;
            match self.provider.delete_volume(id, context) {
                Err(error)
                    if matches!(error.kind, ErrorKind::Busy | ErrorKind::InUse)
                        && begin.elapsed() < ARRIVING_LIMIT =>
                {
                    wait::sleep(backoff.pause(), context)?;
                }
                result => return result,
            }
        }
    }

    fn foreign(&self, id: &str, context: &Context) -> Result<Option<String>> {
        let attachment = self.cloud_volume(id, context)?.and_then(|volume| volume.attachment);
        Ok(attachment.filter(|attachment| !attachment.here).map(|attachment| attachment.instance))
    }

    fn undo_snapshot(
        &self,
        intent: &Intent,
        of: &str,
        records: &[VolumeRecord],
        context: &Context,
    ) -> Result<UndoOutcome> {
        let mut ids: BTreeSet<_> = intent.resource.iter().cloned().collect();
        if ids.is_empty() {
            let found = self.provider.snapshots_with_token(of, &intent.label, context)?;
            ids.extend(found.into_iter().map(|snapshot| snapshot.id));
        }
        if ids.is_empty() && settling(intent) {
            return Ok(UndoOutcome::Unsettled);
        }
        let known = |id: &String| {
            records.iter().flat_map(|record| record.snapshots.values()).any(|snapshot| snapshot.id == *id)
        };
        ids.retain(|id| !known(id));
        for id in &ids {
            self.provider.delete_snapshot(id, context)?;
        }
        let what = (!ids.is_empty()).then(|| {
            let ids = ids.into_iter().collect::<Vec<_>>().join(", ");
            format!("deleted the snapshot {ids}, begun for {}", intent.label.volume)
        });
        Ok(UndoOutcome::Settled(what))
    }

    fn finish_deletion(&self, record: &VolumeRecord, opened: &mut Opened, context: &Context) {
        match self.delete_recorded(record, context) {
            Ok(()) => opened.recovered.push(format!("finished deleting volume {}", record.name)),
            Err(error) => {
                opened.warnings.push(format!("volume {} is not deleted yet: {}", record.name, error.message));
            }
        }
    }

    fn finish_snapshot_deletions(&self, record: &VolumeRecord, opened: &mut Opened, context: &Context) {
        for snapshot in record.snapshots.values().filter(|snapshot| snapshot.deleting) {
            let what = format!("snapshot {} of volume {}", snapshot.name, record.name);
            match self.finish_deleting_snapshot(snapshot, context) {
                Ok(()) => opened.recovered.push(format!("finished deleting {what}")),
                Err(error) => opened.warnings.push(format!("{what} is not deleted yet: {}", error.message)),
            }
        }
    }

    /// A crash during a snapshot leaves the file system frozen: nothing but this thaws it.
    fn thaw(&self, record: &VolumeRecord) {
        let Ok(table) = self.mount_table() else { return };
        let Some(path) = self.mounted_at(record, &table) else { return };
        if let Err(error) = freeze::thaw(&self.through_namespace(&path)) {
            tracing::warn!(volume = %record.name, %error, "cannot thaw a volume");
        }
    }

    fn report_orphans(&self, opened: &mut Opened, context: &Context) {
        match self.orphans(context) {
            Ok(orphans) => opened.warnings.extend(orphans.iter().map(|volume| {
                let advice = forgotten_purpose(volume).map_or("", |_| ": delete it in the cloud");
                format!("{}{advice}", orphan(volume))
            })),
            Err(error) => {
                opened.warnings.push(format!("cannot look for forgotten volumes: {}", error.message));
            }
        }
    }

    /// What this host made and neither an intent nor a record knows.
    ///
    /// Asked in this order: an intent is written down before a volume is made, and goes after its record has
    /// come. So what another call makes meanwhile is never taken for forgotten.
    pub(super) fn orphans(&self, context: &Context) -> Result<Vec<CloudVolume>> {
        let mut found = self.provider.volumes_of_host(context)?;
        let known = self.known()?;
        found.retain(|volume| !known.has(&volume.id, volume.label.as_ref()));
        Ok(found)
    }

    /// What intents, and then records, know.
    pub(super) fn known(&self) -> Result<KnownResources> {
        let mut known = KnownResources { ids: BTreeSet::new(), tokens: BTreeSet::new() };
        for (token, intent) in self.intents.all()? {
            known.ids.extend(intent.ok().and_then(|intent| intent.resource));
            known.tokens.insert(token.to_string());
        }
        for record in self.records.all()?.0.into_values().flatten() {
            known.ids.insert(record.id);
            known.ids.extend(record.snapshots.into_values().map(|snapshot| snapshot.id));
        }
        Ok(known)
    }
}

/// Ids that are known here, and tokens of operations that are not over.
pub(super) struct KnownResources {
    ids: BTreeSet<String>,
    tokens: BTreeSet<String>,
}

impl KnownResources {
    /// Whether something in the cloud is known.
    pub(super) fn has(&self, id: &str, label: Option<&Label>) -> bool {
        let token = label.and_then(|label| label.token.as_ref());
        self.ids.contains(id) || token.is_some_and(|token| self.tokens.contains(token))
    }
}

/// What there is to say of a volume that this host made and nothing here knows.
pub(super) fn orphan(volume: &CloudVolume) -> String {
    let name = volume.label.as_ref().map_or("", |label| label.volume.as_str());
    let (id, size) = (&volume.id, volume.size);
    match forgotten_purpose(volume) {
        None => format!(
            "{id} ({size}) was made here for {name} and is kept in the cloud without a volume: `convoy \
             create {name}` takes it"
        ),
        Some(purpose) => {
            format!("{id} ({size}) was made here for {name} ({}) and forgotten", purpose.as_str())
        }
    }
}

/// What it was made for, if not to be a volume: then nobody may want it.
pub(super) fn forgotten_purpose(volume: &CloudVolume) -> Option<Purpose> {
    volume.label.as_ref().map(|label| label.purpose).filter(|purpose| *purpose != Purpose::Volume)
}

fn under_way(volume: &CloudVolume) -> DriverError {
    DriverError::busy(format!("{} is being made at this moment", volume.id))
        .hint("wait until the other call has ended")
}

/// Whether an effect of the operation may still come into sight. A clock that went backwards does not make it
/// for ever.
fn settling(intent: &Intent) -> bool {
    let age = Timestamp::now().unix().saturating_sub(intent.started.unix());
    u64::try_from(age).is_ok_and(|age| age < SETTLING.as_secs())
}
