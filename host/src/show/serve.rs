//! `backup serve`: WebDAV, at an address of this host.

use super::error::ShowError;
use super::signals::Signals;
use super::source::Source;
use crate::listen::{self, Limits, Listener, Service};
use axum::body::Body;
use axum::extract::Request;
use convoy_cli::args::{Show, ShowCommand};
use convoy_driver_sdk::secret;
use convoy_mount::give_up_rights;
use convoy_webdav::{Guard, WebDav};
use std::convert::Infallible;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tower::service_fn;
use tower::util::BoxCloneSyncService;
use zeroize::Zeroizing;

/// The longest password, in bytes.
const LONGEST: u64 = 4096;

/// How long answers that are under way in the end may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// For those who look into backups. Each reads what a store takes long to give.
const LIMITS: Limits = Limits {
    connections: 64,
    header: Duration::from_secs(60),
    body: Duration::from_secs(60),
    write: Duration::from_secs(120),
};

/// Serves until a signal comes.
pub(super) fn run(asked: &Show) -> Result<ExitCode, ShowError> {
    let ShowCommand::Serve { webdav, password_file, .. } = &asked.command else {
        return Ok(ExitCode::FAILURE);
    };
    let guard = guard(*webdav, password_file.as_deref())?;
    // A port below 1024 needs a right that is given up next.
    let listener =
        TcpListener::bind(webdav).map_err(|source| ShowError::Address { address: *webdav, source })?;
    let local = listener.local_addr().map_err(ShowError::system("find the address"))?;
    listener.set_nonblocking(true).map_err(ShowError::system("listen"))?;
    give_up_rights().map_err(ShowError::system("give up the rights of root"))?;
    crate::logging::init_for_command();
    let source = Source::open(asked, None)?;
    let answers = WebDav::new(Arc::clone(&source.view), guard);
    let ended = source.runtime().block_on(serve(listener, local, answers, &source));
    source.close();
    ended
}

async fn serve(
    listener: TcpListener,
    local: SocketAddr,
    answers: WebDav,
    source: &Source,
) -> Result<ExitCode, ShowError> {
    let mut signals = Signals::new()?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(ShowError::system("listen"))?;
    let service: Service = BoxCloneSyncService::new(service_fn(move |request: Request| {
        let answers = answers.clone();
        async move { Ok::<_, Infallible>(answers.answer(request).await.map(Body::new)) }
    }));
    let stopping = CancellationToken::new();
    let limits = LIMITS.within_open_files();
    let answering = listen::answer(Listener::Tcp(listener), "webdav", limits, service, stopping.clone());
    let answering = tokio::spawn(answering);
    // Whoever started this and reads no more is no reason to end.
    let _ = convoy_cli::say_line(&format!("Serving at http://{local}/"));
    signals.wait().await;
    stopping.cancel();
    source.stop();
    let abort = answering.abort_handle();
    if tokio::time::timeout(PATIENCE, answering).await.is_err() {
        abort.abort();
    }
    Ok(ExitCode::SUCCESS)
}

/// Who is let in. Whoever reaches this host may not be its user: other addresses than its own need a password.
fn guard(address: SocketAddr, password_file: Option<&Path>) -> Result<Guard, ShowError> {
    match password_file {
        Some(path) => Ok(Guard::with_password(&password(path)?)),
        None if address.ip().is_loopback() => Ok(Guard::default()),
        None => Err(ShowError::Open { address }),
    }
}

/// The one line of a file.
fn password(path: &Path) -> Result<Zeroizing<String>, ShowError> {
    let unusable = |why: String| ShowError::Password { path: path.to_owned(), why };
    let file = secret::open(path).map_err(|error| unusable(error.to_string()))?;
    let mut text = Zeroizing::new(String::with_capacity(4200));
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| unusable(error.to_string()))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() || line.len() as u64 > LONGEST || line.contains(['\n', '\r', '\0']) {
        return Err(unusable(format!("expected one line of at most {LONGEST} bytes")));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_address_that_others_reach_needs_a_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let loopback = "127.0.0.1:0".parse().unwrap();
        let everywhere = "0.0.0.0:0".parse().unwrap();
        assert!(guard(loopback, None).is_ok());
        assert!(guard("[::1]:0".parse().unwrap(), None).is_ok());
        let error = guard(everywhere, None).unwrap_err().to_string();
        assert!(error.contains("--password-file"), "{error}");
        write("secret\n");
        assert!(guard(everywhere, Some(&path)).is_ok());
        for wrong in ["", "\n", "two\nlines\n"] {
            write(wrong);
            assert!(guard(everywhere, Some(&path)).is_err(), "{wrong:?}");
        }
        write("secret\n");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(guard(everywhere, Some(&path)).is_err(), "others can read it");
    }
}
