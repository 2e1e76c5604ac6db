//! Names of one file. An archive has it under the one that it came upon first; readers of a tree expect the
//! first one in the order of a walk.

use std::collections::HashMap;

use convoy_tree::RelPath;

use super::record::Record;
use crate::error::BackupResult;
use crate::memory::Charge;

/// Memory for a name, beside its bytes.
const NAME: usize = 256;

/// See the [module](self).
pub(super) struct Links {
    /// The name that the archive has it under, by further name.
    heads: HashMap<RelPath, RelPath>,
    files: HashMap<RelPath, Names>,
    charge: Charge,
}

/// The names of one file.
struct Names {
    /// The first of them in the order of a walk.
    first: RelPath,
    /// The number of the first link to it.
    linked: u64,
    /// Whether there is something to link to.
    there: bool,
}

impl Links {
    pub(super) fn new(charge: Charge) -> Self {
        Self { heads: HashMap::new(), files: HashMap::new(), charge }
    }

    /// Notes that `path` is a further name of `existing`. Answers the name that the archive has it under.
    ///
    /// # Errors
    /// If there is no memory for so many.
    pub(super) fn add(
        &mut self,
        archive: &str,
        path: &RelPath,
        existing: RelPath,
        number: u64,
    ) -> BackupResult<RelPath> {
        let head = self.heads.get(&existing).cloned().unwrap_or(existing);
        let bytes = 2 * (path.as_bytes().len() + 2 * head.as_bytes().len() + NAME);
        self.charge.add(archive, bytes)?;
        self.heads.insert(path.clone(), head.clone());
        let there = || Names { first: head.clone(), linked: number, there: false };
        let names = self.files.entry(head.clone()).or_insert_with(there);
        if *path < names.first {
            names.first = path.clone();
        }
        Ok(head)
    }

    /// Notes what stands at a path, each once; says what is wrong with links to it.
    pub(super) fn meet(&mut self, record: &Record) -> Result<(), String> {
        let Some(names) = self.files.get_mut(&record.entry.path).filter(|_| record.head.is_none()) else {
            return Ok(());
        };
        let path = record.entry.path.shown();
        if record.entry.is_dir() {
            return Err(format!("it has a hard link to the directory {path}"));
        }
        if record.number > names.linked {
            return Err(format!("it has a hard link to {path} before that"));
        }
        names.there = true;
        Ok(())
    }

    /// The first name of each file with several, by the one that the archive has it under.
    pub(super) fn finish(self) -> Result<(HashMap<RelPath, RelPath>, Charge), String> {
        if let Some((path, _)) = self.files.iter().find(|(_, names)| !names.there) {
            return Err(format!("it has a hard link to {}, which it does not have", path.shown()));
        }
        let firsts = self.files.into_iter().map(|(head, names)| (head, names.first));
        Ok((firsts.collect(), self.charge))
    }
}
