//! The calls below `/snapshots/`.

use crate::api::answer::{Answer, json, text};
use crate::api::request::{body, call, given, request_id};
use crate::api::{stream, view};
use crate::app::App;
use axum::extract::{Request, State};
use convoy_activity::jobs::About;
use convoy_client::types::{CreateSnapshot, RevertSnapshot, SnapshotRef};
use convoy_driver_sdk::Name;
use convoy_volumes::{Error, check_name, generated_name};
use std::sync::Arc;

pub(super) async fn create(State(app): State<App>, request: Request) -> Answer {
    let (id, lines) = (request_id(&request), stream::is_asked(&request));
    let asked: CreateSnapshot = body(request).await?;
    check_name(&asked.volume_name)?;
    let name = match given(&asked.name) {
        Some(name) => Name::parse(name).map_err(|error| Error::InvalidName(error.0))?,
        None => generated_name("snapshot")?,
    };
    let about = About {
        kind: "snapshot create",
        volume: asked.volume_name.clone(),
        snapshot: name.to_string(),
        ..About::default()
    };
    let work = app.clone();
    Ok(stream::respond(&app, lines, about, move |job| async move {
        let call = job.call(&id);
        let made = work.volumes().create_snapshot(&asked.volume_name, &name, asked.freeze, &call).await;
        let (entry, snapshot) = made?;
        if asked.verbose { json(&view::snapshot(&entry, &snapshot, false)) } else { Ok(name.to_string()) }
    })
    .await)
}

pub(super) async fn inspect(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: SnapshotRef = body(request).await?;
    check_name(&asked.snapshot_name)?;
    let (entry, snapshot) =
        app.volumes().inspect_snapshot(&asked.snapshot_name, given(&asked.volume_name), &call).await?;
    let mut shown = view::snapshot(&entry, &snapshot, true);
    if asked.details {
        view::add_sizes(&mut shown.driver_info, &snapshot);
    }
    Ok(text(json(&shown)?))
}

pub(super) async fn delete(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: SnapshotRef = body(request).await?;
    check_name(&asked.snapshot_name)?;
    let volumes = Arc::clone(app.volumes());
    let (volume, snapshot) = (asked.volume_name.clone(), asked.snapshot_name.clone());
    let about = About { kind: "snapshot delete", volume, snapshot, ..About::default() };
    app.detached(about, async move {
        volumes.delete_snapshot(&asked.snapshot_name, given(&asked.volume_name), &call).await
    })
    .await?;
    Ok(text(String::new()))
}

pub(super) async fn revert(State(app): State<App>, request: Request) -> Answer {
    let (id, lines) = (request_id(&request), stream::is_asked(&request));
    let asked: RevertSnapshot = body(request).await?;
    check_name(&asked.snapshot_name)?;
    let about = About {
        kind: "snapshot revert",
        volume: asked.volume_name.clone(),
        snapshot: asked.snapshot_name.clone(),
        ..About::default()
    };
    let work = app.clone();
    Ok(stream::respond(&app, lines, about, move |job| async move {
        let entry = work.revert(&asked, &job, &id).await?;
        if asked.verbose {
            json(&view::volume(work.volumes(), &entry))
        } else {
            Ok(entry.volume.name.to_string())
        }
    })
    .await)
}
