//! Token ids that tell whose they are: ten random bytes, then six of a digest over them and the subject.
//!
//! So a caller may revoke its own tokens by id alone, and no list of issued tokens is kept.

use sha2::{Digest as _, Sha256};

const RANDOM: usize = 20;
const OWNER: usize = 12;
/// Ends the id of a refresh token; nobody takes such a token for access.
const REFRESH: &str = "-r";

pub(crate) fn fresh(subject: &str) -> String {
    let random: [u8; RANDOM / 2] = rand::random();
    let random = hex(&random);
    let owner = owner(&random, subject);
    random + &owner
}

pub(crate) fn refresh(jti: &str) -> String {
    format!("{jti}{REFRESH}")
}

pub(crate) fn is_refresh(jti: &str) -> bool {
    jti.ends_with(REFRESH)
}

pub(crate) fn belongs_to(jti: &str, subject: &str) -> bool {
    let stem = jti.strip_suffix(REFRESH).unwrap_or(jti);
    stem.len() == RANDOM + OWNER
        && stem.is_ascii()
        && stem[RANDOM..] == owner(&stem[..RANDOM], subject)
}

fn owner(random: &str, subject: &str) -> String {
    let digest =
        Sha256::new().chain_update(random).chain_update(":").chain_update(subject).finalize();
    hex(&digest[..OWNER / 2])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_belongs_to_its_subject_alone(subject in ".{0,40}", other in ".{0,40}", noise in ".{0,40}") {
            let jti = fresh(&subject);
            prop_assert!(belongs_to(&jti, &subject));
            prop_assert!(belongs_to(&refresh(&jti), &subject));
            prop_assert_eq!(belongs_to(&jti, &other), subject == other);
            prop_assert!(!belongs_to(&noise, &subject));
        }
    }
}
