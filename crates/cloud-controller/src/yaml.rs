//! Reading YAML that strangers wrote.

use serde::de::{DeserializeOwned, Error as _};

/// How many brackets may be open at once: more than the parser's own limit of nesting.
const DEEPEST: usize = 1000;

/// As [`serde_norway::from_str`], in a time that grows with the text alone. The parser looks at every open bracket at
/// every token before it counts how deep it is: a megabyte of nothing but brackets would take it minutes.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, serde_norway::Error> {
    if depth(text) > DEEPEST {
        return Err(serde_norway::Error::custom("recursion limit exceeded"));
    }
    serde_norway::from_str(text)
}

/// How many brackets are open at the most. Those in texts and comments count too: nobody leaves so many of them open.
fn depth(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_beyond_all_measure_are_refused_before_they_are_parsed() {
        let told = |text: &str| from_str::<serde_json::Value>(text).unwrap_err().to_string();
        assert_eq!(told(&"[".repeat(1 << 20)), "recursion limit exceeded");
        assert_eq!(told(&"{\"a\":".repeat(200_000)), "recursion limit exceeded");
        let many = format!("a: [{}]", "{b: [1]},".repeat(10_000));
        assert!(from_str::<serde_json::Value>(&many).is_ok());
    }
}
