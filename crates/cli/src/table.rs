//! Tables as `cf` prints them: columns three spaces apart, the last one never padded.

use crate::ui::{Ui, say};

const GAP: usize = 3;

/// Lines of text; a row shorter than the first is filled with nothing.
pub fn layout(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let columns = rows.first().map_or(0, Vec::len);
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
                    let fill = widths[column] + GAP - cell.chars().count();
                    format!("{cell}{}", " ".repeat(fill))
                })
                .collect()
        })
        .collect()
}

/// A table whose first row is the header.
pub fn with_header(ui: &mut Ui, prefix: &str, rows: &[Vec<String>]) {
    for (index, row) in layout(rows).into_iter().enumerate() {
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
pub fn key_values(ui: &mut Ui, rows: &[(&str, String)]) {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|(key, value)| vec![(*key).to_owned(), value.clone()]).collect();
    for row in layout(&rows) {
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
            layout(&rows).iter().map(|row| format!("{}|", row.concat())).collect();
        expect![[r#"
            name   requested state   routes|
            dora   started           dora.example.com|
            über   stopped           |"#]]
        .assert_eq(&text.join("\n"));
    }

    #[test]
    fn nothing_makes_nothing() {
        assert!(layout(&[]).is_empty());
    }
}
