//! Tables as `cf` prints them: columns three spaces apart, the last one never padded.

use crate::ui::{Ui, say};

pub(crate) const GAP: usize = 3;

/// Each row's cells with the spaces behind them, so that columns are `gap` apart; a row shorter than the longest is
/// filled with nothing.
pub fn layout(rows: &[Vec<String>], gap: usize) -> Vec<Vec<String>> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            (0..columns)
                .map(|column| {
                    let cell = row.get(column).map_or("", String::as_str);
                    if column + 1 == columns {
                        return cell.to_owned();
                    }
                    let fill = widths[column] + gap - cell.chars().count();
                    format!("{cell}{}", " ".repeat(fill))
                })
                .collect()
        })
        .collect()
}

/// A table whose first row is the header.
pub(crate) fn with_header(ui: &mut Ui, prefix: &str, rows: &[Vec<String>]) {
    for (index, row) in layout(rows, GAP).into_iter().enumerate() {
        // Bold around the word only: the gap keeps its width whatever the terminal shows.
        let text: String = if index == 0 {
            row.iter()
                .map(|cell| format!("{}{}", bold(ui, cell.trim_end()), gap_of(cell)))
                .collect()
        } else {
            row.concat()
        };
        say!(ui, "{prefix}{text}");
    }
}

/// `key:   value` lines; rows without a value are left out where they are `None`.
pub(crate) fn key_values(ui: &mut Ui, rows: &[(&str, String)]) {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|(key, value)| vec![(*key).to_owned(), value.clone()]).collect();
    for row in layout(&rows, GAP) {
        say!(ui, "{}", row.concat());
    }
}

/// `table!["name", app.name]`: a row of texts.
macro_rules! row {
    ($($cell:expr),+ $(,)?) => { vec![$($cell.to_string()),+] };
}
pub(crate) use row;

fn bold(ui: &Ui, word: &str) -> String {
    if word.is_empty() { String::new() } else { ui.bold(word) }
}

fn gap_of(cell: &str) -> &str {
    &cell[cell.trim_end().len()..]
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn columns_are_three_spaces_apart() {
        let rows = [
            row!["name", "requested state", "routes"],
            row!["dora", "started", "dora.example.com"],
            row!["über", "stopped", ""],
        ];
        let text: Vec<String> =
            layout(&rows, GAP).iter().map(|row| format!("{}|", row.concat())).collect();
        expect![[r#"
            name   requested state   routes|
            dora   started           dora.example.com|
            über   stopped           |"#]]
        .assert_eq(&text.join("\n"));
    }

    #[test]
    fn nothing_makes_nothing() {
        assert!(layout(&[], GAP).is_empty());
    }
}
