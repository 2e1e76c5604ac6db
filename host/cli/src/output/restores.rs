//! What people see of restores of parts.

use super::table::printable;
use super::values::bytes;
use convoy_client::types::{RestoreChange, RestoreReport};
use std::fmt::Write;

/// Shows what `convoy restore` answers.
pub fn report(report: &RestoreReport) -> String {
    let mut text = String::new();
    for change in &report.changes {
        text += &line(change);
    }
    if report.not_listed > 0 {
        // Writing to a text does not fail.
        let _ = writeln!(text, "... and {} more", report.not_listed);
    }
    // Each failure is among the changes, where those are listed and are not too many.
    if report.changes.is_empty() || report.not_listed > 0 {
        for failure in &report.failures {
            text += &line(failure);
        }
    }
    let counts = [
        (report.created, "created"),
        (report.replaced, "replaced"),
        (report.renamed, "replaced and kept under another name"),
        (report.updated, "updated"),
        (report.deleted, "deleted"),
        (report.same, "as in the backup"),
        (report.kept, "kept although they differ"),
        (report.excluded, "excluded"),
        (report.failed, "failed"),
    ];
    let said: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let verb = if report.dry_run { "Would be, in volume" } else { "Volume" };
    let what = if said.is_empty() { "nothing to do".to_owned() } else { said.join(", ") };
    let _ = writeln!(text, "{verb} {}: {what}.", printable(&report.volume_name));
    if !report.dry_run {
        let files = if report.files == 1 { "file" } else { "files" };
        let _ = writeln!(text, "Wrote {} {files} with {}.", report.files, bytes(report.bytes));
    }
    if report.reused > 0 {
        let _ = writeln!(text, "Of that {} was in the volume already.", bytes(report.reused));
    }
    if !report.snapshot.is_empty() {
        let (snapshot, volume) = (printable(&report.snapshot), printable(&report.volume_name));
        let _ = match report.reverted {
            true => writeln!(text, "The volume went back to what it was, snapshot {snapshot}."),
            false => writeln!(
                text,
                "What it was is snapshot {snapshot}: `convoy snapshot revert {snapshot} --volume {volume}` brings \
                 it back."
            ),
        };
    }
    if !report.unfinished.is_empty() {
        let _ = writeln!(text, "{}.", printable(&report.unfinished));
    }
    if !report.restarted.is_empty() {
        let _ = writeln!(text, "Started again: {}.", printable(&report.restarted.join(", ")));
    }
    for why in &report.not_started {
        let _ = writeln!(text, "Not running: {}.", printable(why));
    }
    if report.kept > 0 {
        text +=
            "To restore what was kept as well: --existing replace, rename or newer; --dry-run lists it.\n";
    }
    text
}

/// One change, in words: what is done, to what, and what else there is to know.
fn line(change: &RestoreChange) -> String {
    let directory = change.kind == "a directory";
    let mut text = format!("{:<8} {}{}", change.action, change.path, if directory { "/" } else { "" });
    match (change.action.as_str(), change.other.as_str()) {
        (_, "") => {}
        ("rename", other) if change.why.is_empty() => {
            let _ = write!(text, "  (what was there is now {other})");
        }
        (_, other) => {
            let _ = write!(text, "  (a name of {other})");
        }
    }
    if change.bytes > 0 {
        let _ = write!(text, "  {}", bytes(change.bytes));
    }
    if change.kind != "a directory" && change.kind != "a regular file" && !change.kind.is_empty() {
        let _ = write!(text, "  {}", change.kind);
    }
    if !change.why.is_empty() && change.other.is_empty() {
        let _ = write!(text, "  ({})", change.why);
    }
    format!("{}\n", printable(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_a_line_of_words() {
        let change = |action: &str, kind: &str, other: &str, why: &str| RestoreChange {
            action: action.to_owned(),
            kind: kind.to_owned(),
            path: "d/a".to_owned(),
            other: other.to_owned(),
            why: why.to_owned(),
            ..RestoreChange::default()
        };
        for (change, expected) in [
            (change("create", "a directory", "", ""), "create   d/a/\n"),
            (change("create", "a symbolic link", "", ""), "create   d/a  a symbolic link\n"),
            (change("create", "a regular file", "d/b", "hard link"), "create   d/a  (a name of d/b)\n"),
            (
                change("rename", "a regular file", "d/a.x", ""),
                "rename   d/a  (what was there is now d/a.x)\n",
            ),
            (
                change("keep", "a regular file", "", "it is there, and differs"),
                "keep     d/a  (it is there, and differs)\n",
            ),
            (change("delete", "a directory", "", ""), "delete   d/a/\n"),
            (change("fail", "", "", "evil\u{1b}[2J"), "fail     d/a  (evil\u{fffd}[2J)\n"),
        ] {
            assert_eq!(line(&change), expected);
        }
    }

    #[test]
    fn a_report_says_what_was_kept_and_how_it_is_restored() {
        let report =
            |report: RestoreReport| super::report(&RestoreReport { volume_name: "v".into(), ..report });
        let text = report(RestoreReport { created: 2, kept: 1, files: 2, bytes: 2048, ..Default::default() });
        assert_eq!(
            text,
            "Volume v: 2 created, 1 kept although they differ.\nWrote 2 files with 2.00 KiB.\nTo restore what was \
             kept as well: --existing replace, rename or newer; --dry-run lists it.\n"
        );
        let text = report(RestoreReport { dry_run: true, ..Default::default() });
        assert_eq!(text, "Would be, in volume v: nothing to do.\n");
    }
}
