//! Ids as types: `guid! { AppGuid SpaceGuid }` makes names that never stand in for one another.

/// A new random (version 4) UUID in its usual text form.
#[expect(clippy::disallowed_methods, reason = "the one place that makes guids")]
pub fn new_guid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Declares one text id type per name. Clones are cheap: the text is shared.
#[macro_export]
macro_rules! guid {
    ($($(#[$meta:meta])* $name:ident)+) => {$(
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, $crate::serde::Serialize, $crate::serde::Deserialize)]
        #[serde(crate = "::base::serde", transparent)]
        pub struct $name(::std::sync::Arc<str>);

        impl $name {
            pub fn random() -> Self {
                Self($crate::new_guid().into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<$name> for String {
            fn from(guid: $name) -> String {
                guid.0.to_string()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl ::std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )+};
}
