//! How the operator's commands write to a terminal: tables, spans and sizes.

use std::io::Write as _;
use std::time::Duration;

/// To standard output. Whoever reads may have seen enough (`cupola status | head`).
pub fn out(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The same for what goes on for ever; false when nobody reads any more.
pub fn tell(line: &str) -> bool {
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).is_ok()
}

/// What an app wrote, as one line that cannot steer the terminal: control characters are shown as escapes.
pub fn plain(text: &str) -> String {
    let escaped = |letter: char| letter.escape_default().to_string();
    text.chars().map(|c| if c.is_control() { escaped(c) } else { c.to_string() }).collect()
}

/// At most `most` letters, the last of them dots when something is left out.
pub fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(most - 1).collect::<String>().trim_end())
}

/// Columns three spaces apart; the last one is never padded, and no line ends in spaces.
pub fn table(rows: &[Vec<String>]) -> String {
    columns(rows, 3)
}

/// The same with columns `gap` spaces apart.
pub fn columns(rows: &[Vec<String>], gap: usize) -> String {
    let lines = cli::table::layout(rows, gap);
    lines.iter().map(|cells| format!("{}\n", cells.concat().trim_end())).collect()
}

/// `["a", b.to_string()]` as texts.
macro_rules! row {
    ($($cell:expr),+ $(,)?) => { vec![$($cell.to_string()),+] };
}
pub(crate) use row;

/// In the two largest units: `3 h 12 min`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|(size, _)| seconds >= *size).unwrap_or(3);
    let (size, name) = units[first];
    let (whole, rest) = (seconds / size, seconds % size);
    match units.get(first + 1) {
        Some((small, smaller)) if rest >= *small => {
            format!("{whole} {name} {} {smaller}", rest / small)
        }
        _ => format!("{whole} {name}"),
    }
}

/// `512 MB`, `1.5 GB`.
pub fn megabytes(megabytes: u64) -> String {
    if megabytes < 1024 {
        return format!("{megabytes} MB");
    }
    let tenths = (megabytes * 10 + 512) / 1024;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} GB"),
        (whole, _) if whole >= 100 => format!("{whole} GB"),
        (whole, tenth) => format!("{whole}.{tenth} GB"),
    }
}

/// `1 route`, `2 routes`.
pub fn count(number: impl TryInto<u64>, thing: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [row!["a", "long one", "x"], row!["bbb", "c", ""], row!["d"]];
        assert_eq!(table(&rows), "a     long one   x\nbbb   c\nd\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn spans_and_sizes() {
        let of = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(
            [0, 59, 60, 61, 3_600, 11_520, 90_061].map(of),
            ["0 s", "59 s", "1 min", "1 min 1 s", "1 h", "3 h 12 min", "1 d 1 h"]
        );
        assert_eq!(
            [0, 1023, 1024, 1536, 23_552, 204_800].map(megabytes),
            ["0 MB", "1023 MB", "1 GB", "1.5 GB", "23 GB", "200 GB"]
        );
        assert_eq!((short("abcd", 4), short("ab cd", 4)), ("abcd".into(), "ab…".into()));
        assert_eq!((count(1, "cell"), count(0, "cell")), ("1 cell".into(), "0 cells".into()));
    }

    #[test]
    fn what_apps_write_does_not_steer_the_terminal() {
        assert_eq!(plain("zwölf\n\u{1b}[31mred\u{9b}"), r"zwölf\n\u{1b}[31mred\u{9b}");
    }
}
