//! `--driver-opts`: which driver an option is for is said by the drivers themselves.

use convoy_driver_sdk::protocol::Description;
use std::collections::BTreeMap;

/// Options by name.
pub type Options = BTreeMap<String, String>;

/// An option that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum OptionError {
    #[error("invalid --driver-opts {0:?}: expected KEY=VALUE")]
    Form(String),
    #[error("--driver-opts {name} is given twice: {first:?} and {second:?}")]
    Twice { name: String, first: String, second: String },
    #[error("no driver knows --driver-opts {name}: known are {known}")]
    Unknown { name: String, known: String },
}

/// Reads the options; a value may contain `=`.
///
/// # Errors
/// [`OptionError::Form`], [`OptionError::Twice`].
pub fn parse(texts: &[String]) -> Result<Options, OptionError> {
    let mut options = Options::new();
    for text in texts {
        let form = || OptionError::Form(text.clone());
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(form)?;
        if let Some(first) = options.insert(name.to_owned(), value.to_owned()).filter(|first| first != value)
        {
            return Err(OptionError::Twice { name: name.to_owned(), first, second: value.to_owned() });
        }
    }
    Ok(options)
}

/// The options a driver declares.
pub fn for_driver(options: &Options, description: &Description) -> Options {
    let declared = |name: &String| description.options.iter().any(|option| option.name == *name);
    options.iter().filter(|(name, _)| declared(name)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Checks that each option is known to one of the drivers.
///
/// # Errors
/// [`OptionError::Unknown`], with the known ones.
pub fn refuse_unknown(options: &Options, drivers: &[&Description]) -> Result<(), OptionError> {
    let known: Vec<&str> =
        drivers.iter().flat_map(|driver| &driver.options).map(|option| option.name.as_str()).collect();
    match options.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(OptionError::Unknown { name: name.clone(), known: known.join(", ") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_contain_anything() {
        let options = parse(&["a=b=c".to_owned(), "x=".to_owned(), "a=b=c".to_owned()]).unwrap();
        assert_eq!(options, Options::from([("a".into(), "b=c".into()), ("x".into(), String::new())]));
        assert!(matches!(parse(&["a".to_owned()]), Err(OptionError::Form(_))));
        assert!(matches!(parse(&["=a".to_owned()]), Err(OptionError::Form(_))));
        assert!(matches!(parse(&["a=1".to_owned(), "a=2".to_owned()]), Err(OptionError::Twice { .. })));
    }
}
