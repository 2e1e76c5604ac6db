//! What is in trees, as the API has it.

use convoy_backup::Node;
use convoy_backup::look::Change;
use convoy_client::types::{ChangedFile, FileEntry, encode_path};
use convoy_tree::{Kind, Timestamp};
use std::fmt::Write;

/// One thing in a tree.
pub(super) fn file(node: &Node) -> FileEntry {
    let entry = &node.entry;
    let device = |major, minor| Some(format!("{major}:{minor}"));
    let (kind, target, device) = match &entry.kind {
        Kind::File => ("file", None, None),
        Kind::Dir => ("directory", None, None),
        Kind::Symlink { target } => ("symlink", Some(encode_path(target.as_bytes())), None),
        Kind::CharDevice { major, minor } => ("char-device", None, device(major, minor)),
        Kind::BlockDevice { major, minor } => ("block-device", None, device(major, minor)),
        Kind::Fifo => ("fifo", None, None),
        Kind::Socket => ("socket", None, None),
    };
    FileEntry {
        path: entry.path.to_string(),
        kind: kind.to_owned(),
        mode: format!("{:04o}", entry.mode),
        uid: entry.uid,
        gid: entry.gid,
        size: entry.is_file().then_some(entry.size),
        modified: time(entry.mtime),
        target,
        device,
        first_name: node.first_name.as_ref().map(ToString::to_string),
        xattrs: entry.xattrs.keys().map(|name| encode_path(name.as_bytes())).collect(),
        content: node.content.map(|content| hex(&content.0)),
    }
}

/// A difference between two trees.
pub(super) fn change(change: &Change) -> ChangedFile {
    let (word, old, new) = match change {
        Change::Added(new) => ("added", None, Some(new)),
        Change::Removed(old) => ("removed", Some(old), None),
        Change::Data { old, new } => ("changed", Some(old), Some(new)),
        Change::Metadata { old, new } => ("metadata", Some(old), Some(new)),
    };
    let path = new.or(old).map(|node| node.entry.path.to_string());
    ChangedFile {
        change: word.to_owned(),
        path: path.unwrap_or_default(),
        old: old.map(file),
        new: new.map(file),
    }
}

/// A moment; one beyond the years that a calendar has is in seconds since 1970.
fn time(time: Timestamp) -> String {
    match i32::try_from(time.nsec).map(|nsec| jiff::Timestamp::new(time.sec, nsec)) {
        Ok(Ok(moment)) => moment.to_string(),
        _ => format!("{}.{:09}", time.sec, time.nsec),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_to_the_nanosecond_and_strange_ones_in_seconds() {
        let told = |sec, nsec| time(Timestamp { sec, nsec });
        assert_eq!(told(1_796_019_366, 1), "2026-11-30T06:16:06.000000001Z");
        assert_eq!(told(-2, 500_000_000), "1969-12-31T23:59:58.5Z");
        assert_eq!(told(i64::MAX, 0), "9223372036854775807.000000000");
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }
}
