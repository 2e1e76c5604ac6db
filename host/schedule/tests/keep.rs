//! What is kept, against a model that is slow and obvious.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use convoy_driver_sdk::Timestamp;
use convoy_schedule::config::{Count, KeepConfig};
use convoy_schedule::keep::{Candidate, Protection, Rules};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn zoned(at: Timestamp, zone: &TimeZone) -> jiff::ZonedDateTime {
    jiff::Timestamp::from_second(at.unix()).unwrap().to_zoned_datetime(zone.clone())
}

/// One rule by its words: of each part of time that has one the newest, of the newest so many parts; the
/// oldest of all too while there are fewer parts.
fn model(times: &[Timestamp], count: Count, part: impl Fn(Timestamp) -> String) -> BTreeSet<Timestamp> {
    let count = match count {
        Count::Some(count) => count as usize,
        Count::All => usize::MAX,
    };
    let parts: BTreeSet<String> = times.iter().map(|time| part(*time)).collect();
    let mut newest: Vec<Timestamp> =
        parts.iter().map(|name| *times.iter().filter(|time| part(**time) == *name).max().unwrap()).collect();
    newest.sort_unstable();
    let fewer = newest.len() < count;
    let mut kept: BTreeSet<Timestamp> = newest.into_iter().rev().take(count).collect();
    kept.extend(times.iter().min().filter(|_| fewer));
    kept
}

fn count() -> impl Strategy<Value = Count> {
    prop_oneof![3 => Just(Count::Some(0)), 6 => (1u32..8).prop_map(Count::Some), 1 => Just(Count::All)]
}

/// Bursts of moments: some in one hour, some years apart.
fn times() -> impl Strategy<Value = BTreeSet<i64>> {
    let scale = prop::sample::select(vec![60i64, 3600, 86_400, 7 * 86_400, 31 * 86_400, 400 * 86_400]);
    (1_600_000_000i64..1_900_000_000, prop::collection::vec((scale, 0i64..40), 0..60)).prop_map(
        |(start, steps)| {
            let mut time = start;
            steps
                .into_iter()
                .map(|(scale, steps)| {
                    time += scale * steps / 13 + 1;
                    time
                })
                .collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn rules_are_those_of_the_model(
        times in times(), last in count(), hourly in count(), daily in count(), weekly in count(),
        monthly in count(), yearly in count(),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
    ) {
        let zone = TimeZone::get(zone).unwrap();
        let config = KeepConfig { last, hourly, daily, weekly, monthly, yearly };
        let Ok(rules) = Rules::new(&config, zone.clone()) else {
            prop_assert_eq!(config, KeepConfig::default());
            return Ok(());
        };
        let times: Vec<Timestamp> = times.into_iter().map(Timestamp::from_unix).collect();
        let candidates: Vec<_> = times.iter().map(|at| Candidate { id: *at, at: *at, protected: None }).collect();
        let format = |format: &'static str| { let zone = zone.clone(); move |at| zoned(at, &zone).strftime(format).to_string() };
        let mut expected = BTreeSet::new();
        expected.extend(model(&times, last, |at| at.unix().to_string()));
        expected.extend(model(&times, hourly, format("%Y-%m-%d %H")));
        expected.extend(model(&times, daily, format("%Y-%m-%d")));
        expected.extend(model(&times, weekly, format("%G-%V")));
        expected.extend(model(&times, monthly, format("%Y-%m")));
        expected.extend(model(&times, yearly, format("%Y")));

        let plan = rules.apply(&candidates);
        let kept: BTreeSet<Timestamp> = plan.keep.iter().map(|kept| kept.id).collect();
        prop_assert_eq!(&kept, &expected);
        // What is kept is kept again: applying the rules often removes no more than applying them once.
        let left: Vec<_> = candidates.into_iter().filter(|one| kept.contains(&one.id)).collect();
        prop_assert!(rules.apply(&left).remove.is_empty());
        // The newest is never removed.
        prop_assert_eq!(plan.keep.first().map(|kept| kept.id), times.last().copied());
    }

    /// Whatever is protected stays, and what the schedule did not make, or a wrong clock dated, changes
    /// nothing for the rest.
    #[test]
    fn protection_holds_and_strangers_do_not_count(
        times in times(), choices in prop::collection::vec(0u8..7, 60), keep in 1u32..4,
    ) {
        let config = KeepConfig { last: Count::Some(keep), ..KeepConfig::default() };
        let rules = Rules::new(&config, TimeZone::UTC).unwrap();
        let candidates: Vec<_> = times
            .iter()
            .zip(choices)
            .map(|(at, choice)| Candidate {
                id: *at,
                at: Timestamp::from_unix(*at),
                protected: match choice {
                    0 => Some(Protection::NotOurs),
                    1 => Some(Protection::Base),
                    2 => Some(Protection::Ahead),
                    3 => Some(Protection::Pinned),
                    _ => None,
                },
            })
            .collect();
        let plan = rules.apply(&candidates);
        for one in candidates.iter().filter(|one| one.protected.is_some()) {
            prop_assert!(!plan.remove.contains(&one.id));
        }
        let beside = [Some(Protection::NotOurs), Some(Protection::Ahead), Some(Protection::Pinned)];
        let ours: Vec<_> =
            candidates.iter().filter(|one| !beside.contains(&one.protected)).cloned().collect();
        prop_assert_eq!(rules.apply(&ours).remove, plan.remove);
    }
}

/// The example of restic's manual for `--keep-daily 4`: days without one do not count.
#[test]
fn days_without_one_do_not_count() {
    let config = KeepConfig { daily: Count::Some(4), ..KeepConfig::default() };
    let rules = Rules::new(&config, TimeZone::UTC).unwrap();
    let sundays: Vec<_> = [7, 14, 21, 28]
        .into_iter()
        .map(|day| format!("2012-10-{day:02}T09:00:00Z"))
        .chain((1..=5).map(|week| format!("2012-11-{:02}T09:00:00Z", week * 4)))
        .map(|text| Timestamp::parse(&text).unwrap())
        .map(|at| Candidate { id: at, at, protected: None })
        .collect();
    let plan = rules.apply(&sundays);
    assert_eq!(plan.keep.len(), 4);
    assert!(plan.keep.iter().all(|kept| kept.reasons == ["daily"]));
    assert_eq!(plan.remove.len(), 5);
    assert_eq!(plan.remove[0].to_string(), "2012-10-07T09:00:00Z", "the oldest first");
}
