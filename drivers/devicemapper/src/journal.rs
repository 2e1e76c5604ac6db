//! Ids of thin devices: given out once, and written down before the kernel is asked.
//!
//! Whoever makes or deletes a thin device says so here first ([`Journal::begin`], [`Journal::doom`]) and says
//! here when its record is settled ([`Journal::end`]). What a crash, or an undo that failed, leaves in
//! between is found by [`Journal::abandoned`] and settled by the one rule of [`PendingDevice`].

use crate::error::{Error, Result};
use crate::state::{MAX_THIN_ID, PendingDevice, PoolConfig, ThinId};
use convoy_driver_sdk::DriverError;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The ids of one pool.
#[derive(Debug)]
pub struct Journal {
    root: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: PoolConfig,
    /// Ids that must not be given out: those of records, of the pool, and the pending ones.
    taken: BTreeSet<ThinId>,
    /// Pending ids that a running call looks after.
    attended: BTreeSet<ThinId>,
}

impl Journal {
    /// The ids that an earlier life left in `config`, all of them abandoned; `taken` must not be given out.
    pub fn new(root: &Path, config: PoolConfig, mut taken: BTreeSet<ThinId>) -> Self {
        taken.extend(config.pending.iter().map(|pending| pending.dev_id));
        let inner = Inner { config, taken, attended: BTreeSet::new() };
        Self { root: root.to_owned(), inner: Mutex::new(inner) }
    }

    /// A new id for what is about to be made. When this returns, it is on disk that it is being made.
    ///
    /// # Errors
    /// `Exhausted` when all ids of the pool are in use; [`Error::Io`].
    pub fn begin(&self, what: &str) -> Result<ThinId> {
        let mut inner = self.inner.lock();
        let id = inner.free().ok_or_else(|| {
            DriverError::exhausted(format!("all {MAX_THIN_ID} device ids of the pool are in use"))
                .hint("delete snapshots and volumes that are not needed")
        })?;
        let mut config = inner.config.clone();
        config.last_dev_id = id;
        config.pending.push(PendingDevice { dev_id: id, what: what.to_owned() });
        self.write(&mut inner, config)?;
        inner.taken.insert(id);
        inner.attended.insert(id);
        Ok(id)
    }

    /// Notes that these ids are to be deleted as soon as no record names them.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is noted.
    pub fn doom(&self, ids: &[ThinId], what: &str) -> Result<()> {
        let mut inner = self.inner.lock();
        let mut config = inner.config.clone();
        config.pending.extend(ids.iter().map(|id| PendingDevice { dev_id: *id, what: what.to_owned() }));
        self.write(&mut inner, config)?;
        inner.attended.extend(ids);
        Ok(())
    }

    /// What was begun is settled: a record names these ids, or (`gone`) the pool no longer has them. Should
    /// writing it down fail, the next start finds the same.
    pub fn end(&self, ids: &[ThinId], gone: bool) {
        let mut inner = self.inner.lock();
        let mut config = inner.config.clone();
        config.pending.retain(|pending| !ids.contains(&pending.dev_id));
        inner.attended.retain(|id| !ids.contains(id));
        if gone {
            inner.taken.retain(|id| !ids.contains(id));
        }
        if let Err(error) = self.write(&mut inner, config.clone()) {
            tracing::warn!(%error, ?ids, "cannot note that a change is complete: the next start will find out");
            inner.config = config;
        }
    }

    /// Nobody looks after these ids any more; [`Journal::abandoned`] names them from now on.
    pub fn abandon(&self, ids: &[ThinId]) {
        self.inner.lock().attended.retain(|id| !ids.contains(id));
    }

    pub fn pending(&self) -> BTreeSet<ThinId> {
        self.inner.lock().config.pending.iter().map(|pending| pending.dev_id).collect()
    }

    /// Pending ids that no running call looks after.
    pub fn abandoned(&self) -> Vec<PendingDevice> {
        let inner = self.inner.lock();
        let pending = inner.config.pending.iter();
        pending.filter(|pending| !inner.attended.contains(&pending.dev_id)).cloned().collect()
    }

    /// Never give out this id: the pool has it, though no record does.
    pub fn avoid(&self, id: ThinId) {
        self.inner.lock().taken.insert(id);
    }

    fn write(&self, inner: &mut Inner, config: PoolConfig) -> Result<()> {
        config.save(&self.root).map_err(Error::io(format_args!(
            "write {}",
            self.root.join(crate::state::CONFIG_FILE).display()
        )))?;
        inner.config = config;
        Ok(())
    }
}

impl Inner {
    /// The next id after the last one that is free, beginning again at 1 behind the end.
    fn free(&self) -> Option<ThinId> {
        let last = self.config.last_dev_id;
        (last.saturating_add(1)..=MAX_THIN_ID)
            .chain(1..=last.min(MAX_THIN_ID))
            .find(|id| !self.taken.contains(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reopened(dir: &Path, taken: &BTreeSet<ThinId>) -> Journal {
        Journal::new(dir, PoolConfig::load(dir).unwrap().unwrap_or_default(), taken.clone())
    }

    #[test]
    fn an_id_is_on_disk_before_it_is_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let journal = reopened(dir.path(), &BTreeSet::from([1, 3]));
        assert_eq!(journal.begin("create volume aa").unwrap(), 2);
        assert_eq!(journal.begin("create volume bb").unwrap(), 4);
        assert!(journal.abandoned().is_empty());
        journal.end(&[2], false);

        let again = reopened(dir.path(), &BTreeSet::from([1, 2, 3]));
        assert_eq!(again.abandoned(), [PendingDevice { dev_id: 4, what: "create volume bb".to_owned() }]);
        assert_eq!(again.begin("next").unwrap(), 5);
        again.doom(&[1, 3], "delete").unwrap();
        assert_eq!(again.abandoned().len(), 1);
        again.abandon(&[3]);
        assert_eq!(again.abandoned().len(), 2);
        again.end(&[1, 3, 4, 5], true);
        assert!(reopened(dir.path(), &BTreeSet::new()).abandoned().is_empty());
    }

    #[test]
    fn behind_the_last_id_the_first_free_one_follows() {
        let dir = tempfile::tempdir().unwrap();
        let config = PoolConfig { last_dev_id: MAX_THIN_ID - 1, ..PoolConfig::default() };
        let journal = Journal::new(dir.path(), config, BTreeSet::from([1, 2]));
        assert_eq!(journal.begin("a").unwrap(), MAX_THIN_ID);
        assert_eq!(journal.begin("b").unwrap(), 3);
        journal.avoid(4);
        assert_eq!(journal.begin("c").unwrap(), 5);
    }

    #[test]
    fn what_cannot_be_written_is_not_given_out() {
        let journal = Journal::new(Path::new("/nonexistent"), PoolConfig::default(), BTreeSet::new());
        assert!(journal.begin("a").is_err());
        assert!(journal.doom(&[1], "b").is_err());
        assert!(journal.abandoned().is_empty());
    }

    proptest! {
        // Every step is synced to disk.
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Any sequence of begins, ends and restarts gives an id to one thing at a time, and forgets none.
        #[test]
        fn no_id_is_given_out_twice(steps in proptest::collection::vec(0u8..4, 1..40)) {
            let dir = tempfile::tempdir().unwrap();
            let mut recorded = BTreeSet::new();
            let mut open: Vec<ThinId> = Vec::new();
            let mut journal = reopened(dir.path(), &recorded);
            for step in steps {
                match step {
                    0 | 1 => {
                        let id = journal.begin("x").unwrap();
                        prop_assert!(!recorded.contains(&id) && !open.contains(&id));
                        open.push(id);
                    }
                    2 => if let Some(id) = open.pop() {
                        recorded.insert(id);
                        journal.end(&[id], false);
                    },
                    _ => {
                        journal = reopened(dir.path(), &recorded);
                        let mut left: Vec<_> = journal.abandoned().iter().map(|p| p.dev_id).collect();
                        left.sort_unstable();
                        open.sort_unstable();
                        prop_assert_eq!(&left, &open);
                    }
                }
            }
        }
    }
}
