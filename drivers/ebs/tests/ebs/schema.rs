//! What EC2's published description of its query API allows for the actions the driver uses: the parameters,
//! with `N` for a number, and those that are required; and the filters.

use std::collections::BTreeMap;

/// An action, its parameters (`*`: required) and its filters.
type Action = (&'static str, &'static [&'static str], &'static [&'static str]);

const TAGS: [&str; 3] =
    ["TagSpecification.N.ResourceType", "TagSpecification.N.Tag.N.Key", "TagSpecification.N.Tag.N.Value"];

const ACTIONS: &[Action] = &[
    ("AttachVolume", &["*VolumeId", "*InstanceId", "*Device"], &[]),
    (
        "CopySnapshot",
        &[
            "*SourceRegion",
            "*SourceSnapshotId",
            "DestinationRegion",
            "PresignedUrl",
            "Description",
            "Encrypted",
            "KmsKeyId",
            TAGS[0],
            TAGS[1],
            TAGS[2],
        ],
        &[],
    ),
    ("CreateSnapshot", &["*VolumeId", "Description", TAGS[0], TAGS[1], TAGS[2]], &[]),
    ("CreateTags", &["*ResourceId.N", "*Tag.N.Key", "Tag.N.Value"], &[]),
    (
        "CreateVolume",
        &[
            "*AvailabilityZone",
            "Size",
            "SnapshotId",
            "VolumeType",
            "Iops",
            "Throughput",
            "Encrypted",
            "KmsKeyId",
            "ClientToken",
            TAGS[0],
            TAGS[1],
            TAGS[2],
        ],
        &[],
    ),
    ("DeleteSnapshot", &["*SnapshotId"], &[]),
    ("DeleteTags", &["*ResourceId.N", "Tag.N.Key", "Tag.N.Value"], &[]),
    ("DeleteVolume", &["*VolumeId"], &[]),
    ("DescribeInstances", &["InstanceId.N", "MaxResults", "NextToken"], &[]),
    (
        "DescribeSnapshots",
        &["Owner.N", "Filter.N.Name", "Filter.N.Value.N", "MaxResults", "NextToken"],
        &["snapshot-id", "tag-key", "tag:"],
    ),
    (
        "DescribeVolumes",
        &["Filter.N.Name", "Filter.N.Value.N", "MaxResults", "NextToken"],
        &["volume-id", "tag-key", "tag:"],
    ),
    (
        "DescribeVolumesModifications",
        &["VolumeId.N", "Filter.N.Name", "Filter.N.Value.N", "MaxResults", "NextToken"],
        &["volume-id"],
    ),
    ("DetachVolume", &["*VolumeId", "InstanceId", "Device"], &[]),
    ("ModifyVolume", &["*VolumeId", "Size", "VolumeType", "Iops", "Throughput"], &[]),
];

/// What is wrong with a request, if anything.
pub(crate) fn check(action: &str, params: &BTreeMap<String, String>) -> Result<(), String> {
    let Some((_, allowed, filters)) = ACTIONS.iter().find(|(name, ..)| *name == action) else {
        return Err(format!("no action {action} is expected"));
    };
    if params.get("Version").map(String::as_str) != Some("2016-11-15") {
        return Err("no version".to_owned());
    }
    if params.get("DryRun").is_some_and(|dry| dry != "true") {
        return Err("a dry run that is none".to_owned());
    }
    let general = |name: &str| {
        let parts = name.split('.').map(|part| if part.parse::<u32>().is_ok() { "N" } else { part });
        parts.collect::<Vec<_>>().join(".")
    };
    let given: Vec<_> =
        params.keys().filter(|name| !["Action", "Version", "DryRun"].contains(&name.as_str())).collect();
    for name in &given {
        if !allowed.iter().any(|known| known.trim_start_matches('*') == general(name)) {
            return Err(format!("unknown parameter {name}"));
        }
    }
    for required in allowed.iter().filter_map(|name| name.strip_prefix('*')) {
        if !given.iter().any(|name| general(name) == required) {
            return Err(format!("{required} is missing"));
        }
    }
    for (name, value) in params {
        if general(name) == "Filter.N.Name"
            && !filters
                .iter()
                .any(|known| value == known || (known.ends_with(':') && value.starts_with(known)))
        {
            return Err(format!("unknown filter {value}"));
        }
        if general(name) == "Filter.N.Value.N"
            && name.rsplit('.').next().unwrap().parse::<u32>().unwrap() > 200
        {
            return Err("more than 200 values".to_owned());
        }
        if general(name).ends_with("Tag.N.Key")
            && (value.is_empty() || value.len() > 128 || value.starts_with("aws:"))
        {
            return Err(format!("tag {value}"));
        }
        if name == "ClientToken" && (value.len() > 64 || !value.is_ascii()) {
            return Err(format!("client token {value}"));
        }
    }
    Ok(())
}
