//! Commands about snapshots.

use super::{Session, name, name_or_empty};
use crate::args::{SnapshotCommand, SnapshotNameArgs};
use crate::error::Result;
use crate::output::views;
use convoy_client::client::Call;
use convoy_client::types::{CreateSnapshot, SnapshotRef};

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
        }
    }
}

fn which(args: SnapshotNameArgs) -> Result<SnapshotRef> {
    Ok(SnapshotRef { snapshot_name: name(args.name)?, volume_name: name_or_empty(args.volume)? })
}
