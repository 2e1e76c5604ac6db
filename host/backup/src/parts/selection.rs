//! Which parts of a tree are restored: paths, less what patterns exclude.

use convoy_tree::RelPath;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::browse::Browse;
use crate::error::{BackupError, BackupResult};

/// So many patterns, and bytes of one, are taken.
const PATTERNS: usize = 1000;
const PATTERN: usize = 4096;
/// So many paths are taken.
const PATHS: usize = 10_000;

/// Which parts of a tree are restored.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Sorted, and none below another.
    tops: Vec<RelPath>,
    globs: GlobSet,
    rules: Vec<Rule>,
}

/// What a pattern says of what it matches.
#[derive(Debug, Clone, Copy)]
struct Rule {
    excludes: bool,
    directories_only: bool,
}

impl Selection {
    /// Selects `paths` with everything below them, or the whole tree if there are none, less what the
    /// patterns match and everything below that.
    ///
    /// Patterns are those of gitignore, from the root of the tree: `*.log` matches at any depth, `/cache` and
    /// `var/cache` only there, `cache/` only directories; `**` stands for any number of directories; `!`
    /// takes back what an earlier pattern excluded; the last pattern that matches counts.
    ///
    /// # Errors
    /// [`BackupError::Invalid`] for a pattern that is none, and for too many.
    pub fn new(mut paths: Vec<RelPath>, patterns: &[String]) -> BackupResult<Self> {
        if paths.len() > PATHS || patterns.len() > PATTERNS {
            let text = format!("at most {PATHS} paths and {PATTERNS} patterns are taken at once");
            return Err(BackupError::Invalid(text));
        }
        paths.sort();
        let mut tops: Vec<RelPath> = Vec::new();
        for path in paths {
            if !tops.last().is_some_and(|top| is_below(&path, top)) {
                tops.push(path);
            }
        }
        if tops.is_empty() {
            tops.push(RelPath::root());
        }
        let mut globs = GlobSetBuilder::new();
        let mut rules = Vec::new();
        for pattern in patterns {
            let (glob, rule) = parse(pattern)?;
            let glob = GlobBuilder::new(&glob).literal_separator(true).backslash_escape(true).build();
            globs.add(glob.map_err(|e| no_pattern(pattern, e.kind()))?);
            rules.push(rule);
        }
        let globs =
            globs.build().map_err(|e| BackupError::Invalid(format!("the patterns cannot be used: {e}")))?;
        Ok(Self { tops, globs, rules })
    }

    /// The paths: sorted, none below another.
    pub fn tops(&self) -> &[RelPath] {
        &self.tops
    }

    /// Whether a pattern excludes what is at `path`. What is below something excluded is not asked about.
    pub fn excludes(&self, path: &RelPath, is_directory: bool) -> bool {
        if self.rules.is_empty() || path.is_root() {
            return false;
        }
        let matching = self.globs.matches(path.as_path());
        let mut rules = matching.iter().filter_map(|index| self.rules.get(*index));
        rules.rfind(|rule| is_directory || !rule.directories_only).is_some_and(|rule| rule.excludes)
    }

    /// Whether `path`, or a directory above it, is excluded, or it is at or below none of the paths.
    pub fn leaves_out(&self, path: &RelPath, is_directory: bool) -> bool {
        if !self.tops.iter().any(|top| is_below(path, top)) {
            return true;
        }
        let mut above = path.clone();
        let mut directory = is_directory;
        loop {
            if self.excludes(&above, directory) {
                return true;
            }
            let Some((parent, _)) = above.split() else { return false };
            (above, directory) = (parent, true);
        }
    }
}

/// Takes a path as people write it: `/etc/`, `./etc` and `etc` are the same.
///
/// # Errors
/// [`BackupError::Invalid`] for one with `..` in it.
pub fn path_in_tree(text: &[u8]) -> BackupResult<RelPath> {
    let components = text.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let plain = components.collect::<Vec<_>>().join(&b'/');
    RelPath::new(plain).map_err(|e| BackupError::Invalid(format!("invalid path: {e}")))
}

/// Finds what a person named in `source`: as it is written, or, where nothing is there, with `%XX` for bytes
/// as paths are shown.
///
/// # Errors
/// As [`path_in_tree`], and as [`Browse::stat`].
pub fn find_path(source: &dyn Browse, text: &str) -> BackupResult<RelPath> {
    let path = path_in_tree(text.as_bytes())?;
    match source.stat(&path) {
        Err(error @ BackupError::NoPath { .. }) if text.contains('%') => {
            let shown = serde_json::Value::String(path.as_path().display().to_string());
            let meant: Result<RelPath, _> = serde_json::from_value(shown);
            meant.ok().filter(|meant| source.stat(meant).is_ok()).ok_or(error)
        }
        other => other.map(|_| path),
    }
}

/// Whether `path` is `top` or below it.
pub(super) fn is_below(path: &RelPath, top: &RelPath) -> bool {
    let rest = path.as_bytes().strip_prefix(top.as_bytes());
    top.is_root() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn no_pattern(pattern: &str, why: impl std::fmt::Display) -> BackupError {
    BackupError::Invalid(format!("{pattern:?} is no pattern: {why}"))
}

/// A pattern of gitignore as a glob from the root of the tree.
fn parse(pattern: &str) -> BackupResult<(String, Rule)> {
    if pattern.len() > PATTERN {
        return Err(BackupError::Invalid(format!("a pattern has more than {PATTERN} bytes")));
    }
    let (excludes, glob) = match pattern.strip_prefix('!') {
        Some(glob) => (false, glob),
        None => (true, pattern),
    };
    let (directories_only, glob) = match glob.strip_suffix('/') {
        Some(glob) => (true, glob),
        None => (false, glob),
    };
    if glob.trim_matches('/').is_empty() {
        return Err(no_pattern(pattern, "it names nothing"));
    }
    let glob = match glob.strip_prefix('/') {
        Some(anchored) => anchored.to_owned(),
        None if glob.contains('/') => glob.to_owned(),
        None => format!("**/{glob}"),
    };
    Ok((glob, Rule { excludes, directories_only }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    fn excluded(patterns: &[&str], at: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let selection = Selection::new(Vec::new(), &patterns).unwrap();
        let (at, directory) = (at.trim_end_matches('/'), at.ends_with('/'));
        selection.leaves_out(&path(at), directory)
    }

    #[test]
    fn patterns_are_those_of_gitignore() {
        for (patterns, matching, others) in [
            (&["*.log"][..], &["a.log", "b/c/d.log", "x.log/y"][..], &["a.logs", "log"][..]),
            (&["/cache"], &["cache", "cache/a"], &["b/cache"]),
            (&["var/cache"], &["var/cache/a"], &["b/var/cache", "var"]),
            (&["cache/"], &["cache/", "a/cache/", "a/cache/b"], &["cache", "a/cache"]),
            (&["a/**/z"], &["a/z", "a/b/z", "a/b/c/z"], &["z", "a/b"]),
            (&["a/**"], &["a/b", "a/b/c"], &["b/a"]),
            (&["**/x"], &["x", "a/x", "a/b/x/c"], &["xx"]),
            (&["a/*/c"], &["a/b/c"], &["a/b/b/c"]),
            (&["*.log", "!keep.log"], &["a.log"], &["keep.log", "b/keep.log"]),
            (&["!keep.log", "*.log"], &["keep.log"], &["a"]),
            (&["f[12]", "?"], &["f1", "a/f2", "q"], &["f3", "qq"]),
            (&["\\*"], &["*"], &["a"]),
        ] {
            for at in matching {
                assert!(excluded(patterns, at), "{patterns:?} {at}");
            }
            for at in others {
                assert!(!excluded(patterns, at), "{patterns:?} {at}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for pattern in ["", "/", "//", "!", "a[", "{a"] {
            let error = Selection::new(Vec::new(), &[pattern.to_owned()]).unwrap_err().to_string();
            assert!(error.contains("no pattern"), "{pattern:?}: {error}");
        }
        assert!(Selection::new(Vec::new(), &["x".repeat(5000)]).is_err());
    }

    #[test]
    fn paths_below_others_are_not_restored_twice() {
        let paths = ["b", "a/x", "a", "a.b", "a/y/z"].map(path).to_vec();
        let selection = Selection::new(paths, &[]).unwrap();
        assert_eq!(selection.tops(), ["a", "a.b", "b"].map(path));
        assert!(selection.leaves_out(&path("c"), false) && !selection.leaves_out(&path("a/q"), false));
        assert_eq!(Selection::new(vec![path("a"), RelPath::root()], &[]).unwrap().tops(), [RelPath::root()]);
    }

    #[test]
    fn a_path_is_taken_as_people_write_it() {
        for text in ["/etc/", "etc", "./etc", "//etc/.", "/./etc//"] {
            assert_eq!(path_in_tree(text.as_bytes()).unwrap(), path("etc"), "{text}");
        }
        assert!(path_in_tree(b"/").unwrap().is_root() && path_in_tree(b"").unwrap().is_root());
        for text in ["..", "a/../b", "a\0b"] {
            assert!(path_in_tree(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
