//! `/snapshots/...`

use super::super::answer::{Failure, body, json, text};
use super::super::{App, front, stream, view};
use super::{call, given};
use crate::jobs::About;
use crate::volumes::Error;
use crate::volumes::create::generated_name;
use crate::volumes::lookup::check_name;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use convoy_client::types::{CreateSnapshot, RevertSnapshot, SnapshotRef};
use convoy_driver_sdk::Name;

type Answer = Result<Response, Failure>;

pub(super) async fn create(State(app): State<App>, request: Request) -> Response {
    let (id, lines) = (front::request_id(&request), stream::is_asked(&request));
    let asked: CreateSnapshot = match body(request).await {
        Ok(asked) => asked,
        Err(failure) => return failure.into_response(),
    };
    let name = match read_name(&asked) {
        Ok(name) => name,
        Err(error) => return Failure::from(error).into_response(),
    };
    let about = About {
        kind: "snapshot create",
        volume: asked.volume_name.clone(),
        snapshot: name.to_string(),
        ..About::default()
    };
    let work = app.clone();
    stream::respond(&app, lines, about, move |job| async move {
        let call = job.call(&id);
        let made = work.volumes.create_snapshot(&asked.volume_name, &name, asked.freeze, &call).await;
        let (entry, snapshot) = made?;
        if asked.verbose { json(&view::snapshot(&entry, &snapshot, false)) } else { Ok(name.to_string()) }
    })
    .await
}

fn read_name(asked: &CreateSnapshot) -> Result<Name, Error> {
    check_name(&asked.volume_name)?;
    match given(&asked.name) {
        Some(name) => Name::parse(name).map_err(|error| Error::InvalidName(error.0)),
        None => generated_name("snapshot"),
    }
}

pub(super) async fn inspect(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: SnapshotRef = body(request).await?;
    check_name(&asked.snapshot_name)?;
    let (entry, snapshot) =
        app.volumes.inspect_snapshot(&asked.snapshot_name, given(&asked.volume_name), &call).await?;
    Ok(text(json(&view::snapshot(&entry, &snapshot, true))?))
}

pub(super) async fn delete(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: SnapshotRef = body(request).await?;
    check_name(&asked.snapshot_name)?;
    let volumes = app.volumes.clone();
    app.detached(async move {
        volumes.delete_snapshot(&asked.snapshot_name, given(&asked.volume_name), &call).await
    })
    .await?;
    Ok(text(String::new()))
}

pub(super) async fn revert(State(app): State<App>, request: Request) -> Response {
    let (id, lines) = (front::request_id(&request), stream::is_asked(&request));
    let asked: RevertSnapshot = match body(request).await {
        Ok(asked) => asked,
        Err(failure) => return failure.into_response(),
    };
    if let Err(error) = check_name(&asked.snapshot_name) {
        return Failure::from(error).into_response();
    }
    let about = About {
        kind: "snapshot revert",
        volume: asked.volume_name.clone(),
        snapshot: asked.snapshot_name.clone(),
        ..About::default()
    };
    let work = app.clone();
    stream::respond(&app, lines, about, move |job| async move {
        let (snapshot, volume) = (&asked.snapshot_name, given(&asked.volume_name));
        let entry = work.volumes.revert(snapshot, volume, &job.call(&id)).await?;
        if asked.verbose {
            json(&view::volume(&work.volumes, &entry))
        } else {
            Ok(entry.volume.name.to_string())
        }
    })
    .await
}
