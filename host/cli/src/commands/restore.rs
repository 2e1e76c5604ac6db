//! Parts of a backup or snapshot into a volume that is there, or all of it in place.

use super::{Session, name, name_or_empty, path};
use crate::args::RestoreArgs;
use crate::error::Result;
use crate::output::restores;
use convoy_client::client::Call;
use convoy_client::types::{AcceptRestore, RestoreParts, RestoreReport};
use std::process::ExitCode;

/// Something could not be restored, and everything else is.
const FAILED: u8 = 3;
/// The file system refused a part of what is restored.
const LOST: u8 = 4;

impl Session<'_> {
    pub(super) async fn restore(&mut self, args: RestoreArgs) -> Result<ExitCode> {
        if let Some(volume) = args.accept {
            return self.accept_restore(volume).await;
        }
        let source = args.source.unwrap_or_default();
        // A URL has a scheme, and a name no colon.
        let (url, snapshot_name) = match source.contains("://") {
            true => (source, String::new()),
            false => (String::new(), name(source)?),
        };
        let in_place = args.in_place.is_some();
        let request = RestoreParts {
            url,
            endpoint: args.s3_endpoint.unwrap_or_default(),
            snapshot_name,
            snapshot_volume: name_or_empty(args.volume)?,
            volume_name: name(args.in_place.or(args.into).unwrap_or_default())?,
            paths: args.paths,
            exclude: args.exclude,
            at: args.at.unwrap_or_default(),
            existing: if in_place { String::new() } else { args.existing.as_str().to_owned() },
            delete_extra: args.delete_extra,
            dry_run: args.dry_run,
            details: self.verbose,
            encryption_key_file: path(args.key.encryption_key_file.as_deref())?,
            passphrase_file: path(args.key.passphrase_file.as_deref())?,
            allow_unencrypted: args.allow_unencrypted,
            in_place,
            stop: args.stop,
            no_keep: args.no_keep,
            keep_as: name_or_empty(args.keep_as)?,
        };
        let answer = self.follow(Call::restore_parts(&request), &args.progress).await?;
        let report: RestoreReport = serde_json::from_str(&answer)?;
        self.output.answer(&answer, restores::report)?;
        Ok(match (report.failed, report.lost) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::from(LOST),
            _ => ExitCode::from(FAILED),
        })
    }

    async fn accept_restore(&mut self, volume: String) -> Result<ExitCode> {
        let request = AcceptRestore { volume_name: name(volume)? };
        let source = self.text(Call::accept_restore(&request)).await?;
        let volume = &request.volume_name;
        self.output
            .done(format_args!("Volume {volume} stays as it is, half restored from {}", source.trim()))?;
        Ok(ExitCode::SUCCESS)
    }
}
