//! Moments as convoy writes them: `Mon Nov 23 08:38:07 +0000 2026`.

use jiff::{Timestamp, fmt::strtime};

const FORMAT: &str = "%a %b %d %H:%M:%S %z %Y";

/// The present moment, as records have it.
#[must_use]
pub fn now() -> String {
    format(Timestamp::now())
}

/// A moment in UTC.
#[must_use]
pub fn format(moment: Timestamp) -> String {
    moment.strftime(FORMAT).to_string()
}

/// A moment read back; `None` if it is not one.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    strtime::parse(FORMAT, text).and_then(|t| t.to_timestamp()).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_form_is_that_of_0_5() {
        let text = "Mon Nov 23 08:38:07 +0000 2026";
        let moment = super::parse(text).unwrap();
        assert_eq!(super::format(moment), text);
        assert_eq!(moment.as_second(), 1_795_423_087);
        assert!(super::parse("yesterday").is_none());
        // Other zones are understood: a host may not keep UTC.
        assert_eq!(super::parse("Mon Nov 23 10:38:07 +0200 2026"), Some(moment));
    }
}
