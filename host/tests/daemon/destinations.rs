//! What people are told of destinations: which credentials are used, who refused what, and what to do.

use crate::harness::{Daemon, write_secret};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A server that answers every request with an error of S3, and keeps the headers of what it was asked.
fn refusing(status: &'static str, code: &'static str) -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::<Mutex<String>>::default();
    let heard = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.windows(4).any(|part| part == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
            heard.lock().unwrap().push_str(&String::from_utf8_lossy(&request));
            let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    (endpoint, asked)
}

/// A daemon in whose settings S3 is there.
fn daemon(settings: &str, variables: &[(&str, &str)]) -> Daemon {
    let mut daemon = Daemon::prepare(&[]);
    let file = daemon.dir.path().join("convoy.toml");
    std::fs::write(&file, settings).unwrap();
    let home = daemon.dir.path().display().to_string();
    daemon.add_environment(&[("HOME", &home), ("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_REGION", "r-1")]);
    daemon.add_environment(variables);
    daemon.add_arguments(&["--config", file.to_str().unwrap()]);
    daemon.launch();
    daemon
}

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIDUSUAL"), ("AWS_SECRET_ACCESS_KEY", "SWORDFISH")];

/// What a list is refused with.
fn refusal(daemon: &Daemon) -> String {
    let answer = daemon.call("GET", "/backups/list", "{\"URL\":\"s3://rec/hosts/\"}");
    assert_eq!(answer.status, 400, "{answer:?}");
    let text = answer.body.trim_end().to_owned();
    for rust in ["Failure", "Error {", "Error(", "Some(", "source:", "\n", "SWORDFISH", "AKID"] {
        assert!(!text.contains(rust), "{rust:?} is in: {text}");
    }
    text
}

#[test]
fn who_refused_what_is_told_in_one_line() {
    let at = |endpoint: &str| format!("[destinations.\"s3://rec/\"]\nendpoint = \"{endpoint}\"\n");
    let (endpoint, _) = refusing("400 Bad Request", "ExpiredToken");
    let said = refusal(&daemon(&at(&endpoint), &KEYS));
    assert!(said.contains("s3://rec/hosts/ refuses the credentials, whose token has expired"), "{said}");
    assert!(said.contains("renew them"), "{said}");

    let (endpoint, asked) = refusing("403 Forbidden", "AccessDenied");
    let said = refusal(&daemon(&at(&endpoint), &KEYS));
    let who = format!("s3://rec/hosts/ at {endpoint}: AWS Error: AccessDenied no");
    assert!(said.contains(&who) && said.contains("check the credentials"), "{said}");
    let before = asked.lock().unwrap().len();
    assert!(before > 0);

    // Without credentials nobody is asked.
    let said = refusal(&daemon(&at(&endpoint), &[]));
    assert!(
        said.starts_with("no credentials for s3://rec/hosts/") && said.contains("credentials-file"),
        "{said}"
    );
    assert_eq!(asked.lock().unwrap().len(), before);

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = refusal(&daemon(&at(&format!("http://{nobody}")), &KEYS));
    let whom = format!("cannot reach s3://rec/hosts/ at http://{nobody}: ");
    assert!(said.contains(&whom) && said.contains("Connection refused"), "{said}");
    assert!(said.contains("check the endpoint and the network"), "{said}");
}

#[test]
fn credentials_are_found_where_0_5_and_systemd_leave_them() {
    let (endpoint, asked) = refusing("403 Forbidden", "AccessDenied");
    let settings = format!("[destinations.\"s3://rec/\"]\nendpoint = \"{endpoint}\"\n");
    let used = |id: &str| {
        let heard = std::mem::take(&mut *asked.lock().unwrap());
        assert!(heard.contains(&format!("Credential={id}/")), "{id}: {heard}");
    };
    // As 0.5 understood them, and mixed with the usual names.
    refusal(&daemon(&settings, &[("AWS_ACCESS_KEY", "AKIDOLD"), ("AWS_SECRET_KEY", "SWORDFISH")]));
    used("AKIDOLD");
    refusal(&daemon(&settings, &[("AWS_ACCESS_KEY", "AKIDMIX"), ("AWS_SECRET_ACCESS_KEY", "SWORDFISH")]));
    used("AKIDMIX");
    refusal(&daemon(&settings, &[KEYS[0], KEYS[1], ("AWS_ACCESS_KEY", "AKIDNOT")]));
    used("AKIDUSUAL");

    // In a file that the settings name, which others must not read.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    let text = "[backups]\naws_access_key_id = AKIDFILE\naws_secret_access_key = SWORDFISH\n";
    write_secret(&file, text);
    let named = format!("{settings}profile = \"backups\"\ncredentials-file = \"{}\"\n", file.display());
    let daemon = daemon(&named, &[]);
    refusal(&daemon);
    used("AKIDFILE");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let said = refusal(&daemon);
    assert!(said.contains(&format!("`chmod 600 {}`", file.display())), "{said}");
}

#[test]
fn the_home_of_credentials_is_that_of_the_user_where_nobody_says() {
    // systemd tells a service of root's no home: then it is that of the password file.
    let mut daemon = Daemon::prepare(&[]);
    daemon.add_environment(&[("AWS_EC2_METADATA_DISABLED", "true")]);
    daemon.launch();
    let environ = std::fs::read(format!("/proc/{}/environ", daemon.pid())).unwrap();
    assert!(!environ.starts_with(b"HOME=") && !environ.windows(6).any(|part| part == b"\0HOME="));
    let file = daemon.dir.path().join("convoy.toml");
    std::fs::write(&file, "[destinations.\"s3://rec/\"]\nprofile = \"nobody-has-this-one\"\n").unwrap();
    let output = daemon.cli(&["config", "check", file.to_str().unwrap()]);
    let said = String::from_utf8(output.stdout).unwrap();
    let home = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().dir;
    let looked = format!("no profile nobody-has-this-one in {}/.aws/credentials", home.display());
    assert!(said.contains(&looked), "{said}");
}

#[test]
fn destinations_that_no_schedule_uses_are_looked_at() {
    let (endpoint, _) = refusing("403 Forbidden", "AccessDenied");
    let gone = tempfile::tempdir().unwrap().path().display().to_string();
    let settings = format!(
        "[destinations.\"s3://rec/\"]\nendpoint = \
         \"{endpoint}\"\n[destinations.\"vfs://{gone}\"]\ncompression = 3\n"
    );
    let daemon = daemon(&settings, &KEYS);
    let told = daemon.call("POST", "/doctor", "{}").body;
    for said in ["destination s3://rec/", "AccessDenied", &format!("destination vfs://{gone}/")] {
        assert!(told.contains(said), "{said}: {told}");
    }
    let file = daemon.dir.path().join("convoy.toml");
    let check = String::from_utf8(daemon.cli(&["config", "check", file.to_str().unwrap()]).stdout).unwrap();
    assert!(check.contains("destination s3://rec/: credentials from the environment"), "{check}");
    assert!(check.contains(&format!("destination vfs://{gone}: the directory is not there")), "{check}");
    assert!(!check.contains("SWORDFISH") && !check.contains("AKID"), "{check}");
    // One slash is enough, as it was for 0.5.
    let store = tempfile::tempdir().unwrap();
    let one_slash = format!("vfs:{}", store.path().display());
    daemon.docker("Create", r#"{"Name":"vol1"}"#);
    assert!(daemon.cli(&["snapshot", "create", "vol1", "--name", "snap1"]).status.success());
    let made = daemon.cli(&["backup", "create", "snap1", "--dest", &one_slash]);
    let url = String::from_utf8(made.stdout).unwrap();
    assert!(url.contains(&format!("{one_slash}?backup=backup-")), "{url}");
    let restored = daemon.cli(&["create", "vol2", "--backup", url.trim().trim_matches('"')]);
    assert!(restored.status.success(), "{restored:?}");
}
