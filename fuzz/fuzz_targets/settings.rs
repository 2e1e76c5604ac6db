//! Schedules as they stand in the configuration file: read, or refused with a reason; those that are read
//! have a next moment or none, and are written and read again as the same.
#![no_main]

use convoy_schedule::Schedule;
use convoy_schedule::config::{ScheduleConfig, SchedulingConfig};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Settings {
    #[serde(default)]
    schedule: Vec<ScheduleConfig>,
    #[serde(default)]
    scheduling: Option<SchedulingConfig>,
}

fuzz_target!(|text: &str| {
    let Ok(Settings { schedule, scheduling }) = toml::from_str(text) else { return };
    let _ = format!("{scheduling:?}");
    for config in schedule {
        if let Err(error) = Schedule::new(&config) {
            assert!(!error.to_string().is_empty());
        }
        let written = toml::to_string(&config).expect("a schedule is written");
        assert_eq!(toml::from_str::<ScheduleConfig>(&written).expect("what was written is read"), config);
    }
});
