//! Backups and restores of block volumes through the daemon, with a driver that keeps them as images behind
//! loop devices.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use convoy_tests::error::{Context, check};
use convoy_tests::{Blocks, Lab, Result, Storage, tree};

const MIB: usize = 1 << 20;

/// Bytes that do not compress, others for each seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ seed;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(bytes).collect()
}

fn says(text: &str, part: &str) -> Result<()> {
    check(text.contains(part), || format!("{part:?} is not in: {text}"))
}

/// Takes a snapshot of a volume and backs it up.
fn back_up(world: &Blocks, volume: &str, snapshot: &str, more: &[&str]) -> Result<String> {
    world.snapshot(volume, snapshot)?;
    world.back_up(snapshot, more)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).during(|| format!("write {}", path.display()))
}

#[test]
fn a_device_goes_into_backups_and_comes_back() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let world = Blocks::start(lab, &storage)?;
        let convoy = &world.convoy;
        convoy.ok(&["create", "db", "--size", "256M"])?;
        let place = world.mount("db")?;
        write(&place.join("table"), &noise(1, 48 * MIB))?;
        write(&place.join("log"), "a line of a log\n".repeat(100_000).as_bytes())?;
        let first = back_up(&world, "db", "monday", &[])?;
        let before = tree::describe(&place)?;
        let full = world.stored()?;

        // One MiB in place, while the volume is in use.
        let table = fs::File::options().write(true).open(place.join("table")).during(|| "open".to_owned())?;
        table.write_all_at(&noise(2, MIB), 20 * MIB as u64).during(|| "change".to_owned())?;
        drop(table);
        let second = back_up(&world, "db", "tuesday", &[])?;
        let after = tree::describe(&place)?;
        let added = world.stored()? - full;
        check(full > 48 << 20 && added < 4 << 20, || {
            format!("{full} bytes, then {added} for 1 MiB changed")
        })?;

        // As 0.5 wrote it.
        let old_form = back_up(&world, "db", "wednesday", &["--format", "v0"])?;
        convoy.ok(&["umount", "db"])?;
        let verified = convoy.ok(&["backup", "verify", &world.destination, "--read-data"])?;
        says(&verified, "\"Problems\": []")?;
        convoy.ok(&["delete", "db"])?;
        for (name, url, expected) in
            [("first", &first, &before), ("second", &second, &after), ("third", &old_form, &after)]
        {
            convoy.ok(&["create", name, "--backup", url])?;
            let found = world.describe(name, tree::describe)?;
            check(found == *expected, || format!("{name} differs:\n{found}\nfrom\n{expected}"))?;
        }
        // What is restored is a volume like any other.
        let again = back_up(&world, "second", "thursday", &[])?;
        convoy.ok(&["create", "fourth", "--backup", &again])?;
        check(world.describe("fourth", tree::describe)? == after, || {
            "a backup of a restored volume differs".to_owned()
        })
    })
}

#[test]
fn a_tree_goes_into_a_device_and_a_device_into_no_directory() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let world = Blocks::start(lab, &storage)?;
        let convoy = &world.convoy;
        convoy.ok(&["create", "files", "--driver", "vfs"])?;
        let place = convoy.setup().volumes.join("files");
        fs::create_dir(place.join("d")).during(|| "a directory".to_owned())?;
        write(&place.join("d/file"), &noise(3, MIB))?;
        std::os::unix::fs::symlink("d/file", place.join("link")).during(|| "a link".to_owned())?;
        let url = back_up(&world, "files", "snap", &[])?;
        convoy.ok(&["create", "device", "--driver", "loop", "--size", "64M", "--backup", &url])?;
        let below = |text: &str| {
            text.lines()
                .filter(|line| line.contains("d/file ") || line.contains("link "))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (from, to) = (tree::describe(&place)?, world.describe("device", tree::describe)?);
        check(below(&from) == below(&to) && below(&to).len() == 2, || format!("{from}\n{to}"))?;
        // And from there as a device, which no directory can take.
        let device = back_up(&world, "device", "snap2", &[])?;
        let refused = convoy.refused(&["create", "no", "--driver", "vfs", "--backup", &device])?;
        says(&refused, "restoring a block device")?;
        check(!convoy.names()?.contains(&"no".to_owned()), || "a refused volume is there".to_owned())?;
        // The driver hands over the files of its snapshots; those in a backup of the device the kernel finds.
        says(&convoy.ok(&["snapshot", "ls", "snap2", "-R"])?, "\"Path\":\"d/file\"")?;
        says(&convoy.ok(&["snapshot", "find", "fil*", "--volume", "device"])?, "\"Path\":\"d/file\"")?;
        says(&convoy.ok(&["backup", "ls", &device, "-R"])?, "\"Path\":\"d/file\"")?;
        convoy.ok(&["create", "copy", "--backup", &device])?;
        // The check before its file system grows makes `lost+found`, which was not among the files.
        let copy = world.describe("copy", tree::describe)?;
        let rest: String = copy
            .lines()
            .filter(|line| !line.starts_with("lost+found "))
            .map(|line| format!("{line}\n"))
            .collect();
        check(rest == to, || format!("the device came back different:\n{copy}\n{to}"))
    })
}

#[test]
fn a_mounted_volume_shows_people_how_much_of_it_is_used() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 2 << 30, "")?;
        let world = Blocks::start(lab, &storage)?;
        let convoy = &world.convoy;
        convoy.ok(&["create", "db", "--driver", "loop", "--size", "128M"])?;
        let used = || -> Result<String> {
            let table = convoy.ok(&["list", "--output", "table"])?;
            let row = table.lines().find(|line| line.starts_with("db ")).unwrap_or_default().to_owned();
            says(&row, "128.00 MiB   ")?;
            Ok(row.split("128.00 MiB   ").nth(1).unwrap_or_default().to_owned())
        };
        check(used()?.starts_with("- "), || "it is not mounted, and its use is told".to_owned())?;
        let place = world.mount("db")?;
        let empty = used()?;
        write(&place.join("file"), &noise(1, 64 * MIB))?;
        nix::unistd::sync();
        let full = used()?;
        let mib = |text: &str| text.split(" MiB").next().and_then(|number| number.parse::<f64>().ok());
        let grown = mib(&full).zip(mib(&empty).or(Some(0.0))).map(|(full, empty)| full - empty);
        let as_written = grown.is_some_and(|grown| (60.0..=70.0).contains(&grown));
        check(as_written, || format!("64 MiB were written: {empty:?}, then {full:?}"))?;
        // Scripts get what 0.5 told, and that costs no look at any file system.
        check(!convoy.ok(&["list"])?.contains("\"Used\""), || "scripts get something new".to_owned())?;
        convoy.ok(&["umount", "db"]).map(drop)
    })
}
