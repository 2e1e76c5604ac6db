//! From EC2's words to those of [`convoy_driver_cloud`].

use crate::tags;
use aws_sdk_ec2::types::{
    Filter, Snapshot, SnapshotState as Ec2SnapshotState, Volume, VolumeAttachment, VolumeAttachmentState,
    VolumeState as Ec2VolumeState,
};
use convoy_driver_cloud::{Attachment, CloudSnapshot, CloudVolume, Gib, SnapshotState, VolumeState};
use convoy_driver_sdk::Timestamp;

/// `None` for what has no id, or is gone.
pub(crate) fn volume(volume: &Volume, instance: &str) -> Option<CloudVolume> {
    let id = volume.volume_id()?.to_owned();
    let attached = |place: &&VolumeAttachment| place.state() != Some(&VolumeAttachmentState::Detached);
    let here = |place: &&VolumeAttachment| place.instance_id() == Some(instance);
    let places = volume.attachments();
    let place = places.iter().filter(attached).find(here).or_else(|| places.iter().find(attached));
    let attachment = place.map(|place| Attachment {
        instance: place.instance_id().unwrap_or("an unknown instance").to_owned(),
        here: here(&place),
        device: place.device().map(str::to_owned),
        ready: place.state() == Some(&VolumeAttachmentState::Attached),
    });
    let created = volume.create_time().map_or(0, |time| time.secs());
    let created = Timestamp::from_unix(created);
    let word = volume.state().map_or("unknown", Ec2VolumeState::as_str);
    let info = [
        ("AvailiablityZone", volume.availability_zone().map(str::to_owned)),
        ("CreatedTime", Some(created.to_legacy())),
        ("State", Some(word.to_owned())),
        ("Type", volume.volume_type().map(|kind| kind.as_str().to_owned())),
        ("IOPS", Some(volume.iops().map(|iops| iops.to_string()).unwrap_or_default())),
        ("Throughput", volume.throughput().map(|throughput| throughput.to_string())),
        ("Encrypted", volume.encrypted().map(|encrypted| encrypted.to_string())),
        ("KmsKeyId", Some(volume.kms_key_id().unwrap_or_default().to_owned())),
    ];
    let info = info.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    let state = match volume.state() {
        Some(Ec2VolumeState::Available) => VolumeState::Available,
        Some(Ec2VolumeState::InUse) => VolumeState::InUse,
        Some(Ec2VolumeState::Deleting) => VolumeState::Deleting,
        Some(Ec2VolumeState::Deleted) => return None,
        Some(Ec2VolumeState::Error) => VolumeState::Failed("EC2 says error".to_owned()),
        _ => VolumeState::Creating,
    };
    Some(CloudVolume {
        id,
        cloud_name: None,
        label: tags::read_label(volume.tags()),
        size: gib(volume.size()),
        state,
        attachment,
        created,
        info,
    })
}

/// `None` for what has no id.
pub(crate) fn snapshot(snapshot: &Snapshot) -> Option<CloudSnapshot> {
    let id = snapshot.snapshot_id()?.to_owned();
    let percent = snapshot.progress().and_then(|text| text.trim_end_matches('%').parse().ok());
    let state = match snapshot.state() {
        Some(Ec2SnapshotState::Completed) => SnapshotState::Completed,
        Some(Ec2SnapshotState::Error) => {
            SnapshotState::Failed(snapshot.state_message().unwrap_or("EC2 says error").to_owned())
        }
        _ => SnapshotState::Pending(percent),
    };
    let created = Timestamp::from_unix(snapshot.start_time().map_or(0, |time| time.secs()));
    let volume_id = snapshot.volume_id().unwrap_or_default().to_owned();
    let info = [
        ("EBSSnapshotID", id.clone()),
        ("EBSVolumeID", volume_id.clone()),
        ("StartTime", created.to_legacy()),
        ("State", snapshot.state().map_or("pending", Ec2SnapshotState::as_str).to_owned()),
        ("KmsKeyId", snapshot.kms_key_id().unwrap_or_default().to_owned()),
    ];
    // All blocks that were ever written to the volume, and not only those that this snapshot added.
    let bytes = snapshot.full_snapshot_size_in_bytes().filter(|bytes| *bytes > 0);
    let bytes = bytes.map(|bytes| ("Bytes", bytes.to_string()));
    Some(CloudSnapshot {
        id,
        volume_id,
        label: tags::read_label(snapshot.tags()),
        size: gib(snapshot.volume_size()),
        state,
        created,
        info: info.into_iter().chain(bytes).map(|(key, value)| (key.to_owned(), value)).collect(),
    })
}

/// Reads a size as EC2 writes it, in GiB.
pub(crate) fn gib(size: Option<i32>) -> Gib {
    Gib(size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0))
}

/// A filter of a describing call.
pub(crate) fn filter<'a>(name: &str, values: impl IntoIterator<Item = &'a str>) -> Filter {
    let values = values.into_iter().map(str::to_owned).collect();
    Filter::builder().name(name).set_values(Some(values)).build()
}

/// A filter by tag.
pub(crate) fn tag_filter(key: &str, value: &str) -> Filter {
    filter(&format!("tag:{key}"), [value])
}
