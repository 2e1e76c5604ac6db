use super::*;
use convoy_cli::args::DaemonArgs;
use proptest::prelude::*;

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

fn load(root: &Path, args: &DaemonArgs) -> Result<Config, ConfigError> {
    super::load(root, Layers { args, file: &File::default() })
}

fn load_with(root: &Path, args: &DaemonArgs, file: &str) -> Result<Config, ConfigError> {
    let file = File::parse(Path::new("/etc/convoy/convoy.toml"), file).unwrap();
    super::load(root, Layers { args, file: &file })
}

fn shown(config: &Config, key: &str) -> String {
    let setting = &config.shown[key];
    format!("{} from {}", setting.value, setting.source)
}

#[test]
fn each_layer_wins_over_the_one_below_and_is_named() {
    let root = root_with(SAVED);
    let file = "root = \"/r\"\nlog-level = \"warn\"\ndocker-remove = \"delete\"\ndrivers = [\"vfs\", \"dm\"]\n\
                [driver-options]\nvfs.path = \"/file\"\ndm.x = 1\n";
    let args = DaemonArgs {
        log_level: Some("trace".to_owned()),
        docker_remove: Some("keep".to_owned()),
        driver_opts: vec!["vfs.path=/flag".to_owned()],
        by_environment: ["log-level".to_owned()].into(),
        ..args()
    };
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
fn a_first_start_takes_the_command_line() {
    let root = tempfile::tempdir().unwrap();
    let config = load(root.path(), &args()).unwrap();
    assert_eq!(config.general.driver_list, ["vfs"]);
    let all = DaemonArgs {
        drivers: vec!["a1".to_owned(), "process:b1".to_owned()],
        cmd_timeout: Some("2m".to_owned()),
        ignore_docker_delete: Some(true),
        mnt_ns: Some("/proc/self/ns/mnt".to_owned()),
        ..args()
    };
    let config = load(root.path(), &all).unwrap();
    assert_eq!(config.general.driver_list, all.drivers);
    assert_eq!(config.command_timeout, Some(Duration::from_secs(120)));
    assert_eq!(config.mount_namespace, Some("/proc/self/ns/mnt".into()));
    assert!(config.general.ignore_docker_delete && !config.general.create_on_docker_mount);
}

#[test]
fn a_flag_that_differs_is_refused_with_both_values() {
    let root = root_with(SAVED);
    let given = DaemonArgs {
        drivers: vec!["devicemapper".to_owned()],
        create_on_docker_mount: Some(true),
        ignore_docker_delete: Some(false),
        ..args()
    };
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
        let given = DaemonArgs { cmd_timeout: Some(timeout.to_owned()), ..args() };
        assert_eq!(load(root.path(), &given).is_ok(), timeout.is_empty(), "{timeout}");
    }
    let nowhere = DaemonArgs { mnt_ns: Some("/nonexistent/mnt".to_owned()), ..args() };
    assert!(matches!(load(root.path(), &nowhere), Err(ConfigError::MountNamespace { .. })));
}

fn any_args() -> impl Strategy<Value = DaemonArgs> {
    let names = prop::collection::vec("[a-z]{2,4}", 0..3);
    let flag = || prop::option::of(any::<bool>());
    let timeout = prop::option::of(prop::sample::select(vec!["1m", "90s", "1h"]));
    (names, flag(), flag(), timeout).prop_map(|(drivers, ignore, create, timeout)| DaemonArgs {
        drivers,
        ignore_docker_delete: ignore,
        create_on_docker_mount: create,
        cmd_timeout: timeout.map(str::to_owned),
        ..DaemonArgs::default()
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
        let bare = |config: Config| (config.general, config.command_timeout, config.mount_namespace);
        let drivers = saved.general.driver_list.clone();
        let ignore = saved.general.ignore_docker_delete;
        let saved = bare(saved);
        prop_assert_eq!(&bare(load(root.path(), &DaemonArgs::default()).unwrap()), &saved);
        prop_assert_eq!(&bare(load(root.path(), &first).unwrap()), &saved);
        if let Ok(again) = load(root.path(), &second) {
            prop_assert_eq!(&bare(again), &saved);
            prop_assert!(second.drivers.is_empty() || second.drivers == drivers);
            prop_assert!(second.ignore_docker_delete.is_none_or(|flag| flag == ignore));
        }
    }

    /// A file that was torn, spliced and mistyped is read or refused; what is read stands on lines that are
    /// there, and a message never repeats a value, which may be a secret.
    #[test]
    fn a_mangled_file_is_read_or_refused_and_tells_no_value(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[\\[\\]{}\"'=.#\\n\\\\a-z0-9 ]{0,6}"), 0..6)
    ) {
        let mut text: Vec<char> = concat!(
            "root = \"/r\"\ndrivers = [\"vfs\"]\nlog-level = \"warn\"\nmemory = \"128M\"\n[driver-options]\nvfs.path = \"/file\"\n",
            "do.token = \"SWORDFISH\"\n[destinations.\"s3://b/\"]\nendpoint = \"https://m\"\nbandwidth = \"20M\"\n",
            "[[schedule]]\nname = \"n\"\ncron = \"@daily\"\nvolumes = [\"*\"]\nkind = \"backup\"\nas = \"tree\"\nkeep = { daily = 7 }\n",
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
