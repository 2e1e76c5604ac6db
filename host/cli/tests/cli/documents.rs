//! The documents say what the program does: `docs/cli.md` ends with a reference made from the definition of
//! the command line, `docs/operations/configuration.md` has the table of settings. To renew them:
//! `CONVOY_UPDATE_DOCS=1 cargo nextest run -p convoy-cli documents`.

use crate::daemon::nobody;
use crate::run::run;
use convoy_cli::settings::{Kind, SETTINGS, Setting, TABLES};
use std::fmt::Write;

const MARK: &str = "<!-- Made from the definition of the command line; do not edit below. -->\n";

fn reference() -> String {
    let mut command = convoy_cli::command().term_width(0);
    command.build();
    let mut text = String::from(MARK);
    section(&mut text, &command);
    text
}

fn section(text: &mut String, command: &clap::Command) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = command.get_bin_name().unwrap_or("convoy");
    write!(text, "\n### `{name}`\n\n{}.\n", command.get_about().unwrap().to_string().trim_end_matches('.'))
        .unwrap();
    let aliases: Vec<_> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
    if !aliases.is_empty() {
        writeln!(text, "Also written {}.", aliases.join(", ")).unwrap();
    }
    let usage = command.clone().render_usage().to_string();
    write!(text, "\n    {}\n", usage.trim_start_matches("Usage: ").trim_end()).unwrap();
    let top = !name.contains(' ');
    let arguments: Vec<_> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && argument.get_id() != "help")
        .filter(|argument| top || !is_global(argument))
        .collect();
    if !arguments.is_empty() {
        text.push_str("\n| argument | meaning |\n| --- | --- |\n");
        arguments.into_iter().for_each(|argument| row(text, argument));
    }
    command.get_subcommands().for_each(|subcommand| section(text, subcommand));
}

/// Those of `convoy` itself are told once.
fn is_global(argument: &clap::Arg) -> bool {
    convoy_cli::command().get_arguments().any(|global| global.get_id() == argument.get_id())
}

fn row(text: &mut String, argument: &clap::Arg) {
    let value = argument.get_value_names().filter(|_| argument.get_action().takes_values());
    let value = value.map(|names| names.join(" ")).unwrap_or_default();
    let optional = argument.get_num_args().is_some_and(|range| range.min_values() == 0);
    let value = match (value.as_str(), optional) {
        ("", _) => String::new(),
        (value, true) => format!("[={value}]"),
        (value, false) => format!(" {value}"),
    };
    let spelling = match (argument.get_long(), argument.get_short()) {
        (Some(long), Some(short)) => format!("`--{long}{value}`, `-{short}`"),
        (Some(long), None) => format!("`--{long}{value}`"),
        (None, _) => format!("`{}`", value.trim()),
    };
    let mut meaning = argument.get_help().map(ToString::to_string).unwrap_or_default();
    if let Some(variable) = argument.get_env() {
        write!(meaning, " (`{}`)", variable.display()).unwrap();
    }
    writeln!(text, "| {spelling} | {} |", meaning.replace('|', "\\|").replace('<', "&lt;")).unwrap();
}

/// Compares a document with what the program says, or renews it.
fn check(path: &str, renewed: impl FnOnce(&str) -> String) {
    let path = format!("{}/../../docs/{path}", env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(&path).unwrap();
    let renewed = renewed(&document);
    if std::env::var_os("CONVOY_UPDATE_DOCS").is_some() {
        return std::fs::write(path, renewed).unwrap();
    }
    assert!(document == renewed, "{path} is behind: run this test once with CONVOY_UPDATE_DOCS=1");
}

#[test]
fn the_reference_is_up_to_date() {
    check("cli.md", |document| {
        let (written_by_hand, _) = document.split_once(MARK).unwrap();
        format!("{written_by_hand}{}", reference())
    });
}

const TABLE: &str = "<!-- Made from the table of settings; do not edit. -->\n";

/// The default of a setting as the file would have it.
fn default(setting: &Setting) -> String {
    match (setting.kind, setting.default) {
        (Kind::List(_), _) => format!("`{:?}`", setting.texts()),
        (_, "") => setting.unset.to_owned(),
        (Kind::Switch, default) => format!("`{default}`"),
        (_, default) => format!("`{default:?}`"),
    }
}

fn settings() -> String {
    let mut text = format!("{TABLE}\n| key | default | reload | meaning |\n| --- | --- | --- | --- |\n");
    let reload = |takes: bool| if takes { "yes" } else { "" };
    for setting in SETTINGS.iter().filter(|setting| setting.in_file) {
        let mut meaning = setting.help.to_owned();
        if !setting.more.is_empty() {
            write!(meaning, "; {}", setting.more).unwrap();
        }
        meaning.push_str(if setting.saved { "; *saved*" } else { "" });
        let (default, reload) = (default(setting), reload(setting.reload));
        writeln!(text, "| `{}` | {default} | {reload} | {meaning} |", setting.key).unwrap();
    }
    for table in TABLES {
        writeln!(text, "| `{}` | | {} | {} |", table.header, reload(table.reload), table.meaning).unwrap();
    }
    // Empty cells, of which two may stand side by side.
    text.replace("|  |", "| |").replace("|  |", "| |")
}

#[test]
fn the_table_of_settings_is_whole_and_says_what_a_reload_takes() {
    check("operations/configuration.md", |document| {
        let (before, table) = document.split_once(TABLE).unwrap();
        let rows = table.trim_start().find("\n\n").unwrap();
        format!("{before}{}{}", settings(), &table.trim_start()[rows + 1..])
    });
}

/// Every page, with its path; of `docs/cli.md` what is written by hand.
fn pages() -> Vec<(String, String)> {
    let top = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut files = vec![format!("{top}/README.md")];
    for directory in ["docs", "docs/operations", "docs/drivers"] {
        for entry in std::fs::read_dir(format!("{top}/{directory}")).unwrap() {
            files.push(entry.unwrap().path().display().to_string());
        }
    }
    files.retain(|file| file.ends_with(".md"));
    let read = |file: String| {
        let text = std::fs::read_to_string(&file).unwrap();
        let by_hand = text.split(MARK).next().unwrap().to_owned();
        (file, by_hand)
    };
    files.into_iter().map(read).collect()
}

/// A command line as it is typed: without what explains it, and without where its output goes.
fn typed(line: &str) -> &str {
    let line = line.split(" #").next().unwrap().split(" | ").next().unwrap();
    line.split(" > ").next().unwrap().trim_end_matches(" |").trim()
}

#[test]
fn examples_in_the_documents_are_understood() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (file, text) in pages() {
        let lines = text.lines().filter(|line| line.starts_with("    "));
        let lines = lines.map(|line| line.trim_start().trim_start_matches("$ "));
        for line in lines.filter_map(|line| line.strip_prefix("convoy ")) {
            // A table of commands has them in its first column.
            let line = typed(line.split("   ").next().unwrap()).replace(['[', ']'], "");
            // The commands that drivers bring are theirs, and Podman has a setting of that name.
            if line.starts_with("devicemapper ") || line.starts_with("= ") {
                continue;
            }
            let words = crate::run::words(&line.replace('"', "'"));
            let words = std::iter::once("convoy".into()).chain(words.into_iter().map(Into::into));
            seen += 1;
            if matches!(convoy_cli::parse(words), convoy_cli::Parsed::Done(_)) {
                wrong.push(format!("{file}: convoy {line}"));
            }
        }
    }
    assert!(seen > 60 && wrong.is_empty(), "{seen} read, not understood: {wrong:#?}");
}

/// `convoy backup prune --dry-run` within a sentence: there is such a command, and it has such a flag.
#[test]
fn commands_named_in_the_documents_exist() {
    let mut root = convoy_cli::command();
    root.build();
    let (mut seen, mut wrong) = (0, Vec::new());
    for (file, text) in pages() {
        for said in text.split('`').filter_map(|span| span.strip_prefix("convoy ")) {
            let said = typed(said.split(" -- ").next().unwrap());
            // The commands that drivers bring are theirs, and `convoy store key v1` is in a format.
            let others = ["devicemapper ", "store key "].iter().any(|of| said.starts_with(of));
            if others || said.contains('\n') || !said.starts_with(char::is_lowercase) {
                continue;
            }
            let mut command = &root;
            let mut words = said.split_whitespace().peekable();
            while let Some(below) = words.peek().and_then(|word| command.find_subcommand(word)) {
                command = below;
                words.next();
            }
            let has = |flag: &str| {
                let flag = flag.split('=').next().unwrap();
                command.get_arguments().chain(root.get_arguments()).any(|argument| {
                    let short = argument.get_short_and_visible_aliases().unwrap_or_default();
                    argument.get_long().is_some_and(|long| flag == format!("--{long}"))
                        || short.iter().any(|short| flag == format!("-{short}"))
                })
            };
            seen += 1;
            if std::ptr::eq(command, &root) || !words.filter(|word| word.starts_with('-')).all(has) {
                wrong.push(format!("{file}: convoy {said}"));
            }
        }
    }
    assert!(seen > 60 && wrong.is_empty(), "{seen} read, unknown: {wrong:#?}");
}

#[test]
fn man_pages_and_completions_are_made() {
    let (directory, socket) = nobody();
    let pages = directory.path().join("man/man1");
    let ran = run(&socket, &["man", pages.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "\n"), "{ran:?}");
    for page in ["convoy.1", "convoy-backup-create.1", "convoy-daemon.1"] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".SH NAME") && text.contains("convoy"), "{page}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(&socket, &["completions", shell]);
        assert!(ran.code == Some(0) && ran.stdout.contains("CONVOY_COMPLETE"), "{shell}");
    }
    let ran = run(&socket, &["man", "/proc/nowhere"]);
    assert!(ran.code == Some(1) && ran.stdout.contains("cannot write man pages to /proc/nowhere"), "{ran:?}");
}
