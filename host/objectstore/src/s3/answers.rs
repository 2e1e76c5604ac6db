//! Bounds what an answer may be. The SDK reads every answer but the bytes of an object into memory, to its
//! end, before it looks at it: a server that never ends would take all there is.

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use http_body_util::Limited;

/// Bytes of an answer that is not an object. A page of a listing has a thousand keys of at most 1 KiB, which
/// may be written as three bytes for each.
pub(super) const ANSWER_MAX: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Answers;

impl Intercept for Answers {
    fn name(&self) -> &'static str {
        "Answers"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _runtime: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let object = config.load::<Metadata>().is_some_and(|call| call.name() == "GetObject");
        let answer = context.response_mut();
        // The bytes of an object are counted by who asked for them.
        if !(object && answer.status().is_success()) {
            let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
            *answer.body_mut() = SdkBody::from_body_1_x(Limited::new(body, ANSWER_MAX));
        }
        Ok(())
    }
}
