//! The daemon's settings: one row each, and everything that is made from the rows.
//!
//! A setting is a key of `convoy.toml`, a flag of `convoy daemon` and an environment variable. From its row
//! come the flag with its help and completion, what the file may hold, the order of the layers, what a reload
//! takes over, `convoy config show` and the table in `docs/operations/configuration.md`. To add a setting,
//! add a row to [`Settings`] and use its field.
//!
//! - `flags`: the flags; [`values`]: what was given, and where; [`duration`]: how long something may take.

pub mod duration;
mod flags;
pub mod values;

use std::path::PathBuf;
use std::time::Duration;
use values::{Address, InvalidValue, Size, Values, at_least_a_minute, duration, list, names, one, optional};
use values::{mount_namespace, one_of};

/// The driver of a daemon that is given none. It is compiled in.
pub const EMBEDDED_DRIVER: &str = "vfs";

/// The directory where convoy 0.5 kept its records.
pub const DEFAULT_ROOT: &str = "/var/lib/rancher/convoy";

/// How a setting is written on the command line and in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The value is any text.
    Text,
    /// The value is a path.
    Path,
    /// `true` or `false`; a flag alone is `true`.
    Switch,
    /// A number of bytes, like `128M`.
    Size,
    /// Several texts: a list in the file; a flag is repeated, or its values stand between this character.
    List(char),
}

/// A row of the table of settings.
#[derive(Debug)]
pub struct Setting {
    /// The key in the file; with `--` before it, the flag.
    pub key: &'static str,
    /// The environment variable.
    pub variable: &'static str,
    /// What the help calls the value.
    pub value_name: &'static str,
    /// How it is written.
    pub kind: Kind,
    /// The value where nobody gives one, as the file would have it; a list with commas. Empty: none.
    pub default: &'static str,
    /// What holds where there is no default, in words.
    pub unset: &'static str,
    /// The values there are, where they are few.
    pub choices: &'static [&'static str],
    /// Whether a reload takes it over; all others need a restart.
    pub reload: bool,
    /// Whether it is saved in `convoy.cfg` and holds for the next start, too.
    pub saved: bool,
    /// Whether it is a key of the file. One that is not names another file, with a table that may stand
    /// there.
    pub in_file: bool,
    /// What it is for, as the help says it.
    pub help: &'static str,
    /// What the document says besides, in Markdown.
    pub more: &'static str,
}

impl Setting {
    /// What most rows have.
    const PLAIN: Self = Self {
        key: "",
        variable: "",
        value_name: "",
        kind: Kind::Text,
        default: "",
        unset: "",
        choices: &[],
        reload: false,
        saved: false,
        in_file: true,
        help: "",
        more: "",
    };

    /// The row with this key.
    pub fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}

/// Makes [`Settings`] and [`SETTINGS`] of rows: the help as a doc comment, the field, its type, the function
/// that parses it, and what is not as in [`Setting::PLAIN`].
macro_rules! settings {
    (@row $key:literal, [$($help:literal)+], $($row:tt)*) => {
        Setting { key: $key, help: concat!($($help),+).trim_ascii_start(), $($row)* ..Setting::PLAIN }
    };
    ($($(#[doc = $help:literal])+ $field:ident: $type:ty = $parse:expr, { key: $key:literal, $($row:tt)* })*) => {
        /// The daemon's settings, parsed.
        #[derive(Debug, Clone)]
        pub struct Settings {
            $($(#[doc = $help])+ pub $field: $type,)*
        }

        /// The table of settings.
        pub const SETTINGS: &[Setting] = &[$(settings!(@row $key, [$($help)+], $($row)*)),*];

        impl Settings {
            /// Parses the values of all settings.
            ///
            /// # Errors
            /// [`InvalidValue`]: the first that its setting cannot have.
            pub fn parse(values: &Values) -> Result<Self, InvalidValue> {
                Ok(Self { $($field: values.parse($key, $parse)?,)* })
            }
        }
    };
}

settings! {
    /// The directory of the daemon's and the drivers' records
    root: PathBuf = one, {
        key: "root", variable: "CONVOY_ROOT", value_name: "DIR", kind: Kind::Path,
        default: DEFAULT_ROOT,
        more: "and of volumes, unless a driver is told otherwise",
    }
    /// A driver to load; may be repeated, the first is the default one
    drivers: Vec<String> = names, {
        key: "drivers", variable: "CONVOY_DRIVERS", value_name: "DRIVER", kind: Kind::List(','),
        default: EMBEDDED_DRIVER, saved: true,
    }
    /// A directory to look for drivers in; may be repeated
    driver_path: Vec<PathBuf> = list, {
        key: "driver-path", variable: "CONVOY_DRIVER_PATH", value_name: "DIR", kind: Kind::List(':'),
        more: "they come before `/usr/lib/convoy/drivers`",
    }
    /// How long a command that a driver runs may take, at least 1m
    cmd_timeout: Option<Duration> = at_least_a_minute, {
        key: "cmd-timeout", variable: "CONVOY_CMD_TIMEOUT", value_name: "DURATION",
        unset: "as long as the call that it is for", saved: true,
    }
    /// Mount in this mount namespace, like /proc/1/ns/mnt
    mnt_ns: Option<PathBuf> = mount_namespace, {
        key: "mnt-ns", variable: "CONVOY_MNT_NS", value_name: "FILE",
        saved: true,
    }
    /// Do nothing when Docker says that a volume is to be deleted
    ignore_docker_delete: bool = one, {
        key: "ignore-docker-delete", variable: "CONVOY_IGNORE_DOCKER_DELETE", value_name: "BOOL",
        kind: Kind::Switch, default: "false", reload: true, saved: true,
    }
    /// Create a volume when Docker mounts one that does not exist
    create_on_docker_mount: bool = one, {
        key: "create-on-docker-mount", variable: "CONVOY_CREATE_ON_DOCKER_MOUNT", value_name: "BOOL",
        kind: Kind::Switch, default: "false", reload: true, saved: true,
    }
    /// What becomes of a volume's data when Docker removes the volume: keep or delete
    docker_remove: String = one_of, {
        key: "docker-remove", variable: "CONVOY_DOCKER_REMOVE", value_name: "POLICY",
        default: "keep", choices: &["keep", "delete"], reload: true,
    }
    /// An option of creates that Docker's users may give though it is for operators: DRIVER.OPTION; may be
    /// repeated
    docker_options: Vec<String> = list, {
        key: "docker-options", variable: "CONVOY_DOCKER_OPTIONS", value_name: "DRIVER.OPTION",
        kind: Kind::List(','), reload: true,
        more: "like `[\"ebs.id\"]`: [what Docker's users may ask for](#what-dockers-users-may-ask-for)",
    }
    /// The unix socket where everything is served
    socket: PathBuf = one, {
        key: "socket", variable: "CONVOY_SOCKET", value_name: "PATH", kind: Kind::Path,
        default: convoy_client::DEFAULT_SOCKET,
        more: "one that systemd hands over comes before it",
    }
    /// A group whose members may use the socket, beside root
    socket_group: Option<String> = optional, {
        key: "socket-group", variable: "CONVOY_SOCKET_GROUP", value_name: "GROUP",
    }
    /// Serve Docker's plugin calls at this socket, too, and nothing else there
    docker_socket: Option<PathBuf> = optional, {
        key: "docker-socket", variable: "CONVOY_DOCKER_SOCKET", value_name: "PATH", kind: Kind::Path,
    }
    /// A group whose members may use Docker's socket, beside root
    docker_socket_group: Option<String> = optional, {
        key: "docker-socket-group", variable: "CONVOY_DOCKER_SOCKET_GROUP", value_name: "GROUP",
    }
    /// Log there instead of to standard output
    log: Option<PathBuf> = optional, {
        key: "log", variable: "CONVOY_LOG", value_name: "FILE", kind: Kind::Path,
    }
    /// How much to log: error, warn, info, debug or trace
    log_level: String = one_of, {
        key: "log-level", variable: "CONVOY_LOG_LEVEL", value_name: "LEVEL",
        default: "info", choices: &["error", "warn", "info", "debug", "trace"], reload: true,
    }
    /// The form of the log: text, json, journal (for journald), or auto: journal under systemd, else text
    log_format: String = one_of, {
        key: "log-format", variable: "CONVOY_LOG_FORMAT", value_name: "FORM",
        default: "auto", choices: &["auto", "text", "json", "journal"],
        more: "[the log](../monitoring.md#log)",
    }
    /// Tell metrics here, too: an address and port like 127.0.0.1:9413, or unix:/PATH
    metrics_listen: Option<Address> = optional, {
        key: "metrics-listen", variable: "CONVOY_METRICS_LISTEN", value_name: "ADDRESS",
        more: "[metrics](../monitoring.md)",
    }
    /// How long running work may take to end when the daemon stops; a third of it to end by itself, the rest
    /// to undo
    stop_timeout: Duration = duration, {
        key: "stop-timeout", variable: "CONVOY_STOP_TIMEOUT", value_name: "DURATION",
        // Less than the 90 s after which systemd kills.
        default: "45s", reload: true,
    }
    /// Memory that all backups and restores together may use, at least 48M
    memory: Size = one, {
        key: "memory", variable: "CONVOY_MEMORY", value_name: "SIZE", kind: Kind::Size,
        default: "128M",
        more: "[memory](../backups.md#memory)",
    }
    /// A file with settings of backup destinations: endpoints, credentials, bandwidth, keys
    destinations: Option<PathBuf> = optional, {
        key: "destinations", variable: "CONVOY_DESTINATIONS", value_name: "FILE", kind: Kind::Path,
        in_file: false,
    }
}

/// A table of the file. The part of the daemon that it is for has a type for it, with a doc comment for each
/// key.
#[derive(Debug)]
pub struct Table {
    /// The key in the file of settings.
    pub key: &'static str,
    /// How its header is written.
    pub header: &'static str,
    /// Whether a reload takes it over, whole.
    pub reload: bool,
    /// What the document says of it, in Markdown.
    pub meaning: &'static str,
}

/// The tables of the file.
pub const TABLES: &[Table] = &[
    Table {
        key: "driver-options",
        header: "[driver-options]",
        reload: false,
        meaning: "`vfs.path = \"/srv/volumes\"`; what there is says `convoy driver list`",
    },
    Table {
        key: "destinations",
        header: "[destinations.\"URL\"]",
        reload: true,
        meaning: "endpoint, credentials, bandwidth, keys of [backup destinations](../backups.md)",
    },
    Table {
        key: "exclude",
        header: "[[exclude]]",
        reload: true,
        meaning: "what is [left out](../backups.md#what-is-left-out) of the backups of which volumes",
    },
    Table {
        key: "schedule",
        header: "[[schedule]]",
        reload: true,
        meaning: "what is [backed up when](../schedules.md)",
    },
    Table {
        key: "scheduling",
        header: "[scheduling]",
        reload: true,
        meaning: "what holds for [all schedules](../schedules.md)",
    },
];

/// Whether a reload takes a setting, or a key of a table (`schedule.0.cron`), over.
pub fn is_reloaded(key: &str) -> bool {
    let first = key.split('.').next().unwrap_or(key);
    Setting::find(key).is_some_and(|setting| setting.reload)
        || TABLES.iter().any(|table| table.key == first && table.key != key && table.reload)
}
