//! `[[schedule]]` and `[scheduling]` of the configuration file, as users write them. [`crate::Schedule`]
//! checks them.

use convoy_driver_sdk::protocol::SourceKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// `[[schedule]]`: what is done with which volumes, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Names the schedule in commands and in the names of its snapshots.
    pub name: String,
    /// When: five fields (minute, hour, day of month, month, day of week), or `@daily` and the like.
    pub cron: String,
    /// The time zone of `cron` and of the days, weeks and months of `keep`, like `Europe/Berlin`; the
    /// machine's own unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Of which volumes, by patterns with `*`, `?` and `[...]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Of which not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Only of volumes that have all these labels in Docker: `KEY` or `KEY=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// A snapshot, or a snapshot and its backup.
    pub kind: Kind,
    /// Where backups go; may be left out for drivers that keep backups themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// A custom S3 endpoint of the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether backups are of the files or of the blocks: `tree` or `block`; what the driver hands over
    /// unasked unless said.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceKind>,
    /// What is left out of its backups: patterns in the syntax of gitignore.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_files: Vec<String>,
    /// Names of markers: of a directory that has one only itself and the marker is backed up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_if_present: Vec<String>,
    /// Whether the same holds for directories with a valid `CACHEDIR.TAG`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exclude_caches: bool,
    /// Whether `.convoyignore` in the root of a volume is followed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_convoyignore: bool,
    /// Tags that its backups get.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The note that its backups get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Until when its backups are pinned: `forever`, a date, a moment in RFC 3339, or so long after each
    /// backup, like `+90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_until: Option<PinConfig>,
    /// The file with the key to encrypt with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key_file: Option<PathBuf>,
    /// The file with the passphrase to encrypt with, in the place of a key file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
    /// `none`: not encrypted, also where the destination has a key or encrypted backups; as the destination
    /// is unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// What is kept: of snapshots for `kind = "snapshot"`, of backups for `kind = "backup"`; everything
    /// unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepConfig>,
    /// With `kind = "backup"`: what is kept of the snapshots that were made for it; the last one unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_snapshots: Option<KeepConfig>,
    /// Each volume begins up to this much later, always by the same amount for the same run: `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// Whether runs that were missed are made good by one.
    #[serde(default = "yes")]
    pub catch_up: bool,
    /// Whether writes to the volume are held back (fsfreeze) while the snapshot is made.
    #[serde(default)]
    pub freeze: bool,
    /// How long a run for a volume may take: `12h`; as long as it takes unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Whether nothing runs by itself.
    #[serde(default)]
    pub paused: bool,
    /// What runs before each snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<HookConfig>,
    /// What runs after the snapshot, whether it was made or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<HookConfig>,
    /// Who is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<NotifyConfig>,
}

/// Until when backups of a schedule are pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PinConfig {
    /// As it is written: `forever`, a date, or a moment. Whoever makes a backup checks it.
    Until(String),
    /// So many days after each backup.
    Days(u32),
}

/// The most days that a backup is pinned for: a hundred years.
const MAX_DAYS: u32 = 36_525;

impl TryFrom<String> for PinConfig {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let Some(span) = text.strip_prefix('+') else { return Ok(Self::Until(text)) };
        let (unit, days) = [('d', 1), ('w', 7), ('y', 365)]
            .into_iter()
            .find_map(|(unit, days)| Some((span.strip_suffix(unit)?, days)))
            .unwrap_or(("", 1));
        let number = unit.parse::<u32>().ok().filter(|_| unit.bytes().all(|byte| byte.is_ascii_digit()));
        let days = number.and_then(|number| number.checked_mul(days));
        days.filter(|days| (1..=MAX_DAYS).contains(days)).map(Self::Days).ok_or_else(|| {
            format!(
                "expected days, weeks or years like +90d, +12w or +7y, up to +{MAX_DAYS}d, found {text:?}"
            )
        })
    }
}

impl From<PinConfig> for String {
    fn from(pin: PinConfig) -> Self {
        pin.to_string()
    }
}

impl std::fmt::Display for PinConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Until(text) => f.write_str(text),
            Self::Days(days) => write!(f, "+{days}d"),
        }
    }
}

/// What a schedule makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Makes a snapshot.
    Snapshot,
    /// Makes a snapshot, and a backup of it.
    Backup,
}

impl Kind {
    /// As users write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Backup => "backup",
        }
    }
}

/// How backups are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// Stores backups in the clear.
    None,
}

/// How much is kept. Rules add up: what one of them keeps is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct KeepConfig {
    /// Keeps the last so many.
    #[serde(skip_serializing_if = "Count::is_none")]
    pub last: Count,
    /// Keeps the last one of each of the last so many hours that have one.
    #[serde(skip_serializing_if = "Count::is_none")]
    pub hourly: Count,
    /// The same of days.
    #[serde(skip_serializing_if = "Count::is_none")]
    pub daily: Count,
    /// The same of ISO weeks.
    #[serde(skip_serializing_if = "Count::is_none")]
    pub weekly: Count,
    /// The same of months.
    #[serde(skip_serializing_if = "Count::is_none")]
    pub monthly: Count,
    /// The same of years.
    #[serde(skip_serializing_if = "Count::is_none")]
    pub yearly: Count,
}

/// How many: a number, or `"all"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawCount", into = "RawCount")]
pub enum Count {
    /// At most this many.
    Some(u32),
    /// Everything is kept.
    All,
}

impl Default for Count {
    fn default() -> Self {
        Self::Some(0)
    }
}

impl Count {
    /// Whether the rule keeps nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::Some(0)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number or \"all\"")]
enum RawCount {
    Number(u32),
    Text(String),
}

impl TryFrom<RawCount> for Count {
    type Error = String;
    fn try_from(raw: RawCount) -> Result<Self, String> {
        match raw {
            RawCount::Number(count) => Ok(Self::Some(count)),
            RawCount::Text(text) if text == "all" => Ok(Self::All),
            RawCount::Text(text) => Err(format!("expected a number or \"all\", found {text:?}")),
        }
    }
}

impl From<Count> for RawCount {
    fn from(count: Count) -> Self {
        match count {
            Count::Some(count) => Self::Number(count),
            Count::All => Self::Text("all".to_owned()),
        }
    }
}

/// A command that runs before or after a snapshot: `command` on the host, or `exec` in containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct HookConfig {
    /// A program on the host and its arguments; no shell is involved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A program in running containers and its arguments, as `docker exec` runs it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<String>,
    /// With `exec`: only in containers with all these labels, `KEY` or `KEY=VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// With `exec`: also in containers that do not use the volume.
    #[serde(skip_serializing_if = "is_false")]
    pub any_container: bool,
    /// With `exec`: the user to run it as; that of the container unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Variables of its environment: `NAME=VALUE`, or `NAME` for the daemon's own value of that name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// How long it may take; `1m` unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Whether the run goes on when it fails.
    #[serde(skip_serializing_if = "is_false")]
    pub optional: bool,
}

/// Who is told how a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct NotifyConfig {
    /// A program on the host and its arguments; it gets the report as JSON on standard input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// With `command`: variables of its environment, as of a hook.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// An URL that the report is posted to as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Headers of that request, such as `Authorization`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Which runs are told of.
    pub on: Occasion,
}

/// Which runs are told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// Tells of runs that failed.
    #[default]
    Failure,
    /// Tells of every run.
    Always,
}

/// `[scheduling]`: what holds for all schedules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct SchedulingConfig {
    /// How many runs there may be at once; others wait.
    pub parallel: usize,
    /// After how long without any progress a run is told of, and others no longer wait for it.
    pub stalled_after: Patience,
    /// Docker's socket: for labels, and for hooks in containers.
    pub docker_socket: PathBuf,
}

/// A time of a second at least, like `90s`, `5m` or `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Patience(pub Duration);

impl TryFrom<String> for Patience {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let invalid = || format!("expected {A_SECOND_AT_LEAST}, found {text:?}");
        duration(&text).filter(|it| *it >= Duration::from_secs(1)).map(Self).ok_or_else(invalid)
    }
}

/// What may be written for a time limit.
pub(crate) const A_SECOND_AT_LEAST: &str = "at least 1s, like 90s, 5m or 1h30m";

/// A length of time as it is written, unless that is none.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    text.parse::<jiff::SignedDuration>().ok().and_then(|it| Duration::try_from(it).ok())
}

impl From<Patience> for String {
    fn from(Patience(duration): Patience) -> Self {
        format!("{:#}", jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX))
    }
}

impl Default for SchedulingConfig {
    fn default() -> Self {
        let stalled_after = Patience(Duration::from_secs(300));
        Self { parallel: 2, stalled_after, docker_socket: PathBuf::from("/var/run/docker.sock") }
    }
}

fn yes() -> bool {
    true
}

fn is_false(flag: &bool) -> bool {
    !flag
}
