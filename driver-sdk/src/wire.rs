//! What a carrier adds to the requests and replies: the hello, the envelope of a call, and the notes that go
//! beside calls. `docs/driver-protocol.md` shows each of them.

use crate::context::Progress;
use crate::message::messages;
use crate::protocol::{PROTOCOL_NAME, PROTOCOL_VERSION};
use crate::{DriverError, ErrorKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The environment variable that names the descriptor of a process driver's socket.
pub const FD_VARIABLE: &str = "CONVOY_DRIVER_FD";

/// The longest message of a process driver in either direction, in bytes, its newline included.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// Methods of the process carrier itself.
pub mod method {
    /// Request of the host: the first message. See [`super::Hello`].
    pub const HELLO: &str = "hello";
    /// Notification of the host: finish the calls in flight, close, exit.
    pub const GOODBYE: &str = "goodbye";
    /// Notification of the host: see [`super::Cancel`].
    pub const CANCEL: &str = "cancel";
    /// Notification of the driver: see [`super::ProgressNote`].
    pub const PROGRESS: &str = "progress";
    /// Notification of the driver: see [`super::LogRecord`].
    pub const LOG: &str = "log";
}

/// Codes of JSON-RPC errors that a process driver answers with. The kind in `data` is what the host goes by.
pub mod code {
    /// The driver answered with a [`crate::DriverError`].
    pub const DRIVER: i32 = -32000;
    /// The reply is longer than [`super::MAX_FRAME_BYTES`].
    pub const REPLY_TOO_LARGE: i32 = -32008;
}

/// Features that a side may name in its hello. A feature is used only if both sides name it; a name that is
/// not known is ignored.
pub const FEATURES: &[&str] = &["cancel", "progress", "log", "goodbye"];

/// What each side says first: the host as the parameters of `hello`, the driver as its result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Hello {
    /// The name of the protocol: always [`PROTOCOL_NAME`].
    pub protocol: String,
    /// `major.minor` of the protocol.
    pub version: String,
    /// What this side can do beyond calls and answers: see [`FEATURES`].
    #[serde(default)]
    pub features: Vec<String>,
    /// The program and its version, for a person: `convoy 0.6.0`.
    #[serde(default)]
    pub software: String,
    /// What the host wants logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
}

impl Hello {
    /// The hello of this SDK.
    pub fn new(software: impl Into<String>) -> Self {
        Self {
            protocol: PROTOCOL_NAME.to_owned(),
            version: PROTOCOL_VERSION.to_owned(),
            features: FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
            software: software.into(),
            log_level: None,
        }
    }

    /// Whether the two can talk: the same protocol, of the same major version.
    ///
    /// # Errors
    /// [`Incompatible`] with what was expected and what was found.
    pub fn check(&self) -> Result<(), Incompatible> {
        if self.protocol != PROTOCOL_NAME {
            return Err(Incompatible::Protocol { found: self.protocol.clone() });
        }
        check_version(&self.version)
    }
}

/// Whether a peer's version of the protocol can be talked to: the major version is the same.
pub fn check_version(found: &str) -> Result<(), Incompatible> {
    match (major(found), major(PROTOCOL_VERSION)) {
        (Some(theirs), Some(ours)) if theirs == ours => Ok(()),
        _ => Err(Incompatible::Version { found: found.to_owned() }),
    }
}

/// Of `major.minor`; `None` for anything else.
fn major(version: &str) -> Option<u32> {
    let (major, minor) = version.split_once('.')?;
    minor.parse::<u32>().ok()?;
    major.parse().ok()
}

/// A peer that cannot be talked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum Incompatible {
    /// It speaks something else.
    #[error("expected the protocol \"convoy-driver\", found {found:?}")]
    Protocol { found: String },
    /// It speaks another major version.
    #[error(
        "expected version {PROTOCOL_VERSION} of the driver protocol or another of its major, found {found:?}"
    )]
    Version { found: String },
}

impl From<Incompatible> for DriverError {
    fn from(error: Incompatible) -> Self {
        Self::new(ErrorKind::Unsupported, error.to_string())
    }
}

messages! {
    /// The envelope of a call through a carrier: what [`crate::Context`] is rebuilt from on the driver's
    /// side.
    #[derive(Default)]
    pub struct CallContext {
        /// Names the call in logs, progress and cancellation.
        request_id: String,
        ;
        /// Milliseconds from now until the caller stops waiting.
        #[serde(skip_serializing_if = "Option::is_none")]
        deadline_ms: Option<u64>,
    }
}

/// The parameters of every call through a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
pub struct Envelope<R> {
    /// The request of the method.
    pub request: R,
    /// What every call carries.
    #[serde(default)]
    pub context: CallContext,
}

messages! {
    /// `cancel`: the caller no longer wants the answer. The call ends as soon as it can, with the kind
    /// `cancelled`, or with success if it was done already.
    pub struct Cancel {
        /// Names the call, as in its context.
        request_id: String,
    }

    /// `progress`: how far a call has come.
    pub struct ProgressNote {
        /// Names the call, as in its context.
        request_id: String,
        /// How far the call has come.
        #[serde(flatten)]
        progress: Progress,
    }
}

/// How important a log record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Every step, for whoever follows one call.
    Trace,
    /// For whoever looks for a defect.
    Debug,
    /// What an administrator wants to read later.
    Info,
    /// Something is wrong, and was coped with.
    Warn,
    /// Something failed, and an administrator has to know.
    Error,
}

messages! {
    /// `log`: a record for the host's log.
    pub struct LogRecord {
        /// How important the record is.
        level: LogLevel,
        /// The part of the driver it comes from.
        #[serde(default)]
        target: String,
        /// The text, for a person.
        message: String,
        ;
        /// What the record is about: values, by name.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        fields: BTreeMap<String, serde_json::Value>,
        /// Names the call that it belongs to, if it belongs to one.
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minors_differ_and_majors_must_not() {
        for good in [PROTOCOL_VERSION, "1.0", "1.99"] {
            assert_eq!(check_version(good), Ok(()));
        }
        for bad in ["", "1", "2.0", "0.9", "1.x", "1.0.0", "one.two", "-1.0"] {
            let error = check_version(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")) && error.contains(PROTOCOL_VERSION), "{error}");
        }
        let stranger = Hello { protocol: "nfs".to_owned(), ..Hello::new("x") };
        assert!(stranger.check().is_err() && Hello::new("x").check().is_ok());
    }
}
