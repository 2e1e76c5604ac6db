//! Volumes, one at a time.

use super::contents::{fill_volume, has_file, keeps_file, put_file, same_files, write_file};
use crate::check::{Outcome, already_exists, done, ensure, fail, io, not_found, refused, same, skip};
use crate::pattern;
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::name::MAX_NAME_BYTES;
use convoy_driver_sdk::protocol::{
    Capability, DeleteVolume, Health, ListVolumes, MountVolume, PrepareRestore, ResizeVolume, SourceKind,
    UnmountVolume, Volume,
};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A volume as far as it does not depend on the moment.
pub(super) fn lasting(volume: Volume) -> Volume {
    volume.mountpoint(None)
}

fn listed(kit: &Subject, name: &Name) -> Outcome<Option<Volume>> {
    let listed = done(rules::LIST, "volume.list", kit.call(ListVolumes::default()))?;
    Ok(listed.volumes.into_iter().find(|volume| volume.name == *name))
}

pub(super) fn life(kit: &Subject) -> Outcome {
    let name = kit.name("life");
    let made = done(rules::CREATE, "volume.create", kit.call(kit.create_request(&name)))?;
    same(rules::CREATE, "the name of the volume made", &name, &made.name)?;
    same(rules::CREATE, "the health of the volume made", &Health::Good, &made.health)?;
    ensure(rules::CREATE, made.snapshots.is_empty(), || "a new volume has snapshots".to_owned())?;
    let got = done(rules::GET, "volume.get", kit.get(&name))?;
    same(rules::GET, "volume.get after volume.create", &lasting(made), &lasting(got.clone()))?;
    let Some(found) = listed(kit, &name)? else {
        return fail(rules::CREATE, format!("volume.list: expected {name} in it, found it missing"));
    };
    same(rules::GET, "volume.list and volume.get", &got, &found)?;
    let path = is_empty(kit, &name, rules::CREATE)?;
    write_file(&path)?;
    kit.unmount(&name)?;
    done(rules::DELETE, "volume.delete", kit.delete(&name))?;
    not_found(rules::DELETE, "volume.delete of what is deleted", kit.delete(&name))?;
    not_found(rules::DELETE, "volume.get of what is deleted", kit.get(&name))?;
    ensure(rules::DELETE, listed(kit, &name)?.is_none(), || {
        format!("volume.list: {name} is deleted and listed")
    })?;
    // The name is free, and nothing of the first is in the second.
    done(rules::DELETE, "volume.create of a name that was deleted", kit.call(kit.create_request(&name)))?;
    if kit.options.adopted.is_empty() {
        is_empty(kit, &name, rules::DELETE)?;
        kit.unmount(&name)?;
    }
    done(rules::DELETE, "volume.delete", kit.delete(&name))
}

/// A new volume, which it mounts, has nothing in it.
fn is_empty(kit: &Subject, name: &Name, rule: rules::Rule) -> Outcome<PathBuf> {
    let path = kit.mount(name)?;
    let within: Vec<_> = io(rule, "list the new volume", std::fs::read_dir(&path))?
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|file| file != "lost+found")
        .collect();
    ensure(rule, within.is_empty(), || format!("expected a new volume to be empty, found {within:?}"))?;
    Ok(path)
}

pub(super) fn adopted(kit: &Subject) -> Outcome {
    let name = kit.name("adopted");
    let request = kit.create_request(&name);
    for directory in kit.options.adopted.keys().filter_map(|option| request.options.get(option)) {
        let written = std::fs::write(Path::new(directory).join("before"), "content");
        io(rules::ADOPTED, format_args!("write into {directory}, which is to be adopted"), written)?;
    }
    // What was there, and what came by the volume.
    let mut files = vec!["before"];
    for what in ["volume.create", "volume.create after volume.delete"] {
        done(rules::ADOPTED, what, kit.call(kit.create_request(&name)))?;
        let path = kit.mount(&name)?;
        for file in &files {
            let content = std::fs::read_to_string(path.join(file)).unwrap_or_default();
            let shown = format!("the file {file:?} that was there before {what}");
            same(rules::ADOPTED, &shown, &"content".to_owned(), &content)?;
        }
        let written = std::fs::write(path.join("within"), "content");
        io(rules::MOUNT, "write a file into the volume", written)?;
        files.push("within");
        kit.unmount(&name)?;
        done(rules::DELETE, "volume.delete", kit.delete(&name))?;
    }
    Ok(())
}

pub(super) fn twice(kit: &Subject) -> Outcome {
    let name = kit.create("twice")?;
    let path = kit.mount(&name)?;
    write_file(&path)?;
    let before = done(rules::GET, "volume.get", kit.get(&name))?;
    already_exists(rules::CREATE, "volume.create of what exists", kit.call(kit.create_request(&name)))?;
    let after = done(rules::GET, "volume.get", kit.get(&name))?;
    same(rules::CREATE, "the volume after a second volume.create", &before, &after)?;
    keeps_file(kit, &name, rules::CREATE, "a file in it after a second volume.create")
}

pub(super) fn unknown(kit: &Subject) -> Outcome {
    let name = kit.name("unknown");
    let expect = |what: &str, answer: Result<(), DriverError>| {
        not_found(rules::UNKNOWN, &format!("{what} of a volume that does not exist"), answer)
    };
    expect("volume.get", kit.get(&name).map(drop))?;
    expect("volume.delete", kit.delete(&name))?;
    expect(
        "volume.delete with reference_only",
        kit.call(DeleteVolume::new(name.clone()).reference_only(true)).map(drop),
    )?;
    expect("volume.mount", kit.call(MountVolume::new(name.clone())).map(drop))?;
    expect("volume.unmount", kit.call(UnmountVolume::new(name.clone())).map(drop))?;
    if kit.can(Capability::ResizeOffline) {
        expect("volume.resize", kit.call(ResizeVolume::new(name, 1 << 30)).map(drop))?;
    }
    Ok(())
}

/// Requests with names that the SDK's types would not let out.
#[derive(Serialize, Deserialize)]
struct Misnamed {
    name: String,
}

macro_rules! misnamed {
    ($($request:ident $method:literal;)*) => {
        $(#[derive(Serialize, Deserialize)]
        #[serde(transparent)]
        struct $request(Misnamed);

        impl convoy_driver_sdk::protocol::Request for $request {
            const METHOD: &'static str = $method;
            type Reply = serde_json::Value;
        })*
    };
}

misnamed! {
    CreateMisnamed "volume.create";
    GetMisnamed "volume.get";
    MountMisnamed "volume.mount";
    DeleteMisnamed "volume.delete";
}

pub(super) fn names(kit: &Subject) -> Outcome {
    let before = kit.names()?;
    let long = "n".repeat(201);
    for bad in [
        "",
        "x",
        ".",
        "..",
        "../kit-escape",
        "kit/escape",
        "-kit",
        ".kit",
        "kit name",
        "kit\u{0}",
        "kit\n",
        "kït",
        &long,
    ] {
        let misnamed = || Misnamed { name: bad.to_owned() };
        let expect = |what: &str, answer: Result<serde_json::Value, DriverError>| {
            refused(
                rules::NAMES,
                &format!("{what} of the name {bad:?}"),
                &[ErrorKind::InvalidArgument],
                answer,
            )
            .map(drop)
        };
        expect("volume.create", kit.call(CreateMisnamed(misnamed())))?;
        expect("volume.get", kit.call(GetMisnamed(misnamed())))?;
        expect("volume.mount", kit.call(MountMisnamed(misnamed())))?;
        expect("volume.delete", kit.call(DeleteMisnamed(misnamed())))?;
    }
    same(rules::NAMES, "the volumes after refused names", &before, &kit.names()?)?;
    // The longest and the oddest names that are none of these.
    for good in [format!("{:k<200}", "kit-"), format!("0{}._-", kit.name("odd"))] {
        let Ok(name) = Name::parse(good) else { return skip("the kit's own names are none") };
        match kit.call(kit.create_request(&name)) {
            // The storage may have shorter names than the protocol.
            Err(error) if error.kind == ErrorKind::InvalidArgument && name.len() == MAX_NAME_BYTES => {
                continue;
            }
            answer => drop(done(rules::NAMES, &format!("volume.create {name}"), answer)?),
        }
        kit.mount(&name)?;
        kit.unmount(&name)?;
        done(rules::DELETE, &format!("volume.delete {name}"), kit.delete(&name))?;
    }
    Ok(())
}

pub(super) fn create_options(kit: &Subject) -> Outcome {
    let name = kit.name("options");
    let mut request = kit.create_request(&name);
    request.options.insert("kit-no-such-option".to_owned(), "1".to_owned());
    let error = refused(
        rules::OPTIONS,
        "volume.create with an option nobody knows",
        &[ErrorKind::InvalidArgument],
        kit.call(request),
    )?;
    ensure(rules::OPTIONS, error.message.contains("kit-no-such-option"), || {
        format!("expected the name of the option in the message, found {:?}", error.message)
    })?;
    not_found(rules::OPTIONS, "volume.get after a refused create", kit.get(&name))
}

pub(super) fn sizes(kit: &Subject) -> Outcome {
    let before = kit.names()?;
    for size in [1, u64::MAX, 1 << 63, i64::MAX.unsigned_abs()] {
        let name = kit.name("size");
        let request = kit.create_request(&name).size(Some(size));
        let expected = [ErrorKind::InvalidArgument, ErrorKind::Exhausted];
        match kit.call(request) {
            // A file system in one byte would be remarkable; a driver that rounds up is not.
            Ok(volume) if size == 1 && volume.size > 1 => {}
            answer => {
                drop(refused(rules::SIZES, &format!("volume.create of {size} bytes"), &expected, answer)?)
            }
        }
        match kit.delete(&name) {
            Err(error) if error.kind == ErrorKind::NotFound => {}
            answer => done(rules::DELETE, "volume.delete", answer)?,
        }
    }
    same(rules::SIZES, "the volumes after refused sizes", &before, &kit.names()?)
}

pub(super) fn mount(kit: &Subject) -> Outcome {
    let name = kit.create("mount")?;
    let path = kit.mount(&name)?;
    write_file(&path)?;
    same(rules::MOUNT, "volume.mount repeated", &path, &kit.mount(&name)?)?;
    has_file(&path, rules::MOUNT, "a file after a second volume.mount")?;
    let got = done(rules::GET, "volume.get", kit.get(&name))?;
    ensure(rules::GET, got.mountpoint.as_ref().is_none_or(|found| *found == path), || {
        format!("volume.get: expected it mounted at {}, found {:?}", path.display(), got.mountpoint)
    })?;
    kit.unmount(&name)?;
    kit.unmount(&name)
}

pub(super) fn files(kit: &Subject) -> Outcome {
    let name = kit.create("files")?;
    let path = kit.mount(&name)?;
    let expected = fill_volume(&path, 1)?;
    let compare = |when: &str| {
        let path = kit.mount(&name)?;
        same_files(rules::UNMOUNT, "read the volume", &path, &expected, when)
    };
    kit.unmount(&name)?;
    compare("after unmount and mount")?;
    kit.restart()?;
    compare("after a restart of the driver")?;
    kit.unmount(&name)
}

pub(super) fn in_use(kit: &Subject) -> Outcome {
    let name = kit.create("in-use")?;
    let path = kit.mount(&name)?;
    let mounted = Subject::is_mounted(&path);
    kit.unmount(&name)?;
    if !mounted || Subject::is_mounted(&path) {
        return skip("its volumes are not mounted and unmounted by the kernel");
    }
    let path = kit.mount(&name)?;
    write_file(&path)?;
    refused(rules::IN_USE, "volume.delete of a mounted volume", &[ErrorKind::InUse], kit.delete(&name))?;
    has_file(&path, rules::IN_USE, "a file after a refused volume.delete")?;
    // Somebody has a file open: the volume stays, and stays known.
    let held = io(rules::MOUNT, "open a file", std::fs::File::open(path.join("file")))?;
    refused(
        rules::IN_USE,
        "volume.unmount with an open file",
        &[ErrorKind::Busy, ErrorKind::InUse],
        kit.call(UnmountVolume::new(name.clone())),
    )?;
    drop(held);
    kit.unmount(&name)
}

pub(super) fn size(kit: &Subject) -> Outcome {
    let name = kit.create("size")?;
    let volume = done(rules::GET, "volume.get", kit.get(&name))?;
    ensure(rules::SIZED, volume.size > 0, || "the size of a volume is 0".to_owned())?;
    if let Some(asked) = kit.options.size {
        ensure(rules::SIZED, volume.size >= asked, || {
            format!("expected at least the {asked} bytes asked for, found {}", volume.size)
        })?;
    }
    let path = kit.mount(&name)?;
    let capacity = io(rules::SIZED, "look at the file system", pattern::capacity(&path))?;
    ensure(rules::SIZED, capacity <= volume.size, || {
        format!("expected a file system of at most {} bytes, found {capacity}", volume.size)
    })?;
    ensure(rules::SIZED, capacity >= volume.size / 2, || {
        format!("expected a file system of about {} bytes, found {capacity}", volume.size)
    })?;
    kit.unmount(&name)
}

pub(super) fn born(kit: &Subject) -> Outcome {
    let name = kit.create("born")?;
    let created = done(rules::GET, "volume.get", kit.get(&name))?.created;
    // Times are told in seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    put_file(kit, &name)?;
    for when in ["after it was used", "after a restart"] {
        let now = done(rules::GET, "volume.get", kit.get(&name))?.created;
        same(rules::BORN, &format!("the creation time {when}"), &created, &now)?;
        kit.restart()?;
    }
    Ok(())
}

pub(super) fn keep(kit: &Subject) -> Outcome {
    let name = kit.create("keep")?;
    put_file(kit, &name)?;
    let forget = || kit.call(DeleteVolume::new(name.clone()).reference_only(true)).map(drop);
    match forget() {
        Err(error) if error.kind == ErrorKind::Unsupported => return skip("it does not keep data"),
        answer => done(rules::KEEP, "volume.delete with reference_only", answer)?,
    }
    not_found(rules::KEEP, "volume.delete with reference_only, repeated", forget())?;
    not_found(rules::KEEP, "volume.get of what is forgotten", kit.get(&name))?;
    for (capability, kind) in
        [(Capability::RestoreTree, SourceKind::Tree), (Capability::RestoreBlock, SourceKind::Block)]
    {
        if kit.can(capability) {
            let prepare = PrepareRestore::new(name.clone(), kind)
                .size(kit.options.size)
                .options(kit.create_options(&name));
            let answer = kit.call(prepare).inspect(|prepared| kit.restoring(&prepared.handle));
            already_exists(rules::KEEP, "restore.prepare over data that is kept", answer)?;
        }
    }
    // Taken back, or refused: never lost.
    match kit.call(kit.create_request(&name)) {
        Err(error) if error.kind == ErrorKind::AlreadyExists => Ok(()),
        answer => {
            done(rules::KEEP, "volume.create over data that is kept", answer)?;
            keeps_file(kit, &name, rules::KEEP, "a file that was kept")
        }
    }
}

fn resize(kit: &Subject, mounted: bool) -> Outcome {
    let name = kit.create("resize")?;
    let path = kit.mount(&name)?;
    let expected = fill_volume(&path, 2)?;
    let before = io(rules::RESIZE, "look at the file system", pattern::capacity(&path))?;
    let now = done(rules::GET, "volume.get", kit.get(&name))?.size;
    if !mounted {
        kit.unmount(&name)?;
    }
    let larger = now + (now / 2).max(64 << 20);
    for what in ["volume.resize", "volume.resize to the size it has"] {
        let resized = kit.call(ResizeVolume::new(name.clone(), larger));
        if let Err(error) = &resized
            && error.kind == ErrorKind::PermissionDenied
        {
            // It goes on being a volume.
            for _ in 0..2 {
                kit.mount(&name)?;
                kit.unmount(&name)?;
            }
            return skip(format!("this machine does not allow it: {}", error.message));
        }
        let resized = done(rules::RESIZE, what, resized)?;
        ensure(rules::RESIZE, resized.size >= larger, || {
            format!("{what}: expected {larger} bytes, found {}", resized.size)
        })?;
    }
    let path = kit.mount(&name)?;
    let capacity = io(rules::RESIZE, "look at the file system", pattern::capacity(&path))?;
    ensure(rules::RESIZE, capacity >= before + (larger - now) / 2, || {
        format!(
            "expected the file system to have grown by {} bytes, found {before} before and {capacity} after",
            larger - now
        )
    })?;
    same_files(rules::RESIZE, "read the volume", &path, &expected, "after volume.resize")?;
    kit.unmount(&name)
}

pub(super) fn resize_offline(kit: &Subject) -> Outcome {
    resize(kit, false)
}

pub(super) fn resize_online(kit: &Subject) -> Outcome {
    resize(kit, true)
}
