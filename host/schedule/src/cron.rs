//! Cron expressions in a time zone.

use convoy_driver_sdk::Timestamp;
use croner::Cron as Pattern;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::time::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, ZonedDateTime};
use std::cmp::Ordering;

/// An expression that is none, or that never comes true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid cron expression {text:?}: {why}; expected minute, hour, day of month, month and day of week, like \"30 3 * * *\""
)]
pub struct InvalidCron {
    text: String,
    why: String,
}

/// Points in time by the clock on the wall.
///
/// Where the clock is set forward, a time that it leaves out is made up for just after; where it is set back,
/// a time that comes twice counts once, unless the expression means every hour or minute.
#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
    pattern: Pattern,
    zone: TimeZone,
}

impl Cron {
    /// Parses an expression of five fields, or a nickname (`@daily`).
    ///
    /// # Errors
    /// [`InvalidCron`], also for a time that never comes, such as 30 February.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, InvalidCron> {
        let invalid = |why: String| InvalidCron { text: text.to_owned(), why };
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let pattern = parser.parse(text.trim()).map_err(|error| invalid(reason(&error)))?;
        let cron = Self { text: text.to_owned(), pattern, zone };
        match cron.next_after(Timestamp::from_unix(0)) {
            Some(_) => Ok(cron),
            None => Err(invalid("there is no such day".to_owned())),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where the clock hangs.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first moment after this one; `None` if there is none within the calendar.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let moment = self.moment(time)?;
        self.pattern.find_next_occurrence(&moment, false).ok().map(Moment::timestamp)
    }

    /// The last moment that is not after this one.
    pub fn last_until(&self, time: Timestamp) -> Option<Timestamp> {
        let moment = self.moment(time)?;
        self.pattern.find_previous_occurrence(&moment, true).ok().map(Moment::timestamp)
    }

    fn moment(&self, time: Timestamp) -> Option<Moment> {
        let time = jiff::Timestamp::from_second(time.unix()).ok()?;
        Some(Moment(time.to_zoned_datetime(self.zone.clone())))
    }
}

/// What is wrong, as part of a sentence and without the names of the parser's own parts.
fn reason(error: &CronError) -> String {
    let text = match error {
        CronError::EmptyPattern => "it is empty",
        CronError::InvalidPattern(text)
        | CronError::IllegalCharacters(text)
        | CronError::ComponentError(text) => text.as_str(),
        other => return other.to_string().trim_end_matches('.').to_owned(),
    };
    let mut letters = text.trim_end_matches('.').chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// A moment on the calendar that croner searches.
#[derive(Debug, Clone)]
struct Moment(ZonedDateTime);

impl Moment {
    fn timestamp(self) -> Timestamp {
        Timestamp::from_unix(self.0.timestamp().as_second())
    }
}

impl CronDateTime for Moment {
    fn to_civil(&self) -> CivilDateTime {
        let part = |value: i8| u32::try_from(value).unwrap_or_default();
        let time = self.0.datetime();
        // jiff has checked the parts.
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(i32::from(time.year()), part(time.month()), part(time.day())),
            CivilTime::from_parts_unchecked(part(time.hour()), part(time.minute()), part(time.second())),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        match self.0.weekday() {
            jiff::civil::Weekday::Sunday => Weekday::Sunday,
            jiff::civil::Weekday::Monday => Weekday::Monday,
            jiff::civil::Weekday::Tuesday => Weekday::Tuesday,
            jiff::civil::Weekday::Wednesday => Weekday::Wednesday,
            jiff::civil::Weekday::Thursday => Weekday::Thursday,
            jiff::civil::Weekday::Friday => Weekday::Friday,
            jiff::civil::Weekday::Saturday => Weekday::Saturday,
        }
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let part = |value: u32| i8::try_from(value).map_err(|_| CronError::InvalidDate);
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let time = DateTime::new(
            year,
            part(civil.month())?,
            part(civil.day())?,
            part(civil.hour())?,
            part(civil.minute())?,
            part(civil.second())?,
            0,
        )
        .map_err(|_| CronError::InvalidDate)?;
        let found = self.0.time_zone().to_ambiguous_zoned_datetime(time);
        let invalid = |_| CronError::InvalidTime;
        Ok(match found.offset() {
            AmbiguousOffset::Unambiguous { .. } => {
                Resolution::Single(Self(found.unambiguous().map_err(invalid)?))
            }
            AmbiguousOffset::Fold { .. } => {
                let earlier = found.clone().earlier().map_err(invalid)?;
                Resolution::Ambiguous(Self(earlier), Self(found.later().map_err(invalid)?))
            }
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(SignedDuration::from_secs(seconds)).ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.timestamp().cmp(&other.0.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cron(text: &str, zone: &str) -> Cron {
        Cron::parse(text, TimeZone::get(zone).unwrap()).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn the_clock_on_the_wall_decides() {
        let daily = cron("30 3 * * *", "Europe/Berlin");
        assert_eq!(daily.next_after(at("2026-01-10T00:00:00Z")), Some(at("2026-01-10T02:30:00Z")));
        assert_eq!(daily.next_after(at("2026-07-10T00:00:00Z")), Some(at("2026-07-10T01:30:00Z")));
        assert_eq!(daily.last_until(at("2026-07-10T01:30:00Z")), Some(at("2026-07-10T01:30:00Z")));
        let weekly = cron("@weekly", "UTC");
        assert_eq!(weekly.next_after(at("2026-11-25T22:00:00Z")), Some(at("2026-11-29T00:00:00Z")));
    }

    /// 2026 in Berlin: 29 March has no 2:30, 25 October has two.
    #[test]
    fn a_daily_run_happens_once_on_the_days_the_clock_is_set() {
        let daily = cron("30 2 * * *", "Europe/Berlin");
        for (from, to) in [
            ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"),
            ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"),
        ] {
            let first = daily.next_after(at(from)).unwrap();
            assert!(first < at(to), "{first}");
            assert!(daily.next_after(first).unwrap() > at(to), "twice");
            assert_eq!(daily.last_until(at(to)), Some(first), "both ways find the same");
        }
        let hourly = cron("30 * * * *", "Europe/Berlin");
        let mut time = at("2026-10-24T21:45:00Z");
        for _ in 0..6 {
            let next = hourly.next_after(time).unwrap();
            assert!(next.unix() - time.unix() <= 3600, "every hour, also the one that comes twice");
            time = next;
        }
    }

    #[test]
    fn what_never_comes_is_refused() {
        for bad in ["", "x", "* * * *", "* * * * * *", "61 * * * *", "0 0 30 2 *", "0 25 * * *"] {
            let error = Cron::parse(bad, TimeZone::UTC).unwrap_err().to_string();
            assert!(error.contains("expected minute, hour"), "{bad}: {error}");
            assert!(!error.contains(".;") && !error.contains("Component"), "{error}");
        }
    }

    proptest! {
        /// Going forward and looking back agree, in a zone with both kinds of days.
        #[test]
        fn forward_and_back_agree(
            minute in 0u8..60, hour in 0u8..24, every in prop::sample::select(vec![1u8, 2, 3, 6, 12]),
            start in 1_767_225_600i64..1_830_000_000, daily: bool,
        ) {
            let text = if daily { format!("{minute} {hour} * * *") } else { format!("{minute} */{every} * * *") };
            let cron = cron(&text, "America/New_York");
            let start = Timestamp::from_unix(start);
            let next = cron.next_after(start).unwrap();
            prop_assert!(next > start);
            prop_assert_eq!(cron.last_until(next), Some(next));
            let last = cron.last_until(start).unwrap();
            prop_assert!(last <= start);
            prop_assert_eq!(cron.next_after(last), Some(next));
        }
    }
}
