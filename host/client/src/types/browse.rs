//! Requests and answers about what is in backups and snapshots.
//!
//! Paths are text in which bytes that are no printable UTF-8, and `%`, are written as `%XX`.

use super::{Deserialize, Serialize, StreamError, is_false};
use percent_encoding::{percent_decode_str, percent_encode_byte};

/// A tree: that of a backup, if it has an URL, else that of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TreeRef {
    /// The backup's URL.
    #[serde(rename = "URL", skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// A custom S3 endpoint.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// The file, on the daemon's host, with the key of encrypted backups.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encryption_key_file: String,
    /// The file, on the daemon's host, with the passphrase in the place of a key file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub passphrase_file: String,
    /// Read a backup that is not encrypted although a key is named; no key vouches for it.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_unencrypted: bool,
    /// The snapshot.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub snapshot_name: String,
    /// Its volume; needed only where two volumes have a snapshot of that name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_name: String,
}

/// The body of `GET /browse/list`: what is in a directory. Answered with a [`BrowseLine`] of [`FileEntry`]
/// each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListFiles {
    /// Where to look.
    pub tree: TreeRef,
    /// The directory, or a file; empty: the top.
    pub path: String,
    /// Everything below it, too.
    pub recursive: bool,
}

/// The body of `GET /browse/cat`: the bytes of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ReadFile {
    /// Where to look.
    pub tree: TreeRef,
    /// The file.
    pub path: String,
}

/// The body of `GET /browse/dump`: a directory or a file as an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DumpTree {
    /// Where to look.
    pub tree: TreeRef,
    /// What to write; empty: everything.
    pub path: String,
    /// `tar` or `zip`; empty: tar.
    pub format: String,
}

/// The body of `GET /browse/diff`: what differs. Answered with a [`BrowseLine`] of [`ChangedFile`] each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CompareTrees {
    /// The tree that counts as the older one.
    pub old: TreeRef,
    /// The other.
    pub new: TreeRef,
    /// Only at and below this path; empty: everywhere.
    pub path: String,
}

/// The body of `GET /browse/find`: what a pattern names in the backups at a destination, or in the snapshots
/// of this host, the newest first. Answered with a [`BrowseLine`] of [`FoundFile`] for each version that
/// differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FindFiles {
    /// The destination; empty: the snapshots.
    #[serde(rename = "URL", skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// A custom S3 endpoint.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// The file, on the daemon's host, with the key of encrypted backups.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encryption_key_file: String,
    /// The file, on the daemon's host, with the passphrase in the place of a key file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub passphrase_file: String,
    /// Look into backups that are not encrypted although a key is named.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_unencrypted: bool,
    /// A glob of a name or, with a `/` in it, of a path.
    pub pattern: String,
    /// Only in those of this volume; empty: of all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_name: String,
    /// Only in those made since then; empty: in all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub since: String,
}

/// A line of an answer. After an error nothing follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrowseLine<T> {
    /// What was asked for.
    Entry(T),
    /// What was left out, and why.
    Note(String),
    /// It is not all of what was asked for.
    Error(StreamError),
}

/// A file, directory or other thing in a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FileEntry {
    /// Where, from the top of the tree; `.` is the top.
    pub path: String,
    /// `file`, `directory`, `symlink`, `char-device`, `block-device`, `fifo` or `socket`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Permission bits in octal: `0644`.
    pub mode: String,
    /// The number of its owner.
    #[serde(rename = "UID")]
    pub uid: u32,
    /// The number of its group.
    #[serde(rename = "GID")]
    pub gid: u32,
    /// Bytes of a file; missing of all else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When its contents changed last, like `2026-11-30T06:16:06.000000001Z`.
    pub modified: String,
    /// What a symbolic link points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `MAJOR:MINOR` of a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The first name of a file with several, where this is a further one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// The names of its extended attributes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<String>,
    /// A digest of its data, in hexadecimal, where it is known: within a destination the same digest is of
    /// the same data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// A version of a file that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FoundFile {
    /// The URL of the newest backup with this version; missing for a snapshot.
    #[serde(rename = "BackupURL", skip_serializing_if = "String::is_empty")]
    pub backup_url: String,
    /// The snapshot with this version, or of which the backup is.
    pub snapshot_name: String,
    /// The volume.
    pub volume_name: String,
    /// When the backup, or the snapshot, was made.
    pub created_time: String,
    /// What was found.
    pub file: FileEntry,
}

/// A difference between two trees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ChangedFile {
    /// `added`, `removed`, `changed` (its data, or what it is), or `metadata`.
    pub change: String,
    /// Where.
    pub path: String,
    /// As it was; missing of what was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<FileEntry>,
    /// As it is; missing of what was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<FileEntry>,
}

/// Writes a path as requests and answers have it.
pub fn encode_path(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter == '%' || letter.is_control() {
                let mut buffer = [0; 4];
                text.extend(letter.encode_utf8(&mut buffer).bytes().map(percent_encode_byte));
            } else {
                text.push(letter);
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| percent_encode_byte(*byte)));
    }
    text
}

/// Undoes [`encode_path`].
pub fn decode_path(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_path_survives(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode_path(&encode_path(&bytes)), bytes);
        }
    }

    #[test]
    fn text_stays_readable() {
        assert_eq!(encode_path("a b/ä".as_bytes()), "a b/ä");
        assert_eq!(encode_path(b"a\n\xff%"), "a%0A%FF%25");
    }
}
