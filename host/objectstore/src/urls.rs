//! What all URLs of destinations share: their escapes, and what can be wrong with them.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Why a text is not a destination or backup URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum DestinationError {
    #[error("Destination URL hasn't been specified")]
    Missing,
    /// A scheme nobody knows. The text is that of 0.5.
    #[error("Driver {scheme} is not supported!")]
    Scheme { scheme: String },
    /// Not the form that URLs of the scheme have.
    #[error("{message}")]
    Form {
        message: &'static str,
        /// What was expected, where that is more than the form of a destination.
        hint: &'static str,
    },
    #[error("'%' is followed by two hexadecimal digits")]
    Escape,
    #[error("Driver {scheme} does not support custom endpoints")]
    Endpoint { scheme: String },
    #[error("Invalid URL {url}: {why}")]
    Malformed { url: String, why: &'static str },
    #[error(
        "Invalid name parsed, got {backup} and {volume}: expected \
         <destination>?backup=<backup>&volume=<volume>"
    )]
    BackupForm { backup: String, volume: String },
    #[error(
        "Invalid name {name}: expected letters, digits, '_', '.' and '-', two or more, the first a letter or \
         digit"
    )]
    Name { name: String },
}

/// Undoes `%xx`, as convoy 0.5 did.
///
/// # Errors
/// [`DestinationError::Escape`] if an escape is broken or the result is not UTF-8.
pub(crate) fn unescape(text: &str) -> Result<String, DestinationError> {
    let whole =
        |at: usize| text.get(at + 1..at + 3).is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let all_whole = text.match_indices('%').all(|(at, _)| whole(at));
    let decoded = all_whole.then(|| percent_decode_str(text).decode_utf8().ok()).flatten();
    decoded.map(Cow::into_owned).ok_or(DestinationError::Escape)
}
