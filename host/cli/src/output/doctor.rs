//! What people see of an examination, and its exit code.

use super::BOLD;
use super::table::printable;
use super::values::counted;
use anstyle::{AnsiColor, Style};
use convoy_client::types::{Diagnosis, Symptom};
use std::fmt::Write;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();

/// `doctor`: the worst first, each with what to do.
pub fn diagnosis(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for symptom in &diagnosis.findings {
        let (style, word) = match (symptom.repaired, symptom.severity.as_str()) {
            (true, _) => (GOOD, "repaired"),
            (false, "error") => (ERROR, "error"),
            (false, "info") => (GOOD, "ok"),
            (false, _) => (WARNING, "warning"),
        };
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "{style}{word:<9}{style:#}{BOLD}{}: {}{BOLD:#}: {}",
            printable(&symptom.area),
            printable(&symptom.subject),
            printable(&symptom.message)
        );
        if !symptom.repaired && !symptom.hint.is_empty() {
            let _ = writeln!(text, "         {}", printable(&symptom.hint));
        }
    }
    let (errors, warnings) = (count(diagnosis, "error"), count(diagnosis, "warning"));
    let repairable = diagnosis.findings.iter().filter(|it| it.repairable && !it.repaired).count();
    let _ = writeln!(text, "\n{}, {}", counted(errors, "error"), counted(warnings, "warning"));
    if repairable > 0 {
        let _ = writeln!(text, "`convoy doctor --repair` repairs {repairable} of them");
    }
    text
}

/// 3 for errors, 2 for warnings, 0 when nothing is left that is wrong.
pub fn exit_code(diagnosis: &Diagnosis) -> u8 {
    match (count(diagnosis, "error"), count(diagnosis, "warning")) {
        (0, 0) => 0,
        (0, _) => 2,
        _ => 3,
    }
}

fn count(diagnosis: &Diagnosis, severity: &str) -> usize {
    let is = |symptom: &&Symptom| symptom.severity == severity && !symptom.repaired;
    diagnosis.findings.iter().filter(is).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_that_is_left_decides() {
        let symptom = |severity: &str, repaired| Symptom {
            severity: severity.to_owned(),
            area: "machine".to_owned(),
            subject: "clock".to_owned(),
            message: "it is wrong".to_owned(),
            hint: "set it".to_owned(),
            repaired,
            repairable: true,
        };
        let of = |findings: Vec<Symptom>| Diagnosis { daemon: true, findings };
        for (code, findings) in [
            (0, vec![]),
            (0, vec![symptom("info", false), symptom("error", true)]),
            (2, vec![symptom("warning", false)]),
            (3, vec![symptom("warning", false), symptom("error", false)]),
        ] {
            assert_eq!(exit_code(&of(findings)), code);
        }
        let text = anstream::adapter::strip_str(&diagnosis(&of(vec![symptom("error", false)]))).to_string();
        assert_eq!(
            text,
            "error    machine: clock: it is wrong\n         set it\n\n1 error, 0 warnings\n`convoy doctor \
             --repair` repairs 1 of them\n"
        );
    }
}
