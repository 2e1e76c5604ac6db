//! The admin API: what the command line and scripts use.

mod backups;
mod browse;
mod daemon;
mod metrics;
mod restores;
mod schedules;
mod snapshots;
mod volumes;

use crate::app::App;
use axum::Router;
use axum::routing::{delete, get, post};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/info", get(daemon::info))
        .route("/config", get(daemon::config))
        .route("/config/reload", post(daemon::reload))
        .route("/drivers", get(daemon::drivers))
        .route("/jobs", get(daemon::jobs))
        .route("/jobs/cancel", post(daemon::cancel))
        .route("/jobs/{id}", delete(daemon::cancel_by_path))
        .route("/events", get(daemon::events))
        .route("/doctor", post(daemon::doctor))
        .route("/metrics", get(metrics::text))
        .route("/schedules", get(schedules::list))
        .route("/schedules/run", post(schedules::run))
        .route("/schedules/retain", post(schedules::retain))
        .route("/volumes/list", get(volumes::list))
        .route("/volumes/kept", get(volumes::list_kept).delete(volumes::delete_kept))
        .route("/volumes/", get(volumes::inspect).delete(volumes::delete))
        .route("/volumes/create", post(volumes::create))
        .route("/volumes/mount", post(volumes::mount))
        .route("/volumes/umount", post(volumes::unmount))
        .route("/volumes/retain", post(volumes::retain))
        .route("/volumes/resize", post(volumes::resize))
        .route("/snapshots/", get(snapshots::inspect).delete(snapshots::delete))
        .route("/snapshots/create", post(snapshots::create))
        .route("/snapshots/revert", post(snapshots::revert))
        .route("/backups", delete(backups::delete))
        .route("/backups/list", get(backups::list))
        .route("/backups/inspect", get(backups::inspect))
        .route("/backups/labels", post(backups::label))
        .route("/backups/create", post(backups::create))
        .route("/backups/verify", post(backups::verify))
        .route("/backups/prune", post(backups::prune))
        .route("/backups/stats", post(backups::count))
        .route("/backups/keys", get(backups::keys))
        .route("/backups/keys/add", post(backups::add_key))
        .route("/backups/keys/remove", post(backups::remove_key))
        .route("/browse/list", get(browse::list))
        .route("/browse/find", get(browse::find))
        .route("/browse/diff", get(browse::diff))
        .route("/browse/cat", get(browse::cat))
        .route("/browse/dump", get(browse::dump))
        .route("/restores", post(restores::create).delete(restores::accept))
}
