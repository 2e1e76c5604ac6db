//! `docs/operations/troubleshooting.md` quotes messages: each has to be in the source as it is quoted, or
//! nobody who looks for the message that he got finds it.

use std::path::Path;

const DOCUMENT: &str = include_str!("../../../../docs/operations/troubleshooting.md");

/// Whose messages they are that are not in our source.
const OTHERS: [&str; 3] = ["Docker:", "Swarm:", "the system:"];

/// What stands for itself in a text, between what is filled in.
type Constants = Vec<String>;

/// The texts in Rust source: what is quoted, with its escapes read, cut where `format!` and its kin fill
/// something in.
fn texts(source: &str) -> Vec<Constants> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let before = rest[..at].chars().next_back();
        let here = &rest[at..];
        rest = if let Some(comment) = here.strip_prefix("//") {
            comment.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(after) = here.strip_prefix('/') {
            after
        } else if let Some(after) = here.strip_prefix('\'') {
            // A character; or a lifetime, which has no end.
            let length = if here.starts_with("'\\") { 2 } else { 1 };
            match here.char_indices().nth(length + 1) {
                Some((end, '\'')) => &here[end + 1..],
                _ => after,
            }
        } else if matches!(before, Some('r' | '#')) {
            let hashes = rest[..at].chars().rev().take_while(|c| *c == '#').count();
            let (text, after) = here[1..].split_once(&format!("\"{}", "#".repeat(hashes))).unwrap();
            found.push(constants(text));
            after
        } else {
            let (text, after) = unescaped(&here[1..]);
            found.push(constants(&text));
            after
        };
    }
    found
}

/// A text up to its closing quotation mark, and what follows.
fn unescaped(source: &str) -> (String, &str) {
    let mut text = String::new();
    let mut rest = source.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => break,
            '\\' => match rest.next() {
                Some('\n') => rest = rest.as_str().trim_start().chars(),
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => break,
            },
            c => text.push(c),
        }
    }
    (text, rest.as_str())
}

fn constants(text: &str) -> Constants {
    let text = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let mut parts = vec![String::new()];
    let mut filled_in = false;
    for c in text.chars() {
        match (c, filled_in) {
            ('{', _) => filled_in = true,
            ('}', true) => {
                filled_in = false;
                parts.push(String::new());
            }
            (_, true) => {}
            (c, false) => parts.last_mut().unwrap().push(c),
        }
    }
    parts
}

/// Every text of every crate, without tests and without what only tests read.
fn workspace() -> Vec<Constants> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for part in ["host", "driver-sdk", "drivers"] {
        walk(&top.join(part), &mut found);
    }
    found
}

fn walk(directory: &Path, found: &mut Vec<Constants>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !["tests", "lab", "target", "benches"].contains(&name) {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests.rs" {
            let source = std::fs::read_to_string(&path).unwrap();
            let (code, _) = source.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&source, ""));
            found.extend(texts(code));
        }
    }
}

/// Whether a text says this: its parts in their order, each within what stands for itself.
fn says(text: &Constants, parts: &[&str]) -> bool {
    let mut constants = text.iter();
    let mut rest = constants.next().map_or("", String::as_str);
    parts.iter().all(|part| {
        loop {
            if let Some((_, after)) = rest.split_once(part) {
                rest = after;
                return true;
            }
            let Some(next) = constants.next() else { return false };
            rest = next;
        }
    })
}

/// The quoted messages, each with the parts that are always alike.
fn quoted() -> Vec<(&'static str, Vec<&'static str>)> {
    let cells = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | ")).map(|it| it.0);
    let ours = cells.filter(|cell| cell.contains('`') && !OTHERS.iter().any(|of| cell.starts_with(of)));
    ours.map(|cell| {
        let message = cell.trim_matches('`');
        let parts = message.split("...").filter(|part| !part.trim().is_empty());
        // Spaces at the ends are part of what is filled in where nothing is.
        (message, parts.map(str::trim_end).collect())
    })
    .collect()
}

#[test]
fn every_quoted_message_is_in_the_source() {
    let texts = workspace();
    assert!(texts.len() > 3000, "the source was not read: {} texts", texts.len());
    let quoted = quoted();
    assert!(quoted.len() > 40, "the messages were not read: {quoted:?}");
    let missing: Vec<_> = quoted
        .iter()
        .filter(|(_, parts)| parts.is_empty() || !texts.iter().any(|text| says(text, parts)))
        .map(|(message, _)| message)
        .collect();
    assert!(missing.is_empty(), "nothing says this any more: {missing:#?}");
    // And what nobody says is found out.
    for wrong in ["the flux compensator is", "cannot connect to the moon"] {
        assert!(!texts.iter().any(|text| says(text, &[wrong])), "{wrong}");
    }
}

#[test]
fn messages_of_the_system_are_quoted_as_it_says_them() {
    for (number, text) in [(28, "No space left on device"), (30, "Read-only file system")] {
        assert!(std::io::Error::from_raw_os_error(number).to_string().starts_with(text));
        assert!(DOCUMENT.contains(&format!("the system: `{text}`")), "{text}");
    }
}

#[test]
fn texts_are_read_as_the_compiler_reads_them() {
    let source = r##"
        // "no text"
        fn f<'a>(x: &'a str) -> char { '"' }
        const A: &str = "one \"two\" {three:?}four {{five}}\
            six";
        #[error(r#"raw "text" {}"#)] x('\'', '\\', "last")
    "##;
    let expected = [vec!["one \"two\" ", "four \u{1}five\u{2}six"], vec!["raw \"text\" ", ""], vec!["last"]];
    assert_eq!(texts(source), expected);
    assert!(says(&texts(source)[0], &["one", "two", "six"]) && !says(&texts(source)[0], &["six", "one"]));
}
