//! Log lines as convoy 0.5 wrote them: `time="..." level=error msg="..." `, with the space at the end.

use std::fmt::Write;

pub(super) fn line(level: &str, message: &str, hint: Option<&str>) -> String {
    let time = convoy_driver_sdk::Timestamp::now();
    let mut line = format!("time=\"{time}\" level={level} msg={} ", quote(message));
    if let Some(hint) = hint {
        line.push_str(&format!("hint={} ", quote(hint)));
    }
    line
}

/// Quotes as Go's `%q` does, but for a plain word.
fn quote(text: &str) -> String {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        assert_eq!((quote("EOF"), quote("")), ("EOF".to_owned(), String::new()));
        assert_eq!(
            quote("a \"b\" \\ ä & <\n\t\u{1b}[0m\u{85}"),
            "\"a \\\"b\\\" \\\\ ä & <\\n\\t\\x1b[0m\\u0085\""
        );
    }

    #[test]
    fn ends_with_a_space() {
        let line = line("error", "Invalid name ../x", None);
        assert!(
            line.starts_with("time=\"20") && line.ends_with("Z\" level=error msg=\"Invalid name ../x\" ")
        );
    }
}
