//! Commands about snapshots.

use super::volume::options;
use super::{Session, name, name_or_empty};
use crate::args::{SnapshotCommand, SnapshotNameArgs};
use crate::error::Result;
use crate::output::views;
use convoy_client::client::Call;
use convoy_client::types::{CreateSnapshot, CreateVolume, RevertSnapshot, SnapshotRef};

impl Session<'_> {
    pub(super) async fn snapshot(&mut self, command: SnapshotCommand) -> Result<()> {
        match command {
            SnapshotCommand::Create { volume, name: own, freeze, progress } => {
                let request = CreateSnapshot {
                    name: name_or_empty(own)?,
                    volume_name: name(volume)?,
                    verbose: self.verbose,
                    freeze,
                };
                let answer = self.follow(Call::create_snapshot(&request), &progress).await?;
                self.name_or(&answer, views::snapshot)
            }
            SnapshotCommand::Delete(args) => {
                let request = which(args)?;
                self.text(Call::delete_snapshot(&request)).await?;
                self.output.done(format_args!("Deleted snapshot {}", request.snapshot_name))
            }
            SnapshotCommand::Inspect(args) => {
                self.show(Call::inspect_snapshot(&which(args)?), views::snapshot).await
            }
            SnapshotCommand::Clone(args) => {
                let request = CreateVolume {
                    name: name_or_empty(args.name)?,
                    snapshot_name: name(args.snapshot)?,
                    size: args.size.unwrap_or(0),
                    options: options(args.options)?,
                    verbose: self.verbose,
                    ..CreateVolume::default()
                };
                let answer = self.follow(Call::create_volume(&request), &args.progress).await?;
                self.name_or(&answer, views::volume)
            }
            SnapshotCommand::Revert { which: args, progress } => {
                let SnapshotRef { snapshot_name, volume_name } = which(args)?;
                let request = RevertSnapshot { snapshot_name, volume_name, verbose: self.verbose };
                let answer = self.follow(Call::revert_snapshot(&request), &progress).await?;
                self.name_or(&answer, views::volume)
            }
        }
    }
}

fn which(args: SnapshotNameArgs) -> Result<SnapshotRef> {
    Ok(SnapshotRef { snapshot_name: name(args.name)?, volume_name: name_or_empty(args.volume)? })
}
