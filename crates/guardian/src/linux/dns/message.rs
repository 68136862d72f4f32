//! As much of DNS messages as a forwarder must read and write.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const HEADER: usize = 12;
const A: u16 = 1;
const INTERNET: u16 = 1;
const RESPONSE: u8 = 0x80;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const SERVER_FAILURE: u8 = 2;
/// The platform's own addresses may change with a restart.
const TTL: u32 = 5;

/// The one question of a query.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// In small letters, without the last dot.
    pub name: String,
    kind: u16,
    class: u16,
    /// Where it ends in the message.
    end: usize,
}

/// `None` unless `query` is a standard query with one question.
pub fn question(query: &[u8]) -> Option<Question> {
    let header = query.get(..HEADER)?;
    let standard = header[2] & 0xf8 == 0;
    if !standard || header[4..6] != [0, 1] {
        return None;
    }
    let mut at = HEADER;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        if length > 63 || at > HEADER + 255 {
            return None;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let word = |at: usize| Some(u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]));
    Some(Question { name: labels.join("."), kind: word(at)?, class: word(at + 2)?, end: at + 4 })
}

/// The address of the longest suffix that fits.
pub fn decide(overrides: &[(String, Ipv4Addr)], name: &str) -> Option<Ipv4Addr> {
    let fits = |suffix: &str| {
        name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let fitting = overrides.iter().filter(|(suffix, _)| !suffix.is_empty() && fits(suffix));
    fitting.max_by_key(|(suffix, _)| suffix.len()).map(|(_, address)| *address)
}

/// The address, or an empty answer to a question for anything else.
pub fn answer(query: &[u8], question: &Question, address: Ipv4Addr) -> Vec<u8> {
    let wanted = question.kind == A && question.class == INTERNET;
    let mut message = reply(query, question, 0, wanted);
    if wanted {
        // The name is that of the question, at the start of the body.
        message.extend_from_slice(&[0xc0, HEADER as u8]);
        message.extend_from_slice(&A.to_be_bytes());
        message.extend_from_slice(&INTERNET.to_be_bytes());
        message.extend_from_slice(&TTL.to_be_bytes());
        message.extend_from_slice(&[0, 4]);
        message.extend_from_slice(&address.octets());
    }
    message
}

/// No server could be asked.
pub fn failure(query: &[u8], question: &Question) -> Vec<u8> {
    reply(query, question, SERVER_FAILURE, false)
}

fn reply(query: &[u8], question: &Question, code: u8, answered: bool) -> Vec<u8> {
    let mut message = query[..question.end].to_vec();
    message[2] = RESPONSE | message[2] & RECURSION_DESIRED;
    message[3] = RECURSION_AVAILABLE | code;
    message[6..HEADER].copy_from_slice(&[0, u8::from(answered), 0, 0, 0, 0]);
    message
}

/// Whether this is the response to that query.
pub fn answers(response: &[u8], query: &[u8]) -> bool {
    let same_question = || {
        let question = question(query)?;
        let (asked, told) = (query.get(HEADER..question.end)?, response.get(HEADER..question.end)?);
        Some(asked.eq_ignore_ascii_case(told))
    };
    response.len() >= HEADER
        && response[..2] == query[..2]
        && response[2] & RESPONSE != 0
        // Some errors come without the question.
        && (response[4..6] == [0, 0] || same_question().unwrap_or(false))
}

/// The first three servers of a `resolv.conf`, as resolvers take them.
pub fn servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        if words.next() == Some("nameserver") { words.next()?.parse::<IpAddr>().ok() } else { None }
    };
    resolv_conf
        .lines()
        .filter_map(address)
        .take(3)
        .map(|address| SocketAddr::new(address, 53))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&INTERNET.to_be_bytes());
        message
    }

    #[test]
    fn own_names_are_answered() {
        let address = Ipv4Addr::new(10, 254, 0, 1);
        let query = query("App.Local.Test", A);
        let question = question(&query).unwrap();
        assert_eq!(question.name, "app.local.test");
        let answer = answer(&query, &question, address);
        assert!(answers(&answer, &query));
        assert_eq!(answer[6..8], [0, 1]);
        assert!(answer.ends_with(&[0, 4, 10, 254, 0, 1]));
    }

    #[test]
    fn other_kinds_of_own_names_are_empty() {
        let query = query("app.local.test", 28);
        let answer = answer(&query, &question(&query).unwrap(), Ipv4Addr::LOCALHOST);
        assert_eq!((answer[3] & 0xf, &answer[6..8]), (0, &[0, 0][..]));
    }

    #[test]
    fn the_longest_suffix_decides() {
        let to = |last| Ipv4Addr::new(10, 0, 0, last);
        let overrides = [("test".to_owned(), to(1)), ("apps.test".to_owned(), to(2))];
        let decided = |name| decide(&overrides, name);
        assert_eq!(decided("a.apps.test"), Some(to(2)));
        assert_eq!(decided("apps.test"), Some(to(2)));
        assert_eq!(decided("myapps.test"), Some(to(1)));
        assert_eq!(decided("contest"), None);
        assert_eq!(decided("example.com"), None);
    }

    #[test]
    fn a_failure_says_so() {
        let query = query("example.com", A);
        let failed = failure(&query, &question(&query).unwrap());
        assert!(answers(&failed, &query));
        assert_eq!(failed[3] & 0xf, SERVER_FAILURE);
    }

    #[test]
    fn forged_answers_are_none() {
        let (asked, other) = (query("example.com", A), query("example.org", A));
        let forged = failure(&other, &question(&other).unwrap());
        assert!(!answers(&forged, &asked));
        assert!(!answers(&asked, &asked));
    }

    #[test]
    fn servers_are_read() {
        let text = "# comment\nsearch x\nnameserver 10.0.0.2\nnameserver ::1\nnameserver what\n";
        assert_eq!(servers(text), ["10.0.0.2:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(question) = question(&bytes) {
                let _ = answer(&bytes, &question, Ipv4Addr::LOCALHOST);
            }
            let _ = answers(&bytes, &query("a.b", A));
        }
    }
}
