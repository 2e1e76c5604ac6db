//! What a process gives up before it reads a store.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Gives up, for good, all rights of root but one, and the chance to get them back by running a program. What is
/// left: to read files whose modes are for others, as keys, directories of backups and files on devices are. The
/// user stays the same, so that locks can be written at a destination that is a directory of that user.
///
/// To be called before any other thread is started: it is for this thread and those that it starts.
///
/// # Errors
/// Those of the kernel. A process without rights has none to give up.
pub fn give_up_rights() -> io::Result<()> {
    let kept = CapabilitySet::DAC_READ_SEARCH;
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    let now = rustix::thread::capabilities(None)?;
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for number in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << number);
            // One that this kernel does not know is in no set.
            if capability_is_in_bounding_set(one).unwrap_or(false) {
                remove_capability_from_bounding_set(one)?;
            }
        }
    }
    let left = now.permitted & kept;
    let sets = CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_right_is_left_and_none_comes_back() {
        // A thread's own: other tests keep theirs.
        let left = std::thread::spawn(|| {
            give_up_rights().unwrap();
            give_up_rights().unwrap();
            let sets = rustix::thread::capabilities(None).unwrap();
            let more = CapabilitySets { permitted: CapabilitySet::SYS_ADMIN, ..sets };
            assert!(set_capabilities(None, more).is_err());
            sets
        });
        let left = left.join().unwrap();
        assert!(CapabilitySet::DAC_READ_SEARCH.contains(left.effective | left.permitted));
    }
}
