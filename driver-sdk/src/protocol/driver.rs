//! `driver.*`: what a driver is, and how it is opened, watched and closed.

use super::{BTreeMap, BTreeSet, Deserialize, Name, PROTOCOL_VERSION, PathBuf, Serialize, messages, setters};

/// What a driver can do. Declared, never found out by failure: the host does not call what is not declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = crate::message::open_set))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Capability {
    /// `snapshot.create`, `delete`, `list`, `get` and `close`. What can be read, the next ones say.
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
    /// Volumes can be images for virtual machines (`create --vm`).
    VmImages,
    /// Other hosts may change the same volumes: the host asks again instead of trusting its memory alone.
    Shared,
    /// `snapshot.create` with `freeze` holds the mounted file system still.
    Freeze,
    /// `volume.clone`: a new volume from a snapshot. Since 1.1.
    Clone,
    /// `volume.revert`: a volume goes back to a snapshot. Since 1.1.
    Revert,
    /// `driver.check` compares records with what is really there. Since 1.1.
    Check,
    /// With [`Capability::ReadBlock`] or [`Capability::ReadTree`], which says what it hands over unasked:
    /// `snapshot.open` hands over the other as well, as its `kind` says. Since 1.2.
    ReadEither,
    /// `kept.list`, `kept.delete`: it tells what deletes with `reference_only` kept. Since 1.3.
    Kept,
    /// Its volumes are those of Docker's engine itself: at Docker's plugin socket the host does as if they
    /// were not there. Since 1.3.
    KnownToDocker,
    /// A capability of a newer minor version.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}

/// An option that a driver understands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
#[must_use]
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
    pub fn default_value(mut self, default: &str) -> Self {
        self.default = Some(default.to_owned());
        self
    }

    /// Lets Docker's users give it: see [`OptionSpec::docker`].
    pub fn for_docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// Says that the driver refuses to open, or to create, without it.
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Says that its value is never logged, stored or shown.
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

messages! {
    /// `driver.describe`: who are you? Answered before `driver.open`, without touching anything.
    #[derive(Copy, Default)]
    pub struct Describe {}
}

/// What a driver says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Description {
    /// The name users choose it by: `vfs`, `devicemapper`.
    pub name: Name,
    /// The driver's own version.
    pub version: String,
    /// The protocol version it was built with.
    pub protocol: String,
    /// What the driver is, in one line for a person.
    #[serde(default)]
    pub summary: String,
    /// What the driver can do.
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

    /// What the URLs of its own backups begin with: the member of that name, or the name of the driver.
    pub fn backup_scheme(&self) -> &str {
        self.backup_scheme.as_deref().unwrap_or(&self.name)
    }

    setters! {
        capabilities: BTreeSet<Capability>,
        options: Vec<OptionSpec>,
        create_options: Vec<OptionSpec>,
    }

    /// Whether it declares this capability.
    pub fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }
}

messages! {
    /// `driver.open`: take these options and this root, reconcile what a crash left, be ready.
    ///
    /// Called once before anything else but `driver.describe`; a process that is restarted gets it again.
    #[derive(Default)]
    pub struct Open {
        /// The driver's own directory for records (`<convoy root>/<driver>`), made by the driver if missing.
        root: PathBuf,
        ;
        /// The driver's options, by full name.
        options: BTreeMap<String, String>,
        /// The options given here win over what the driver saved at an earlier start; otherwise one that
        /// differs from its saved value is refused with both values.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        override_saved: bool,
        /// A mount namespace to mount in (`/proc/<pid>/ns/mnt`).
        #[serde(skip_serializing_if = "Option::is_none")]
        mount_namespace: Option<PathBuf>,
        /// How long an external command may take before it is ended, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        command_timeout_ms: Option<u64>,
    }

    /// The driver is ready.
    #[derive(Default)]
    pub struct Opened {
        ;
        /// What a crash had left and was finished or undone, one line each.
        recovered: Vec<String>,
        /// What needs a person's attention (a damaged record, a full pool), one line each.
        warnings: Vec<String>,
    }

    /// `driver.info`: what `convoy info` shows for this driver.
    #[derive(Copy, Default)]
    pub struct Info {}

    /// Keys and values for a person and for scripts.
    #[derive(Default)]
    pub struct InfoReply {
        /// Shown sorted by key.
        info: BTreeMap<String, String>,
    }

    /// `driver.probe`: is the storage well? Cheap; asked every few seconds.
    #[derive(Copy, Default)]
    pub struct Probe {}
}

/// The answer to a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Probed {
    /// Whether new work can be taken.
    pub healthy: bool,
    /// Why not, or what soon will be wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Probed {
    /// New work can be taken.
    pub fn well() -> Self {
        Self { healthy: true, message: None }
    }

    /// No new work can be taken; `why` says what is wrong.
    pub fn unwell(why: impl Into<String>) -> Self {
        Self { healthy: false, message: Some(why.into()) }
    }

    setters! {
        message: Option<String>,
    }
}

messages! {
    /// `driver.close`: no more calls follow. Mounted volumes stay mounted.
    #[derive(Copy, Default)]
    pub struct Close {}
}
