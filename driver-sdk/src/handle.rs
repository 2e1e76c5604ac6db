//! Names of openings and restores.

use crate::{DriverError, Result};
use std::fs::File;
use std::io::Read;

/// A handle for `snapshot.open` or `restore.prepare`: 32 hexadecimal digits that nobody can guess. So one of
/// an earlier life of the driver is never taken for one of this life.
///
/// # Errors
/// `NotFound` when `/dev/urandom` is not there.
pub fn random() -> Result<String> {
    let mut bytes = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    read.map_err(|error| DriverError::io("read /dev/urandom", &error))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_handle_comes_twice() {
        let handles = [(); 100].map(|()| super::random().unwrap());
        let different: std::collections::BTreeSet<_> = handles.iter().collect();
        assert_eq!(different.len(), handles.len());
        assert!(handles.iter().all(|handle| handle.len() == 32));
    }
}
