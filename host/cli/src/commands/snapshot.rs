//! Commands about snapshots.

use super::volume::options;
use super::{Session, name, name_or_empty};
use crate::args::{SnapshotCommand, SnapshotNameArgs};
use crate::error::Result;
use crate::output::values::seconds;
use crate::output::views;
use convoy_client::client::Call;
use convoy_client::gojson;
use convoy_client::types::{
    CreateSnapshot, CreateVolume, RevertSnapshot, Snapshot, SnapshotRef, Volume, VolumeRef,
};
use std::collections::BTreeMap;

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
            SnapshotCommand::List { volume } => self.list_snapshots(volume).await,
            SnapshotCommand::Delete(args) => {
                let request = which(args)?;
                self.text(Call::delete_snapshot(&request)).await?;
                self.output.done(format_args!("Deleted snapshot {}", request.snapshot_name))
            }
            SnapshotCommand::Inspect(args) => {
                let request = SnapshotRef { details: self.output.is_for_people(), ..which(args)? };
                self.show(Call::inspect_snapshot(&request), views::snapshot).await
            }
            SnapshotCommand::Browse(command) => self.browse_snapshot(command).await,
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
            SnapshotCommand::Revert { which: args, stop, progress } => {
                let SnapshotRef { snapshot_name, volume_name, .. } = which(args)?;
                let request = RevertSnapshot { snapshot_name, volume_name, verbose: self.verbose, stop };
                let answer = self.follow(Call::revert_snapshot(&request), &progress).await?;
                self.name_or(&answer, views::volume)
            }
        }
    }
}

impl Session<'_> {
    /// Lists snapshots by volume, the newest of each last.
    async fn list_snapshots(&mut self, volume: Option<String>) -> Result<()> {
        // What 0.5 did not tell is not for scripts.
        let details = self.output.is_for_people();
        let volumes: Vec<Volume> = match volume {
            Some(volume) => {
                let request = VolumeRef { volume_name: name(volume)?, details };
                vec![serde_json::from_str(&self.text(Call::inspect_volume(&request)).await?)?]
            }
            None => {
                let text = self.text(Call::list_volumes_with(details)).await?;
                serde_json::from_str::<BTreeMap<String, Volume>>(&text)?.into_values().collect()
            }
        };
        let mut snapshots = Vec::new();
        for volume in volumes {
            let mut own: Vec<_> = volume.snapshots.unwrap_or_default().into_values().collect();
            own.sort_by_cached_key(|snapshot| seconds(&snapshot.created_time));
            snapshots.extend(own.into_iter().map(|snapshot| Snapshot {
                name: snapshot.name,
                volume_name: volume.name.clone(),
                volume_created_at: Some(volume.created_time.clone()),
                created_time: snapshot.created_time,
                driver_info: snapshot.driver_info,
            }));
        }
        if self.output.is_for_people() {
            let width = self.output.width();
            return self.output.styled(&views::snapshots(&snapshots, width));
        }
        self.output.line(gojson::to_string(&snapshots)?)
    }
}

fn which(args: SnapshotNameArgs) -> Result<SnapshotRef> {
    let volume_name = name_or_empty(args.volume)?;
    Ok(SnapshotRef { snapshot_name: name(args.name)?, volume_name, ..SnapshotRef::default() })
}
