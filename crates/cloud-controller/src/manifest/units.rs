//! Sizes as people write them: `256M`, `1.5 GB`.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    NoNumber,
    Unit,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrong::NoNumber => "is not a number",
            Wrong::Unit => "must use a supported unit: B, K, KB, M, MB, G, GB, T, or TB",
        })
    }
}

const UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("K", 1 << 10),
    ("KB", 1 << 10),
    ("M", 1 << 20),
    ("MB", 1 << 20),
    ("G", 1 << 30),
    ("GB", 1 << 30),
    ("T", 1 << 40),
    ("TB", 1 << 40),
];

pub fn bytes(text: &str) -> Result<i64, Wrong> {
    let text = text.trim();
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| Wrong::NoNumber)?;
    let unit = text[end..].trim().to_ascii_uppercase();
    let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(Wrong::Unit)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "saturates far above any size"
    )]
    let bytes = (number * *size as f64) as i64;
    // A negative or empty size is no size.
    if bytes > 0 { Ok(bytes) } else { Err(Wrong::Unit) }
}

pub fn megabytes(text: &str) -> Result<i64, Wrong> {
    bytes(text).map(|bytes| bytes >> 20)
}

/// The shortest exact form: `1K`, `1025B`.
pub fn spoken(bytes: i64) -> String {
    let units = [("T", 1_i64 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];
    match units.iter().find(|(_, size)| bytes > 0 && bytes % size == 0) {
        Some((name, size)) => format!("{}{name}", bytes / size),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, expected) in
            [("1G", 1024), ("256M", 256), ("1.5 gb", 1536), ("1048576B", 1), ("1T", 1 << 20)]
        {
            assert_eq!(megabytes(text), Ok(expected), "{text}");
        }
        assert_eq!(megabytes("lots"), Err(Wrong::NoNumber));
        assert_eq!(megabytes("12"), Err(Wrong::Unit));
        assert_eq!(megabytes("-1M"), Err(Wrong::Unit));
        assert_eq!(
            (spoken(2048), spoken(1025), spoken(3 << 30)),
            ("2K".to_owned(), "1025B".to_owned(), "3G".to_owned())
        );
    }
}
