//! What a new cell is handed, as one word: where the platform is, how to know it, and leave to join.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Where the control plane listens for cells: `https://ADDRESS:PORT`.
    pub url: String,
    /// The platform's authority, as PEM.
    pub authority: String,
    /// Shown once, in return for the platform's secret.
    pub key: String,
}

/// Tells a token from other words, and its form from later ones.
const PREFIX: &str = "cupola-join-1-";

impl JoinToken {
    /// # Errors
    /// When `text` is not what [`JoinToken`] prints.
    pub fn parse(text: &str) -> anyhow::Result<JoinToken> {
        const ADVICE: &str = "print one with `cupola cell token` on the platform's machine";
        let body = text
            .trim()
            .strip_prefix(PREFIX)
            .with_context(|| format!("the token does not begin with {PREFIX}: {ADVICE}"))?;
        let json = URL_SAFE_NO_PAD
            .decode(body)
            .with_context(|| format!("the token is cut or mistyped: {ADVICE}"))?;
        serde_json::from_slice(&json)
            .with_context(|| format!("the token is cut or mistyped: {ADVICE}"))
    }
}

impl std::fmt::Display for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let json = serde_json::to_vec(self).expect("text only");
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_and_comes_back() {
        let token = JoinToken {
            url: "https://192.0.2.1:1801".into(),
            authority: "-----BEGIN".into(),
            key: "k".into(),
        };
        let text = token.to_string();
        assert!(!text.contains(char::is_whitespace), "{text}");
        assert_eq!(JoinToken::parse(&format!(" {text}\n")).unwrap(), token);
    }

    #[test]
    fn other_words_are_refused_with_the_remedy() {
        let token =
            JoinToken { url: "https://a".into(), authority: String::new(), key: String::new() };
        let text = token.to_string();
        for wrong in ["", "hello", PREFIX, &text[..text.len() - 3]] {
            let error = format!("{:#}", JoinToken::parse(wrong).unwrap_err());
            assert!(error.contains("cupola cell token"), "{wrong}: {error}");
        }
    }
}
