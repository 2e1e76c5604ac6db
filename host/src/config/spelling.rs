//! Keys of the file of settings are spelt with dashes; those with underscores are understood, and told of.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _};
use std::borrow::Cow;
use toml::de::{DeTable, DeValue};

/// Brings keys into the spelling with dashes. Nothing moves: a text with the same length comes out, so that
/// places in it stay what they are. Gives it with a warning for each key that was spelt otherwise.
///
/// Names that are not convoy's are left alone: options of drivers, URLs of destinations, headers.
pub(crate) fn with_dashes(text: &str) -> (String, Vec<String>) {
    let Ok(table) = DeTable::parse(text) else {
        // Whoever reads it says what is wrong.
        return (text.to_owned(), Vec::new());
    };
    let mut found = Vec::new();
    collect(table.get_ref(), &mut Vec::new(), &mut found);
    let mut bytes = text.as_bytes().to_vec();
    let mut warnings = Vec::new();
    for (start, end) in found {
        let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
        let Some(part) = bytes.get_mut(start..end) else { continue };
        let old = String::from_utf8_lossy(part).into_owned();
        part.iter_mut().filter(|byte| **byte == b'_').for_each(|byte| *byte = b'-');
        warnings.push(format!("line {line}: {old} is spelt {}", old.replace('_', "-")));
    }
    // Dashes in the place of underscores leave what was UTF-8 UTF-8.
    (String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned()), warnings)
}

/// Collects the places of keys with underscores.
fn collect(table: &DeTable<'_>, above: &mut Vec<String>, found: &mut Vec<(usize, usize)>) {
    for (key, value) in table {
        let name = key.get_ref().replace('_', "-");
        let is_ours = above.last().is_none_or(|above| above != "destinations" && above != "headers");
        // A header of a table may name it once more than it begins: only the first place is known, and it
        // suffices.
        if is_ours && key.get_ref().contains('_') {
            found.push((key.span().start, key.span().end));
        }
        if above.is_empty() && name == "driver-options" {
            continue;
        }
        above.push(name);
        each_table(value.get_ref(), &mut |table| collect(table, above, found));
        above.pop();
    }
}

fn each_table(value: &DeValue<'_>, visit: &mut dyn FnMut(&DeTable<'_>)) {
    match value {
        DeValue::Table(table) => visit(table),
        DeValue::Array(items) => items.iter().for_each(|item| each_table(item.get_ref(), visit)),
        _ => {}
    }
}

/// One of the keys that a table may have.
pub(super) struct OneOf<'a>(pub(super) &'a [&'static str]);

impl<'de> DeserializeSeed<'de> for OneOf<'_> {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<&'static str, D::Error> {
        let key = Cow::<str>::deserialize(from)?;
        let known = self.0.iter().find(|known| **known == key);
        // As serde says it of a struct.
        known.copied().ok_or_else(|| {
            let known: Vec<_> = self.0.iter().map(|known| format!("`{known}`")).collect();
            D::Error::custom(format!("unknown field `{key}`, expected one of {}", known.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_have_dashes_and_those_of_others_are_left_alone() {
        let text = "log_level = \"a_b\"\n[driver_options]\nmy_driver.some_option = 1\n\
            [destinations.\"s3://my_bucket/\"]\nca_file = \"/a_b\"\npath_style = true\n\
            [[schedule]]\nname = \"x_y\"\nkeep_snapshots = { last = 1 }\n\
            [[schedule.notify]]\nheaders = { X_Y = \"a_b\" }\n[[schedule.before]]\nany_container = true\n";
        let (dashes, warnings) = with_dashes(text);
        let expected = text
            .replace("log_level", "log-level")
            .replace("driver_options", "driver-options")
            .replace("ca_file", "ca-file")
            .replace("path_style", "path-style")
            .replace("keep_snapshots", "keep-snapshots")
            .replace("any_container", "any-container");
        assert_eq!(dashes, expected);
        assert_eq!(warnings.len(), 6);
        assert!(warnings.contains(&"line 5: ca_file is spelt ca-file".to_owned()), "{warnings:?}");
        let (same, none) = with_dashes(&dashes);
        assert_eq!((same, none.len()), (dashes, 0));
        assert_eq!(with_dashes("no toml [").0, "no toml [");
    }
}
