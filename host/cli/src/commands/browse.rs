//! Commands that look into backups and snapshots.

use super::backup::Store;
use super::{Session, name, name_or_empty};
use crate::args::{
    ArchiveForm, BrowseBackupCommand, BrowseSnapshotCommand, DumpArgs, FindArgs, LsArgs, OfVolumeArgs,
    TrustArgs, since,
};
use crate::error::{Failure, Result};
use crate::output::browse;
use convoy_client::client::Call;
use convoy_client::types::{
    BrowseLine, ChangedFile, CompareTrees, DumpTree, FileEntry, FindFiles, FoundFile, ListFiles, ReadFile,
    TreeRef, encode_path,
};
use convoy_driver_sdk::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long what was printed waits for more.
const PAUSE: Duration = Duration::from_millis(50);

/// Bytes that are written at once.
const TOGETHER: usize = 32 << 10;

impl Session<'_> {
    pub(super) async fn browse_backup(&mut self, command: BrowseBackupCommand, store: Store) -> Result<()> {
        let Store { endpoint, encryption_key_file, passphrase_file } = store;
        let tree = |url: String, trust: &TrustArgs| TreeRef {
            url,
            endpoint: endpoint.clone(),
            encryption_key_file: encryption_key_file.clone(),
            passphrase_file: passphrase_file.clone(),
            allow_unencrypted: trust.allow_unencrypted,
            ..TreeRef::default()
        };
        match command {
            BrowseBackupCommand::Ls { url, what, trust } => self.ls(tree(url, &trust), what).await,
            BrowseBackupCommand::Cat { url, path, trust } => self.cat(tree(url, &trust), &path).await,
            BrowseBackupCommand::Find { dest, what, trust } => {
                let request = FindFiles {
                    url: dest,
                    endpoint,
                    encryption_key_file,
                    passphrase_file,
                    allow_unencrypted: trust.allow_unencrypted,
                    ..find(what)?
                };
                self.find(&request).await
            }
            BrowseBackupCommand::Diff { old, new, path, trust } => {
                self.diff(tree(old, &trust), tree(new, &trust), path).await
            }
            BrowseBackupCommand::Dump { url, what, trust } => self.dump(tree(url, &trust), what).await,
        }
    }

    pub(super) async fn browse_snapshot(&mut self, command: BrowseSnapshotCommand) -> Result<()> {
        match command {
            BrowseSnapshotCommand::Ls { snapshot, what, of } => self.ls(taken(snapshot, &of)?, what).await,
            BrowseSnapshotCommand::Cat { snapshot, path, of } => self.cat(taken(snapshot, &of)?, &path).await,
            BrowseSnapshotCommand::Find { what } => self.find(&find(what)?).await,
            BrowseSnapshotCommand::Diff { old, new, path, of } => {
                self.diff(taken(old, &of)?, taken(new, &of)?, path).await
            }
            BrowseSnapshotCommand::Dump { snapshot, what, of } => {
                self.dump(taken(snapshot, &of)?, what).await
            }
        }
    }

    async fn ls(&mut self, tree: TreeRef, what: LsArgs) -> Result<()> {
        let (path, long) = (text(what.path.as_deref()), what.long);
        let call = Call::list_files(&ListFiles { tree, path, recursive: what.recursive });
        self.each(call, |file: &FileEntry| if long { browse::long(file) } else { browse::short(file) }).await
    }

    async fn find(&mut self, request: &FindFiles) -> Result<()> {
        let mut begun = false;
        self.each(Call::find_files(request), |found: &FoundFile| {
            let header = if begun { "" } else { &browse::found_header() };
            begun = true;
            format!("{header}{}", browse::found(found))
        })
        .await
    }

    async fn diff(&mut self, old: TreeRef, new: TreeRef, path: Option<PathBuf>) -> Result<()> {
        let mut totals = browse::Totals::default();
        let call = Call::compare_trees(&CompareTrees { old, new, path: text(path.as_deref()) });
        self.each(call, |change: &ChangedFile| {
            totals.add(change);
            browse::change(change)
        })
        .await?;
        if self.output.is_for_people() { self.output.line(totals) } else { Ok(()) }
    }

    async fn cat(&mut self, tree: TreeRef, path: &Path) -> Result<()> {
        self.raw(Call::read_file(&ReadFile { tree, path: text(Some(path)) })).await
    }

    async fn dump(&mut self, tree: TreeRef, what: DumpArgs) -> Result<()> {
        if std::io::stdout().is_terminal() {
            return Err(Failure::Other {
                message: "an archive is nothing for a terminal".to_owned(),
                hint: Some("send it to a file or a program: `... > data.tar`, `... | tar t`".to_owned()),
            });
        }
        let format = match what.format {
            ArchiveForm::Tar => "tar",
            ArchiveForm::Zip => "zip",
        };
        let path = text(what.path.as_deref());
        self.raw(Call::dump_tree(&DumpTree { tree, path, format: format.to_owned() })).await
    }

    /// Prints lines as they come: to scripts as JSON, to people as `view` has it.
    async fn each<T: DeserializeOwned + Serialize>(
        &mut self,
        call: Call,
        mut view: impl FnMut(&T) -> String,
    ) -> Result<()> {
        self.output.debug(&call.name());
        let mut stream = self.client.stream(call).await?;
        loop {
            let line = match tokio::time::timeout(PAUSE, stream.next_value::<BrowseLine<T>>()).await {
                Ok(line) => line?,
                Err(_) => {
                    self.output.finish()?;
                    continue;
                }
            };
            match line {
                None => return Ok(()),
                Some(BrowseLine::Entry(entry)) if self.output.is_for_people() => {
                    let text = view(&entry);
                    self.output.styled(&text)?;
                }
                Some(BrowseLine::Entry(entry)) => self.output.line(serde_json::to_string(&entry)?)?,
                Some(BrowseLine::Note(note)) => {
                    self.output.finish()?;
                    self.output.aside("note", &note);
                }
                Some(BrowseLine::Error(error)) => return Err(convoy_client::Error::from(error).into()),
            }
            if self.output.pending() >= TOGETHER {
                self.output.finish()?;
            }
        }
    }

    /// Prints bytes as they come.
    async fn raw(&mut self, call: Call) -> Result<()> {
        self.output.set_raw();
        self.output.debug(&call.name());
        let mut body = self.client.bytes(call).await?;
        while let Some(bytes) = body.next().await? {
            self.output.bytes(&bytes)?;
            self.output.finish()?;
        }
        if let Some(left_out) = body.left_out() {
            self.output.aside("left out", left_out);
        }
        Ok(())
    }
}

fn taken(snapshot: String, of: &OfVolumeArgs) -> Result<TreeRef> {
    Ok(TreeRef {
        snapshot_name: name(snapshot)?,
        volume_name: name_or_empty(of.volume.clone())?,
        ..TreeRef::default()
    })
}

fn find(what: FindArgs) -> Result<FindFiles> {
    let since = match &what.since {
        Some(text) => since(text, Timestamp::now())?.to_string(),
        None => String::new(),
    };
    Ok(FindFiles {
        pattern: what.pattern,
        volume_name: name_or_empty(what.volume)?,
        since,
        ..FindFiles::default()
    })
}

/// A path in a tree as requests have it.
fn text(path: Option<&Path>) -> String {
    path.map(|path| encode_path(path.as_os_str().as_bytes())).unwrap_or_default()
}
