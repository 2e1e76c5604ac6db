//! Backups and restores of block volumes through the daemon, with a driver that keeps them as images behind loop devices.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use convoy_tests::error::{Context, check};
use convoy_tests::{Carrier, Convoy, Lab, Result, Setup, Storage, tree};

const MIB: usize = 1 << 20;

/// A daemon with block volumes and, as the second driver, directories.
fn daemon(lab: &Lab, storage: &Storage) -> Result<Convoy> {
    let mut setup = Setup::vfs(lab, Carrier::Builtin);
    let images = format!("loop.path={}", storage.path().display());
    setup.flags.splice(0..0, ["--drivers", "process:loop", "--driver-opts", &images].map(str::to_owned));
    setup.start()
}

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

/// A daemon, a destination, and what is asked of them again and again.
struct World {
    convoy: Convoy,
    destination: String,
    store: PathBuf,
}

impl World {
    fn new(lab: &Lab, storage: &Storage) -> Result<Self> {
        let store = lab.make("store")?;
        let destination = format!("vfs://{}/", store.display());
        Ok(Self { convoy: daemon(lab, storage)?, destination, store })
    }

    fn mount(&self, volume: &str) -> Result<PathBuf> {
        Ok(self.convoy.ok(&["mount", volume])?.into())
    }

    /// What is in a volume.
    fn describe(&self, volume: &str) -> Result<String> {
        let text = tree::describe(&self.mount(volume)?)?;
        self.convoy.ok(&["umount", volume])?;
        Ok(text)
    }

    /// Takes a snapshot of a volume and backs it up.
    fn back_up(&self, volume: &str, snapshot: &str, more: &[&str]) -> Result<String> {
        self.convoy.ok(&["snapshot", "create", volume, "--name", snapshot])?;
        let words = ["backup", "create", snapshot, "--dest", &self.destination];
        Ok(self.convoy.ok(&[&words[..], more].concat())?.replace("\\u0026", "&"))
    }

    fn stored(&self) -> Result<u64> {
        tree::allocated(&self.store)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).during(|| format!("write {}", path.display()))
}

#[test]
fn a_device_goes_into_backups_and_comes_back() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let world = World::new(lab, &storage)?;
        let convoy = &world.convoy;
        convoy.ok(&["create", "db", "--size", "256M"])?;
        let place = world.mount("db")?;
        write(&place.join("table"), &noise(1, 48 * MIB))?;
        write(&place.join("log"), "a line of a log\n".repeat(100_000).as_bytes())?;
        let first = world.back_up("db", "monday", &[])?;
        let before = tree::describe(&place)?;
        let full = world.stored()?;

        // One MiB in place, while the volume is in use.
        let table = fs::File::options().write(true).open(place.join("table")).during(|| "open".to_owned())?;
        table.write_all_at(&noise(2, MIB), 20 * MIB as u64).during(|| "change".to_owned())?;
        drop(table);
        let second = world.back_up("db", "tuesday", &[])?;
        let after = tree::describe(&place)?;
        let added = world.stored()? - full;
        check(full > 48 << 20 && added < 4 << 20, || {
            format!("{full} bytes, then {added} for 1 MiB changed")
        })?;

        // As 0.5 wrote it.
        let old_form = world.back_up("db", "wednesday", &["--format", "v0"])?;
        convoy.ok(&["umount", "db"])?;
        let verified = convoy.ok(&["backup", "verify", &world.destination, "--read-data"])?;
        says(&verified, "\"Problems\": []")?;
        convoy.ok(&["delete", "db"])?;
        for (name, url, expected) in
            [("first", &first, &before), ("second", &second, &after), ("third", &old_form, &after)]
        {
            convoy.ok(&["create", name, "--backup", url])?;
            let found = world.describe(name)?;
            check(found == *expected, || format!("{name} differs:\n{found}\nfrom\n{expected}"))?;
        }
        // What is restored is a volume like any other.
        let again = world.back_up("second", "thursday", &[])?;
        convoy.ok(&["create", "fourth", "--backup", &again])?;
        check(world.describe("fourth")? == after, || "a backup of a restored volume differs".to_owned())
    })
}

#[test]
fn a_tree_goes_into_a_device_and_a_device_into_no_directory() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let world = World::new(lab, &storage)?;
        let convoy = &world.convoy;
        convoy.ok(&["create", "files", "--driver", "vfs"])?;
        let place = convoy.setup().volumes.join("files");
        fs::create_dir(place.join("d")).during(|| "a directory".to_owned())?;
        write(&place.join("d/file"), &noise(3, MIB))?;
        std::os::unix::fs::symlink("d/file", place.join("link")).during(|| "a link".to_owned())?;
        let url = world.back_up("files", "snap", &[])?;
        convoy.ok(&["create", "device", "--driver", "loop", "--size", "64M", "--backup", &url])?;
        let below = |text: &str| {
            text.lines()
                .filter(|line| line.contains("d/file ") || line.contains("link "))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (from, to) = (tree::describe(&place)?, world.describe("device")?);
        check(below(&from) == below(&to) && below(&to).len() == 2, || format!("{from}\n{to}"))?;
        // And from there as a device, which no directory can take.
        let device = world.back_up("device", "snap2", &[])?;
        let refused = convoy.refused(&["create", "no", "--driver", "vfs", "--backup", &device])?;
        says(&refused, "restoring a block device")?;
        check(!convoy.names()?.contains(&"no".to_owned()), || "a refused volume is there".to_owned())?;
        convoy.ok(&["create", "copy", "--backup", &device])?;
        // The check before its file system grows makes `lost+found`, which was not among the files.
        let copy = world.describe("copy")?;
        let rest: String = copy
            .lines()
            .filter(|line| !line.starts_with("lost+found "))
            .map(|line| format!("{line}\n"))
            .collect();
        check(rest == to, || format!("the device came back different:\n{copy}\n{to}"))
    })
}
