//! The calls below `/volumes/`.

use crate::api::answer::{Answer, Failure, json, text};
use crate::api::request::{body, call, given, request_id};
use crate::api::{stream, view};
use crate::app::App;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use convoy_activity::jobs::About;
use convoy_client::types::{
    CreateVolume, DeleteKept, DeleteVolume, KeptVolume, ListedKept, MountVolume, Pairs, ResizeVolume,
    RetainVolume, UnmountVolume, Volume, VolumeRef, details_are_asked, driver_form_is_asked,
};
use convoy_driver_sdk::Name;
use convoy_drivers::RequestContext;
use convoy_volumes::{BY_HAND, CreateSpec, DockerRemove, Error, check_name};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
    let keeper = app.volumes().keeper_of(&name, &call.within(LOOK)).await;
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
        app.volumes().each(|entry| {
            all.insert(entry.volume.name.to_string(), view::listed_info(app.volumes(), entry));
        });
        return Ok(text(json(&all)?));
    }
    let mut all: BTreeMap<String, Volume> = BTreeMap::new();
    app.volumes().each(|entry| {
        all.insert(entry.volume.name.to_string(), view::volume(app.volumes(), entry));
    });
    if details_are_asked(request.uri().query()) {
        let used = app.volumes().used(None).await;
        app.volumes().each(|entry| {
            let name = &entry.volume.name;
            if let Some(shown) = all.get_mut(name.as_str()) {
                view::add_details(shown, entry, app.backups().last_of(name), used.get(name).copied());
            }
        });
    }
    Ok(text(json(&all)?))
}

pub(super) async fn inspect(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: VolumeRef = body(request).await?;
    check_name(&asked.volume_name)?;
    let fresh = app.volumes().inspect(&asked.volume_name, &call).await.map_err(missing)?;
    let mut shown = view::inspected(app.volumes(), &fresh.entry, fresh.stale.as_ref());
    if asked.details {
        let name = &fresh.entry.volume.name;
        let used = app.volumes().used(Some(name.as_str())).await.remove(name);
        view::add_details(&mut shown, &fresh.entry, app.backups().last_of(name), used);
    }
    Ok(text(json(&shown)?))
}

pub(super) async fn delete(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: DeleteVolume = body(request).await?;
    check_name(&asked.volume_name)?;
    let volumes = Arc::clone(app.volumes());
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
    let (kept, failed) = app.volumes().kept(true, &call(&request)).await;
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
    let volumes = Arc::clone(app.volumes());
    app.detached(About::volume("kept delete", name.as_str()), async move {
        volumes.delete_kept(&name, &asked.driver_name, &call).await
    })
    .await?;
    Ok(text(String::new()))
}

pub(super) async fn create(State(app): State<App>, request: Request) -> Answer {
    let (id, lines) = (request_id(&request), stream::is_asked(&request));
    let asked: CreateVolume = body(request).await?;
    let verbose = asked.verbose;
    let (name, spec) = CreateSpec::from_request(asked)?;
    let about = spec.about(&name);
    let work = app.clone();
    Ok(stream::respond(&app, lines, about, move |job| async move {
        let entry = work.create(&name, &spec, &job, &id).await?;
        if spec.docker_remove.is_some() {
            work.volumes().retain(&name, spec.docker_remove, &RequestContext::new(id.as_str())).await?;
        }
        job.warn(spec.size.and_then(|size| entry.unenforced_size(size)));
        if verbose { json(&view::volume(work.volumes(), &entry)) } else { Ok(name.to_string()) }
    })
    .await)
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
    let (volumes, asked_for) = (Arc::clone(app.volumes()), name.clone());
    let mounted = app.detached(About::volume("volume mount", &name), async move {
        volumes.mount(&asked_for, BY_HAND, at.as_deref(), &call).await
    });
    let mountpoint = mounted.await?.display().to_string();
    if !asked.verbose {
        return Ok(text(mountpoint));
    }
    Ok(text(json(&Volume { name, mount_point: mountpoint, ..Volume::default() })?))
}

pub(super) async fn unmount(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: UnmountVolume = body(request).await?;
    check_name(&asked.volume_name)?;
    let volumes = Arc::clone(app.volumes());
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
    let (volumes, name) = (Arc::clone(app.volumes()), asked.volume_name.clone());
    let resized = app.detached(About::volume("volume resize", &name), async move {
        volumes.resize(&name, asked.size, &call).await
    });
    let entry = resized.await?;
    let answer = if asked.verbose { json(&view::volume(app.volumes(), &entry))? } else { asked.volume_name };
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
    let volumes = Arc::clone(app.volumes());
    let retained = app.detached(About::volume("volume retain", &asked.volume_name), async move {
        volumes.retain(&asked.volume_name, policy, &call).await
    });
    retained.await.map_err(missing)?;
    Ok(text(String::new()))
}
