//! What is in backups and snapshots, for people: a line each, names as a shell takes them.

use super::BOLD;
use super::values::{bytes, shell, time};
use convoy_client::types::{ChangedFile, FileEntry, FoundFile, decode_path};
use std::fmt;

/// `ls`: the path.
pub fn short(file: &FileEntry) -> String {
    format!("{}\n", shown(file))
}

/// `ls -l`: mode, owner, group, size, time and path.
pub fn long(file: &FileEntry) -> String {
    let size = size(file);
    let (uid, gid) = (file.uid, file.gid);
    let mut line = format!("{} {uid:>6} {gid:>6} {size:>11}  {}  {}", mode(file), moment(file), shown(file));
    if let Some(target) = &file.target {
        line += &format!(" -> {}", quoted(target));
    }
    if let Some(first) = &file.first_name {
        line += &format!("  (the same file as {})", quoted(first));
    }
    line + "\n"
}

/// What stands above the lines of `find`.
pub fn found_header() -> String {
    format!("{BOLD}{:<19}  {:>11}  {:<19}  FILE  IN{BOLD:#}\n", "MODIFIED", "SIZE", "MADE")
}

/// `find`: a version of a file, and where to get it.
pub fn found(found: &FoundFile) -> String {
    let file = &found.file;
    let place = match found.backup_url.as_str() {
        "" => format!("snapshot {} of {}", found.snapshot_name, found.volume_name),
        url => shell(url),
    };
    let (size, made) = (size(file), time(&found.created_time));
    format!("{}  {size:>11}  {made:<19}  {}  {place}\n", moment(file), shown(file))
}

/// `diff`: a sign, the path, and what is different.
pub fn change(change: &ChangedFile) -> String {
    let (sign, file) = match (change.change.as_str(), &change.old, &change.new) {
        ("added", _, Some(new)) => ("+", new),
        ("removed", Some(old), _) => ("-", old),
        ("metadata", _, Some(new)) => ("U", new),
        (_, _, Some(new)) => ("M", new),
        (_, Some(old), None) => ("M", old),
        (_, None, None) => return format!("? {}\n", quoted(&change.path)),
    };
    let what = match (sign, &change.old, &change.new) {
        ("M", Some(old), Some(new)) if old.kind != new.kind => format!("{} -> {}", old.kind, new.kind),
        ("M", Some(old), Some(new)) if old.size.is_some() => format!("{} -> {}", size(old), size(new)),
        ("U", Some(old), Some(new)) => metadata(old, new),
        ("+" | "-", ..) if file.size.is_some() => size(file),
        _ => String::new(),
    };
    format!("{sign} {}  {what}", shown(file)).trim_end().to_owned() + "\n"
}

fn metadata(old: &FileEntry, new: &FileEntry) -> String {
    let owner = |file: &FileEntry| format!("{}:{}", file.uid, file.gid);
    let differing = [
        ("mode", old.mode.clone(), new.mode.clone()),
        ("owner", owner(old), owner(new)),
        ("time", old.modified.clone(), new.modified.clone()),
    ];
    let told = differing.into_iter().filter(|(_, old, new)| old != new);
    let mut told: Vec<String> = told.map(|(what, old, new)| format!("{what} {old} -> {new}")).collect();
    if told.is_empty() {
        told.push("attributes or flags".to_owned());
    }
    told.join(", ")
}

/// How much differs.
#[derive(Debug, Default)]
pub struct Totals {
    added: (u64, u64),
    removed: (u64, u64),
    changed: (u64, u64),
    metadata: u64,
}

impl Totals {
    /// Counts a difference.
    pub fn add(&mut self, change: &ChangedFile) {
        let size = |file: &Option<FileEntry>| file.as_ref().and_then(|file| file.size).unwrap_or_default();
        let (count, bytes) = match change.change.as_str() {
            "added" => (&mut self.added, size(&change.new)),
            "removed" => (&mut self.removed, size(&change.old)),
            "metadata" => {
                self.metadata += 1;
                return;
            }
            _ => (&mut self.changed, size(&change.new)),
        };
        count.0 += 1;
        count.1 = count.1.saturating_add(bytes);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { added, removed, changed, metadata } = self;
        if added.0 + removed.0 + changed.0 + metadata == 0 {
            return f.write_str("No differences");
        }
        let of = |(count, size): &(u64, u64), what| format!("{count} {what} ({})", bytes(*size));
        write!(
            f,
            "{}, {}, {}, {metadata} with other metadata",
            of(added, "added"),
            of(removed, "removed"),
            of(changed, "changed")
        )
    }
}

fn size(file: &FileEntry) -> String {
    match (&file.size, &file.device) {
        (Some(size), _) => bytes(*size),
        (None, Some(device)) => device.clone(),
        (None, None) => "-".to_owned(),
    }
}

/// When it was modified, in the user's own time zone.
fn moment(file: &FileEntry) -> String {
    match file.modified.parse::<jiff::Timestamp>() {
        Ok(time) => {
            let time = time.to_zoned_datetime(jiff::tz::TimeZone::system());
            time.strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        Err(_) => file.modified.clone(),
    }
}

/// `-rwsr-xr-x`.
fn mode(file: &FileEntry) -> String {
    let kind = match file.kind.as_str() {
        "directory" => 'd',
        "symlink" => 'l',
        "char-device" => 'c',
        "block-device" => 'b',
        "fifo" => 'p',
        "socket" => 's',
        _ => '-',
    };
    let bits = u32::from_str_radix(&file.mode, 8).unwrap_or_default();
    let mut text = String::from(kind);
    for (shift, special, letters) in
        [(6, 0o4000, ['s', 'S']), (3, 0o2000, ['s', 'S']), (0, 0o1000, ['t', 'T'])]
    {
        let bits_here = bits >> shift;
        text.push(if bits_here & 4 != 0 { 'r' } else { '-' });
        text.push(if bits_here & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & special != 0, bits_here & 1 != 0) {
            (true, true) => letters[0],
            (true, false) => letters[1],
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// The path; that of a directory ends in `/`.
fn shown(file: &FileEntry) -> String {
    if file.kind == "directory" && file.path != "." {
        return quoted(&format!("{}/", file.path));
    }
    quoted(&file.path)
}

/// A path as a shell takes it: as it is, in quotes, or with what cannot be printed as `$'\n'`.
pub(crate) fn quoted(path: &str) -> String {
    let raw = decode_path(path);
    let text = std::str::from_utf8(&raw).ok().filter(|text| !text.contains(char::is_control));
    if let Some(text) = text {
        let plain = |letter: char| letter.is_alphanumeric() || "-_./:@%+=,".contains(letter);
        return if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { shell(text) };
    }
    let mut quoted = String::from("$'");
    for chunk in raw.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\n' => quoted += "\\n",
                '\t' => quoted += "\\t",
                '\'' | '\\' => quoted.extend(['\\', letter]),
                letter if letter.is_control() => {
                    let mut buffer = [0; 4];
                    letter
                        .encode_utf8(&mut buffer)
                        .bytes()
                        .for_each(|byte| quoted += &format!("\\x{byte:02x}"));
                }
                letter => quoted.push(letter),
            }
        }
        chunk.invalid().iter().for_each(|byte| quoted += &format!("\\x{byte:02x}"));
    }
    quoted + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, kind: &str, mode: &str) -> FileEntry {
        FileEntry {
            path: path.to_owned(),
            kind: kind.to_owned(),
            mode: mode.to_owned(),
            size: (kind == "file").then_some(2048),
            modified: "2026-11-30T06:16:06.5Z".to_owned(),
            ..FileEntry::default()
        }
    }

    #[test]
    fn names_are_shown_as_a_shell_takes_them() {
        for (path, shown) in [
            ("etc/passwd", "etc/passwd"),
            ("my file", "'my file'"),
            ("it's", r"'it'\''s'"),
            ("a%0Ab%FF", r"$'a\nb\xff'"),
            ("it's%1B", r"$'it\'s\x1b'"),
            ("100%25", "100%"),
        ] {
            assert_eq!(quoted(path), shown);
        }
    }

    #[test]
    fn a_long_line_has_what_ls_has() {
        let mut link = file("a", "symlink", "0777");
        link.target = Some("b c".to_owned());
        let line = long(&link);
        assert!(line.starts_with("lrwxrwxrwx ") && line.ends_with("  a -> 'b c'\n"), "{line}");
        for (mode, shown) in [("4755", "-rwsr-xr-x"), ("2644", "-rw-r-Sr--"), ("1777", "-rwxrwxrwt")] {
            assert!(long(&file("a", "file", mode)).starts_with(shown), "{mode}");
        }
        assert_eq!(short(&file("d", "directory", "0755")), "d/\n");
    }

    #[test]
    fn changes_have_signs_and_are_counted() {
        let mut totals = Totals::default();
        assert_eq!(totals.to_string(), "No differences");
        let (small, mut large) = (file("f", "file", "0644"), file("f", "file", "0600"));
        large.size = Some(4096);
        let same = FileEntry { size: Some(2048), ..large.clone() };
        let mut told = String::new();
        for (word, old, new) in [
            ("added", None, Some(&small)),
            ("removed", Some(&large), None),
            ("changed", Some(&small), Some(&large)),
            ("metadata", Some(&small), Some(&same)),
        ] {
            let difference = ChangedFile {
                change: word.to_owned(),
                path: "f".to_owned(),
                old: old.cloned(),
                new: new.cloned(),
            };
            totals.add(&difference);
            told += &change(&difference);
        }
        assert_eq!(told, "+ f  2.00 KiB\n- f  4.00 KiB\nM f  2.00 KiB -> 4.00 KiB\nU f  mode 0644 -> 0600\n");
        assert_eq!(
            totals.to_string(),
            "1 added (2.00 KiB), 1 removed (4.00 KiB), 1 changed (4.00 KiB), 1 with other metadata"
        );
    }
}
