//! Points in time, to the second.
//!
//! On the wire between host and driver a time is RFC 3339 (`2026-11-23T08:38:07Z`). In records, answers and
//! backups it keeps the form convoy has always written, `Mon Nov 23 08:38:07 +0000 2026`: see [`legacy`].

use serde::{Deserialize, Serialize};

/// Seconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(jiff::Timestamp);

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid time {0:?}: expected a form like \"2026-11-23T08:38:07Z\" or \"Mon Nov 23 08:38:07 +0000 2026\""
)]
pub struct InvalidTimestamp(pub String);

const LEGACY: &str = "%a %b %d %H:%M:%S %z %Y";

impl Timestamp {
    /// The present, cut to the second.
    pub fn now() -> Self {
        Self::from_unix(jiff::Timestamp::now().as_second())
    }

    /// From seconds since the epoch; times outside years -9999 to 9999 are moved to the nearest bound.
    pub fn from_unix(seconds: i64) -> Self {
        let bounded = seconds.clamp(jiff::Timestamp::MIN.as_second(), jiff::Timestamp::MAX.as_second());
        Self(jiff::Timestamp::from_second(bounded).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
    }

    /// Seconds since the epoch.
    pub fn unix(self) -> i64 {
        self.0.as_second()
    }

    /// The form of records and answers: `Mon Nov 23 08:38:07 +0000 2026`.
    pub fn to_legacy(self) -> String {
        self.0.strftime(LEGACY).to_string()
    }

    /// Reads a time in RFC 3339 or in the form of records.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        let parsed = match text.parse::<jiff::Timestamp>() {
            Ok(time) => time,
            Err(_) => jiff::fmt::strtime::parse(LEGACY, text)
                .and_then(|broken_down| broken_down.to_timestamp())
                .map_err(|_| InvalidTimestamp(text.to_owned()))?,
        };
        Ok(Self::from_unix(parsed.as_second()))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidTimestamp;
    fn try_from(text: String) -> Result<Self, InvalidTimestamp> {
        Self::parse(&text)
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

/// For `#[serde(with = "timestamp::legacy")]`: the form of convoy's records.
pub mod legacy {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes `Mon Nov 23 08:38:07 +0000 2026`.
    pub fn serialize<S: Serializer>(time: &super::Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.to_legacy())
    }

    /// Reads it back; RFC 3339 is understood as well.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<super::Timestamp, D::Error> {
        super::Timestamp::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_of_one_moment() {
        let time = Timestamp::parse("Mon Nov 23 08:38:07 +0000 2026").unwrap();
        assert_eq!(time.unix(), 1_795_423_087);
        assert_eq!(time.to_string(), "2026-11-23T08:38:07Z");
        assert_eq!(time.to_legacy(), "Mon Nov 23 08:38:07 +0000 2026");
        assert!(Timestamp::parse("yesterday").is_err());
    }

    proptest! {
        #[test]
        fn either_form_reads_back(seconds in 0i64..253_402_300_799) {
            let time = Timestamp::from_unix(seconds);
            prop_assert_eq!(Timestamp::parse(&time.to_legacy()), Ok(time));
            prop_assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
        }
    }
}
