//! Which volumes a schedule is for.

use glob::Pattern;
use std::collections::BTreeMap;

/// A pattern or a label that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelection {
    /// A pattern that makes no sense.
    #[error("invalid pattern {0:?}: {1}; expected a name with *, ? or [...]")]
    Pattern(String, String),
    /// A label without a key.
    #[error("invalid label {0:?}: expected KEY or KEY=VALUE")]
    Label(String),
    /// Nothing is chosen.
    #[error("neither volumes nor labels say which volumes are meant: volumes = [\"*\"] means all")]
    Nothing,
}

/// Names by pattern, and labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    volumes: Vec<Pattern>,
    exclude: Vec<Pattern>,
    labels: Vec<Label>,
}

/// `KEY` or `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    key: String,
    value: Option<String>,
}

impl Label {
    /// Parses a label.
    ///
    /// # Errors
    /// [`InvalidSelection::Label`] if it has no key.
    pub fn parse(text: &str) -> Result<Self, InvalidSelection> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        if key.is_empty() {
            return Err(InvalidSelection::Label(text.to_owned()));
        }
        Ok(Self { key: key.to_owned(), value })
    }

    /// Whether it is among these.
    pub fn is_in(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.key);
        found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found))
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

impl Selection {
    /// Checks patterns and labels.
    ///
    /// # Errors
    /// [`InvalidSelection`].
    pub fn new(volumes: &[String], exclude: &[String], labels: &[String]) -> Result<Self, InvalidSelection> {
        if volumes.is_empty() && labels.is_empty() {
            return Err(InvalidSelection::Nothing);
        }
        Ok(Self { volumes: patterns(volumes)?, exclude: patterns(exclude)?, labels: parse_labels(labels)? })
    }

    /// Whether labels decide.
    pub fn needs_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Whether a volume is meant: its name is, and it has all the labels.
    pub fn matches(&self, name: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        (self.volumes.is_empty() || self.volumes.iter().any(|pattern| pattern.matches(name)))
            && !self.exclude.iter().any(|pattern| pattern.matches(name))
            && self.labels.iter().all(|label| labels.is_some_and(|labels| label.is_in(labels)))
    }
}

/// As the settings have it: `volumes db-*, web; exclude db-test; labels backup=daily`.
impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list =
            |what: &str, of: Vec<String>| (!of.is_empty()).then(|| format!("{what} {}", of.join(", ")));
        let texts = |patterns: &[Pattern]| patterns.iter().map(ToString::to_string).collect();
        let parts = [
            list("volumes", texts(&self.volumes)),
            list("exclude", texts(&self.exclude)),
            list("labels", self.labels.iter().map(ToString::to_string).collect()),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// Parses labels.
///
/// # Errors
/// The first that is none.
pub fn parse_labels(texts: &[String]) -> Result<Vec<Label>, InvalidSelection> {
    texts.iter().map(|text| Label::parse(text)).collect()
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, InvalidSelection> {
    let parse = |text: &String| {
        Pattern::new(text).map_err(|error| InvalidSelection::Pattern(text.clone(), error.msg.to_owned()))
    };
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(volumes: &[&str], exclude: &[&str], labels: &[&str]) -> Selection {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Selection::new(&owned(volumes), &owned(exclude), &owned(labels)).unwrap()
    }

    #[test]
    fn by_name() {
        let some = selection(&["db-*", "web"], &["*-cache"], &[]);
        for (name, meant) in
            [("db-1", true), ("web", true), ("web2", false), ("db-cache", false), ("db", false)]
        {
            assert_eq!(some.matches(name, None), meant, "{name}");
        }
    }

    #[test]
    fn by_label() {
        let labelled = selection(&[], &[], &["backup=daily", "tier"]);
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert!(labelled.matches("v1", Some(&labels(&[("backup", "daily"), ("tier", "")]))));
        assert!(!labelled.matches("v1", Some(&labels(&[("backup", "weekly"), ("tier", "")]))));
        assert!(!labelled.matches("v1", Some(&labels(&[("backup", "daily")]))));
        assert!(!labelled.matches("v1", None), "without labels nothing is guessed");
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Selection::new(&[], &["a".to_owned()], &[]), Err(InvalidSelection::Nothing));
        assert!(matches!(Selection::new(&["[a".to_owned()], &[], &[]), Err(InvalidSelection::Pattern(..))));
        assert!(matches!(Selection::new(&[], &[], &["=x".to_owned()]), Err(InvalidSelection::Label(_))));
    }
}
