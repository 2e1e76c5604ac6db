//! Sizes in the unit that clouds sell, so that none is taken for bytes.

use std::fmt;

/// A size in GiB, the unit that clouds sell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gib(pub u64);

impl Gib {
    /// The least whole number of GiB that holds so many bytes.
    pub fn holding(bytes: u64) -> Self {
        Self(bytes.div_ceil(1 << 30))
    }

    pub fn bytes(self) -> u64 {
        self.0.saturating_mul(1 << 30)
    }
}

impl fmt::Display for Gib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} GiB", self.0)
    }
}
