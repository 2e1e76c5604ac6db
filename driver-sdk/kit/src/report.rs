//! What came out: for a terminal, for machines (JSON) and for CI (JUnit).

use crate::check::Failure;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use serde::Serialize;
use std::fmt;
use std::io;
use std::time::Duration;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// The driver keeps the rules.
    Passed,
    /// The driver broke a rule.
    Failed {
        /// The number of the rule in `docs/driver-protocol.md`.
        rule: String,
        /// The words of the rule.
        text: String,
        /// What was expected and what was found.
        found: String,
    },
    /// The case is not for this driver.
    Skipped {
        /// What the case needs and the driver does not have.
        why: String,
    },
}

impl Verdict {
    pub(crate) fn failed(failure: Failure) -> Self {
        let Failure { rule, text } = failure;
        Self::Failed { rule: rule.id.to_owned(), text: rule.text.to_owned(), found: text }
    }
}

/// A case and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseReport {
    /// The name of the case: `topic.what`.
    pub id: String,
    /// What a driver shows that passes it.
    pub title: String,
    /// How the case ended.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long it took.
    pub seconds: f64,
}

/// What came out of all cases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The driver that was tested: `process:/usr/lib/convoy/drivers/convoy-driver-x`.
    pub driver: String,
    /// Its name and version, as it says.
    pub version: String,
    /// The protocol version it was built with.
    pub protocol: String,
    /// The capabilities that the driver declares.
    pub capabilities: Vec<String>,
    /// In the order they were run.
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// Whether no case failed.
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &CaseReport> {
        self.cases.iter().filter(|case| matches!(case.verdict, Verdict::Failed { .. }))
    }

    /// For a test: nothing, if no case failed.
    ///
    /// # Panics
    /// With the report, if one did.
    pub fn assert_passed(&self) {
        assert!(self.passed(), "{self}");
    }

    fn count(&self, matches: impl Fn(&Verdict) -> bool) -> usize {
        self.cases.iter().filter(|case| matches(&case.verdict)).count()
    }

    /// The report as JSON.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// The report in JUnit's XML, as CI systems read it.
    pub fn to_junit(&self) -> io::Result<String> {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        let (tests, failures) = (self.cases.len().to_string(), self.failures().count().to_string());
        let skipped = self.count(|verdict| matches!(verdict, Verdict::Skipped { .. })).to_string();
        let seconds = self.seconds().to_string();
        let counts =
            [("tests", tests.as_str()), ("failures", &failures), ("skipped", &skipped), ("time", &seconds)];
        let suites = writer.create_element("testsuites").with_attributes(counts);
        suites.write_inner_content(|writer| {
            let suite = writer.create_element("testsuite").with_attribute(("name", self.driver.as_str()));
            suite.with_attributes(counts).write_inner_content(|writer| {
                self.cases.iter().try_for_each(|case| case.write_junit(&self.driver, writer))
            })?;
            Ok(())
        })?;
        let bytes = writer.into_inner();
        Ok(String::from_utf8_lossy(&bytes).into_owned() + "\n")
    }

    fn seconds(&self) -> f64 {
        let all: f64 = self.cases.iter().map(|case| case.seconds).sum();
        rounded(Duration::from_secs_f64(all))
    }
}

impl CaseReport {
    fn write_junit(&self, driver: &str, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        let seconds = self.seconds.to_string();
        let case = writer.create_element("testcase").with_attributes([
            ("classname", driver),
            ("name", self.id.as_str()),
            ("time", seconds.as_str()),
        ]);
        match &self.verdict {
            Verdict::Passed => case.write_empty()?,
            Verdict::Skipped { why } => case.write_inner_content(|writer| {
                writer.create_element("skipped").with_attribute(("message", why.as_str())).write_empty()?;
                Ok(())
            })?,
            Verdict::Failed { rule, text, found } => case.write_inner_content(|writer| {
                let failure = writer.create_element("failure").with_attribute(("message", found.as_str()));
                failure
                    .with_attribute(("type", rule.as_str()))
                    .write_text_content(BytesText::new(&format!("{found}\n\n{rule}: {text}")))?;
                Ok(())
            })?,
        };
        Ok(())
    }
}

/// Seconds, to the millisecond.
pub(crate) fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// As wide as the longest id.
fn width() -> usize {
    crate::cases::list().map(|(id, _)| id.len()).max().unwrap_or(0)
}

/// One line of a table.
impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, rest) = match &self.verdict {
            Verdict::Passed => ("passed", self.title.clone()),
            Verdict::Failed { rule, .. } => ("FAILED", format!("{} ({rule})", self.title)),
            Verdict::Skipped { why } => ("-", why.clone()),
        };
        write!(f, "{:width$}  {word:<6} {:>7.2} s  {rest}", self.id, self.seconds, width = width())
    }
}

impl Report {
    /// What was tested: two lines.
    pub fn heading(&self) -> String {
        let none = "no capabilities".to_owned();
        let capabilities = if self.capabilities.is_empty() { none } else { self.capabilities.join(", ") };
        format!("{} ({}, protocol {})\n{capabilities}", self.driver, self.version, self.protocol)
    }

    /// What failed, with the rules, and the numbers.
    pub fn conclusion(&self) -> String {
        let mut text = String::new();
        for case in self.failures() {
            if let Verdict::Failed { rule, text: words, found } = &case.verdict {
                text.push_str(&format!("{} failed: {found}\n  {rule}: {words}\n\n", case.id));
            }
        }
        let passed = self.count(|verdict| matches!(verdict, Verdict::Passed));
        let skipped = self.count(|verdict| matches!(verdict, Verdict::Skipped { .. }));
        text + &format!(
            "{passed} passed, {} failed, {skipped} not for this driver, in {:.1} s",
            self.failures().count(),
            self.seconds()
        )
    }
}

/// As a person reads it: what failed comes last, with the rule.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.heading())?;
        self.cases.iter().try_for_each(|case| writeln!(f, "{case}"))?;
        write!(f, "\n{}", self.conclusion())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules;

    fn report() -> Report {
        let case = |id: &str, verdict| CaseReport {
            id: id.to_owned(),
            title: "shows \"it\"".to_owned(),
            verdict,
            seconds: 0.25,
        };
        let failure = Failure { rule: rules::CREATE, text: "expected <a>, found \u{1b}[1m".to_owned() };
        Report {
            driver: "process:/x".to_owned(),
            version: "x 1.0".to_owned(),
            protocol: "1.2".to_owned(),
            capabilities: vec!["sized".to_owned()],
            cases: vec![
                case("a.one", Verdict::Passed),
                case("a.two", Verdict::failed(failure)),
                case("b.three", Verdict::Skipped { why: "no & no".to_owned() }),
            ],
        }
    }

    #[test]
    fn every_form_says_the_same() {
        let report = report();
        assert!(!report.passed());
        let text = report.to_string();
        assert!(
            text.contains("a.two failed: expected <a>") && text.contains("R10: `volume.create` makes"),
            "{text}"
        );
        assert!(text.ends_with("1 passed, 1 failed, 1 not for this driver, in 0.8 s"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
        assert_eq!(json["cases"][1]["verdict"], "failed");
        assert_eq!(json["cases"][1]["rule"], "R10");
        let junit = report.to_junit().unwrap();
        assert!(junit.contains(r#"tests="3" failures="1" skipped="1""#), "{junit}");
        assert!(
            junit.contains(r#"message="no &amp; no""#) && junit.contains("expected &lt;a&gt;"),
            "{junit}"
        );
        let mut reader = quick_xml::Reader::from_str(&junit);
        loop {
            if matches!(reader.read_event().unwrap(), Event::Eof) {
                break;
            }
        }
    }
}
