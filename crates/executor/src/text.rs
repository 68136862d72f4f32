//! Numbers as Cloud Foundry's messages spell them.

use std::time::Duration;

/// As Go prints a duration, to the millisecond: `1m0s`, `1.5s`, `250ms`.
pub(crate) fn span(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let seconds = decimal(millis % 60_000, 1000, 3);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `812B`, `1.2K`, `10M`: one decimal, and none when it is zero.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, letter)) => {
            format!("{}{letter}", decimal(bytes / (unit / 1024).max(1), 1024, 1))
        }
        None => format!("{bytes}B"),
    }
}

fn decimal(number: u64, unit: u64, places: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
    let text = format!("{:.places$}", number as f64 / unit as f64);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Cuts a reason to what a record holds.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    const MARK: &str = " (error truncated)";
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most - MARK.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_in_go() {
        let texts: Vec<_> = [0, 250, 1500, 60_000, 60_002, 3_600_000]
            .map(|ms| span(Duration::from_millis(ms)))
            .into();
        assert_eq!(texts, ["0s", "250ms", "1.5s", "1m0s", "1m0.002s", "1h0m0s"]);
    }

    #[test]
    fn sizes_have_one_decimal_at_most() {
        assert_eq!(
            [0, 812, 1024, 1229, 10 << 20, 3 << 30].map(size),
            ["0B", "812B", "1K", "1.2K", "10M", "3G"]
        );
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        assert_eq!(shortened("short", 30), "short");
        let cut = shortened(&"ä".repeat(40), 31);
        assert!(cut.len() <= 31 && cut.ends_with(" (error truncated)"));
    }
}
