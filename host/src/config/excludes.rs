//! What is left out of the backups of which volumes: `[[exclude]]`.

use super::error::ConfigError;
use super::exclude_table::ExcludeTable;
use super::file::File;
use convoy_backup::ExcludeRules;
use convoy_schedule::select::Selection;

/// What is left out, by volume.
#[derive(Debug, Clone, Default)]
pub struct Excludes(Vec<(Selection, ExcludeRules)>);

impl Excludes {
    /// The rules of a file.
    ///
    /// # Errors
    /// [`ConfigError::Exclude`], with the line.
    pub(super) fn of_file(file: &File) -> Result<Self, ConfigError> {
        let one = |(number, config): (usize, &ExcludeTable)| {
            let wrong = |field: &str, why: String| {
                let keys = [field, "volumes", "files"].map(|field| format!("exclude.{number}.{field}"));
                let key = keys.into_iter().find(|key| file.line(key).is_some());
                ConfigError::Exclude { at: file.at(&key.unwrap_or_default()), why }
            };
            let selection = Selection::new(&config.volumes, &[], &[])
                .map_err(|error| wrong("volumes", error.to_string()))?;
            let rules = ExcludeRules {
                patterns: config.files.clone(),
                if_present: config.if_present.clone(),
                caches: config.caches,
                ignore_file: config.allow_convoyignore,
            };
            rules.check().map_err(|error| wrong("files", error.to_string()))?;
            Ok((selection, rules))
        };
        file.tables.exclude.iter().enumerate().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// What is left out of the backups of a volume, by all tables that name it, in their order.
    pub fn of(&self, volume: &str) -> ExcludeRules {
        let named = self.0.iter().filter(|(selection, _)| selection.matches(volume, None));
        named.fold(ExcludeRules::default(), |all, (_, rules)| all.and(rules.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Result<Excludes, ConfigError> {
        Excludes::of_file(&File::parse(Path::new("c.toml"), text)?)
    }

    #[test]
    fn every_table_that_names_a_volume_holds_for_it() {
        let text = "[[exclude]]\nvolumes = [\"*\"]\nfiles = [\"*.tmp\"]\n\n[[exclude]]\nvolumes = [\"db-*\"]\n\
                    files = [\"!keep.tmp\"]\nif-present = [\".nobackup\"]\ncaches = true\nallow-convoyignore = true\n";
        let excludes = read(text).unwrap();
        let web = excludes.of("web");
        assert_eq!((web.patterns, web.caches, web.ignore_file), (vec!["*.tmp".to_owned()], false, false));
        let db = excludes.of("db-1");
        assert_eq!(db.patterns, ["*.tmp", "!keep.tmp"]);
        assert_eq!((db.if_present, db.caches, db.ignore_file), (vec![".nobackup".to_owned()], true, true));
        assert!(read("").unwrap().of("web").is_empty());
    }

    #[test]
    fn what_is_no_rule_is_told_with_its_line() {
        for (text, line, said) in [
            ("[[exclude]]\nvolumes = [\"*\"]\nfiles = [\"[z-a]\"]\n", 3, "invalid pattern \"[z-a]\""),
            ("[[exclude]]\nfiles = [\"*.tmp\"]\n", 2, "which volumes"),
            ("[[exclude]]\nvolumes = [\"*\"]\nif-present = [\"a/b\"]\n", 2, "invalid marker"),
            ("[[exclude]]\nvolumes = [\"[\"]\nfiles = []\n", 2, "invalid pattern"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said) && error.ends_with(&format!("(c.toml:{line})")), "{text}: {error}");
        }
        let error = read("[[exclude]]\nvolums = []\n").unwrap_err().to_string();
        assert!(error.contains("unknown field `volums`"), "{error}");
    }
}
