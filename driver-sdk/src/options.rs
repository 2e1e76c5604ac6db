//! The options a user gave: checked against those that a driver declares, and read by their types.

use crate::filesystem::FsKind;
use crate::protocol::OptionSpec;
use crate::{DriverError, Result, size};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Refuses options that are not `declared`, and the lack of those that are required.
///
/// # Errors
/// `InvalidArgument`, naming the option and all that are declared.
pub fn check(declared: &[OptionSpec], given: &BTreeMap<String, String>) -> Result<()> {
    let invalid = |text: String| {
        let names: Vec<_> = declared.iter().map(|spec| spec.name.as_str()).collect();
        let list = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
        DriverError::invalid(text).hint(format!("known options: {list}"))
    };
    if let Some(unknown) = given.keys().find(|name| !declared.iter().any(|spec| spec.name == **name)) {
        return Err(invalid(format!("unknown option {unknown:?}")));
    }
    match declared.iter().find(|spec| spec.required && !given.contains_key(&spec.name)) {
        Some(missing) => Err(invalid(format!("the option {:?} is required: {}", missing.name, missing.help))),
        None => Ok(()),
    }
}

/// The options that a user gave. A value that is not of its type is refused with `InvalidArgument`; the
/// message names the option, the value and what is expected. What is not given is `None`.
///
/// ```
/// use convoy_driver_sdk::options::Options;
/// use convoy_driver_sdk::protocol::OptionSpec;
///
/// let declared = [OptionSpec::new("mode", "permissions, octal"), OptionSpec::new("size", "bytes")];
/// let given = [("mode".to_owned(), "0750".to_owned())].into();
/// let options = Options::new(&declared, &given)?;
/// assert_eq!(options.mode("mode")?, Some(0o750));
/// assert_eq!(options.size("size")?.unwrap_or(1 << 30), 1 << 30);
///
/// let given = [("mode".to_owned(), "rwx".to_owned())].into();
/// let error = Options::new(&declared, &given)?.mode("mode").unwrap_err();
/// let expected = "invalid value \"rwx\" of the option mode: expected octal permissions such as 0750";
/// assert_eq!(error.message, expected);
///
/// let given = [("mod".to_owned(), "0750".to_owned())].into();
/// let error = Options::new(&declared, &given).unwrap_err();
/// assert_eq!(error.hint.as_deref(), Some("known options: mode, size"));
/// # Ok::<(), convoy_driver_sdk::DriverError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    given: &'a BTreeMap<String, String>,
}

impl<'a> Options<'a> {
    /// Takes options as [`check`] lets them pass.
    pub fn new(declared: &[OptionSpec], given: &'a BTreeMap<String, String>) -> Result<Self> {
        check(declared, given)?;
        Ok(Self { given })
    }

    /// The text of an option, as it was given.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.given.get(name).map(String::as_str)
    }

    /// A value of any type: `parse` gives `None` for what is not `expected`.
    pub fn parse<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>> {
        let invalid = |text| {
            DriverError::invalid(format!("invalid value {text:?} of the option {name}: expected {expected}"))
        };
        self.get(name).map(|text| parse(text).ok_or_else(|| invalid(text))).transpose()
    }

    /// One of several words.
    pub fn one_of<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let expected = match words.split_last() {
            Some((last, first @ [_, ..])) => format!("{} or {last}", first.join(", ")),
            _ => words.concat(),
        };
        let find = |text| choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        self.parse(name, &expected, find)
    }

    /// Reads an option that is `true` or `false`.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>> {
        self.one_of(name, &[("true", true), ("false", false)])
    }

    /// A size in bytes: a number, or one followed by K, M, G or T. See [`size::parse`].
    pub fn size(&self, name: &str) -> Result<Option<u64>> {
        let expected = "bytes, or a whole number followed by K, M, G or T (10G)";
        self.parse(name, expected, |text| size::parse(text).ok())
    }

    /// Permissions, octal: 0 to 7777.
    pub fn mode(&self, name: &str) -> Result<Option<u32>> {
        let parse = |text| u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        self.parse(name, "octal permissions such as 0750", parse)
    }

    /// Reads an option that is an absolute path.
    pub fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        self.parse(name, "an absolute path", |text| {
            Some(PathBuf::from(text)).filter(|path| path.is_absolute())
        })
    }

    /// One of the file systems that the driver can make.
    pub fn fs_kind(&self, name: &str, choices: &[FsKind]) -> Result<Option<FsKind>> {
        self.one_of(name, &choices.iter().map(|kind| (kind.as_str(), *kind)).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_missing_options_are_refused_by_name() {
        let path = OptionSpec::new("x.path", "where it is").required();
        let known = [path, OptionSpec::new("x.size", "how large")];
        let given = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), String::new())).collect();
        check(&known, &given(&["x.path"])).unwrap();
        let unknown = check(&known, &given(&["x.path", "x.pth"])).unwrap_err();
        assert!(unknown.message.contains("\"x.pth\""), "{unknown}");
        assert_eq!(unknown.hint.as_deref(), Some("known options: x.path, x.size"));
        let missing = check(&known, &given(&["x.size"])).unwrap_err();
        assert!(missing.message.contains("\"x.path\" is required: where it is"), "{missing}");
        assert!(check(&[], &given(&["any"])).is_err());
    }

    #[test]
    fn values_have_types() {
        let given = |value: &str| BTreeMap::from([("x".to_owned(), value.to_owned())]);
        let error = |read: &dyn Fn(Options<'_>) -> Option<DriverError>, value: &str| {
            let given = given(value);
            read(Options { given: &given }).unwrap().message
        };
        for bad in ["", "1", "TRUE", "yes"] {
            let text = error(&|options| options.boolean("x").err(), bad);
            assert_eq!(text, format!("invalid value {bad:?} of the option x: expected true or false"));
        }
        for bad in ["", "10000", "0o7", "8", "rwx"] {
            assert!(error(&|options| options.mode("x").err(), bad).contains("octal"));
        }
        assert!(error(&|options| options.path("x").err(), "srv/x").contains("an absolute path"));
        assert!(error(&|options| options.size("x").err(), "1.5G").contains("expected bytes, or"));
        let kinds = [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs];
        let text = error(&|options| options.fs_kind("x", &kinds).err(), "ntfs");
        assert!(text.ends_with("expected ext4, xfs or btrfs"), "{text}");
        let given = given("xfs");
        let options = Options { given: &given };
        assert_eq!(options.fs_kind("x", &kinds), Ok(Some(FsKind::Xfs)));
        assert_eq!(options.fs_kind("y", &kinds), Ok(None));
    }
}
