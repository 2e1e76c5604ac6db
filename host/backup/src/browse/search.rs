//! Searches through the segments of a manifest: few of them are read, however many there are.

use convoy_tree::RelPath;

use super::manifest::{Manifest, Place};
use crate::error::BackupResult;

impl Manifest {
    /// The first segment from `number` on, and before `end`, with a path of its own.
    fn next_path(&self, number: usize, end: usize) -> BackupResult<Option<(usize, RelPath)>> {
        for number in number..end {
            if let Some(path) = self.first_path(number)? {
                return Ok(Some((number, path)));
            }
        }
        Ok(None)
    }

    /// The first item from segment `from` on that is not `before`, which holds for all items up to one and
    /// for none from there on. Reads about as many segments as the logarithm of their number.
    pub(super) fn search(
        &self,
        from: usize,
        before: &dyn Fn(&RelPath) -> bool,
    ) -> BackupResult<Option<Place>> {
        // Segments up to `low` begin before, those from `high` on do not.
        let (mut low, mut high): (Option<(usize, RelPath)>, _) = (None, self.count());
        let mut high_path: Option<RelPath> = None;
        // Small steps at first if it may be near.
        let mut step = if from == 0 { self.count() / 2 } else { 1 };
        let mut probe = if from == 0 { step } else { from };
        loop {
            let least = low.as_ref().map_or(from, |(low, _)| low + 1);
            if least >= high {
                break;
            }
            if probe < least || probe >= high {
                probe = least + (high - least) / 2;
            }
            match self.next_path(probe, high)? {
                None => high = probe,
                Some((number, path)) => {
                    let ordered = low.as_ref().is_none_or(|(_, low)| *low < path)
                        && high_path.as_ref().is_none_or(|high| path < *high);
                    if !ordered {
                        return Err(self.damaged(format_args!("{} is not in order", path.shown())));
                    }
                    if before(&path) {
                        probe = number.saturating_add(step);
                        step = step.saturating_mul(2);
                        low = Some((number, path));
                    } else {
                        (high, high_path) = (probe, Some(path));
                    }
                }
            }
        }
        if let Some((number, _)) = &low {
            let parsed = self.segment(*number, 0)?;
            if let Some(index) = parsed.first_not(0, before) {
                return Ok(Some(Place { segment: *number, index, parsed }));
            }
        }
        self.first_from(low.map_or(from, |(number, _)| number + 1), 0)
    }

    /// The first item from segment `from` on that is no continuation.
    fn first_from(&self, from: usize, ahead: usize) -> BackupResult<Option<Place>> {
        for number in from..self.count() {
            let parsed = self.segment(number, ahead)?;
            if let Some(index) = parsed.own(0) {
                return Ok(Some(Place { segment: number, index, parsed }));
            }
        }
        Ok(None)
    }

    /// The next item behind `place` that is not `before`, as for [`Self::search`]. Looks nowhere else if it
    /// is in the same segment.
    pub(super) fn search_behind(
        &self,
        place: &Place,
        before: &dyn Fn(&RelPath) -> bool,
    ) -> BackupResult<Option<Place>> {
        let number = place.parsed.up_to(place.index);
        match place.parsed.first_not(number, before) {
            Some(index) => Ok(Some(Place { index, ..place.clone() })),
            None => self.search(place.segment + 1, before),
        }
    }

    /// The next item behind `place` that is no continuation. Segments ahead come along.
    pub(super) fn next(&self, place: &Place, ahead: usize) -> BackupResult<Option<Place>> {
        let number = place.parsed.up_to(place.index);
        let next = match place.parsed.own(number) {
            Some(index) => Some(Place { index, ..place.clone() }),
            None => self.first_from(place.segment + 1, ahead)?,
        };
        let path = |place: &Place| place.item().map(|item| item.path.clone());
        match next {
            Some(next) if path(&next) <= path(place) => {
                Err(self.damaged(format_args!("{} is not in order", path(place).unwrap_or_default().shown())))
            }
            next => Ok(next),
        }
    }
}
