//! EBS as [`Provider`].

use crate::config::{self, Own};
use crate::describe::{self, filter, gib, tag_filter};
use crate::ec2::{Answer, Ec2, Failure};
use crate::names::Names;
use crate::volume_type::{self, Defaults};
use crate::{access, device, presign, tags};
use aws_config::retry::RetryConfig;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, ResourceType, Snapshot, Tag, Volume, VolumeModificationState, VolumeType};
use convoy_driver_cloud::batch::Batch;
use convoy_driver_cloud::wait::{self, Backoff};
use convoy_driver_cloud::{
    Attachment, CloudSnapshot, CloudVolume, Config, Gib, Handle, Label, Options, Provider, SnapshotState,
    VolumeSpec, VolumeState,
};
use convoy_driver_sdk::protocol::OptionSpec;
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Name, Result, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Values of one filter: EC2 takes 200.
const PAGE: usize = 200;
/// Results of one page of a listing.
const RESULTS: i32 = 500;
/// How long a detachment may take; a volume that is still in use on the instance stays busy for ever.
const DETACH_LIMIT: Duration = Duration::from_secs(120);
/// How long a modification may take until the new size can be used.
const MODIFY_LIMIT: Duration = Duration::from_secs(600);
/// How often a request that must not be doubled is sent again when EC2 says that it did nothing.
const THROTTLED_TRIES: u32 = 5;
/// How many device names are tried when EC2 says that one is in use.
const NAME_TRIES: u32 = 8;

/// EC2, as the drivers of clouds see a provider.
#[derive(Debug)]
pub struct Ec2Cloud {
    ec2: Ec2,
    names: Names,
    described: Batch<CloudVolume>,
    defaults: Defaults,
    tags: BTreeMap<String, String>,
    endpoint: Option<Url>,
    patience: Duration,
    dev: PathBuf,
    sys: PathBuf,
}

impl Ec2Cloud {
    fn zone(&self) -> &str {
        &self.ec2.instance.availability_zone
    }

    fn list_volumes(&self, filters: Vec<Filter>, context: &Context) -> Result<Vec<CloudVolume>> {
        let request = self.ec2.home().describe_volumes().set_filters(Some(filters));
        let pages = request.into_paginator().page_size(RESULTS).items().send();
        let found: Vec<Volume> =
            self.ec2.call("DescribeVolumes", context, pages.collect::<std::result::Result<_, _>>())?;
        found.into_iter().filter_map(|volume| describe::volume(&volume, self.instance())).map(Ok).collect()
    }

    fn volume(&self, id: &str, context: &Context) -> Result<Option<CloudVolume>> {
        Ok(self.volumes(&[id], context)?.remove(id))
    }

    /// All tags of something new: the label's, and those the user wants to see.
    fn tags_for(&self, label: &Label) -> BTreeMap<String, String> {
        let mut tags = tags::of_label(label);
        tags.extend(self.tags.clone());
        tags
    }

    /// Asks for the attachment under a free name and waits for it; `None` if it got stuck.
    fn attach_somewhere(&self, id: &str, context: &Context) -> Result<Option<CloudVolume>> {
        for _ in 0..NAME_TRIES {
            let in_use = self.device_names(context)?;
            let name = self.names.reserve(&in_use).ok_or_else(|| {
                let text = format!("no device name is left at {}", self.ec2.instance.instance_id);
                DriverError::exhausted(text).hint("detach volumes that are not needed here")
            })?;
            let request = self.ec2.home().attach_volume().volume_id(id).device(name.as_str());
            let request = request.instance_id(&self.ec2.instance.instance_id);
            match self.ec2.call("AttachVolume", context, request.send()) {
                Ok(_) => {}
                Err(failure) if failure.says("InvalidParameterValue", "in use") => {
                    tracing::warn!(id, name = name.as_str(), "EC2 says that a device name is in use");
                    name.refuse();
                    continue;
                }
                // By a request whose answer was lost, or by somebody who was faster: what it is now decides.
                Err(failure) if failure.is("VolumeInUse") || failure.is("IncorrectState") => {
                    let now = self.volume(id, context)?.ok_or_else(|| missing(id))?;
                    if now.attachment.as_ref().is_none_or(|place| !place.here) {
                        return Err(now
                            .attachment
                            .as_ref()
                            .map_or(failure.into(), |place| elsewhere(id, place)));
                    }
                }
                Err(failure) => return Err(failure.into()),
            }
            return self.wait_attached(id, context);
        }
        Err(DriverError::exhausted(format!("EC2 calls every device name in use that was tried for {id}")))
    }

    fn wait_attached(&self, id: &str, context: &Context) -> Result<Option<CloudVolume>> {
        let waited =
            wait::until(format!("{id} to be attached"), Backoff::brief(), self.patience, context, || {
                let now = self.volume(id, context)?;
                match now.as_ref().and_then(|volume| volume.attachment.as_ref()) {
                    Some(place) if place.here && place.ready => Ok(now),
                    Some(place) if !place.here => Err(elsewhere(id, place)),
                    _ => Ok(None),
                }
            });
        match waited {
            Ok(volume) => Ok(Some(volume)),
            Err(error) if error.kind == ErrorKind::DeadlineExceeded && context.check().is_ok() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names in use at this instance.
    fn device_names(&self, context: &Context) -> Result<BTreeSet<String>> {
        let request = self.ec2.home().describe_instances().instance_ids(&self.ec2.instance.instance_id);
        let answer = self.ec2.call("DescribeInstances", context, request.send())?;
        let instances = answer.reservations().iter().flat_map(|reservation| reservation.instances());
        let mappings = instances.flat_map(|instance| instance.block_device_mappings());
        Ok(mappings.filter_map(|mapping| mapping.device_name()).map(str::to_owned).collect())
    }

    fn list_snapshots(
        &self,
        client: &Client,
        filters: Vec<Filter>,
        context: &Context,
    ) -> Result<Vec<Snapshot>> {
        let request = client.describe_snapshots().owner_ids("self").set_filters(Some(filters));
        let pages = request.into_paginator().page_size(RESULTS).items().send();
        Ok(self.ec2.call("DescribeSnapshots", context, pages.collect::<std::result::Result<_, _>>())?)
    }

    fn remove_snapshot(&self, client: &Client, id: &str, context: &Context) -> Result<()> {
        match self.ec2.call("DeleteSnapshot", context, client.delete_snapshot().snapshot_id(id).send()) {
            Err(failure) if failure.is("InvalidSnapshot.NotFound") => Ok(()),
            Err(failure) => Err(failure.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Sends a request that must not be doubled: again only when EC2 says that it did nothing.
    fn once<T>(&self, context: &Context, mut send: impl FnMut() -> Answer<T>) -> Result<T> {
        let mut backoff = Backoff::brief();
        for _ in 1..THROTTLED_TRIES {
            match send() {
                Err(Failure { code, .. })
                    if matches!(code.as_str(), "RequestLimitExceeded" | "Throttling") =>
                {
                    wait::sleep(backoff.pause(), context)?;
                }
                answer => return Ok(answer?),
            }
        }
        Ok(send()?)
    }

    /// The largest size that a modification of the volume has aimed at, and whether that can be used by now.
    fn modification(&self, id: &str, context: &Context) -> Result<Option<(Gib, bool)>> {
        let request = self.ec2.home().describe_volumes_modifications().filters(filter("volume-id", [id]));
        let answer = self.ec2.call("DescribeVolumesModifications", context, request.send())?;
        let mut found = None;
        for modification in answer.volumes_modifications() {
            let target = gib(modification.target_size());
            let usable = match modification.modification_state() {
                Some(VolumeModificationState::Optimizing | VolumeModificationState::Completed) => true,
                Some(VolumeModificationState::Failed) => continue,
                _ => false,
            };
            found = found.max(Some((target, usable)));
        }
        Ok(found)
    }
}

impl Provider for Ec2Cloud {
    const DRIVER: &'static str = "ebs";
    const SUMMARY: &'static str = "Amazon EBS volumes";
    const PREFIX: &'static str = "ebs";
    const DEFAULT_SIZE: &'static str = "4G";
    const ENDPOINTS: (&'static str, &'static str) = (
        "AWS_ENDPOINT_URL_EC2, or the region's address",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT, or http://169.254.169.254",
    );
    const SCHEME: &'static str = "ebs";
    const ID_KEY: &'static str = "EBSID";
    const ID_INFO: &'static str = "EBSVolumeID";
    const SIZES: RangeInclusive<Gib> = Gib(1)..=Gib(65536);

    type Own = Own;

    fn options() -> Vec<OptionSpec> {
        config::options()
    }

    fn create_options() -> Vec<OptionSpec> {
        config::create_options()
    }

    fn read(options: &Options<'_>) -> Result<Own> {
        config::read(options)
    }

    fn connect(config: Config<Own>, context: &Context) -> Result<Self> {
        let Config { places, own, .. } = config;
        Ok(Self {
            ec2: Ec2::connect(&places, context)?,
            names: Names::default(),
            described: Batch::default(),
            defaults: own.defaults,
            tags: own.tags,
            endpoint: places.endpoint,
            patience: own.patience,
            dev: places.dev,
            sys: places.sys,
        })
    }

    fn region(&self) -> &str {
        &self.ec2.instance.region
    }

    fn instance(&self) -> &str {
        &self.ec2.instance.instance_id
    }

    fn info(&self) -> BTreeMap<String, String> {
        let instance = &self.ec2.instance;
        let pairs = [
            ("InstanceID", instance.instance_id.clone()),
            ("InstanceType", instance.instance_type.clone()),
            ("Region", instance.region.clone()),
            ("AvailiablityZone", instance.availability_zone.clone()),
            ("DefaultVolumeType", self.defaults.kind.clone()),
            ("DefaultEncrypted", self.defaults.encrypted.to_string()),
            ("DefaultKmsKeyID", self.defaults.kms_key.clone().unwrap_or_default()),
            ("Calls", self.ec2.calls().to_string()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn settings(
        &self,
        options: &BTreeMap<String, String>,
        size: Gib,
        from_snapshot: bool,
    ) -> Result<BTreeMap<String, String>> {
        volume_type::settings(options, &self.defaults, size.0, from_snapshot)
    }

    fn create_volume(&self, spec: &VolumeSpec, context: &Context) -> Result<CloudVolume> {
        let setting = |name: &str| spec.settings.get(name);
        let number = |name: &str| setting(name).and_then(|text| text.parse::<i32>().ok());
        let request = self
            .ec2
            .home()
            .create_volume()
            .availability_zone(self.zone())
            .set_size(i32::try_from(spec.size.0).ok())
            .set_volume_type(setting("type").map(|kind| VolumeType::from(kind.as_str())))
            .set_iops(number("iops"))
            .set_throughput(number("throughput"))
            .set_encrypted(setting("encrypted").map(|text| text == "true"))
            .set_kms_key_id(setting("kmskeyid").cloned())
            .set_snapshot_id(spec.snapshot.clone())
            .client_token(&spec.token)
            .tag_specifications(tags::specification(ResourceType::Volume, &self.tags_for(&spec.label)));
        let made = self.ec2.call("CreateVolume", context, request.send())?;
        let id = made.volume_id().ok_or_else(|| incomplete("CreateVolume"))?.to_owned();
        Ok(CloudVolume {
            id,
            cloud_name: None,
            label: Some(spec.label.clone()),
            size: spec.size,
            state: VolumeState::Creating,
            attachment: None,
            created: Timestamp::from_unix(made.create_time().map_or(0, |time| time.secs())),
            info: BTreeMap::new(),
        })
    }

    fn volumes(&self, ids: &[&str], context: &Context) -> Result<BTreeMap<String, CloudVolume>> {
        self.described.ask(ids, context, |ids| {
            let mut found = BTreeMap::new();
            for page in ids.chunks(PAGE) {
                let listed = self.list_volumes(vec![filter("volume-id", page.iter().copied())], context)?;
                found.extend(listed.into_iter().map(|volume| (volume.id.clone(), volume)));
            }
            Ok(found)
        })
    }

    fn volumes_named(&self, name: &Name, context: &Context) -> Result<Vec<CloudVolume>> {
        let mut found = self.list_volumes(vec![tag_filter(tags::VOLUME, name)], context)?;
        found.retain(|volume| volume.state != VolumeState::Deleting);
        let (here, abroad): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|volume| self.attachable(volume).is_ok());
        if here.is_empty()
            && let Some(other) = abroad.first()
        {
            let zone = other.info.get("AvailiablityZone").map(String::as_str).unwrap_or_default();
            tracing::warn!(%name, id = other.id, zone, "a volume of that name exists in another zone only");
        }
        Ok(here)
    }

    fn volumes_with_token(&self, label: &Label, context: &Context) -> Result<Vec<CloudVolume>> {
        let Some(token) = &label.token else { return Ok(Vec::new()) };
        let mut found = self.list_volumes(vec![tag_filter(tags::TOKEN, token)], context)?;
        found.retain(|volume| volume.state != VolumeState::Deleting);
        Ok(found)
    }

    fn volumes_of_host(&self, context: &Context) -> Result<Vec<CloudVolume>> {
        let mut found = self.list_volumes(vec![tag_filter(tags::HOST, self.instance())], context)?;
        found.retain(|volume| volume.state != VolumeState::Deleting);
        Ok(found)
    }

    fn label_volume(&self, id: &str, label: &Label, context: &Context) -> Result<()> {
        let request =
            self.ec2.home().create_tags().resources(id).set_tags(Some(tags::list(&tags::of_label(label))));
        self.ec2.call("CreateTags", context, request.send())?;
        Ok(())
    }

    fn delete_volume(&self, id: &str, context: &Context) -> Result<()> {
        match self.ec2.call("DeleteVolume", context, self.ec2.home().delete_volume().volume_id(id).send()) {
            Err(failure) if failure.is("InvalidVolume.NotFound") => Ok(()),
            // A second request, after the first one's answer was lost, finds it on its way.
            Err(failure) if failure.is("IncorrectState") => match self.volume(id, context)? {
                None | Some(CloudVolume { state: VolumeState::Deleting, .. }) => Ok(()),
                Some(_) => Err(failure.into()),
            },
            Err(failure) => Err(failure.into()),
            Ok(_) => Ok(()),
        }
    }

    fn attachable(&self, volume: &CloudVolume) -> Result<()> {
        match volume.info.get("AvailiablityZone") {
            Some(zone) if zone != self.zone() => Err(DriverError::invalid(format!(
                "{} is in the zone {zone}, this instance is in {}",
                volume.id,
                self.zone()
            ))
            .hint("take a snapshot of it, back it up, and create the volume here from that backup")),
            _ => Ok(()),
        }
    }

    fn access(
        &self,
        volume: Option<&str>,
        snapshot: Option<&str>,
        context: &Context,
    ) -> Vec<(&'static str, Result<()>)> {
        access::ask(&self.ec2, volume, snapshot, context)
    }

    fn attach(&self, volume: &CloudVolume, context: &Context) -> Result<CloudVolume> {
        self.attachable(volume)?;
        let id = volume.id.as_str();
        let first = match &volume.attachment {
            Some(place) if place.here && place.ready => return Ok(volume.clone()),
            Some(place) if place.here => self.wait_attached(id, context)?,
            Some(place) => return Err(elsewhere(id, place)),
            None => self.attach_somewhere(id, context)?,
        };
        if let Some(attached) = first {
            return Ok(attached);
        }
        // Some attachments never come to an end; beginning anew, under another name, helps.
        tracing::warn!(id, patience = ?self.patience, "an attachment is stuck: detaching, and once more");
        self.detach(id, context)?;
        self.attach_somewhere(id, context)?.ok_or_else(|| {
            DriverError::busy(format!("EC2 does not get {id} attached: it is stuck, twice"))
                .hint("restart the instance if this goes on: AWS knows such attachments")
        })
    }

    fn detach(&self, id: &str, context: &Context) -> Result<()> {
        let here = |volume: Option<CloudVolume>| {
            volume.and_then(|volume| volume.attachment).is_some_and(|place| place.here)
        };
        if !here(self.volume(id, context)?) {
            return Ok(());
        }
        let request =
            self.ec2.home().detach_volume().volume_id(id).instance_id(&self.ec2.instance.instance_id);
        match self.ec2.call("DetachVolume", context, request.send()) {
            Ok(_) => {}
            // It is detached already, or on its way.
            Err(failure)
                if ["IncorrectState", "InvalidAttachment.NotFound", "InvalidVolume.NotFound"]
                    .contains(&failure.code.as_str()) => {}
            Err(failure) => return Err(failure.into()),
        }
        let what = format!("{id} to be detached");
        wait::until(what, Backoff::brief(), DETACH_LIMIT, context, || {
            Ok((!here(self.volume(id, context)?)).then_some(()))
        })
    }

    fn device(&self, volume: Handle<'_>) -> Result<Option<PathBuf>> {
        device::find(&self.dev, &self.sys, volume.id, volume.device)
    }

    fn resize(&self, id: &str, size: Gib, context: &Context) -> Result<()> {
        // An earlier request may have been carried out, its answer lost.
        let begun = self.modification(id, context)?.is_some_and(|(target, _)| target == size);
        if !begun {
            let gib = i32::try_from(size.0).ok();
            let request = self.ec2.home().modify_volume().volume_id(id).set_size(gib);
            match self.ec2.call("ModifyVolume", context, request.send()) {
                Ok(_) => {}
                Err(failure) if failure.error.kind == ErrorKind::Busy => {
                    let now = self.modification(id, context)?;
                    if now.is_none_or(|(target, _)| target != size) {
                        let error = DriverError::from(failure);
                        return Err(error.hint(
                            "a volume can be changed only a few times a day: try again in some hours",
                        ));
                    }
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        wait::until(format!("{id} to have {size}"), Backoff::lengthy(), MODIFY_LIMIT, context, || {
            let usable =
                self.modification(id, context)?.is_some_and(|(target, usable)| usable && target >= size);
            if !usable {
                return Ok(None);
            }
            let volume = self.volume(id, context)?.ok_or_else(|| missing(id))?;
            Ok((volume.size >= size).then_some(()))
        })
    }

    fn create_snapshot(&self, volume_id: &str, label: &Label, context: &Context) -> Result<CloudSnapshot> {
        let made = self.once(context, || {
            let request = self
                .ec2
                .home()
                .create_snapshot()
                .volume_id(volume_id)
                .description("Convoy snapshot")
                .tag_specifications(tags::specification(ResourceType::Snapshot, &self.tags_for(label)))
                .customize()
                .config_override(aws_sdk_ec2::config::Builder::new().retry_config(RetryConfig::disabled()));
            self.ec2.call("CreateSnapshot", context, request.send())
        })?;
        let id = made.snapshot_id().ok_or_else(|| incomplete("CreateSnapshot"))?;
        let snapshot = Snapshot::builder()
            .snapshot_id(id)
            .volume_id(volume_id)
            .set_volume_size(made.volume_size())
            .set_state(made.state().cloned())
            .set_start_time(made.start_time().copied())
            .set_kms_key_id(made.kms_key_id().map(str::to_owned))
            .set_tags(Some(tags::list(&tags::of_label(label))))
            .build();
        describe::snapshot(&snapshot).ok_or_else(|| incomplete("CreateSnapshot"))
    }

    fn snapshots(&self, ids: &[&str], context: &Context) -> Result<BTreeMap<String, CloudSnapshot>> {
        let mut found = BTreeMap::new();
        for page in ids.chunks(PAGE) {
            let filters = vec![filter("snapshot-id", page.iter().copied())];
            let listed = self.list_snapshots(self.ec2.home(), filters, context)?;
            found.extend(
                listed.iter().filter_map(describe::snapshot).map(|snapshot| (snapshot.id.clone(), snapshot)),
            );
        }
        Ok(found)
    }

    fn snapshots_with_token(
        &self,
        _volume_id: &str,
        label: &Label,
        context: &Context,
    ) -> Result<Vec<CloudSnapshot>> {
        let Some(token) = &label.token else { return Ok(Vec::new()) };
        let found = self.list_snapshots(self.ec2.home(), vec![tag_filter(tags::TOKEN, token)], context)?;
        Ok(found.iter().filter_map(describe::snapshot).collect())
    }

    fn snapshots_of_host(&self, context: &Context) -> Result<Vec<CloudSnapshot>> {
        let filters = vec![tag_filter(tags::HOST, self.instance()), filter("tag-key", [tags::SNAPSHOT])];
        let mut found = self.list_snapshots(self.ec2.home(), filters, context)?;
        found.retain(|snapshot| !tags::is_backup(snapshot.tags()));
        Ok(found.iter().filter_map(describe::snapshot).collect())
    }

    fn delete_snapshot(&self, id: &str, context: &Context) -> Result<()> {
        self.remove_snapshot(self.ec2.home(), id, context)
    }

    fn mark_backup(&self, id: &str, backup: bool, context: &Context) -> Result<()> {
        let client = self.ec2.home();
        if backup {
            let tag = Tag::builder().key(tags::BACKUP).value("yes").build();
            self.ec2.call("CreateTags", context, client.create_tags().resources(id).tags(tag).send())?;
        } else {
            let tag = Tag::builder().key(tags::BACKUP).build();
            self.ec2.call("DeleteTags", context, client.delete_tags().resources(id).tags(tag).send())?;
        }
        Ok(())
    }

    fn backups(&self, region: &str, context: &Context) -> Result<Vec<CloudSnapshot>> {
        let client = self.ec2.of_region(region);
        let mut found = self.list_snapshots(&client, vec![filter("tag-key", [tags::SNAPSHOT])], context)?;
        found.retain(|snapshot| tags::is_backup(snapshot.tags()));
        Ok(found.iter().filter_map(describe::snapshot).collect())
    }

    fn backup(&self, region: &str, id: &str, context: &Context) -> Result<Option<CloudSnapshot>> {
        let client = self.ec2.of_region(region);
        let found = self.list_snapshots(&client, vec![filter("snapshot-id", [id])], context)?;
        Ok(found.first().and_then(describe::snapshot))
    }

    fn delete_backup(&self, region: &str, id: &str, context: &Context) -> Result<()> {
        self.remove_snapshot(&self.ec2.of_region(region), id, context)
    }

    fn copy_snapshot(
        &self,
        region: &str,
        id: &str,
        label: &Label,
        context: &Context,
    ) -> Result<CloudSnapshot> {
        let url = presign::copy_snapshot(&self.ec2, region, id, self.endpoint.as_ref(), context)?;
        let made = self.once(context, || {
            let request = self
                .ec2
                .home()
                .copy_snapshot()
                .source_region(region)
                .source_snapshot_id(id)
                .destination_region(self.region())
                .presigned_url(&url)
                .description("Convoy snapshot, copied to be restored")
                .tag_specifications(tags::specification(ResourceType::Snapshot, &self.tags_for(label)))
                .customize()
                .config_override(aws_sdk_ec2::config::Builder::new().retry_config(RetryConfig::disabled()));
            self.ec2.call("CopySnapshot", context, request.send())
        })?;
        let copy = made.snapshot_id().ok_or_else(|| incomplete("CopySnapshot"))?.to_owned();
        let original = self.backup(region, id, context)?.ok_or_else(|| missing(id))?;
        Ok(CloudSnapshot {
            id: copy,
            state: SnapshotState::Pending(None),
            label: Some(label.clone()),
            ..original
        })
    }
}

fn missing(id: &str) -> DriverError {
    DriverError::not_found(format!("{id} does not exist any more"))
}

fn incomplete(action: &str) -> DriverError {
    DriverError::internal(format!("EC2's answer to {action} has no id"))
}

fn elsewhere(id: &str, place: &Attachment) -> DriverError {
    DriverError::in_use(format!("{id} is attached to {}", place.instance)).hint(
        "it is never taken away by force: unmount it there and forget it with `convoy delete --reference`",
    )
}
