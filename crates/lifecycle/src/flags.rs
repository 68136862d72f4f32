//! Command lines in the style of Go's `flag` package, which every caller of these programs writes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};

#[derive(Debug, Default)]
pub struct Flags {
    values: BTreeMap<String, String>,
    pub rest: Vec<String>,
}

impl Flags {
    /// Reads `-name=value`, `-name value` and, for `switches`, `-name` alone, with one dash or two. The first word
    /// that is no flag ends them.
    pub fn parse(arguments: &[String], names: &[&str], switches: &[&str]) -> Result<Flags> {
        let mut flags = Flags::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let Some(flag) =
                word.strip_prefix('-').map(|flag| flag.strip_prefix('-').unwrap_or(flag))
            else {
                flags.rest.push(word.clone());
                break;
            };
            if flag.is_empty() {
                break;
            }
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let value = match value {
                Some(value) if names.contains(&name) || switches.contains(&name) => value,
                None if switches.contains(&name) => "true".to_owned(),
                None if names.contains(&name) => words
                    .next()
                    .with_context(|| format!("flag needs an argument: -{name}"))?
                    .clone(),
                _ => bail!("flag provided but not defined: -{name}"),
            };
            flags.values.insert(name.to_owned(), value);
        }
        flags.rest.extend(words.cloned());
        Ok(flags)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub fn is_on(&self, name: &str) -> Result<bool> {
        match self.get(name) {
            None | Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
            Some(other) => bail!("invalid boolean value {other:?} for -{name}"),
        }
    }

    pub fn duration(&self, name: &str, default: Duration) -> Result<Duration> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => {
                duration(text).with_context(|| format!("invalid value {text:?} for flag -{name}"))
            }
        }
    }
}

/// Reads a span as Go writes it: `1m30s`, `500ms`, `1.5h`; `0` needs no unit.
pub fn duration(text: &str) -> Result<Duration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .context("a number needs a unit")?;
        let number: f64 = rest[..digits].parse().context("a unit needs a number")?;
        let after = &rest[digits..];
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        seconds += number
            * match &after[..unit] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                other => bail!("unknown unit {other:?}"),
            };
        rest = &after[unit..];
    }
    if text.is_empty() {
        bail!("no span of time");
    }
    Duration::try_from_secs_f64(seconds).context("a span of time out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Flags> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Flags::parse(&words, &["port", "timeout"], &["skipDetect"])
    }

    #[test]
    fn one_dash_or_two_with_and_without_equals() {
        let flags = parse(&["-port=80", "--timeout", "1s", "-skipDetect", "rest", "-x"]).unwrap();
        assert_eq!((flags.get("port"), flags.get("timeout")), (Some("80"), Some("1s")));
        assert!(flags.is_on("skipDetect").unwrap());
        assert_eq!(flags.rest, ["rest", "-x"]);
        assert!(!parse(&["-skipDetect=false"]).unwrap().is_on("skipDetect").unwrap());
    }

    #[test]
    fn unknown_and_incomplete_flags_are_refused() {
        assert_eq!(
            parse(&["-nope"]).unwrap_err().to_string(),
            "flag provided but not defined: -nope"
        );
        assert_eq!(parse(&["-port"]).unwrap_err().to_string(), "flag needs an argument: -port");
    }

    #[test]
    fn spans_as_go_writes_them() {
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("0").unwrap(), Duration::ZERO);
        for wrong in ["", "5", "s", "5x", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
