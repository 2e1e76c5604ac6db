//! DigitalOcean's block storage as [`Provider`].

use crate::api::{self, Api, ApiError};
use crate::config::{self, Own};
use crate::metadata::{self, Droplet};
use crate::model::{
    Action, ActionStatus, NewAction, NewSnapshot, NewVolume, OneAction, OneSnapshot, OneVolume, Snapshot,
    Snapshots, Volume, Volumes,
};
use crate::{device, names};
use convoy_driver_cloud::batch::Batch;
use convoy_driver_cloud::wait::{self, Backoff};
use convoy_driver_cloud::{
    Attachment, CloudSnapshot, CloudVolume, Config, Gib, Handle, Label, Options, Provider, SnapshotState,
    VolumeSpec, VolumeState,
};
use convoy_driver_sdk::protocol::OptionSpec;
use convoy_driver_sdk::{Context, DriverError, Name, Result, Timestamp};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// How long an action may take.
const ACTION_LIMIT: Duration = Duration::from_secs(300);
/// How often an action is sent again because no answer came.
const LOST_TRIES: u32 = 4;
/// Up to so many, volumes are read one by one; beyond, the region's list is read.
const FEW: usize = 3;

/// DigitalOcean, as the drivers of clouds see a provider.
#[derive(Debug)]
pub struct DigitalOceanCloud {
    api: Api,
    droplet: Droplet,
    instance: String,
    tags: Vec<String>,
    described: Batch<CloudVolume>,
    dev: PathBuf,
    sys: PathBuf,
}

impl DigitalOceanCloud {
    fn volume(&self, id: &str, context: &Context) -> Result<Option<CloudVolume>> {
        Ok(self.volumes(&[id], context)?.remove(id))
    }

    fn read_one(&self, id: &str, context: &Context) -> Result<Option<CloudVolume>> {
        if !is_uuid(id) {
            return Ok(None);
        }
        match self.api.get::<OneVolume>(&format!("/v2/volumes/{id}"), &[], context) {
            Ok(found) => Ok(Some(self.read_volume(found.volume)?)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn list(&self, name: Option<&str>, context: &Context) -> Result<Vec<CloudVolume>> {
        let mut query = vec![("region", self.droplet.region.as_str())];
        query.extend(name.map(|name| ("name", name)));
        let found = self.api.list::<Volumes>("/v2/volumes", &query, context)?;
        found.into_iter().map(|volume| self.read_volume(volume)).collect()
    }

    fn read_volume(&self, volume: Volume) -> Result<CloudVolume> {
        let attachment = volume.droplet_ids.first().map(|droplet| Attachment {
            instance: format!("droplet {droplet}"),
            here: *droplet == self.droplet.id,
            device: None,
            ready: true,
        });
        let mut info = BTreeMap::from([
            ("Region".to_owned(), volume.region.slug.clone()),
            ("Name".to_owned(), volume.name.clone()),
        ]);
        if !volume.filesystem_type.is_empty() {
            info.insert("Filesystem".to_owned(), volume.filesystem_type);
        }
        Ok(CloudVolume {
            id: volume.id,
            label: names::described(&volume.description),
            cloud_name: Some(volume.name),
            size: Gib(volume.size_gigabytes),
            state: if attachment.is_some() { VolumeState::InUse } else { VolumeState::Available },
            attachment,
            created: time(&volume.created_at)?,
            info,
        })
    }

    fn snapshot(&self, id: &str, context: &Context) -> Result<Option<CloudSnapshot>> {
        if !is_uuid(id) {
            return Ok(None);
        }
        match self.api.get::<OneSnapshot>(&format!("/v2/volumes/snapshots/{id}"), &[], context) {
            Ok(found) => Ok(Some(read_snapshot(found.snapshot)?)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends an action and waits for its end. A droplet does one thing at a time: while it is busy the action
    /// is sent again and again. One whose answer is lost is sent again too: the volume takes the same action
    /// only once.
    fn act(&self, id: &str, action: &NewAction<'_>, context: &Context) -> std::result::Result<(), ApiError> {
        let path = format!("/v2/volumes/{id}/actions");
        let what = format!("the droplet to be free for an action on {id}");
        let mut lost = 0;
        let sent = wait::until(what, Backoff::brief(), ACTION_LIMIT, context, || {
            match self.api.post::<_, OneAction>(&path, action, context) {
                Ok(answer) => Ok(Some(Ok(answer.action))),
                Err(error) if error.is(422, "pending event") => Ok(None),
                Err(error) if error.is_ambiguous() && lost < LOST_TRIES => {
                    lost += 1;
                    Ok(None)
                }
                Err(error) => Ok(Some(Err(error))),
            }
        })
        .map_err(ApiError::Ended)??;
        self.ended(&path, sent, context)
    }

    fn ended(&self, path: &str, action: Action, context: &Context) -> std::result::Result<(), ApiError> {
        let path = format!("{path}/{}", action.id);
        let mut now = Some(action);
        wait::until(format!("DigitalOcean to finish {path}"), Backoff::brief(), ACTION_LIMIT, context, || {
            let action = match now.take() {
                Some(action) => action,
                None => self.api.get::<OneAction>(&path, &[], context)?.action,
            };
            match action.status {
                ActionStatus::InProgress => Ok(None),
                ActionStatus::Completed => Ok(Some(())),
                ActionStatus::Errored => Err(DriverError::unavailable(format!(
                    "DigitalOcean could not do it: the action {} ({}) failed",
                    action.id, action.kind
                ))
                .hint("see the control panel for the droplet's events, and try again")),
            }
        })
        .map_err(ApiError::Ended)
    }

    /// The volume as it is after an attach or detach, once the listing agrees.
    fn settled(&self, id: &str, attached: bool, context: &Context) -> Result<Option<CloudVolume>> {
        let what = format!("{id} to be {}", if attached { "attached" } else { "detached" });
        wait::until(what, Backoff::brief(), ACTION_LIMIT, context, || {
            let volume = self.volume(id, context)?;
            let here = |volume: &CloudVolume| volume.attachment.as_ref().is_some_and(|place| place.here);
            match volume {
                None if attached => Err(missing(id)),
                None => Ok(Some(None)),
                Some(volume) if here(&volume) == attached => Ok(Some(Some(volume))),
                Some(_) => Ok(None),
            }
        })
    }

    fn same_region(&self, region: &str) -> Result<()> {
        if region == self.droplet.region {
            return Ok(());
        }
        Err(DriverError::invalid(format!(
            "expected the region of this droplet, {}, found {region}",
            self.droplet.region
        ))
        .hint("snapshots of volumes cannot leave their region: back up to a store of convoy's own instead"))
    }
}

impl Provider for DigitalOceanCloud {
    const DRIVER: &'static str = "digitalocean";
    const SUMMARY: &'static str = "DigitalOcean block storage volumes";
    const PREFIX: &'static str = "do";
    const DEFAULT_SIZE: &'static str = "10G";
    const ENDPOINTS: (&'static str, &'static str) = (api::ENDPOINT, metadata::ENDPOINT);
    const SCHEME: &'static str = "do";
    const ID_KEY: &'static str = "ID";
    const ID_INFO: &'static str = "ID";
    const SIZES: RangeInclusive<Gib> = Gib(1)..=Gib(16384);

    type Own = Own;

    fn options() -> Vec<OptionSpec> {
        config::options()
    }

    /// None: DigitalOcean's volumes are all of one type.
    fn create_options() -> Vec<OptionSpec> {
        Vec::new()
    }

    fn read(options: &Options<'_>) -> Result<Own> {
        config::read(options)
    }

    fn connect(config: Config<Own>, _context: &Context) -> Result<Self> {
        let Config { places, own, .. } = config;
        let api = Api::new(places.endpoint.map_or_else(|| parse(api::ENDPOINT), Ok)?, &own.token)?;
        let droplet = match own.droplet {
            Some(droplet) => droplet,
            None => Droplet::find(&places.metadata.map_or_else(|| parse(metadata::ENDPOINT), Ok)?)?,
        };
        let instance = droplet.id.to_string();
        Ok(Self {
            api,
            droplet,
            instance,
            tags: own.tags,
            described: Batch::default(),
            dev: places.dev,
            sys: places.sys,
        })
    }

    fn region(&self) -> &str {
        &self.droplet.region
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn info(&self) -> BTreeMap<String, String> {
        let mut info = BTreeMap::from([
            ("DropletID".to_owned(), self.instance.clone()),
            ("Region".to_owned(), self.droplet.region.clone()),
            ("Requests".to_owned(), self.api.requests().to_string()),
        ]);
        if let Some(left) = self.api.remaining() {
            info.insert("RequestsLeftThisHour".to_owned(), left.to_string());
        }
        info
    }

    fn settings(
        &self,
        _options: &BTreeMap<String, String>,
        _size: Gib,
        _from_snapshot: bool,
    ) -> Result<BTreeMap<String, String>> {
        // All are of one type.
        Ok(BTreeMap::new())
    }

    fn create_volume(&self, spec: &VolumeSpec, context: &Context) -> Result<CloudVolume> {
        let (name, description) = (names::cloud_name(&spec.label), names::describe(&spec.label));
        let request = NewVolume {
            name: &name,
            size_gigabytes: spec.size.0,
            region: &self.droplet.region,
            description: &description,
            snapshot_id: spec.snapshot.as_deref(),
            tags: &self.tags,
        };
        match self.api.post::<_, OneVolume>("/v2/volumes", &request, context) {
            Ok(made) => self.read_volume(made.volume),
            // The name is unique in the region: either an earlier try of this very operation made it, or it
            // is another's.
            Err(error) if error.is(409, "") || error.is(422, "already exists") => {
                match self.volumes_with_token(&spec.label, context)?.pop() {
                    Some(made) => Ok(made),
                    None => Err(DriverError::already_exists(error.to_string())),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn volumes(&self, ids: &[&str], context: &Context) -> Result<BTreeMap<String, CloudVolume>> {
        self.described.ask(ids, context, |ids| {
            let found = if ids.len() <= FEW {
                let found = ids.iter().map(|id| self.read_one(id, context));
                found.filter_map(Result::transpose).collect::<Result<Vec<_>>>()?
            } else {
                self.list(None, context)?
            };
            Ok(found.into_iter().map(|volume| (volume.id.clone(), volume)).collect())
        })
    }

    fn volumes_named(&self, name: &Name, context: &Context) -> Result<Vec<CloudVolume>> {
        let cloud_name = names::volume_name(name);
        let found = self.list(Some(&cloud_name), context)?;
        // DigitalOcean filters by the name; what convoy wrote down decides.
        if let Some((volume, label)) = found
            .iter()
            .find_map(|volume| Some((volume, volume.label.as_ref().filter(|label| label.volume != *name)?)))
        {
            return Err(DriverError::already_exists(format!(
                "the DigitalOcean name {cloud_name} of {name} is taken by {}, which is the volume {}",
                volume.id, label.volume
            ))
            .hint("choose another name"));
        }
        Ok(found)
    }

    fn volumes_with_token(&self, label: &Label, context: &Context) -> Result<Vec<CloudVolume>> {
        let mut found = self.list(Some(&names::cloud_name(label)), context)?;
        found.retain(|volume| volume.label.as_ref().is_some_and(|found| found.token == label.token));
        Ok(found)
    }

    fn volumes_of_host(&self, context: &Context) -> Result<Vec<CloudVolume>> {
        let mut found = self.list(None, context)?;
        let here = |label: &Label| label.host.as_deref() == Some(self.instance.as_str());
        found.retain(|volume| volume.label.as_ref().is_some_and(here));
        Ok(found)
    }

    /// A description is for ever: what is written at the making stays.
    fn label_volume(&self, _id: &str, _label: &Label, _context: &Context) -> Result<()> {
        Ok(())
    }

    fn delete_volume(&self, id: &str, context: &Context) -> Result<()> {
        match self.api.delete(&format!("/v2/volumes/{id}"), context) {
            Err(error) if error.is_not_found() => Ok(()),
            result => Ok(result?),
        }
    }

    fn attachable(&self, volume: &CloudVolume) -> Result<()> {
        let region = volume.info.get("Region").map_or(self.droplet.region.as_str(), String::as_str);
        self.same_region(region)
    }

    /// Reading only: DigitalOcean has no way to ask whether something would be allowed.
    fn access(
        &self,
        _volume: Option<&str>,
        _snapshot: Option<&str>,
        context: &Context,
    ) -> Vec<(&'static str, Result<()>)> {
        let region = [("region", self.droplet.region.as_str()), ("per_page", "1")];
        let kind = [("resource_type", "volume"), ("per_page", "1")];
        let volumes = self.api.get::<Volumes>("/v2/volumes", &region, context);
        let snapshots = self.api.get::<Snapshots>("/v2/snapshots", &kind, context);
        vec![
            ("block_storage:read", volumes.map(drop).map_err(DriverError::from)),
            ("block_storage_snapshot:read", snapshots.map(drop).map_err(DriverError::from)),
        ]
    }

    fn attach(&self, volume: &CloudVolume, context: &Context) -> Result<CloudVolume> {
        self.attachable(volume)?;
        match &volume.attachment {
            Some(place) if place.here => return Ok(volume.clone()),
            Some(place) => return Err(elsewhere(volume, &place.instance)),
            None => {}
        }
        let action = NewAction::Attach { droplet_id: self.droplet.id, region: &self.droplet.region };
        match self.act(&volume.id, &action, context) {
            Ok(()) => {}
            Err(error) if error.is(422, "already attached") => {
                // To us, by a request whose answer was lost, or to somebody who was faster.
                let now = self.volume(&volume.id, context)?.ok_or_else(|| missing(&volume.id))?;
                if let Some(place) = now.attachment.as_ref().filter(|place| !place.here) {
                    return Err(elsewhere(&now, &place.instance));
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.settled(&volume.id, true, context)?.ok_or_else(|| missing(&volume.id))
    }

    fn detach(&self, id: &str, context: &Context) -> Result<()> {
        match self.volume(id, context)?.and_then(|volume| volume.attachment) {
            Some(place) if place.here => {}
            _ => return Ok(()),
        }
        let action = NewAction::Detach { droplet_id: self.droplet.id, region: &self.droplet.region };
        match self.act(id, &action, context) {
            Ok(()) => {}
            Err(error) if error.is(422, "not found") || error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        self.settled(id, false, context)?;
        Ok(())
    }

    fn device(&self, volume: Handle<'_>) -> Result<Option<PathBuf>> {
        match volume.cloud_name {
            Some(name) => device::find(&self.dev, &self.sys, name),
            None => Ok(None),
        }
    }

    fn resize(&self, id: &str, size: Gib, context: &Context) -> Result<()> {
        let action = NewAction::Resize { size_gigabytes: size.0, region: &self.droplet.region };
        if let Err(error) = self.act(id, &action, context) {
            // Refused as no growth if an earlier request, whose answer was lost, has done it.
            let grown = self.volume(id, context)?.is_some_and(|volume| volume.size >= size);
            if !grown {
                return Err(error.into());
            }
        }
        wait::until(format!("{id} to have {size}"), Backoff::brief(), ACTION_LIMIT, context, || {
            let volume = self.volume(id, context)?.ok_or_else(|| missing(id))?;
            Ok((volume.size >= size).then_some(()))
        })
    }

    fn create_snapshot(&self, volume_id: &str, label: &Label, context: &Context) -> Result<CloudSnapshot> {
        let name = names::snapshot_name(label);
        let request = NewSnapshot { name: &name, tags: &self.tags };
        let made: OneSnapshot =
            self.api.post(&format!("/v2/volumes/{volume_id}/snapshots"), &request, context)?;
        read_snapshot(made.snapshot)
    }

    fn snapshots(&self, ids: &[&str], context: &Context) -> Result<BTreeMap<String, CloudSnapshot>> {
        let mut found = BTreeMap::new();
        if ids.len() <= FEW {
            for id in ids {
                found.extend(self.snapshot(id, context)?.map(|snapshot| (snapshot.id.clone(), snapshot)));
            }
        } else {
            let listed = self.all_snapshots(context)?.into_iter();
            found.extend(
                listed
                    .filter(|found| ids.contains(&found.id.as_str()))
                    .map(|found| (found.id.clone(), found)),
            );
        }
        Ok(found)
    }

    fn snapshots_with_token(
        &self,
        volume_id: &str,
        label: &Label,
        context: &Context,
    ) -> Result<Vec<CloudSnapshot>> {
        let path = format!("/v2/volumes/{volume_id}/snapshots");
        let mut found = match self.api.list::<Snapshots>(&path, &[], context) {
            Ok(found) => found,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let token = label.token.as_deref().unwrap_or_default();
        found.retain(|snapshot| names::has_token(&snapshot.name, token));
        found.into_iter().map(read_snapshot).collect()
    }

    /// None: a snapshot does not say who made it.
    fn snapshots_of_host(&self, _context: &Context) -> Result<Vec<CloudSnapshot>> {
        Ok(Vec::new())
    }

    fn delete_snapshot(&self, id: &str, context: &Context) -> Result<()> {
        match self.api.delete(&format!("/v2/volumes/snapshots/{id}"), context) {
            Err(error) if error.is_not_found() => Ok(()),
            result => Ok(result?),
        }
    }

    /// Nothing can be written on a snapshot: the records know which are backups.
    fn mark_backup(&self, _id: &str, _backup: bool, _context: &Context) -> Result<()> {
        Ok(())
    }

    fn backups(&self, region: &str, context: &Context) -> Result<Vec<CloudSnapshot>> {
        self.same_region(region)?;
        let mut found = self.all_snapshots(context)?;
        found.retain(|snapshot| {
            snapshot.label.is_some()
                && snapshot.info.get("Regions").is_none_or(|regions| regions.contains(region))
        });
        Ok(found)
    }

    fn backup(&self, region: &str, id: &str, context: &Context) -> Result<Option<CloudSnapshot>> {
        self.same_region(region)?;
        self.snapshot(id, context)
    }

    fn delete_backup(&self, region: &str, id: &str, context: &Context) -> Result<()> {
        self.same_region(region)?;
        self.delete_snapshot(id, context)
    }

    fn copy_snapshot(
        &self,
        region: &str,
        _id: &str,
        _label: &Label,
        _context: &Context,
    ) -> Result<CloudSnapshot> {
        self.same_region(region)?;
        Err(DriverError::unsupported("copying a snapshot within its region"))
    }
}

impl DigitalOceanCloud {
    fn all_snapshots(&self, context: &Context) -> Result<Vec<CloudSnapshot>> {
        let found = self.api.list::<Snapshots>("/v2/snapshots", &[("resource_type", "volume")], context)?;
        found.into_iter().filter(|snapshot| snapshot.resource_type == "volume").map(read_snapshot).collect()
    }
}

/// Bytes of a GiB.
const GIB: f64 = 1_073_741_824.0;

fn read_snapshot(snapshot: Snapshot) -> Result<CloudSnapshot> {
    let mut info = BTreeMap::from([
        ("ID".to_owned(), snapshot.id.clone()),
        ("Name".to_owned(), snapshot.name.clone()),
        ("Regions".to_owned(), snapshot.regions.join(" ")),
        ("StoredGiB".to_owned(), snapshot.size_gigabytes.to_string()),
    ]);
    // What is paid for is what is in use of the volume.
    if snapshot.size_gigabytes > 0.0 && snapshot.size_gigabytes.is_finite() {
        info.insert("Bytes".to_owned(), format!("{:.0}", snapshot.size_gigabytes * GIB));
    }
    Ok(CloudSnapshot {
        id: snapshot.id,
        volume_id: snapshot.resource_id,
        label: names::snapshot_label(&snapshot.name),
        size: Gib(snapshot.min_disk_size),
        state: SnapshotState::Completed,
        created: time(&snapshot.created_at)?,
        info,
    })
}

fn time(text: &str) -> Result<Timestamp> {
    Timestamp::parse(text)
        .map_err(|error| DriverError::internal(format!("cannot understand DigitalOcean's answer: {error}")))
}

/// Whether DigitalOcean can have given this id; no other may be asked for.
fn is_uuid(id: &str) -> bool {
    let groups: Vec<_> = id.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn parse(address: &str) -> Result<Url> {
    Url::parse(address).map_err(|error| DriverError::internal(format!("{address}: {error}")))
}

fn missing(id: &str) -> DriverError {
    DriverError::not_found(format!("the volume {id} does not exist any more"))
}

fn elsewhere(volume: &CloudVolume, place: &str) -> DriverError {
    DriverError::in_use(format!("{} is attached to {place}", volume.id)).hint(
        "it is never taken away by force: unmount it there and forget it with `convoy delete --reference`",
    )
}
