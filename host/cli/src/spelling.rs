//! Spellings that convoy 0.5 took and clap does not: `-name x` for `--name x`, `--vm=true` for `--vm`.
//!
//! They are rewritten before clap sees them. `-name` would otherwise be read as a cluster of short flags, and
//! `-size 2G` as the socket `ize`.

use crate::args::OutputForm;
use clap::{ArgAction, Command};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// Rewrites arguments (the program's name first) up to a `--`.
pub fn normalise(command: &Command, arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let flags = Flags::of(command);
    let mut literal = false;
    let mut rewritten = Vec::new();
    for argument in arguments {
        literal |= argument == "--";
        match argument.to_str() {
            Some(text) if !literal => rewritten.extend(flags.rewrite(text).map(OsString::from)),
            _ => rewritten.push(argument),
        }
    }
    rewritten
}

/// The form of output that arguments ask for, for when they cannot be parsed as a whole.
pub fn output_form(arguments: &[OsString]) -> Option<OutputForm> {
    let mut words = arguments.iter().filter_map(|argument| argument.to_str());
    while let Some(word) = words.next() {
        let value = if word == "--output" { words.next() } else { word.strip_prefix("--output=") };
        match value {
            Some("json") => return Some(OutputForm::Json),
            Some("table") => return Some(OutputForm::Table),
            _ => {}
        }
    }
    match std::env::var("CONVOY_OUTPUT").as_deref() {
        Ok("json") => Some(OutputForm::Json),
        Ok("table") => Some(OutputForm::Table),
        _ => None,
    }
}

/// The long names of all flags.
struct Flags {
    all: BTreeSet<String>,
    switches: BTreeSet<String>,
}

impl Flags {
    fn of(command: &Command) -> Self {
        let mut flags = Self { all: ["help".to_owned()].into(), switches: BTreeSet::new() };
        flags.collect(command);
        flags
    }

    fn collect(&mut self, command: &Command) {
        for argument in command.get_arguments() {
            let names = argument.get_long_and_visible_aliases().unwrap_or_default();
            let names = names.into_iter().chain(argument.get_all_aliases().unwrap_or_default());
            for name in names {
                self.all.insert(name.to_owned());
                if matches!(argument.get_action(), ArgAction::SetTrue) {
                    self.switches.insert(name.to_owned());
                }
            }
        }
        command.get_subcommands().for_each(|subcommand| self.collect(subcommand));
    }

    /// What to give to clap for this argument; nothing for a switch that is switched off.
    fn rewrite(&self, argument: &str) -> Option<String> {
        let as_is = Some(argument.to_owned());
        let Some(dashless) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            return as_is;
        };
        let (name, value) = match dashless.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (dashless, None),
        };
        if !self.all.contains(name) {
            return as_is;
        }
        match value {
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") if self.switches.contains(name) => {
                Some(format!("--{name}"))
            }
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") if self.switches.contains(name) => None,
            _ => Some(format!("--{dashless}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> String {
        let words = line.split(' ').map(OsString::from);
        let words = normalise(&crate::command(), words);
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        assert_eq!(rewritten("convoy create v1 -size 2G"), "convoy create v1 --size 2G");
        assert_eq!(rewritten("convoy -socket=/x list -driver"), "convoy --socket=/x list --driver");
        assert_eq!(rewritten("convoy backup list d -volume-uuid v"), "convoy backup list d --volume-uuid v");
        assert_eq!(rewritten("convoy delete -r v1 -s /x -- -name"), "convoy delete -r v1 -s /x -- -name");
    }

    #[test]
    fn switches_take_a_value() {
        assert_eq!(rewritten("convoy create --vm=true v1"), "convoy create --vm v1");
        assert_eq!(rewritten("convoy delete --reference=false v1"), "convoy delete v1");
        assert_eq!(rewritten("convoy create --vm=maybe v1"), "convoy create --vm=maybe v1");
        assert_eq!(
            rewritten("convoy daemon --ignore-docker-delete=false"),
            "convoy daemon --ignore-docker-delete=false"
        );
    }

    #[test]
    fn the_form_is_known_before_parsing() {
        let form = |line: &str| output_form(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(form("convoy --output table bogus"), Some(OutputForm::Table));
        assert_eq!(form("convoy bogus --output=json"), Some(OutputForm::Json));
    }
}
