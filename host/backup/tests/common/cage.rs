//! A bound on the memory of a process: a control group of either version where one can be made, else a limit
//! on what it may allocate.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// A control group, removed when dropped.
#[derive(Debug)]
pub struct Cage {
    group: Option<PathBuf>,
    bytes: u64,
}

/// How a child knows in which group it is to be.
const GROUP: &str = "CONVOY_TEST_CGROUP";
/// How many bytes it may have.
const BYTES: &str = "CONVOY_TEST_MEMORY";

impl Cage {
    /// A bound for one process and its children.
    pub fn new(bytes: u64) -> Self {
        Self { group: group(bytes), bytes }
    }

    /// What a child has to be told.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        let group =
            self.group.as_deref().map(Path::display).map_or_else(String::new, |path| path.to_string());
        [(GROUP, group), (BYTES, self.bytes.to_string())]
    }

    /// What it is, in words.
    pub fn describe(&self) -> String {
        match &self.group {
            Some(group) => format!("in {}", group.display()),
            None => "with a limit on its data: no control group can be made here".to_owned(),
        }
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            let _ = fs::remove_dir(group);
        }
    }
}

/// Makes a control group, if that works here.
fn group(bytes: u64) -> Option<PathBuf> {
    let name = format!("convoy-hostile-{}", std::process::id());
    let of_process = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path_of = |controller: &str| {
        of_process.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            (parts.next()?.split(',').any(|c| c == controller)).then(|| parts.next())?
        })
    };
    let places = [
        ("/sys/fs/cgroup/memory", path_of("memory"), "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", path_of(""), "memory.max"),
    ];
    for (mount, own, limit) in places {
        // Below the own one, and where that is not seen here, below the root.
        for parent in [own.unwrap_or_default().trim_start_matches('/'), ""] {
            let group = Path::new(mount).join(parent).join(&name);
            if fs::create_dir(&group).is_err() {
                continue;
            }
            if fs::write(group.join(limit), bytes.to_string()).is_ok() {
                // Without this a little more is had from swap, where there is any.
                let _ = fs::write(group.join("memory.swap.max"), "0");
                let _ = fs::write(group.join("memory.memsw.limit_in_bytes"), bytes.to_string());
                return Some(group);
            }
            let _ = fs::remove_dir(&group);
        }
    }
    None
}

/// Goes into the cage, in a child that was told of one.
pub fn enter() {
    let group = std::env::var(GROUP).unwrap_or_default();
    if !group.is_empty() {
        fs::write(Path::new(&group).join("cgroup.procs"), "0").unwrap();
    } else if let Some(bytes) = std::env::var(BYTES).ok().and_then(|bytes| bytes.parse().ok()) {
        let limit = rustix::process::Rlimit { current: Some(bytes), maximum: Some(bytes) };
        rustix::process::setrlimit(rustix::process::Resource::Data, limit).unwrap();
    }
}
