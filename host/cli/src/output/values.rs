//! Sizes, times and URLs, for people.

use convoy_driver_sdk::Timestamp;
use indicatif::HumanBytes;

/// A size that an answer has as text; a dash where there is none.
pub(super) fn size(bytes: Option<&String>) -> String {
    match bytes.and_then(|text| text.parse().ok()) {
        Some(0) | None => "-".to_owned(),
        Some(bytes) => self::bytes(bytes),
    }
}

pub(super) fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// A time in the user's own time zone; what is no time stays as it is.
pub(super) fn time(text: &str) -> String {
    let Ok(time) = Timestamp::parse(text) else { return text.to_owned() };
    match jiff::Timestamp::from_second(time.unix()) {
        Ok(time) => {
            time.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        Err(_) => text.to_owned(),
    }
}

/// Seconds since the epoch, to sort by; what is no time comes first.
pub(crate) fn seconds(text: &str) -> i64 {
    Timestamp::parse(text).map_or(i64::MIN, Timestamp::unix)
}

pub(super) fn duration(millis: u64) -> String {
    match millis {
        0..10_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        10_000..120_000 => format!("{} s", millis / 1000),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
    }
}

pub(super) fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

pub(super) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// A text quoted for a shell, to be copied as it stands.
pub(super) fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A word of a command, quoted only where a shell would not take it as it stands.
pub(crate) fn word(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:".contains(letter);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { shell(text) }
}
