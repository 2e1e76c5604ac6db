//! `docs/writing-a-driver.md` and `docs/testing-a-driver.md` are followed as they stand: their commands are
//! run, their changes are made, and what they say the commands print is compared.
//!
//! In what is expected, `...` stands for any text within a line, and alone on a line for any lines.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use convoy_tests::error::{Context, check};
use convoy_tests::{Error, Lab, Result, programs, run};

const WRITING: &str = include_str!("../../docs/writing-a-driver.md");
const TESTING: &str = include_str!("../../docs/testing-a-driver.md");

/// Begins the output of the command of that number.
const MARK: &str = "@@ command ";

/// A command and what it prints.
struct Step {
    command: String,
    expected: Vec<String>,
}

fn checkout() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    here.canonicalize().during(|| "cannot find the checkout".to_owned())
}

/// The blocks with commands; a block that changes a file becomes a command, too.
fn steps(document: &str, patches: &Path) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut block: Option<(&str, String)> = None;
    for line in document.lines() {
        match (line.strip_prefix("```"), &mut block) {
            (Some(kind), None) => block = Some((kind, String::new())),
            (Some(_), Some((kind, text))) => {
                if *kind == "diff" {
                    let file = patches.join(format!("{}.diff", steps.len()));
                    fs::write(&file, &text).during(|| "cannot write the change".to_owned())?;
                    let command = format!("git apply -p0 {}", file.display());
                    steps.push(Step { command, expected: Vec::new() });
                }
                block = None;
            }
            (None, Some(("console", _))) => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step { command: command.to_owned(), expected: Vec::new() });
                }
                (None, Some(step)) => step.expected.push(line.to_owned()),
                (None, None) => return Err(Error::Unexpected(format!("no command prints {line:?}"))),
            },
            (None, Some((_, text))) => text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    Ok(steps)
}

/// Whether a line is as expected.
fn fits(line: &str, expected: &str) -> bool {
    let mut parts = expected.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (number, part) in parts.iter().enumerate() {
        let found = if number + 1 == parts.len() {
            rest.strip_suffix(part).map(|_| rest.len())
        } else {
            rest.find(part).map(|at| at + part.len())
        };
        let Some(end) = found else { return false };
        rest = rest.get(end..).unwrap_or_default();
    }
    rest.is_empty()
}

/// Whether the lines are as expected, where some may be left out.
fn all_fit(lines: &[&str], expected: &[String]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => (0..=lines.len()).any(|skip| all_fit(&lines[skip..], rest)),
        Some((first, rest)) => match lines.split_first() {
            Some((line, others)) => fits(line.trim_end(), first.trim_end()) && all_fit(others, rest),
            None => false,
        },
    }
}

/// What the shell needs beside the document: what is compiled already is used.
fn prepare(lab: &Lab, programs: &Path) -> Result<()> {
    let target = programs.parent().unwrap_or(programs);
    let config = format!(
        "[build]\nbuild-dir = {target:?}\n[profile.dev]\ndebug = \"line-tables-only\"\n\
         [profile.dev.package.\"*\"]\ndebug = false\n"
    );
    let place = lab.make(".cargo")?.join("config.toml");
    fs::write(&place, config).during(|| format!("cannot write {}", place.display()))
}

fn home_of(variable: &str, usual: &str) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    std::env::var_os(variable).map_or_else(|| home.join(usual), PathBuf::from)
}

#[test]
fn the_tutorial_is_followed() -> Result<()> {
    follow(WRITING, 15)
}

#[test]
fn the_page_on_testing_is_followed() -> Result<()> {
    follow(TESTING, 6)
}

/// Follows a document that has more than so many commands.
fn follow(document: &str, more_than: usize) -> Result<()> {
    let programs = programs::directory()?;
    Lab::run(|lab| {
        prepare(lab, &programs)?;
        let steps = steps(document, lab.directory())?;
        let mut script = String::from(
            "exec 2>&1\nset -e\ncargo() { cp -n \"$CONVOY/Cargo.lock\" . || true; command cargo \"$@\"; }\n",
        );
        for (number, step) in steps.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(script, "echo '{MARK}{number}'\n{}\n", step.command);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(programs.clone()).chain(std::env::split_paths(&path));
        let mut shell = Command::new("sh");
        lab.origin().mark(&mut shell);
        shell.arg("-c").arg(&script).current_dir(lab.directory()).env_remove("CARGO_TARGET_DIR");
        shell.env("PATH", std::env::join_paths(path).unwrap_or_default()).env("NO_COLOR", "1");
        shell.env("CARGO_HOME", home_of("CARGO_HOME", ".cargo"));
        shell.env("RUSTUP_HOME", home_of("RUSTUP_HOME", ".rustup"));
        shell.env("CONVOY", checkout()?).env("CONVOY_ROOT", lab.path("convoy"));
        shell.env("CONVOY_SOCKET", lab.path("convoy.sock"));
        let told = run::capture(&mut shell)?;
        let mut outputs = told.stdout.split(MARK).skip(1);
        for (number, step) in steps.iter().enumerate() {
            let lines: Vec<&str> = outputs.next().unwrap_or_default().lines().skip(1).collect();
            check(all_fit(&lines, &step.expected), || {
                format!(
                    "step {number}, `{}`, printed\n{}\nexpected\n{}",
                    step.command,
                    lines.join("\n"),
                    step.expected.join("\n")
                )
            })?;
        }
        check(told.success() && steps.len() > more_than, || {
            format!("the commands ended with {}", told.status)
        })
    })
}

#[test]
fn what_is_expected_is_compared() {
    assert!(fits("a b c", "a ... c") && fits("abc", "abc") && fits("/x/y", ".../y") && fits("ab", "a..."));
    assert!(!fits("a b d", "a ... c") && !fits("abcd", "abc") && !fits("", "a"));
    let expected = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert!(all_fit(&["log", "log", "end"], &expected(&["...", "end"])));
    assert!(!all_fit(&["log", "end", "more"], &expected(&["...", "end"])));
    assert!(all_fit(&["end"], &expected(&["...", "end"])) && all_fit(&[], &[]));
}
