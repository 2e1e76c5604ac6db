//! What has to run now: on time, after a jitter, made good once after a long sleep, and again when it was cut
//! off.

use crate::cron::Cron;
use crate::record::{ATTEMPTS, RunRecord};
use convoy_driver_sdk::Timestamp;
use std::time::Duration;

/// A run that begins this much later than it should, in seconds, was missed: the daemon was not there.
const LATE: i64 = 300;

/// A record of a run that is further ahead than this, in seconds, was written while the clock was wrong,
/// however seldom the schedule runs.
const AHEAD: i64 = 86_400;

/// When a schedule runs.
#[derive(Debug, Clone)]
pub struct Timing {
    /// By the clock.
    pub cron: Cron,
    /// Up to this much later; less than the time between two runs.
    pub jitter: Duration,
    /// Whether missed runs are made good by one.
    pub catch_up: bool,
}

/// What to do about a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing before this moment; `None`: nothing any more.
    Wait(Option<Timestamp>),
    /// Run for this moment.
    Run {
        /// The moment of the schedule that the run is for.
        at: Timestamp,
        /// Why it runs now.
        why: Why,
    },
    /// It was missed and is not made good: go on after this moment.
    Skip {
        /// The last missed moment.
        until: Timestamp,
    },
    /// A run was cut off too often: it failed.
    GiveUp,
    /// The record is from the future: the clock was set back. Go on from now.
    Rebase,
}

/// Why something runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is time.
    OnTime,
    /// It was time earlier, first at this moment.
    Missed(Timestamp),
    /// It was cut off.
    CutOff,
}

impl Timing {
    /// What to do about a volume that nothing runs for at this moment.
    pub fn decide(&self, record: &RunRecord, now: Timestamp) -> Decision {
        if let Some(cut_off) = &record.running {
            return if cut_off.attempt >= ATTEMPTS {
                Decision::GiveUp
            } else {
                Decision::Run { at: cut_off.at, why: Why::CutOff }
            };
        }
        let next = self.cron.next_after(record.last);
        // Set back by a little, the clock reaches the last run again and nothing runs twice. By more, waiting
        // for that would leave out more than what runs twice costs.
        let apart = next.map_or(AHEAD, |next| next.unix() - record.last.unix());
        if record.last.unix().saturating_sub(now.unix()) > AHEAD.min(apart / 2) {
            return Decision::Rebase;
        }
        let Some(first) = next else { return Decision::Wait(None) };
        let begins = self.begins(first, record);
        if begins > now {
            return Decision::Wait(Some(begins));
        }
        // The newest whose time has come for sure; of those that were missed one is made good.
        let jitter = i64::try_from(self.jitter.as_secs()).unwrap_or(i64::MAX);
        let newest = self.cron.last_until(Timestamp::from_unix(now.unix().saturating_sub(jitter)));
        let at = newest.map_or(first, |newest| newest.max(first));
        if now.unix() - begins.unix() <= LATE && at == first {
            return Decision::Run { at, why: Why::OnTime };
        }
        if self.catch_up {
            Decision::Run { at, why: Why::Missed(first) }
        } else {
            Decision::Skip { until: at }
        }
    }

    /// When the run after those that were dealt with begins.
    pub fn next(&self, record: &RunRecord, now: Timestamp) -> Option<Timestamp> {
        match self.decide(record, now) {
            Decision::Wait(next) => next,
            Decision::Run { .. } | Decision::GiveUp => Some(now),
            Decision::Skip { until } => self.first_after(until, record),
            Decision::Rebase => self.first_after(now, record),
        }
    }

    fn first_after(&self, time: Timestamp, record: &RunRecord) -> Option<Timestamp> {
        self.cron.next_after(time).map(|at| self.begins(at, record))
    }

    /// When the run for a moment begins: each volume has a delay of its own, the same whenever it is asked
    /// for.
    fn begins(&self, at: Timestamp, record: &RunRecord) -> Timestamp {
        let seconds = self.jitter.as_secs();
        if seconds == 0 {
            return at;
        }
        let mut hasher = blake3::Hasher::new();
        for part in [record.schedule.as_bytes(), record.volume.as_bytes(), &at.unix().to_le_bytes()] {
            hasher.update(part).update(&[0]);
        }
        let mut bytes = [0; 8];
        hasher.finalize_xof().fill(&mut bytes);
        let delay = u64::from_le_bytes(bytes) % (seconds + 1);
        Timestamp::from_unix(at.unix().saturating_add(i64::try_from(delay).unwrap_or_default()))
    }
}
