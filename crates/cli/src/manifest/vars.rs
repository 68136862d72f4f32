//! `((variables))` in manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_norway::{Mapping, Value};

use crate::error::{Error, Result, unopened};

/// Values by name; they may be whole structures.
pub type Vars = BTreeMap<String, Value>;

/// A file of variables: one map.
pub fn read_vars_file(path: &Path) -> Result<Vars> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Failed(format!("reading variables: {}", unopened(path, &error))))?;
    if text.trim().is_empty() {
        return Ok(Vars::new());
    }
    serde_norway::from_str(&text).map_err(|error| {
        Error::Failed(format!(
            "The option --vars-file expects a valid YAML file. {}: {error}",
            path.display()
        ))
    })
}

/// `--var name=value`; the value is read as YAML, so that numbers stay numbers.
pub fn read_var(text: &str) -> std::result::Result<(String, Value), String> {
    let wrong = || format!("Expected var '{text}' to be in format 'name=value'");
    let (name, raw) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    let value = match serde_norway::from_str(raw) {
        Ok(Value::String(_) | Value::Null) | Err(_) => Value::String(raw.to_owned()),
        Ok(value) => value,
    };
    Ok((name.to_owned(), value))
}

/// Fills every variable in; the names of those without a value are the error.
pub fn fill_in(value: &mut Value, vars: &Vars) -> std::result::Result<(), BTreeSet<String>> {
    let mut missing = BTreeSet::new();
    walk(value, vars, &mut missing);
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

fn walk(value: &mut Value, vars: &Vars, missing: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            if let Some(filled) = fill(text, vars, missing) {
                *value = filled;
            }
        }
        Value::Sequence(items) => items.iter_mut().for_each(|item| walk(item, vars, missing)),
        Value::Mapping(map) => {
            let old = std::mem::take(map);
            *map = old
                .into_iter()
                .map(|(mut key, mut value)| {
                    walk(&mut key, vars, missing);
                    walk(&mut value, vars, missing);
                    (key, value)
                })
                .collect::<Mapping>();
        }
        _ => {}
    }
}

/// A text that is one variable becomes its value; inside a longer text the value must be a plain one.
fn fill(text: &str, vars: &Vars, missing: &mut BTreeSet<String>) -> Option<Value> {
    let found = placeholders(text);
    if let [only] = found.as_slice()
        && only.len() + 4 == text.len()
    {
        let value = lookup(vars, only);
        if value.is_none() {
            missing.insert((*only).to_owned());
        }
        return value.cloned();
    }
    let mut filled = text.to_owned();
    for name in &found {
        let plain = match lookup(vars, name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(Value::Bool(yes)) => Some(yes.to_string()),
            _ => None,
        };
        match plain {
            Some(plain) => filled = filled.replace(&format!("(({name}))"), &plain),
            None => drop(missing.insert((*name).to_owned())),
        }
    }
    (!found.is_empty()).then_some(Value::String(filled))
}

/// `a.b` is key `b` of variable `a`, unless a variable has that whole name.
fn lookup<'a>(vars: &'a Vars, name: &str) -> Option<&'a Value> {
    let name = name.trim_start_matches('!');
    if let Some(value) = vars.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    rest.split('.').try_fold(vars.get(first)?, |value, key| value.get(key))
}

/// The names between `((` and `))`, in order.
fn placeholders(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("((") {
        rest = &rest[start + 2..];
        let Some(end) = rest.find("))") else { break };
        let name = &rest[..end];
        let bare = name.trim_start_matches('!');
        if !bare.is_empty() && bare.chars().all(|c| c.is_alphanumeric() || "-_./".contains(c)) {
            names.push(name);
            rest = &rest[end + 2..];
        }
    }
    names
}

/// Which variables have no value, and where they stand.
pub fn complain(missing: &BTreeSet<String>, text: &str, path: &Path) -> Error {
    let names: Vec<&str> = missing.iter().map(String::as_str).collect();
    let mut message = format!("Expected to find variables: {}", names.join(", "));
    for name in names {
        let hole = format!("(({name}))");
        let Some((index, line)) = text.lines().enumerate().find(|(_, line)| line.contains(&hole))
        else {
            continue;
        };
        let key = line.trim_start_matches([' ', '-']).split(':').next().unwrap_or_default().trim();
        let key = if key.contains("((") { String::new() } else { format!(", key '{key}'") };
        message += &format!(
            "\n{} line {}{key}: {hole} has no value; give one with --var {name}=VALUE or --vars-file",
            path.display(),
            index + 1
        );
    }
    Error::Failed(message)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn filled(text: &str, vars: &[&str]) -> std::result::Result<String, BTreeSet<String>> {
        let vars: Vars = vars.iter().map(|var| read_var(var).unwrap()).collect();
        let mut value: Value = serde_norway::from_str(text).unwrap();
        fill_in(&mut value, &vars).map(|()| serde_norway::to_string(&value).unwrap())
    }

    #[test]
    fn values_keep_their_kind() {
        let text =
            filled("a: ((n))\nb: x-((n))-((s))\n((s)): ((l))\n", &["n=3", "s=text", "l=[1, 2]"])
                .unwrap();
        expect![[r#"
            a: 3
            b: x-3-text
            text:
            - 1
            - 2
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn parts_of_structures_can_be_named() {
        assert_eq!(filled("a: ((db.user))\n", &["db={user: me}"]).unwrap(), "a: me\n");
    }

    #[test]
    fn what_is_no_variable_stays() {
        assert_eq!(filled("a: (( x y ))\nb: ((\n", &[]).unwrap(), "a: (( x y ))\nb: ((\n");
    }

    #[test]
    fn missing_ones_are_all_named() {
        let text = "applications:\n- name: ((name))\n  memory: ((memory))\n";
        let missing = filled(text, &[]).unwrap_err();
        expect![[r#"
            Expected to find variables: memory, name
            manifest.yml line 3, key 'memory': ((memory)) has no value; give one with --var memory=VALUE or --vars-file
            manifest.yml line 2, key 'name': ((name)) has no value; give one with --var name=VALUE or --vars-file"#]]
        .assert_eq(&complain(&missing, text, Path::new("manifest.yml")).to_string());
    }

    #[test]
    fn a_var_needs_a_name() {
        assert!(read_var("=x").is_err());
        assert!(read_var("x").is_err());
        assert_eq!(read_var("x=").unwrap().1, Value::String(String::new()));
    }
}
