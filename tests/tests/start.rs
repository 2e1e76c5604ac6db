//! What a daemon does at its start: one at a time, what is saved and what is said, and what it finds broken.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;

use convoy_tests::error::{Context, check};
use convoy_tests::{Carrier, Lab, Result, Setup, each_carrier, run};

each_carrier!(
    a_record_that_is_no_json_costs_only_its_volume,
    saved_configuration_and_flags_that_differ_are_refused,
    a_read_only_root_is_refused,
    the_driver_is_called_through_the_carrier_asked_for,
);

#[test]
fn no_option_is_needed() -> Result<()> {
    Lab::run(|lab| {
        let setup = Setup::bare(lab);
        let mut convoy = setup.start()?;
        convoy.ok(&["create", "plain"])?;
        let place = convoy.ok(&["mount", "plain"])?;
        check(place.starts_with(&*setup.root.to_string_lossy()), || format!("not under the root: {place}"))?;
        convoy.ok(&["umount", "plain"])?;
        let info = convoy.ok(&["info"])?;
        assert!(info.contains("\"DefaultDriver\": \"vfs\""), "{info}");
        convoy.stop()?;
        convoy.start_again()?;
        assert_eq!(convoy.names()?, ["plain"]);
        Ok(())
    })
}

#[test]
fn a_second_daemon_is_refused() -> Result<()> {
    Lab::run(|lab| {
        let first = Setup::vfs(lab, Carrier::Builtin);
        let convoy = first.start()?;
        convoy.ok(&["create", "on-first"])?;

        let mut same_root = Setup::vfs(lab, Carrier::Builtin);
        same_root.root.clone_from(&first.root);
        let said = same_root.start_refused()?;
        check(said.contains(&*first.root.to_string_lossy()), || format!("the root is not named: {said}"))?;

        let mut same_socket = Setup::vfs(lab, Carrier::Builtin);
        same_socket.socket.clone_from(&first.socket);
        let said = same_socket.start_refused()?;
        check(said.contains(&*first.socket.to_string_lossy()), || {
            format!("the socket is not named: {said}")
        })?;

        assert_eq!(convoy.names()?, ["on-first"]);
        Ok(())
    })
}

#[test]
fn a_stale_socket_is_taken_over() -> Result<()> {
    Lab::run(|lab| {
        let setup = Setup::vfs(lab, Carrier::Builtin);
        drop(UnixListener::bind(&setup.socket).during(|| "a socket nobody listens on".to_owned())?);
        let mut convoy = setup.start()?;
        convoy.ok(&["create", "kept"])?;
        convoy.kill()?;
        check(setup.socket.exists(), || "the kill should have left the socket".to_owned())?;
        convoy.start_again()?;
        assert_eq!(convoy.names()?, ["kept"]);
        convoy.stop()?;
        check(!setup.socket.exists(), || "a daemon that stops takes its socket with it".to_owned())
    })
}

#[test]
fn a_file_in_the_place_of_the_socket_is_not_removed() -> Result<()> {
    Lab::run(|lab| {
        let setup = Setup::vfs(lab, Carrier::Builtin);
        fs::write(&setup.socket, "precious").during(|| "a file".to_owned())?;
        setup.start_refused()?;
        assert_eq!(fs::read_to_string(&setup.socket).during(|| "the file".to_owned())?, "precious");
        Ok(())
    })
}

#[test]
fn bad_flags_are_refused_and_nothing_is_made() -> Result<()> {
    Lab::run(|lab| {
        let cases: [(&[&str], &str); 6] = [
            (&["--drivers", "nosuch"], "nosuch"),
            (&["--drivers", "carrier:vfs"], "carrier"),
            (&["--driver-opts", "vfs.path"], "vfs.path"),
            (&["--driver-opts", "vfs.bogus=1"], "vfs.bogus"),
            (&["--driver-opts", "vfs.defaultvolumesize=lots"], "lots"),
            (&["--cmd-timeout", "soon"], "soon"),
        ];
        for (flags, said) in cases {
            let setup = Setup::bare(lab).with(flags);
            let log = setup.start_refused()?;
            check(log.contains(said), || format!("{flags:?}: {log}"))?;
            check(!setup.socket.exists(), || format!("{flags:?} left a socket"))?;
            check(!setup.root.join("convoy.cfg").exists(), || format!("{flags:?} saved a configuration"))?;
        }
        Ok(())
    })
}

fn a_record_that_is_no_json_costs_only_its_volume(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let setup = Setup::vfs(lab, carrier);
        let mut convoy = setup.start()?;
        for name in ["good1", "bad1", "good2"] {
            convoy.ok(&["create", name])?;
        }
        fs::write(setup.volumes.join("bad1/data"), "data").during(|| "data".to_owned())?;
        convoy.kill()?;
        let record = setup.volumes.join("config/vfs_volume_bad1.json");
        for broken in ["", "{\"Name\":", "[]", "{\"Name\":\"other\"}", "\u{0}\u{0}\u{0}"] {
            fs::write(&record, broken).during(|| "break the record".to_owned())?;
            convoy.start_again()?;
            let names = convoy.names()?;
            check(names.contains(&"good1".to_owned()) && names.contains(&"good2".to_owned()), || {
                format!("{broken:?} hides {names:?}")
            })?;
            convoy.ok(&["mount", "good1"])?;
            convoy.ok(&["umount", "good1"])?;
            convoy.ok(&["snapshot", "create", "good2", "--name", "snap"])?;
            convoy.ok(&["snapshot", "delete", "snap"])?;
            // The broken one is not silently made anew over its data and its record.
            let refused = convoy.refused(&["create", "bad1"])?;
            check(refused.contains("bad1"), || format!("{broken:?}: {refused}"))?;
            let now = fs::read_to_string(&record).during(|| "the record".to_owned())?;
            check(now == broken, || format!("{broken:?} became {now:?}"))?;
            let data =
                fs::read_to_string(setup.volumes.join("bad1/data")).during(|| "the data".to_owned())?;
            assert_eq!(data, "data");
            convoy.stop()?;
        }
        Ok(())
    })
}

fn saved_configuration_and_flags_that_differ_are_refused(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let setup = Setup::vfs(lab, carrier);
        let mut convoy = setup.start()?;
        convoy.ok(&["create", "here"])?;
        convoy.stop()?;

        // The same flags, or none, use what is saved.
        convoy.start_again()?;
        convoy.stop()?;
        convoy.set_flags(&[]);
        convoy.start_again()?;
        assert_eq!(convoy.names()?, ["here"]);
        convoy.stop()?;

        // Others are refused with both values, until the user decides.
        let elsewhere = lab.path("elsewhere");
        let option = format!("vfs.path={}", elsewhere.display());
        let mut other = setup.clone();
        other.flags = vec!["--drivers".to_owned(), carrier.driver("vfs"), "--driver-opts".to_owned(), option];
        let said = other.start_refused()?;
        for value in [&setup.volumes, &elsewhere] {
            check(said.contains(&*value.to_string_lossy()), || {
                format!("{} is not named: {said}", value.display())
            })?;
        }
        check(said.contains("--ignore-config-file"), || format!("no way out is named: {said}"))?;
        let said = setup.clone().with(&["--create-on-docker-mount"]).start_refused()?;
        check(said.contains("create-on-docker-mount"), || said.clone())?;

        let mut decided = other.clone().with(&["--ignore-config-file"]).start()?;
        assert!(decided.names()?.is_empty());
        let info = decided.ok(&["info"])?;
        check(info.contains(&*elsewhere.to_string_lossy()), || info.clone())?;
        decided.stop()
    })
}

fn a_read_only_root_is_refused(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let mut setup = Setup::vfs(lab, carrier);
        let place = lab.make("read-only")?;
        setup.root = place.join("root");
        let mount = |options: &str| {
            run::capture(Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&place))?.ok()
        };
        mount("size=1M,ro")?;
        let said = setup.start_refused();
        run::capture(Command::new("umount").arg(&place))?.ok()?;
        let said = said?;
        check(said.to_lowercase().contains("read-only") && said.contains("read-only/root"), || said.clone())
    })
}

fn the_driver_is_called_through_the_carrier_asked_for(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, carrier).start()?;
        convoy.ok(&["create", "volume"])?;
        let maps =
            fs::read_to_string(format!("/proc/{}/maps", convoy.id())).during(|| "the maps".to_owned())?;
        assert_eq!(maps.contains("libconvoy_driver_vfs.so"), carrier == Carrier::Library);
        let children = convoy_tests::leaks::processes(lab.directory());
        let driver = children.iter().any(|(_, command)| command.contains("convoy-driver-vfs"));
        check(driver == (carrier == Carrier::Process), || format!("processes: {children:?}"))
    })
}
