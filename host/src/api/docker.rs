//! Docker's volume plugin protocol. An error is `{"Err": "..."}`, and the status 200 as in 0.5, but for
//! Podman.

use super::answer::{ErrorLabel, MAX_BODY_BYTES, text};
use super::{App, front, view};
use crate::call::RequestContext;
use crate::config::DockerRemove;
use crate::jobs::About;
use crate::volumes::Error;
use crate::volumes::index::Entry;
use crate::volumes::spec::CreateSpec;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::post;
use convoy_client::gojson;
use convoy_driver_sdk::{ErrorKind, Name};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an engine that speaks the plugin protocol names in `Accept`; to others the answers are those of 0.5.
/// Podman names it in `Content-Type`.
const PLUGIN_PROTOCOL: &str = "application/vnd.docker.plugins";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/Plugin.Activate", post(activate))
        .route("/VolumeDriver.Capabilities", post(capabilities))
        .route("/VolumeDriver.Create", post(create))
        .route("/VolumeDriver.Remove", post(remove))
        .route("/VolumeDriver.Mount", post(mount))
        .route("/VolumeDriver.Unmount", post(unmount))
        .route("/VolumeDriver.Path", post(path))
        .route("/VolumeDriver.Get", post(get))
        .route("/VolumeDriver.List", post(list))
        .layer(axum::middleware::from_fn(with_status))
}

/// Podman looks for errors only behind another status than 200, and would run a container without its volume.
/// It is known by the type of its bodies: Docker's have none.
async fn with_status(request: Request, next: Next) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let podman = kind.is_some_and(|kind| kind.starts_with(PLUGIN_PROTOCOL));
    let mut response = next.run(request).await;
    if podman && response.extensions().get::<ErrorLabel>().is_some() {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response
}

/// The body of every call.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DockerRequest {
    name: String,
    opts: BTreeMap<String, String>,
    #[serde(rename = "ID")]
    id: String,
}

/// The answer to every call: what is empty is left out.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(skip_serializing_if = "String::is_empty")]
    mountpoint: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    err: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    volumes: Vec<Volume>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<Volume>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    implements: Option<[&'static str; 1]>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Volume {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    mountpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Scope {
    scope: &'static str,
}

fn answer(answer: &Answer) -> Response {
    text(gojson::to_string(answer).unwrap_or_else(|error| format!("{{\"Err\": \"{error}\"}}")))
}

fn finish(result: Result<Answer, String>) -> Response {
    let failed = result.is_err();
    let mut response = answer(&result.unwrap_or_else(|err| Answer { err, ..Answer::default() }));
    if failed {
        response.extensions_mut().insert(ErrorLabel("error".to_owned()));
    }
    response
}

/// The body of a call and the call of what it starts.
async fn read(request: Request) -> Result<(DockerRequest, RequestContext), String> {
    let call = RequestContext::new(front::request_id(&request));
    let bytes = axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES)
        .await
        .map_err(|error| format!("cannot read the request: {error}"))?;
    let asked: DockerRequest = gojson::parse(&bytes).map_err(|error| error.to_string())?;
    Ok((asked, call))
}

async fn activate() -> Response {
    answer(&Answer { implements: Some(["VolumeDriver"]), ..Answer::default() })
}

async fn capabilities() -> Response {
    answer(&Answer { capabilities: Some(Scope { scope: "local" }), ..Answer::default() })
}

async fn create(State(app): State<App>, request: Request) -> Response {
    finish(async { create_volume(&app, read(request).await?).await.map(|()| Answer::default()) }.await)
}

async fn create_volume(app: &App, (asked, call): (DockerRequest, RequestContext)) -> Result<(), String> {
    let name = Name::parse(asked.name).map_err(|error| Error::InvalidVolumeName(error.0).full_text())?;
    let rules = Arc::clone(&app.config.now().docker_rules);
    let spec = CreateSpec::from_docker(asked.opts, rules).map_err(|error| error.full_text())?;
    let (about, made) = (About::create(&name, &spec), app.clone());
    app.detached(about, async move {
        let entry = made.backups.create_or_get(&name, &spec, &made.jobs, &call).await?;
        // Docker repeats a create with its options; what was said since by hand holds.
        if spec.docker_remove.is_some() && made.volumes.policies.of(&entry).is_none() {
            if spec.docker_remove == Some(DockerRemove::Delete) && !entry.volume.snapshots.is_empty() {
                // The snapshots of a volume that was there before are not for Docker's users to delete.
                tracing::warn!(volume = %name, "retain=delete is not taken: there are snapshots already");
            } else {
                made.volumes.retain(&name, spec.docker_remove, &call).await?;
            }
        }
        Ok(entry)
    })
    .await
    .map(drop)
    .map_err(|error| error.docker_text())
}

async fn remove(State(app): State<App>, request: Request) -> Response {
    finish(
        async {
            let (asked, call) = read(request).await?;
            if app.config.now().general.ignore_docker_delete {
                tracing::info!(volume = asked.name, "ignored Docker's Remove, as configured");
                return Ok(Answer::default());
            }
            let volumes = app.volumes.clone();
            // Kept, the data of a volume which Docker removes is deleted by `convoy delete`.
            let own = volumes.index.get(&asked.name).and_then(|entry| volumes.policies.of(&entry));
            let keep = own.unwrap_or(app.config.now().docker_remove) == DockerRemove::Keep;
            let removed = app.detached(About::volume("volume delete", &asked.name), async move {
                unless_gone(volumes.delete(&asked.name, keep, &call).await)
            });
            removed.await.map(|()| Answer::default()).map_err(|error| error.full_text())
        }
        .await,
    )
}

async fn mount(State(app): State<App>, request: Request) -> Response {
    finish(
        async {
            let (asked, call) = read(request).await?;
            let create = app.config.now().general.create_on_docker_mount;
            if create && app.volumes.find(&asked.name, &call).await.is_err() {
                create_volume(&app, (asked.clone(), call.clone())).await?;
            }
            let volumes = app.volumes.clone();
            let mounted = app.detached(About::volume("volume mount", &asked.name), async move {
                volumes.mount(&asked.name, &asked.id, None, &call).await
            });
            let mounted = mounted.await.map_err(unknown)?;
            Ok(Answer { mountpoint: mounted.display().to_string(), ..Answer::default() })
        }
        .await,
    )
}

async fn unmount(State(app): State<App>, request: Request) -> Response {
    finish(
        async {
            let (asked, call) = read(request).await?;
            let volumes = app.volumes.clone();
            let unmounted = app.detached(About::volume("volume unmount", &asked.name), async move {
                unless_gone(volumes.unmount(&asked.name, &asked.id, &call).await)
            });
            unmounted.await.map(|()| Answer::default()).map_err(|error| error.full_text())
        }
        .await,
    )
}

/// What Docker takes back is gone when there is no such volume.
fn unless_gone(result: crate::volumes::Result<()>) -> crate::volumes::Result<()> {
    match result {
        Err(Error::VolumeNotFound(_)) => Ok(()),
        result => result,
    }
}

async fn path(State(app): State<App>, request: Request) -> Response {
    finish(
        async {
            let (asked, call) = read(request).await?;
            let entry = app.volumes.find(&asked.name, &call).await.map_err(unknown)?;
            Ok(Answer { mountpoint: mountpoint(&app, &entry), ..Answer::default() })
        }
        .await,
    )
}

async fn get(State(app): State<App>, headers: HeaderMap, request: Request) -> Response {
    finish(
        async {
            let (asked, call) = read(request).await?;
            let entry = app.volumes.find(&asked.name, &call).await.map_err(|error| match error {
                Error::VolumeNotFound(name) => format!("Could not find volume {name}."),
                other => other.full_text(),
            })?;
            let mut volume = listed(&app, &entry);
            if speaks_plugin_protocol(&headers) {
                volume.created_at = Some(entry.volume.created.to_string());
                let mut status = view::driver_info(&app.volumes, &entry, None);
                if let Some(last) = app.backups.last_of(&entry.volume.name) {
                    status.insert("LastBackup".to_owned(), last.time.to_string());
                    status.insert("LastBackupURL".to_owned(), last.backup);
                }
                volume.status = Some(status);
            }
            Ok(Answer { volume: Some(volume), ..Answer::default() })
        }
        .await,
    )
}

async fn list(State(app): State<App>) -> Response {
    let mut volumes = Vec::with_capacity(app.volumes.index.len());
    app.volumes.index.each(|entry| volumes.push(listed(&app, entry)));
    answer(&Answer { volumes, ..Answer::default() })
}

fn listed(app: &App, entry: &Entry) -> Volume {
    Volume { name: entry.volume.name.to_string(), mountpoint: mountpoint(app, entry), ..Volume::default() }
}

fn mountpoint(app: &App, entry: &Entry) -> String {
    let path = app.volumes.ledger.mountpoint(&entry.volume.name);
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

fn speaks_plugin_protocol(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains(PLUGIN_PROTOCOL))
}

fn unknown(error: Error) -> String {
    match error.kind() {
        ErrorKind::NotFound if matches!(error, Error::VolumeNotFound(_)) => {
            "Couldn't find volume.".to_owned()
        }
        _ => error.full_text(),
    }
}
