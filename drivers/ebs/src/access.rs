//! Whether the credentials allow what the driver does, asked with dry runs: EC2 says what it would say, and
//! does nothing.

use crate::ec2::{Answer, Ec2};
use convoy_driver_sdk::{Context, ErrorKind, Result};

/// Asks for every action that can be asked for with what there is: most need a volume or a snapshot that
/// exists.
pub(crate) fn ask(
    ec2: &Ec2,
    volume: Option<&str>,
    snapshot: Option<&str>,
    context: &Context,
) -> Vec<(&'static str, Result<()>)> {
    let client = ec2.home();
    let instance = ec2.instance.instance_id.as_str();
    let zone = ec2.instance.availability_zone.as_str();
    let mut asked = Vec::new();
    // A macro: every request is of a type of its own.
    macro_rules! dry {
        ($action:literal, $request:expr) => {
            asked.push(($action, judge(ec2.call($action, context, $request.dry_run(true).send()))))
        };
    }
    dry!("DescribeVolumes", client.describe_volumes());
    dry!("DescribeSnapshots", client.describe_snapshots().owner_ids("self"));
    dry!("DescribeInstances", client.describe_instances().instance_ids(instance));
    dry!("CreateVolume", client.create_volume().availability_zone(zone).size(1));
    if let Some(id) = volume {
        dry!("DescribeVolumesModifications", client.describe_volumes_modifications().volume_ids(id));
        dry!("AttachVolume", client.attach_volume().volume_id(id).instance_id(instance).device("/dev/xvddx"));
        dry!("DetachVolume", client.detach_volume().volume_id(id).instance_id(instance));
        dry!("ModifyVolume", client.modify_volume().volume_id(id));
        dry!("DeleteVolume", client.delete_volume().volume_id(id));
        dry!("CreateSnapshot", client.create_snapshot().volume_id(id));
        let tag = aws_sdk_ec2::types::Tag::builder().key(crate::tags::PURPOSE).value("volume").build();
        dry!("CreateTags", client.create_tags().resources(id).tags(tag));
    }
    if let Some(id) = snapshot {
        dry!("DeleteSnapshot", client.delete_snapshot().snapshot_id(id));
        let tag = aws_sdk_ec2::types::Tag::builder().key(crate::tags::BACKUP).build();
        dry!("DeleteTags", client.delete_tags().resources(id).tags(tag));
    }
    asked
}

/// A dry run that is allowed is an error of its own; one that fails for another reason than permission says
/// nothing about that.
fn judge<T>(answer: Answer<T>) -> Result<()> {
    match answer {
        Err(failure) if failure.error.kind == ErrorKind::PermissionDenied => Err(failure.error),
        Err(failure) if failure.code.is_empty() => Err(failure.error),
        _ => Ok(()),
    }
}
