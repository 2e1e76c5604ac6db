//! What people say of a backup: tags, a note, and how long it is to be kept whatever the rules say.
//!
//! A backup that is to be kept is *pinned*: neither `backup delete` nor a schedule deletes it. The date is
//! compared with the clock of the host that would delete.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::format::limits::{NOTE_MAX, TAG_KEY_MAX, TAG_VALUE_MAX, TAGS_MAX};

/// Until when a backup is kept whatever the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum KeepUntil {
    /// Until it is unpinned.
    Forever,
    /// Until this moment.
    Moment(Timestamp),
}

impl KeepUntil {
    /// Reads what a person says: `forever`, a moment in RFC 3339, or a date, which is kept to its end in UTC.
    ///
    /// # Errors
    /// For another text, and for what is past at `now`.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, LabelError> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        let of_date = || {
            let next = text.parse::<Date>().ok()?.checked_add(1.day()).ok()?;
            TimeZone::UTC.to_timestamp(next.at(0, 0, 0, 0)).ok()
        };
        // A date alone is no moment for jiff, and a moment is a date: the moment comes first.
        let moment = text.parse::<Timestamp>().ok().or_else(of_date);
        match moment {
            None => Err(LabelError::Date(shortened(text))),
            Some(moment) if moment <= now => Err(LabelError::Past { text: shortened(text), now }),
            Some(moment) => Ok(Self::Moment(moment)),
        }
    }

    /// Whether it is not over yet.
    #[must_use]
    pub fn holds(self, now: Timestamp) -> bool {
        match self {
            Self::Forever => true,
            Self::Moment(moment) => moment > now,
        }
    }
}

impl fmt::Display for KeepUntil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str("forever"),
            Self::Moment(moment) => write!(f, "{moment}"),
        }
    }
}

impl From<KeepUntil> for String {
    fn from(until: KeepUntil) -> Self {
        until.to_string()
    }
}

impl From<String> for KeepUntil {
    /// As a record says it. What is no moment pins forever: what cannot be understood is not deleted.
    fn from(text: String) -> Self {
        text.parse().map_or(Self::Forever, Self::Moment)
    }
}

/// What people say of a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Labels {
    /// At most 64. A key has 1 to 63 letters, digits, `.`, `_`, `-` and `/`, a value up to 255 bytes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Up to 4096 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Missing: as the rules say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_until: Option<KeepUntil>,
}

impl Labels {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the backup is to be kept at this moment whatever the rules say.
    #[must_use]
    pub fn pinned(&self, now: Timestamp) -> bool {
        self.keep_until.is_some_and(|until| until.holds(now))
    }

    /// Checks what a caller wants to be said. Readers refuse the same sizes.
    ///
    /// # Errors
    /// What is too much, too long, or has letters that it cannot have.
    pub fn check(&self) -> Result<(), LabelError> {
        if self.tags.len() > TAGS_MAX {
            return Err(LabelError::TooMany { found: self.tags.len() });
        }
        for (key, value) in &self.tags {
            check_key(key)?;
            if value.len() > TAG_VALUE_MAX || value.chars().any(char::is_control) {
                return Err(LabelError::Value(key.clone()));
            }
        }
        let strange = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
        if self.note.len() > NOTE_MAX || self.note.chars().any(strange) {
            return Err(LabelError::Note { found: self.note.len() });
        }
        Ok(())
    }

    /// Whether their sizes are those that a record may have.
    pub(crate) fn are_possible(&self) -> bool {
        let tag = |(key, value): (&String, &String)| key.len() <= TAG_KEY_MAX && value.len() <= TAG_VALUE_MAX;
        self.tags.len() <= TAGS_MAX && self.tags.iter().all(tag) && self.note.len() <= NOTE_MAX
    }

    /// About the bytes of memory they take beside their own size.
    pub(crate) fn weight(&self) -> usize {
        self.note.len() + self.tags.iter().map(|(key, value)| key.len() + value.len() + 128).sum::<usize>()
    }
}

/// Checks the key of a tag.
pub(crate) fn check_key(key: &str) -> Result<(), LabelError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    let begins = key.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins && key.len() <= TAG_KEY_MAX && key.bytes().all(fits) {
        return Ok(());
    }
    Err(LabelError::Key(shortened(key)))
}

/// A text from outside, as an error shows it.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// What is to be said of a backup from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelChange {
    /// Tags that it gets, in the place of those with the same key.
    pub set: BTreeMap<String, String>,
    /// Keys of tags that it loses; that it has none of that name is no error.
    pub remove: BTreeSet<String>,
    /// Another note; empty: none any more.
    pub note: Option<String>,
    /// Until when it is kept.
    pub pin: PinChange,
}

/// What becomes of a pin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PinChange {
    /// It stays as it is.
    #[default]
    Leave,
    /// It is this one from now on.
    Pin(KeepUntil),
    /// There is none any more.
    Unpin,
}

impl LabelChange {
    /// The labels with this change.
    ///
    /// # Errors
    /// As [`Labels::check`], and for a key that is both set and removed.
    pub fn apply(&self, labels: &Labels) -> Result<Labels, LabelError> {
        let mut changed = labels.clone();
        for key in &self.remove {
            check_key(key)?;
            if self.set.contains_key(key) {
                return Err(LabelError::Both(key.clone()));
            }
            changed.tags.remove(key);
        }
        changed.tags.extend(self.set.clone());
        if let Some(note) = &self.note {
            changed.note.clone_from(note);
        }
        match self.pin {
            PinChange::Leave => {}
            PinChange::Pin(until) => changed.keep_until = Some(until),
            PinChange::Unpin => changed.keep_until = None,
        }
        changed.check()?;
        Ok(changed)
    }
}

/// Labels that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each says what its fields are")]
pub enum LabelError {
    /// Too many tags.
    #[error("a backup has at most {TAGS_MAX} tags, and these would be {found}: remove some")]
    TooMany { found: usize },
    /// A key that cannot be.
    #[error(
        "invalid tag {0:?}: expected 1 to {TAG_KEY_MAX} letters, digits, '.', '_', '-' and '/', the first a letter \
         or a digit"
    )]
    Key(String),
    /// A value that cannot be.
    #[error("invalid value of tag {0}: expected up to {TAG_VALUE_MAX} bytes without control characters")]
    Value(String),
    /// Set and removed.
    #[error("tag {0} is both set and removed: say one of the two")]
    Both(String),
    /// A note that cannot be.
    #[error(
        "invalid note of {found} bytes: expected up to {NOTE_MAX} bytes without control characters but ends of \
         lines"
    )]
    Note { found: usize },
    /// No date.
    #[error(
        "invalid date {0:?}: expected forever, a date like 2027-01-31, or a moment like 2027-01-31T18:00:00Z"
    )]
    Date(String),
    /// A date that pins nothing.
    #[error("{text} is past (it is {now} on the daemon's host): expected a date in the future, or forever")]
    Past { text: String, now: Timestamp },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "2026-11-30T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn dates_are_kept_to_their_end_and_the_past_is_refused() {
        let until = |text: &str| KeepUntil::parse(text, now());
        assert_eq!(until("forever"), Ok(KeepUntil::Forever));
        assert_eq!(until("2027-01-31").unwrap().to_string(), "2027-02-01T00:00:00Z");
        assert_eq!(until("2027-01-31T18:00:00+02:00").unwrap().to_string(), "2027-01-31T16:00:00Z");
        // Today is not over.
        assert_eq!(until("2026-11-30").unwrap().to_string(), "2026-12-01T00:00:00Z");
        for past in ["2026-11-29", "2026-11-30T12:00:00Z", "1970-01-01", "0001-01-01T00:00:00Z"] {
            assert!(matches!(until(past), Err(LabelError::Past { .. })), "{past}");
        }
        for none in ["", "tomorrow", "2027-02-30", "Forever", "9999-12-31", "2027", &"9".repeat(1 << 20)] {
            let error = until(none).unwrap_err();
            assert!(matches!(error, LabelError::Date(_)) && error.to_string().len() < 300, "{error}");
        }
    }

    #[test]
    fn a_pin_ends_at_its_moment_and_what_is_no_date_pins_forever() {
        let at =
            |text: &str| Labels { keep_until: Some(KeepUntil::from(text.to_owned())), ..Labels::default() };
        assert!(at("2026-11-30T12:00:01Z").pinned(now()));
        assert!(!at("2026-11-30T12:00:00Z").pinned(now()));
        for forever in ["forever", "", "the day after tomorrow", "next-version:3"] {
            assert!(at(forever).pinned(now()), "{forever}");
        }
        assert!(!Labels::default().pinned(now()));
    }

    #[test]
    fn labels_have_bounds() {
        let with = |tags: BTreeMap<String, String>| Labels { tags, ..Labels::default() }.check();
        let many = |count: usize| (0..count).map(|n| (format!("k{n}"), String::new())).collect();
        assert_eq!(with(many(TAGS_MAX)), Ok(()));
        assert_eq!(with(many(TAGS_MAX + 1)), Err(LabelError::TooMany { found: TAGS_MAX + 1 }));
        for key in ["", "-a", "a b", "a=b", "ä", &"k".repeat(64)] {
            assert!(
                matches!(with([(key.to_owned(), String::new())].into()), Err(LabelError::Key(_))),
                "{key}"
            );
        }
        for value in ["\n", "\u{1b}[2J", &"v".repeat(256)] {
            let one = [("k".to_owned(), value.to_owned())].into();
            assert!(matches!(with(one), Err(LabelError::Value(_))), "{value:?}");
        }
        let note = |note: &str| Labels { note: note.to_owned(), ..Labels::default() }.check();
        assert_eq!(note("two\nlines\tand ä"), Ok(()));
        assert!(note(&"n".repeat(NOTE_MAX + 1)).is_err() && note("\u{7}").is_err());
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let before = Labels {
            tags: [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into(),
            note: "why".to_owned(),
            keep_until: Some(KeepUntil::Forever),
        };
        assert_eq!(LabelChange::default().apply(&before).unwrap(), before);
        let change = LabelChange {
            set: [("b".to_owned(), "3".to_owned()), ("c".to_owned(), String::new())].into(),
            remove: ["a".to_owned(), "gone".to_owned()].into(),
            note: Some(String::new()),
            pin: PinChange::Unpin,
        };
        let after = change.apply(&before).unwrap();
        assert_eq!(after.tags, [("b".to_owned(), "3".to_owned()), ("c".to_owned(), String::new())].into());
        assert_eq!((after.note.as_str(), after.keep_until), ("", None));
        let both = LabelChange { remove: ["b".to_owned()].into(), ..change };
        assert_eq!(both.apply(&before), Err(LabelError::Both("b".to_owned())));
    }

    proptest! {
        /// What a caller may say is what a reader takes, and reads the same.
        #[test]
        fn labels_survive_their_record(
            tags in proptest::collection::btree_map("[a-z0-9][a-zA-Z0-9._/-]{0,62}", "\\PC{0,60}", 0..10),
            note in "[\\PC\n\t]{0,200}",
            keep in proptest::option::of(-62_135_596_800_i64..253_402_207_200),
        ) {
            let keep_until = keep.map(|at| KeepUntil::Moment(Timestamp::from_second(at).unwrap()));
            let labels = Labels { tags, note, keep_until };
            prop_assert_eq!(labels.check(), Ok(()));
            prop_assert!(labels.are_possible());
            let json = serde_json::to_string(&labels).unwrap();
            prop_assert_eq!(serde_json::from_str::<Labels>(&json).unwrap(), labels);
        }
    }
}
