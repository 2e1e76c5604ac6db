//! Parts of a backup or snapshot into a volume that is there.

use super::{Session, name, name_or_empty, path};
use crate::args::RestoreArgs;
use crate::error::Result;
use crate::output::restores;
use convoy_client::client::Call;
use convoy_client::types::{RestoreParts, RestoreReport};
use std::process::ExitCode;

/// Something could not be restored, and everything else is.
const FAILED: u8 = 3;
/// The file system refused a part of what is restored.
const LOST: u8 = 4;

impl Session<'_> {
    pub(super) async fn restore(&mut self, args: RestoreArgs) -> Result<ExitCode> {
        // A URL has a scheme, and a name no colon.
        let (url, snapshot_name) = match args.source.contains("://") {
            true => (args.source, String::new()),
            false => (String::new(), name(args.source)?),
        };
        let request = RestoreParts {
            url,
            endpoint: args.s3_endpoint.unwrap_or_default(),
            snapshot_name,
            snapshot_volume: name_or_empty(args.volume)?,
            volume_name: name(args.into)?,
            paths: args.paths,
            exclude: args.exclude,
            at: args.at.unwrap_or_default(),
            existing: args.existing.as_str().to_owned(),
            delete_extra: args.delete_extra,
            dry_run: args.dry_run,
            details: self.verbose,
            encryption_key_file: path(args.key.encryption_key_file.as_deref())?,
            passphrase_file: path(args.key.passphrase_file.as_deref())?,
            allow_unencrypted: args.allow_unencrypted,
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
}
