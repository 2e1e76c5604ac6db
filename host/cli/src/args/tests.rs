//! Every command line of the recordings and of the documents, parsed.

use super::*;
use clap::CommandFactory;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("convoy").chain(line.split_whitespace()))
}

fn create(line: &str) -> (GlobalArgs, CreateArgs) {
    let cli = parse(line).unwrap();
    let Command::Create(args) = cli.command else { panic!("{line} is no create") };
    (cli.global, args)
}

fn backup(line: &str) -> BackupArgs {
    let Command::Backup(args) = parse(line).unwrap().command else { panic!("{line} is no backup") };
    args
}

fn daemon(line: &str) -> DaemonArgs {
    let Command::Daemon(args) = parse(line).unwrap().command else { panic!("{line} is no daemon") };
    args
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn flags_stand_before_and_after_arguments_and_commands() {
    for line in ["create vol1 --size 2G --driver vfs", "create --size 2g vol1 --driver=vfs"] {
        let (_, args) = create(line);
        assert_eq!(
            (args.name.as_deref(), args.size, args.driver.as_deref()),
            (Some("vol1"), Some(2 << 30), Some("vfs"))
        );
    }
    for line in [
        "--verbose -s /x create vol1",
        "create vol1 --verbose --socket /x",
        "create --socket=/x vol1 --verbose",
    ] {
        let (global, _) = create(line);
        assert!(global.verbose, "{line}");
        assert_eq!(global.socket, PathBuf::from("/x"), "{line}");
    }
    for line in ["delete -r vol1 vol2", "delete vol1 --reference vol2", "delete vol1 vol2 -r"] {
        let Command::Delete(args) = parse(line).unwrap().command else { panic!() };
        assert!(args.reference && args.names == ["vol1", "vol2"], "{line}");
    }
}

#[test]
fn create_takes_every_option() {
    let line = "create v1 --driver d --size 1T --backup u --s3-endpoint e --id i --type t --iops 100 --vm --opt a=b=c --opt d=";
    let (_, args) = create(line);
    assert_eq!(args.options, [("a".into(), "b=c".into()), ("d".into(), String::new())]);
    assert_eq!(
        (args.iops, args.vm, args.kind.as_deref(), args.id.as_deref()),
        (Some(100), true, Some("t"), Some("i"))
    );
    assert!(create("create").1.name.is_none());
}

#[test]
fn bad_values_are_refused_with_what_was_expected() {
    for (line, expected) in [
        ("create v1 --size 10X", "expected bytes, or a whole number followed by K, M, G or T"),
        ("create v1 --size 99999999999999999999", "more than the 9223372036854775807 bytes"),
        ("create v1 --iops abc", "invalid digit"),
        ("create v1 --iops -1", "unexpected argument"),
        ("create v1 --opt a", "expected KEY=VALUE"),
        ("create v1 v2", "unexpected argument 'v2'"),
        ("delete", "<NAME>"),
        ("resize v1 0", "greater than 0"),
        ("resize v1", "<SIZE>"),
        ("retain v1 forever", "[possible values: keep, delete, default]"),
        ("config", "Usage"),
        ("backup verify u --read-data=101", "0..=100"),
        ("backup create s1 --format v9", "[possible values: v0, v1]"),
        ("daemon --driver-opts vfs.path", "expected KEY=VALUE"),
        ("info --bogus", "unexpected argument '--bogus'"),
        ("nosuchcmd", "nosuchcmd"),
    ] {
        let error = parse(line).unwrap_err().to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn the_endpoint_stands_on_either_side_of_the_backup_command() {
    for line in [
        "backup --s3-endpoint http://e create s1 --dest s3://b/",
        "backup create --dest s3://b/ s1 --s3-endpoint http://e",
    ] {
        let args = backup(line);
        assert_eq!(args.s3_endpoint.as_deref(), Some("http://e"), "{line}");
        let BackupCommand::Create(create) = args.command else { panic!() };
        assert_eq!((create.snapshot.as_str(), create.dest.as_deref()), ("s1", Some("s3://b/")));
    }
}

#[test]
fn a_volume_is_named_by_the_old_flag_too() {
    for flag in ["--volume-name", "--volume-uuid"] {
        let BackupCommand::List(args) = backup(&format!("backup list vfs:///d {flag} v1")).command else {
            panic!()
        };
        assert_eq!((args.dest.as_str(), args.volume_name.as_deref()), ("vfs:///d", Some("v1")));
    }
}

#[test]
fn how_much_to_read_is_optional() {
    for (line, percent) in [("verify u", 0), ("verify --read-data u", 100), ("verify u --read-data=5", 5)] {
        let BackupCommand::Verify(args) = backup(&format!("backup {line}")).command else { panic!() };
        assert_eq!((args.read_data, args.url.as_str()), (percent, "u"), "{line}");
    }
}

#[test]
fn the_daemon_can_tell_what_was_said() {
    let args = daemon(
        "daemon --root /r --log /l --debug --drivers vfs --drivers process:ebs,dm --driver-opts vfs.path=/a,b=c \
         --driver-opts a.b= --mnt-ns /proc/1/ns/mnt --ignore-docker-delete --create-on-docker-mount=false \
         --cmd-timeout 2m --ignore-config-file --driver-path /p:/q",
    );
    assert_eq!(args.values.texts("drivers"), ["vfs", "process:ebs", "dm"]);
    assert_eq!(args.driver_opts, ["vfs.path=/a,b=c", "a.b="]);
    let switches = ["ignore-docker-delete", "create-on-docker-mount"];
    assert_eq!(switches.map(|key| args.values.text(key)), ["true", "false"]);
    assert_eq!(args.values.texts("driver-path"), ["/p", "/q"]);
    assert_eq!(args.values.0["log-level"].source.to_string(), "flag --debug");
    assert!(args.ignore_config_file && args.values.text("cmd-timeout") == "2m");
    assert_eq!(daemon("daemon"), DaemonArgs::default());
}

#[test]
fn aliases_and_defaults() {
    for line in ["umount v1", "unmount v1 --force"] {
        assert!(matches!(parse(line).unwrap().command, Command::Umount(_)));
    }
    for line in ["jobs", "jobs list", "driver", "driver list", "drivers"] {
        assert!(matches!(parse(line).unwrap().command, Command::Jobs(_) | Command::Driver(_)));
    }
    assert!(matches!(parse("list --driver").unwrap().command, Command::List(ListArgs { driver: true, .. })));
    assert_eq!(parse("list").unwrap().global.socket, PathBuf::from("/var/run/convoy/convoy.sock"));
}
