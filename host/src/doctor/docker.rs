//! What Docker's engine needs to find the daemon, and what slows it down.

use super::findings::{Findings, error, info, warning};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

const AREA: &str = "docker";

/// Where the engine looks for plugins, first to last.
const SPECS: [&str; 2] = ["/etc/docker/plugins", "/usr/lib/docker/plugins"];
const SOCKETS: &str = "/run/docker/plugins";

pub(super) fn examine(socket: &Path, findings: &mut Findings) {
    let plugins = plugins(&SPECS.map(Path::new), Path::new(SOCKETS));
    if !socket.as_os_str().is_empty() {
        permissions(socket, findings);
        named(socket, &plugins, findings);
    }
    for (file, target) in &plugins {
        // Docker asks every plugin when volumes are listed, and waits for each that is not there.
        if !same(target, socket) && UnixStream::connect(target).is_err() {
            let text = format!("{} names {}, where nobody listens", file.display(), target.display());
            let hint = "start that plugin, or remove the file: Docker waits for it whenever it lists volumes";
            findings.add(AREA, warning("stale plugin", text).hint(hint));
        }
    }
}

fn named(socket: &Path, plugins: &[(PathBuf, PathBuf)], findings: &mut Findings) {
    let ours: Vec<_> = plugins.iter().filter(|(_, target)| same(target, socket)).collect();
    match ours.as_slice() {
        [] => {
            let text = format!(
                "no plugin specification names {}: Docker does not know the daemon",
                socket.display()
            );
            let hint = format!(
                "mkdir -p {} && echo unix://{} > {}/convoy.spec; not needed where convoy runs as a managed \
                 plugin",
                SPECS[0],
                socket.display(),
                SPECS[0]
            );
            findings.add(AREA, warning("plugin", text).hint(hint));
        }
        all => {
            for (file, _) in all {
                let name = file.file_stem().unwrap_or_default().to_string_lossy();
                findings.add(
                    AREA,
                    info("plugin", format!("Docker knows the daemon as {name}, by {}", file.display())),
                );
            }
        }
    }
}

/// Whoever may connect is root, in effect.
fn permissions(socket: &Path, findings: &mut Findings) {
    let subject = format!("socket {}", socket.display());
    match std::fs::symlink_metadata(socket) {
        Ok(found) if !found.file_type().is_socket() => {
            findings
                .add(AREA, error(subject, "it is no socket").hint("start the daemon with another --socket"));
        }
        Ok(found) if found.mode() & 0o007 != 0 => {
            let text = format!("everybody may connect (mode {:o})", found.mode() & 0o777);
            findings.add(AREA, error(subject, text).hint(format!("chmod o= {}", socket.display())));
        }
        Ok(_) => {}
        Err(failed) => findings.add(AREA, error(subject, format!("cannot be looked at: {failed}"))),
    }
}

/// The files that name plugins, and the unix sockets they name.
fn plugins(specs: &[&Path], sockets: &Path) -> Vec<(PathBuf, PathBuf)> {
    let files = |dir: &Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let extension = |path: &Path| path.extension().and_then(|it| it.to_str()).unwrap_or_default().to_owned();
    let mut plugins = Vec::new();
    for path in specs.iter().flat_map(|dir| files(dir)) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let address = match extension(&path).as_str() {
            "spec" => text.trim().to_owned(),
            "json" => serde_json::from_str::<serde_json::Value>(&text)
                .ok()
                .and_then(|value| value["Addr"].as_str().map(str::to_owned))
                .unwrap_or_default(),
            _ => continue,
        };
        if let Some(target) = address.strip_prefix("unix://") {
            plugins.push((path, PathBuf::from(target)));
        }
    }
    // A socket in the directory, or in a directory of its own in it.
    for path in files(sockets) {
        let inner = path.file_name().map(|name| path.join(name).with_extension("sock"));
        for candidate in [Some(path.clone()), inner].into_iter().flatten() {
            if extension(&candidate) == "sock"
                && std::fs::metadata(&candidate).is_ok_and(|it| it.file_type().is_socket())
            {
                plugins.push((candidate.clone(), candidate));
            }
        }
    }
    plugins
}

fn same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_plugin_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (specs, sockets) = (dir.path().join("etc"), dir.path().join("run"));
        std::fs::create_dir_all(&specs).unwrap();
        std::fs::create_dir_all(sockets.join("inner")).unwrap();
        std::fs::write(specs.join("one.spec"), "unix:///run/one.sock\n").unwrap();
        std::fs::write(specs.join("two.json"), r#"{"Name":"two","Addr":"unix:///run/two.sock"}"#).unwrap();
        std::fs::write(specs.join("tcp.spec"), "tcp://127.0.0.1:1").unwrap();
        std::fs::write(specs.join("other.txt"), "unix:///x").unwrap();
        let _three = std::os::unix::net::UnixListener::bind(sockets.join("three.sock")).unwrap();
        let _four = std::os::unix::net::UnixListener::bind(sockets.join("inner/inner.sock")).unwrap();
        let found: Vec<_> = plugins(&[&specs], &sockets).into_iter().map(|(_, target)| target).collect();
        let expected = [
            PathBuf::from("/run/one.sock"),
            PathBuf::from("/run/two.sock"),
            sockets.join("inner/inner.sock"),
            sockets.join("three.sock"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_open_socket_and_an_unknown_one_are_told() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("convoy.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
        let mut findings = Findings::default();
        permissions(&socket, &mut findings);
        named(&socket, &[], &mut findings);
        named(&socket, &[("/etc/docker/plugins/convoy.spec".into(), socket.clone())], &mut findings);
        let told: Vec<_> = findings.into_diagnosis(false).findings;
        assert_eq!(told.len(), 3);
        assert!(told[0].severity == "error" && told[0].message.contains("everybody may connect"));
        assert!(told[1].severity == "warning" && told[1].hint.contains("convoy.spec"));
        assert_eq!(told[2].message, "Docker knows the daemon as convoy, by /etc/docker/plugins/convoy.spec");
    }
}
