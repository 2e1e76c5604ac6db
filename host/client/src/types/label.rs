//! What people say of a backup: tags, a note, and until when it is kept.

use super::{Deserialize, Pairs, Serialize, is_false};

/// The body of `POST /backups/labels`: what is to be said of a backup from now on. What is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LabelBackup {
    /// The backup's URL.
    #[serde(rename = "URL")]
    pub url: String,
    /// A custom S3 endpoint.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// Tags that it gets, in the place of those with the same key.
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    pub set: Pairs,
    /// Keys of tags that it loses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// Another note; empty: none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Until when it is kept whatever the rules say: `forever`, a date, or a moment in RFC 3339; empty: it is
    /// not pinned any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_until: Option<String>,
    /// The file, on the daemon's host, with the key of encrypted backups; empty: not encrypted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encryption_key_file: String,
    /// The file, on the daemon's host, with the passphrase in the place of a key file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub passphrase_file: String,
    /// Label a backup that is not encrypted although a key is named; no key vouches for it.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_unencrypted: bool,
}
