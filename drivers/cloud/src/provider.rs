//! What a cloud must be able to do, in terms that fit all of them.

use crate::config::{Config, Options};
use crate::size::Gib;
use convoy_driver_sdk::protocol::OptionSpec;
use convoy_driver_sdk::{Context, Name, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a cloud volume was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    Volume,
    /// To be a volume once a restore has written it: until then nobody may take it for one.
    Restore,
    /// To read a snapshot through; deleted afterwards.
    Reading,
}

impl Purpose {
    /// As it is written in tags and descriptions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::Restore => "restore",
            Self::Reading => "reading",
        }
    }

    /// The reverse of [`Purpose::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Volume, Self::Restore, Self::Reading].into_iter().find(|purpose| purpose.as_str() == text)
    }
}

/// What convoy writes on a resource when it makes it, and finds it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub volume: Name,
    /// The convoy snapshot, on snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Name>,
    pub purpose: Purpose,
    /// Names the operation that made it: its intent. Missing on what convoy 0.5 made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The instance on which it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A cloud volume to be made.
#[derive(Debug, Clone)]
pub struct VolumeSpec {
    pub label: Label,
    /// Names the request: asking twice with one token makes one volume.
    pub token: String,
    pub size: Gib,
    pub snapshot: Option<String>,
    /// The provider's own settings, as [`Provider::settings`] returned them.
    pub settings: BTreeMap<String, String>,
}

/// Whether a cloud volume can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeState {
    Creating,
    /// It can be used, and nobody has it.
    Available,
    /// It is attached, or being attached or detached.
    InUse,
    Deleting,
    /// It cannot be used: the provider's word for it.
    Failed(String),
}

/// A volume's place at an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub instance: String,
    /// Whether that is the one we run on.
    pub here: bool,
    /// The device name the provider was asked for, where it has one.
    pub device: Option<String>,
    /// Whether it is complete: neither coming nor going.
    pub ready: bool,
}

/// A volume as the provider describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudVolume {
    pub id: String,
    /// The name under which the kernel may show it, where that is a name and not the id.
    pub cloud_name: Option<String>,
    /// What convoy wrote on it; `None` on what convoy did not make.
    pub label: Option<Label>,
    pub size: Gib,
    pub state: VolumeState,
    pub attachment: Option<Attachment>,
    pub created: Timestamp,
    pub info: BTreeMap<String, String>,
}

/// Whether a snapshot can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotState {
    /// It is being copied; percent done, where known.
    Pending(Option<u64>),
    Completed,
    /// It never will be; the provider's word for why.
    Failed(String),
}

/// A snapshot as the provider describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudSnapshot {
    pub id: String,
    pub volume_id: String,
    /// What convoy wrote on it; `None` on what convoy did not make.
    pub label: Option<Label>,
    pub size: Gib,
    pub state: SnapshotState,
    pub created: Timestamp,
    pub info: BTreeMap<String, String>,
}

/// What is known of a volume without asking the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle<'a> {
    pub id: &'a str,
    /// The name of [`CloudVolume::cloud_name`].
    pub cloud_name: Option<&'a str>,
    /// The device name of its attachment here, if the provider was asked just now.
    pub device: Option<&'a str>,
}

/// A cloud with block volumes.
///
/// Methods block, are called from several threads at once, and may each be repeated. They retry what is safe
/// to retry and respect the provider's rate limits; what they return is final for the call.
pub trait Provider: Send + Sync + Sized + 'static {
    /// The driver's name, which is also the prefix of its records: `ebs`.
    const DRIVER: &'static str;
    /// What it is, in a few words.
    const SUMMARY: &'static str;
    /// What its options begin with: `ebs`.
    const PREFIX: &'static str;
    /// The size of a new volume if nothing is said: `4G`.
    const DEFAULT_SIZE: &'static str;
    /// Where its endpoints are if nothing is said, for a person: that of the API and that of the metadata
    /// service.
    const ENDPOINTS: (&'static str, &'static str);
    /// The scheme of its backup URLs: `ebs`.
    const SCHEME: &'static str;
    /// The key of a volume's or snapshot's provider id in records: `EBSID`.
    const ID_KEY: &'static str;
    /// The key of a volume's provider id in what `inspect` shows: `EBSVolumeID`.
    const ID_INFO: &'static str;
    /// Sizes that can be had, for error messages before anything is asked.
    const SIZES: std::ops::RangeInclusive<Gib>;

    /// What it is told beside what all providers are told.
    type Own: std::fmt::Debug + Clone;

    fn options() -> Vec<OptionSpec>;

    fn create_options() -> Vec<OptionSpec>;

    /// Takes them.
    ///
    /// # Errors
    /// `InvalidArgument`; whatever keeps a file that they name from being read.
    fn read(options: &Options<'_>) -> Result<Self::Own>;

    /// Finds out which instance this is and makes a client.
    ///
    /// # Errors
    /// `Unavailable` if this is no instance of the provider.
    fn connect(config: Config<Self::Own>, context: &Context) -> Result<Self>;

    fn region(&self) -> &str;

    fn instance(&self) -> &str;

    /// Further keys for `convoy info`.
    fn info(&self) -> BTreeMap<String, String>;

    /// Checks the provider's own create options (those it declares) for a volume of that size and fills in
    /// defaults.
    fn settings(
        &self,
        options: &BTreeMap<String, String>,
        size: Gib,
        from_snapshot: bool,
    ) -> Result<BTreeMap<String, String>>;

    /// Makes a volume, idempotent by the token in the label. Need not wait until it is available.
    ///
    /// # Errors
    /// `Exhausted` for quotas; `Unavailable` and the like when it is unknown whether it was made.
    fn create_volume(&self, spec: &VolumeSpec, context: &Context) -> Result<CloudVolume>;

    /// Describes volumes by id; ids that do not exist are missing in the answer. One call for many.
    fn volumes(&self, ids: &[&str], context: &Context) -> Result<BTreeMap<String, CloudVolume>>;

    /// Volumes of that convoy name where this instance could attach them, whatever made them; those being
    /// deleted are left out.
    fn volumes_named(&self, name: &Name, context: &Context) -> Result<Vec<CloudVolume>>;

    /// Volumes that carry a token. More than one if a request was doubled on its way.
    fn volumes_with_token(&self, label: &Label, context: &Context) -> Result<Vec<CloudVolume>>;

    /// Every volume that this instance made.
    fn volumes_of_host(&self, context: &Context) -> Result<Vec<CloudVolume>>;

    /// Writes a label on an existing volume, where the provider can; makes a restored volume known as whole.
    fn label_volume(&self, id: &str, label: &Label, context: &Context) -> Result<()>;

    /// Deletes a volume that is attached nowhere. One that is gone is success.
    ///
    /// # Errors
    /// `InUse` if it is attached.
    fn delete_volume(&self, id: &str, context: &Context) -> Result<()>;

    /// Whether a volume is where this instance can attach it.
    ///
    /// # Errors
    /// `InvalidArgument` with where it is.
    fn attachable(&self, volume: &CloudVolume) -> Result<()>;

    /// Whether the credentials allow what this trait does: each action with the answer, found out without
    /// doing any. For some, a volume and a snapshot that exist are needed.
    fn access(
        &self,
        volume: Option<&str>,
        snapshot: Option<&str>,
        context: &Context,
    ) -> Vec<(&'static str, Result<()>)>;

    /// Attaches an available volume to this instance and waits until that is complete. Never takes it from
    /// another.
    ///
    /// # Errors
    /// `InUse` with the place where it is attached, `Exhausted` when no more fit.
    fn attach(&self, volume: &CloudVolume, context: &Context) -> Result<CloudVolume>;

    /// Detaches a volume from this instance, politely, and waits until that is complete. One that is not
    /// attached here, or is gone, is left alone: success.
    ///
    /// # Errors
    /// `Busy` when the provider does not get it done.
    fn detach(&self, id: &str, context: &Context) -> Result<()>;

    /// Where the kernel shows a volume, if it does and it is certain to be this one.
    ///
    /// # Errors
    /// `DataLoss` if another volume is where this one should be.
    fn device(&self, volume: Handle<'_>) -> Result<Option<PathBuf>>;

    /// Grows a volume and waits until the instance can see the new size.
    ///
    /// # Errors
    /// `Busy` if it was changed too recently.
    fn resize(&self, id: &str, size: Gib, context: &Context) -> Result<()>;

    /// Begins a snapshot: when this returns its content is fixed, though it may be pending. Not repeated by
    /// itself when it is unknown whether it was made.
    ///
    /// # Errors
    /// `Exhausted` for quotas; `Unavailable` and the like when it is unknown whether it was made.
    fn create_snapshot(&self, volume_id: &str, label: &Label, context: &Context) -> Result<CloudSnapshot>;

    /// Describes snapshots by id, in the region; ids that do not exist are missing in the answer.
    fn snapshots(&self, ids: &[&str], context: &Context) -> Result<BTreeMap<String, CloudSnapshot>>;

    /// Snapshots of a volume that carry a token.
    fn snapshots_with_token(
        &self,
        volume_id: &str,
        label: &Label,
        context: &Context,
    ) -> Result<Vec<CloudSnapshot>>;

    /// Every snapshot that this instance made and that is no backup, where the provider keeps who made it.
    fn snapshots_of_host(&self, context: &Context) -> Result<Vec<CloudSnapshot>>;

    /// Deletes a snapshot. One that is gone is success.
    ///
    /// # Errors
    /// `InUse` if something else is built on it.
    fn delete_snapshot(&self, id: &str, context: &Context) -> Result<()>;

    /// Marks a completed snapshot as a backup, or no longer as one, where the provider can keep that.
    fn mark_backup(&self, id: &str, backup: bool, context: &Context) -> Result<()>;

    /// The backups convoy has made in a region, from whatever host.
    ///
    /// # Errors
    /// `InvalidArgument` for a region this provider cannot list.
    fn backups(&self, region: &str, context: &Context) -> Result<Vec<CloudSnapshot>>;

    /// One snapshot in a region.
    ///
    /// # Errors
    /// `InvalidArgument` for a region this provider cannot look into.
    fn backup(&self, region: &str, id: &str, context: &Context) -> Result<Option<CloudSnapshot>>;

    /// Deletes a snapshot in a region. One that is gone is success.
    ///
    /// # Errors
    /// `InUse` if something else is built on it.
    fn delete_backup(&self, region: &str, id: &str, context: &Context) -> Result<()>;

    /// Begins to copy a snapshot of another region into this one.
    ///
    /// # Errors
    /// `Unsupported` where the provider cannot.
    fn copy_snapshot(
        &self,
        region: &str,
        id: &str,
        label: &Label,
        context: &Context,
    ) -> Result<CloudSnapshot>;
}
