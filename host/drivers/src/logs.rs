//! From a driver's log to the host's.

use convoy_driver_sdk::Name;
use convoy_driver_sdk::wire::{LogLevel, LogRecord};
use tracing::level_filters::LevelFilter;

/// What drivers are asked to log: what this program logs.
pub(crate) fn level() -> LogLevel {
    match LevelFilter::current() {
        LevelFilter::TRACE => LogLevel::Trace,
        LevelFilter::DEBUG => LogLevel::Debug,
        LevelFilter::INFO => LogLevel::Info,
        LevelFilter::WARN => LogLevel::Warn,
        _ => LogLevel::Error,
    }
}

/// The same for the library carrier.
pub(crate) fn level_number() -> u8 {
    match level() {
        LogLevel::Error => 1,
        LogLevel::Warn => 2,
        LogLevel::Info => 3,
        LogLevel::Debug => 4,
        LogLevel::Trace => 5,
    }
}

/// Whether only warnings and errors of a target may be logged, whatever is asked for: what the AWS SDK logs
/// beside them has the ids of access keys, and whole requests.
pub fn is_indiscreet(target: &str) -> bool {
    target.starts_with("aws_")
}

pub(crate) fn emit(driver: &Name, record: &LogRecord) {
    if is_indiscreet(&record.target) && !matches!(record.level, LogLevel::Warn | LogLevel::Error) {
        return;
    }
    let fields = if record.fields.is_empty() { None } else { serde_json::to_string(&record.fields).ok() };
    macro_rules! emit {
        ($level:ident) => {
            tracing::$level!(
                target: "convoy::driver",
                driver = driver.as_str(),
                origin = record.target,
                request_id = record.request_id,
                fields,
                "{}",
                record.message
            )
        };
    }
    match record.level {
        LogLevel::Trace => emit!(trace),
        LogLevel::Debug => emit!(debug),
        LogLevel::Info => emit!(info),
        LogLevel::Warn => emit!(warn),
        LogLevel::Error => emit!(error),
    }
}
