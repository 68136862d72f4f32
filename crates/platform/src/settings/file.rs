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
    flags.chain(["timings", "crashed", "kept"].map(str::to_owned)).collect()
}

fn parse(text: &str) -> Result<Given, String> {
    toml::from_str(text).map_err(|error| {
        let at = Place::of(text, &error);
        match unknown(error.message()) {
            Some(key) if at.table.is_empty() => {
                format!("line {}: {}", at.line, unknown_key(key, &keys()))
            }
            _ => at.tell(&error),
        }
    })
}

/// Where in the file something is wrong.
pub struct Place<'a> {
    /// Counted from 1.
    line: usize,
    /// Empty above the first table.
    table: &'a str,
    /// Where the line gives one a value.
    key: Option<&'a str>,
}

impl<'a> Place<'a> {
    pub fn of(text: &'a str, error: &toml::de::Error) -> Place<'a> {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.get(..start).unwrap_or_default().matches('\n').count();
        let header = |line: &'a str| line.trim().strip_prefix('[')?.split(']').next();
        let table = text.lines().take(line + 1).filter_map(header).last().unwrap_or_default();
        let key = key_of(text.lines().nth(line).unwrap_or_default());
        Place { line: line + 1, table: table.trim(), key }
    }

    /// The line, the key with its table, and what is wrong with it.
    pub fn tell(&self, error: &toml::de::Error) -> String {
        let (line, table) = (self.line, self.table);
        match (unknown(error.message()), self.key) {
            (Some(key), _) => {
                format!("line {line}: {}", unknown_key(key, &expected(error.message())))
            }
            (None, Some(key)) if table.is_empty() => {
                format!("line {line}: {key}: {}", plain(error.message()))
            }
            (None, Some(key)) => format!("line {line}: {table}.{key}: {}", plain(error.message())),
            (None, None) => format!("line {line}: {}", error.message()),
        }
    }
}

/// What stands before the equals sign.
fn key_of(line: &str) -> Option<&str> {
    line.split_once('=').map(|(key, _)| key.trim().trim_matches(['"', '\'']))
}

/// serde's words for a key that nobody asked for.
fn unknown(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

/// serde's words for the keys that there are.
fn expected(message: &str) -> Vec<String> {
    let list = message.split_once(", expected ").map_or("", |(_, list)| list);
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn unknown_key(key: &str, keys: &[String]) -> String {
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
        ("expected usize", "expected a whole number"),
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
        check(
            "[timings.rep]\nanounce = 1\n",
            expect![[r#"line 2: there is no setting "anounce": did you mean "announce"?"#]],
        );
        check(
            "[kept]\naudit_events_days = 0\n",
            expect![
                "line 2: kept.audit_events_days: invalid value: integer `0`, expected a whole number from 1 to 36500"
            ],
        );
        check(
            "[kept]\n# how long\naudit_events_days = 'long'\n",
            expect![[
                r#"line 3: kept.audit_events_days: invalid type: string "long", expected a whole number from 1 to 36500"#
            ]],
        );
        check(
            "staging_timeout_s = 100000\n",
            expect![
                "line 1: staging_timeout_s: invalid value: integer `100000`, expected a whole number from 1 to 86400"
            ],
        );
        check(
            "disk_limits = 'zfs'\n",
            expect![[
                r#"line 1: disk_limits: unknown way "zfs", expected one of best, btrfs, project-quotas, images, watched, off"#
            ]],
        );
        check(
            "[timings]\n[timings.bbs]\nlease_ttl = -1\n",
            expect![
                "line 3: timings.bbs.lease_ttl: invalid value: integer `-1`, expected a whole number"
            ],
        );
        check("domain = 'x\n", expect!["line 1: domain: invalid literal string, expected `'`"]);
    }
}
