//! Tables and lists of keys, for people.

use super::BOLD;
use comfy_table::{ContentArrangement, Table, presets};
use std::fmt::Write;

/// How many columns a table may take; `None`: as many as it needs.
pub type Width = Option<usize>;

/// Columns between two cells, and where room is short.
const GAP: u16 = 3;
const NARROW_GAP: u16 = 2;

/// A text is never made shorter than this, in columns.
const SHORTEST: usize = 12;

/// A table with a bold header. Rows are never wrapped, so that what is in them can be copied.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows = rows.into_iter().map(|row| row.iter().map(|cell| printable(cell)).collect());
    drawn(header, rows, GAP)
}

/// The same in a terminal of so many columns: the texts of the columns `long` are shortened in their middle,
/// the longest first, as far as that takes, and a line at the end says so. All other columns stay whole.
pub fn fitted(
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
    long: &[&str],
    width: Width,
) -> String {
    let printed = |row: Vec<String>| row.iter().map(|cell| printable(cell)).collect();
    let mut rows: Vec<Vec<String>> = rows.into_iter().map(printed).collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| rows.iter().map(|row| chars(&row[column])).chain([chars(header[column])]).max())
        .map(Option::unwrap_or_default)
        .collect();
    let gaps = |gap: u16| usize::from(gap) * header.len().saturating_sub(1);
    let all = widths.iter().sum::<usize>();
    let Some(width) = width.filter(|width| all + gaps(GAP) > *width) else {
        return drawn(header, rows, GAP);
    };
    let room = width.saturating_sub(gaps(NARROW_GAP));
    let is_long = |column: usize| long.contains(&header[column]);
    let taken = |limit: usize| -> usize {
        let of = |(column, width): (usize, &usize)| if is_long(column) { limit.min(*width) } else { *width };
        widths.iter().enumerate().map(of).sum()
    };
    let limit = (SHORTEST..=all).rev().find(|limit| taken(*limit) <= room).unwrap_or(SHORTEST);
    let mut cut = false;
    for row in &mut rows {
        for (_, cell) in row.iter_mut().enumerate().filter(|(column, _)| is_long(*column)) {
            cut |= chars(cell) > limit;
            *cell = shortened(cell, limit);
        }
    }
    let mut text = drawn(header, rows, NARROW_GAP);
    if cut {
        text += "Shortened to fit: --wide shows all.\n";
    }
    text
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// A text in at most so many columns, without its middle if it is longer.
fn shortened(text: &str, limit: usize) -> String {
    let length = chars(text);
    if length <= limit {
        return text.to_owned();
    }
    let kept = limit.saturating_sub(1);
    let (head, tail) = (kept / 2, kept - kept / 2);
    let begin: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - tail).collect();
    format!("{begin}…{end}")
}

fn drawn(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>, gap: u16) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, gap));
    }
    let mut text = String::new();
    for (number, line) in table.lines().enumerate() {
        let line = line.trim_end();
        // Writing to a string cannot fail.
        let _ = if number == 0 { writeln!(text, "{BOLD}{line}{BOLD:#}") } else { writeln!(text, "{line}") };
    }
    text
}

/// A row of a table: whatever can be shown, as text.
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$($cell.to_string()),*] };
}
pub(super) use row;

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
    fn a_table_fits_the_terminal_by_shortening_what_is_long() {
        let url = "'vfs:///srv/backups?backup=backup-52da4abd281741af&volume=vol3'";
        let drawn = |width| {
            let row = vec!["vol3".to_owned(), "2026-11-23 08:38:07".to_owned(), url.to_owned()];
            plain(&fitted(&["VOLUME", "CREATED", "BACKUP"], [row], &["VOLUME", "BACKUP"], width))
        };
        for whole in [None, Some(200), Some(94)] {
            assert!(drawn(whole).ends_with(&format!("vol3     2026-11-23 08:38:07   {url}\n")), "{whole:?}");
        }
        let narrow = drawn(Some(92));
        assert!(narrow.ends_with(&format!("vol3    2026-11-23 08:38:07  {url}\n")), "{narrow}");
        for width in [90, 80, 60, 50] {
            let text = drawn(Some(width));
            let (table, note) = text.trim_end().rsplit_once('\n').unwrap();
            assert!(table.lines().all(|line| chars(line) <= width), "{width}:\n{table}");
            assert!(
                table.contains("2026-11-23 08:38:07  'vfs:") && table.ends_with("3'"),
                "{width}:\n{table}"
            );
            assert_eq!(note, "Shortened to fit: --wide shows all.");
        }
        // Where nothing fits, what is short stays whole.
        assert!(
            drawn(Some(10)).contains("vol3    2026-11-23 08:38:07  'vfs:…=vol3'\n"),
            "{}",
            drawn(Some(10))
        );
    }

    #[test]
    fn values_are_aligned() {
        let text = pairs([("Name", "v".to_owned()), ("MountPoint", String::new())]);
        assert_eq!(plain(&text), "Name:        v\nMountPoint:\n");
    }
}
