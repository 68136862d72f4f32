//! What is wrong with the arguments of a command.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Pure: a parser's complaint in the words of `cf`.
pub fn said(error: &clap::Error) -> String {
    let about = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    };
    let arguments = about(ContextKind::InvalidArg);
    let first = arguments.first().map(String::as_str).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if first.starts_with('-') => {
            format!("unknown flag `{}'", first.trim_start_matches('-'))
        }
        ErrorKind::UnknownArgument => format!("unexpected argument \"{first}\""),
        ErrorKind::MissingRequiredArgument => {
            if let Some(name) = arguments.iter().find(|name| name.starts_with('-')) {
                return format!("the required flag `{}' was not specified", flag(name));
            }
            let names: Vec<String> = arguments
                .iter()
                .map(|name| format!("`{}`", name.trim_end_matches("...").trim_matches(['<', '>'])))
                .collect();
            match names.as_slice() {
                [one] => format!("the required argument {one} was not provided"),
                [one, two] => format!("the required arguments {one} and {two} were not provided"),
                [rest @ .., last] => format!(
                    "the required arguments {}, and {last} were not provided",
                    rest.join(", ")
                ),
                [] => "a required argument was not provided".to_owned(),
            }
        }
        ErrorKind::InvalidValue
            if about(ContextKind::InvalidValue).first().is_none_or(String::is_empty) =>
        {
            format!("expected argument for flag `{}'", flag(first))
        }
        ErrorKind::InvalidValue => {
            let value = about(ContextKind::InvalidValue).join(" ");
            let allowed = about(ContextKind::ValidValue);
            let allowed = match allowed.as_slice() {
                [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                all => all.join(", "),
            };
            let option = flag(first);
            format!("Invalid value `{value}' for option `{option}'. Allowed values are: {allowed}")
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            match why.filter(|why| {
                why.starts_with(|c: char| c.is_uppercase()) || why.starts_with("invalid integer")
            }) {
                // Said in the right words by the flag's own reader.
                Some(sentence) => sentence,
                None => {
                    format!("invalid argument for flag `{}' (expected int > 0)", flag(first))
                }
            }
        }
        _ => error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned(),
    }
}

/// `--instances <N>` without its placeholder.
fn flag(text: &str) -> &str {
    text.split(" <").next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::command::{find, parser};

    #[track_caller]
    fn check(line: &str, want: Expect) {
        let words: Vec<&str> = line.split(' ').collect();
        let parser = parser(find(words[0]).unwrap());
        let error = parser.try_get_matches_from(&words[1..]).unwrap_err();
        want.assert_eq(&said(&error));
    }

    #[test]
    fn complaints_sound_familiar() {
        check("app", expect!["the required argument `APP_NAME` was not provided"]);
        check(
            "set-env a",
            expect!["the required arguments `ENV_VAR_NAME` and `ENV_VAR_VALUE` were not provided"],
        );
        check("app a b", expect![[r#"unexpected argument "b""#]]);
        check("push --bogus", expect!["unknown flag `bogus'"]);
        check("rollback a", expect!["the required flag `--version' was not specified"]);
        check(
            "set-health-check a x",
            expect![[r#"HEALTH_CHECK_TYPE must be "port", "process", or "http""#]],
        );
        check(
            "scale a -i x",
            expect!["invalid argument for flag `--instances' (expected int > 0)"],
        );
        check(
            "push a -i -1",
            expect!["invalid argument for flag `--instances' (expected int > 0)"],
        );
        check("push a -f", expect!["expected argument for flag `--manifest'"]);
        check(
            "scale a -m 3",
            expect![
                "Byte quantity must be an integer with a unit of measurement like M, MB, G, or GB"
            ],
        );
    }
}
