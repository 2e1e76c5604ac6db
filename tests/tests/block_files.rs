//! Files inside block devices: listed, read and brought back from snapshots and backups, without restoring the
//! device.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

use convoy_tests::error::{Context, check};
use convoy_tests::{Blocks, Lab, Result, Storage, run};

fn says(text: &str, part: &str) -> Result<()> {
    check(text.contains(part), || format!("{part:?} is not in: {text}"))
}

#[test]
fn files_on_devices_are_found_and_brought_back() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let world = Blocks::start(lab, &storage)?;
        let convoy = &world.convoy;
        convoy.ok(&["create", "db", "--size", "256M"])?;
        let place = world.mount("db")?;
        let write = |path: &str, bytes: &[u8]| fs::write(place.join(path), bytes).during(|| path.to_owned());
        fs::create_dir(place.join("etc")).during(|| "make a directory".to_owned())?;
        let table: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
        write("table", &table)?;
        write("etc/app.conf", b"colour=blue\n")?;
        world.snapshot("db", "monday")?;
        let monday = world.back_up("monday", &[])?;
        let old_form = world.back_up("monday", &["--format", "v0"])?;
        write("etc/app.conf", b"colour=red, by mistake\n")?;
        fs::remove_file(place.join("table")).during(|| "remove".to_owned())?;
        world.snapshot("db", "tuesday")?;
        let tuesday = world.back_up("tuesday", &[])?;

        // The same of a snapshot, of a backup, and of one as 0.5 wrote it; while the volume is mounted.
        let of_snapshot = convoy.ok(&["snapshot", "ls", "monday", "-R"])?;
        says(&of_snapshot, "etc/app.conf")?;
        for url in [&monday, &old_form] {
            assert_eq!(convoy.ok(&["backup", "ls", url, "-R"])?, of_snapshot);
            assert_eq!(convoy.ok(&["backup", "cat", url, "etc/app.conf"])?, "colour=blue");
        }
        let read = convoy.setup().client(&["backup", "cat", &monday, "table"])?.output();
        check(read.during(|| "read".to_owned())?.stdout == table, || "the table is another".to_owned())?;
        let found = convoy.ok(&["backup", "find", &world.destination, "*.conf"])?;
        check(found.lines().count() == 2, || format!("two versions, not: {found}"))?;
        let changed = convoy.ok(&["backup", "diff", &monday, &tuesday])?;
        says(&changed, "table")?;
        says(&changed, "etc/app.conf")?;

        // One file comes back, into the volume in use, and nothing else changes.
        convoy.ok(&["restore", &monday, "--path", "table", "--into", "db"])?;
        let back = fs::read(place.join("table")).during(|| "read".to_owned())?;
        check(back == table, || "the table that came back is another".to_owned())?;
        assert_eq!(
            fs::read(place.join("etc/app.conf")).ok().as_deref(),
            Some(&b"colour=red, by mistake\n"[..])
        );
        let conf = ["restore", "monday", "--path", "etc/app.conf", "--into", "db", "--existing", "replace"];
        convoy.ok(&conf)?;
        assert_eq!(fs::read(place.join("etc/app.conf")).ok().as_deref(), Some(&b"colour=blue\n"[..]));

        // The whole volume in place, with what it was kept: file by file on the file system that it has.
        convoy.ok(&["umount", "db"])?;
        for source in [&monday[..], &old_form, "monday"] {
            convoy.ok(&["restore", &tuesday, "--in-place", "db", "--no-keep"])?;
            let report = convoy.ok(&["restore", source, "--in-place", "db"])?;
            says(&report, "before-restore-")?;
            let place = world.mount("db")?;
            let back = fs::read(place.join("table")).during(|| "read".to_owned())?;
            check(back == table, || format!("the table is another, from {source}"))?;
            assert_eq!(fs::read(place.join("etc/app.conf")).ok().as_deref(), Some(&b"colour=blue\n"[..]));
            convoy.ok(&["umount", "db"])?;
        }

        // Nothing stays open.
        convoy.ok(&["snapshot", "delete", "monday"])?;
        convoy.ok(&["delete", "db"]).map(drop)
    })
}

#[test]
fn a_device_without_files_says_what_it_holds() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let world = Blocks::start(lab, &storage)?;
        let convoy = &world.convoy;
        convoy.ok(&["create", "raw", "--size", "64M"])?;
        // What a database with a file system of its own would do.
        let found =
            run::capture(Command::new("find").arg(storage.path()).args(["-type", "f", "-size", "64M"]))?;
        let image = found.ok()?;
        let file = File::options().write(true).open(&image).during(|| "open the image".to_owned())?;
        file.write_all_at(&vec![7; 1 << 20], 0).during(|| "write".to_owned())?;
        file.sync_all().during(|| "sync".to_owned())?;
        world.snapshot("raw", "monday")?;
        let url = world.back_up("monday", &[])?;
        says(&convoy.refused(&["backup", "ls", &url])?, "the device holds nothing that is known")?;
        convoy.ok(&["delete", "raw"]).map(drop)
    })
}
