//! The calls below `/restores`.

use crate::api::answer::{Answer, json, text};
use crate::api::request::{body, call, request_id};
use crate::api::stream;
use crate::app::App;
use axum::extract::{Request, State};
use convoy_activity::jobs::About;
use convoy_client::types::{AcceptRestore, RestoreParts};
use convoy_volumes::check_name;

pub(super) async fn create(State(app): State<App>, request: Request) -> Answer {
    let (id, lines) = (request_id(&request), stream::is_asked(&request));
    let asked: RestoreParts = body(request).await?;
    check_name(&asked.volume_name)?;
    let about = About {
        kind: if asked.in_place { "restore in place" } else { "restore parts" },
        volume: asked.volume_name.clone(),
        snapshot: asked.snapshot_name.clone(),
        url: asked.url.clone(),
        ..About::default()
    };
    let work = app.clone();
    Ok(stream::respond(&app, lines, about, move |job| async move {
        let report = work.restore(&asked, &job, &id).await?;
        if let [first, ..] = report.failures.as_slice() {
            job.failed();
            let more =
                if report.failed > 1 { format!(", and {} more", report.failed - 1) } else { String::new() };
            let text = format!("/{} was not restored: {}{more}", first.path, first.why);
            work.tell_failure(job.about(), job.id(), &text);
        }
        json(&report)
    })
    .await)
}

pub(super) async fn accept(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: AcceptRestore = body(request).await?;
    check_name(&asked.volume_name)?;
    let about = About::volume("restore accept", &asked.volume_name);
    let work = app.clone();
    let half =
        app.detached(about, async move { work.accept_restore(&asked.volume_name, &call).await }).await?;
    Ok(text(half.what()))
}
