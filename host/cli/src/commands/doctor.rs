//! Runs `convoy doctor`.

use super::Session;
use crate::args::DoctorArgs;
use crate::error::{Failure, Result};
use crate::output::doctor as views;
use crate::settings::DEFAULT_ROOT;
use convoy_client::Error;
use convoy_client::client::Call;
use convoy_client::types::{Diagnosis, Examine};
use std::path::Path;
use std::process::ExitCode;

impl Session<'_> {
    pub(super) async fn doctor(&mut self, args: &DoctorArgs) -> Result<ExitCode> {
        let socket = self.client.socket().to_owned();
        let request = Examine { repair: args.repair, socket: socket.display().to_string() };
        let text = match self.text(Call::examine(&request)).await {
            Err(Failure::Call(Error::NotRunning { socket: at, source })) => match self.doctor {
                Some(doctor) => {
                    let root = args.root.as_deref().unwrap_or(Path::new(DEFAULT_ROOT));
                    serde_json::to_string_pretty(&doctor(root, &socket, args.repair))?
                }
                None => return Err(Failure::Call(Error::NotRunning { socket: at, source })),
            },
            result => result?,
        };
        self.output.answer(&text, views::diagnosis)?;
        let diagnosis: Diagnosis = serde_json::from_str(&text)?;
        Ok(ExitCode::from(views::exit_code(&diagnosis)))
    }
}
