//! The names of snapshots that schedules make: `SCHEDULE-VOLUME-20261125t030000z`.
//!
//! A name says which schedule made a snapshot of what and for which moment, also in a store that has outlived
//! its host.

use convoy_driver_sdk::Timestamp;
use convoy_driver_sdk::name::MAX_NAME_BYTES;

/// `-20261125t030000z`
const TIME: &str = "-%Y%m%dt%H%M%Sz";
const TIME_BYTES: usize = 17;

/// The longest name of a schedule, in bytes.
pub const MAX_SCHEDULE_BYTES: usize = 64;

/// The name of the snapshot that a schedule makes of a volume for a moment.
pub fn snapshot_name(schedule: &str, volume: &str, at: Timestamp) -> String {
    let time = jiff::Timestamp::from_second(at.unix()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    prefix(schedule, volume) + &time.strftime(TIME).to_string()
}

/// The first name that is not taken: that of the moment, or else of a second later, and so on.
///
/// A name can be taken when the clock was wrong: what was made while it showed this moment before is not what
/// is there now.
pub fn free_name(schedule: &str, volume: &str, at: Timestamp, taken: impl Fn(&str) -> bool) -> String {
    let mut at = at;
    loop {
        let name = snapshot_name(schedule, volume, at);
        if !taken(&name) {
            return name;
        }
        at = Timestamp::from_unix(at.unix() + 1);
    }
}

/// The moment in a name that [`snapshot_name`] made for this schedule and volume; `None` for any other name.
pub fn snapshot_time(schedule: &str, volume: &str, name: &str) -> Option<Timestamp> {
    let time = name.strip_prefix(&prefix(schedule, volume))?;
    let time = jiff::civil::DateTime::strptime(TIME, time).ok()?;
    let time =
        Timestamp::from_unix(time.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second());
    // One form of each moment, and no other.
    (snapshot_name(schedule, volume, time) == name).then_some(time)
}

/// A long volume's name is cut, and told from others by a hash.
fn prefix(schedule: &str, volume: &str) -> String {
    let room = MAX_NAME_BYTES - TIME_BYTES;
    let whole = format!("{schedule}-{volume}");
    if whole.len() <= room {
        return whole;
    }
    let hash = blake3::hash(volume.as_bytes()).to_hex();
    let kept: String = whole.chars().take(room - 17).collect();
    format!("{kept}-{}", &hash.as_str()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_driver_sdk::Name;
    use proptest::prelude::*;

    #[test]
    fn as_documented() {
        let at = Timestamp::parse("2026-11-25T03:00:00Z").unwrap();
        assert_eq!(snapshot_name("nightly", "db", at), "nightly-db-20261125t030000z");
        assert_eq!(snapshot_time("nightly", "db", "nightly-db-20261125t030000z"), Some(at));
        for other in ["nightly-db-20261125t030000", "nightly-db2-20261125t030000z", "nightly-db-2026", "db"] {
            assert_eq!(snapshot_time("nightly", "db", other), None, "{other}");
        }
    }

    #[test]
    fn a_moment_that_comes_again_has_another_name() {
        let at = Timestamp::parse("2026-11-25T03:00:59Z").unwrap();
        let mut taken = Vec::new();
        for second in ["030059", "030100", "030101"] {
            let name = free_name("nightly", "db", at, |name| taken.contains(&name.to_owned()));
            assert_eq!(name, format!("nightly-db-20261125t{second}z"));
            taken.push(name);
        }
    }

    proptest! {
        #[test]
        fn names_are_names_and_read_back(
            schedule in "[a-z0-9][a-z0-9-]{1,63}", volume in "[a-z0-9][a-z0-9_.-]{1,199}",
            other in "[a-z0-9][a-z0-9_.-]{1,199}", seconds in 0i64..4_102_444_800,
        ) {
            let at = Timestamp::from_unix(seconds);
            let name = snapshot_name(&schedule, &volume, at);
            prop_assert!(Name::parse(name.clone()).is_ok(), "{}", name);
            prop_assert_eq!(snapshot_time(&schedule, &volume, &name), Some(at));
            if other != volume {
                prop_assert_eq!(snapshot_time(&schedule, &other, &name), None);
            }
        }
    }
}
