//! Labels as tags. `Name`, `ConvoyVolumeName` and `ConvoySnapshotName` are those of convoy 0.5.

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use convoy_driver_cloud::{Label, Purpose};
use convoy_driver_sdk::Name;
use std::collections::BTreeMap;

/// The convoy volume.
pub const VOLUME: &str = "ConvoyVolumeName";
/// The convoy snapshot, on snapshots.
pub const SNAPSHOT: &str = "ConvoySnapshotName";
/// What a volume is for.
pub const PURPOSE: &str = "ConvoyPurpose";
/// The token of the operation that made it.
pub const TOKEN: &str = "ConvoyToken";
/// The instance on which it was made.
pub const HOST: &str = "ConvoyHost";
/// `yes` on a snapshot that is a backup.
pub const BACKUP: &str = "ConvoyBackup";
/// What volumes are known by where older versions of convoy wrote no name.
const OLD_VOLUME: &str = "ConvoyVolumeUUID";

/// The tags of a label.
pub fn of_label(label: &Label) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::from([(VOLUME.to_owned(), label.volume.to_string())]);
    let name = match &label.snapshot {
        Some(snapshot) => {
            tags.insert(SNAPSHOT.to_owned(), snapshot.to_string());
            format!("{}/{snapshot}", label.volume)
        }
        None => label.volume.to_string(),
    };
    tags.insert("Name".to_owned(), name);
    tags.insert(PURPOSE.to_owned(), label.purpose.as_str().to_owned());
    for (key, value) in [(TOKEN, &label.token), (HOST, &label.host)] {
        if let Some(value) = value {
            tags.insert(key.to_owned(), value.clone());
        }
    }
    tags
}

/// The label of tags; `None` on what convoy did not make.
pub fn read_label(tags: &[Tag]) -> Option<Label> {
    let value =
        |key: &str| tags.iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value).map(str::to_owned);
    let volume = value(VOLUME).or_else(|| value(OLD_VOLUME))?;
    Some(Label {
        volume: Name::parse(volume).ok()?,
        snapshot: value(SNAPSHOT).and_then(|name| Name::parse(name).ok()),
        purpose: value(PURPOSE).and_then(|text| Purpose::parse(&text)).unwrap_or(Purpose::Volume),
        token: value(TOKEN),
        host: value(HOST),
    })
}

/// Whether a snapshot is a backup: marked as one, or made by convoy 0.5, where every snapshot may be one.
pub fn is_backup(tags: &[Tag]) -> bool {
    let has = |key: &str| tags.iter().any(|tag| tag.key() == Some(key));
    has(BACKUP) || !has(TOKEN)
}

/// As a request carries them.
pub fn list(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Tags for what is about to be made.
pub fn specification(kind: ResourceType, tags: &BTreeMap<String, String>) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).set_tags(Some(list(tags))).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_back_and_those_of_0_5_too() {
        let label = Label {
            volume: Name::parse("My.data").unwrap(),
            snapshot: Some(Name::parse("Snap_1").unwrap()),
            purpose: Purpose::Reading,
            token: Some("00ff".to_owned()),
            host: Some("i-1".to_owned()),
        };
        assert_eq!(read_label(&list(&of_label(&label))), Some(label));
        let old = list(&BTreeMap::from([
            (VOLUME.to_owned(), "db".to_owned()),
            (SNAPSHOT.to_owned(), "s1".to_owned()),
        ]));
        let read = read_label(&old).unwrap();
        assert_eq!((read.volume.as_str(), read.purpose, read.token), ("db", Purpose::Volume, None));
        assert!(is_backup(&old));
        assert_eq!(read_label(&list(&BTreeMap::from([("Name".to_owned(), "db".to_owned())]))), None);
    }
}
