//! What is known of volumes, by Docker and by the records.

use std::collections::BTreeMap;

use convoy_driver_sdk::protocol::{ListVolumes, ListedVolumes, Volume};
use convoy_driver_sdk::records::RecordError;
use convoy_driver_sdk::{Context, DriverError, Name};

use crate::catalog::{Catalog, Entry};
use crate::error::{LocalError, LocalResult};
use crate::record::VolumeRecord;
use crate::settle;
use crate::source::Found;

type Records = BTreeMap<Name, Result<VolumeRecord, RecordError>>;

/// All that is known.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) found: Found,
    pub(crate) records: Records,
}

impl Catalog {
    /// All that is known. What a process that is gone left unfinished at the engines is finished or undone.
    pub(crate) fn view(&self, context: &Context) -> LocalResult<View> {
        let found = self.look(context)?;
        let records = self.records.load_all()?.records;
        let pending: Vec<_> = records
            .values()
            .flatten()
            .filter(|record| record.publishing.is_some() || record.deleting)
            .map(|record| record.name.clone())
            .collect();
        if pending.is_empty() {
            return Ok(View { found, records });
        }
        if settle::at_engines(self, &pending, context) == 0 {
            return Ok(View { found, records });
        }
        Ok(View { found: self.look(context)?, records: self.records.load_all()?.records })
    }

    /// What is known of one name.
    pub(crate) fn entry(&self, name: &Name, context: &Context) -> LocalResult<Entry> {
        let View { mut found, mut records } = self.view(context)?;
        let record = records.remove(name).transpose()?;
        Ok(Entry { source: found.sources.remove(name), record })
    }

    /// What is known of a volume that must exist.
    pub(crate) fn load(&self, name: &Name, context: &Context) -> LocalResult<Entry> {
        let entry = self.entry(name, context)?;
        if entry.is_listed() { Ok(entry) } else { Err(LocalError::NoVolume(name.clone())) }
    }

    /// Tells of a volume that must exist.
    pub(crate) fn tell(&self, name: &Name, context: &Context) -> LocalResult<Volume> {
        let entry = self.load(name, context)?;
        self.describe(name, &entry).ok_or_else(|| LocalError::NoVolume(name.clone()))
    }

    /// Lists a page of the volumes, or says that nothing has changed since the caller's generation.
    pub(crate) fn list(&self, request: &ListVolumes, context: &Context) -> LocalResult<ListedVolumes> {
        let View { mut found, records } = self.view(context)?;
        let mut volumes = BTreeMap::new();
        for (name, record) in records {
            let volume = match record {
                Ok(record) => {
                    let entry = Entry { source: found.sources.remove(&name), record: Some(record) };
                    self.describe(&name, &entry)
                }
                Err(error) => {
                    found.sources.remove(&name);
                    Some(damaged(name.clone(), error.into()))
                }
            };
            volumes.extend(volume.map(|volume| (name, volume)));
        }
        for (name, source) in found.sources {
            let entry = Entry { source: Some(source), record: None };
            volumes.extend(self.describe(&name, &entry).map(|volume| (name, volume)));
        }
        let twice = found.skipped.iter().filter(|skipped| skipped.twice);
        let warnings = twice.map(|skipped| format!("{}: {}", skipped.what, skipped.why)).collect();
        let volumes: Vec<Volume> = volumes.into_values().collect();
        let (generation, warnings) = self.generation(&volumes, warnings);
        if request.after.is_none() && request.generation.as_ref() == Some(&generation) {
            return Ok(ListedVolumes::default().unchanged(true).generation(Some(generation)));
        }
        let (volumes, more) = request.page(volumes);
        // They were on the first page.
        let warnings = if request.after.is_some() { Vec::new() } else { warnings };
        Ok(ListedVolumes::new(volumes).more(more).generation(Some(generation)).warnings(warnings))
    }
}

fn damaged(name: Name, error: DriverError) -> Volume {
    let text = match error.hint {
        Some(hint) => format!("{}: {hint}", error.message),
        None => error.message,
    };
    Volume::damaged(name, text)
}
