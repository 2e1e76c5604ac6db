//! How large a tree is, as far as that can be found out in bounded time.

use std::path::Path;
use std::time::{Duration, Instant};

use convoy_driver_sdk::tree::{Found, WalkEntry, WalkOptions, walk};

/// What may still be spent on adding up.
#[derive(Debug)]
pub(crate) struct Budget {
    end: Instant,
    entries: usize,
}

impl Budget {
    pub(crate) fn new(time: Duration, entries: usize) -> Self {
        Self { end: Instant::now() + time, entries }
    }

    /// Adds up what `part` says of each entry below a directory, and says whether that was all of them: a
    /// tree that grows all the time is given up with the budget, and so is what cannot be read.
    pub(crate) fn add_up(&mut self, dir: &Path, part: impl Fn(&WalkEntry) -> u64) -> (u64, bool) {
        let Ok(found) = walk(dir, WalkOptions { xattrs: false, ..WalkOptions::default() }) else {
            return (0, false);
        };
        let (mut bytes, mut all) = (0_u64, true);
        for found in found {
            if self.entries == 0 || Instant::now() >= self.end {
                return (bytes, false);
            }
            self.entries -= 1;
            match found {
                Ok(Found::Entry(found)) => bytes = bytes.saturating_add(part(&found)),
                Ok(_) => {}
                Err(_) => all = false,
            }
        }
        (bytes, all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn what_is_over_the_budget_is_told_as_a_part() {
        let dir = tempfile::tempdir().unwrap();
        for file in 0..20 {
            std::fs::write(dir.path().join(file.to_string()), "1234").unwrap();
        }
        let size = |budget: &mut Budget| budget.add_up(dir.path(), |found| u64::from(found.entry.is_file()));
        assert_eq!(size(&mut Budget::new(LONG, 1000)), (20, true));
        // The directory is the first of ten.
        let mut budget = Budget::new(LONG, 10);
        assert_eq!(size(&mut budget), (9, false));
        assert_eq!(size(&mut budget), (0, false), "nothing is left for the next");
        assert_eq!(size(&mut Budget::new(Duration::ZERO, 1000)), (0, false));
        assert_eq!(budget.add_up(&dir.path().join("none"), |_| 1), (0, false));
    }
}
