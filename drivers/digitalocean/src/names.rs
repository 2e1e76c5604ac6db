//! convoy's names in DigitalOcean's alphabet: lower case letters, digits and `-`, beginning with a letter, at
//! most 64.
//!
//! A volume whose name fits keeps it. Another one gets a readable part and a hash; its real name is in the
//! volume's description, and whoever looks it up compares that, so that two names can never be mixed up.
//! Snapshots have no description: their names are an escaped form of both names and the token, or, if that is
//! too long, a readable part and the token.

use convoy_driver_cloud::{Label, Purpose};
use convoy_driver_sdk::Name;
use sha2::{Digest, Sha256};

/// The longest name DigitalOcean takes.
const MAX: usize = 64;
/// Hexadecimal digits of the hash in a volume's name.
const HASH: usize = 12;
/// Hexadecimal digits of the token in a snapshot's name.
const TOKEN: usize = 8;

/// The DigitalOcean name of the volume that a label is for.
pub fn cloud_name(label: &Label) -> String {
    match (label.purpose, &label.token) {
        (Purpose::Reading, Some(token)) => format!("cv-read-{}", prefix(token, 32)),
        _ => volume_name(&label.volume),
    }
}

/// The DigitalOcean name of a convoy volume.
pub fn volume_name(name: &Name) -> String {
    if fits(name) {
        return name.to_string();
    }
    let hash = hex::encode(Sha256::digest(name.as_bytes()));
    let slug = slug(name, MAX - "cv--".len() - HASH);
    format!("cv-{slug}-{}", prefix(&hash, HASH))
}

fn fits(name: &str) -> bool {
    name.len() <= MAX
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// What is written into a volume's description.
pub fn describe(label: &Label) -> String {
    let mut text = format!("convoy volume={} purpose={}", label.volume, label.purpose.as_str());
    for (key, value) in [("token", &label.token), ("host", &label.host)] {
        if let Some(value) = value {
            text.push_str(&format!(" {key}={value}"));
        }
    }
    text
}

/// The reverse of [`describe`]; `None` for what convoy did not write.
pub fn described(description: &str) -> Option<Label> {
    let mut words = description.split_whitespace();
    if words.next() != Some("convoy") {
        return None;
    }
    let value = |key: &str| {
        description
            .split_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
            .map(str::to_owned)
    };
    Some(Label {
        volume: Name::parse(value("volume")?).ok()?,
        snapshot: None,
        purpose: Purpose::parse(&value("purpose")?)?,
        token: value("token"),
        host: value("host"),
    })
}

/// The DigitalOcean name of a snapshot.
pub fn snapshot_name(label: &Label) -> String {
    let token = prefix(label.token.as_deref().unwrap_or_default(), TOKEN);
    let snapshot = label.snapshot.as_deref().unwrap_or_default();
    let exact = format!("cv-{}-s{}-{token}", escape(&label.volume), escape(snapshot));
    if exact.len() <= MAX {
        return exact;
    }
    let slug = slug(&format!("{}-{snapshot}", label.volume), MAX - "cvx--".len() - TOKEN);
    format!("cvx-{slug}-{token}")
}

/// Whether a snapshot of that name was made by the operation of that token.
pub fn has_token(snapshot: &str, token: &str) -> bool {
    snapshot.starts_with("cv")
        && snapshot.rsplit_once('-').is_some_and(|(_, end)| end == prefix(token, TOKEN))
}

/// The reverse of [`snapshot_name`]; `None` for what convoy did not make. A shortened name gives a shortened
/// volume.
pub fn snapshot_label(name: &str) -> Option<Label> {
    let (rest, token) = name.rsplit_once('-')?;
    if token.len() != TOKEN || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (volume, snapshot) = match rest.strip_prefix("cv-") {
        Some(both) => {
            let (volume, snapshot) = split(both)?;
            (unescape(volume)?, Some(Name::parse(unescape(snapshot)?).ok()?))
        }
        None => (rest.strip_prefix("cvx-")?.to_owned(), None),
    };
    Some(Label {
        volume: Name::parse(volume).ok()?,
        snapshot,
        purpose: Purpose::Volume,
        token: None,
        host: None,
    })
}

/// `-` begins an escape: `--` is a dash, `-u` an underscore, `-d` a dot, `-c` a capital of the letter that
/// follows; `-s` stands between the volume and the snapshot.
fn escape(name: &str) -> String {
    let mut text = String::with_capacity(name.len() * 2);
    for character in name.chars() {
        match character {
            '-' => text.push_str("--"),
            '_' => text.push_str("-u"),
            '.' => text.push_str("-d"),
            capital if capital.is_ascii_uppercase() => {
                text.push_str("-c");
                text.push(capital.to_ascii_lowercase());
            }
            other => text.push(other),
        }
    }
    text
}

fn unescape(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        name.push(match character {
            '-' => match characters.next()? {
                '-' => '-',
                'u' => '_',
                'd' => '.',
                'c' => characters.next().filter(char::is_ascii_lowercase)?.to_ascii_uppercase(),
                _ => return None,
            },
            other => other,
        });
    }
    Some(name)
}

/// Splits at the one `-s` that is an escape.
fn split(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += match (byte, bytes.get(at + 1)) {
            (b'-', Some(b's')) => return Some((text.get(..at)?, text.get(at + 2..)?)),
            (b'-', Some(b'c')) => 3,
            (b'-', _) => 2,
            _ => 1,
        };
    }
    None
}

/// A readable part: what does not fit becomes a dash.
fn slug(name: &str, longest: usize) -> String {
    let readable = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = name.chars().map(readable).take(longest).collect();
    text.trim_matches('-').to_owned()
}

fn prefix(text: &str, length: usize) -> &str {
    text.get(..length).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn label(volume: &str, snapshot: Option<&str>) -> Label {
        Label {
            volume: Name::parse(volume).unwrap(),
            snapshot: snapshot.map(|name| Name::parse(name).unwrap()),
            purpose: Purpose::Volume,
            token: Some("0123456789abcdef0123456789abcdef".to_owned()),
            host: Some("4711".to_owned()),
        }
    }

    #[test]
    fn what_fits_is_kept_and_generated_snapshot_names_are_exact() {
        assert_eq!(volume_name(&Name::parse("db-1").unwrap()), "db-1");
        assert!(volume_name(&Name::parse("My_Data.2").unwrap()).starts_with("cv-my-data-2-"));
        assert_ne!(
            volume_name(&Name::parse("My_Data").unwrap()),
            volume_name(&Name::parse("my_data").unwrap())
        );
        let generated = label("volume-0123456789abcdef", Some("snapshot-0123456789abcdef"));
        let name = snapshot_name(&generated);
        assert_eq!(name.len(), 64, "{name}");
        assert_eq!(snapshot_label(&name).unwrap().snapshot, generated.snapshot);
        for foreign in ["backup-of-db", "cv-db", "cv-a-sb-1234567", "cv-", "cv-a-x1-01234567", "k8s-01234567"]
        {
            assert_eq!(snapshot_label(foreign), None, "{foreign}");
        }
        for foreign in
            ["", "my volume", "convoy", "convoy volume=../x purpose=volume", "convoy volume=ab purpose=z"]
        {
            assert_eq!(described(foreign), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn every_name_fits_and_is_found_again(
            volume in "[a-zA-Z0-9][a-zA-Z0-9_.-]{1,99}",
            snapshot in "[a-zA-Z0-9][a-zA-Z0-9_.-]{1,99}",
        ) {
            let label = label(&volume, Some(&snapshot));
            for name in [cloud_name(&label), snapshot_name(&label)] {
                prop_assert!(fits(&name), "{name}");
            }
            let read = described(&describe(&label)).unwrap();
            prop_assert_eq!(&read, &Label { snapshot: None, ..label.clone() });
            let name = snapshot_name(&label);
            prop_assert!(has_token(&name, "0123456789abcdef0123456789abcdef"));
            prop_assert!(!has_token(&name, "1123456789abcdef0123456789abcdef"));
            if name.starts_with("cv-") {
                let read = snapshot_label(&name).unwrap();
                prop_assert_eq!((read.volume, read.snapshot), (label.volume, label.snapshot));
            }
        }
    }
}
