//! The flags of `convoy daemon`, from the table of settings.

use super::values::{GivenValue, Size, Source, Values};
use super::{Kind, SETTINGS, Setting};
use clap::builder::{BoolishValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use std::path::{Path, PathBuf};

/// The setting whose flag every command has.
const SOCKET: &str = "socket";

impl Setting {
    fn flag(&'static self) -> Arg {
        let default = match (self.kind, self.default) {
            (Kind::Switch, _) => "",
            (_, "") => self.unset,
            (_, default) => default,
        };
        let default = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
        let flag = Arg::new(self.key).long(self.key).value_name(self.value_name);
        let flag = flag.env(self.variable).help(format!("{}{default}", self.help));
        match self.kind {
            Kind::Text if !self.choices.is_empty() => {
                let choices = move || self.choices.iter().map(CompletionCandidate::new).collect();
                flag.add(ArgValueCandidates::new(choices))
            }
            Kind::Text => flag,
            Kind::Path => flag.value_hint(ValueHint::AnyPath),
            Kind::Switch => flag
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_parser(BoolishValueParser::new().map(|is_on| is_on.to_string()))
                .hide_possible_values(true),
            Kind::Size => flag.value_parser(|text: &str| {
                crate::args::size_to_reach(text).map(|bytes| Size(bytes).to_string())
            }),
            Kind::List(separator) => flag.action(ArgAction::Append).value_delimiter(separator),
        }
    }
}

impl Args for Values {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().filter(|setting| setting.key != SOCKET).map(Setting::flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Values {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut values = Self::default();
        values.update_from_arg_matches(matches)?;
        Ok(values)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in SETTINGS {
            let Some(source) = source(matches, setting.key, setting.variable) else { continue };
            let texts = if setting.key == SOCKET {
                matches
                    .get_one::<PathBuf>(SOCKET)
                    .map(|path| text_of_path(path))
                    .transpose()?
                    .into_iter()
                    .collect()
            } else {
                matches.get_many::<String>(setting.key).into_iter().flatten().cloned().collect()
            };
            self.0.insert(setting.key.to_owned(), GivenValue { texts, source });
        }
        // A global flag of all commands; the daemon's log knows it as a level.
        if matches.try_get_one::<bool>("debug").is_ok_and(|debug| debug == Some(&true))
            && let Some(source) = source(matches, "debug", "CONVOY_DEBUG")
        {
            let given = GivenValue { texts: vec!["debug".to_owned()], source };
            self.0.entry("log-level".to_owned()).or_insert(given);
        }
        Ok(())
    }
}

/// Where a flag's value comes from, if it has one that somebody gave.
fn source(matches: &ArgMatches, key: &str, variable: &str) -> Option<Source> {
    match matches.value_source(key)? {
        ValueSource::EnvVariable => Some(Source::Environment(variable.to_owned())),
        ValueSource::CommandLine => Some(Source::Flag(format!("--{key}"))),
        _ => None,
    }
}

fn text_of_path(path: &Path) -> Result<String, clap::Error> {
    let why = || clap::Error::raw(ErrorKind::InvalidUtf8, format!("{} is not UTF-8\n", path.display()));
    path.to_str().map(str::to_owned).ok_or_else(why)
}
