//! Checking the options a user gave against those a driver knows.

use crate::protocol::OptionSpec;
use crate::{DriverError, ErrorKind, Result};
use std::collections::BTreeMap;

/// Refuses options that are not among `known`, and the lack of those that are required.
///
/// ```
/// use convoy_driver_sdk::{options, protocol::OptionSpec};
///
/// let known = [OptionSpec::new("mode", "permissions, octal").default_value("755")];
/// assert!(options::check(&known, &[("mode".to_owned(), "750".to_owned())].into()).is_ok());
/// let error = options::check(&known, &[("mod".to_owned(), "750".to_owned())].into()).unwrap_err();
/// assert_eq!(error.hint.as_deref(), Some("known options: mode"));
/// ```
///
/// # Errors
/// `InvalidArgument`, naming the option and all that are known.
pub fn check(known: &[OptionSpec], given: &BTreeMap<String, String>) -> Result<()> {
    let invalid = |text: String| {
        let names: Vec<_> = known.iter().map(|spec| spec.name.as_str()).collect();
        let list = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
        DriverError::new(ErrorKind::InvalidArgument, text).hint(format!("known options: {list}"))
    };
    if let Some(unknown) = given.keys().find(|name| !known.iter().any(|spec| spec.name == **name)) {
        return Err(invalid(format!("unknown option {unknown:?}")));
    }
    match known.iter().find(|spec| spec.required && !given.contains_key(&spec.name)) {
        Some(missing) => Err(invalid(format!("the option {:?} is required: {}", missing.name, missing.help))),
        None => Ok(()),
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
}
