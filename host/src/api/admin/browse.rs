//! The calls below `/browse/`: what is in backups and snapshots.

use crate::api::answer::{Answer, Failure};
use crate::api::pieces::{self, Form, Pieces};
use crate::api::request::{body, request_id};
use crate::api::stream;
use crate::app::App;
use axum::extract::{Request, State};
use convoy_activity::jobs::About;
use convoy_backup::{BackupError, BackupResult};
use convoy_client::types::{BrowseLine, CompareTrees, DumpTree, FindFiles, ListFiles, ReadFile, TreeRef};
use convoy_driver_sdk::ErrorKind;
use convoy_volumes::check_name;
use serde::Serialize;

pub(super) async fn list(State(app): State<App>, request: Request) -> Answer {
    let id = request_id(&request);
    let asked: ListFiles = body(request).await?;
    let about = about(["backup ls", "snapshot ls"], &asked.tree)?;
    let work = app.clone();
    pieces::respond(&app, about, Form::Lines, move |job, pieces| async move {
        work.backups().list_files(asked, &job, &id, lines(pieces)).await?;
        Ok(None)
    })
    .await
}

pub(super) async fn find(State(app): State<App>, request: Request) -> Answer {
    let id = request_id(&request);
    let asked: FindFiles = body(request).await?;
    if !asked.volume_name.is_empty() {
        check_name(&asked.volume_name)?;
    }
    let kind = if asked.url.is_empty() { "snapshot find" } else { "backup find" };
    let about = About { kind, volume: asked.volume_name.clone(), url: asked.url.clone(), ..About::default() };
    let work = app.clone();
    pieces::respond(&app, about, Form::Lines, move |job, pieces| async move {
        work.backups().find_files(asked, &job, &id, lines(pieces)).await?;
        Ok(None)
    })
    .await
}

pub(super) async fn diff(State(app): State<App>, request: Request) -> Answer {
    let id = request_id(&request);
    let asked: CompareTrees = body(request).await?;
    about(["", ""], &asked.old)?;
    let about = about(["backup diff", "snapshot diff"], &asked.new)?;
    let work = app.clone();
    pieces::respond(&app, about, Form::Lines, move |job, pieces| async move {
        work.backups().compare_trees(asked, &job, &id, lines(pieces)).await?;
        Ok(None)
    })
    .await
}

pub(super) async fn cat(State(app): State<App>, request: Request) -> Answer {
    let (id, form) = (request_id(&request), Form::raw(&request));
    let asked: ReadFile = body(request).await?;
    let about = about(["backup cat", "snapshot cat"], &asked.tree)?;
    let work = app.clone();
    pieces::respond(&app, about, form, move |job, pieces| async move {
        work.backups().read_file(asked, &job, &id, pieces).await?;
        Ok(None)
    })
    .await
}

pub(super) async fn dump(State(app): State<App>, request: Request) -> Answer {
    let (id, form) = (request_id(&request), Form::raw(&request));
    let asked: DumpTree = body(request).await?;
    let about = about(["backup dump", "snapshot dump"], &asked.tree)?;
    let work = app.clone();
    pieces::respond(&app, about, form, move |job, pieces| async move {
        Ok(work.backups().dump_tree(asked, &job, &id, pieces).await?)
    })
    .await
}

/// What a job with a backup, or with a snapshot, is about. Exactly one of both has to be named.
fn about(kinds: [&'static str; 2], tree: &TreeRef) -> Result<About, Failure> {
    let [of_backup, of_snapshot] = kinds;
    let text = match (tree.url.is_empty(), tree.snapshot_name.is_empty()) {
        (true, false) => {
            check_name(&tree.snapshot_name)?;
            if !tree.volume_name.is_empty() {
                check_name(&tree.volume_name)?;
            }
            return Ok(About {
                kind: of_snapshot,
                volume: tree.volume_name.clone(),
                snapshot: tree.snapshot_name.clone(),
                ..About::default()
            });
        }
        (false, true) => return Ok(About { kind: of_backup, url: tree.url.clone(), ..About::default() }),
        (true, true) => "expected the URL of a backup or a SnapshotName, found neither",
        (false, false) => "expected either the URL of a backup or a SnapshotName, found both",
    };
    Err(Failure::new(ErrorKind::InvalidArgument, text))
}

/// Sends each line as it comes.
fn lines<T: Serialize>(mut pieces: Pieces) -> impl FnMut(BrowseLine<T>) -> BackupResult<()> + Send + 'static {
    move |line| pieces.send(stream::line(&line)).map_err(|_| BackupError::Cancelled)
}
