//! The schedules of the file, checked; what is wrong is told with its line.

use super::error::ConfigError;
use super::file::File;
use convoy_backup::{ExcludeRules, KeepUntil, LabelError, Labels};
use convoy_cli::settings::EMBEDDED_DRIVER;
use convoy_objectstore::{Destination, forms, scheme, split};
use convoy_schedule::config::PinConfig;
use convoy_schedule::schedule::Reason;
use convoy_schedule::{InvalidSchedule, Schedule};
use std::collections::BTreeMap;

pub(super) fn schedules(file: &File, drivers: &[String]) -> Result<Vec<Schedule>, ConfigError> {
    let schedules = Schedule::all(&file.tables.schedule).map_err(|error| wrong(file, error))?;
    for schedule in &schedules {
        if let Err(expected) = destination(&schedule.destination, drivers) {
            let why = Reason::Destination { url: schedule.destination.clone(), expected };
            let error = InvalidSchedule { name: schedule.name.clone(), why };
            return Err(wrong(file, error));
        }
        // A typing error would else be found at night.
        if let Err(error) = rules(schedule).check() {
            let why = Reason::Exclude(error.to_string());
            return Err(wrong(file, InvalidSchedule { name: schedule.name.clone(), why }));
        }
        if let Err((field, error)) = labels(schedule) {
            let why = Reason::Label { field, why: error.to_string() };
            return Err(wrong(file, InvalidSchedule { name: schedule.name.clone(), why }));
        }
    }
    Ok(schedules)
}

/// Checks what the backups of a schedule get. A date may be past: then new backups are no longer pinned, and
/// that keeps no daemon from starting.
fn labels(schedule: &Schedule) -> Result<(), (&'static str, LabelError)> {
    let of = |tags, note| Labels { tags, note, keep_until: None }.check();
    of(schedule.tags.clone(), String::new()).map_err(|error| ("tags", error))?;
    of(BTreeMap::new(), schedule.note.clone()).map_err(|error| ("note", error))?;
    match &schedule.keep_until {
        Some(PinConfig::Until(text)) => {
            KeepUntil::parse(text, jiff::Timestamp::MIN).map(drop).map_err(|error| ("keep-until", error))
        }
        Some(PinConfig::Days(_)) | None => Ok(()),
    }
}

/// What a schedule leaves out of its backups.
fn rules(schedule: &Schedule) -> ExcludeRules {
    ExcludeRules {
        patterns: schedule.exclude_files.clone(),
        if_present: schedule.exclude_if_present.clone(),
        caches: schedule.exclude_caches,
        ignore_file: schedule.allow_convoyignore,
    }
}

fn wrong(file: &File, error: InvalidSchedule) -> ConfigError {
    // Of two schedules of one name the later one is the mistake.
    let number = file.tables.schedule.iter().rposition(|config| config.name == error.name);
    let number = number.unwrap_or_default();
    let key = [error.why.field(), "name"]
        .map(|field| format!("schedule.{number}.{field}"))
        .into_iter()
        .find(|key| file.line(key).is_some());
    ConfigError::Schedule { at: file.at(&key.unwrap_or_default()), error }
}

/// Checks that backups can go there: to a store, or to the storage of a driver. A typing error would else be
/// found at night.
fn destination(url: &str, drivers: &[String]) -> Result<(), String> {
    let (name, _) = split(url);
    match scheme(name) {
        _ if url.is_empty() => Ok(()),
        Some(_) => url.parse::<Destination>().map(|_| ()).map_err(|error| error.to_string()),
        // What a driver calls its own storage it says when it is open.
        None if !name.is_empty() && !drivers.iter().all(|driver| is_embedded(driver)) => Ok(()),
        None => {
            let forms = forms(", ");
            Err(format!("expected {forms}, or a driver of this daemon that keeps backups itself"))
        }
    }
}

fn is_embedded(driver: &str) -> bool {
    driver.rsplit(':').next() == Some(EMBEDDED_DRIVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let plain = "[[schedule]]\nname = \"one\"\ncron = \"@daily\"\nvolumes = [\"*\"]\nkind = \"backup\"\n";
        for (more, line, said) in [
            (
                "destination = \"gs://bucket/x\"",
                12,
                "invalid destination \"gs://bucket/x\": expected vfs:///dir/",
            ),
            ("destination = \"/srv/backups\"", 12, "expected vfs:///dir/"),
            ("destination = \"vfs://srv\"", 12, "VFS path must follow"),
            ("destination = \"vfs:///srv\"\njitter = \"2d\"", 13, "invalid jitter"),
            ("destination = \"vfs:///srv\"\nexclude-files = [\"[z-a]\"]", 13, "invalid pattern \"[z-a]\""),
            ("destination = \"vfs:///srv\"\ntags = { \"a b\" = \"c\" }", 8, "invalid tag \"a b\""),
            ("destination = \"vfs:///srv\"\nkeep-until = \"soon\"", 13, "invalid date \"soon\""),
            ("timezone = \"Mars\"", 12, "invalid timezone \"Mars\""),
            ("keep = { last = 0 }", 8, "keep has no rule"),
        ] {
            let text = format!("{plain}\n{}{more}\n", plain.replace("one", "two"));
            let file = File::parse(Path::new("/etc/convoy/convoy.toml"), &text).unwrap();
            let error = schedules(&file, &["vfs".to_owned()]).unwrap_err().to_string();
            assert!(error.starts_with("schedule \"two\": ") && error.contains(said), "{more}: {error}");
            assert!(error.ends_with(&format!("(/etc/convoy/convoy.toml:{line})")), "{more}: {error}");
        }
        let past = format!("{plain}keep-until = \"2001-01-01\"\n");
        let file = File::parse(Path::new("c.toml"), &past).unwrap();
        assert!(schedules(&file, &["vfs".to_owned()]).is_ok(), "it only pins no more");
        let text = plain.replace("@daily", "61 3 * * *");
        let file = File::parse(Path::new("c.toml"), &text).unwrap();
        assert_eq!(
            schedules(&file, &[]).unwrap_err().to_string(),
            "schedule \"one\": invalid cron expression \"61 3 * * *\": number out of bounds; expected \
             minute, hour, day of month, month and day of week, like \"30 3 * * *\" (c.toml:3)"
        );
        let file = File::parse(Path::new("c.toml"), &format!("{plain}{plain}")).unwrap();
        assert!(schedules(&file, &[]).unwrap_err().to_string().ends_with("(c.toml:7)"), "the second of two");
    }

    #[test]
    fn a_driver_may_keep_backups_itself() {
        let some = ["builtin:vfs".to_owned(), "/opt/libconvoy_driver_digitalocean.so".to_owned()];
        for good in ["", "do://fra1/", "s3://bucket/", "vfs:///srv/backups"] {
            assert_eq!(destination(good, &some), Ok(()), "{good}");
        }
        for bad in ["do://fra1/", "://", "vfs", "s3://", "vfs://x/"] {
            assert!(destination(bad, &some[..1]).is_err(), "{bad}");
        }
    }
}
