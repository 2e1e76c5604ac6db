//! The admin API of `convoy daemon`, from the client's side, and the types both sides share.
//!
//! - [`types`]: requests and answers, with the field names convoy has always used.
//! - [`gojson`]: JSON printed and read as convoy 0.5 did, byte for byte where scripts look.
//! - [`client`]: calls over the daemon's unix socket; [`stream`]: calls that report progress, and events;
//!   [`raw`]: calls that are answered with bytes as they are.
//! - [`unix`]: HTTP over a unix socket, for whoever asks Docker as well.
//! - [`error`]: what can go wrong, with the way out.
//!
//! ```no_run
//! use convoy_client::{Client, DEFAULT_SOCKET, types::CreateVolume};
//!
//! # async fn example() -> convoy_client::Result<()> {
//! let client = Client::new(DEFAULT_SOCKET);
//! let request = CreateVolume { name: "data".to_owned(), size: 10 << 30, ..CreateVolume::default() };
//! let volume = client.create_volume(&request).await?;
//! println!("{} is at {}", volume.name, client.mount_volume(&volume.name).await?);
//! # Ok(())
//! # }
//! ```

pub mod client;
pub mod error;
pub mod gojson;
pub mod raw;
pub mod stream;
pub mod types;
pub mod unix;

pub use client::{Client, DEFAULT_SOCKET};
pub use error::{Error, Result, ServerError};
pub use raw::RawBody;
pub use stream::Stream;
