//! What a driver's program may not do although it runs as root: whatever no driver needs.
//!
//! It keeps what storage needs: mounting, device nodes, devices and their control calls, other mount
//! namespaces, loading a module of the kernel, owners and modes of files, the network.

#![allow(unsafe_code, reason = "what a child does between fork and exec, and calls that have no safe form")]

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs};
use std::io;

/// The clock, restarts, the kernel's log and its probes, raw packets, consoles: none of this is storage.
/// `SETPCAP` is the last, since removing the others takes it.
const REMOVED: [CapabilitySet; 16] = [
    CapabilitySet::AUDIT_CONTROL,
    CapabilitySet::AUDIT_READ,
    CapabilitySet::BLOCK_SUSPEND,
    CapabilitySet::BPF,
    CapabilitySet::CHECKPOINT_RESTORE,
    CapabilitySet::IPC_OWNER,
    CapabilitySet::MAC_OVERRIDE,
    CapabilitySet::NET_BROADCAST,
    CapabilitySet::NET_RAW,
    CapabilitySet::PERFMON,
    CapabilitySet::SYSLOG,
    CapabilitySet::SYS_BOOT,
    CapabilitySet::SYS_PACCT,
    CapabilitySet::SYS_TIME,
    CapabilitySet::WAKE_ALARM,
    CapabilitySet::SETPCAP,
];

/// Confines this process, to be called in the child between fork and exec: nothing is allocated or locked.
pub(super) fn confine() -> io::Result<()> {
    // A Ctrl-C at the terminal is for the host, which then says goodbye to its drivers; and without a
    // terminal nothing can be typed into one.
    rustix::process::setsid()?;
    // A core would hold the driver's secrets. What the limit is already cannot be raised either.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // Each descriptor is closed by the exec, also one that a library opened without a thought of it. Without
    // this call (before Linux 5.11) those of the host alone are. SAFETY: a system call with three numbers; it
    // closes nothing now.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if !rustix::process::geteuid().is_root() {
        // A developer tries a driver, which may need a set-user-ID helper such as fusermount3.
        return Ok(());
    }
    for capability in REMOVED {
        // One that this kernel does not know, or that this root (in a container) may not remove, it has not.
        let _ = remove_capability_from_bounding_set(capability);
    }
    set_no_new_privs(true)?;
    Ok(())
}
