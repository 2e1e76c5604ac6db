//! A schedule as it was configured, checked.

use crate::config::{
    A_SECOND_AT_LEAST, Count, Encryption, HookConfig, KeepConfig, Kind, NotifyConfig, Occasion, PinConfig,
    ScheduleConfig,
};
use crate::cron::{Cron, InvalidCron};
use crate::due::Timing;
use crate::keep::{KeepsNothing, Rules};
use crate::naming::MAX_SCHEDULE_BYTES;
use crate::select::{InvalidSelection, Label, Selection, parse_labels};
use convoy_driver_sdk::protocol::SourceKind;
use convoy_driver_sdk::{Name, Timestamp};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// How long a hook may take unless it says.
const HOOK_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest jitter. More would mix up the runs of days.
const MAX_JITTER: Duration = Duration::from_secs(24 * 3600);

/// How many runs are looked at to find the least time between two.
const RUNS_COMPARED: usize = 64;

/// A schedule that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schedule {name:?}: {why}")]
pub struct InvalidSchedule {
    /// Name of the schedule.
    pub name: String,
    /// What is wrong, and what was expected.
    pub why: Reason,
}

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each says what its fields are")]
pub enum Reason {
    /// The name cannot be a part of names of snapshots.
    #[error(
        "invalid name: expected 2 to {MAX_SCHEDULE_BYTES} letters, digits, '-', '_' and '.', beginning with a letter or digit"
    )]
    Name,
    /// Another schedule has the name.
    #[error("there are two of this name")]
    Twice,
    /// The cron expression cannot be understood.
    #[error(transparent)]
    Cron(#[from] InvalidCron),
    /// The schedule's time zone is not known.
    #[error(
        "invalid timezone {0:?}: expected a name like Europe/Berlin or UTC, which this machine's tzdata knows"
    )]
    Zone(String),
    /// The machine's time zone is not known.
    #[error(
        "the machine's time zone {0:?} (TZ, or where /etc/localtime points) is unknown: expected a name like \
         Europe/Berlin or UTC, which this machine's tzdata knows; set it right, or timezone of the schedule"
    )]
    MachineZone(String),
    /// The selection of volumes cannot be understood.
    #[error(transparent)]
    Selection(#[from] InvalidSelection),
    /// A rule keeps nothing.
    #[error("{0}: {1}")]
    Keep(&'static str, KeepsNothing),
    /// A duration cannot be understood.
    #[error("invalid {field} {text:?}: expected {expected}")]
    Duration { field: &'static str, text: String, expected: &'static str },
    /// The next run would be due before this one has begun.
    #[error("jitter {0:?} is not shorter than the time between two runs of {1:?}")]
    JitterOverlaps(String, String),
    /// A field that has no meaning for this kind.
    #[error("{0} is only for kind = \"backup\"")]
    OnlyBackup(&'static str),
    /// A hook that does not say what to run, or both ways.
    #[error("a hook needs either command or exec")]
    Hook,
    /// A field of the other kind of hook.
    #[error("{0} of a hook is only for exec, which runs in containers")]
    OnlyExec(&'static str),
    /// A notification that does not say how, or both ways.
    #[error("notify needs either command or webhook")]
    Notify,
    /// A variable without a name. The text is not repeated: its value may be a secret.
    #[error("an entry of environment has no name: expected NAME or NAME=VALUE")]
    Variable,
    /// An environment for what is no program.
    #[error("environment of notify is only for command")]
    OnlyCommand,
    /// An URL that cannot be posted to.
    #[error("invalid webhook {0:?}: expected http:// or https://")]
    Webhook(String),
    /// A file that is looked for in no particular directory.
    #[error("invalid {0} {1:?}: expected an absolute path")]
    KeyFile(&'static str, PathBuf),
    /// Backups cannot go there.
    #[error("invalid destination {url:?}: {expected}")]
    Destination { url: String, expected: String },
    /// A rule that leaves out nothing.
    #[error("{0}")]
    Exclude(String),
    /// Tags, a note or a date that backups cannot have.
    #[error("{why}")]
    Label { field: &'static str, why: String },
    /// Two ways to open what one opens.
    #[error("expected either encryption-key-file or passphrase-file, found both")]
    TwoKeys,
    /// A key, and that there is none.
    #[error("expected either encryption = \"none\" or a key, found both")]
    KeyForNone,
}

/// The machine's time zone. One that says nowhere what it is is at UTC, as all its other programs take it.
fn machine_zone() -> Result<TimeZone, Reason> {
    TimeZone::try_system().or_else(|_| {
        let named = match std::env::var_os("TZ") {
            Some(name) => PathBuf::from(name),
            None => std::fs::read_link("/etc/localtime").unwrap_or_default(),
        };
        match named.file_name() {
            None => Ok(TimeZone::UTC),
            Some(name) if name == "UTC" => Ok(TimeZone::UTC),
            Some(_) => Err(Reason::MachineZone(named.display().to_string())),
        }
    })
}

impl Reason {
    /// The field that is wrong, or the one that names the schedule.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::Cron(_) => "cron",
            Self::Zone(_) => "timezone",
            Self::JitterOverlaps(..) => "jitter",
            Self::Destination { .. } => "destination",
            Self::Exclude(_) => "exclude-files",
            Self::TwoKeys => "passphrase-file",
            Self::KeyForNone => "encryption",
            Self::Label { field, .. } => field,
            Self::Duration { field, .. } | Self::OnlyBackup(field) | Self::KeyFile(field, _) => field,
            // A table, or in one of several.
            Self::Name
            | Self::Twice
            | Self::MachineZone(_)
            | Self::Selection(_)
            | Self::Keep(..)
            | Self::Hook
            | Self::OnlyExec(_)
            | Self::Notify
            | Self::Variable
            | Self::OnlyCommand
            | Self::Webhook(_) => "name",
        }
    }
}

/// A schedule as a user wrote it, checked.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Name of the schedule, which is part of the names of its snapshots.
    pub name: String,
    /// When it runs.
    pub timing: Timing,
    /// Which volumes it is for.
    pub selection: Selection,
    /// What it makes.
    pub kind: Kind,
    /// Where backups go; empty: the driver's own place.
    pub destination: String,
    /// A custom S3 endpoint; empty: none.
    pub endpoint: String,
    /// Whether backups are of the files or of the blocks; `None`: the driver's own choice.
    pub source: Option<SourceKind>,
    /// What is left out: patterns in the syntax of gitignore.
    pub exclude_files: Vec<String>,
    /// What is left out: directories that have one of these in them, but for it.
    pub exclude_if_present: Vec<String>,
    /// What is left out: directories of caches.
    pub exclude_caches: bool,
    /// What is left out: what `.convoyignore` in the volume says.
    pub allow_convoyignore: bool,
    /// Tags that its backups get.
    pub tags: BTreeMap<String, String>,
    /// The note that its backups get; empty: none.
    pub note: String,
    /// Until when its backups are pinned; `None`: they are not.
    pub keep_until: Option<PinConfig>,
    /// The key to encrypt with.
    pub encryption_key_file: Option<PathBuf>,
    /// The passphrase to encrypt with.
    pub passphrase_file: Option<PathBuf>,
    /// Whether its backups are stored in the clear, wherever they go.
    pub unencrypted: bool,
    /// What is kept of its backups; `None`: everything.
    pub keep_backups: Option<Rules>,
    /// What is kept of its snapshots; `None`: everything.
    pub keep_snapshots: Option<Rules>,
    /// Whether writes are held back while a snapshot is made.
    pub freeze: bool,
    /// How long a run for a volume may take.
    pub timeout: Option<Duration>,
    /// Whether nothing runs by itself.
    pub paused: bool,
    /// What runs before each snapshot.
    pub before: Vec<Hook>,
    /// What runs after it.
    pub after: Vec<Hook>,
    /// Who is told.
    pub notify: Vec<Notify>,
}

/// A command that runs before or after a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// A program and its arguments; never empty.
    pub command: Vec<String>,
    /// Where the command runs.
    pub place: Where,
    /// Further variables of its environment.
    pub environment: Vec<Variable>,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether the run goes on when it fails.
    pub optional: bool,
}

/// A variable of a program's environment. The value may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Name of the variable.
    pub name: String,
    /// Its value; `None`: the one that the daemon has.
    pub value: Option<String>,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Variable({})", self.name)
    }
}

impl Variable {
    fn all(texts: &[String]) -> Result<Vec<Self>, Reason> {
        let parse = |text: &String| {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text.as_str(), None),
            };
            if name.is_empty() || text.contains('\0') {
                return Err(Reason::Variable);
            }
            Ok(Self { name: name.to_owned(), value })
        };
        texts.iter().map(parse).collect()
    }
}

/// Where a hook runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// On the host.
    Host,
    /// In running containers.
    Containers {
        /// With all these labels.
        labels: Vec<Label>,
        /// Also in those that do not use the volume.
        any: bool,
        /// As this user.
        user: Option<String>,
    },
}

/// Who is told how a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// How they are told.
    pub channel: Channel,
    /// Which runs they are told of.
    pub on: Occasion,
}

/// How somebody is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// A program and its arguments, with further variables of its environment.
    Command(Vec<String>, Vec<Variable>),
    /// An URL and headers to post to it with.
    Webhook(String, BTreeMap<String, String>),
}

impl Schedule {
    /// Checks all schedules of a configuration.
    ///
    /// # Errors
    /// The first that makes no sense.
    pub fn all(configs: &[ScheduleConfig]) -> Result<Vec<Self>, InvalidSchedule> {
        let mut names = BTreeSet::new();
        let check = |config: &ScheduleConfig| {
            if !names.insert(config.name.clone()) {
                return Err(InvalidSchedule { name: config.name.clone(), why: Reason::Twice });
            }
            Self::new(config)
        };
        configs.iter().map(check).collect()
    }

    /// Checks a schedule.
    ///
    /// # Errors
    /// What is wrong.
    pub fn new(config: &ScheduleConfig) -> Result<Self, InvalidSchedule> {
        Self::check(config).map_err(|why| InvalidSchedule { name: config.name.clone(), why })
    }

    fn check(config: &ScheduleConfig) -> Result<Self, Reason> {
        if config.name.len() > MAX_SCHEDULE_BYTES || Name::parse(config.name.clone()).is_err() {
            return Err(Reason::Name);
        }
        let zone = match &config.timezone {
            Some(name) => TimeZone::get(name).map_err(|_| Reason::Zone(name.clone()))?,
            None => machine_zone()?,
        };
        if config.kind == Kind::Snapshot {
            let given = [
                ("destination", config.destination.is_some()),
                ("endpoint", config.endpoint.is_some()),
                ("as", config.source.is_some()),
                ("exclude-files", !config.exclude_files.is_empty()),
                ("exclude-if-present", !config.exclude_if_present.is_empty()),
                ("exclude-caches", config.exclude_caches),
                ("allow-convoyignore", config.allow_convoyignore),
                ("tags", !config.tags.is_empty()),
                ("note", config.note.is_some()),
                ("keep-until", config.keep_until.is_some()),
                ("encryption-key-file", config.encryption_key_file.is_some()),
                ("passphrase-file", config.passphrase_file.is_some()),
                ("encryption", config.encryption.is_some()),
                ("keep-snapshots", config.keep_snapshots.is_some()),
            ];
            if let Some((field, _)) = given.into_iter().find(|(_, given)| *given) {
                return Err(Reason::OnlyBackup(field));
            }
        }
        let files = [
            ("encryption-key-file", &config.encryption_key_file),
            ("passphrase-file", &config.passphrase_file),
        ];
        for (field, path) in files {
            if let Some(path) = path.as_ref().filter(|path| !path.is_absolute()) {
                return Err(Reason::KeyFile(field, path.clone()));
            }
        }
        if files.iter().all(|(_, path)| path.is_some()) {
            return Err(Reason::TwoKeys);
        }
        let unencrypted = config.encryption == Some(Encryption::None);
        if unencrypted && files.iter().any(|(_, path)| path.is_some()) {
            return Err(Reason::KeyForNone);
        }
        let rules = |field, keep: &KeepConfig| {
            Rules::new(keep, zone.clone()).map_err(|error| Reason::Keep(field, error))
        };
        let keep = config.keep.as_ref().map(|keep| rules("keep", keep)).transpose()?;
        let (keep_backups, keep_snapshots) = match config.kind {
            Kind::Snapshot => (None, keep),
            Kind::Backup => {
                let only_last = KeepConfig { last: Count::Some(1), ..KeepConfig::default() };
                let snapshots = rules("keep-snapshots", &config.keep_snapshots.unwrap_or(only_last))?;
                (keep, Some(snapshots))
            }
        };
        let jitter = match &config.jitter {
            None => Duration::ZERO,
            Some(text) => duration("jitter", text, "at most 24h, like 10m", |it| it <= MAX_JITTER)?,
        };
        let cron = Cron::parse(&config.cron, zone)?;
        if jitter >= shortest_gap(&cron) {
            let text = config.jitter.clone().unwrap_or_default();
            return Err(Reason::JitterOverlaps(text, config.cron.clone()));
        }
        let timeout = config.timeout.as_ref().map(|text| at_least_a_second("timeout", text)).transpose()?;
        Ok(Self {
            name: config.name.clone(),
            timing: Timing { cron, jitter, catch_up: config.catch_up },
            selection: Selection::new(&config.volumes, &config.exclude, &config.labels)?,
            kind: config.kind,
            destination: config.destination.clone().unwrap_or_default(),
            endpoint: config.endpoint.clone().unwrap_or_default(),
            source: config.source,
            exclude_files: config.exclude_files.clone(),
            exclude_if_present: config.exclude_if_present.clone(),
            exclude_caches: config.exclude_caches,
            allow_convoyignore: config.allow_convoyignore,
            tags: config.tags.clone(),
            note: config.note.clone().unwrap_or_default(),
            keep_until: config.keep_until.clone(),
            encryption_key_file: config.encryption_key_file.clone(),
            passphrase_file: config.passphrase_file.clone(),
            unencrypted,
            keep_backups,
            keep_snapshots,
            freeze: config.freeze,
            timeout,
            paused: config.paused,
            before: config.before.iter().map(Hook::new).collect::<Result<_, _>>()?,
            after: config.after.iter().map(Hook::new).collect::<Result<_, _>>()?,
            notify: config.notify.iter().map(Notify::new).collect::<Result<_, _>>()?,
        })
    }

    /// Whether Docker has to be asked for labels, or for containers.
    pub fn needs_docker(&self) -> bool {
        let in_container = |hook: &Hook| hook.place != Where::Host;
        self.selection.needs_labels() || self.before.iter().chain(&self.after).any(in_container)
    }
}

impl Hook {
    fn new(config: &HookConfig) -> Result<Self, Reason> {
        let timeout = match &config.timeout {
            None => HOOK_TIMEOUT,
            Some(text) => at_least_a_second("timeout", text)?,
        };
        let (command, place) = match (config.command.as_slice(), config.exec.as_slice()) {
            ([_, ..], []) => {
                let given = [
                    ("labels", !config.labels.is_empty()),
                    ("any-container", config.any_container),
                    ("user", config.user.is_some()),
                ];
                if let Some((field, _)) = given.into_iter().find(|(_, given)| *given) {
                    return Err(Reason::OnlyExec(field));
                }
                (config.command.clone(), Where::Host)
            }
            ([], [_, ..]) => {
                let labels = parse_labels(&config.labels)?;
                let place =
                    Where::Containers { labels, any: config.any_container, user: config.user.clone() };
                (config.exec.clone(), place)
            }
            _ => return Err(Reason::Hook),
        };
        let environment = Variable::all(&config.environment)?;
        Ok(Self { command, place, environment, timeout, optional: config.optional })
    }
}

impl Notify {
    fn new(config: &NotifyConfig) -> Result<Self, Reason> {
        let channel = match (&config.webhook, config.command.as_slice()) {
            (None, [_, ..]) => Channel::Command(config.command.clone(), Variable::all(&config.environment)?),
            (Some(_), []) if !config.environment.is_empty() => return Err(Reason::OnlyCommand),
            (Some(url), []) if url.starts_with("http://") || url.starts_with("https://") => {
                Channel::Webhook(url.clone(), config.headers.clone())
            }
            (Some(url), []) => return Err(Reason::Webhook(url.clone())),
            _ => return Err(Reason::Notify),
        };
        Ok(Self { channel, on: config.on })
    }
}

/// The least time between two runs, as far as some runs tell.
fn shortest_gap(cron: &Cron) -> Duration {
    let mut shortest = Duration::MAX;
    let mut time = Timestamp::from_unix(0);
    for _ in 0..RUNS_COMPARED {
        let Some(next) = cron.next_after(time) else { break };
        if time.unix() > 0 {
            shortest = shortest.min(Duration::from_secs(next.unix().abs_diff(time.unix())));
        }
        time = next;
    }
    shortest
}

fn at_least_a_second(field: &'static str, text: &str) -> Result<Duration, Reason> {
    duration(field, text, A_SECOND_AT_LEAST, |it| it >= Duration::from_secs(1))
}

fn duration(
    field: &'static str,
    text: &str,
    expected: &'static str,
    good: impl Fn(Duration) -> bool,
) -> Result<Duration, Reason> {
    let parsed = crate::config::duration(text);
    let invalid = || Reason::Duration { field, text: text.to_owned(), expected };
    parsed.filter(|parsed| good(*parsed)).ok_or_else(invalid)
}
