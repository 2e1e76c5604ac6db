//! Destinations as the daemon's settings say: S3 servers made by others, credentials, certificates, proxies,
//! rates and keys.

#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "../../host/objectstore/tests/common/server.rs"]
mod server;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use convoy_tests::error::{Context, check};
use convoy_tests::{Carrier, Convoy, Lab, Result, Setup, run, tree};
use server::Server;

/// A daemon with these settings, and a volume with a snapshot of so many bytes.
fn daemon(lab: &Lab, settings: &str, bytes: usize) -> Result<Convoy> {
    let file = lab.path("destinations.toml");
    fs::write(&file, settings).during(|| "write settings".to_owned())?;
    let file = file.display().to_string();
    let mut setup = Setup::vfs(lab, Carrier::Builtin).with(&["--destinations", &file]);
    // No machine of a cloud is asked for credentials or a region.
    setup.wrapper = vec!["env".to_owned(), "AWS_EC2_METADATA_DISABLED=true".to_owned()];
    let convoy = setup.start()?;
    convoy.ok(&["create", "data"])?;
    fs::write(convoy.setup().volumes.join("data/file"), noise(bytes))
        .during(|| "fill a volume".to_owned())?;
    convoy.ok(&["snapshot", "create", "data", "--name", "snap"])?;
    Ok(convoy)
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(bytes).collect()
}

fn back_up(convoy: &Convoy, destination: &str) -> Result<String> {
    Ok(convoy.ok(&["backup", "create", "snap", "--dest", destination])?.replace("\\u0026", "&"))
}

/// What a backup to there is refused with.
fn refusal(convoy: &Convoy, destination: &str) -> Result<String> {
    convoy.refused(&["backup", "create", "snap", "--dest", destination])
}

fn says(text: &str, part: &str) -> Result<()> {
    check(text.contains(part), || format!("{part:?} is not in: {text}"))
}

/// Whether any file below a directory contains the bytes.
fn holds(directory: &Path, bytes: &[u8]) -> Result<bool> {
    for entry in fs::read_dir(directory).during(|| format!("look into {}", directory.display()))? {
        let path = entry.during(|| "look".to_owned())?.path();
        let found = if path.is_dir() {
            holds(&path, bytes)?
        } else {
            let content = fs::read(&path).during(|| format!("read {}", path.display()))?;
            content.windows(bytes.len()).any(|part| part == bytes)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn a_bucket_is_reached_as_the_settings_say() -> Result<()> {
    Lab::run(|lab| {
        // This server checks signatures: with other credentials, or none, it lets nobody in.
        let server = Server::s3s_fs();
        let text = "[default]\naws_access_key_id = no\naws_secret_access_key = no\n\
                    [backups]\naws_access_key_id = key\naws_secret_access_key = secret\n";
        let credentials = lab.secret("credentials", text)?;
        let key = lab.secret("key", noise(32))?;
        let (endpoint, credentials, key) = (server.endpoint(), credentials.display(), key.display());
        let settings = format!(
            "[destinations.\"s3://rec\"]\n\
             endpoint = \"{endpoint}\"\nregion = \"us-east-1\"\ncredentials_file = \"{credentials}\"\n\
             [destinations.\"s3://rec/right/\"]\n\
             endpoint = \"{endpoint}\"\nregion = \"us-east-1\"\ncredentials_file = \"{credentials}\"\n\
             profile = \"backups\"\nencryption_key_file = \"{key}\"\nbandwidth = \"4M\"\ncompression = 3\n"
        );
        let bytes = 12 << 20;
        let convoy = daemon(lab, &settings, bytes)?;
        says(&refusal(&convoy, "s3://rec/wrong/")?, "access denied")?;
        says(&refusal(&convoy, "s3://other/right/")?, "region")?;

        let start = Instant::now();
        let url = back_up(&convoy, "s3://rec/right/path/")?;
        let seconds = start.elapsed().as_secs_f64();
        // The first request is let through at once, so of 12 MiB about half wait.
        check(seconds > 1.0, || format!("12 MiB at 4 MiB/s took {seconds} s"))?;
        let plain = noise(1064);
        check(!holds(server.dir(), plain.get(1000..).unwrap_or_default())?, || {
            "the backup is not encrypted".to_owned()
        })?;
        convoy.ok(&["create", "copy", "--backup", &url])?;
        let volumes = &convoy.setup().volumes;
        check(tree::describe(&volumes.join("data"))? == tree::describe(&volumes.join("copy"))?, || {
            "the restored volume differs".to_owned()
        })?;
        says(&convoy.ok(&["backup", "list", "s3://rec/right/path/"])?, "path/?backup=")?;
        says(&convoy.ok(&["backup", "verify", &url, "--read-data"])?, "\"Problems\": []")?;
        convoy.ok(&["backup", "delete", &url])?;
        let left = convoy.ok(&["backup", "list", "s3://rec/right/path/"])?;
        check(left.trim() == "{}", || left)
    })
}

#[test]
fn a_certificate_authority_is_trusted_where_it_is_set() -> Result<()> {
    Lab::run(|lab| {
        let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -subj /CN=lab -days 2\n\
                      openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out request.pem -subj /CN=server\n\
                      echo subjectAltName=IP:127.0.0.1 > names\n\
                      openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile names";
        let mut command = Command::new("sh");
        run::capture(command.args(["-ec", script]).current_dir(lab.directory()))?.ok()?;
        let server = Server::moto_with_tls(&lab.path("cert.pem"), &lab.path("key.pem"));
        let endpoint = server.endpoint().replace("http://", "https://");
        let text = "[default]\naws_access_key_id = key\naws_secret_access_key = secret\n";
        let credentials = lab.secret("credentials", text)?;
        let credentials = credentials.display();
        let settings = format!(
            "[destinations.\"s3://trusted\"]\n\
             endpoint = \"{endpoint}\"\ncredentials_file = \"{credentials}\"\nca_file = \"{}\"\n\
             [destinations.\"s3://strange\"]\n\
             endpoint = \"{endpoint}\"\ncredentials_file = \"{credentials}\"\n",
            lab.path("ca.pem").display()
        );
        let convoy = daemon(lab, &settings, 1000)?;
        // Nobody has made the bucket, and only a server that is trusted can say so.
        says(&refusal(&convoy, "s3://trusted/")?, "NoSuchBucket")?;
        says(&refusal(&convoy, "s3://strange/")?, "certificate")
    })
}

#[test]
fn a_proxy_is_used_where_it_is_set() -> Result<()> {
    Lab::run(|lab| {
        let listener = TcpListener::bind("127.0.0.1:0").during(|| "listen".to_owned())?;
        let port = listener.local_addr().during(|| "listen".to_owned())?.port();
        // Refuses everything, and says what it was asked first.
        let proxy = std::thread::spawn(move || -> std::io::Result<String> {
            let (mut stream, _) = listener.accept()?;
            let mut line = String::new();
            BufReader::new(stream.try_clone()?).read_line(&mut line)?;
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
            Ok(line)
        });
        let text = "[default]\naws_access_key_id = key\naws_secret_access_key = secret\n";
        let credentials = lab.secret("credentials", text)?;
        let settings = format!(
            "[destinations.\"s3://rec\"]\nendpoint = \"http://storage.invalid:9000\"\ncredentials_file = \"{}\"\n\
             proxy = \"http://127.0.0.1:{port}\"\n",
            credentials.display()
        );
        let convoy = daemon(lab, &settings, 1000)?;
        says(&refusal(&convoy, "s3://rec/")?, "access denied")?;
        let asked = proxy.join().ok().and_then(std::result::Result::ok).unwrap_or_default();
        says(&asked, "http://storage.invalid:9000/rec")
    })
}

#[test]
fn a_passphrase_opens_what_it_made_and_is_seen_nowhere() -> Result<()> {
    Lab::run(|lab| {
        let store = lab.make("store")?;
        let destination = format!("vfs://{}/", store.display());
        let (first, second) = ("first passphrase of the lab", "second passphrase of the lab");
        let mut files = Vec::new();
        for (name, text) in [("first", format!("{first}\n")), ("second", second.to_owned())] {
            files.push(lab.secret(name, text)?.display().to_string());
        }
        let [one, two] = files.as_slice() else { return check(false, || "two files".to_owned()) };
        let settings = format!("[destinations.\"{destination}\"]\npassphrase_file = \"{one}\"\n");
        let convoy = daemon(lab, &settings, 100_000)?;
        let noise = noise(100_000);

        // By settings: create, list, inspect, verify, prune, restore and delete.
        let url = back_up(&convoy, &destination)?;
        check(!holds(&store, &noise[..4096])?, || "the store holds what is in the volume".to_owned())?;
        says(&convoy.ok(&["backup", "list", &destination])?, "\"SnapshotName\": \"snap\"")?;
        says(&convoy.ok(&["backup", "inspect", &url])?, "\"VolumeName\": \"data\"")?;
        convoy.ok(&["backup", "verify", &url, "--read-data"])?;
        convoy.ok(&["backup", "prune", &destination])?;
        convoy.ok(&["create", "copy", "--backup", &url])?;
        let copied =
            fs::read(convoy.setup().volumes.join("copy/file")).during(|| "read the copy".to_owned())?;
        check(copied == noise, || "the copy differs".to_owned())?;

        // A wrong one says so, wherever it is given, and leaves nothing behind.
        let wrong = ["--passphrase-file", two];
        for words in [
            &["backup", "create", "snap", "--dest", &destination][..],
            &["backup", "verify", &url],
            &["backup", "prune", &destination],
            &["create", "other", "--backup", &url],
        ] {
            let text = convoy.refused(&[words, &wrong].concat())?;
            says(&text, "not one of this store's keys")?;
        }
        check(!convoy.ok(&["list"])?.contains("\"other\""), || "a volume is left".to_owned())?;
        let both = ["backup", "verify", &url, "--passphrase-file", one, "--encryption-key-file", one];
        says(&convoy.refused(&both)?, "cannot be used with")?;

        // The passphrase is changed without writing a backup anew.
        let add = ["backup", "key", "add", &destination, "--new-passphrase-file", two];
        convoy.ok(&add)?;
        convoy.ok(&[&["backup", "key", "remove", &destination, "first"][..], &wrong].concat())?;
        says(&convoy.refused(&["backup", "verify", &url])?, "not one of this store's keys")?;
        convoy.ok(&[&["backup", "verify", &url, "--read-data"][..], &wrong].concat())?;
        convoy.ok(&[&["create", "again", "--backup", &url][..], &wrong].concat())?;
        convoy.ok(&["backup", "delete", &url])?;

        // Neither is in what the daemon logs, or in anything it wrote.
        let log = fs::read_to_string(&convoy.setup().log).during(|| "read the log".to_owned())?;
        for secret in [first, second] {
            check(!log.contains(secret), || "a passphrase is in the log".to_owned())?;
            for place in [&store, &convoy.setup().root] {
                check(!holds(place, secret.as_bytes())?, || {
                    format!("a passphrase is in {}", place.display())
                })?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_passphrase_comes_as_a_credential_of_the_service() -> Result<()> {
    Lab::run(|lab| {
        let store = lab.make("store")?;
        let destination = format!("vfs://{}/", store.display());
        let credentials = lab.make("credentials")?;
        fs::write(credentials.join("passphrase"), "handed over by systemd")
            .during(|| "write a credential".to_owned())?;
        let settings = format!("[destinations.\"{destination}\"]\npassphrase_credential = \"passphrase\"\n");
        let file = lab.path("destinations.toml");
        fs::write(&file, settings).during(|| "write settings".to_owned())?;
        let mut setup =
            Setup::vfs(lab, Carrier::Builtin).with(&["--destinations", &file.display().to_string()]);
        setup.wrapper = vec!["env".to_owned(), format!("CREDENTIALS_DIRECTORY={}", credentials.display())];
        let convoy = setup.start()?;
        convoy.ok(&["create", "data"])?;
        convoy.ok(&["snapshot", "create", "data", "--name", "snap"])?;
        let url = back_up(&convoy, &destination)?;
        says(&convoy.ok(&["backup", "key", "list", &destination])?, "\"first\"")?;
        convoy.ok(&["backup", "verify", &url, "--read-data"])?;
        fs::remove_file(credentials.join("passphrase")).during(|| "take it away".to_owned())?;
        says(&convoy.refused(&["backup", "verify", &url])?, "cannot read the credential")
    })
}

#[test]
fn keys_are_changed_damage_has_a_code_and_garbage_is_shown_first() -> Result<()> {
    Lab::run(|lab| {
        let convoy = daemon(lab, "", 100_000)?;
        let store = lab.make("store")?;
        let destination = format!("vfs://{}/", store.display());
        let mut keys = Vec::new();
        for name in ["old", "new"] {
            let path = lab.secret(name, format!("{name}: 32 bytes or more that nobody could guess"))?;
            keys.push(path.display().to_string());
        }
        let [old, new] = keys.as_slice() else { return check(false, || "two keys".to_owned()) };
        let make = ["backup", "create", "snap", "--dest", &destination, "--encryption-key-file", old];
        let url = convoy.ok(&make)?.replace("\\u0026", "&");

        // Change the key: both open, then only the new one does.
        let key = |words: &[&str]| convoy.ok(&[&["backup", "key"], words].concat());
        says(&key(&["list", &destination])?, "\"first\"")?;
        key(&["add", &destination, "--encryption-key-file", old, "--new-key-file", new])?;
        let last = ["backup", "key", "remove", &destination, "nosuchkey", "--encryption-key-file", new];
        says(&convoy.refused(&last)?, "there are: ")?;
        key(&["remove", &destination, "first", "--encryption-key-file", new])?;
        let verify =
            |key: &str| convoy.run(&["backup", "verify", &url, "--read-data", "--encryption-key-file", key]);
        let wrong = verify(old)?;
        check(wrong.status.code() == Some(1), || format!("{wrong:?}"))?;
        verify(new)?.ok()?;
        convoy.ok(&["create", "copy", "--backup", &url, "--encryption-key-file", new])?;

        // What nothing needs is shown, stays, and goes.
        let make = ["backup", "create", "snap", "--dest", &destination, "--encryption", "none"];
        let plain = convoy.ok(&make)?.replace("\\u0026", "&");
        let record =
            run::capture(Command::new("find").arg(&store).args(["-name", "backup_*.cfg", "-newer", old]))?
                .ok()?;
        let name = plain.split("backup=").nth(1).and_then(|rest| rest.split('&').next()).unwrap_or_default();
        let record = record.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
        fs::remove_file(&record).during(|| format!("remove the record {record}"))?;
        let prune = ["backup", "prune", &destination, "--encryption-key-file", new];
        let would = convoy.ok(&[&prune[..], &["--dry-run"]].concat())?;
        let again = convoy.ok(&[&prune[..], &["--dry-run"]].concat())?;
        check(would == again, || format!("a dry run removed something: {would} {again}"))?;
        says(&would, "\"DryRun\": true")?;
        let done = convoy.ok(&prune)?;
        let objects = |text: &str| text.lines().find(|line| line.contains("\"Objects\"")).map(str::to_owned);
        check(objects(&would) == objects(&done) && !done.contains("\"Objects\": 0,"), || {
            format!("{would} {done}")
        })?;
        says(&convoy.ok(&prune)?, "\"Objects\": 0,")?;

        // Damage is a finding, not a failure.
        let pack = run::capture(Command::new("find").arg(&store).args(["-name", "00000000.pack"]))?.ok()?;
        fs::write(&pack, "nothing of worth").during(|| format!("damage {pack}"))?;
        let found = verify(new)?;
        check(found.status.code() == Some(3), || format!("{found:?}"))?;
        let gone = convoy.run(&["backup", "verify", "vfs:///nosuchdirectory/"])?;
        check(gone.status.code() == Some(1), || format!("{gone:?}"))
    })
}
