//! `/volumes/...`

use super::super::answer::{Failure, body, json, text};
use super::super::{App, front, stream, view};
use super::{call, given};
use crate::call::RequestContext;
use crate::config::DockerRemove;
use crate::jobs::About;
use crate::volumes::Error;
use crate::volumes::create::generated_name;
use crate::volumes::index::Entry;
use crate::volumes::ledger::BY_HAND;
use crate::volumes::lookup::check_name;
use crate::volumes::spec::CreateSpec;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use convoy_client::types::{
    CreateVolume, DeleteKept, DeleteVolume, KeptVolume, ListedKept, MountVolume, Pairs, ResizeVolume,
    RetainVolume, UnmountVolume, Volume, VolumeRef, details_are_asked, driver_form_is_asked,
};
use convoy_driver_sdk::Name;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

type Answer = Result<Response, Failure>;

/// How long it may take to see whether the data of a name without a volume is kept.
const LOOK: Duration = Duration::from_secs(2);

/// The text that inspect and delete have for a name without a volume.
fn missing(error: Error) -> Failure {
    match error {
        Error::VolumeNotFound(_) => Failure {
            message: "Volume not found.".to_owned(),
            plain: Some(error.to_string()),
            status: StatusCode::NOT_FOUND,
            ..Failure::from(error)
        },
        other => other.into(),
    }
}

/// The same for a delete, with what to do where the data of such a volume is kept.
async fn missing_or_kept(error: Error, app: &App, call: &RequestContext) -> Failure {
    let name = match &error {
        Error::VolumeNotFound(name) => name.clone(),
        _ => return missing(error),
    };
    let (kept, _) = app.volumes.kept(false, &call.within(LOOK)).await;
    let keeper = kept.iter().find(|(_, kept)| *kept.name == *name).map(|(driver, _)| driver.name());
    let hint = keeper.map(|driver| {
        format!(
            "driver {driver} keeps its data: `convoy create {name} --driver {driver}` brings it back, \
             `convoy delete --kept {name}` deletes it"
        )
    });
    let failure = missing(error);
    Failure { hint: hint.or(failure.hint.clone()), ..failure }
}

pub(super) async fn list(State(app): State<App>, request: Request) -> Answer {
    if driver_form_is_asked(request.uri().query()) {
        let mut all: BTreeMap<String, Pairs> = BTreeMap::new();
        app.volumes.index.each(|entry| {
            all.insert(entry.volume.name.to_string(), view::listed_info(&app.volumes, entry));
        });
        return Ok(text(json(&all)?));
    }
    let mut all: BTreeMap<String, Volume> = BTreeMap::new();
    app.volumes.index.each(|entry| {
        all.insert(entry.volume.name.to_string(), view::volume(&app.volumes, entry));
    });
    if details_are_asked(request.uri().query()) {
        for (name, used) in app.volumes.used().await {
            if let Some(info) = all.get_mut(name.as_str()).and_then(|volume| volume.driver_info.as_mut()) {
                info.insert("Used".to_owned(), used.to_string());
            }
        }
    }
    Ok(text(json(&all)?))
}

pub(super) async fn inspect(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: VolumeRef = body(request).await?;
    check_name(&asked.volume_name)?;
    let fresh = app.volumes.inspect(&asked.volume_name, &call).await.map_err(missing)?;
    Ok(text(json(&view::inspected(&app.volumes, &fresh.entry, fresh.stale.as_ref()))?))
}

pub(super) async fn delete(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: DeleteVolume = body(request).await?;
    check_name(&asked.volume_name)?;
    let volumes = app.volumes.clone();
    let deleting = call.clone();
    let done = app.detached(About::volume("volume delete", &asked.volume_name), async move {
        volumes.delete(&asked.volume_name, asked.reference_only, &deleting).await
    });
    match done.await {
        Ok(()) => Ok(text(String::new())),
        Err(error) => Err(missing_or_kept(error, &app, &call).await),
    }
}

pub(super) async fn list_kept(State(app): State<App>, request: Request) -> Answer {
    let (kept, failed) = app.volumes.kept(true, &call(&request)).await;
    let kept = kept.into_iter().map(|(driver, kept)| KeptVolume {
        name: kept.name.to_string(),
        driver: driver.name().to_string(),
        size: kept.size,
        at_least: kept.at_least,
        snapshots: kept.snapshots,
        since: kept.since.map(|since| since.to_legacy()).unwrap_or_default(),
        path: kept.path.map(|path| path.display().to_string()).unwrap_or_default(),
        note: kept.note.unwrap_or_default(),
    });
    let failed = failed.into_iter().map(|(driver, error)| (driver.name().to_string(), error.to_string()));
    Ok(text(json(&ListedKept { kept: kept.collect(), failed: failed.collect() })?))
}

pub(super) async fn delete_kept(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: DeleteKept = body(request).await?;
    let name = Name::parse(&asked.volume_name).map_err(|error| Error::InvalidName(error.0))?;
    let volumes = app.volumes.clone();
    app.detached(About::volume("kept delete", name.as_str()), async move {
        volumes.delete_kept(&name, &asked.driver_name, &call).await
    })
    .await?;
    Ok(text(String::new()))
}

pub(super) async fn create(State(app): State<App>, request: Request) -> Response {
    let (id, lines) = (front::request_id(&request), stream::is_asked(&request));
    let asked: CreateVolume = match body(request).await {
        Ok(asked) => asked,
        Err(failure) => return failure.into_response(),
    };
    let (name, spec, verbose) = match read_create(asked) {
        Ok(read) => read,
        Err(error) => return Failure::from(error).into_response(),
    };
    let about = About::create(&name, &spec);
    let work = app.clone();
    stream::respond(&app, lines, about, move |job| async move {
        let entry = work.backups.create(&name, &spec, &job, &id).await?;
        if spec.docker_remove.is_some() {
            work.volumes.retain(&name, spec.docker_remove, &RequestContext::new(id.as_str())).await?;
        }
        job.warn(unenforced_size(&entry, &spec));
        if verbose { json(&view::volume(&work.volumes, &entry)) } else { Ok(name.to_string()) }
    })
    .await
}

/// What whoever asked for a size is to know if nothing enforces it.
fn unenforced_size(entry: &Entry, spec: &CreateSpec) -> Option<String> {
    let (volume, driver, size) = (&entry.volume, entry.driver.name(), spec.size?);
    let why = match volume.info.get(view::SIZE_ENFORCED).map(String::as_str) {
        Some("false") => volume.info.get(view::SIZE_NOT_ENFORCED).cloned().unwrap_or_default(),
        None if volume.size < size => format!("driver {driver} gives volumes no size"),
        _ => return None,
    };
    Some(format!("the size of volume {} is not enforced: {why}", volume.name))
}

fn read_create(asked: CreateVolume) -> Result<(Name, CreateSpec, bool), Error> {
    let name = match given(&asked.name) {
        Some(name) => Name::parse(name).map_err(|error| Error::InvalidVolumeName(error.0))?,
        None => generated_name("volume")?,
    };
    if i64::try_from(asked.size).is_err() {
        let text =
            format!("invalid size {}: more than the 9223372036854775807 bytes a device can have", asked.size);
        return Err(Error::InvalidRequest(text));
    }
    let mut options = asked.options;
    for (option, value) in [("id", asked.driver_volume_id), ("type", asked.kind)] {
        if !value.is_empty() {
            options.insert(option.to_owned(), value);
        }
    }
    if asked.iops > 0 {
        options.insert("iops".to_owned(), asked.iops.to_string());
    }
    if asked.prepare_for_vm {
        options.insert("vm".to_owned(), "true".to_owned());
    }
    let docker_remove = options.remove("retain").map(|policy| policy.parse::<DockerRemove>()).transpose();
    let docker_remove = docker_remove
        .map_err(|why| Error::InvalidRequest(format!("invalid value of option retain: {why}")))?;
    let spec = CreateSpec {
        docker_remove,
        driver: asked.driver_name,
        size: (asked.size > 0).then_some(asked.size),
        backup: asked.backup_url,
        snapshot: asked.snapshot_name,
        endpoint: asked.endpoint,
        encryption_key_file: asked.encryption_key_file,
        passphrase_file: asked.passphrase_file,
        allow_unencrypted: asked.allow_unencrypted,
        allow_losses: asked.allow_losses,
        options,
        docker: None,
    };
    Ok((name, spec, asked.verbose))
}

pub(super) async fn mount(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: MountVolume = body(request).await?;
    check_name(&asked.volume_name)?;
    let name = asked.volume_name.clone();
    let at = given(&asked.mount_point).map(PathBuf::from);
    if let Some(at) = at.as_ref().filter(|at| !at.is_absolute()) {
        let text = format!("invalid mount point {:?}: expected an absolute path", at.display().to_string());
        return Err(Error::InvalidRequest(text).into());
    }
    let mountpoint = mount_by_hand(&app, name.clone(), at, call).await?.display().to_string();
    if !asked.verbose {
        return Ok(text(mountpoint));
    }
    Ok(text(json(&Volume { name, mount_point: mountpoint, ..Volume::default() })?))
}

async fn mount_by_hand(
    app: &App,
    name: String,
    at: Option<PathBuf>,
    call: RequestContext,
) -> Result<PathBuf, Failure> {
    let volumes = app.volumes.clone();
    let mounted = app.detached(About::volume("volume mount", &name), async move {
        volumes.mount(&name, BY_HAND, at.as_deref(), &call).await
    });
    mounted.await.map_err(Failure::from)
}

pub(super) async fn unmount(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: UnmountVolume = body(request).await?;
    check_name(&asked.volume_name)?;
    let volumes = app.volumes.clone();
    app.detached(About::volume("volume unmount", &asked.volume_name), async move {
        volumes.unmount_by_hand(&asked.volume_name, asked.force, &call).await
    })
    .await?;
    Ok(text(String::new()))
}

pub(super) async fn resize(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: ResizeVolume = body(request).await?;
    check_name(&asked.volume_name)?;
    let (volumes, name) = (app.volumes.clone(), asked.volume_name.clone());
    let resized = app.detached(About::volume("volume resize", &name), async move {
        volumes.resize(&name, asked.size, &call).await
    });
    let entry = resized.await?;
    let answer = if asked.verbose { json(&view::volume(&app.volumes, &entry))? } else { asked.volume_name };
    Ok(text(answer))
}

pub(super) async fn retain(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: RetainVolume = body(request).await?;
    check_name(&asked.volume_name)?;
    let policy = match asked.policy.as_str() {
        "default" => None,
        policy => Some(policy.parse::<DockerRemove>().map_err(|_| {
            Error::InvalidRequest(format!("invalid policy {policy:?}: expected keep, delete or default"))
        })?),
    };
    let volumes = app.volumes.clone();
    let retained = app.detached(About::volume("volume retain", &asked.volume_name), async move {
        volumes.retain(&asked.volume_name, policy, &call).await
    });
    retained.await.map_err(missing)?;
    Ok(text(String::new()))
}
