//! Names that users give, and names for what they gave none.

use crate::error::{Error, Result};
use convoy_driver_sdk::Name;

/// Checks a text that has to name something that exists. An empty one names nothing and is looked for in
/// vain.
///
/// # Errors
/// [`Error::InvalidName`].
pub fn check_name(text: &str) -> Result<()> {
    match Name::parse(text) {
        Err(_) if !text.is_empty() => Err(Error::InvalidName(text.to_owned())),
        _ => Ok(()),
    }
}

/// A name for what was given none: the prefix, a dash and 16 hex digits.
pub fn generated_name(prefix: &str) -> Result<Name> {
    let text = format!("{prefix}-{:016x}", rand::random::<u64>());
    Name::parse(text).map_err(|error| Error::InvalidName(error.0))
}
