//! What the API carries, as its OpenAPI document describes it; only the fields that are used.

#![allow(missing_docs, reason = "the OpenAPI document says what each field is")]

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Deserialize)]
pub struct Volume {
    pub id: String,
    /// Unique in its region.
    pub name: String,
    /// Holds convoy's label.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    pub size_gigabytes: u64,
    /// The droplets it is attached to: one at most.
    #[serde(default, deserialize_with = "or_default")]
    pub droplet_ids: Vec<u64>,
    pub created_at: String,
    pub region: Region,
    /// As DigitalOcean sees it.
    #[serde(default, deserialize_with = "or_default")]
    pub filesystem_type: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Region {
    /// Its short name: `nyc1`.
    pub slug: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Snapshot {
    pub id: String,
    /// Holds convoy's label.
    pub name: String,
    /// The regions it is in: the one of its volume.
    #[serde(default, deserialize_with = "or_default")]
    pub regions: Vec<String>,
    pub created_at: String,
    /// The volume it was taken of.
    pub resource_id: String,
    /// `volume` or `droplet`.
    #[serde(default, deserialize_with = "or_default")]
    pub resource_type: String,
    /// GiB of the smallest volume it can be put on.
    pub min_disk_size: u64,
    /// GiB that it takes and is paid for.
    #[serde(default)]
    pub size_gigabytes: f64,
}

/// Something that takes its time.
#[derive(Debug, Clone, Deserialize)]
pub struct Action {
    pub id: u64,
    pub status: ActionStatus,
    /// `attach_volume` and the like.
    #[serde(default, rename = "type", deserialize_with = "or_default")]
    pub kind: String,
}

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionStatus {
    InProgress,
    Completed,
    /// Failed; nobody says why.
    Errored,
}

#[derive(Debug, Clone, Serialize)]
pub struct NewVolume<'a> {
    /// Unique in its region.
    pub name: &'a str,
    pub size_gigabytes: u64,
    pub region: &'a str,
    pub description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<&'a str>,
    /// What the user wants to see on it.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub tags: &'a [String],
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum NewAction<'a> {
    /// To a droplet of the same region.
    Attach {
        droplet_id: u64,
        region: &'a str,
    },
    Detach {
        droplet_id: u64,
        region: &'a str,
    },
    Resize {
        size_gigabytes: u64,
        region: &'a str,
    },
}

#[derive(Debug, Clone, Serialize)]
pub struct NewSnapshot<'a> {
    pub name: &'a str,
    /// What the user wants to see on it.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub tags: &'a [String],
}

#[derive(Debug, Deserialize)]
pub struct OneVolume {
    pub volume: Volume,
}

#[derive(Debug, Deserialize)]
pub struct OneSnapshot {
    pub snapshot: Snapshot,
}

#[derive(Debug, Deserialize)]
pub struct OneAction {
    pub action: Action,
}

/// A page of a listing.
pub trait Page: serde::de::DeserializeOwned {
    type Item;

    /// The items of this page, and how many there are on all pages.
    fn items(self) -> (Vec<Self::Item>, u64);
}

#[derive(Debug, Deserialize)]
pub struct Volumes {
    volumes: Vec<Volume>,
    meta: Meta,
}

#[derive(Debug, Deserialize)]
pub struct Snapshots {
    snapshots: Vec<Snapshot>,
    meta: Meta,
}

#[derive(Debug, Deserialize)]
struct Meta {
    total: u64,
}

impl Page for Volumes {
    type Item = Volume;
    fn items(self) -> (Vec<Volume>, u64) {
        (self.volumes, self.meta.total)
    }
}

impl Page for Snapshots {
    type Item = Snapshot;
    fn items(self) -> (Vec<Snapshot>, u64) {
        (self.snapshots, self.meta.total)
    }
}

/// What goes with an error.
#[derive(Debug, Default, Deserialize)]
pub struct Refusal {
    /// `not_found` and the like.
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub message: String,
    /// For DigitalOcean's support.
    #[serde(default)]
    pub request_id: Option<String>,
}

/// The API writes `null` for what is empty.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
