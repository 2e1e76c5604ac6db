//! `convoy doctor`: looks at the machine and at the daemon's state, says what is not as it should be and how
//! to repair it, and repairs what it safely can.
//!
//! - `machine`: kernel, clock, limits, the daemon's directory; `docker`: what the engine needs to find the
//!   daemon.
//! - `settings`: the file on disk against what holds; `state`: drivers, volumes, mounts; `backups`: schedules
//!   and destinations, of a running daemon.
//! - [`offline`]: what can be said without one; `findings`: what all of them add to.

mod backups;
mod docker;
mod findings;
mod machine;
pub mod offline;
mod settings;
mod state;

use crate::app::App;
use convoy_client::types::{Diagnosis, Examine};
use findings::{Findings, error};
use std::path::Path;

/// Examines a running daemon and its machine.
pub async fn examine(app: &App, asked: &Examine, request_id: &str) -> Diagnosis {
    let mut findings = Findings::default();
    let root = app.root();
    let socket = asked.socket.clone();
    let of_machine = tokio::task::spawn_blocking(move || {
        let mut findings = Findings::default();
        machine::examine(&root, &mut findings);
        docker::examine(Path::new(&socket), &mut findings);
        findings
    });
    match of_machine.await {
        Ok(found) => findings.extend(found),
        Err(failed) => findings.add("machine", error("doctor", format!("the examination failed: {failed}"))),
    }
    settings::examine(app, &mut findings).await;
    state::examine(app, asked.repair, request_id, &mut findings).await;
    backups::examine(app, request_id, &mut findings).await;
    findings.into_diagnosis(true)
}
