//! Why a step did not succeed.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    #[error("cancelled")]
    Cancelled,
    /// Cancelled, and killed because SIGTERM was not enough.
    #[error("exceeded graceful shutdown interval")]
    Overstayed,
    #[error("process did not exit")]
    Stuck,
    /// A text for the owner.
    #[error("{0}")]
    Told(String),
}

impl Failure {
    pub fn told(text: impl Into<String>) -> Failure {
        Failure::Told(text.into())
    }

    /// Being cancelled is a consequence; the owner wants the cause.
    fn is_consequence(&self) -> bool {
        matches!(self, Failure::Cancelled | Failure::Overstayed)
    }

    /// One failure out of many: the texts of all that are causes.
    pub fn joined(failures: &[Failure]) -> Result<(), Failure> {
        let causes: Vec<String> = failures
            .iter()
            .filter(|failure| !failure.is_consequence())
            .map(ToString::to_string)
            .collect();
        if !causes.is_empty() {
            return Err(Failure::Told(causes.join("; ")));
        }
        // The graver consequence is the one to tell.
        match failures.iter().find(|failure| **failure == Failure::Overstayed).or(failures.first())
        {
            None => Ok(()),
            Some(first) => Err(first.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consequences_are_not_named() {
        assert_eq!(Failure::joined(&[]), Ok(()));
        assert_eq!(Failure::joined(&[Failure::Cancelled]), Err(Failure::Cancelled));
        assert_eq!(
            Failure::joined(&[Failure::Cancelled, Failure::Overstayed]),
            Err(Failure::Overstayed)
        );
        let many = [Failure::told("a"), Failure::Cancelled, Failure::Stuck];
        assert_eq!(Failure::joined(&many), Err(Failure::told("a; process did not exit")));
    }
}
