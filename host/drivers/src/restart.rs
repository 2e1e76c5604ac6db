//! When the program of a driver that ended is started again.

use std::time::Duration;

/// When a process that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// The pause before the first restart; doubled for each that follows soon.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// A process that ran this long was well: the counting begins anew.
    pub well_after: Duration,
    /// After so many ends in a row the driver is given up.
    pub give_up_after: u32,
}

impl RestartPolicy {
    /// A process that ends is not started again.
    pub const NEVER: Self = Self {
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
        well_after: Duration::MAX,
        give_up_after: 1,
    };
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            well_after: Duration::from_secs(60),
            give_up_after: 8,
        }
    }
}
