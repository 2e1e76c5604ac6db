//! `/metrics`

use super::super::answer::Failure;
use super::super::{App, front};
use crate::metrics::{CONTENT_TYPE, scrape};
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

pub(super) async fn text(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let id = front::request_id(&request);
    let text = scrape::text(&app, &id).await.map_err(|error| Failure::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
