//! Giving back the memory that only starting needed.
//!
//! Reading arguments and settings and opening drivers runs through much code once. Its pages are clean and in the page cache, but count
//! as the daemon's for as long as they are mapped. Unmapped, they cost nothing, and one that is needed again comes back without the disk.

use std::ffi::c_void;
use std::ptr::NonNull;

/// Unmaps the pages of this program's own code; those that are in use come back by themselves.
pub fn code() {
    let maps = match std::fs::read_to_string("/proc/self/maps") {
        Ok(maps) => maps,
        Err(error) => return tracing::debug!(%error, "the memory of the start is kept"),
    };
    let Ok(own) = std::env::current_exe() else { return };
    for (start, length) in executable(&maps, &own.to_string_lossy()) {
        let Some(start) = NonNull::new(std::ptr::without_provenance_mut::<c_void>(start)) else { continue };
        // SAFETY: these are private mappings of a file, readable and executable and never written to: what is dropped is read again, the
        // same, from the file when it is next used. No reference into them sees a difference.
        let advised =
            unsafe { nix::sys::mman::madvise(start, length, nix::sys::mman::MmapAdvise::MADV_DONTNEED) };
        if let Err(error) = advised {
            tracing::debug!(%error, "the memory of the start is kept");
        }
    }
}

/// Start and length of the mappings of a file that are code and have not been writable.
fn executable(maps: &str, file: &str) -> Vec<(usize, usize)> {
    maps.lines()
        .filter_map(|line| {
            // As proc(5) describes: address, permissions, offset, device, inode, path.
            let (range, rest) = line.split_once(' ')?;
            let path = rest.get(rest.find('/')?..)?;
            if !rest.starts_with("r-xp ") || path != file {
                return None;
            }
            let (start, end) = range.split_once('-')?;
            let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
            Some((start, end.checked_sub(start)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program() {
        let maps = "\
560000000000-560000001000 r--p 00000000 fe:01 42 /usr/bin/convoy
560000001000-560000005000 r-xp 00001000 fe:01 42 /usr/bin/convoy
560000005000-560000006000 rw-p 00005000 fe:01 42 /usr/bin/convoy
7f0000000000-7f0000001000 r-xp 00000000 fe:01 43 /usr/lib/libc.so.6
7f0000002000-7f0000003000 r-xp 00000000 00:00 0 [vdso]
";
        assert_eq!(executable(maps, "/usr/bin/convoy"), [(0x5600_0000_1000, 0x4000)]);
    }

    #[test]
    fn code_that_is_dropped_comes_back() {
        let own = std::env::current_exe().unwrap().display().to_string();
        let mapped = || executable(&std::fs::read_to_string("/proc/self/maps").unwrap(), &own);
        let resident = || {
            // Counted page by page, which `statm` is not.
            let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            let line = rollup.lines().find(|line| line.starts_with("Rss:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
        };
        let byte = |page: usize| {
            // SAFETY: the mappings are readable, and stay.
            u64::from(unsafe { std::ptr::with_exposed_provenance::<u8>(page).read_volatile() })
        };
        let sum = || {
            let pages =
                mapped().into_iter().flat_map(|(start, length)| (start..start + length).step_by(4096));
            pages.map(byte).sum::<u64>()
        };
        let (all, before) = (sum(), resident());
        code();
        let after = resident();
        assert!(after < before / 2, "{before} KiB, then {after}");
        assert_eq!(sum(), all);
    }
}
