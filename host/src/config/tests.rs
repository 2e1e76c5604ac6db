use super::file::File;
use super::*;
use convoy_cli::args::DaemonArgs;
use convoy_cli::settings::SETTINGS;
use convoy_cli::settings::values::{GivenValue, Source, Values};
use convoy_client::types::General;
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

/// As convoy 0.5.2 wrote it.
const SAVED: &str = concat!(
    r#"{"Root":"/var/lib/rancher/convoy","DriverList":["vfs"],"DefaultDriver":"vfs","MountNamespaceFD":"","#,
    r#""IgnoreDockerDelete":false,"CreateOnDockerMount":false,"CmdTimeout":""}"#,
    "\n"
);

fn root_with(saved: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join(FILE), saved).unwrap();
    root
}

fn args() -> DaemonArgs {
    DaemonArgs::default()
}

/// Flags, each with its values.
fn flags(flags: &[(&str, &[&str])]) -> DaemonArgs {
    let given = |(key, texts): &(&str, &[&str])| {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        ((*key).to_owned(), GivenValue { texts, source: Source::Flag(format!("--{key}")) })
    };
    DaemonArgs { values: Values(flags.iter().map(given).collect()), ..args() }
}

fn load(root: &Path, args: &DaemonArgs) -> Result<Config, ConfigError> {
    super::load(root, Layers { args, file: &File::default() })
}

fn load_with(root: &Path, args: &DaemonArgs, file: &str) -> Result<Config, ConfigError> {
    let file = File::parse(Path::new("/etc/convoy/convoy.toml"), file).unwrap();
    super::load(root, Layers { args, file: &file })
}

fn shown(config: &Config, key: &str) -> String {
    let given = &config.shown.0[key];
    format!("{} from {}", given.text(), given.source)
}

#[test]
fn each_layer_wins_over_the_one_below_and_is_named() {
    let root = root_with(SAVED);
    let file = "root = \"/r\"\nlog-level = \"warn\"\ndocker-remove = \"delete\"\ndrivers = [\"vfs\", \
        \"dm\"]\n\
        [driver-options]\nvfs.path = \"/file\"\ndm.x = 1\n";
    let mut args = flags(&[("log-level", &["trace"]), ("docker-remove", &["keep"])]);
    args.driver_opts = vec!["vfs.path=/flag".to_owned()];
    args.values.0.get_mut("log-level").unwrap().source = Source::Environment("CONVOY_LOG_LEVEL".to_owned());
    let config = load_with(root.path(), &args, file).unwrap();
    assert_eq!(shown(&config, "log-level"), "trace from environment CONVOY_LOG_LEVEL");
    assert_eq!(shown(&config, "docker-remove"), "keep from flag --docker-remove");
    assert_eq!(shown(&config, "drivers"), "vfs,dm from /etc/convoy/convoy.toml:4");
    assert_eq!(shown(&config, "driver-options.vfs.path"), "/flag from flag --driver-opts");
    assert_eq!(shown(&config, "driver-options.dm.x"), "1 from /etc/convoy/convoy.toml:7");
    assert_eq!(shown(&config, "stop-timeout"), "45s from default");
    assert_eq!(shown(&config, "socket"), "/var/run/convoy/convoy.sock from default");
    assert_eq!(config.driver_options["vfs.path"], "/flag");
    assert_eq!(
        config.general.driver_list,
        ["vfs", "dm"],
        "the file is edited on purpose: what is saved gives way"
    );

    let saved = root_with(&SAVED.replace("\"CmdTimeout\":\"\"", "\"CmdTimeout\":\"2m\""));
    let config = load(saved.path(), &DaemonArgs::default()).unwrap();
    let from = format!("2m from saved in {}", saved.path().join(FILE).display());
    assert_eq!(shown(&config, "cmd-timeout"), from);
}

#[test]
fn values_that_cannot_be_are_refused_with_their_place() {
    let root = tempfile::tempdir().unwrap();
    for (file, parts) in [
        ("\nlog-level = \"loud\"", ["convoy.toml:2", "expected error, warn"]),
        ("docker-remove = \"maybe\"", ["convoy.toml:1", "keep or delete"]),
        ("stop-timeout = \"soon\"", ["convoy.toml:1", "numbers with units"]),
    ] {
        let error = load_with(root.path(), &args(), file).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn the_file_of_0_5_is_read_and_written_to_the_byte() {
    let root = root_with(SAVED);
    let mut general = load(root.path(), &args()).unwrap().general;
    assert_eq!(general.root, root.path().display().to_string(), "a root that was moved is where it is");
    general.root = "/var/lib/rancher/convoy".to_owned();
    general.default_driver = "vfs".to_owned();
    std::fs::remove_file(root.path().join(FILE)).unwrap();
    save(root.path(), &general).unwrap();
    assert_eq!(std::fs::read_to_string(root.path().join(FILE)).unwrap(), SAVED);
}

#[test]
fn the_rows_say_what_is_saved() {
    let mut saved = merge::saved(&General::default()).map(|(key, _)| key);
    saved.sort_unstable();
    let rows = SETTINGS.iter().filter(|setting| setting.saved).map(|setting| setting.key);
    let mut rows: Vec<&str> = rows.collect();
    rows.sort_unstable();
    assert_eq!(rows, saved);
}

#[test]
fn a_first_start_takes_the_command_line() {
    let root = tempfile::tempdir().unwrap();
    let config = load(root.path(), &args()).unwrap();
    assert_eq!(config.general.driver_list, ["vfs"]);
    let all = flags(&[
        ("drivers", &["a1", "process:b1"]),
        ("cmd-timeout", &["2m"]),
        ("ignore-docker-delete", &["true"]),
        ("mnt-ns", &["/proc/self/ns/mnt"]),
    ]);
    let config = load(root.path(), &all).unwrap();
    assert_eq!(config.general.driver_list, ["a1", "process:b1"]);
    assert_eq!(config.settings.cmd_timeout, Some(Duration::from_secs(120)));
    assert_eq!(config.settings.mnt_ns, Some("/proc/self/ns/mnt".into()));
    assert!(config.general.ignore_docker_delete && !config.general.create_on_docker_mount);
}

#[test]
fn a_flag_that_differs_is_refused_with_both_values() {
    let root = root_with(SAVED);
    let given = flags(&[
        ("drivers", &["devicemapper"]),
        ("create-on-docker-mount", &["true"]),
        ("ignore-docker-delete", &["false"]),
    ]);
    let error = load(root.path(), &given).unwrap_err().to_string();
    for part in
        ["--drivers", "\"vfs\"", "\"devicemapper\"", "--create-on-docker-mount", "--ignore-config-file"]
    {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(!error.contains("--ignore-docker-delete"), "{error}");
    let ignoring = DaemonArgs { ignore_config_file: true, ..given };
    let taken = load(root.path(), &ignoring).unwrap().general;
    assert_eq!((taken.driver_list, taken.create_on_docker_mount), (vec!["devicemapper".to_owned()], true));
}

#[test]
fn what_cannot_be_is_refused() {
    for saved in ["", "{", "[]", r#"{"DriverList": 5}"#] {
        let root = root_with(saved);
        assert!(matches!(load(root.path(), &args()), Err(ConfigError::Unreadable { .. })), "{saved}");
        assert!(load(root.path(), &DaemonArgs { ignore_config_file: true, ..args() }).is_ok());
    }
    let root = tempfile::tempdir().unwrap();
    for timeout in ["30s", "soon", ""] {
        let given = flags(&[("cmd-timeout", &[timeout])]);
        assert_eq!(load(root.path(), &given).is_ok(), timeout.is_empty(), "{timeout}");
    }
    let nowhere = flags(&[("mnt-ns", &["/nonexistent/mnt"])]);
    assert!(matches!(load(root.path(), &nowhere), Err(ConfigError::Value { key: "mnt-ns", .. })));
}

fn any_args() -> impl Strategy<Value = DaemonArgs> {
    let names = prop::collection::vec("[a-z]{2,4}", 0..3);
    let flag = || prop::option::of(any::<bool>());
    let timeout = prop::option::of(prop::sample::select(vec!["1m", "90s", "1h"]));
    (names, flag(), flag(), timeout).prop_map(|(drivers, ignore, create, timeout)| {
        let drivers: Vec<&str> = drivers.iter().map(String::as_str).collect();
        let switch = |flag: Option<bool>| flag.map(|flag| if flag { "true" } else { "false" });
        let mut given = Vec::new();
        if !drivers.is_empty() {
            given.push(("drivers", drivers.as_slice()));
        }
        let (ignore, create) = (switch(ignore), switch(create));
        given.extend(ignore.as_slice().chunks(1).map(|it| ("ignore-docker-delete", it)));
        given.extend(create.as_slice().chunks(1).map(|it| ("create-on-docker-mount", it)));
        given.extend(timeout.as_slice().chunks(1).map(|it| ("cmd-timeout", it)));
        flags(&given)
    })
}

proptest! {
    /// Whatever the first start was given: nothing, or the same, starts it again alike; and no start ever has
    /// settings that were neither saved nor given.
    #[test]
    fn what_was_saved_is_never_overridden_in_silence(first in any_args(), second in any_args()) {
        let root = tempfile::tempdir().unwrap();
        let saved = load(root.path(), &first).unwrap();
        save(root.path(), &saved.general).unwrap();
        // Where a value comes from, and what a first start is, differs.
        let bare = |config: Config| (config.general, config.settings.cmd_timeout, config.settings.mnt_ns);
        let drivers = saved.general.driver_list.clone();
        let ignore = saved.general.ignore_docker_delete;
        let saved = bare(saved);
        prop_assert_eq!(&bare(load(root.path(), &DaemonArgs::default()).unwrap()), &saved);
        prop_assert_eq!(&bare(load(root.path(), &first).unwrap()), &saved);
        if let Ok(again) = load(root.path(), &second) {
            prop_assert_eq!(&bare(again), &saved);
            let second = second.values;
            prop_assert!(second.texts("drivers").is_empty() || second.texts("drivers") == drivers);
            prop_assert!(second.0.get("ignore-docker-delete").is_none_or(|flag| flag.text() == ignore.to_string()));
        }
    }

    /// A file that was torn, spliced and mistyped is read or refused; what is read stands on lines that are
    /// there, and a message never repeats a value, which may be a secret.
    #[test]
    fn a_mangled_file_is_read_or_refused_and_tells_no_value(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[\\[\\]{}\"'=.#\\n\\\\a-z0-9 ]{0,6}"), 0..6)
    ) {
        let mut text: Vec<char> = concat!(
            "root = \"/r\"\ndrivers = [\"vfs\"]\nlog-level = \"warn\"\nmemory = \
             \"128M\"\n[driver-options]\nvfs.path = \"/file\"\n",
            "do.token = \"SWORDFISH\"\n[destinations.\"s3://b/\"]\nendpoint = \"https://m\"\nbandwidth = \
             \"20M\"\n",
            "[[schedule]]\nname = \"n\"\ncron = \"@daily\"\nvolumes = [\"*\"]\nkind = \"backup\"\nas = \
             \"tree\"\nkeep = { daily = 7 }\n",
        ).chars().collect();
        for (at, length, with) in cuts {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            text.splice(at..end, with.chars());
        }
        let text: String = text.into_iter().collect();
        match File::parse(Path::new("/c.toml"), &text) {
            Ok(file) => {
                for (key, _, line) in file.values() {
                    prop_assert!((1..=text.lines().count()).contains(&line), "{key} on line {line} of {text}");
                }
            }
            Err(error) => prop_assert!(!error.to_string().contains("SWORDFISH"), "{error}"),
        }
    }
}
