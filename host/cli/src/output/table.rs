//! Tables and lists of keys, for people.

use super::BOLD;
use comfy_table::{ContentArrangement, Table, presets};
use std::fmt::Write;

/// A table with a bold header. Rows are never wrapped, so that what is in them can be copied.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let mut text = String::new();
    for (number, line) in table.lines().enumerate() {
        let line = line.trim_end();
        // Writing to a string cannot fail.
        let _ = if number == 0 { writeln!(text, "{BOLD}{line}{BOLD:#}") } else { writeln!(text, "{line}") };
    }
    text
}

/// Keys and values, a line each, the values aligned.
pub fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let width = pairs.iter().map(|(key, _)| key.chars().count()).max().unwrap_or_default() + 2;
    let mut text = String::new();
    for (key, value) in pairs {
        let space = " ".repeat(width.saturating_sub(key.chars().count()));
        let value = format!("{space}{}", printable(&value));
        let _ = writeln!(text, "{BOLD}{}:{BOLD:#}{}", printable(key), value.trim_end());
    }
    text
}

/// A heading over what follows.
pub fn heading(text: &str) -> String {
    format!("\n{BOLD}{}{BOLD:#}\n", printable(text))
}

/// A text without control characters: what a file or a cloud calls itself must not move the cursor.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_text() {
        let text = table(
            &["NAME", "SIZE"],
            [vec!["a-long-name".into(), "1".into()], vec!["b\x1b[1m".into(), "".into()]],
        );
        assert_eq!(plain(&text), "NAME          SIZE\na-long-name   1\nb\u{fffd}[1m\n");
    }

    #[test]
    fn values_are_aligned() {
        let text = pairs([("Name", "v".to_owned()), ("MountPoint", String::new())]);
        assert_eq!(plain(&text), "Name:        v\nMountPoint:\n");
    }
}
