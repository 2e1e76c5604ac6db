//! HTTP on the daemon's socket: bodies to the calls of the services, and their results to the answers scripts
//! and Docker know. No logic.
//!
//! - `front`: what every request passes first: versions, prefixes, the id of the request.
//! - `request`: what is read of requests; `answer`: the forms of answers; `stream`: answers that report
//!   progress; `pieces`: answers that are made while they are sent; `view`: volumes as JSON.
//! - `docker`: the volume plugin protocol; `health`: `/healthz`; `admin`: everything else.

mod admin;
mod answer;
mod docker;
mod front;
mod health;
mod pieces;
mod request;
mod stream;
mod view;

use crate::app::App;
use crate::listen::Service;
use axum::Router;
use axum::routing::get;
use tower::Layer;
use tower::util::BoxCloneSyncService;

/// Serves the whole API.
pub fn service(app: App) -> Service {
    finish(docker::routes().merge(admin::routes()), app)
}

/// Serves Docker's part of the API, for those who are to have nothing else.
pub fn docker_service(app: App) -> Service {
    finish(docker::routes(), app)
}

fn finish(routes: Router<App>, app: App) -> Service {
    let routes = routes.route("/healthz", get(health::healthz));
    let routes: Router = routes.fallback(front::not_found).with_state(app);
    let routes = routes.method_not_allowed_fallback(front::not_found);
    // Around the routes and not in them: it changes the path that they are chosen by.
    BoxCloneSyncService::new(axum::middleware::from_fn(front::front).layer(routes))
}
