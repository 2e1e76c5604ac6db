//! Which backups and snapshots are kept: the rules of restic's `forget`.
//!
//! Every rule but `last` divides time into hours, days, weeks, months or years of a time zone, and keeps the
//! newest of each of so many such parts, counting only parts that have one. The oldest of all is kept as well
//! while a rule has parts to spare, so that the history grows as long as the rule says. What one rule keeps
//! is kept.

use crate::config::{Count, KeepConfig};
use convoy_driver_sdk::Timestamp;
use jiff::tz::TimeZone;

/// A backup or a snapshot, as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<T> {
    /// What names it.
    pub id: T,
    /// When it was made.
    pub at: Timestamp,
    /// Why it is kept whatever the rules say.
    pub protected: Option<Protection>,
}

/// Why something is kept whatever the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Somebody pinned it.
    Pinned,
    /// The schedule did not make it.
    NotOurs,
    /// It was made while the clock was wrong, or the clock is wrong now.
    Ahead,
    /// The last good backup.
    LastGood,
    /// The next incremental backup needs it.
    Base,
}

impl Protection {
    /// For a person.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::NotOurs => "not made by this schedule",
            Self::Ahead => "its time is yet to come",
            Self::LastGood => "the last good backup",
            Self::Base => "the next incremental backup needs it",
        }
    }
}

impl Protection {
    /// Whether the rules are not for it.
    fn is_beside_the_rules(self) -> bool {
        matches!(self, Self::Pinned | Self::NotOurs | Self::Ahead)
    }
}

/// How much later than now a time may be, in seconds, that a clock shows which is as good as right.
const AHEAD: i64 = 300;

/// Whether a time is yet to come: it was written while the clock was wrong, or the clock is wrong now. By
/// such times nothing can be told to be the newest.
pub fn is_ahead(at: Timestamp, now: Timestamp) -> bool {
    at.unix() > now.unix().saturating_add(AHEAD)
}

/// Something that is kept, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepDecision<T> {
    /// What names it.
    pub id: T,
    /// When it was made.
    pub at: Timestamp,
    /// By these rules: `last`, `hourly`, ..., or a [`Protection`] in words.
    pub reasons: Vec<&'static str>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<T> {
    /// What is decided of each, newest first.
    pub keep: Vec<KeepDecision<T>>,
    /// Oldest first: what is cut off leaves the newer ones.
    pub remove: Vec<T>,
}

/// Rules that keep nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("keep has no rule that keeps anything: leave it out to keep everything")]
pub struct KeepsNothing;

/// Rules in a time zone.
#[derive(Debug, Clone)]
pub struct Rules {
    rules: [(&'static str, Part, Count); 6],
    zone: TimeZone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Each,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Rules {
    /// Checks that something is kept.
    ///
    /// # Errors
    /// [`KeepsNothing`].
    pub fn new(config: &KeepConfig, zone: TimeZone) -> Result<Self, KeepsNothing> {
        let rules = [
            ("last", Part::Each, config.last),
            ("hourly", Part::Hour, config.hourly),
            ("daily", Part::Day, config.daily),
            ("weekly", Part::Week, config.weekly),
            ("monthly", Part::Month, config.monthly),
            ("yearly", Part::Year, config.yearly),
        ];
        if rules.iter().all(|(_, _, count)| count.is_none()) {
            return Err(KeepsNothing);
        }
        Ok(Self { rules, zone })
    }

    /// Decides. Those that are pinned, those that the schedule did not make, and those whose time is yet to
    /// come, take no part in the rules and are kept.
    pub fn apply<T: Clone + Ord>(&self, candidates: &[Candidate<T>]) -> Plan<T> {
        let mut sorted: Vec<&Candidate<T>> = candidates.iter().collect();
        // Of one second, whatever order; but always the same.
        sorted.sort_by(|a, b| (b.at, &b.id).cmp(&(a.at, &a.id)));
        let ours: Vec<&Candidate<T>> = sorted
            .iter()
            .copied()
            .filter(|one| !one.protected.is_some_and(Protection::is_beside_the_rules))
            .collect();
        let mut reasons: Vec<Vec<&'static str>> = vec![Vec::new(); ours.len()];
        for (name, part, count) in &self.rules {
            let mut left = match count {
                Count::Some(count) => u64::from(*count),
                Count::All => u64::MAX,
            };
            let mut before = None;
            for (number, one) in ours.iter().enumerate() {
                if left == 0 {
                    break;
                }
                let key = self.key(*part, one.at, number);
                if before.as_ref() != Some(&key) || number + 1 == ours.len() {
                    reasons[number].push(name);
                    left -= 1;
                    before = Some(key);
                }
            }
        }
        let mut reasons = reasons.into_iter();
        let mut plan = Plan { keep: Vec::new(), remove: Vec::new() };
        for one in sorted {
            let mut why = match one.protected {
                Some(protection) if protection.is_beside_the_rules() => Vec::new(),
                _ => reasons.next().unwrap_or_default(),
            };
            why.extend(one.protected.map(Protection::as_str));
            if why.is_empty() {
                plan.remove.push(one.id.clone());
            } else {
                plan.keep.push(KeepDecision { id: one.id.clone(), at: one.at, reasons: why });
            }
        }
        plan.remove.reverse();
        plan
    }

    /// Names the part of time that a moment is in.
    fn key(&self, part: Part, at: Timestamp, number: usize) -> (i64, i64) {
        let time = jiff::Timestamp::from_second(at.unix()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let time = time.to_zoned_datetime(self.zone.clone());
        let (year, month, day) = (i64::from(time.year()), i64::from(time.month()), i64::from(time.day()));
        match part {
            Part::Each => (i64::try_from(number).unwrap_or(i64::MAX), 0),
            Part::Hour => (year * 10_000 + month * 100 + day, i64::from(time.hour())),
            Part::Day => (year * 10_000 + month * 100 + day, 0),
            Part::Week => {
                let week = time.date().iso_week_date();
                (i64::from(week.year()), i64::from(week.week()))
            }
            Part::Month => (year, month),
            Part::Year => (year, 0),
        }
    }
}
