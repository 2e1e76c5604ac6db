//! Where convoy's backups live.
//!
//! - [`ObjectStore`] is the one small trait; what it promises is written there.
//! - [`DirectoryStore`] keeps objects in a directory, local or NFS.
//! - `S3Store` (feature `s3`) keeps them in a bucket, at AWS or elsewhere.
//! - [`RetryStore`], [`LimitedStore`] and [`FaultStore`] wrap a store: they try again, keep a rate, or fail
//!   as told.
//! - [`Destination`] and [`BackupUrl`] are what users write. [`SCHEMES`] has the kinds of stores that they
//!   name, each a [`Scheme`] with its URLs, settings and abilities.

mod destination;
mod directory;
mod error;
mod faults;
mod limit;
mod retry;
#[cfg(feature = "s3")]
mod s3;
mod schemes;
mod store;
mod urls;

/// Names of volumes and backups: the rule is that of drivers.
pub use convoy_driver_sdk::name::has_name_form;
pub use destination::{BackupUrl, Destination, plain_url, split};
pub use directory::DirectoryStore;
pub use error::StoreError;
pub use faults::{Call, Fault, FaultStore};
pub use limit::{Bandwidth, LimitedStore};
pub use retry::{RetryPolicy, RetryStore};
#[cfg(feature = "s3")]
pub use s3::{CredentialsSource, S3Options, S3Store};
pub use schemes::{
    Abilities, Location, SCHEMES, Scheme, SettingKind, StoreOptions, StoreSetting, forms, prefixes_with,
    scheme,
};
pub use store::{
    ByteStream, Depth, LIST_MAX, ObjectInfo, ObjectStore, Page, Pages, PutOutcome, check_dir, check_key,
    list_all,
};
pub use urls::DestinationError;
