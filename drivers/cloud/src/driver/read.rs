//! A snapshot's bytes, through a temporary volume made of it: how its backups leave the provider.

use super::CloudDriver;
use crate::device;
use crate::provider::{Handle, Provider, Purpose};
use convoy_driver_sdk::protocol::{
    CloseSnapshot, Extent, Extents, ListExtents, OpenSnapshot, OpenedSnapshot, SourceLocation,
};
use convoy_driver_sdk::{Context, DriverError, Name, Result};
use std::collections::BTreeMap;

impl<P: Provider> CloudDriver<P> {
    /// See [`OpenSnapshot`]. The temporary volume costs money until the snapshot is closed; one that is left
    /// by a crash is deleted at the next start. A base is of no use here: the provider does not say what
    /// changed.
    ///
    /// # Errors
    /// `NotFound`, `Exhausted` when no more volumes can be attached.
    pub(super) fn open_snapshot(&self, request: OpenSnapshot, context: &Context) -> Result<OpenedSnapshot> {
        let record = self.records.load(&request.volume)?;
        let id = self.recorded_snapshot(&record, &request.snapshot)?.id.clone();
        let snapshot =
            self.provider.snapshots(&[&id], context)?.remove(&id).ok_or_else(|| super::create::gone(&id))?;
        let snapshot = self.completed(snapshot, context)?;
        let label = self.label(&record.name, Some(&request.snapshot), Purpose::Reading);
        let settings = self.provider.settings(&BTreeMap::new(), snapshot.size, true)?;
        let (open, volume, device) =
            self.make(label, snapshot.size, Some(&snapshot.id), settings, context)?;
        let handle = open.keep().to_string();
        Ok(OpenedSnapshot::new(handle, SourceLocation::block(device, volume.size.bytes(), false)))
    }

    /// See [`ListExtents`]: the whole device, which the provider does not describe any closer.
    ///
    /// # Errors
    /// `NotFound` for an unknown handle.
    pub(super) fn list_extents(&self, request: ListExtents, context: &Context) -> Result<Extents> {
        let id = self.opened(&request.handle)?.ok_or_else(|| unknown(&request.handle))?;
        let volume = self.cloud_volume(&id, context)?.ok_or_else(|| unknown(&request.handle))?;
        let asked_for = volume.attachment.as_ref().and_then(|attachment| attachment.device.as_deref());
        let handle = Handle { id: &id, cloud_name: volume.cloud_name.as_deref(), device: asked_for };
        let found = self.provider.device(handle)?.ok_or_else(|| unknown(&request.handle))?;
        let length = device::size(&found)?.saturating_sub(request.from);
        let extent = Extent { offset: request.from, length };
        let extents = if length == 0 { Vec::new() } else { vec![extent] };
        Ok(Extents::new(extents))
    }

    /// See [`CloseSnapshot`].
    ///
    /// # Errors
    /// When the temporary volume cannot be deleted now: it stays written down and is tried again.
    pub(super) fn close_snapshot(&self, request: CloseSnapshot, context: &Context) -> Result<()> {
        self.end(&request.handle, context)
    }

    /// Undoes what a handle stands for. An unknown one is success.
    pub(super) fn end(&self, handle: &str, context: &Context) -> Result<()> {
        let Ok(token) = Name::parse(handle) else { return Ok(()) };
        let Some(intent) = self.intents.load(&token)? else { return Ok(()) };
        self.cache.clear();
        match self.undo(&intent, context) {
            Ok(_) => self.intents.forget(&token),
            Err(error) => {
                self.intents.release(&token);
                Err(error)
            }
        }
    }

    /// The cloud volume behind an open handle of reading.
    fn opened(&self, handle: &str) -> Result<Option<String>> {
        let Ok(token) = Name::parse(handle) else { return Ok(None) };
        let intent = self.intents.load(&token)?;
        Ok(intent.filter(|intent| intent.reads.is_some()).and_then(|intent| intent.resource))
    }

    /// Whether somebody reads a snapshot at this moment.
    pub(super) fn is_open(&self, volume: &Name, snapshot: &Name) -> bool {
        let Ok(all) = self.intents.all() else { return true };
        all.iter().any(|(token, intent)| {
            self.intents.is_live(token)
                && intent.as_ref().is_ok_and(|intent| {
                    intent.label.volume == *volume && intent.reads.as_ref() == Some(snapshot)
                })
        })
    }
}

pub(super) fn unknown(handle: &str) -> DriverError {
    DriverError::not_found(format!("nothing is open by the handle {handle:?}"))
}
