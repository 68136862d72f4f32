//! Texts that come from outside and are kept: cut to a length that a record can bear.

use std::borrow::Cow;

/// The most characters (counted in bytes) of a reason or an error.
pub const MAX_REASON: usize = 1024;

const CUT: &str = "(truncated)";

/// The text, or its beginning with `(truncated)` at the end when it is longer than [`MAX_REASON`].
pub fn reason(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_REASON {
        return Cow::Borrowed(text);
    }
    let mut end = MAX_REASON - CUT.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}{CUT}", &text[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_are_cut_between_characters() {
        assert_eq!(reason("short"), "short");
        let long = "ä".repeat(600);
        let cut = reason(&long);
        assert!(cut.len() <= MAX_REASON && cut.ends_with("ä(truncated)"), "{cut}");
        assert_eq!(reason(&"x".repeat(MAX_REASON)).len(), MAX_REASON);
    }
}
