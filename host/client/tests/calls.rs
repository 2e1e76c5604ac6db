//! The client against a server of its own library: typed answers, errors, streams, cancellation by dropping.

// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use convoy_client::client::{HINT_HEADER, KIND_HEADER, NDJSON, encode_header};
use convoy_client::types::{CreateBackup, CreateVolume, Event, Progress, StreamLine};
use convoy_client::{Client, Error};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc;

type Body = BoxBody<Bytes, Infallible>;

fn whole(text: &str) -> Body {
    Full::new(Bytes::from(text.to_owned())).boxed()
}

/// What is sent through the sender, until it is dropped.
fn pieces() -> (mpsc::UnboundedSender<&'static str>, Body) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<&'static str>();
    let frames = futures_of(move |context| {
        receiver.poll_recv(context).map(|piece| piece.map(|text| Ok(Frame::data(Bytes::from(text)))))
    });
    (sender, StreamBody::new(frames).boxed())
}

/// A stream from a poll function, which is all these tests need of one.
fn futures_of<T>(
    poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Send + Sync + 'static,
) -> impl futures::Stream<Item = T> + Send + Sync {
    futures::stream::poll_fn(poll)
}

/// Serves at a socket in a new directory, which goes with the returned guard.
fn serve(
    answer: impl Fn(String, String, bool) -> Response<Body> + Send + Sync + 'static,
) -> (tempfile::TempDir, Client) {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(directory.path().join("s"));
    let listener = tokio::net::UnixListener::bind(client.socket()).unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let call = format!("{} {}", request.method(), request.uri());
                    let streams = request.headers().get("accept").is_some_and(|kind| kind == NDJSON);
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    Ok::<_, Infallible>(answer(call, body, streams))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(connection), service),
            );
        }
    });
    (directory, client)
}

fn ndjson(body: Body) -> Response<Body> {
    Response::builder().header("content-type", NDJSON).body(body).unwrap()
}

#[tokio::test]
async fn answers_are_typed() {
    let (_directory, client) = serve(|call, body, _| {
        Response::new(whole(match call.as_str() {
            "POST /v1/volumes/create" if body.contains("\"Verbose\":true") => {
                r#"{"Name": "v1", "DriverInfo": {"Size": "0"}, "Snapshots": {}}"#
            }
            "POST /v1/volumes/mount" => "/mnt/v1",
            "POST /v1/backups/create" => r#"{"URL": "vfs:///b?backup=b1\u0026volume=v1"}"#,
            "GET /v1/volumes/list" => r#"{"v1": {"Name": "v1"}}"#,
            "DELETE /v1/volumes/" if body.contains(r#""VolumeName":"v1""#) => "",
            _ => "not JSON",
        }))
    });
    let create = CreateVolume { name: "v1".to_owned(), ..CreateVolume::default() };
    assert_eq!(client.create_volume(&create).await.unwrap().name, "v1");
    assert_eq!(client.mount_volume("v1").await.unwrap(), "/mnt/v1");
    assert_eq!(client.list_volumes().await.unwrap()["v1"].name, "v1");
    let url = client.create_backup(&CreateBackup::default()).await.unwrap();
    assert_eq!(url, "vfs:///b?backup=b1&volume=v1");
    client.delete_volume("v1", false).await.unwrap();
    let error = client.info().await.unwrap_err();
    assert!(matches!(&error, Error::Answer { call, .. } if call == "GET /v1/info"), "{error}");
}

#[tokio::test]
async fn errors_keep_what_the_daemon_said() {
    let (_directory, client) = serve(|_, _, _| {
        let answer = Response::builder().status(404).header(KIND_HEADER, "not_found");
        answer.header(HINT_HEADER, encode_header("see ä\nlist")).body(whole("Volume not found.\n")).unwrap()
    });
    let Error::Server(error) = client.inspect_volume("v1").await.unwrap_err() else { panic!() };
    assert_eq!(
        (error.status, error.kind.as_str(), error.message.as_str()),
        (404, "not_found", "Volume not found.")
    );
    assert_eq!(error.hint.as_deref(), Some("see ä\nlist"));
}

#[tokio::test]
async fn progress_comes_in_pieces_of_any_size() {
    let (_directory, client) = serve(|_, _, streams| {
        assert!(streams);
        let (sender, body) = pieces();
        for piece in
            ["{\"Job\":", "\"j1\"}\n\n", "{\"Progress\":{\"BytesDone\":1}}\n{\"Result", "\":\"done\"}\n"]
        {
            sender.send(piece).unwrap();
        }
        ndjson(body)
    });
    let stream =
        client.stream(convoy_client::client::Call::create_backup(&CreateBackup::default())).await.unwrap();
    let mut seen = Vec::new();
    assert_eq!(stream.result(|line| seen.push(line)).await.unwrap(), "done");
    let progress = StreamLine::Progress(Progress { bytes_done: 1, ..Progress::default() });
    assert_eq!(seen, [StreamLine::Job("j1".to_owned()), progress]);
}

#[tokio::test]
async fn a_daemon_without_progress_answers_in_one_piece() {
    let (_directory, client) = serve(|_, _, _| Response::new(whole("url")));
    let stream =
        client.stream(convoy_client::client::Call::create_backup(&CreateBackup::default())).await.unwrap();
    assert_eq!(stream.result(|line| panic!("{line:?}")).await.unwrap(), "url");
}

#[tokio::test]
async fn dropping_a_stream_closes_the_connection() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let (_directory, client) = serve(move |_, _, _| {
        let (sender, body) = pieces();
        sender.send("{\"Job\":\"j1\"}\n").unwrap();
        let tell = tell.clone();
        tokio::spawn(async move {
            sender.closed().await;
            tell.send(()).unwrap();
        });
        ndjson(body)
    });
    let mut stream =
        client.stream(convoy_client::client::Call::create_backup(&CreateBackup::default())).await.unwrap();
    assert_eq!(stream.next().await.unwrap(), Some(StreamLine::Job("j1".to_owned())));
    drop(stream);
    tokio::time::timeout(std::time::Duration::from_secs(10), told.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn events_end_with_the_daemon() {
    let (_directory, client) = serve(|_, _, _| {
        let (sender, body) = pieces();
        sender.send("\n{\"Kind\":\"volume.create\",\"Volume\":\"v1\",\"New\":1}\n").unwrap();
        ndjson(body)
    });
    let mut events = client.events().await.unwrap();
    assert_eq!(events.next_value::<Event>().await.unwrap().unwrap().volume, "v1");
    assert!(events.next_value::<Event>().await.unwrap().is_none());
}
