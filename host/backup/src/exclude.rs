//! What of a tree is left out of a backup: patterns in the syntax of gitignore, directories that have a marker
//! in them, and directories of caches.
//!
//! The walk asks for every entry ([`Excludes::of`]). What is left out is not walked, so a pattern cannot bring
//! back something in a directory that is left out, as in git. A directory with a marker is kept, and the
//! marker in it; the rest of it is not.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use convoy_tree::{RelPath, WalkEntry};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::format::limits::{
    EXCLUDED_RULES_MAX, IGNORE_FILE_MAX, IGNORE_RULES_MAX, MARKERS_MAX, NAME_MAX, RULE_MAX, RULES_MAX,
};
use crate::format::segment::LONGEST_PATH;

/// The file in the root of a volume that may say what to leave out.
pub(crate) const IGNORE_FILE: &str = ".convoyignore";
/// The file by which a program says that a directory is a cache, and how it begins:
/// <https://bford.info/cachedir/>.
const CACHE_TAG: &str = "CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What is to be left out of a backup of files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExcludeRules {
    /// Patterns in the syntax of gitignore, from the root of the volume; the last one that matches decides. At
    /// most 256, of up to 256 bytes each.
    pub patterns: Vec<String>,
    /// Names of markers: of a directory that has one only itself and the marker is kept. At most 16.
    pub if_present: Vec<String>,
    /// Of a directory with a valid `CACHEDIR.TAG` only itself and that file is kept.
    pub caches: bool,
    /// Whether the file `.convoyignore` in the root of the volume is read: patterns that come before the others.
    /// It belongs to whoever writes to the volume.
    pub ignore_file: bool,
}

impl ExcludeRules {
    /// Whether everything is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These rules and then others.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.patterns.extend(others.patterns);
        self.if_present.extend(others.if_present);
        self.if_present.sort_unstable();
        self.if_present.dedup();
        Self {
            caches: self.caches || others.caches,
            ignore_file: self.ignore_file || others.ignore_file,
            ..self
        }
    }

    /// Checks them, without a tree.
    ///
    /// # Errors
    /// For what is no pattern, what is no name of a file, and for too many.
    pub fn check(&self) -> Result<(), ExcludeError> {
        compile(self, &[]).map(drop)
    }
}

/// Rules that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each says what its fields are")]
pub enum ExcludeError {
    /// A pattern that cannot be understood.
    #[error(
        "invalid pattern {pattern:?}: {why}; expected one as in a .gitignore, like *.tmp, /cache/ or !keep.tmp"
    )]
    Pattern { pattern: String, why: String },
    /// A marker that is no name.
    #[error("invalid marker {0:?}: expected the name of a file without a path, like .nobackup")]
    Marker(String),
    /// Too many.
    #[error("{found} {what} to leave something out, and there may be {most}: put them together")]
    TooMany { what: &'static str, found: usize, most: usize },
}

/// What was left out, as the record of a backup tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Excluded {
    /// Files, links and whatever else is no directory.
    pub files: u64,
    /// Directories, each with all that is in it: that was not looked at. Of those with a marker, all but the
    /// marker.
    pub directories: u64,
    /// By rule, those first that left out most; rules that left out nothing are not here.
    pub rules: Vec<ExcludedBy>,
}

impl Excluded {
    /// Whether nothing was left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files == 0 && self.directories == 0
    }

    /// Whether its sizes are those that a record may have.
    pub(crate) fn is_possible(&self) -> bool {
        self.rules.len() <= EXCLUDED_RULES_MAX && self.rules.iter().all(|by| by.rule.len() <= RULE_MAX + 64)
    }

    /// About the bytes of memory it takes beside its own size.
    pub(crate) fn weight(&self) -> usize {
        self.rules.iter().map(|by| by.rule.len() + size_of::<ExcludedBy>()).sum()
    }
}

/// What one rule left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExcludedBy {
    /// The pattern, `.convoyignore: ` and the pattern, `has ` and the marker, or `CACHEDIR.TAG`.
    pub rule: String,
    /// As in [`Excluded::files`].
    #[serde(skip_serializing_if = "is_zero")]
    pub files: u64,
    /// As in [`Excluded::directories`].
    #[serde(skip_serializing_if = "is_zero")]
    pub directories: u64,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What becomes of an entry.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is backed up.
    Keep,
    /// It is left out, with all that is in it.
    LeaveOut,
    /// Of this directory only itself and the marker is backed up.
    OnlyMarker(Box<WalkEntry>),
}

/// Rules that are ready to be asked; they count what they leave out.
#[derive(Debug)]
pub(crate) struct Excludes {
    patterns: Gitignore,
    if_present: Vec<String>,
    caches: bool,
    counts: Mutex<BTreeMap<String, (u64, u64)>>,
}

impl Excludes {
    /// Reads what the volume itself says, if that is allowed, and makes the rules ready. What is wrong with
    /// the volume's file is told to `warn`, and does not fail the backup: it is not the operator's.
    pub(crate) fn new(
        rules: &ExcludeRules,
        root: &Path,
        mut warn: impl FnMut(String),
    ) -> Result<Self, ExcludeError> {
        let lines = match rules.ignore_file {
            true => match read_ignore_file(root) {
                Ok(lines) => lines,
                Err(why) => {
                    warn(format!("{IGNORE_FILE} of the volume was not followed: {why}"));
                    Vec::new()
                }
            },
            false => Vec::new(),
        };
        let fits = |line: &String| match one(line) {
            Ok(()) => true,
            Err(why) => {
                warn(format!("a line of {IGNORE_FILE} of the volume was not followed: {line:?}: {why}"));
                false
            }
        };
        let lines: Vec<String> = lines.into_iter().filter(fits).collect();
        Ok(Self {
            patterns: compile(rules, &lines)?,
            if_present: rules.if_present.clone(),
            caches: rules.caches,
            counts: Mutex::default(),
        })
    }

    /// What becomes of an entry. Only an entry that is backed up is counted as such, so each is to be asked
    /// for once.
    pub(crate) fn of(&self, found: &WalkEntry) -> io::Result<Verdict> {
        self.verdict(found, &|rule, is_dir| {
            let mut counts = self.counts.lock();
            let (files, directories) = counts.entry(rule).or_default();
            *if is_dir { directories } else { files } += 1;
        })
    }

    /// As [`Self::of`], without being counted.
    pub(crate) fn peek(&self, found: &WalkEntry) -> io::Result<Verdict> {
        self.verdict(found, &|_, _| ())
    }

    fn verdict(&self, found: &WalkEntry, count: &dyn Fn(String, bool)) -> io::Result<Verdict> {
        match self.judge(found, count) {
            // The walk comes upon it, too, and tells.
            Err(error) if convoy_tree::is_refused(&error) => Ok(Verdict::Keep),
            verdict => verdict,
        }
    }

    fn judge(&self, found: &WalkEntry, count: &dyn Fn(String, bool)) -> io::Result<Verdict> {
        let (path, is_dir) = (&found.entry.path, found.entry.is_dir());
        if let Some(rule) = self.pattern(path, is_dir) {
            count(rule, is_dir);
            return Ok(Verdict::LeaveOut);
        }
        // A marker with a path that is too long is an error of the walk.
        if !is_dir || found.mount_point || path.as_bytes().len() + 1 + NAME_MAX > LONGEST_PATH {
            return Ok(Verdict::Keep);
        }
        for name in &self.if_present {
            if let Some(marker) = found.child(name.as_bytes())? {
                count(format!("has {name}"), true);
                return Ok(Verdict::OnlyMarker(Box::new(marker)));
            }
        }
        if self.caches
            && let Some(tag) = found.child(CACHE_TAG.as_bytes())?
            && is_cache_tag(&tag)
        {
            count(CACHE_TAG.to_owned(), true);
            return Ok(Verdict::OnlyMarker(Box::new(tag)));
        }
        Ok(Verdict::Keep)
    }

    /// The pattern that leaves out what has this path.
    fn pattern(&self, path: &RelPath, is_dir: bool) -> Option<String> {
        if path.is_root() {
            return None;
        }
        let Match::Ignore(glob) = self.patterns.matched(path.as_path(), is_dir) else { return None };
        let text = glob.original();
        Some(if glob.from().is_some() { format!("{IGNORE_FILE}: {text}") } else { text.to_owned() })
    }

    /// What was left out so far.
    pub(crate) fn excluded(&self) -> Excluded {
        let counts = self.counts.lock();
        let by = |(rule, (files, directories)): (&String, &(u64, u64))| ExcludedBy {
            rule: rule.clone(),
            files: *files,
            directories: *directories,
        };
        let mut rules: Vec<ExcludedBy> = counts.iter().map(by).collect();
        rules.sort_by_key(|by| std::cmp::Reverse(by.files.saturating_add(by.directories)));
        rules.truncate(EXCLUDED_RULES_MAX);
        Excluded {
            files: counts.values().map(|(files, _)| files).sum(),
            directories: counts.values().map(|(_, directories)| directories).sum(),
            rules,
        }
    }
}

/// Whether this is the tag of a cache: a regular file that begins as the specification says.
fn is_cache_tag(tag: &WalkEntry) -> bool {
    let begins = || {
        let (mut file, _) = tag.open().ok()?;
        let mut start = [0; CACHE_SIGNATURE.len()];
        file.read_exact(&mut start).ok()?;
        Some(start == *CACHE_SIGNATURE)
    };
    tag.entry.is_file() && !tag.mount_point && begins().unwrap_or(false)
}

/// The lines of the volume's own file that are neither empty nor comments; none if there is no such file.
fn read_ignore_file(root: &Path) -> Result<Vec<String>, String> {
    let options = convoy_tree::WalkOptions { xattrs: false, ..Default::default() };
    let mut walk = convoy_tree::walk(root, options).map_err(|error| error.to_string())?;
    let Some(Ok(convoy_tree::Found::Entry(root))) = walk.next() else { return Ok(Vec::new()) };
    let Some(found) = root.child(IGNORE_FILE.as_bytes()).map_err(|error| error.to_string())? else {
        return Ok(Vec::new());
    };
    if !found.entry.is_file() || found.mount_point {
        return Err("it is no regular file".to_owned());
    }
    let (file, _) = found.open().map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    file.take(IGNORE_FILE_MAX + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > IGNORE_FILE_MAX {
        return Err(format!("it has more than {IGNORE_FILE_MAX} bytes"));
    }
    let text = String::from_utf8(text).map_err(|_| "it is no UTF-8 text".to_owned())?;
    let rules = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let lines: Vec<String> = text.lines().filter(rules).map(str::to_owned).collect();
    if lines.len() > IGNORE_RULES_MAX {
        return Err(format!("it has {} patterns, and may have {IGNORE_RULES_MAX}", lines.len()));
    }
    Ok(lines)
}

/// Whether a line is one pattern, and why not.
fn one(line: &str) -> Result<(), String> {
    if line.len() > RULE_MAX {
        return Err(format!("it has more than {RULE_MAX} bytes"));
    }
    if line.chars().any(char::is_control) {
        return Err("it has a control character".to_owned());
    }
    let mut builder = GitignoreBuilder::new("");
    builder.add_line(None, line).map_err(|error| error.to_string())?;
    match builder.build() {
        Err(error) => Err(error.to_string()),
        Ok(built) if built.len() == 1 => Ok(()),
        // A comment, or nothing at all.
        Ok(_) => Err("it says nothing; a pattern that begins with # is written \\#".to_owned()),
    }
}

/// The patterns, those of the volume's own file first: the last that matches decides.
fn compile(rules: &ExcludeRules, lines: &[String]) -> Result<Gitignore, ExcludeError> {
    let too_many = |what, found, most| Err(ExcludeError::TooMany { what, found, most });
    if rules.patterns.len() > RULES_MAX {
        return too_many("patterns", rules.patterns.len(), RULES_MAX);
    }
    if rules.if_present.len() > MARKERS_MAX {
        return too_many("markers", rules.if_present.len(), MARKERS_MAX);
    }
    let is_name = |name: &str| {
        !matches!(name, "" | "." | "..") && name.len() <= NAME_MAX && !name.contains(['/', '\0'])
    };
    if let Some(name) = rules.if_present.iter().find(|name| !is_name(name)) {
        return Err(ExcludeError::Marker(name.chars().take(80).collect()));
    }
    let refused = |pattern: &str, why: String| ExcludeError::Pattern {
        pattern: pattern.chars().take(80).collect(),
        why,
    };
    let mut builder = GitignoreBuilder::new("");
    let own = Some(Path::new(IGNORE_FILE).to_owned());
    let from_volume = lines.iter().map(|line| (own.clone(), line));
    for (from, line) in from_volume.chain(rules.patterns.iter().map(|line| (None, line))) {
        one(line).map_err(|why| refused(line, why))?;
        builder.add_line(from, line).map_err(|error| refused(line, error.to_string()))?;
    }
    builder.build().map_err(|error| refused("all together", error.to_string()))
}

#[cfg(test)]
#[path = "exclude/tests.rs"]
mod tests;
