//! What may be asked for.

use std::path::{Component, Path, PathBuf};

use convoy_driver_sdk::options;
use convoy_driver_sdk::protocol::{Open, OptionSpec};

use crate::error::{LocalError, LocalResult};

const DOCKER: &str = "local.docker";
const SNAPSHOTS: &str = "local.snapshots";
const SOCKET: &str = "/var/run/docker.sock";

pub(crate) fn driver_options() -> Vec<OptionSpec> {
    vec![
        OptionSpec::new(DOCKER, "sockets of the engines to ask, with commas; the first makes new volumes")
            .default_value("unix:///var/run/docker.sock"),
        OptionSpec::new(
            SNAPSHOTS,
            "directories for snapshots of volumes on other file systems than the driver's root, with commas",
        )
        .default_value("none"),
    ]
}

/// The driver's options, read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DriverOptions {
    pub(crate) sockets: Vec<PathBuf>,
    pub(crate) snapshots: Vec<PathBuf>,
}

impl DriverOptions {
    pub(crate) fn parse(request: &Open) -> LocalResult<Self> {
        options::check(&driver_options(), &request.options)?;
        let list =
            |name| request.options.get(name).into_iter().flat_map(|text| text.split(',')).map(str::trim);
        let sockets = list(DOCKER)
            .map(|text| {
                let path = text.strip_prefix("unix://").unwrap_or(text);
                plain(path).ok_or_else(|| bad(DOCKER, text, "unix:///PATH of a socket; several with commas"))
            })
            .collect::<LocalResult<Vec<_>>>()?;
        let snapshots = list(SNAPSHOTS)
            .map(|text| plain(text).ok_or_else(|| bad(SNAPSHOTS, text, "the absolute path of a directory")))
            .collect::<LocalResult<Vec<_>>>()?;
        let sockets = if sockets.is_empty() { vec![PathBuf::from(SOCKET)] } else { sockets };
        Ok(Self { sockets, snapshots })
    }
}

fn bad(name: &'static str, value: &str, expected: &'static str) -> LocalError {
    LocalError::BadOption { name, value: value.to_owned(), expected }
}

/// An absolute path without `..`, written without what does not count.
pub(crate) fn plain(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let whole = text.len() < 4096 && !text.contains('\0') && path.is_absolute();
    (whole && !path.components().any(|part| part == Component::ParentDir))
        .then(|| path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> LocalResult<DriverOptions> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        DriverOptions::parse(&Open::default().options(options.collect()))
    }

    #[test]
    fn sockets_and_directories_are_lists_of_absolute_paths() {
        let found = parse(&[]).unwrap();
        assert_eq!(found.sockets, [Path::new(SOCKET)]);
        assert!(found.snapshots.is_empty());
        let found = parse(&[(DOCKER, "unix:///a/b, /c"), (SNAPSHOTS, "/x/,/y/./z")]).unwrap();
        assert_eq!(found.sockets, [Path::new("/a/b"), Path::new("/c")]);
        assert_eq!(found.snapshots, [Path::new("/x"), Path::new("/y/z")]);
        for bad in ["", "tcp://127.0.0.1:2375", "unix://a", "/a/../b", "unix:///a,"] {
            assert!(matches!(parse(&[(DOCKER, bad)]), Err(LocalError::BadOption { .. })), "{bad}");
        }
        assert!(parse(&[(SNAPSHOTS, "x")]).is_err());
        assert!(parse(&[("local.other", "x")]).is_err());
    }
}
