//! What people say of backups: tags, notes and pins.

use crate::complete;
use clap::Args;

/// What a new backup gets.
#[derive(Debug, Args)]
pub struct NewLabelArgs {
    /// A tag of the backup, for `backup list --tag`; may be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    pub tags: Vec<(String, String)>,
    /// A note of the backup, which `backup inspect` shows
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Pin it: nothing deletes it before that date (2027-01-31, or 2027-01-31T18:00:00Z), or forever
    #[arg(long, value_name = "DATE")]
    pub keep_until: Option<String>,
}

/// Which backups are listed.
#[derive(Debug, Args)]
pub struct LabelFilterArgs {
    /// Only the backups with this tag; given several times, only those with all of them
    #[arg(long = "tag", value_name = "KEY[=VALUE]")]
    pub tags: Vec<String>,
    /// Only the backups that are pinned
    #[arg(long)]
    pub pinned: bool,
}

/// The arguments of `convoy backup tag`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct TagArgs {
    /// URL of the backup
    #[arg(value_name = "URL", add = complete::backups())]
    pub url: String,
    /// Tags that it gets, in the place of those with the same key
    #[arg(value_name = "KEY=VALUE", value_parser = tag, group = "change")]
    pub set: Vec<(String, String)>,
    /// A tag that it loses; may be given several times
    #[arg(long, value_name = "KEY", group = "change")]
    pub remove: Vec<String>,
    /// Another note; an empty one removes it
    #[arg(long, value_name = "TEXT", group = "change")]
    pub note: Option<String>,
    /// Also where a key is named and the backup is not encrypted
    #[arg(long)]
    pub allow_unencrypted: bool,
}

/// The arguments of `convoy backup pin`.
#[derive(Debug, Args)]
pub struct PinArgs {
    /// URL of the backup
    #[arg(value_name = "URL", add = complete::backups())]
    pub url: String,
    /// Until then (2027-01-31, or 2027-01-31T18:00:00Z) [default: forever]
    #[arg(long, value_name = "DATE")]
    pub until: Option<String>,
    /// Also where a key is named and the backup is not encrypted
    #[arg(long)]
    pub allow_unencrypted: bool,
}

/// The arguments of `convoy backup unpin`.
#[derive(Debug, Args)]
pub struct UnpinArgs {
    /// URL of the backup
    #[arg(value_name = "URL", add = complete::backups())]
    pub url: String,
    /// Also where a key is named and the backup is not encrypted
    #[arg(long)]
    pub allow_unencrypted: bool,
}

/// A tag with its value. What a key may be the daemon says.
fn tag(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = split.ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
