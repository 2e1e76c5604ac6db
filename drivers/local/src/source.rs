//! Which volumes the answers of the engines speak of, and what is left out.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::{Name, Timestamp};

use crate::engine::{ContainerAnswer, LABEL_DRIVER, LABEL_ID, VolumeAnswer};
use crate::error::{LocalError, LocalResult};
use crate::options::plain;
use crate::paths::{Reserved, name_of, open_bind, open_volume, refuse_path, refuse_place};
use crate::record::VolumeKind;

/// What one engine answered.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) volumes: Vec<VolumeAnswer>,
    pub(crate) containers: Vec<ContainerAnswer>,
}

/// A volume that Docker has.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) name: Name,
    /// Which of the engines has it.
    pub(crate) engine: usize,
    pub(crate) kind: VolumeKind,
    pub(crate) path: PathBuf,
    /// Whether the directory is one of the host that Docker only mounts.
    pub(crate) is_of_host: bool,
    pub(crate) created: Timestamp,
    /// Whether it was made by this driver.
    pub(crate) ours: bool,
    /// What tells it from others of its name, if it was.
    pub(crate) id: Option<String>,
    /// The containers that have it, running or not.
    pub(crate) containers: Vec<String>,
}

/// Something that is not a volume of this driver, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Skipped {
    pub(crate) what: String,
    pub(crate) why: String,
    /// Whether its name is taken, which somebody should know.
    pub(crate) twice: bool,
}

/// All that the engines have.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) sources: BTreeMap<Name, Source>,
    pub(crate) skipped: Vec<Skipped>,
}

impl Source {
    /// Opens the directory of the volume.
    ///
    /// # Errors
    /// [`LocalError::Unusable`].
    pub(crate) fn open(&self) -> LocalResult<OwnedFd> {
        open(&self.name, &self.path, self.is_of_host)
    }
}

/// Opens the directory of a volume. One `of_host` is reached through no link.
pub(crate) fn open(name: &Name, path: &Path, of_host: bool) -> LocalResult<OwnedFd> {
    let opened = if of_host { open_bind(path) } else { open_volume(path) };
    opened.map_err(|error| LocalError::Unusable {
        volume: name.clone(),
        path: path.to_owned(),
        why: error.to_string(),
    })
}

impl Found {
    /// Reads the answers of all engines, the first of which wins a name.
    pub(crate) fn read(engines: &[Answers], reserved: &Reserved, mounts: &MountTable) -> Self {
        let mut found = Self::default();
        for (engine, answers) in engines.iter().enumerate() {
            for volume in answers.volumes.iter().filter(|volume| volume.driver == "local") {
                match read_volume(engine, volume, reserved, mounts) {
                    Ok(source) => found.add(source),
                    Err(why) => found.skip(format!("volume {}", short(&volume.name)), why),
                }
            }
        }
        for (engine, answers) in engines.iter().enumerate() {
            for container in &answers.containers {
                found.read_container(engine, container, reserved, mounts);
            }
        }
        for source in found.sources.values_mut() {
            source.containers.sort();
            source.containers.dedup();
        }
        found.skipped.sort();
        found.skipped.dedup();
        found
    }

    fn add(&mut self, source: Source) {
        match self.sources.get(&source.name) {
            Some(first) => self.skipped.push(Skipped {
                what: format!("{} {}", source.kind.as_str(), source.name),
                why: format!("{} has that name already", first.path.display()),
                twice: true,
            }),
            None => drop(self.sources.insert(source.name.clone(), source)),
        }
    }

    fn skip(&mut self, what: String, why: String) {
        self.skipped.push(Skipped { what, why, twice: false });
    }

    fn read_container(
        &mut self,
        engine: usize,
        container: &ContainerAnswer,
        reserved: &Reserved,
        mounts: &MountTable,
    ) {
        let user = short(container.name());
        for mount in container.mounts.iter().flatten() {
            match mount.kind.as_str() {
                "volume" if matches!(mount.driver.as_str(), "local" | "") => {
                    if let Some(source) = self.sources.get_mut(mount.name.as_str())
                        && source.engine == engine
                        && source.kind == VolumeKind::Volume
                    {
                        source.containers.push(user.clone());
                    }
                }
                "bind" => {
                    let what = || format!("bind mount {}", short(&mount.source));
                    let Some(path) = plain(&mount.source) else {
                        self.skip(what(), "its path is not absolute".to_owned());
                        continue;
                    };
                    let Some(name) = name_of(&path) else { continue };
                    if let Some(source) = self.sources.get_mut(&name)
                        && source.path == path
                    {
                        source.containers.push(user.clone());
                        continue;
                    }
                    match refuse_path(&path, reserved).or_else(|| refuse_place(&path, mounts)) {
                        Some(why) => self.skip(what(), why),
                        None => self.add(Source {
                            created: born(&path).unwrap_or_else(|| Timestamp::from_unix(0)),
                            name,
                            engine,
                            kind: VolumeKind::Bind,
                            path,
                            is_of_host: true,
                            ours: false,
                            id: None,
                            containers: vec![user.clone()],
                        }),
                    }
                }
                _ => {}
            }
        }
    }
}

fn read_volume(
    engine: usize,
    volume: &VolumeAnswer,
    reserved: &Reserved,
    mounts: &MountTable,
) -> Result<Source, String> {
    let name = Name::parse(volume.name.as_str()).map_err(|error| error.to_string())?;
    let no_path = || "its path is not absolute".to_owned();
    let (path, is_of_host) = match device(volume)? {
        Some(device) => (plain(device).ok_or_else(no_path)?, true),
        None => (plain(&volume.mountpoint).ok_or_else(no_path)?, false),
    };
    if is_of_host && let Some(why) = refuse_path(&path, reserved).or_else(|| refuse_place(&path, mounts)) {
        return Err(format!("it is the directory {}, and {why}", path.display()));
    }
    // What older engines tell changes with what is in the volume; the directory around it stays as it was
    // made.
    let around = path.parent().filter(|_| !is_of_host).and_then(born);
    let told = volume.created_at.as_deref().and_then(|text| Timestamp::parse(text).ok());
    Ok(Source {
        name,
        engine,
        kind: VolumeKind::Volume,
        created: around.or(told).unwrap_or_else(|| Timestamp::from_unix(0)),
        path,
        is_of_host,
        ours: volume.label(LABEL_DRIVER) == Some("local"),
        id: volume.label(LABEL_ID).map(str::to_owned),
        containers: Vec::new(),
    })
}

/// The directory of the host that a volume stands for, by its options; none for one of the engine's own.
///
/// # Errors
/// Why it is no directory of this host. The value of `o` may have a password in it, and is not told.
fn device(volume: &VolumeAnswer) -> Result<Option<&str>, String> {
    let Some(options) = volume.options.as_ref().filter(|options| !options.is_empty()) else {
        return Ok(None);
    };
    let get = |name: &str| options.get(name).map(String::as_str).unwrap_or_default();
    let binds = get("o").split(',').any(|word| matches!(word.trim(), "bind" | "rbind"));
    match (get("type"), options.get("device")) {
        ("none" | "bind" | "", Some(device)) if binds => Ok(Some(device)),
        ("", None) => Err("it has options, by which Docker mounts something there itself".to_owned()),
        (kind, _) => Err(format!("Docker mounts something there itself, of type {:?}", short(kind))),
    }
}

/// When a directory was made, as far as its file system knows.
fn born(path: &Path) -> Option<Timestamp> {
    let born = std::fs::symlink_metadata(path).and_then(|meta| meta.created()).ok()?;
    let since = born.duration_since(std::time::SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok().map(Timestamp::from_unix)
}

/// The beginning of a text from outside, on one line.
fn short(text: &str) -> String {
    text.chars().take(200).map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(volumes: serde_json::Value, containers: serde_json::Value) -> Found {
        let answers = Answers {
            volumes: serde_json::from_value(volumes).unwrap(),
            containers: serde_json::from_value(containers).unwrap(),
        };
        let reserved = Reserved { own: vec!["/convoy".into()], engines: vec!["/docker".into()] };
        Found::read(&[answers, Answers::default()], &reserved, &MountTable::default())
    }

    #[test]
    fn volumes_of_the_engine_are_listed_and_what_docker_mounts_itself_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        let volume = |name: &str, options: serde_json::Value| {
            json!({ "Name": name, "Driver": "local", "Mountpoint": format!("/docker/volumes/{name}/_data"),
                "CreatedAt": "2026-11-23T08:38:07Z", "Labels": null, "Options": options })
        };
        let found = read(
            json!([
                volume("plain", json!(null)),
                volume("empty", json!({})),
                volume("bound", json!({ "type": "none", "o": "bind,rw", "device": real })),
                volume("nfs", json!({ "type": "nfs", "o": "addr=x,password=secret", "device": ":/x" })),
                volume("tmpfs", json!({ "type": "tmpfs", "device": "tmpfs" })),
                volume("sized", json!({ "o": "size=1G" })),
                volume("root", json!({ "type": "none", "o": "bind", "device": "/" })),
                volume("x", json!(null)),
                json!({ "Name": "other", "Driver": "convoy", "Mountpoint": "/x" }),
                json!({ "Name": "lost", "Driver": "local", "Mountpoint": "/docker/../etc" }),
            ]),
            json!([{ "Id": "1", "Names": ["/web"], "Mounts": [
                { "Type": "volume", "Name": "plain", "Driver": "local", "Source": "/x" },
                { "Type": "volume", "Name": "other", "Driver": "convoy", "Source": "/x" },
                { "Type": "tmpfs", "Source": "" },
            ] }, { "Id": "2" }]),
        );
        let names: Vec<_> = found.sources.keys().map(Name::as_str).collect();
        assert_eq!(names, ["bound", "empty", "plain"]);
        let plain = &found.sources["plain"];
        assert_eq!((plain.path.to_str(), plain.is_of_host), (Some("/docker/volumes/plain/_data"), false));
        assert_eq!((plain.containers.join(" "), plain.ours), ("web".to_owned(), false));
        assert_eq!(plain.created, Timestamp::parse("2026-11-23T08:38:07Z").unwrap());
        assert!(found.sources["bound"].is_of_host && found.sources["bound"].path == real);
        let told: Vec<_> = found.skipped.iter().map(|one| one.what.as_str()).collect();
        let all = ["volume lost", "volume nfs", "volume root", "volume sized", "volume tmpfs", "volume x"];
        assert_eq!(told, all);
        assert!(!format!("{:?}", found.skipped).contains("secret"));
    }

    #[test]
    fn directories_that_containers_have_are_volumes_once() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::write(real.join("file"), "").unwrap();
        let bind = |path: &str| json!({ "Type": "bind", "Source": path });
        let (path, file) = (real.to_str().unwrap(), format!("{}/file", real.display()));
        let twice = format!("{path}/");
        let found = read(
            json!([]),
            json!([
                { "Id": "1", "Names": ["/one"], "Mounts": [bind(path), bind(&file), bind("/proc")] },
                { "Id": "2", "Names": ["/two"], "Mounts": [bind(&twice), bind("relative"), bind("/convoy")] },
            ]),
        );
        let sources: Vec<_> = found.sources.values().collect();
        assert_eq!(sources.len(), 1, "{sources:?}");
        assert_eq!(sources[0].containers, ["one", "two"]);
        assert!(sources[0].kind == VolumeKind::Bind && sources[0].path == real);
        assert_eq!(found.skipped.len(), 4, "{:?}", found.skipped);
    }

    #[test]
    fn the_first_engine_wins_a_name() {
        let answers = |root: &str| Answers {
            volumes: serde_json::from_value(
                json!([{ "Name": "data", "Driver": "local", "Mountpoint": root }]),
            )
            .unwrap(),
            containers: Vec::new(),
        };
        let engines = [answers("/one/data"), answers("/two/data")];
        let found = Found::read(&engines, &Reserved::default(), &MountTable::default());
        assert_eq!(found.sources["data"].path, Path::new("/one/data"));
        assert!(found.skipped[0].twice && found.skipped[0].why.contains("/one/data"));
    }
}
