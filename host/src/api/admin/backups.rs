//! The calls below `/backups/`.

use crate::api::answer::{Answer, Failure, json, text};
use crate::api::request::{body, call, request_id};
use crate::api::stream;
use crate::app::App;
use axum::extract::{Request, State};
use convoy_activity::jobs::About;
use convoy_client::gojson;
use convoy_client::types::{
    AddKey, BackupRef, CountBackups, CreateBackup, CreatedBackup, LabelBackup, ListBackups, ListKeys,
    PruneBackups, RemoveKey, VerifyBackups,
};
use convoy_driver_sdk::ErrorKind;
use convoy_volumes::Error;

pub(super) async fn create(State(app): State<App>, request: Request) -> Answer {
    let (id, lines) = (request_id(&request), stream::is_asked(&request));
    let asked: CreateBackup = body(request).await?;
    // Whose snapshot it is, where only one volume has one of that name; what is wrong with it the work says.
    let named = (!asked.volume_name.is_empty()).then_some(asked.volume_name.as_str());
    let found = app.volumes().snapshot(&asked.snapshot_name, named);
    let about = About {
        kind: "backup create",
        volume: found.map_or_else(|_| asked.volume_name.clone(), |(entry, _)| entry.volume.name.to_string()),
        snapshot: asked.snapshot_name.clone(),
        url: asked.url.clone(),
        ..About::default()
    };
    let work = app.clone();
    Ok(stream::respond(&app, lines, about, move |job| async move {
        let created = work.backups().back_up(&asked, &job, &id).await.map_err(|error| match error {
            Error::SnapshotNotFound(ref name) => {
                Failure { message: format!("Cannot find volume of snapshot {name}"), ..Failure::from(error) }
            }
            other => other.into(),
        })?;
        let cost = created.cost.filter(|_| asked.details);
        if asked.verbose {
            json(&CreatedBackup { url: created.url, cost })
        } else {
            Ok(gojson::escape_url(&created.url))
        }
    })
    .await)
}

pub(super) async fn list(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: ListBackups = body(request).await?;
    Ok(text(json(&app.backups().list(&asked, &call).await?)?))
}

/// The text for an URL that is missing.
fn require_url(asked: &BackupRef) -> Result<(), Failure> {
    if asked.url.is_empty() {
        let text = "Cannot find driver  for restoring";
        return Err(Failure {
            plain: Some("no backup is named".to_owned()),
            hint: Some("expected its URL, which `convoy backup list DESTINATION` shows".to_owned()),
            ..Failure::new(ErrorKind::InvalidArgument, text)
        });
    }
    Ok(())
}

pub(super) async fn inspect(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: BackupRef = body(request).await?;
    require_url(&asked)?;
    Ok(text(json(&app.backups().inspect(&asked, &call).await?)?))
}

pub(super) async fn label(State(app): State<App>, request: Request) -> Answer {
    let asked: LabelBackup = body(request).await?;
    if asked.url.is_empty() {
        require_url(&BackupRef::default())?;
    }
    let (backups, about) = (app.backups().clone(), about("backup label", &asked.url, ""));
    Ok(text(json(&app.detached(about, async move { backups.label(&asked).await }).await?)?))
}

pub(super) async fn delete(State(app): State<App>, request: Request) -> Answer {
    let call = call(&request);
    let asked: BackupRef = body(request).await?;
    require_url(&asked)?;
    let (backups, about) = (app.backups().clone(), about("backup delete", &asked.url, ""));
    app.detached(about, async move { backups.delete(&asked, &call).await }).await?;
    Ok(text(String::new()))
}

pub(super) async fn verify(State(app): State<App>, request: Request) -> Answer {
    let lines = stream::is_asked(&request);
    let asked: VerifyBackups = body(request).await?;
    let about = about("backup verify", &asked.url, &asked.volume_name);
    let work = app.clone();
    Ok(stream::respond(&app, lines, about, move |job| async move {
        let report = work.backups().verify(&asked, &job).await?;
        if let [first, others @ ..] = report.problems.as_slice() {
            job.failed();
            let more = if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
            work.tell_failure(job.about(), job.id(), &format!("{}{more}", first.message));
        }
        json(&report)
    })
    .await)
}

pub(super) async fn prune(State(app): State<App>, request: Request) -> Answer {
    let lines = stream::is_asked(&request);
    let asked: PruneBackups = body(request).await?;
    let about = about("backup prune", &asked.url, &asked.volume_name);
    let backups = app.backups().clone();
    Ok(stream::respond(
        &app,
        lines,
        about,
        move |job| async move { json(&backups.prune(&asked, &job).await?) },
    )
    .await)
}

pub(super) async fn count(State(app): State<App>, request: Request) -> Answer {
    let lines = stream::is_asked(&request);
    let asked: CountBackups = body(request).await?;
    let about = about("backup stats", &asked.url, &asked.volume_name);
    let backups = app.backups().clone();
    Ok(stream::respond(
        &app,
        lines,
        about,
        move |job| async move { json(&backups.stats(&asked, &job).await?) },
    )
    .await)
}

fn about(kind: &'static str, url: &str, volume: &str) -> About {
    About { kind, url: url.to_owned(), volume: volume.to_owned(), ..About::default() }
}

pub(super) async fn keys(State(app): State<App>, request: Request) -> Answer {
    let asked: ListKeys = body(request).await?;
    Ok(text(json(&app.backups().keys(&asked).await?)?))
}

pub(super) async fn add_key(State(app): State<App>, request: Request) -> Answer {
    let asked: AddKey = body(request).await?;
    let (backups, about) = (app.backups().clone(), about("key add", &asked.url, ""));
    Ok(text(app.detached(about, async move { backups.add_key(&asked).await }).await?))
}

pub(super) async fn remove_key(State(app): State<App>, request: Request) -> Answer {
    let asked: RemoveKey = body(request).await?;
    let (backups, about) = (app.backups().clone(), about("key remove", &asked.url, ""));
    app.detached(about, async move { backups.remove_key(&asked).await }).await?;
    Ok(text(String::new()))
}
