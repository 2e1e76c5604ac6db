//! Sectors, the unit in which device-mapper counts; everything else here counts bytes.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A number of sectors of 512 bytes. In a record it is the plain number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sectors(pub u64);

impl Sectors {
    /// Bytes in a sector.
    const SIZE: u64 = 512;

    /// The whole sectors in `bytes`.
    pub const fn of_bytes(bytes: u64) -> Self {
        Self(bytes / Self::SIZE)
    }

    /// The most that fits is `u64::MAX`: no device is that large.
    pub const fn bytes(self) -> u64 {
        self.0.saturating_mul(Self::SIZE)
    }

    /// Rounds down to a multiple of `step`, which is not 0.
    pub const fn round_down(self, step: Self) -> Self {
        Self(self.0 - self.0 % step.0)
    }

    /// Whether it is a multiple of `step`, which is not 0.
    pub const fn is_multiple_of(self, step: Self) -> bool {
        self.0.is_multiple_of(step.0)
    }
}

impl fmt::Display for Sectors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_and_bytes_are_told_apart() {
        assert_eq!(Sectors::of_bytes(1023), Sectors(1));
        assert_eq!(Sectors(4096).bytes(), 2 << 20);
        assert_eq!(Sectors(u64::MAX).bytes(), u64::MAX);
        assert_eq!(Sectors(1003).round_down(Sectors(8)), Sectors(1000));
        assert!(Sectors(1000).is_multiple_of(Sectors(8)) && !Sectors(1003).is_multiple_of(Sectors(8)));
        assert_eq!(serde_json::to_string(&Sectors(128)).unwrap(), "128");
    }
}
