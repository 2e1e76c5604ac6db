//! `/info`, `/config`, `/drivers`, `/jobs`, `/events`

use super::super::answer::{Failure, body, json, text};
use super::super::{App, stream};
use super::call;
use crate::daemon::config::setting::is_secret;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use convoy_client::client::NDJSON;
use convoy_client::gojson;
use convoy_client::types::{CancelJob, ConfigValue, DriverStatus, Info, Pairs};
use convoy_driver_sdk::ErrorKind;
use convoy_driver_sdk::protocol::Info as AskInfo;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

type Answer = Result<Response, Failure>;

/// What stands in the place of a secret.
const NOT_SHOWN: &str = "(not shown)";

/// How long a driver may take to say what `info` shows.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn info(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request).within(PATIENCE);
    let asked = app.volumes.drivers.iter().map(|driver| {
        let call = &call;
        async move {
            let pairs = match driver.call(AskInfo {}, call).await {
                Ok(reply) => reply.info,
                // One driver that does not answer hides nothing of the others.
                Err(error) => Pairs::from([("Error".to_owned(), error.to_string())]),
            };
            (driver.name().to_string(), pairs)
        }
    });
    let drivers = futures::future::join_all(asked).await.into_iter().collect();
    let info = Info { general: app.config.now().general.clone(), drivers };
    Ok(text(gojson::info(&info).map_err(|error| Failure::internal(&error))?))
}

pub(super) async fn config(State(app): State<App>) -> Answer {
    let config = app.config.now();
    let secrets: BTreeSet<String> = app
        .volumes
        .drivers
        .iter()
        .filter_map(|driver| driver.description())
        .flat_map(|description| description.options.iter().filter(|option| option.secret))
        .map(|option| format!("driver-options.{}", option.name))
        .collect();
    let shown = config.shown.iter().map(|(key, setting)| {
        let hidden = secrets.contains(key) || is_secret(key);
        let value = if hidden { NOT_SHOWN.to_owned() } else { setting.value.clone() };
        (key.clone(), ConfigValue { value, source: setting.source.to_string() })
    });
    Ok(text(json(&shown.collect::<BTreeMap<_, _>>())?))
}

pub(super) async fn drivers(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request).within(PATIENCE);
    let default = app.volumes.drivers.default_driver().name();
    let asked = app.volumes.drivers.iter().map(|driver| {
        let call = &call;
        async move {
            let mut status = driver.status(call).await;
            status.default = driver.name() == default;
            (status.name.clone(), status)
        }
    });
    let all: BTreeMap<String, DriverStatus> = futures::future::join_all(asked).await.into_iter().collect();
    Ok(text(json(&all)?))
}

pub(super) async fn jobs(State(app): State<App>) -> Answer {
    Ok(text(json(&app.jobs.list())?))
}

pub(super) async fn cancel(State(app): State<App>, request: Request) -> Answer {
    let asked: CancelJob = body(request).await?;
    cancel_job(&app, &asked.id)
}

pub(super) async fn cancel_by_path(State(app): State<App>, Path(id): Path<String>) -> Answer {
    cancel_job(&app, &id)
}

fn cancel_job(app: &App, id: &str) -> Answer {
    if app.jobs.cancel(id) {
        return Ok(text(String::new()));
    }
    Err(Failure::new(ErrorKind::NotFound, format!("job {id} not found")).status(StatusCode::NOT_FOUND))
}

pub(super) async fn events(State(app): State<App>) -> Response {
    let listener = app.volumes.events.listen();
    let stopping = app.stopping.clone();
    let lines = futures::stream::unfold((listener, stopping), |(mut listener, stopping)| async move {
        let bytes = tokio::select! {
            () = stopping.cancelled() => return None,
            event = listener.recv() => match event {
                Ok(event) => stream::line(&*event),
                // Said in the stream itself, since what is missing cannot be told any more.
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a listener is too slow for the events");
                    Bytes::from_static(b"\n")
                }
                Err(RecvError::Closed) => return None,
            },
            () = tokio::time::sleep(PATIENCE) => Bytes::from_static(b"\n"),
        };
        Some((Ok::<_, Infallible>(bytes), (listener, stopping)))
    });
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON))];
    (kind, Body::from_stream(lines)).into_response()
}
