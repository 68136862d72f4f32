//! SCIM: the filter language, searches made of it, and the forms of users and groups.

pub(crate) mod filter;
pub(crate) mod group;
pub(crate) mod query;
pub(crate) mod user;

use base::Timestamp;

/// The schema that UAA names on everything.
pub(crate) const SCHEMA: &str = "urn:scim:schemas:core:1.0";

/// `2026-01-31T12:00:00.000Z`.
pub(crate) fn moment(at: Timestamp) -> String {
    let seconds = at.to_rfc3339();
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), at.as_millis().rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_milliseconds() {
        assert_eq!(moment(Timestamp::from_millis(1_769_860_800_009)), "2026-01-31T12:00:00.009Z");
    }
}
