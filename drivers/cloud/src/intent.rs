//! What is about to be asked of the provider, written down before it is asked.
//!
//! An intent outlives the process. While its operation runs it is held live in memory; one that is on disk
//! and not live belongs to an operation that was cut off, or whose clean-up failed, and is undone by the next
//! sweep.

use crate::provider::{Label, Purpose};
use convoy_driver_sdk::records::{RecordError, RecordStore};
use convoy_driver_sdk::{DriverError, Name, Result, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// What an operation may have left in the cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Operation {
    /// A volume that it made: undone by deleting it.
    Made,
    /// The attachment of a volume that was there before: undone by detaching it.
    Attached,
    /// A snapshot that it made: undone by deleting it.
    Snapshot { of: String },
    /// A copy of a snapshot, needed only until a volume was made of it: undone by deleting it.
    Copy,
}

/// An operation that is about to be asked of the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// What is written on whatever it makes; the label's token names the intent.
    pub label: Label,
    pub started: Timestamp,
    pub operation: Operation,
    /// The provider's id of that, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The convoy snapshot that a volume for reading was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<Name>,
}

/// The intents on disk, and which of them are live.
#[derive(Debug)]
pub struct Intents {
    store: RecordStore<Intent>,
    live: Mutex<BTreeSet<Name>>,
}

/// A new token: 32 hexadecimal digits.
pub fn token() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

impl Intents {
    /// Those in a directory, which is made if it is missing.
    pub fn open(dir: &Path) -> Result<Self> {
        let store = RecordStore::open(dir, "", ".json")?;
        Ok(Self { store, live: Mutex::default() })
    }

    /// Writes a new intent down and holds it live.
    ///
    /// # Errors
    /// When it could not be made durable: then nothing may be asked of the provider.
    pub fn begin(&self, label: &Label, operation: Operation, resource: Option<String>) -> Result<Open<'_>> {
        let reads = label.snapshot.clone().filter(|_| label.purpose == Purpose::Reading);
        let intent = Intent { label: label.clone(), started: Timestamp::now(), operation, resource, reads };
        let token = Name::parse(intent.label.token.clone().unwrap_or_default())?;
        self.live.lock().insert(token.clone());
        let open = Open { intents: self, token, kept: false, intent };
        self.store.insert(&open.token, &open.intent)?;
        Ok(open)
    }

    /// Holds an existing intent live, unless somebody does already.
    pub fn claim(&self, token: &Name, intent: Intent) -> Option<Open<'_>> {
        let free = self.live.lock().insert(token.clone());
        free.then(|| Open { intents: self, token: token.clone(), kept: false, intent })
    }

    pub fn load(&self, token: &Name) -> Result<Option<Intent>> {
        Ok(self.store.load(token)?)
    }

    /// Every intent on disk, live or not, with those that cannot be read.
    pub fn all(&self) -> Result<Vec<(Name, std::result::Result<Intent, RecordError>)>> {
        Ok(self.store.load_all()?.records.into_iter().collect())
    }

    /// Whether an operation holds it.
    pub fn is_live(&self, token: &Name) -> bool {
        self.live.lock().contains(token)
    }

    /// Removes one that is done with, and its hold.
    pub fn forget(&self, token: &Name) -> Result<()> {
        self.store.delete(token)?;
        self.live.lock().remove(token);
        Ok(())
    }

    /// Gives up the hold on one that could not be undone: the next sweep tries again.
    pub fn release(&self, token: &Name) {
        self.live.lock().remove(token);
    }
}

/// A live intent. Dropped without [`Open::done`] it stays on disk for the next sweep.
#[derive(Debug)]
pub struct Open<'a> {
    intents: &'a Intents,
    token: Name,
    kept: bool,
    pub intent: Intent,
}

impl Open<'_> {
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Writes down the id of what was made.
    pub fn found(&mut self, id: &str) -> Result<()> {
        self.intent.resource = Some(id.to_owned());
        Ok(self.intents.store.save(&self.token, &self.intent)?)
    }

    /// The operation is complete, or undone: nothing is left to remember.
    ///
    /// # Errors
    /// When the file cannot be removed; the next sweep finds that nothing is to be done and tries again.
    pub fn done(self) -> std::result::Result<(), DriverError> {
        Ok(self.intents.store.delete(&self.token)?)
    }

    /// Keeps it live beyond this value, until [`Intents::forget`] or the end of the process: for what stays
    /// open between two calls.
    pub fn keep(mut self) -> Name {
        self.kept = true;
        self.token.clone()
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.intents.live.lock().remove(&self.token);
        }
    }
}
