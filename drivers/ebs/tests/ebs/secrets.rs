//! The secrets are nowhere but in the signatures they make.

use crate::aws::{Aws, SECRET_KEY, SESSION_TOKEN, refusal};

#[test]
fn no_secret_is_in_a_log_record_message_or_argument() {
    let refused = refusal("AuthFailure", "no");
    convoy_cloud_lab::secrets::nowhere::<Aws>(&[SECRET_KEY, SESSION_TOKEN], refused, &["aws_smithy_runtime"]);
}
