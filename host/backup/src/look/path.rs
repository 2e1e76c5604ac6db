//! Paths as callers write them.

use convoy_tree::RelPath;
use percent_encoding::percent_decode_str;

use crate::error::{BackupError, BackupResult};

/// The most bytes a path may have: what the kernel takes.
const LONGEST: usize = 4096;

/// Reads a path of a tree: `etc/passwd` and `/etc/./passwd/` are the same, `/` and nothing are the root.
/// Bytes may be written as `%XX`, as [`RelPath`] prints those that are no text; a `%` that is itself meant is
/// `%25`.
///
/// # Errors
/// [`BackupError::Invalid`] for a path with `..`, with a NUL byte, or that is too long.
pub fn tree_path(text: &str) -> BackupResult<RelPath> {
    let bytes: Vec<u8> = percent_decode_str(text).collect();
    if bytes.len() > LONGEST {
        let text = format!("a path of {} bytes is too long: expected at most {LONGEST}", bytes.len());
        return Err(BackupError::Invalid(text));
    }
    let parts = bytes.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let plain = parts.collect::<Vec<_>>().join(&b'/');
    RelPath::new(plain).map_err(|error| {
        BackupError::Invalid(format!("{error}: name it by its path from the top of the volume, without '..'"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_people_write_them() {
        for (written, meant) in [
            ("", &b""[..]),
            ("/", b""),
            (".", b""),
            ("/etc/passwd", b"etc/passwd"),
            ("./etc//passwd/", b"etc/passwd"),
            ("a%0Ab%FF", b"a\nb\xff"),
            ("100%25", b"100%"),
        ] {
            assert_eq!(tree_path(written).unwrap().as_bytes(), meant, "{written}");
        }
        for bad in ["..", "/etc/../..", "a%00b", &"x".repeat(LONGEST + 1)] {
            assert!(matches!(tree_path(bad), Err(BackupError::Invalid(_))), "{bad}");
        }
    }
}
