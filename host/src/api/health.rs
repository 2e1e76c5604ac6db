//! `/healthz`: answered from memory, whatever the drivers are busy with.

use super::answer::{Failure, json, text};
use crate::app::App;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use convoy_client::types::Health;

/// 200 while the daemon can do something for somebody: also when a driver has failed, which a restart of the
/// daemon does not repair. 503 when none can be used, and when it stops.
pub(super) async fn healthz(State(app): State<App>) -> Result<Response, Failure> {
    let (usable, health) = of(&app);
    let status = if usable { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, text(json(&health)?)).into_response())
}

/// Whether the daemon is of use, and how it is.
fn of(app: &App) -> (bool, Health) {
    let drivers: Vec<_> = app
        .volumes()
        .drivers()
        .iter()
        .map(|driver| {
            let trouble = driver.failure().or_else(|| driver.silence());
            let failure = trouble.map(|error| error.to_string()).unwrap_or_default();
            (driver.name().to_string(), failure)
        })
        .collect();
    let failed = drivers.iter().filter(|(_, failure)| !failure.is_empty()).count();
    let status = match failed {
        _ if app.stopping().is_cancelled() => "stopping",
        0 => "ok",
        _ => "degraded",
    };
    let usable = failed < drivers.len() && status != "stopping";
    (usable, Health { status: status.to_owned(), drivers: drivers.into_iter().collect() })
}
