//! What reads the lines of a driver's process, for the fuzz targets in `fuzz/`: they are another workspace
//! and see only what is public. No part of the interface.

use crate::process::transport::{Line, Receiver};
use convoy_driver_sdk::Name;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// Reads what a driver sends until it breaks the protocol or ends; how many responses were read.
pub async fn lines(bytes: &[u8]) -> std::io::Result<usize> {
    let (host, mut driver) = UnixStream::pair()?;
    let (reader, _writer) = host.into_split();
    let line = Arc::new(Line::new(Name::from_static("fuzz"), true));
    line.give_up("the end");
    let mut receiver = Receiver::new(reader, line);
    let write = async move {
        // It fails when the reader has had enough.
        let _ = driver.write_all(bytes).await;
        drop(driver);
    };
    let read = async move {
        let mut count = 0;
        while receiver.next_response().await.is_ok() {
            count += 1;
        }
        count
    };
    Ok(tokio::join!(write, read).1)
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn responses_are_counted_until_the_first_line_that_is_none() {
        let good = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        let note = r#"{"jsonrpc":"2.0","method":"log","params":{"level":"info","target":"t","message":"m"}}"#;
        let text = format!("{good}\n{note}\n{good}\nnothing\n{good}\n");
        assert_eq!(super::lines(text.as_bytes()).await.unwrap(), 2);
        assert_eq!(super::lines(b"{").await.unwrap(), 0);
    }
}
