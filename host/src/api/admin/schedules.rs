//! The calls below `/schedules/`.

use crate::api::answer::{Answer, Failure, json, text};
use crate::api::request::{body, given, request_id};
use crate::api::stream;
use crate::app::App;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use convoy_activity::jobs::About;
use convoy_client::types::{RetainSchedule, RunOutcome, RunReport, RunSchedule};

pub(super) async fn list(State(app): State<App>) -> Answer {
    Ok(text(json(&app.schedules().status().await)?))
}

pub(super) async fn run(State(app): State<App>, request: Request) -> Answer {
    let lines = stream::is_asked(&request);
    let asked: RunSchedule = body(request).await?;
    let about = about("schedule run", &asked.name, &asked.volume_name);
    let schedules = app.schedules().clone();
    Ok(stream::respond(&app, lines, about, move |job| async move {
        let ended = schedules.run_now(&asked.name, given(&asked.volume_name), &job.cancel()).await;
        let runs: Vec<_> = ended
            .map_err(missing)?
            .into_iter()
            .map(|run| RunOutcome {
                volume: run.volume,
                snapshot: run.snapshot,
                backup: run.backup,
                error: run.error,
            })
            .collect();
        let chosen_by =
            if runs.is_empty() { schedules.chosen_by(&asked.name).map_err(missing)? } else { String::new() };
        // Each has an event of its own.
        if runs.iter().any(|run| !run.error.is_empty()) {
            job.failed();
        }
        json(&RunReport { runs, chosen_by })
    })
    .await)
}

pub(super) async fn retain(State(app): State<App>, request: Request) -> Answer {
    let id = request_id(&request);
    let asked: RetainSchedule = body(request).await?;
    let schedules = app.schedules().clone();
    let about = about("schedule retain", &asked.name, &asked.volume_name);
    let retained = app.detached(about, async move {
        schedules.retain(&asked.name, given(&asked.volume_name), asked.dry_run, &id).await
    });
    Ok(text(json(&retained.await.map_err(missing)?)?))
}

fn about(kind: &'static str, schedule: &str, volume: &str) -> About {
    About { schedule: schedule.to_owned(), ..About::volume(kind, volume) }
}

fn missing(error: convoy_volumes::Error) -> Failure {
    match error.kind() {
        convoy_driver_sdk::ErrorKind::NotFound => Failure::from(error).status(StatusCode::NOT_FOUND),
        _ => error.into(),
    }
}
