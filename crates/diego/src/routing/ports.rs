//! The ports that TCP routes may have, written as the Routing API writes them: `1024-1123,2000`.

use std::fmt::{self, Display, Formatter};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Ports below are the system's.
const LOWEST: u16 = 1024;

/// Ranges that do not overlap, in the order they were written; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservablePorts(Vec<RangeInclusive<u16>>);

/// What is wrong with such a text, in the Routing API's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortsError {
    #[error("port must be between 1024 and 65535")]
    Port,
    #[error("range ({0}) requires a starting port")]
    Start(String),
    #[error("range ({0}) requires an ending port")]
    End(String),
    #[error("range ({0}) must be in ascending numeric order")]
    Order(String),
    #[error("range ({0}) has too many '-' separators")]
    Separators(String),
    #[error("Overlapping values: {0} and {1}")]
    Overlap(String, String),
}

impl ReservablePorts {
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }

    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().cloned().flatten()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.iter().map(ExactSizeIterator::len).sum()
    }
}

impl FromStr for ReservablePorts {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<ReservablePorts, PortsError> {
        let ranges = text.split(',').map(range).collect::<Result<Vec<_>, _>>()?;
        for (at, one) in ranges.iter().enumerate() {
            let meets = |other: &&RangeInclusive<u16>| {
                one.start() <= other.end() && other.start() <= one.end()
            };
            if let Some(other) = ranges[at + 1..].iter().find(meets) {
                return Err(PortsError::Overlap(spoken(one), spoken(other)));
            }
        }
        Ok(ReservablePorts(ranges))
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, PortsError> {
    let whole = || text.to_owned();
    let (start, end) = match text.split_once('-') {
        None => {
            let port = number(text).ok_or(PortsError::Port)?;
            (port, port)
        }
        Some((_, end)) if end.contains('-') => return Err(PortsError::Separators(whole())),
        Some((start, end)) => (
            number(start).ok_or_else(|| PortsError::Start(whole()))?,
            number(end).ok_or_else(|| PortsError::End(whole()))?,
        ),
    };
    if start > end {
        return Err(PortsError::Order(whole()));
    }
    if start < LOWEST {
        return Err(PortsError::Port);
    }
    Ok(start..=end)
}

/// Digits alone: no sign, no space.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn spoken(range: &RangeInclusive<u16>) -> String {
    let (start, end) = (range.start(), range.end());
    if start == end { start.to_string() } else { format!("[{start}-{end}]") }
}

impl Display for ReservablePorts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let (comma, start, end) = (if at == 0 { "" } else { "," }, range.start(), range.end());
            match start == end {
                true => write!(f, "{comma}{start}")?,
                false => write!(f, "{comma}{start}-{end}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_single_ports() {
        let ports: ReservablePorts = "1024-1026,2000".parse().unwrap();
        assert_eq!(ports.iter().collect::<Vec<_>>(), [1024, 1025, 1026, 2000]);
        assert_eq!((ports.count(), ports.to_string().as_str()), (4, "1024-1026,2000"));
        assert!(ports.contains(1026) && !ports.contains(1027));
        assert_eq!("65535".parse::<ReservablePorts>().unwrap().count(), 1);
    }

    #[test]
    fn what_is_wrong_is_told_in_the_apis_words() {
        let told = |text: &str| text.parse::<ReservablePorts>().unwrap_err().to_string();
        for port in ["", "80", "99999", "1024,", "x", "+2000", " 2000", "1000-2000"] {
            assert_eq!(told(port), "port must be between 1024 and 65535", "{port:?}");
        }
        assert_eq!(told("-2000"), "range (-2000) requires a starting port");
        assert_eq!(told("2000-"), "range (2000-) requires an ending port");
        assert_eq!(told("2001-2000"), "range (2001-2000) must be in ascending numeric order");
        assert_eq!(told("1-2-3"), "range (1-2-3) has too many '-' separators");
        assert_eq!(told("2000-2010,2010"), "Overlapping values: [2000-2010] and 2010");
    }
}
