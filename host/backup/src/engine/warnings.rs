//! What of a source is not in a backup, counted and told.

use convoy_tree::Entry;
use parking_lot::Mutex;

/// How many are kept word by word.
const KEPT: usize = 100;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    all: Mutex<(u64, Vec<String>)>,
}

impl Warnings {
    /// Counts one, and logs it while there are few.
    pub(crate) fn say(&self, text: String) {
        let mut all = self.all.lock();
        all.0 += 1;
        if all.1.len() < KEPT {
            tracing::warn!("not in the backup: {text}");
            all.1.push(text);
        }
    }

    /// Tells something, of which nothing is missing in the backup.
    pub(crate) fn note(&self, text: String) {
        tracing::warn!("{text}");
        self.all.lock().1.push(text);
    }

    /// What could not be read of an entry.
    pub(crate) fn say_unread(&self, entry: &Entry) {
        entry.unread.iter().for_each(|problem| self.say(format!("{}: {problem}", entry.path)));
    }

    /// How many there are, and the first of them.
    pub(crate) fn into_inner(self) -> (u64, Vec<String>) {
        self.all.into_inner()
    }
}
