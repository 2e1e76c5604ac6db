//! What can go wrong in the command line, with the way out.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// A command that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum Failure {
    /// The arguments make no sense.
    #[error("{message}")]
    Usage {
        message: String,
        /// What clap would tell a person, with colours.
        rendered: clap::builder::StyledStr,
    },
    /// The name can be no name; nothing was sent.
    #[error("Invalid name {name}")]
    Name { name: String, source: convoy_driver_sdk::name::InvalidName },
    /// The daemon refused, failed, or cannot be reached.
    #[error("{0}")]
    Call(#[from] convoy_client::Error),
    /// The user pressed Ctrl-C.
    #[error("{message}")]
    Interrupted { message: String },
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
    #[error("cannot understand the daemon's answer: {0}")]
    Answer(#[from] serde_json::Error),
    /// Any other failure, in its own words.
    #[error("{message}")]
    Other { message: String, hint: Option<String> },
}

/// What a command comes back with.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// From clap's error about the arguments.
    pub(crate) fn usage(error: &clap::Error) -> Self {
        let context = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
            _ => None,
        };
        let whole = "a whole backup is restored into a new volume: convoy create NAME --backup 'URL'";
        match (error.kind(), context(ContextKind::InvalidSubcommand)) {
            // Where others have it.
            (ErrorKind::InvalidSubcommand, Some(command)) if command == "restore" => Self::Other {
                message: format!("Unrecognized command: {command}"),
                hint: Some(format!(
                    "{whole}; parts of it into one that is there: convoy restore 'URL' --into VOLUME"
                )),
            },
            (ErrorKind::MissingRequiredArgument, _)
                if context(ContextKind::InvalidArg).is_some_and(|missing| missing.contains("--into")) =>
            {
                Self::Other {
                    message: "the following required arguments were not provided: --into <VOLUME>".to_owned(),
                    hint: Some(format!("name the volume that the files come back into; {whole}")),
                }
            }
            (ErrorKind::InvalidSubcommand, Some(command)) => {
                let message = format!("Unrecognized command: {command}");
                Self::Usage { message, rendered: error.render() }
            }
            _ => Self::Usage { message: one_line(&error.to_string()), rendered: error.render() },
        }
    }

    /// The text under `Error` in the answer for scripts.
    pub fn for_scripts(&self) -> String {
        match self {
            // The newline is the one at the end of the daemon's answer, which 0.5 kept.
            Self::Call(convoy_client::Error::Server(error)) => {
                format!("Error response from server, {}\n", error.message)
            }
            other => other.to_string(),
        }
    }

    /// What people are told: what 0.5 said where that helps, else better words.
    pub fn for_people(&self) -> String {
        match self {
            Self::Call(convoy_client::Error::Server(error)) => {
                error.plain.as_ref().unwrap_or(&error.message).clone()
            }
            Self::Name { name, .. } if name.is_empty() => "the name is empty".to_owned(),
            Self::Name { name, .. } => format!("{name:?} cannot be a name"),
            other => other.to_string(),
        }
    }

    /// The request in the daemon's log, where it was the daemon that failed and not what was asked for.
    pub fn request_id(&self) -> Option<&str> {
        let Self::Call(convoy_client::Error::Server(error)) = self else { return None };
        let failed =
            matches!(error.kind.as_str(), "internal" | "unavailable" | "deadline_exceeded" | "data_loss");
        (failed && !error.request_id.is_empty()).then_some(&error.request_id)
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Call(error) => error.hint(),
            Self::Name { source, .. } => {
                let text = source.to_string();
                Some(text.split_once(": ").map_or(text.clone(), |(_, expected)| expected.to_owned()))
            }
            Self::Answer(_) => {
                Some("install the same version of convoy for the client and the daemon".to_owned())
            }
            Self::Other { hint, .. } => hint.clone(),
            Self::Usage { .. } | Self::Interrupted { .. } | Self::Output(_) => None,
        }
    }

    /// 130 for Ctrl-C, as shells have it; 4 for a restore that was undone for its losses; else 1, as 0.5 had
    /// it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted { .. } => 130,
            Self::Call(error) if error.is_losses() => 4,
            _ => 1,
        }
    }
}

/// What clap says, without its usage and its colours: the sentences before the first tip or usage.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.starts_with("tip:"))
        .filter(|line| !line.starts_with("For more information"))
        .collect();
    let said = said.join(" ");
    said.strip_prefix("error: ").map_or(said.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_that_was_undone_for_its_losses_has_an_exit_code_of_its_own() {
        let failed = |kind: &str| {
            let error = convoy_client::error::ServerError { kind: kind.to_owned(), ..Default::default() };
            Failure::Call(convoy_client::Error::Server(error.into())).exit_code()
        };
        assert_eq!((failed("losses"), failed("unsupported")), (4, 1));
    }

    #[test]
    fn a_usage_error_is_one_line() {
        let text = "error: invalid value '10X' for '--size <SIZE>': expected bytes\n\nFor more information, \
            try '--help'.\n";
        assert_eq!(one_line(text), "invalid value '10X' for '--size <SIZE>': expected bytes");
        let text = "error: the following required arguments were not provided:\n  <NAME>...\n\nUsage: convoy \
            delete\n";
        assert_eq!(one_line(text), "the following required arguments were not provided: <NAME>...");
    }
}
