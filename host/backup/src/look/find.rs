//! What a pattern names, in one tree and in many.

use std::collections::HashSet;

use convoy_tree::{Kind, RelPath};
use globset::{GlobBuilder, GlobMatcher};
use tokio_util::sync::CancellationToken;

use super::{Each, check};
use crate::browse::{Browse, Node, Searched};
use crate::error::{BackupError, BackupResult};

/// The longest pattern, in bytes.
const LONGEST: usize = 4096;

/// How many versions are told at most: what is remembered of them takes about 64 MiB.
const MOST: usize = 2_000_000;

/// A glob: `*` and `?` stand for what is within a name, `**` for any directories, `[a-z]` for one of these
/// characters, `{a,b}` for either. Without a `/` it is a name anywhere in the tree, with one the whole path.
#[derive(Debug, Clone)]
pub struct Pattern {
    glob: GlobMatcher,
    /// Whether it is of the path and not of the name.
    whole: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`BackupError::Invalid`] says where it is none.
    pub fn new(text: &str) -> BackupResult<Self> {
        if text.is_empty() || text.len() > LONGEST {
            let text = format!("a pattern of {} bytes: expected 1 to {LONGEST}, like '*.conf'", text.len());
            return Err(BackupError::Invalid(text));
        }
        let whole = text.contains('/');
        let plain = text.trim_start_matches('/').trim_end_matches('/');
        let glob = GlobBuilder::new(plain).literal_separator(true).backslash_escape(true).build();
        let glob = glob.map_err(|error| {
            let why = error.kind();
            BackupError::Invalid(format!(
                "{text:?} is no pattern: {why}; to mean '*', '?', '[' or '{{' itself, put '\\' before it"
            ))
        })?;
        Ok(Self { glob: glob.compile_matcher(), whole })
    }

    /// Whether it names what is at this path.
    #[must_use]
    pub fn matches(&self, path: &RelPath) -> bool {
        let path = path.as_path();
        if self.whole {
            return self.glob.is_match(path);
        }
        path.file_name().is_some_and(|name| self.glob.is_match(name))
    }
}

/// Hands out what `pattern` names in a tree, in its order. What `searched` says to have been handed out
/// already, of another backup of the same volume, may be left out: it is no new version.
///
/// # Errors
/// Those of [`Browse`], [`BackupError::Cancelled`], and what `each` fails with.
pub fn find(
    tree: &dyn Browse,
    pattern: &Pattern,
    searched: &mut Searched,
    cancel: &CancellationToken,
    each: Each<'_, Node>,
) -> BackupResult<()> {
    let mut wanted = |path: &RelPath| check(cancel).map(|()| pattern.matches(path));
    tree.search(&mut wanted, searched, each)
}

/// Which versions of files were told already. A version is a path with its kind, size, time of change and
/// content. It remembers 16 bytes of each.
#[derive(Debug, Default)]
pub struct Versions {
    told: HashSet<u128>,
}

impl Versions {
    /// Whether this version of a file of `volume` was not told before; from now on it was.
    ///
    /// # Errors
    /// [`BackupError::Invalid`] beyond 2,000,000 versions.
    pub fn is_new(&mut self, volume: &str, node: &Node) -> BackupResult<bool> {
        let new = self.told.insert(version(volume, node));
        if self.told.len() > MOST {
            let text = format!(
                "more than {MOST} versions of files are found: name a volume, a later --since, or a pattern \
                 that fewer files have"
            );
            return Err(BackupError::Invalid(text));
        }
        Ok(new)
    }
}

fn version(volume: &str, node: &Node) -> u128 {
    let entry = &node.entry;
    let mut hash = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(volume.as_bytes());
    add(entry.path.as_bytes());
    add(entry.kind.describe().as_bytes());
    add(&entry.mtime.sec.to_le_bytes());
    add(&entry.mtime.nsec.to_le_bytes());
    match &entry.kind {
        Kind::File => {
            add(&entry.size.to_le_bytes());
            add(node.content.as_ref().map(|content| &content.0[..]).unwrap_or_default());
        }
        Kind::Symlink { target } => add(target.as_bytes()),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            add(&major.to_le_bytes());
            add(&minor.to_le_bytes());
        }
        Kind::Dir | Kind::Fifo | Kind::Socket => {}
    }
    let mut first = [0; 16];
    hash.finalize_xof().fill(&mut first);
    u128::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::super::memory::{path, trees};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_pattern_is_of_a_name_or_of_a_whole_path() {
        for (pattern, matched, not) in [
            ("*.conf", &["a.conf", "etc/a.conf", "etc/x/a.conf"][..], &["a.conf.d", "conf"][..]),
            ("/*.conf", &["a.conf"], &["etc/a.conf"]),
            ("etc/*", &["etc/a"], &["etc/x/a", "x/etc/a"]),
            ("**/etc/*.{a,b}", &["etc/1.a", "x/y/etc/1.b"], &["etc/1.c"]),
            ("/etc/", &["etc"], &["x/etc"]),
            ("[ab]?", &["ax", "d/bx"], &["cx", "axx"]),
            (r"\*", &["*"], &["a"]),
            ("nginx", &["etc/nginx"], &["etc/nginx/x"]),
        ] {
            let compiled = Pattern::new(pattern).unwrap();
            for name in matched {
                assert!(compiled.matches(&path(name)), "{pattern} {name}");
            }
            for name in not {
                assert!(!compiled.matches(&path(name)), "{pattern} {name}");
            }
        }
        let odd = RelPath::new(b"d/a\xff\n.conf".to_vec()).unwrap();
        assert!(Pattern::new("*.conf").unwrap().matches(&odd));
        for bad in ["", "[a", "{a", "a}b{", &"a".repeat(LONGEST + 1)] {
            let error = Pattern::new(bad).unwrap_err();
            assert!(matches!(error, BackupError::Invalid(_)), "{bad}: {error}");
        }
    }

    /// `*` and `?` of a name, in the plainest way.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                naive(rest, name) || name.split_first().is_some_and(|(_, name)| naive(pattern, name))
            }
            (Some((b'?', rest)), Some((_, name))) => naive(rest, name),
            (Some((letter, rest)), Some((found, name))) => letter == found && naive(rest, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn find_tells_each_version_once_as_a_naive_search_does(
            trees in prop::collection::vec(trees(), 1..4),
            pattern in "[ab*?]{1,3}",
        ) {
            let glob = Pattern::new(&pattern).unwrap();
            let (mut versions, mut told) = (Versions::default(), Vec::new());
            for (number, tree) in trees.iter().enumerate() {
                find(tree, &glob, &mut Searched::default(), &CancellationToken::new(), &mut |node| {
                    if versions.is_new("v", &node)? {
                        told.push((number, node.entry.path.clone()));
                    }
                    Ok(())
                }).unwrap();
            }
            let (mut seen, mut expected) = (BTreeSet::new(), Vec::new());
            for (number, tree) in trees.iter().enumerate() {
                for (path, node) in &tree.nodes {
                    let name = path.split().map(|(_, name)| name.to_vec());
                    let key = (
                        path.clone(), format!("{:?}", node.entry.kind), node.entry.mtime,
                        node.entry.size, node.content.map(|content| content.0),
                    );
                    if name.is_some_and(|name| naive(pattern.as_bytes(), &name)) && seen.insert(key) {
                        expected.push((number, path.clone()));
                    }
                }
            }
            prop_assert_eq!(told, expected);
        }
    }
}
