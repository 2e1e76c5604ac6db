//! The call `/metrics`.

use crate::api::answer::Failure;
use crate::api::request::request_id;
use crate::app::App;
use crate::scrape;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use convoy_activity::metrics::CONTENT_TYPE;

pub(super) async fn text(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let id = request_id(&request);
    let text = scrape::text(&app, &id).await.map_err(|error| Failure::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
