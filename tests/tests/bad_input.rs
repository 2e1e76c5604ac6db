//! Input that is wrong: a clear error, an unchanged world, and everything else still served.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use convoy_tests::error::{Context, check};
use convoy_tests::{Carrier, Convoy, Lab, Result, Setup, each_carrier, patience, run, tree};
use serde_json::json;

each_carrier!(
    names_that_are_none_are_refused_everywhere,
    requests_that_are_none_are_refused,
    a_full_disk_is_reported_and_undone,
    a_failed_restore_leaves_nothing,
    neighbours_do_not_share_names,
    a_restore_keeps_what_was_kept,
);

/// Names that traverse, that are reserved, that are too short or too long, and that no file system would
/// like.
const NAMES: [&str; 14] = [
    "..",
    ".",
    "../x",
    "/../../escaped",
    "a/b",
    "/etc",
    "x",
    "",
    "bad name",
    "-dash",
    ".hidden",
    "new\nline",
    "nul\u{0}x",
    "\u{fc}ber",
];

/// The world: what is on disk, and what the daemon lists.
fn world(convoy: &Convoy) -> Result<String> {
    let setup = convoy.setup();
    let on_disk =
        |place: &Path| if place.exists() { tree::describe(place) } else { Ok("nothing".to_owned()) };
    let list = convoy.connect()?.ask("GET", "/v1/volumes/list", "")?.ok()?;
    Ok(format!(
        "{}\n{}\n{list}",
        without_directory_times(&on_disk(&setup.root)?),
        without_directory_times(&on_disk(&setup.volumes)?)
    ))
}

/// A try that was undone leaves the time of the directory it happened in: that is no change. Nor is the cache of
/// names, which is written some seconds after a volume was made.
fn without_directory_times(tree: &str) -> String {
    let lines = tree.lines().filter(|line| !line.starts_with("known-volumes/")).map(|line| {
        let fields =
            line.split(' ').filter(|field| !(line.contains(" directory ") && field.starts_with("mtime=")));
        fields.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Runs something that must fail, and checks that nothing but that happened.
fn refused_without_a_trace(
    convoy: &Convoy,
    what: &str,
    action: impl FnOnce() -> Result<String>,
) -> Result<()> {
    let before = world(convoy)?;
    let said = action()?;
    // For no body at all, scripts know the word EOF.
    check(said.trim().len() > 8 || said.contains("EOF"), || format!("{what}: no explanation: {said:?}"))?;
    check(!said.contains("panicked"), || format!("{what}: a panic: {said}"))?;
    let after = world(convoy)?;
    check(before == after, || format!("{what} changed the world.\nbefore:\n{before}\nafter:\n{after}"))
}

/// A request that must be answered with an error.
fn error_of(convoy: &Convoy, method: &str, path: &str, body: &str) -> Result<String> {
    let answer = convoy.connect()?.ask(method, path, body)?;
    let docker = path.starts_with("/VolumeDriver") || path.starts_with("/Plugin");
    let failed =
        if docker { answer.body.contains("\"Err\"") } else { answer.status >= 400 && answer.status < 500 };
    check(failed, || {
        format!("{method} {path} {body} was answered with {} {:?}", answer.status, answer.body)
    })?;
    Ok(answer.body)
}

fn names_that_are_none_are_refused_everywhere(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, carrier).start()?;
        convoy.ok(&["create", "good"])?;
        let long = "n".repeat(300);
        let reserved = ["config", "lost+found"];
        for name in NAMES.into_iter().chain([long.as_str()]).chain(reserved) {
            // Without a name the admin API makes one: not an error.
            let create = if name.is_empty() { json!({"Name": ".."}) } else { json!({"Name": name}) };
            let volume = json!({"VolumeName": name}).to_string();
            let snapshot =
                json!({"VolumeName": "good", "Name": if name.is_empty() { ".." } else { name }}).to_string();
            let docker = json!({"Name": name, "ID": "0"}).to_string();
            let requests = [
                ("POST", "/v1/volumes/create", create.to_string()),
                ("GET", "/v1/volumes/", volume.clone()),
                ("DELETE", "/v1/volumes/", volume.clone()),
                ("POST", "/v1/volumes/mount", volume.clone()),
                ("POST", "/v1/volumes/umount", volume.clone()),
                ("POST", "/v1/snapshots/create", volume),
                ("POST", "/VolumeDriver.Create", docker.clone()),
                ("POST", "/VolumeDriver.Mount", docker.clone()),
                ("POST", "/VolumeDriver.Get", docker.clone()),
                ("POST", "/VolumeDriver.Path", docker),
            ];
            for (method, path, body) in requests {
                refused_without_a_trace(&convoy, &format!("{path} {name:?}"), || {
                    error_of(&convoy, method, path, &body)
                })?;
            }
            if !reserved.contains(&name) {
                let path = "/v1/snapshots/create";
                refused_without_a_trace(&convoy, &format!("{path} {name:?}"), || {
                    error_of(&convoy, "POST", path, &snapshot)
                })?;
            }
            if !name.contains('\0') && !name.is_empty() && !name.starts_with('-') {
                refused_without_a_trace(&convoy, &format!("create {name:?}"), || {
                    convoy.refused(&["create", name])
                })?;
            }
        }
        check(!lab.path("escaped").exists(), || "a name escaped".to_owned())?;
        assert_eq!(convoy.names()?, ["good"]);
        Ok(())
    })
}

fn requests_that_are_none_are_refused(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, carrier).start()?;
        convoy.ok(&["create", "good"])?;
        let deep = "[".repeat(100_000);
        let admin = "/v1/volumes/create";
        let docker = "/VolumeDriver.Create";
        let bodies = [
            "",
            "{",
            "{bad",
            "[]",
            "null",
            "5",
            "\"x\"",
            "{\"Name\":7}",
            "{\"Name\":[\"aa\"]}",
            "{\"Name\":\"\\ud800\"}",
            &deep,
        ];
        for body in bodies {
            for path in [admin, docker, "/VolumeDriver.Mount", "/v1/volumes/mount", "/v1/snapshots/create"] {
                let what = format!("{path} with {:?}", body.get(..20).unwrap_or(body));
                let generated = path == admin && body == "null";
                if !generated {
                    refused_without_a_trace(&convoy, &what, || error_of(&convoy, "POST", path, body))?;
                }
            }
        }
        let sizes = [json!(-1), json!(1.5), json!("10G"), json!(u64::MAX), json!(1e300)];
        for size in sizes {
            let body = json!({"Name": "sized", "Size": size}).to_string();
            refused_without_a_trace(&convoy, &body, || error_of(&convoy, "POST", admin, &body))?;
        }
        for size in [
            "-1",
            "1.5G",
            "ten",
            "10X",
            "99999999999999999999",
            "18446744073709551615T",
            "8388608T",
            "G",
            "0x10",
        ] {
            let body = json!({"Name": "sized", "Opts": {"size": size, "vm": "true"}}).to_string();
            refused_without_a_trace(&convoy, &body, || error_of(&convoy, "POST", docker, &body))?;
            let flag = format!("--size={size}");
            refused_without_a_trace(&convoy, &flag, || convoy.refused(&["create", "sized", "--vm", &flag]))?;
        }
        let options = [
            json!({"bogus": "1"}),
            json!({"vm": "maybe"}),
            json!({"iops": "x"}),
            json!({"size": 10}),
            json!({"driver": "nosuch"}),
            json!({"backup": "ftp://host/x?backup=bb&volume=vv"}),
            json!({"backup": "vfs:///nosuch?backup=bb&volume=vv"}),
            json!({"backup": "nonsense"}),
            json!("x"),
            json!(["size"]),
        ];
        for option in options {
            let body = json!({"Name": "optioned", "Opts": option}).to_string();
            refused_without_a_trace(&convoy, &body, || error_of(&convoy, "POST", docker, &body))?;
        }
        // An unknown option is answered with the known ones.
        let said =
            error_of(&convoy, "POST", docker, &json!({"Name": "vol", "Opts": {"bogus": "1"}}).to_string())?;
        check(said.contains("bogus") && said.contains("size"), || said.clone())?;
        // A body without end, and a client that goes away in the middle, cost nobody else anything.
        let mut half = convoy.connect()?;
        check(
            half.ask("POST", "/v1/volumes/create", &"x".repeat(64 << 20)).map_or(true, |a| a.status >= 400),
            || "64 MiB of nonsense were accepted".to_owned(),
        )?;
        assert_eq!(convoy.names()?, ["good"]);
        check(convoy.resident_kib()? < 200 * 1024, || "the daemon keeps what it was sent".to_owned())
    })
}

/// Volumes on a file system of 8 MiB that is as good as full.
fn a_full_disk_is_reported_and_undone(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let setup = Setup::vfs(lab, carrier);
        fs::create_dir_all(&setup.volumes).during(|| "a mount point".to_owned())?;
        run::capture(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=8M,mode=0700", "none"])
                .arg(&setup.volumes),
        )?
        .ok()?;
        let result = on_a_full_disk(lab, &setup);
        // The driver of a daemon that was killed may be on its way out still.
        let unmounted = patience::until("the unmount", Duration::from_secs(10), || {
            Ok(run::capture(Command::new("umount").arg(&setup.volumes))?.success())
        });
        result.and(unmounted)
    })
}

fn on_a_full_disk(lab: &Lab, setup: &Setup) -> Result<()> {
    let mut convoy = setup.start()?;
    convoy.ok(&["create", "good"])?;
    let data = setup.volumes.join("good/data");
    fs::write(&data, vec![7; 3 << 20]).during(|| "data".to_owned())?;
    convoy.ok(&["snapshot", "create", "good", "--name", "snap"])?;
    let store = format!("vfs://{}", lab.make("store")?.display());
    let backup = convoy.ok(&["backup", "create", "snap", "--dest", &store])?;

    let filler = setup.volumes.join("filler");
    let mut size = 16 << 20;
    while size >= 4096 {
        let file =
            fs::File::options().create(true).append(true).open(&filler).during(|| "the filler".to_owned())?;
        if std::io::Write::write_all(&mut &file, &vec![1; size]).is_err() {
            size /= 2;
        }
    }
    let no_space = |said: String| {
        check(said.to_lowercase().contains("no space"), || format!("not said plainly: {said}"))?;
        Ok(said)
    };
    refused_without_a_trace(&convoy, "a create on a full disk", || {
        no_space(convoy.refused(&["create", "another"])?)
    })?;
    refused_without_a_trace(&convoy, "a restore on a full disk", || {
        no_space(convoy.refused(&["create", "restored", "--backup", &backup])?)
    })?;
    // What was there is served: read, mounted, unmounted, deleted.
    convoy.ok(&["mount", "good"])?;
    convoy.ok(&["umount", "good"])?;
    assert_eq!(convoy.names()?, ["good"]);
    convoy.kill()?;
    convoy.start_again()?;
    assert_eq!(convoy.names()?, ["good"]);
    fs::remove_file(&filler).during(|| "the filler".to_owned())?;
    convoy.ok(&["create", "another"])?;
    convoy.ok(&["delete", "good"])?;
    convoy.ok(&["create", "restored", "--backup", &backup])?;
    check(fs::read(setup.volumes.join("restored/data")).is_ok_and(|data| data == vec![7; 3 << 20]), || {
        "restored wrongly".to_owned()
    })
}

fn a_failed_restore_leaves_nothing(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, carrier).start()?;
        convoy.ok(&["create", "good"])?;
        fs::write(convoy.setup().volumes.join("good/data"), vec![3; 300_000]).during(|| "data".to_owned())?;
        convoy.ok(&["snapshot", "create", "good", "--name", "snap"])?;
        let store = lab.make("store")?;
        let url = format!("vfs://{}", store.display());
        let backup = convoy.ok(&["backup", "create", "snap", "--dest", &url])?;
        // Every object of the store in turn is cut short: a restore either finds out, or did not need it.
        let mut found_out = 0;
        for object in files(&store)? {
            let whole = fs::read(&object).during(|| "an object".to_owned())?;
            let half = whole.get(..whole.len() / 2).unwrap_or_default();
            fs::write(&object, half).during(|| "cut an object".to_owned())?;
            let before = world(&convoy)?;
            let restored = convoy.run(&["create", "restored", "--backup", &backup])?;
            if restored.success() {
                let data = fs::read(convoy.setup().volumes.join("restored/data")).unwrap_or_default();
                check(data == vec![3; 300_000], || {
                    format!("{} was cut, and nobody noticed", object.display())
                })?;
                convoy.ok(&["delete", "restored"])?;
            } else {
                found_out += 1;
                let after = world(&convoy)?;
                check(before == after, || format!("{}: left behind:\n{before}\n{after}", object.display()))?;
            }
            fs::write(&object, whole).during(|| "mend the object".to_owned())?;
        }
        check(found_out > 0, || "no object was needed for the restore".to_owned())?;
        convoy.ok(&["create", "restored", "--backup", &backup])?;
        Ok(())
    })
}

fn files(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for name in tree::names(directory)? {
        let path = directory.join(name);
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn neighbours_do_not_share_names(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, carrier).start()?;
        let volumes = convoy.setup().volumes.clone();
        for (volume, snapshot) in [("aa_bb", "cc"), ("aa", "bb_cc")] {
            convoy.ok(&["create", volume])?;
            fs::write(volumes.join(volume).join("who"), volume).during(|| "write".to_owned())?;
            convoy.ok(&["snapshot", "create", volume, "--name", snapshot])?;
        }
        let store = format!("vfs://{}", lab.make("store")?.display());
        convoy.ok(&["delete", "aa"])?;
        // The snapshot went with its volume, and its name is free.
        convoy.refused(&["snapshot", "inspect", "bb_cc"])?;
        convoy.ok(&["snapshot", "create", "aa_bb", "--name", "bb_cc"])?;
        let backup = convoy.ok(&["backup", "create", "cc", "--dest", &store])?;
        convoy.ok(&["create", "aa.tmp"])?;
        fs::write(volumes.join("aa.tmp/who"), "somebody else").during(|| "write".to_owned())?;
        convoy.ok(&["create", "aa", "--backup", &backup])?;
        let who = |volume: &str| fs::read_to_string(volumes.join(volume).join("who")).unwrap_or_default();
        assert_eq!(
            (who("aa"), who("aa.tmp"), who("aa_bb")),
            ("aa_bb".to_owned(), "somebody else".to_owned(), "aa_bb".to_owned())
        );
        // The three forms of & mean one thing in a URL, and nothing in a name.
        convoy.ok(&["create", "au0026b"])?;
        convoy.ok(&["snapshot", "create", "au0026b", "--name", "sn"])?;
        let odd = convoy.ok(&["backup", "create", "sn", "--dest", &store])?;
        for form in [odd.clone(), odd.replace("\\u0026", "&"), odd.replace("\\u0026", "u0026")] {
            let inspected = convoy.ok(&["backup", "inspect", &form])?;
            check(inspected.contains("\"VolumeName\": \"au0026b\""), || format!("{form}: {inspected}"))?;
        }
        Ok(())
    })
}

fn a_restore_keeps_what_was_kept(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, carrier).start()?;
        let volumes = convoy.setup().volumes.clone();
        convoy.ok(&["create", "source"])?;
        convoy.ok(&["snapshot", "create", "source", "--name", "snap"])?;
        let store = format!("vfs://{}", lab.make("store")?.display());
        let backup = convoy.ok(&["backup", "create", "snap", "--dest", &store])?;
        convoy.ok(&["create", "kept"])?;
        fs::write(volumes.join("kept/precious"), "x").during(|| "write".to_owned())?;
        convoy.ok(&["delete", "--reference", "kept"])?;
        let refused = convoy.refused(&["create", "kept", "--backup", &backup])?;
        check(refused.contains("kept"), || refused.clone())?;
        assert!(volumes.join("kept/precious").exists(), "a restore wiped what delete -r had kept");
        // A plain create adopts it, as ever.
        convoy.ok(&["create", "kept"])?;
        assert!(volumes.join("kept/precious").exists());
        Ok(())
    })
}
