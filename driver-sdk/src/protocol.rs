//! The messages of the driver protocol.
//!
//! Both carriers carry these types as JSON: the shared library hands the bytes over a function call, the
//! subprocess frames them as JSON-RPC 2.0. Fields are only ever added within a major version: what a reader
//! does not know it ignores, what it misses has a default.

use crate::{Name, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

mod backup;
mod check;
mod data;
mod kept;
mod snapshot;
mod volume;

pub use backup::{
    BackupInfo, CreateBackup, CreatedBackup, DeleteBackup, InspectBackup, ListBackups, ListedBackups,
};
pub use check::{Check, Checked, Finding, Severity};
pub use data::{
    AbortRestore, CloseSnapshot, Extent, Extents, FinishRestore, ListExtents, OpenSnapshot, OpenedSnapshot,
    PrepareRestore, PreparedRestore, SameFile, SourceKind, SourceLocation, TargetLocation,
};
pub use kept::{DeleteKept, Kept, ListKept, ListedKept};
pub use snapshot::{CreateSnapshot, DeleteSnapshot, GetSnapshot, ListSnapshots, ListedSnapshots, Snapshot};
pub use volume::{
    CloneVolume, CreateVolume, DeleteVolume, GetVolume, Health, ListVolumes, ListedVolumes, MountVolume,
    Mounted, ResizeVolume, RevertVolume, UnmountVolume, Volume,
};

/// The version this SDK speaks, `major.minor`: another major is refused, another minor only adds.
///
/// 1.1 added `volume.clone`, `volume.revert` and `driver.check`, each with a capability of its own; 1.2 the `kind` of
/// `snapshot.open`, with the capability `read_either`; 1.3 `kept.list` and `kept.delete`, with the capability
/// `kept`.
pub const PROTOCOL_VERSION: &str = "1.3";

/// What both sides of a process name in their hello, so that neither mistakes something else for its peer.
pub const PROTOCOL_NAME: &str = "convoy-driver";

/// A request: its method name and the type it is answered with.
pub trait Request: Serialize + DeserializeOwned + Send + 'static {
    /// The method, as in JSON-RPC.
    const METHOD: &'static str;
    /// What a success carries.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

macro_rules! requests {
    ($($request:ty => $method:literal, $reply:ty;)*) => {
        $(impl Request for $request {
            const METHOD: &'static str = $method;
            type Reply = $reply;
        })*

        /// Every method of the protocol, for documents and tests.
        pub const METHODS: &[&str] = &[$($method),*];

        /// The schemas of every method's parameters and result.
        #[cfg(feature = "schema")]
        pub(crate) fn schemas(generator: &mut schemars::SchemaGenerator) -> Vec<crate::schema::Method> {
            vec![$(crate::schema::Method::of::<$request>(generator)),*]
        }
    };
}

requests! {
    Describe => "driver.describe", Description;
    Open => "driver.open", Opened;
    Info => "driver.info", InfoReply;
    Probe => "driver.probe", Probed;
    Check => "driver.check", Checked;
    Close => "driver.close", Done;
    CreateVolume => "volume.create", Volume;
    DeleteVolume => "volume.delete", Done;
    MountVolume => "volume.mount", Mounted;
    UnmountVolume => "volume.unmount", Done;
    ResizeVolume => "volume.resize", Volume;
    CloneVolume => "volume.clone", Volume;
    RevertVolume => "volume.revert", Volume;
    ListVolumes => "volume.list", ListedVolumes;
    GetVolume => "volume.get", Volume;
    ListKept => "kept.list", ListedKept;
    DeleteKept => "kept.delete", Done;
    CreateSnapshot => "snapshot.create", Snapshot;
    DeleteSnapshot => "snapshot.delete", Done;
    ListSnapshots => "snapshot.list", ListedSnapshots;
    GetSnapshot => "snapshot.get", Snapshot;
    OpenSnapshot => "snapshot.open", OpenedSnapshot;
    ListExtents => "snapshot.extents", Extents;
    CloseSnapshot => "snapshot.close", Done;
    PrepareRestore => "restore.prepare", PreparedRestore;
    FinishRestore => "restore.finish", Volume;
    AbortRestore => "restore.abort", Done;
    CreateBackup => "backup.create", CreatedBackup;
    DeleteBackup => "backup.delete", Done;
    InspectBackup => "backup.inspect", BackupInfo;
    ListBackups => "backup.list", ListedBackups;
}

/// A success that has nothing to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Done {}

/// What a driver can do. Declared, never found out by failure: the host does not call what is not declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = crate::schema::open))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Capability {
    /// `snapshot.*` but `snapshot.open`.
    Snapshots,
    /// `snapshot.open` hands over a directory tree.
    ReadTree,
    /// `snapshot.open` hands over a block device with the extents in use.
    ReadBlock,
    /// With [`Capability::ReadBlock`]: extents changed since another snapshot can be asked for.
    ChangedExtents,
    /// `restore.prepare` can give a directory.
    RestoreTree,
    /// `restore.prepare` can give a block device.
    RestoreBlock,
    /// `backup.*`: the storage has backups of its own, with its own URLs.
    NativeBackup,
    /// `volume.resize` of a volume that is not mounted.
    ResizeOffline,
    /// `volume.resize` of a mounted volume.
    ResizeOnline,
    /// `volume.mount` at a path the caller names.
    MountAt,
    /// `volume.mount` in another mount namespace.
    MountNamespace,
    /// Volumes have a size that is enforced.
    Sized,
    /// `prepare_for_vm` images (`--vm`).
    VmImages,
    /// Other hosts may change the same volumes: the host asks again instead of trusting its memory alone.
    Shared,
    /// `snapshot.create` honours `freeze`.
    Freeze,
    /// `volume.clone`: a new volume from a snapshot. Since 1.1.
    Clone,
    /// `volume.revert`: a volume goes back to a snapshot. Since 1.1.
    Revert,
    /// `driver.check`. Since 1.1.
    Check,
    /// With [`Capability::ReadBlock`] or [`Capability::ReadTree`], which says what it hands over unasked: `snapshot.open`
    /// hands over the other as well, as its `kind` says. Since 1.2.
    ReadEither,
    /// `kept.list`, `kept.delete`: it tells what deletes with `reference_only` kept. Since 1.3.
    Kept,
    /// A capability of a newer minor version.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}

/// An option that a driver understands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OptionSpec {
    /// As the user writes it: `vfs.path` for the driver itself, `type` for a create.
    pub name: String,
    /// One line of help.
    pub help: String,
    /// What holds when it is not given, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Whether the driver refuses to open, or to create, without it.
    #[serde(default)]
    pub required: bool,
    /// Whether its value must never be logged, stored or shown.
    #[serde(default)]
    pub secret: bool,
    /// Of a create: whether Docker's users may give it (`docker volume create -o`), and not operators alone.
    /// Say so of an option that concerns the new volume alone: it names no other storage, no address, no key
    /// and no path of the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub docker: bool,
}

impl OptionSpec {
    /// An optional, open option.
    pub fn new(name: &str, help: &str) -> Self {
        Self { name: name.to_owned(), help: help.to_owned(), ..Self::default() }
    }

    /// Says what holds when it is not given.
    #[must_use]
    pub fn default_value(mut self, default: &str) -> Self {
        self.default = Some(default.to_owned());
        self
    }

    /// Lets Docker's users give it: see [`OptionSpec::docker`].
    #[must_use]
    pub fn for_docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// Says that the driver refuses to open, or to create, without it.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Says that its value is never logged, stored or shown.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// `driver.describe`: who are you? Answered before `driver.open`, without touching anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Describe {}

/// What a driver says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Description {
    /// The name users choose it by: `vfs`, `devicemapper`.
    pub name: Name,
    /// The driver's own version.
    pub version: String,
    /// The protocol version it was built with.
    pub protocol: String,
    /// One line for a person.
    #[serde(default)]
    pub summary: String,
    /// What it can do.
    pub capabilities: BTreeSet<Capability>,
    /// Options of the driver itself (`--driver-opts`).
    #[serde(default)]
    pub options: Vec<OptionSpec>,
    /// Options of a create (`convoy create --opt`, Docker's `-o`).
    #[serde(default)]
    pub create_options: Vec<OptionSpec>,
    /// What the URLs of its own backups begin with, if that is not its name: `do` for `digitalocean`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_scheme: Option<String>,
}

impl Description {
    /// A driver that can do no more than every driver: see [`Capability`] for what can be added.
    ///
    /// # Panics
    /// If the name breaks the rule for names.
    pub fn new(name: &'static str, version: &str, summary: &str) -> Self {
        Self {
            name: Name::from_static(name),
            version: version.to_owned(),
            protocol: PROTOCOL_VERSION.to_owned(),
            summary: summary.to_owned(),
            capabilities: BTreeSet::new(),
            options: Vec::new(),
            create_options: Vec::new(),
            backup_scheme: None,
        }
    }

    /// What the URLs of its own backups begin with.
    pub fn backup_scheme(&self) -> &str {
        self.backup_scheme.as_deref().unwrap_or(&self.name)
    }

    /// Whether it declares this capability.
    pub fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }
}

/// `driver.open`: take these options and this root, reconcile what a crash left, be ready.
///
/// Called once before anything else but `driver.describe`; a process that is restarted gets it again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Open {
    /// The driver's own directory for records (`<convoy root>/<driver>`), made by the driver if missing.
    pub root: PathBuf,
    /// The driver's options, by full name.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The options given here win over what the driver saved at an earlier start; otherwise one that differs from
    /// its saved value is refused with both values.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub override_saved: bool,
    /// A mount namespace to mount in (`/proc/<pid>/ns/mnt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_namespace: Option<PathBuf>,
    /// How long an external command may take before it is ended, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_timeout_ms: Option<u64>,
}

/// The driver is ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Opened {
    /// What a crash had left and was finished or undone, one line each.
    #[serde(default)]
    pub recovered: Vec<String>,
    /// What needs a person's attention (a damaged record, a full pool), one line each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `driver.info`: what `convoy info` shows for this driver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Info {}

/// Keys and values for a person and for scripts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InfoReply {
    /// Shown sorted by key.
    pub info: BTreeMap<String, String>,
}

/// `driver.probe`: is the storage well? Cheap; asked every few seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Probe {}

/// The answer to a probe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Probed {
    /// Whether new work can be taken.
    pub healthy: bool,
    /// Why not, or what soon will be wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `driver.close`: no more calls follow. Mounted volumes stay mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Close {}

/// The envelope of a call through a carrier: what [`crate::Context`] is rebuilt from on the driver's side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CallContext {
    /// Names the call in logs, progress and cancellation.
    pub request_id: String,
    /// Milliseconds from now until the caller stops waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}
