//! The macros that messages are written with, so that they can grow.

/// Defines messages of the protocol.
///
/// The members before the `;` are the arguments of `new`. Those after it begin with their defaults, and each
/// has a method of its own name that sets it. A reader that misses one takes the default. So a member that is
/// added after the `;` concerns nobody who made the message without it, and nobody outside of this crate can
/// make one in another way.
macro_rules! messages {
    ($(
        $(#[$meta:meta])*
        pub struct $message:ident {
            $($(#[$first_meta:meta])* $first:ident: $first_type:ty,)*
            $(; $($(#[$more_meta:meta])* $more:ident: $more_type:ty,)*)?
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[non_exhaustive]
        pub struct $message {
            $($(#[$first_meta])* pub $first: $first_type,)*
            $($(#[serde(default)] $(#[$more_meta])* pub $more: $more_type,)*)?
        }

        impl $message {
            /// Makes the message; all other members begin with their defaults.
            pub fn new($($first: $first_type),*) -> Self {
                Self { $($first,)* $($($more: Default::default(),)*)? }
            }

            $(crate::message::setters! { $($more: $more_type,)* })?
        }
    )*};
}

/// Methods that set members, each of the member's name.
macro_rules! setters {
    ($($member:ident: $type:ty,)*) => {$(
        #[doc = concat!("Sets `", stringify!($member), "`.")]
        #[must_use]
        pub fn $member(mut self, $member: $type) -> Self {
            self.$member = $member;
            self
        }
    )*};
}

pub(crate) use {messages, setters};

/// The schema of a set that newer minor versions add to: any other text is valid, and ignored.
#[cfg(feature = "schema")]
pub(crate) fn open_set(schema: &mut schemars::Schema) {
    if let Some(serde_json::Value::Array(mut variants)) = schema.remove("oneOf") {
        let newer = serde_json::json!({ "description": "Of a newer minor version.", "type": "string" });
        variants.push(newer);
        schema.insert("anyOf".to_owned(), variants.into());
    }
}
