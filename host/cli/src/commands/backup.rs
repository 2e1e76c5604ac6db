//! Commands about backups.

use super::{Session, name, name_or_empty, path};
use crate::args::{
    BackupArgs, BackupCommand, CreateBackupArgs, Encryption, Format, KeyCommand, ProgressArgs,
};
use crate::error::Result;
use crate::output::{stats, views};
use convoy_client::client::Call;
use convoy_client::types::{
    AddKey, BackupInfo, BackupRef, CountBackups, CreateBackup, CreatedBackup, LabelBackup, ListBackups,
    ListKeys, Problem, PruneBackups, RemoveKey, StatsReport, VerifyBackups, VerifyReport,
};
use convoy_driver_sdk::protocol::SourceKind;
use std::process::ExitCode;

/// `backup verify` found something missing, damaged or not to be trusted: a check that was made, unlike one
/// that could not be (1).
const DAMAGED: u8 = 3;

/// What stands between `backup` and its command.
pub(super) struct Store {
    pub(super) endpoint: String,
    pub(super) encryption_key_file: String,
    pub(super) passphrase_file: String,
}

impl Session<'_> {
    pub(super) async fn backup(&mut self, args: BackupArgs) -> Result<ExitCode> {
        let store = Store {
            endpoint: args.s3_endpoint.unwrap_or_default(),
            encryption_key_file: path(args.key.encryption_key_file.as_deref())?,
            passphrase_file: path(args.key.passphrase_file.as_deref())?,
        };
        let Store { endpoint, encryption_key_file, passphrase_file } = store;
        match args.command {
            BackupCommand::Create(args) => {
                self.create_backup(args, Store { endpoint, encryption_key_file, passphrase_file }).await?;
            }
            BackupCommand::Delete { url } => {
                self.text(Call::delete_backup(&BackupRef {
                    url,
                    endpoint,
                    encryption_key_file,
                    passphrase_file,
                    details: false,
                }))
                .await?;
                self.output.done(format_args!("Deleted the backup"))?;
            }
            BackupCommand::Tag(args) => {
                let request = LabelBackup {
                    url: args.url,
                    endpoint,
                    set: args.set.into_iter().collect(),
                    remove: args.remove,
                    note: args.note,
                    encryption_key_file,
                    passphrase_file,
                    allow_unencrypted: args.allow_unencrypted,
                    ..LabelBackup::default()
                };
                self.text(Call::label_backup(&request)).await?;
                self.output.done(format_args!("Changed what is said of the backup"))?;
            }
            BackupCommand::Pin(args) => {
                let until = args.until.unwrap_or_else(|| "forever".to_owned());
                let request = LabelBackup {
                    url: args.url,
                    endpoint,
                    keep_until: Some(until),
                    encryption_key_file,
                    passphrase_file,
                    allow_unencrypted: args.allow_unencrypted,
                    ..LabelBackup::default()
                };
                let answer = self.text(Call::label_backup(&request)).await?;
                let backup: BackupInfo = serde_json::from_str(&answer)?;
                let until = backup.extra.get("KeepUntil").map_or("forever", String::as_str);
                self.output.done(format_args!("Pinned the backup ({until})"))?;
            }
            BackupCommand::Unpin(args) => {
                let request = LabelBackup {
                    url: args.url,
                    endpoint,
                    keep_until: Some(String::new()),
                    encryption_key_file,
                    passphrase_file,
                    allow_unencrypted: args.allow_unencrypted,
                    ..LabelBackup::default()
                };
                self.text(Call::label_backup(&request)).await?;
                self.output.done(format_args!("Unpinned the backup"))?;
            }
            BackupCommand::Inspect { url } => {
                let details = self.output.is_for_people();
                let request = BackupRef { url, endpoint, encryption_key_file, passphrase_file, details };
                self.show(Call::inspect_backup(&request), views::backup).await?;
            }
            BackupCommand::List(args) => {
                let request = ListBackups {
                    url: args.dest,
                    endpoint,
                    // That a volume is not known there is an error anyway.
                    must_exist: args.volume_name.is_none(),
                    details: self.output.is_for_people(),
                    volume_name: args.volume_name.unwrap_or_default(),
                    snapshot_name: args.snapshot_name.unwrap_or_default(),
                    tags: args.labels.tags,
                    pinned: args.labels.pinned,
                    encryption_key_file,
                    passphrase_file,
                };
                let width = self.output.width();
                self.show(Call::list_backups(&request), |backups| views::backups(backups, width)).await?;
            }
            BackupCommand::Verify(args) => {
                let request = VerifyBackups {
                    url: args.url,
                    endpoint,
                    volume_name: args.volume_name.unwrap_or_default(),
                    read_data: args.read_data,
                    encryption_key_file,
                    passphrase_file,
                    allow_unencrypted: args.allow_unencrypted,
                };
                return self.verify(&request, &args.progress).await;
            }
            BackupCommand::Prune(args) => {
                let request = PruneBackups {
                    url: args.dest,
                    endpoint,
                    volume_name: args.volume_name.unwrap_or_default(),
                    dry_run: args.dry_run,
                    encryption_key_file,
                    passphrase_file,
                    allow_unencrypted: args.allow_unencrypted,
                };
                let answer = self.follow(Call::prune_backups(&request), &args.progress).await?;
                self.output.answer(&answer, views::pruned)?;
            }
            BackupCommand::Stats(args) => {
                let request = CountBackups {
                    url: args.dest,
                    endpoint,
                    volume_name: args.volume.unwrap_or_default(),
                    encryption_key_file,
                    passphrase_file,
                };
                return self.count(&request, &args.progress).await;
            }
            BackupCommand::Browse(command) => {
                self.browse_backup(command, Store { endpoint, encryption_key_file, passphrase_file }).await?;
            }
            BackupCommand::Show(_) => return Err(super::no_call()),
            BackupCommand::Key(args) => {
                self.key(args.command, Store { endpoint, encryption_key_file, passphrase_file }).await?
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn create_backup(&mut self, args: CreateBackupArgs, mut store: Store) -> Result<()> {
        let encryption = match args.encryption {
            // The environment may name a key for whatever comes.
            Some(Encryption::None) => {
                store.encryption_key_file.clear();
                store.passphrase_file.clear();
                "none".to_owned()
            }
            None => String::new(),
        };
        let for_people = self.output.is_for_people();
        let request = CreateBackup {
            url: args.dest.unwrap_or_default(),
            endpoint: store.endpoint,
            snapshot_name: name(args.snapshot)?,
            verbose: self.verbose || for_people,
            details: for_people,
            format: args.format.map(format).unwrap_or_default(),
            kind: args.kind.map(|kind| SourceKind::from(kind).to_string()).unwrap_or_default(),
            full: args.full,
            compression: args.compression,
            volume_name: name_or_empty(args.volume)?,
            encryption_key_file: store.encryption_key_file,
            passphrase_file: store.passphrase_file,
            encryption,
            exclude: args.exclude.exclude,
            exclude_if_present: args.exclude.exclude_if_present,
            exclude_caches: args.exclude.exclude_caches,
            allow_convoyignore: args.exclude.allow_convoyignore,
            tags: args.labels.tags.into_iter().collect(),
            note: args.labels.note.unwrap_or_default(),
            keep_until: args.labels.keep_until.unwrap_or_default(),
        };
        let answer = self.follow(Call::create_backup(&request), &args.progress).await?;
        if request.verbose {
            self.output.answer::<CreatedBackup>(&answer, views::created_backup)
        } else {
            self.output.line(answer)
        }
    }

    async fn key(&mut self, command: KeyCommand, store: Store) -> Result<()> {
        let Store { endpoint, encryption_key_file, passphrase_file } = store;
        match command {
            KeyCommand::List { dest } => {
                self.show(Call::list_keys(&ListKeys { url: dest, endpoint }), views::keys).await
            }
            KeyCommand::Add { dest, new_key_file, new_passphrase_file } => {
                let request = AddKey {
                    url: dest,
                    endpoint,
                    encryption_key_file,
                    passphrase_file,
                    new_key_file: path(new_key_file.as_deref())?,
                    new_passphrase_file: path(new_passphrase_file.as_deref())?,
                };
                let name = self.text(Call::add_key(&request)).await?;
                self.output.line(name)
            }
            KeyCommand::Remove { dest, name } => {
                let request = RemoveKey { url: dest, endpoint, encryption_key_file, passphrase_file, name };
                self.text(Call::remove_key(&request)).await?;
                self.output.done(format_args!("Removed the key"))
            }
        }
    }

    async fn verify(&mut self, request: &VerifyBackups, progress: &ProgressArgs) -> Result<ExitCode> {
        let answer = self.follow(Call::verify_backups(request), progress).await?;
        let report: VerifyReport = serde_json::from_str(&answer)?;
        let width = self.output.width();
        self.output.answer(&answer, |report| views::verified(report, width))?;
        let unchecked = |problem: &Problem| problem.kind == "no-key";
        Ok(match report.problems.as_slice() {
            [] => ExitCode::SUCCESS,
            problems if problems.iter().all(unchecked) => ExitCode::FAILURE,
            _ => ExitCode::from(DAMAGED),
        })
    }

    async fn count(&mut self, request: &CountBackups, progress: &ProgressArgs) -> Result<ExitCode> {
        let answer = self.follow(Call::count_backups(request), progress).await?;
        let report: StatsReport = serde_json::from_str(&answer)?;
        let width = self.output.width();
        self.output.answer(&answer, |report| stats::report(report, width))?;
        Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
    }
}

fn format(format: Format) -> String {
    match format {
        Format::V0 => "v0",
        Format::V1 => "v1",
    }
    .to_owned()
}
