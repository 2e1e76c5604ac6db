//! A table `[[exclude]]` of `convoy.toml`.

use serde::Deserialize;

/// `[[exclude]]`, as users write it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExcludeTable {
    /// Of which volumes, by patterns with `*`, `?` and `[...]`.
    pub volumes: Vec<String>,
    /// Patterns in the syntax of gitignore.
    pub files: Vec<String>,
    /// Names of markers: of a directory that has one only itself and the marker is kept.
    pub if_present: Vec<String>,
    /// Whether the same holds for directories with a valid `CACHEDIR.TAG`.
    pub caches: bool,
    /// Whether `.convoyignore` in the root of the volume is followed.
    pub allow_convoyignore: bool,
}
