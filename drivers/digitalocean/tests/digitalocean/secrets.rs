//! The token is nowhere but in the header it is for.

use crate::cloud::{Cloud, TOKEN};
use convoy_cloud_lab::http::Reply;

#[test]
fn the_token_is_in_no_log_record_message_or_argument() {
    convoy_cloud_lab::secrets::nowhere::<Cloud>(
        &[TOKEN],
        Reply::new(401, "{}"),
        &["asking DigitalOcean again"],
    );
}
