//! `/info`, `/config`, `/drivers`, `/jobs`, `/events`

use crate::api::answer::{Answer, Failure, json, text};
use crate::api::request::{body, call, request_id};
use crate::api::stream;
use crate::app::App;
use crate::config::live::ReloadReport;
use crate::config::secret::is_secret;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use convoy_activity::events::{self, is_wanted};
use convoy_activity::jobs::About;
use convoy_client::client::NDJSON;
use convoy_client::gojson;
use convoy_client::types::{
    CancelJob, ConfigValue, DriverStatus, EventFilter, Examine, Info, Pairs, ReloadedConfig,
};
use convoy_driver_sdk::protocol::Info as AskInfo;
use convoy_driver_sdk::{ErrorKind, Timestamp};
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// What stands in the place of a secret.
const NOT_SHOWN: &str = "(not shown)";

/// How long a driver may take to say what `info` shows.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn info(State(app): State<App>, request: Request) -> Answer {
    let general = app.config().general.clone();
    let call = call(&request).within(PATIENCE);
    let asked = app.volumes().drivers().iter().map(|driver| {
        let call = &call;
        async move {
            let pairs = match driver.unless_silent(AskInfo::new(), call).await {
                Ok(reply) => reply.info,
                // One driver that does not answer hides nothing of the others.
                Err(error) => Pairs::from([("Error".to_owned(), error.to_string())]),
            };
            (driver.name().to_string(), pairs)
        }
    });
    let drivers = futures::future::join_all(asked).await.into_iter().collect();
    let settings = app.settings_on_disk().await.map_err(|error| Failure::internal(&error))?;
    let info = Info { general, settings, drivers };
    Ok(text(gojson::info(&info).map_err(|error| Failure::internal(&error))?))
}

pub(super) async fn config(State(app): State<App>) -> Answer {
    let config = app.config();
    let secrets: BTreeSet<String> = app
        .volumes()
        .drivers()
        .iter()
        .filter_map(|driver| driver.description())
        .flat_map(|description| description.options.iter().filter(|option| option.secret))
        .map(|option| format!("driver-options.{}", option.name))
        .collect();
    let shown = config.shown.0.iter().map(|(key, given)| {
        let hidden = secrets.contains(key) || is_secret(key);
        let value = if hidden { NOT_SHOWN.to_owned() } else { given.text() };
        (key.clone(), ConfigValue { value, source: given.source.to_string() })
    });
    Ok(text(json(&shown.collect::<BTreeMap<_, _>>())?))
}

pub(super) async fn reload(State(app): State<App>) -> Answer {
    let reloaded = app.reload().await.map_err(|error| Failure::internal(&error))?;
    let ReloadReport { applied, needs_restart } = reloaded.map_err(|error| {
        let text = format!("the settings stay as they are: {error}");
        Failure::new(ErrorKind::InvalidArgument, text)
    })?;
    Ok(text(json(&ReloadedConfig { applied, needs_restart })?))
}

pub(super) async fn drivers(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request).within(PATIENCE);
    let default = app.volumes().drivers().default_driver().name();
    let asked = app.volumes().drivers().iter().map(|driver| {
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

pub(super) async fn doctor(State(app): State<App>, request: Request) -> Answer {
    let (id, lines) = (request_id(&request), stream::is_asked(&request));
    let asked: Examine = body(request).await?;
    let about = About { kind: "doctor", ..About::default() };
    let work = app.clone();
    Ok(stream::respond(&app, lines, about, move |_job| async move {
        json(&Box::pin(crate::doctor::examine(&work, &asked, &id)).await)
    })
    .await)
}

pub(super) async fn jobs(State(app): State<App>) -> Answer {
    let calls = app.volumes().calls_under_way();
    Ok(text(json(&app.jobs().list(&calls))?))
}

pub(super) async fn cancel(State(app): State<App>, request: Request) -> Answer {
    let asked: CancelJob = body(request).await?;
    cancel_job(&app, &asked.id)
}

pub(super) async fn cancel_by_path(State(app): State<App>, Path(id): Path<String>) -> Answer {
    cancel_job(&app, &id)
}

fn cancel_job(app: &App, id: &str) -> Answer {
    if app.jobs().cancel(id) {
        return Ok(text(String::new()));
    }
    let missing = Failure::new(ErrorKind::NotFound, format!("job {id} not found"));
    let hint = Some("it may have ended; `convoy jobs` shows what runs".to_owned());
    Err(Failure { hint, ..missing }.status(StatusCode::NOT_FOUND))
}

pub(super) async fn events(
    State(app): State<App>,
    filter: Result<Query<EventFilter>, QueryRejection>,
) -> Answer {
    let invalid = |text: String| Failure::new(ErrorKind::InvalidArgument, text);
    let Query(filter) = filter.map_err(|error| invalid(error.body_text()))?;
    let since = match filter.since.as_str() {
        "" => None,
        text => Some(Timestamp::parse(text).map_err(|error| invalid(error.to_string()))?),
    };
    if let Some(unknown) = events::unknown_kind(&filter) {
        let known = events::KINDS.join(", ");
        return Err(invalid(format!(
            "unknown kind of events {unknown:?}: expected one of {known}, or its beginning"
        )));
    }
    let follow = match filter.follow.as_str() {
        "" | "true" => true,
        "false" => false,
        other => return Err(invalid(format!("invalid follow {other:?}: expected true or false"))),
    };
    let (past, listener) = app.events().listen(since);
    let past: Vec<Bytes> =
        past.iter().filter(|event| is_wanted(&filter, event)).map(|event| stream::line(&**event)).collect();
    let past = futures::stream::iter(past).map(Ok::<_, Infallible>);
    let stopping = app.stopping().clone();
    let state = (listener, stopping, filter);
    let lines = futures::stream::unfold(state, |(mut listener, stopping, filter)| async move {
        let bytes = tokio::select! {
            () = stopping.cancelled() => return None,
            event = listener.recv() => match event {
                Ok(event) if is_wanted(&filter, &event) => stream::line(&*event),
                Ok(_) => Bytes::new(),
                // Said in the stream itself, since what is missing cannot be told any more.
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a listener is too slow for the events");
                    Bytes::from_static(b"\n")
                }
                Err(RecvError::Closed) => return None,
            },
            () = tokio::time::sleep(PATIENCE) => Bytes::from_static(b"\n"),
        };
        Some((Ok::<_, Infallible>(bytes), (listener, stopping, filter)))
    });
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON))];
    let lines = lines.filter(|bytes| std::future::ready(!matches!(bytes, Ok(bytes) if bytes.is_empty())));
    if !follow {
        return Ok((kind, Body::from_stream(past)).into_response());
    }
    Ok((kind, Body::from_stream(past.chain(lines))).into_response())
}
