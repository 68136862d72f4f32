//! Label selectors: `key`, `!key`, `key=v`, `key!=v`, `key in (a,b)`, `key notin (a,b)`, all of which must hold.

use crate::db::Sql;

const MOST: usize = 50;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    /// `None` = the key alone counts.
    values: Option<Vec<String>>,
    negated: bool,
}

impl Requirement {
    /// The condition on `table`'s rows, whose labels are those of `kind`.
    pub fn condition(&self, sql: &mut Sql, kind: &str, table: &str) -> String {
        let (kind, key) = (sql.arg(kind), sql.arg(&self.key));
        let values = match &self.values {
            Some(values) => format!(" AND l.value IN ({})", sql.list(values)),
            None => String::new(),
        };
        let not = if self.negated { "NOT " } else { "" };
        format!(
            "{not}EXISTS (SELECT 1 FROM labels l WHERE l.resource_type = {kind} AND l.name = {key} \
             AND l.resource_guid = {table}.guid{values})"
        )
    }
}

/// # Errors
/// A text for people when it is no selector.
pub fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let parts = split(text);
    if parts.len() > MOST {
        return Err(format!("Too many label_selector requirements (maximum is {MOST})"));
    }
    parts.into_iter().map(requirement).collect()
}

/// At commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let text = text.trim();
    let wrong = || format!("Invalid label_selector value: '{text}'");
    let make = |key: &str, values: Option<Vec<String>>, negated: bool| {
        let key = key.trim();
        let good =
            !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-._/".contains(c));
        if good { Ok(Requirement { key: key.to_owned(), values, negated }) } else { Err(wrong()) }
    };
    let set = |rest: &str| -> Option<Vec<String>> {
        let inside = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inside.split(',').map(|value| value.trim().to_owned()).collect())
    };
    if let Some((key, rest)) = text.split_once(" notin ") {
        return make(key, Some(set(rest).ok_or_else(wrong)?), true);
    }
    if let Some((key, rest)) = text.split_once(" in ") {
        return make(key, Some(set(rest).ok_or_else(wrong)?), false);
    }
    if let Some((key, value)) = text.split_once("!=") {
        return make(key, Some(vec![value.trim().to_owned()]), true);
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return make(key, Some(vec![value.trim().to_owned()]), false);
    }
    match text.strip_prefix('!') {
        Some(key) => make(key, None, true),
        None => make(text, None, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_inside_parentheses_do_not_split() {
        let parsed = parse("env in (prod,staging),!beta,tier==web").unwrap();
        assert_eq!(parsed.len(), 3);
        assert_eq!(parsed[0].values.as_deref().unwrap(), ["prod", "staging"]);
        assert!(parsed[1].negated && parsed[1].values.is_none());
        assert_eq!(parsed[2].values.as_deref().unwrap(), ["web"]);
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for wrong in ["", "a b", "env in prod", "=x", "k;DROP"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
