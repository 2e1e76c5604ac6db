//! A tree with everything a file system can hold goes through snapshot, backup and restore unchanged.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use convoy_tests::error::{Context, check};
use convoy_tests::{Carrier, Lab, Result, Setup, each_carrier, run, tree};

each_carrier!(
    nothing_is_lost_between_volume_and_restore,
    an_incremental_backup_restores_what_was_changed,
    an_image_of_a_vm_keeps_its_size_and_its_holes,
);

fn shell(place: &Path, script: &str) -> Result<()> {
    run::capture(Command::new("sh").args(["-ec", script]).current_dir(place))?.ok().map(|_| ())
}

/// Everything there is: owners, modes, times, attributes, lists, links, holes, devices, odd names.
fn fill(place: &Path) -> Result<()> {
    shell(
        place,
        "echo x > f; chown 12345:23456 f; chmod 4751 f; setfattr -n user.k -v v f; setfattr -n trusted.k -v 0x00ff f; \
         setfacl -m u:4321:rx f; touch -d '2001-02-03 04:05:06.789012345 UTC' f; ln f hard; ln -s f sym; \
         ln -s /nowhere/at/all dangling; touch -h -d '1999-01-01 00:00:00.5 UTC' sym; \
         mkdir -m 2750 d; setfacl -d -m g:99:rwx d; setfattr -n user.on-dir -v v d; mkfifo -m 640 fifo; \
         mknod cdev c 1 3; mknod bdev b 7 99; touch -- -dash 'sp ace' '*' '$(reboot)'; mkdir -p deep/a/b/c; ln f deep/a/b/c/f3; \
         touch -d '1970-01-01 00:00:00 UTC' deep; touch -d '2106-02-07 06:28:16.000000001 UTC' future; \
         truncate -s 100M allhole; printf '' > empty; touch -d '2020-02-20 20:20:20.202020 UTC' d deep/a",
    )?;
    fs::write(place.join(tree::odd_name()), "odd").during(|| "a file with an odd name".to_owned())?;
    drop(UnixListener::bind(place.join("sock")).during(|| "a socket".to_owned())?);
    let mut sparse = fs::File::create(place.join("sparse")).during(|| "a sparse file".to_owned())?;
    for (offset, text) in [(0, "start"), (64 << 20, "middle"), ((200 << 20) - 3, "end")] {
        sparse.seek(SeekFrom::Start(offset)).during(|| "seek".to_owned())?;
        sparse.write_all(text.as_bytes()).during(|| "write".to_owned())?;
    }
    symlink("x".repeat(1000), place.join("long-link")).during(|| "a long link".to_owned())?;
    fs::write(place.join("n".repeat(255)), "long").during(|| "a long name".to_owned())?;
    fs::set_permissions(place, fs::Permissions::from_mode(0o3771)).during(|| "the mode of the top".to_owned())
}

fn nothing_is_lost_between_volume_and_restore(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, carrier).start()?;
        let volumes = convoy.setup().volumes.clone();
        convoy.ok(&["create", "source"])?;
        fill(&volumes.join("source"))?;
        let before = tree::describe(&volumes.join("source"))?;
        check(before.contains("system.posix_acl_access") && before.contains("same-as"), || before.clone())?;
        convoy.ok(&["snapshot", "create", "source", "--name", "snap"])?;
        check(tree::describe(&volumes.join("source"))? == before, || {
            "the snapshot changed the volume".to_owned()
        })?;
        let store = format!("vfs://{}", lab.make("store")?.display());
        let backup = convoy.ok(&["backup", "create", "snap", "--dest", &store])?;
        convoy.ok(&["delete", "source"])?;
        convoy.ok(&["create", "restored", "--backup", &backup])?;
        let after = tree::describe(&volumes.join("restored"))?;
        assert_eq!(before, after);
        // 300 MiB of holes stay holes.
        let used = tree::allocated(&volumes.join("restored"))?;
        check(used < 1 << 20, || format!("{used} bytes are used: the holes were filled"))
    })
}

fn an_incremental_backup_restores_what_was_changed(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, carrier).start()?;
        let volumes = convoy.setup().volumes.clone();
        let source = volumes.join("source");
        let store = lab.make("store")?;
        let url = format!("vfs://{}", store.display());
        convoy.ok(&["create", "source"])?;
        fill(&source)?;
        shell(
            &source,
            "head -c 20000000 /dev/urandom > big; head -c 300000 /dev/urandom > same-size-and-time",
        )?;
        let mut states = Vec::new();
        let changes = [
            "true",
            // In place, its size and time as before: noticed all the same.
            "touch -r same-size-and-time ../stamp; printf changed | dd of=same-size-and-time conv=notrunc bs=1 seek=1000; \
             touch -r ../stamp same-size-and-time; rm ../stamp",
            "rm f; mv d d2; chmod 600 hard; setfattr -x user.k hard; echo more >> empty; ln -f hard f; rm -r deep",
            "mkdir f.d; rm sym; mkdir sym; echo x > sym/inside; rm fifo; echo > fifo",
        ];
        for (number, change) in changes.into_iter().enumerate() {
            shell(&source, change)?;
            let snapshot = format!("snap{number}");
            convoy.ok(&["snapshot", "create", "source", "--name", &snapshot])?;
            let state = tree::describe(&source)?;
            let before = tree::allocated(&store)?;
            let backup = convoy.ok(&["backup", "create", &snapshot, "--dest", &url])?;
            let grown = tree::allocated(&store)? - before;
            check(number == 0 || grown < 2 << 20, || {
                format!("{snapshot} took {grown} bytes for a small change")
            })?;
            states.push((backup, state));
        }
        for (number, (backup, state)) in states.iter().enumerate() {
            let name = format!("restored{number}");
            convoy.ok(&["create", &name, "--backup", backup])?;
            assert_eq!(&tree::describe(&volumes.join(&name))?, state, "snapshot {number}");
        }
        // Backups stand on their own: without the first, the last still restores.
        if let [(first, _), .., (last, state)] = states.as_slice() {
            convoy.ok(&["backup", "delete", first])?;
            convoy.refused(&["backup", "inspect", first])?;
            convoy.ok(&["create", "restored-late", "--backup", last])?;
            assert_eq!(&tree::describe(&volumes.join("restored-late"))?, state);
        }
        Ok(())
    })
}

fn an_image_of_a_vm_keeps_its_size_and_its_holes(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, carrier).start()?;
        let volumes = convoy.setup().volumes.clone();
        convoy.ok(&["create", "machine", "--vm", "--size", "512M"])?;
        shell(&volumes.join("machine"), "printf here | dd of=disk.img conv=notrunc bs=1M seek=100")?;
        convoy.ok(&["snapshot", "create", "machine", "--name", "snap"])?;
        let store = format!("vfs://{}", lab.make("store")?.display());
        let backup = convoy.ok(&["backup", "create", "snap", "--dest", &store])?;
        convoy.ok(&["create", "again", "--backup", &backup])?;
        assert_eq!(tree::describe(&volumes.join("again"))?, tree::describe(&volumes.join("machine"))?);
        let used = tree::allocated(&volumes.join("again"))?;
        check(used < 1 << 20, || format!("{used} bytes are used: the holes were filled"))?;
        let info = convoy.inspect("again")?;
        assert_eq!(info.pointer("/DriverInfo/PrepareForVM").and_then(|flag| flag.as_str()), Some("true"));
        assert_eq!(info.pointer("/DriverInfo/Size").and_then(|size| size.as_str()), Some("536870912"));
        Ok(())
    })
}
