//! A host that ran convoy 0.5: everything is there after the first start, and the backups can be restored.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use convoy_tests::error::{Context, check};
use convoy_tests::namespace::apart;
use convoy_tests::{Carrier, Convoy, Lab, Result, Setup, each_carrier, run, tree};

#[test]
fn a_start_without_any_option_finds_everything() -> Result<()> {
    Lab::run(|lab| {
        let (mut setup, _) = old_host(lab, Carrier::Builtin)?;
        setup.flags.clear();
        let convoy = setup.start()?;
        same_json(&convoy, &["list"], "list.json")
    })
}

each_carrier!(volumes_snapshots_and_backups_are_taken_over, a_volume_of_old_goes_on);

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/convoy-0.5/vfs").join(name)
}

/// A daemon that finds at the old places what 0.5 left there. The places are its own: it runs in a mount
/// namespace.
fn old_host(lab: &Lab, carrier: Carrier) -> Result<(Setup, PathBuf)> {
    let copy = lab.make("old")?;
    let volumes = lab.make("old/volumes")?;
    let shell = "cp -r --no-preserve=ownership \"$1/root\" \"$1/store\" \"$2\" && tar -xzf \"$1/volumes.tar.gz\" \
                 --numeric-owner -C \"$3\"";
    run::capture(Command::new("sh").args(["-ec", shell, "sh"]).arg(fixture("")).arg(&copy).arg(&volumes))?
        .ok()?;
    let script = "mount -t tmpfs none /srv && mkdir /srv/volumes /srv/backups && mount --bind \"$0/volumes\" /srv/volumes \
                  && mount --bind \"$0/store\" /srv/backups && mount -t tmpfs none /var/lib && mkdir -p \
                  /var/lib/rancher/convoy && mount --bind \"$0/root\" /var/lib/rancher/convoy && exec \"$@\"";
    let mut setup = Setup::bare(lab).with(&["--drivers", &carrier.driver("vfs"), "--ignore-config-file"]);
    setup.root = PathBuf::from("/var/lib/rancher/convoy");
    setup.wrapper = apart(script);
    setup.wrapper.push(copy.to_string_lossy().into_owned());
    Ok((setup, copy))
}

fn same_json(convoy: &Convoy, words: &[&str], fixture_name: &str) -> Result<()> {
    let recorded = fs::read_to_string(fixture(fixture_name)).during(|| "a fixture".to_owned())?;
    let now = convoy.ok(words)?;
    check(recorded.trim_end() == now.trim_end(), || format!("{words:?}: expected {recorded}\ngot {now}"))
}

fn volumes_snapshots_and_backups_are_taken_over(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let (setup, place) = old_host(lab, carrier)?;
        let mut convoy = setup.start()?;
        same_json(&convoy, &["list"], "list.json")?;
        same_json(&convoy, &["backup", "list", "vfs:///srv/backups"], "backups.json")?;
        let first = "vfs:///srv/backups?backup=backup-d25370b24de8426c\\u0026volume=web";
        let inspected = convoy.ok(&["backup", "inspect", first])?;
        assert!(inspected.contains("\"SnapshotName\": \"first\""), "{inspected}");

        // The newer backup holds what the volume holds now; the older one had another page.
        let second = "vfs:///srv/backups?backup=backup-ebb72b15a1b54af9\\u0026volume=web";
        convoy.ok(&["create", "web-now", "--backup", second])?;
        convoy.ok(&["create", "web-then", "--backup", first])?;
        let whole = |name: &str| tree::describe(&place.join("volumes").join(name));
        // tar of 0.5 kept whole seconds only.
        let seconds = |text: &str| -> String {
            let fields = text.split(' ').map(|field| {
                field.split('.').next().filter(|_| field.starts_with("mtime=")).unwrap_or(field)
            });
            fields.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(seconds(&whole("web-now")?), seconds(&whole("web")?));
        let page =
            fs::metadata(place.join("volumes/web-then/html/index.html")).during(|| "the page".to_owned())?;
        assert_eq!((page.len(), page.nlink()), (1200, 2));
        let owned =
            fs::metadata(place.join("volumes/web-then/owned")).during(|| "the owned file".to_owned())?;
        assert_eq!((owned.gid(), owned.mode() & 0o7777), (1001, 0o640));

        // A snapshot that 0.5 made, a tar.gz, can be backed up still.
        let backup = convoy.ok(&["backup", "create", "first", "--dest", "vfs:///srv/backups"])?;
        convoy.ok(&["create", "web-again", "--backup", &backup])?;
        assert_eq!(seconds(&whole("web-again")?), seconds(&whole("web-then")?));
        convoy.stop()?;
        convoy.start_again()?;
        assert_eq!(convoy.names()?, ["ab", "db", "web", "web-again", "web-now", "web-then"]);
        Ok(())
    })
}

fn a_volume_of_old_goes_on(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let (setup, place) = old_host(lab, carrier)?;
        let convoy = setup.start()?;
        assert_eq!(convoy.ok(&["mount", "web"])?, "/srv/volumes/web");
        fs::write(place.join("volumes/web/new"), "new").during(|| "write".to_owned())?;
        convoy.ok(&["snapshot", "create", "web", "--name", "third"])?;
        convoy.ok(&["umount", "web"])?;
        let backup = convoy.ok(&["backup", "create", "third", "--dest", "vfs:///srv/backups/"])?;
        convoy.ok(&["create", "copy", "--backup", &backup])?;
        assert_eq!(tree::describe(&place.join("volumes/copy"))?, tree::describe(&place.join("volumes/web"))?);
        // A snapshot's name is taken once, by 0.5 or by us.
        let refused = convoy.refused(&["snapshot", "create", "db", "--name", "first"])?;
        check(refused.contains("already exists"), || refused.clone())?;
        convoy.ok(&["snapshot", "delete", "first"])?;
        assert!(!place.join("root/vfs/snapshots/web_first.tar.gz").exists());
        assert!(place.join("root/vfs/snapshots/web_second.tar.gz").exists());
        convoy.ok(&["delete", "web"])?;
        assert!(!place.join("volumes/web").exists());
        assert!(
            !place.join("root/vfs/snapshots/web_second.tar.gz").exists(),
            "a snapshot outlived its volume"
        );
        assert_eq!(convoy.names()?, ["ab", "copy", "db"]);
        Ok(())
    })
}
