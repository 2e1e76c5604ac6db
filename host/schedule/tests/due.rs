//! What runs when, over stops, crashes, a clock that jumps and runs that are slow.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]

use convoy_driver_sdk::Timestamp;
use convoy_schedule::cron::Cron;
use convoy_schedule::due::{Decision, Timing, Why};
use convoy_schedule::record::{ATTEMPTS, RunRecord};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn later(time: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_unix(time.unix() + seconds)
}

fn timing(cron: &str, jitter: u64, catch_up: bool) -> Timing {
    let cron = Cron::parse(cron, TimeZone::UTC).unwrap();
    Timing { cron, jitter: Duration::from_secs(jitter), catch_up }
}

#[test]
fn a_volume_waits_for_its_first_moment_and_then_for_the_next() {
    let daily = timing("0 3 * * *", 0, true);
    let mut record = RunRecord::new("s1", "v1", at("2026-01-01T12:00:00Z"));
    let three = at("2026-01-02T03:00:00Z");
    assert_eq!(daily.decide(&record, at("2026-01-02T02:59:59Z")), Decision::Wait(Some(three)));
    assert_eq!(daily.decide(&record, three), Decision::Run { at: three, why: Why::OnTime });
    record.begin(three, false, three);
    record.end(Ok(String::new()), later(three, 60));
    assert_eq!(daily.decide(&record, later(three, 61)), Decision::Wait(Some(later(three, 86_400))));
}

#[test]
fn missed_runs_are_made_good_once_or_not_at_all() {
    let mut record = RunRecord::new("s1", "v1", at("2026-01-01T12:00:00Z"));
    let now = at("2026-01-05T12:00:00Z");
    let (first, newest) = (at("2026-01-02T03:00:00Z"), at("2026-01-05T03:00:00Z"));
    let once = timing("0 3 * * *", 0, true);
    assert_eq!(once.decide(&record, now), Decision::Run { at: newest, why: Why::Missed(first) });
    let never = timing("0 3 * * *", 0, false);
    assert_eq!(never.decide(&record, now), Decision::Skip { until: newest });
    assert_eq!(never.next(&record, now), Some(at("2026-01-06T03:00:00Z")));
    record.begin(newest, false, now);
    record.end(Err("no".to_owned()), now);
    assert_eq!(once.decide(&record, now), Decision::Wait(Some(at("2026-01-06T03:00:00Z"))));
}

#[test]
fn a_run_that_was_cut_off_is_repeated_but_not_for_ever() {
    let hourly = timing("@hourly", 0, true);
    let mut record = RunRecord::new("s1", "v1", at("2026-01-01T12:30:00Z"));
    let one = at("2026-01-01T13:00:00Z");
    for _ in 0..ATTEMPTS {
        let Decision::Run { at, .. } = hourly.decide(&record, one) else { panic!() };
        record.begin(at, false, one);
        // Killed.
    }
    assert_eq!(hourly.decide(&record, one), Decision::GiveUp);
    record.end(Err("cut off".to_owned()), one);
    assert_eq!(hourly.decide(&record, later(one, 5)), Decision::Wait(Some(later(one, 3600))));
}

#[test]
fn a_clock_that_was_wrong_does_not_stop_a_schedule() {
    let hourly = timing("@hourly", 0, true);
    let record = RunRecord::new("s1", "v1", at("2036-01-01T00:00:00Z"));
    let now = at("2026-01-01T12:30:00Z");
    assert_eq!(hourly.decide(&record, now), Decision::Rebase);
    assert_eq!(hourly.next(&record, now), Some(at("2026-01-01T13:00:00Z")));
}

#[test]
fn a_clock_that_is_set_back_repeats_a_run_rather_than_leaving_several_out() {
    let cases = [("@hourly", 1800), ("@daily", 12 * 3600), ("@monthly", 86_400)];
    let last = at("2026-02-01T00:00:00Z");
    for (cron, most) in cases {
        let timing = timing(cron, 0, true);
        let record = RunRecord::new("s1", "v1", last);
        let following = timing.cron.next_after(last);
        assert_eq!(timing.decide(&record, later(last, -most)), Decision::Wait(following), "{cron}");
        let back = later(last, -most - 1);
        assert_eq!(timing.decide(&record, back), Decision::Rebase, "{cron}");
        assert_eq!(timing.next(&record, back), Some(last), "{cron}");
    }
}

#[test]
fn jitter_spreads_volumes_and_stays_the_same() {
    let daily = timing("0 3 * * *", 3600, true);
    let three = at("2026-01-02T03:00:00Z");
    let begins = |volume: &str| {
        let record = RunRecord::new("s1", volume, at("2026-01-01T12:00:00Z"));
        let Decision::Wait(Some(begins)) = daily.decide(&record, at("2026-01-02T02:00:00Z")) else {
            panic!()
        };
        let delay = begins.unix() - three.unix();
        assert!((0..=3600).contains(&delay), "{delay}");
        assert_eq!(daily.decide(&record, later(begins, -1)), Decision::Wait(Some(begins)));
        assert_eq!(daily.decide(&record, begins), Decision::Run { at: three, why: Why::OnTime });
        delay
    };
    let mut quarters = BTreeMap::new();
    for volume in 0..200 {
        let name = format!("v{volume}");
        let delay = begins(&name);
        assert_eq!(delay, begins(&name));
        *quarters.entry(delay / 901).or_insert(0) += 1;
    }
    assert!(quarters.len() == 4 && quarters.values().all(|count| *count > 20), "{quarters:?}");
}

/// What may happen next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Time passes, with the daemon looking.
    Pass(i64),
    /// The daemon is down meanwhile; what ran is cut off.
    Down(i64),
    /// The clock is set, by minutes or by months.
    Set(i64),
    /// What runs ends.
    End(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1i64..4000).prop_map(Step::Pass),
        2 => (1i64..400_000).prop_map(Step::Down),
        1 => prop_oneof![-5000i64..5000, -9_000_000i64..9_000_000].prop_map(Step::Set),
        5 => any::<bool>().prop_map(Step::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// No moment runs twice but after a cut-off, nothing runs before its time, what is due runs at once, and
    /// however long the daemon was away one run makes good for it.
    #[test]
    fn no_moment_is_lost_or_repeated(
        steps in prop::collection::vec(step(), 1..80),
        cron in prop::sample::select(vec!["*/5 * * * *", "@hourly", "0 3 * * *", "30 2 * * 1"]),
        jitter in prop::sample::select(vec![0u64, 30, 1800]), catch_up: bool,
    ) {
        // As the configuration is checked: shorter than the time between two runs.
        let jitter = if cron == "*/5 * * * *" { jitter.min(299) } else { jitter };
        let timing = timing(cron, jitter, catch_up);
        let mut now = at("2026-01-01T12:34:56Z");
        let mut record = RunRecord::new("s1", "v1", now);
        let mut running = false;
        let mut begun: Vec<(Timestamp, bool)> = Vec::new();
        for step in steps {
            match step {
                Step::Pass(seconds) => now = later(now, seconds),
                Step::Down(seconds) => { now = later(now, seconds); running = false; }
                Step::Set(seconds) => now = later(now, seconds),
                Step::End(good) if running => {
                    record.end(if good { Ok("url".to_owned()) } else { Err("no".to_owned()) }, now);
                    running = false;
                }
                Step::End(_) => {}
            }
            let mut decisions = 0;
            while !running {
                decisions += 1;
                prop_assert!(decisions < 5, "it goes round in circles");
                let decision = timing.decide(&record, now);
                match decision {
                    Decision::Wait(next) => {
                        let next = next.unwrap();
                        prop_assert!(next > now);
                        prop_assert_eq!(timing.next(&record, now), Some(next));
                        prop_assert!(timing.cron.next_after(record.last).unwrap() <= next);
                        break;
                    }
                    Decision::Run { at, why } => {
                        let again = why == Why::CutOff;
                        prop_assert_eq!(timing.cron.last_until(at), Some(at), "a moment of the schedule");
                        if !again {
                            prop_assert!(at <= now && at > record.last);
                            prop_assert!(begun.iter().all(|(other, rebased)| *rebased || *other < at), "{} again", at);
                            if let Why::Missed(first) = why {
                                prop_assert!(catch_up && first <= at);
                            }
                        }
                        record.begin(at, false, now);
                        begun.push((at, false));
                        running = true;
                    }
                    Decision::Skip { until } => {
                        prop_assert!(!catch_up && until > record.last && until <= now);
                        record.last = until;
                    }
                    Decision::GiveUp => {
                        prop_assert!(record.running.is_some());
                        record.end(Err("cut off".to_owned()), now);
                    }
                    Decision::Rebase => {
                        prop_assert!(record.last > now);
                        record.last = now;
                        // Moments that the wrong clock had reached come again.
                        begun.iter_mut().for_each(|(_, rebased)| *rebased = true);
                    }
                }
            }
        }
    }
}
