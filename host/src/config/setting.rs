//! A setting, and where its value comes from.

use super::file::File;
use convoy_cli::args::DaemonArgs;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// An earlier start saved it.
    Saved(PathBuf),
    /// The file of settings.
    File {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Saved(path) => write!(f, "saved in {}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A value as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The value; a list with commas.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
}

/// Settings by name.
pub type Shown = BTreeMap<String, Setting>;

/// A value that somebody gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingValue<T> {
    /// The value.
    pub value: T,
    /// Who gave it.
    pub source: Source,
}

/// What is asked for: flags and environment over the file.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// Flags and environment.
    pub args: &'a DaemonArgs,
    /// The file.
    pub file: &'a File,
}

impl Layers<'_> {
    /// The value of a key that is named alike as a flag and in the file.
    pub fn pick<T: Clone>(&self, key: &str, flag: Option<T>, file: Option<&T>) -> Option<SettingValue<T>> {
        match flag {
            Some(value) => Some(SettingValue { value, source: self.flag(key) }),
            None => file.map(|value| SettingValue { value: value.clone(), source: self.in_file(key) }),
        }
    }

    /// The source of what flag or environment said.
    pub fn flag(&self, key: &str) -> Source {
        if self.args.by_environment.contains(key) {
            return Source::Environment(format!("CONVOY_{}", key.replace('-', "_").to_uppercase()));
        }
        Source::Flag(format!("--{key}"))
    }

    /// The source of what the file says.
    pub fn in_file(&self, key: &str) -> Source {
        let line = self.file.line(key).unwrap_or(1);
        Source::File { path: self.file.path.clone(), line }
    }
}

/// Whether a key of the file names something that is not to be shown.
pub fn is_secret(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or(key);
    // Where a secret is found is none.
    if ["-file", "_file", "-env", "-command", "-credential", "_credential"]
        .iter()
        .any(|end| last.ends_with(end))
    {
        return false;
    }
    // A password stands in the URL of a proxy or a webhook, in the header of a request, in a hook's
    // environment.
    key.contains(".headers.")
        || ["secret", "password", "token", "passphrase", "key", "proxy", "webhook", "environment"]
            .iter()
            .any(|word| last.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for secret in [
            "destinations.s3.secret-access-key",
            "a.password",
            "a.passphrase",
            "driver-options.do.token",
            "schedule.0.notify.0.headers.X",
            "schedule.0.notify.0.webhook",
            "schedule.0.before.0.environment",
        ] {
            assert!(is_secret(secret), "{secret}");
        }
        for plain in [
            "destinations.s3.url",
            "a.encryption-key-file",
            "a.passphrase_file",
            "a.passphrase_credential",
            "root",
            "a.token-env",
        ] {
            assert!(!is_secret(plain), "{plain}");
        }
    }
}
