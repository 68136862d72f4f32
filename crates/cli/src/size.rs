//! Byte counts as people write them (`256M`) and as `cf` shows them (`1.5G`).

const UNITS: [(&str, u64); 6] = [
    ("E", 1 << 60),
    ("P", 1 << 50),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
];

/// One decimal at most, and none when it is zero.
pub fn show(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    match UNITS.iter().find(|(_, size)| bytes >= *size) {
        None => format!("{bytes}B"),
        Some((unit, size)) => {
            #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
            let number = format!("{:.1}", bytes as f64 / *size as f64);
            format!("{}{unit}", number.strip_suffix(".0").unwrap_or(&number))
        }
    }
}

/// Reads a number with a unit; `None` when it is not one.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim().to_uppercase();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let size = match unit {
        "B" => 1,
        _ => {
            let letter = unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B')).unwrap_or(unit);
            UNITS.iter().find(|(name, _)| *name == letter)?.1
        }
    };
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of a byte does not matter"
    )]
    let bytes = (number * size as f64) as u64;
    Some(bytes)
}

/// For `-m` and `-k`: whole megabytes, at least one.
pub fn megabytes(text: &str) -> Result<u64, String> {
    parse(text).map(|bytes| bytes >> 20).filter(|megabytes| *megabytes > 0).ok_or_else(|| {
        "Byte quantity must be an integer with a unit of measurement like M, MB, G, or GB"
            .to_owned()
    })
}

/// For `-l`: bytes per second; `-1` is no limit, and a bare `0` needs no unit.
pub fn log_rate(text: &str) -> Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        "0" => Ok(0),
        _ => parse(text).and_then(|bytes| i64::try_from(bytes).ok()).ok_or_else(|| {
            "Byte quantity must be an integer with a unit of measurement like B, K, KB, M, MB, G, or GB".to_owned()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let shown: Vec<String> =
            [0, 1, 1023, 1024, 1536, 64 << 20, (1 << 30) + (1 << 29)].map(show).into();
        assert_eq!(shown, ["0B", "1B", "1023B", "1K", "1.5K", "64M", "1.5G"]);
    }

    #[test]
    fn units_come_in_many_spellings() {
        for text in ["1G", "1g", "1GB", "1GiB", "1024M", "1024mb"] {
            assert_eq!(parse(text), Some(1 << 30), "{text}");
        }
        for text in ["", "12", "G", "1X", "-1M"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(megabytes("1.5G"), Ok(1536));
        assert!(megabytes("1K").is_err());
        assert_eq!(log_rate("-1"), Ok(-1));
        assert_eq!(log_rate("4K"), Ok(4096));
        assert!(log_rate("4").is_err());
    }
}
