//! Types of volumes and what goes with them.
//!
//! Only what can never be right is refused here. Upper bounds are EC2's to say: they differ by region and
//! grow.

use convoy_driver_cloud::config::boolean;
use convoy_driver_sdk::{DriverError, Result};
use std::collections::BTreeMap;

/// The types, each with the smallest size in GiB and whether IOPS and throughput can be chosen.
const TYPES: &[(&str, u64, bool, bool)] = &[
    ("gp3", 1, true, true),
    ("gp2", 1, false, false),
    ("io1", 4, true, false),
    ("io2", 4, true, false),
    ("st1", 125, false, false),
    ("sc1", 125, false, false),
    ("standard", 1, false, false),
];

/// What volumes are like when nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Type of the volume: `gp3`.
    pub kind: String,
    /// Whether they are encrypted.
    pub encrypted: bool,
    /// The KMS key they are encrypted with, if not the account's default key.
    pub kms_key: Option<String>,
}

/// Checks the name of a type.
///
/// # Errors
/// `InvalidArgument`.
pub fn parse(kind: &str) -> Result<&'static str> {
    TYPES.iter().map(|(name, ..)| *name).find(|name| *name == kind).ok_or_else(|| {
        let names: Vec<_> = TYPES.iter().map(|(name, ..)| *name).collect();
        invalid(format!("unknown volume type {kind:?}: expected one of {}", names.join(", ")))
    })
}

/// The settings of a volume: type, iops, throughput, encrypted, kmskeyid.
///
/// # Errors
/// `InvalidArgument`.
pub fn settings(
    options: &BTreeMap<String, String>,
    defaults: &Defaults,
    gib: u64,
    from_snapshot: bool,
) -> Result<BTreeMap<String, String>> {
    let option = |name: &str| options.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let mut kind = parse(option("type").unwrap_or(&defaults.kind))?;
    let entry = |kind: &str| TYPES.iter().find(|(name, ..)| *name == kind).copied();
    if from_snapshot
        && option("type").is_none()
        && entry(kind).is_some_and(|(_, smallest, ..)| gib < smallest)
    {
        // What the backup was made of may be smaller than the default type can be.
        kind = "gp3";
    }
    let Some((_, smallest, takes_iops, takes_throughput)) = entry(kind) else {
        return Err(invalid(format!("unknown volume type {kind:?}")));
    };
    if gib < smallest {
        return Err(invalid(format!("a volume of type {kind} has at least {smallest} GiB, found {gib}")));
    }
    let mut settings = BTreeMap::from([("type".to_owned(), kind.to_owned())]);
    // convoy 0.5 sends an IOPS of 0 where none is given.
    let iops = option("iops").map(|text| number("iops", text)).transpose()?.filter(|iops| *iops > 0);
    let throughput = option("throughput").map(|text| number("throughput", text)).transpose()?;
    match iops {
        Some(iops) if takes_iops => {
            settings.insert("iops".to_owned(), iops.to_string());
        }
        Some(_) => return Err(invalid(format!("IOPS can be chosen for gp3, io1 and io2, not for {kind}"))),
        None if matches!(kind, "io1" | "io2") => {
            return Err(invalid(format!("a volume of type {kind} needs the option iops")));
        }
        None => {}
    }
    match throughput {
        Some(throughput) if takes_throughput => {
            settings.insert("throughput".to_owned(), throughput.to_string());
        }
        Some(_) => return Err(invalid(format!("throughput can be chosen for gp3, not for {kind}"))),
        None => {}
    }
    let key = option("kmskeyid").map(str::to_owned).or_else(|| defaults.kms_key.clone());
    let encrypted = match option("encrypted") {
        Some(text) => boolean("encrypted", text)?,
        None => defaults.encrypted || key.is_some(),
    };
    if encrypted {
        settings.insert("encrypted".to_owned(), "true".to_owned());
        settings.extend(key.map(|key| ("kmskeyid".to_owned(), key)));
    } else if option("kmskeyid").is_some() {
        return Err(invalid("a KMS key is given for a volume that is not to be encrypted".to_owned()));
    }
    Ok(settings)
}

fn number(name: &str, text: &str) -> Result<i32> {
    text.parse()
        .ok()
        .filter(|number| *number >= 0)
        .ok_or_else(|| invalid(format!("invalid value {text:?} of {name}: expected a whole number")))
}

fn invalid(text: String) -> DriverError {
    DriverError::invalid(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_driver_sdk::ErrorKind;

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_goes_together_is_taken_and_what_does_not_is_refused() {
        let defaults = Defaults { kind: "gp3".to_owned(), encrypted: false, kms_key: None };
        let check = |pairs: &[(&str, &str)], gib| settings(&given(pairs), &defaults, gib, false);
        assert_eq!(check(&[("iops", "0"), ("type", "")], 4), Ok(given(&[("type", "gp3")])));
        let all = [("type", "gp3"), ("iops", "4000"), ("throughput", "250")];
        assert_eq!(check(&all, 10), Ok(given(&all)));
        assert_eq!(
            check(&[("type", "io2"), ("iops", "100")], 4),
            Ok(given(&[("type", "io2"), ("iops", "100")]))
        );
        for (pairs, gib, words) in [
            (&[("type", "gp9")][..], 4, "gp3, gp2"),
            (&[("type", "io1")], 4, "needs the option iops"),
            (&[("type", "gp2"), ("iops", "100")], 4, "not for gp2"),
            (&[("type", "io1"), ("iops", "100"), ("throughput", "100")], 4, "not for io1"),
            (&[("iops", "abc")], 4, "abc"),
            (&[("iops", "-5")], 4, "-5"),
            (&[("type", "st1")], 100, "at least 125"),
            (&[("encrypted", "maybe")], 4, "true or false"),
            (&[("encrypted", "false"), ("kmskeyid", "k")], 4, "not to be encrypted"),
        ] {
            let error = check(pairs, gib).unwrap_err();
            assert!(error.kind == ErrorKind::InvalidArgument && error.message.contains(words), "{error:?}");
        }
    }

    #[test]
    fn defaults_fill_in_and_a_snapshot_fits_always() {
        let key = Some("arn:aws:kms:eu-west-1:1:key/2".to_owned());
        let defaults = Defaults { kind: "st1".to_owned(), encrypted: false, kms_key: key };
        let made = settings(&given(&[]), &defaults, 4, true).unwrap();
        assert_eq!((made["type"].as_str(), made["encrypted"].as_str()), ("gp3", "true"));
        assert_eq!(made["kmskeyid"], "arn:aws:kms:eu-west-1:1:key/2");
        assert!(settings(&given(&[]), &defaults, 4, false).is_err());
        let plain = settings(&given(&[("encrypted", "false")]), &defaults, 125, false).unwrap();
        assert_eq!(plain, given(&[("type", "st1")]));
    }
}
