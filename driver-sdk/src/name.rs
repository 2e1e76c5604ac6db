//! Names of volumes, snapshots and backups.

use serde::{Deserialize, Serialize};

/// The longest name, in bytes: it becomes part of file names, which end at 255.
pub const MAX_NAME_BYTES: usize = 200;

/// A name that is safe as one component of a path.
///
/// The rule is the one convoy has always had, `^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`, with an upper bound of
/// [`MAX_NAME_BYTES`]. It is checked when the value is made and when it is deserialised, so that a driver
/// need not check again.
///
/// ```
/// use convoy_driver_sdk::Name;
///
/// assert_eq!(Name::parse("vol1").unwrap().as_str(), "vol1");
/// assert!(Name::parse("../vol1").is_err() && serde_json::from_str::<Name>("\"../vol1\"").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A text that is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid name {0:?}: expected 2 to {MAX_NAME_BYTES} of letters, digits, dash(-), underscore(_) and \
     dot(.), beginning with a letter or digit"
)]
pub struct InvalidName(pub String);

/// Whether a text is written as a name is, of whatever length: letters, digits, `_`, `.` and `-`, of which
/// the first is a letter or digit. Stores of convoy 0.5 have names of one letter, and of more than
/// [`MAX_NAME_BYTES`].
pub fn has_name_form(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

impl Name {
    /// Checks a text against the rule.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let good = (2..=MAX_NAME_BYTES).contains(&text.len()) && has_name_form(&text);
        if good { Ok(Self(text)) } else { Err(InvalidName(text)) }
    }

    /// A name written in the source, as a driver's own.
    ///
    /// # Panics
    /// If it breaks the rule.
    pub fn from_static(text: &'static str) -> Self {
        let name = Self::parse(text);
        assert!(name.is_ok(), "{text:?} is no name");
        name.unwrap_or_else(|InvalidName(text)| Self(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::ops::Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl std::str::FromStr for Name {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl From<InvalidName> for crate::DriverError {
    fn from(error: InvalidName) -> Self {
        Self::new(crate::ErrorKind::InvalidArgument, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_convoy_always_accepted() {
        for good in ["vol1", "aa", "A.b-c_d", "0x", &"v".repeat(MAX_NAME_BYTES)] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn refuses_what_is_no_single_safe_component() {
        for bad in [
            "",
            "x",
            ".",
            "..",
            "../x",
            "-a",
            "_a",
            ".a",
            "a/b",
            "a b",
            "a\n",
            "ä1",
            &"v".repeat(MAX_NAME_BYTES + 1),
        ] {
            assert_eq!(Name::parse(bad), Err(InvalidName(bad.to_owned())));
            assert!(serde_json::from_value::<Name>(bad.into()).is_err());
        }
    }
}
