//! `driver.check`: what `convoy doctor` asks.

use super::{Deserialize, Serialize, messages, setters};

messages! {
    /// `driver.check`: compare records with the kernel, the file system and the provider, and say what is not
    /// as it should be. Since 1.1, for drivers that declare `check`.
    ///
    /// Unlike `driver.probe` it may take its time. It must not disturb volumes that are in use.
    #[derive(Copy, Default)]
    pub struct Check {
        ;
        /// Repair what can be repaired without losing data that somebody may want; only look when missing.
        repair: bool,
    }

    /// What a check found.
    #[derive(Default)]
    pub struct Checked {
        /// Nothing found is an empty list; what was looked at and is well may be told as `info`.
        #[serde(default)]
        findings: Vec<Finding>,
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = crate::message::open_set))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing; nothing to do.
    Info,
    /// It works, and should be looked after: a pool that fills up, something left behind that costs space or
    /// money.
    #[default]
    Warning,
    /// Something does not work, or data is at risk.
    Error,
    /// A severity of a newer minor version: take it for a warning.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}

/// One thing that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, in a word or two: `volume vol1`, `pool convoy`, `tool mkfs.xfs`.
    pub subject: String,
    /// What was expected and what was found.
    pub message: String,
    /// What the user can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// It was repaired by this call.
    #[serde(default)]
    pub repaired: bool,
    /// A call with `repair` would repair it.
    #[serde(default)]
    pub repairable: bool,
}

impl Finding {
    /// Something found about a subject, not repaired.
    pub fn new(severity: Severity, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity, subject: subject.into(), message: message.into(), ..Self::default() }
    }

    /// Says what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    setters! {
        repaired: bool,
        repairable: bool,
    }
}
