//! Files without a name, for what is too much for memory. The kernel frees them when nobody has them open any
//! more, also after a crash.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{BackupError, BackupResult};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Scratch {
    file: File,
    place: String,
    end: u64,
    /// Bytes that it may have: half of what was free when it was made.
    most: u64,
}

impl Scratch {
    /// A new file in the directory `room`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn new(room: &Path) -> BackupResult<Self> {
        let place = room.display().to_string();
        let failed = |error| BackupError::io("make a file without a name in", &place, error);
        let file = tempfile::tempfile_in(room).map_err(failed)?;
        let free = rustix::fs::fstatvfs(&file).map_err(|error| failed(error.into()))?;
        let most = free.f_bavail.saturating_mul(free.f_frsize) / 2;
        Ok(Self { file, place, end: 0, most })
    }

    /// How many bytes it has.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Adds bytes at its end.
    ///
    /// # Errors
    /// [`BackupError::NoRoom`]; what the kernel says.
    pub(super) fn append(&mut self, bytes: &[u8]) -> BackupResult<()> {
        let end = self.end.saturating_add(bytes.len() as u64);
        if end > self.most {
            return Err(BackupError::NoRoom { place: self.place.clone(), mebibytes: self.most >> 20 });
        }
        let written = self.file.write_all_at(bytes, self.end);
        written.map_err(|error| BackupError::io("write a file in", &self.place, error))?;
        self.end = end;
        Ok(())
    }

    /// Fills `bytes` with what is at `at`.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn read(&self, at: u64, bytes: &mut [u8]) -> BackupResult<()> {
        let read = self.file.read_exact_at(bytes, at);
        read.map_err(|error| BackupError::io("read a file in", &self.place, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_no_name_and_is_bounded() {
        let room = tempfile::tempdir().unwrap();
        let mut scratch = Scratch::new(room.path()).unwrap();
        scratch.append(b"hello ").unwrap();
        scratch.append(b"there").unwrap();
        let mut bytes = [0; 5];
        scratch.read(6, &mut bytes).unwrap();
        assert_eq!((&bytes, scratch.end()), (b"there", 11));
        assert_eq!(std::fs::read_dir(room.path()).unwrap().count(), 0);
        scratch.most = 12;
        assert!(matches!(scratch.append(b"xy"), Err(BackupError::NoRoom { .. })));
        scratch.append(b"x").unwrap();
        assert!(Scratch::new(&room.path().join("none")).is_err());
    }
}
