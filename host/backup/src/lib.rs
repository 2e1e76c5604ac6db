//! convoy's backup engine: incremental, deduplicated, parallel, verified.
//!
//! - [`Engine`] does everything: [`Engine::prepare`] and [`Preparation::run`] (or [`Engine::backup`]),
//!   [`Engine::restore`], [`Engine::list`], [`Engine::inspect`], [`Engine::stats`], [`Engine::delete`],
//!   [`Engine::verify`], [`Engine::prune`].
//! - [`Source`] says where the bytes are that a driver hands over, [`Target`] where they go.
//! - [`Progress`] can be read while something runs; a `CancellationToken` stops it.
//!
//! docs/backup-format.md describes what is stored. Inside: `format` is the new format, `v0` that of convoy
//! 0.5, `engine` moves the data, `lock` keeps deletions away from what is in use.

mod browse;
mod crypt;
mod engine;
mod error;
mod exclude;
mod format;
#[doc(hidden)]
pub mod fuzz;
#[doc(hidden)]
pub mod hot;
mod labels;
mod layout;
mod lock;
pub mod look;
mod memory;
mod parts;
mod progress;
mod record;
pub mod timestamp;
mod types;
mod v0;

pub use browse::{
    Beside, Browse, ContentId, Node, ReadAt, Searched, Take, Visit, Visitor, Wanted, browse_directory,
};
pub use convoy_tree::Losses;
pub use crypt::{KeySource, StoreKey, add_key, list_keys, remove_key};
pub use engine::backup::Preparation;
pub use engine::restore::TrustedInfo;
pub use engine::{Engine, EngineOptions};
pub use error::{BackupError, BackupResult};
pub use exclude::{ExcludeError, ExcludeRules, Excluded, ExcludedBy};
pub use format::manifest::BackupKind;
pub use labels::{KeepUntil, LabelChange, LabelError, Labels, PinChange};
pub use parts::{
    Action, Begins, Change, Existing, PartsOptions, PartsSummary, Selection, Told, find_path, path_in_tree,
    restore_in_place, restore_parts,
};
pub use progress::{Phase, Progress, ProgressSnapshot};
pub use record::BackupStats;
pub use types::{
    BackupInfo, BackupMeta, BackupOptions, BackupSummary, ChunkStats, DeleteOptions, DeleteSummary,
    ExtentStream, Extents, Fault, FaultKind, Format, Listing, ParentInfo, PruneOptions, PruneSummary,
    RestoreOptions, RestoreSummary, SameFile, Source, SourceExtent, StatsOptions, StatsSummary, Target,
    Unencrypted, VerifyOptions, VerifySummary, VolumeStats,
};
