//! The TOML file, and what is said when it cannot be read: the line, the key, and what would do instead.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use clap::{Args as _, Command};

use super::Given;

/// The setting that somebody meant must be at least so much like what they wrote (Jaro-Winkler, 0 to 1).
const LIKE: f64 = 0.8;

pub fn read(path: &Path) -> anyhow::Result<Given> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("reading the configuration {} (--config, CUPOLA_CONFIG)", path.display())
    })?;
    parse(&text).map_err(|what| anyhow!("the configuration {}, {what}", path.display()))
}

/// Every key the file may have.
pub fn keys() -> Vec<String> {
    let command = Given::augment_args(Command::new("up"));
    let flags = command.get_arguments().map(|argument| argument.get_id().to_string());
    flags.chain(["timings", "crashed"].map(str::to_owned)).collect()
}

fn parse(text: &str) -> Result<Given, String> {
    toml::from_str(text).map_err(|error| {
        let line = line_of(text, &error);
        let key = key_of(text.lines().nth(line).unwrap_or_default());
        let what = match (unknown(error.message()), key) {
            // Within a table serde knows what there is.
            (Some(_), _) if !error.message().contains("`data`") => error.message().to_owned(),
            (Some(key), _) => unknown_key(key),
            (None, Some(key)) if keys().iter().any(|known| known == key) => {
                format!("{key}: {}", plain(error.message()))
            }
            (None, _) => error.message().to_owned(),
        };
        format!("line {}: {what}", line + 1)
    })
}

/// The line that an error is about, counted from 0.
pub fn line_of(text: &str, error: &toml::de::Error) -> usize {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    text.get(..start).unwrap_or_default().matches('\n').count()
}

/// What stands before the equals sign.
fn key_of(line: &str) -> Option<&str> {
    line.split_once('=').map(|(key, _)| key.trim().trim_matches(['"', '\'']))
}

/// serde's words for a key that nobody asked for.
fn unknown(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

fn unknown_key(key: &str) -> String {
    let keys = keys();
    let like = |known: &String| strsim::jaro_winkler(&key.to_lowercase().replace('-', "_"), known);
    let best = keys.iter().map(|known| (like(known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, known)) if score >= LIKE => {
            format!("there is no setting {key:?}: did you mean {known:?}?")
        }
        _ => format!("there is no setting {key:?}: there are {}", keys.join(", ")),
    }
}

/// The types' names as a person calls them.
fn plain(message: &str) -> String {
    let names = [
        ("expected u16", "expected a port, a number from 0 to 65535"),
        ("expected u64", "expected a whole number"),
        ("expected path string", "expected a path in quotes"),
        ("expected a string", "expected text in quotes"),
        ("expected a sequence", "expected a list such as [\"cflinuxfs4\"]"),
        ("expected IP address", "expected an address such as 127.0.0.1"),
        ("expected IPv4 address or IPv6 address", "expected an address such as 127.0.0.1"),
    ];
    let found = names.iter().find(|(name, _)| message.ends_with(name));
    found.map_or_else(|| message.to_owned(), |(name, plain)| message.replace(name, plain))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(text: &str, want: Expect) {
        want.assert_eq(&parse(text).unwrap_err());
    }

    #[test]
    fn errors_name_line_key_and_what_would_do() {
        check(
            "# mine\n\ndomian = 'x'\n",
            expect![[r#"line 3: there is no setting "domian": did you mean "domain"?"#]],
        );
        check(
            "data = '/x'\nhttp-port = 80\n",
            expect![[r#"line 2: there is no setting "http-port": did you mean "http_port"?"#]],
        );
        let odd = parse("colour = 'red'").unwrap_err();
        assert!(
            odd.starts_with("line 1: there is no setting \"colour\": there are data, domain,"),
            "{odd}"
        );
        check(
            "domain = 'x'\nhttp_port = 'eighty'\n",
            expect![[
                r#"line 2: http_port: invalid type: string "eighty", expected a port, a number from 0 to 65535"#
            ]],
        );
        check(
            "http_port = 99999\n",
            expect![
                "line 1: http_port: invalid value: integer `99999`, expected a port, a number from 0 to 65535"
            ],
        );
        check("listen = 'here'\n", expect!["line 1: listen: invalid IP address syntax"]);
        check(
            "stacks = 'cflinuxfs4'\n",
            expect![[
                r#"line 1: stacks: invalid type: string "cflinuxfs4", expected a list such as ["cflinuxfs4"]"#
            ]],
        );
        check(
            "backend = 'docker'\n",
            expect!["line 1: backend: unknown variant `docker`, expected `linux` or `process`"],
        );
        check(
            "data = 7\n",
            expect!["line 1: data: invalid type: integer `7`, expected a path in quotes"],
        );
        check("domain = 'x'\ndomain = 'y'\n", expect!["line 2: domain: duplicate key"]);
        let odd = parse("[timings.rep]\nanounce = 1\n").unwrap_err();
        assert!(odd.starts_with("line 2: ") && odd.contains("`announce`"), "{odd}");
        check("domain = 'x\n", expect!["line 1: domain: invalid literal string, expected `'`"]);
    }
}
