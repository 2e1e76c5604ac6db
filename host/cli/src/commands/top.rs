//! `top`: looks again and again.

use super::Session;
use crate::args::TopArgs;
use crate::error::Result;
use crate::output::top::{DaemonState, fitted, screen};
use std::time::Duration;

/// Moves to the upper left and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

impl Session<'_> {
    pub(super) async fn top(&mut self, args: &TopArgs) -> Result<()> {
        loop {
            let (volumes, drivers, jobs, schedules) = tokio::try_join!(
                self.client.list_volumes(),
                self.client.list_drivers(),
                self.client.list_jobs(),
                self.client.list_schedules(),
            )?;
            let seen = DaemonState { volumes, drivers, jobs, schedules };
            if !self.output.is_for_people() {
                self.output.line(serde_json::to_string(&seen)?)?;
            } else {
                let text = screen(&seen);
                match console::Term::stdout().size_checked() {
                    Some((rows, columns)) if !args.once => {
                        self.output.bytes(CLEAR.as_bytes())?;
                        self.output.styled(&fitted(&text, rows.into(), columns.into()))?;
                    }
                    _ => self.output.styled(&text)?,
                }
            }
            self.output.finish()?;
            if args.once {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(args.interval)).await;
        }
    }
}
