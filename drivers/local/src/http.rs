//! One question over a unix socket, and its answer.

use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes};
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// The longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A question that was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{0}")]
    Connect(io::Error),
    #[error("user {0} listens there")]
    Stranger(u32),
    #[error("no answer within {} s", .0.as_secs_f32())]
    Late(Duration),
    #[error("an answer of more than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    #[error("{0}")]
    Broken(String),
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Asks over a connection of its own, and waits for the whole answer. `body` is JSON.
///
/// # Errors
/// [`HttpError`]; [`HttpError::Stranger`] where neither root nor this process's user listens.
pub(crate) fn ask(
    socket: &Path,
    method: &Method,
    path: &str,
    body: Option<Vec<u8>>,
    patience: Duration,
) -> Result<Answer, HttpError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(HttpError::Connect)?;
    runtime.block_on(async {
        let exchange = exchange(socket, method, path, body);
        tokio::time::timeout(patience, exchange).await.unwrap_or(Err(HttpError::Late(patience)))
    })
}

async fn exchange(
    socket: &Path,
    method: &Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Answer, HttpError> {
    let broken = |error: hyper::Error| HttpError::Broken(error.to_string());
    let connection = UnixStream::connect(socket).await.map_err(HttpError::Connect)?;
    let listener = connection.peer_cred().map_err(HttpError::Connect)?.uid();
    if listener != 0 && listener != nix::unistd::geteuid().as_raw() {
        return Err(HttpError::Stranger(listener));
    }
    let (mut sender, driver) = http1::handshake(TokioIo::new(connection)).await.map_err(broken)?;
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "docker");
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .map_err(|error| HttpError::Broken(error.to_string()))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        if response.body().size_hint().lower() > MAX_ANSWER_BYTES as u64 {
            return Err(HttpError::TooLong);
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => HttpError::TooLong,
            false => HttpError::Broken(error.to_string()),
        })?;
        Ok(Answer { status, body: body.to_bytes().to_vec() })
    };
    // The connection is driven as long as the answer is waited for.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        driven = driver => match driven {
            Ok(()) => answer.await,
            Err(error) => Err(broken(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    /// Answers one question with these bytes, and then says nothing more.
    fn answering(dir: &Path, answer: Vec<u8>) -> std::path::PathBuf {
        let socket = dir.join("sock");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked).unwrap();
            // Whoever hangs up has seen enough.
            let _ = stream.write_all(&answer);
            let _ = stream.read(&mut asked);
        });
        socket
    }

    fn ask_for(answer: &str, patience: Duration) -> Result<Answer, HttpError> {
        let dir = tempfile::tempdir().unwrap();
        let socket = answering(dir.path(), answer.as_bytes().to_vec());
        ask(&socket, &Method::GET, "/volumes", None, patience)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn answers_are_read_whole() {
        let answer = ask_for("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", LONG).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"{}".as_slice()));
        let chunked = "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n";
        let answer = ask_for(chunked, LONG).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (404, b"{}".as_slice()));
    }

    #[test]
    fn what_is_no_answer_comes_to_an_end() {
        let soon = Duration::from_millis(50);
        assert!(matches!(ask_for("", soon), Err(HttpError::Late(_))));
        let part = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{";
        assert!(matches!(ask_for(part, soon), Err(HttpError::Late(_))));
        assert!(matches!(ask_for("HELLO\r\n\r\n", LONG), Err(HttpError::Broken(_))));
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MAX_ANSWER_BYTES + 1);
        assert!(matches!(ask_for(&long, LONG), Err(HttpError::TooLong)));
        let nobody = ask(Path::new("/nonexistent/sock"), &Method::GET, "/", None, LONG);
        assert!(matches!(nobody, Err(HttpError::Connect(_))));
    }
}
