//! The settings on disk against those that hold: what a start would do differently, or could not do at all.

use super::findings::{Findings, error, warning};
use crate::app::App;
use crate::reload::{CHANGED, NEEDS_RESTART, UNUSABLE};

const AREA: &str = "settings";

pub(super) async fn examine(app: &App, findings: &mut Findings) {
    let differences = match app.settings_on_disk().await {
        Ok(differences) => differences,
        Err(failed) => {
            return findings.add(AREA, error("doctor", format!("the examination failed: {failed}")));
        }
    };
    let file = app.config().file.path.clone();
    let subject = format!("file {}", file.display());
    for (kind, told) in differences {
        let finding = match kind.as_str() {
            UNUSABLE => {
                let text =
                    format!("it is not what runs, and neither a reload nor a start can use it: {told}");
                error(subject.clone(), text).hint(
                    "repair it (`convoy config check` says whether it is well) and run `convoy config \
                           reload`",
                )
            }
            CHANGED => {
                warning(subject.clone(), format!("it is not what runs, these settings changed: {told}"))
                    .hint("`convoy config reload` takes them over")
            }
            NEEDS_RESTART => {
                warning(subject.clone(), format!("it is not what runs, these settings changed: {told}"))
                    .hint("they need a restart of the daemon")
            }
            _ => continue,
        };
        findings.add(AREA, finding);
    }
}
