//! Docker's volume plugin protocol. An error is `{"Err": "..."}`, and the status 200 as in 0.5, but for
//! Podman.

use super::answer::{ErrorLabel, text};
use super::request::{MAX_BODY_BYTES, call};
use super::view;
use crate::app::App;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use convoy_client::gojson;
use convoy_drivers::RequestContext;
use convoy_volumes::{Entry, Error};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        text(gojson::to_string(&self).unwrap_or_else(|error| format!("{{\"Err\": \"{error}\"}}")))
    }
}

/// The text of an error.
struct Refusal(String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Answer { err: self.0, ..Answer::default() }.into_response();
        response.extensions_mut().insert(ErrorLabel("error".to_owned()));
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error.docker_text())
    }
}

/// Names a volume that is not there in the words that Docker knows.
fn unknown(error: Error) -> Refusal {
    match error {
        Error::VolumeNotFound(_) => Refusal("Couldn't find volume.".to_owned()),
        other => other.into(),
    }
}

type Reply = Result<Answer, Refusal>;

/// Reads the body of a call, and creates the context of what it starts.
async fn read(request: Request) -> Result<(DockerRequest, RequestContext), Refusal> {
    let call = call(&request);
    let bytes = axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES)
        .await
        .map_err(|error| Refusal(format!("cannot read the request: {error}")))?;
    let body: DockerRequest = gojson::parse(&bytes).map_err(|error| Refusal(error.to_string()))?;
    Ok((body, call))
}

async fn activate() -> Answer {
    Answer { implements: Some(["VolumeDriver"]), ..Answer::default() }
}

async fn capabilities() -> Answer {
    Answer { capabilities: Some(Scope { scope: "local" }), ..Answer::default() }
}

async fn create(State(app): State<App>, request: Request) -> Reply {
    let (body, call) = read(request).await?;
    app.docker_create(&body.name, body.opts, &call).await?;
    Ok(Answer::default())
}

async fn remove(State(app): State<App>, request: Request) -> Reply {
    let (body, call) = read(request).await?;
    app.docker_remove(body.name, call).await?;
    Ok(Answer::default())
}

async fn mount(State(app): State<App>, request: Request) -> Reply {
    let (body, call) = read(request).await?;
    let mounted = app.docker_mount(body.name, body.id, body.opts, call).await.map_err(unknown)?;
    Ok(Answer { mountpoint: mounted.display().to_string(), ..Answer::default() })
}

async fn unmount(State(app): State<App>, request: Request) -> Reply {
    let (body, call) = read(request).await?;
    app.docker_unmount(body.name, body.id, call).await?;
    Ok(Answer::default())
}

async fn path(State(app): State<App>, request: Request) -> Reply {
    let (body, call) = read(request).await?;
    let entry = app.volumes().find_for_docker(&body.name, &call).await.map_err(unknown)?;
    Ok(Answer { mountpoint: mountpoint(&app, &entry), ..Answer::default() })
}

async fn get(State(app): State<App>, headers: HeaderMap, request: Request) -> Reply {
    let (body, call) = read(request).await?;
    let entry = app.volumes().find_for_docker(&body.name, &call).await.map_err(|error| match error {
        Error::VolumeNotFound(name) => Refusal(format!("Could not find volume {name}.")),
        other => other.into(),
    })?;
    let mut volume = listed(&app, &entry);
    if speaks_plugin_protocol(&headers) {
        volume.created_at = Some(entry.volume.created.to_string());
        let mut status = view::driver_info(app.volumes(), &entry, None);
        if let Some(last) = app.backups().last_of(&entry.volume.name) {
            status.insert("LastBackup".to_owned(), last.time.to_string());
            status.insert("LastBackupURL".to_owned(), last.backup);
        }
        volume.status = Some(status);
    }
    Ok(Answer { volume: Some(volume), ..Answer::default() })
}

async fn list(State(app): State<App>) -> Answer {
    let mut volumes = Vec::with_capacity(app.volumes().count());
    app.volumes().each(|entry| {
        if !entry.is_known_to_docker() {
            volumes.push(listed(&app, entry));
        }
    });
    Answer { volumes, ..Answer::default() }
}

fn listed(app: &App, entry: &Entry) -> Volume {
    Volume { name: entry.volume.name.to_string(), mountpoint: mountpoint(app, entry), ..Volume::default() }
}

fn mountpoint(app: &App, entry: &Entry) -> String {
    let path = app.volumes().mountpoint(&entry.volume.name);
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

fn speaks_plugin_protocol(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains(PLUGIN_PROTOCOL))
}
