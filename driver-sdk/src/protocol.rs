//! The messages of the driver protocol.
//!
//! Both carriers carry these types as JSON: the shared library hands the bytes over a function call, the
//! subprocess frames them as JSON-RPC 2.0. Fields are only ever added within a major version: what a reader
//! does not know it ignores, what it misses has a default.
//!
//! So does code that is compiled against a newer version. A message is made by `new`, which takes what every
//! message of its kind has, and by a method for each other member:
//!
//! ```
//! use convoy_driver_sdk::protocol::{CreateVolume, Health, Volume};
//! use convoy_driver_sdk::{Name, Timestamp};
//!
//! let name = Name::parse("vol1")?;
//! let volume = Volume::new(name, 1 << 30, Timestamp::now()).mountpoint(Some("/mnt/vol1".into()));
//! assert!(volume.health == Health::Good && volume.snapshots.is_empty());
//!
//! // The rest is what newer versions add.
//! let CreateVolume { name, size, .. } = CreateVolume::new(volume.name);
//! # assert!(size.is_none() && name.as_str() == "vol1");
//! # Ok::<(), convoy_driver_sdk::DriverError>(())
//! ```

use crate::{Name, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

mod backup;
mod check;
mod data;
mod driver;
mod kept;
mod page;
mod snapshot;
mod volume;

use crate::message::{messages, setters};
pub use backup::{
    BackupInfo, CreateBackup, CreatedBackup, DeleteBackup, InspectBackup, ListBackups, ListedBackups,
};
pub use check::{Check, Checked, Finding, Severity};
pub use data::{
    AbortRestore, CloseSnapshot, Extent, Extents, FinishRestore, ListExtents, OpenSnapshot, OpenedSnapshot,
    PrepareRestore, PreparedRestore, SameFile, SourceKind, SourceLocation, TargetLocation,
};
pub use driver::{
    Capability, Close, Describe, Description, Info, InfoReply, Open, Opened, OptionSpec, Probe, Probed,
};
pub use kept::{DeleteKept, Kept, ListKept, ListedKept};
pub use page::Named;
pub use snapshot::{CreateSnapshot, DeleteSnapshot, GetSnapshot, ListSnapshots, ListedSnapshots, Snapshot};
pub use volume::{
    CloneVolume, CreateVolume, DeleteVolume, GetVolume, Health, ListVolumes, ListedVolumes, MountVolume,
    Mounted, ResizeVolume, RevertVolume, UnmountVolume, Volume,
};

/// The version this SDK speaks, `major.minor`: another major is refused, another minor only adds.
///
/// 1.1 added `volume.clone`, `volume.revert` and `driver.check`, each with a capability of its own; 1.2 the
/// `kind` of `snapshot.open`, with the capability `read_either`; 1.3 `kept.list` and `kept.delete`, with the
/// capability `kept`, and the capability `known_to_docker`.
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

/// What [`visit`] shows the requests to.
#[cfg(feature = "schema")]
pub(crate) trait Visitor {
    /// Takes a look at a request and what it is answered with.
    fn request<R: Request + schemars::JsonSchema>(&mut self)
    where
        R::Reply: schemars::JsonSchema;
}

macro_rules! requests {
    ($($request:ty => $method:literal, $reply:ty;)*) => {
        $(impl Request for $request {
            const METHOD: &'static str = $method;
            type Reply = $reply;
        })*

        /// Every method of the protocol, for documents and tests.
        pub const METHODS: &[&str] = &[$($method),*];

        /// Shows a visitor every request, in the order of the document.
        #[cfg(feature = "schema")]
        pub(crate) fn visit(visitor: &mut impl Visitor) {
            $(visitor.request::<$request>();)*
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

messages! {
    /// A success that has nothing to say.
    #[derive(Copy, Default)]
    pub struct Done {}
}
