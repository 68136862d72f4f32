//! What a reader asks for, parsed from log-cache's query parameters.

use base::Timestamp;
use envelope::{Envelope, Kind, Message};
use regex::Regex;

/// One read of one source.
#[derive(Clone, Debug)]
pub struct Read {
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive; absent = no end.
    pub end: Option<Timestamp>,
    /// Empty = all kinds.
    pub kinds: Vec<Kind>,
    pub limit: usize,
    /// Newest first; and then the newest are chosen when there are more than `limit`.
    pub descending: bool,
    /// Over names of counters, timers and gauges; log lines and events have none and never match.
    pub name_filter: Option<Regex>,
}

impl Default for Read {
    fn default() -> Read {
        Read {
            start: Timestamp::from_nanos(i64::MIN),
            end: None,
            kinds: Vec::new(),
            limit: 100,
            descending: false,
            name_filter: None,
        }
    }
}

const LIMIT_MAX: i64 = 1000;

impl Read {
    /// # Errors
    /// A sentence for the reader, naming what is wrong.
    pub(crate) fn parse(pairs: &[(String, String)]) -> Result<Read, String> {
        let mut read = Read::default();
        for (name, value) in pairs {
            let number = || {
                value
                    .parse::<i64>()
                    .map_err(|_| format!("parsing {name}: {value:?} is not a number"))
            };
            match name.as_str() {
                "start_time" => read.start = Timestamp::from_nanos(number()?),
                "end_time" => {
                    read.end =
                        Some(Timestamp::from_nanos(number()?)).filter(|end| *end != Timestamp::ZERO)
                }
                "limit" => read.limit = limit(number()?)?,
                "descending" => {
                    read.descending = value.parse().map_err(|_| {
                        format!("parsing descending: {value:?} is not true or false")
                    })?
                }
                "envelope_types" => read.kinds.extend(kind(value)?),
                "name_filter" if !value.is_empty() => {
                    let filter = Regex::new(value).map_err(|error| {
                        format!("Name filter must be a valid regular expression: {error}")
                    })?;
                    read.name_filter = Some(filter);
                }
                _ => {}
            }
        }
        match read.end {
            Some(end) if read.start > end => Err(format!(
                "StartTime ({}) must be before EndTime ({})",
                read.start.as_nanos(),
                end.as_nanos()
            )),
            _ => Ok(read),
        }
    }

    /// The envelope as this reader sees it, if it does: a gauge keeps the matching entries only.
    pub(crate) fn select(&self, envelope: &Envelope) -> Option<Envelope> {
        if !self.kinds.is_empty() && !self.kinds.contains(&envelope.message.kind()) {
            return None;
        }
        let Some(filter) = &self.name_filter else { return Some(envelope.clone()) };
        match &envelope.message {
            Message::Counter { name, .. } | Message::Timer { name, .. } => {
                filter.is_match(name).then(|| envelope.clone())
            }
            Message::Gauge(metrics) => {
                let kept: std::collections::BTreeMap<_, _> = metrics
                    .iter()
                    .filter(|(name, _)| filter.is_match(name))
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect();
                (!kept.is_empty())
                    .then(|| Envelope { message: Message::Gauge(kept), ..envelope.clone() })
            }
            Message::Log { .. } | Message::Event { .. } => None,
        }
    }
}

fn limit(number: i64) -> Result<usize, String> {
    match number {
        0 => Ok(100),
        ..0 => Err(format!("limit ({number}) must be greater than zero")),
        number if number > LIMIT_MAX => Err(format!("limit ({number}) must be 1000 or less")),
        number => Ok(usize::try_from(number).unwrap_or(100)),
    }
}

fn kind(name: &str) -> Result<Option<Kind>, String> {
    Ok(Some(match name {
        "LOG" | "1" => Kind::Log,
        "COUNTER" | "2" => Kind::Counter,
        "GAUGE" | "3" => Kind::Gauge,
        "TIMER" | "4" => Kind::Timer,
        "EVENT" | "5" => Kind::Event,
        "ANY" | "0" => return Ok(None),
        other => return Err(format!("parsing envelope_types: {other} is not valid")),
    }))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, &str)], want: Expect) {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let got = match Read::parse(&pairs) {
            Ok(read) => format!(
                "{:?} {} {} {}",
                read.kinds,
                read.limit,
                read.descending,
                read.start.as_nanos()
            ),
            Err(error) => error,
        };
        want.assert_eq(&got);
    }

    #[test]
    fn parameters_as_clients_send_them() {
        check(&[], expect!["[] 100 false -9223372036854775808"]);
        check(
            &[
                ("start_time", "-6795364578871345152"),
                ("limit", "1000"),
                ("descending", "true"),
                ("envelope_types", "LOG"),
            ],
            expect!["[Log] 1000 true -6795364578871345152"],
        );
        check(&[("limit", "1001")], expect!["limit (1001) must be 1000 or less"]);
        check(&[("limit", "-1")], expect!["limit (-1) must be greater than zero"]);
        check(
            &[("start_time", "9"), ("end_time", "8")],
            expect!["StartTime (9) must be before EndTime (8)"],
        );
        check(&[("envelope_types", "FOG")], expect!["parsing envelope_types: FOG is not valid"]);
        check(&[("limit", "many")], expect![[r#"parsing limit: "many" is not a number"#]]);
    }
}
