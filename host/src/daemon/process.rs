//! What the process is, before it has read a secret or started a thread.

#![allow(unsafe_code, reason = "variables are set before any other thread runs")]

use nix::unistd::User;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use std::ffi::OsString;
use std::path::Path;

/// Names that convoy 0.5 took for those that every tool of AWS knows, each with the usual one.
const OLD_NAMES: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID"), ("AWS_SECRET_KEY", "AWS_SECRET_ACCESS_KEY")];

/// Fills in what the environment lacks: the home directory, which systemd tells no service of root's and
/// where `~/.aws` is, and credentials under the names that convoy 0.5 understood. The drivers inherit both.
///
/// To be called first of all.
pub fn complete_environment() {
    let home = || User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir.into_os_string());
    for (name, value) in missing(&|name| std::env::var_os(name).filter(|value| !value.is_empty()), home) {
        // SAFETY: no other thread has been started, so that nobody reads the environment meanwhile.
        unsafe { std::env::set_var(name, value) };
    }
}

fn missing(
    variable: &dyn Fn(&str) -> Option<OsString>,
    home: impl FnOnce() -> Option<OsString>,
) -> Vec<(&'static str, OsString)> {
    let mut missing = Vec::new();
    if variable("HOME").is_none() {
        missing.extend(home().map(|home| ("HOME", home)));
    }
    for (old, usual) in OLD_NAMES {
        if variable(usual).is_none() {
            missing.extend(variable(old).map(|value| (usual, value)));
        }
    }
    missing
}

/// Where Docker has the sockets of plugins that it manages itself.
const PLUGINS: &str = "/run/docker/plugins";

/// Says where secrets stand that everybody reads who may ask Docker for its plugins: in the environment of a
/// managed one.
pub fn warn_of_secrets(socket: &Path) {
    if !socket.starts_with(PLUGINS) {
        return;
    }
    for name in ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DO_TOKEN"] {
        if std::env::var_os(name).is_some_and(|value| !value.is_empty()) {
            tracing::warn!(
                name,
                "a secret stands in the environment, which `docker plugin inspect` shows: put it into a \
                 file, and name that with `docker plugin set convoy credentials.source=FILE`"
            );
        }
    }
}

/// Keeps the memory of this process, which holds keys and tokens, out of core dumps and away from other
/// users. Only root can attach a debugger.
pub fn keep_memory_private() {
    // What is started inherits this limit; that it cannot be dumped it does not.
    let limit = getrlimit(Resource::Core);
    let limited = setrlimit(Resource::Core, Rlimit { current: Some(0), ..limit });
    if let Err(error) = limited.and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable)) {
        tracing::warn!(%error, "a crash may leave keys in a core dump");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_private() {
        keep_memory_private();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        let now = rustix::process::dumpable_behavior().unwrap();
        assert!(matches!(now, DumpableBehavior::NotDumpable));
    }

    #[test]
    fn old_names_and_mixes_are_understood_and_the_usual_one_wins() {
        let of = |set: &[(&str, &str)]| -> Vec<(&'static str, String)> {
            let find = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, it)| (*it).into());
            let all = missing(&find, || Some("/root".into()));
            all.into_iter().map(|(name, value)| (name, value.into_string().unwrap())).collect()
        };
        let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
        let home = ("HOME", "/home");
        assert_eq!(of(&[]), [("HOME", "/root".to_owned())]);
        assert_eq!(of(&[home, (id, "i"), (secret, "s"), ("AWS_ACCESS_KEY", "x")]), []);
        let old = [home, ("AWS_ACCESS_KEY", "i"), ("AWS_SECRET_KEY", "s")];
        assert_eq!(of(&old), [(id, "i".to_owned()), (secret, "s".to_owned())]);
        assert_eq!(of(&[home, (id, "i"), ("AWS_SECRET_KEY", "s")]), [(secret, "s".to_owned())]);
        assert_eq!(of(&[home, ("AWS_ACCESS_KEY", "i"), (secret, "s")]), [(id, "i".to_owned())]);
    }
}
