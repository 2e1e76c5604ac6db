//! `events`, `top` and `doctor`.

use crate::complete;
use crate::error::{Failure, Result};
use clap::Args;
use convoy_client::types::EventFilter;
use convoy_driver_sdk::Timestamp;
use std::path::PathBuf;
use std::time::Duration;

/// The arguments of `convoy events`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  convoy events --since 24h --kind schedule.failure,backup
  convoy events --since 2026-11-25T00:00:00Z --no-follow --volume db")]
pub struct EventsArgs {
    /// Also what happened since then, as far as the daemon remembers: a time, or how long ago (90s, 5m, 24h)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only of these kinds, or of kinds that begin so (`backup`)
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub kind: Vec<String>,
    /// Only about these volumes
    #[arg(long, value_name = "NAME", value_delimiter = ',', add = complete::volumes())]
    pub volume: Vec<String>,
    /// Only about these drivers
    #[arg(long, value_name = "DRIVER", value_delimiter = ',', add = complete::drivers())]
    pub driver: Vec<String>,
    /// End after what happened, without waiting for more
    #[arg(long)]
    pub no_follow: bool,
}

/// The arguments of `convoy top`.
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// How many seconds between looks
    #[arg(long, short = 'n', value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    pub interval: u64,
    /// Look once and end
    #[arg(long)]
    pub once: bool,
}

/// The arguments of `convoy doctor`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The daemon is asked; if it does not run, this command looks at the machine and the records itself, as root.

Exit codes: 0 nothing is wrong, or all was repaired; 2 warnings; 3 errors; 1 the examination failed.")]
pub struct DoctorArgs {
    /// Repair what can be repaired without losing anything that somebody may want
    #[arg(long)]
    pub repair: bool,
    /// The directory of the daemon's records, for when no daemon runs [default: /var/lib/rancher/convoy]
    #[arg(long, env = "CONVOY_ROOT", value_name = "DIR")]
    pub root: Option<PathBuf>,
}

impl EventsArgs {
    pub(crate) fn filter(&self) -> Result<EventFilter> {
        let since = match &self.since {
            Some(text) => since(text, Timestamp::now())?.to_string(),
            // Of nothing that happened yet nothing would come.
            None if self.no_follow => Timestamp::from_unix(0).to_string(),
            None => String::new(),
        };
        Ok(EventFilter {
            since,
            kind: self.kind.join(","),
            volume: self.volume.join(","),
            driver: self.driver.join(","),
            follow: if self.no_follow { "false".to_owned() } else { String::new() },
        })
    }
}

/// A moment, or how long ago.
pub(crate) fn since(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Ok(time) = Timestamp::parse(text) {
        return Ok(time);
    }
    let ago = text.parse::<jiff::SignedDuration>().ok().and_then(|ago| Duration::try_from(ago).ok());
    let ago = ago.and_then(|ago| i64::try_from(ago.as_secs()).ok());
    ago.map(|ago| Timestamp::from_unix(now.unix().saturating_sub(ago))).ok_or_else(|| Failure::Other {
        message: format!("invalid --since {text:?}"),
        hint: Some(
            "expected a time like 2026-11-25T03:00:00Z, or how long ago, like 90s, 5m or 24h".to_owned(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_or_how_long_ago() {
        let now = Timestamp::parse("2026-11-25T12:00:00Z").unwrap();
        assert_eq!(since("24h", now).unwrap().to_string(), "2026-11-24T12:00:00Z");
        assert_eq!(since("1h30m", now).unwrap().to_string(), "2026-11-25T10:30:00Z");
        assert_eq!(since("2026-11-25T00:00:00Z", now).unwrap().to_string(), "2026-11-25T00:00:00Z");
        for bad in ["", "yesterday", "-5m", "5"] {
            assert!(since(bad, now).is_err(), "{bad}");
        }
    }
}
