//! Reading what a request asks for: its path, its range, what the client has and takes.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use hyper::HeaderMap;
use hyper::header::{self, AsHeaderName};
use percent_encoding::percent_decode_str;

/// The text of a header, empty when it is missing or odd.
pub fn text(headers: &HeaderMap, name: impl AsHeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Proxies append to these headers; the first entry is the client's own.
pub fn first<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    text(headers, name).split(',').next().unwrap_or_default().trim()
}

/// A URL's path as a relative file path, `None` when it tries to leave the site or names what no file can be.
pub fn relative(path: &str, dot_files: bool) -> Option<PathBuf> {
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    let mut relative = PathBuf::new();
    for part in decoded.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part if part.contains('\0') || (part.starts_with('.') && !dot_files) => return None,
            part => relative.push(part),
        }
    }
    Some(relative)
}

/// What part of a file is wanted.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    All,
    /// From the first byte up to, not with, the second.
    Part(u64, u64),
    Unsatisfiable,
}

/// One range of bytes; several at once are answered with the whole file, as a server may.
pub fn range(headers: &HeaderMap, size: u64, tag: &str, modified: SystemTime) -> Wanted {
    let condition = text(headers, header::IF_RANGE);
    let holds = condition.is_empty()
        || condition == tag
        || httpdate::parse_http_date(condition).is_ok_and(|date| date == whole(modified));
    let Some(spec) = text(headers, header::RANGE)
        .strip_prefix("bytes=")
        .filter(|spec| holds && !spec.contains(','))
    else {
        return Wanted::All;
    };
    let Some((from, to)) = spec.trim().split_once('-') else { return Wanted::All };
    let (start, end) = match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => (from, to.saturating_add(1).min(size)),
        (Ok(from), Err(_)) if to.is_empty() => (from, size),
        (Err(_), Ok(last)) if from.is_empty() => {
            (size.saturating_sub(last), if last == 0 { 0 } else { size })
        }
        _ => return Wanted::All,
    };
    if start < end { Wanted::Part(start, end) } else { Wanted::Unsatisfiable }
}

/// Whether the client's copy is still good.
pub fn is_fresh(headers: &HeaderMap, tag: &str, modified: SystemTime) -> bool {
    let known = text(headers, header::IF_NONE_MATCH);
    if !known.is_empty() {
        let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        return known.trim() == "*" || known.split(',').any(|one| bare(one) == bare(tag));
    }
    let since = httpdate::parse_http_date(text(headers, header::IF_MODIFIED_SINCE));
    since.is_ok_and(|since| whole(modified) <= since)
}

/// HTTP dates have no fractions of seconds.
fn whole(moment: SystemTime) -> SystemTime {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// Whether the client says that it takes gzip.
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    text(headers, header::ACCEPT_ENCODING).split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        named && !parts.any(|part| matches!(part.strip_prefix("q=").map(str::parse::<f32>), Some(Ok(q)) if q == 0.0))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hyper::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn wanted(spec: &str) -> Wanted {
        range(&headers(&[(header::RANGE, spec)]), 100, "\"t\"", SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn ranges() {
        assert_eq!(wanted("bytes=0-9"), Wanted::Part(0, 10));
        assert_eq!(wanted("bytes=90-200"), Wanted::Part(90, 100));
        assert_eq!(wanted("bytes=95-"), Wanted::Part(95, 100));
        assert_eq!(wanted("bytes=-5"), Wanted::Part(95, 100));
        assert_eq!(wanted("bytes=-500"), Wanted::Part(0, 100));
        assert_eq!(wanted("bytes=100-"), Wanted::Unsatisfiable);
        assert_eq!(wanted("bytes=-0"), Wanted::Unsatisfiable);
        for odd in ["bytes=9-0", "bytes=0-1,5-6", "lines=1-2", "bytes=x-y", "bytes=-"] {
            assert_eq!(wanted(odd), Wanted::All, "{odd}");
        }
        let stale = headers(&[(header::RANGE, "bytes=0-9"), (header::IF_RANGE, "\"other\"")]);
        assert_eq!(range(&stale, 100, "\"t\"", SystemTime::UNIX_EPOCH), Wanted::All);
    }

    #[test]
    fn encodings() {
        let takes = |value: &str| takes_gzip(&headers(&[(header::ACCEPT_ENCODING, value)]));
        assert!(takes("gzip") && takes("deflate, gzip;q=0.5") && takes("*"));
        assert!(!takes("") && !takes("br") && !takes("gzip;q=0"));
    }

    #[test]
    fn fresh_copies() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_500);
        let fresh =
            |name: HeaderName, value: &str| is_fresh(&headers(&[(name, value)]), "\"t\"", then);
        assert!(
            fresh(header::IF_NONE_MATCH, "\"a\", W/\"t\"")
                && !fresh(header::IF_NONE_MATCH, "\"a\"")
        );
        assert!(fresh(header::IF_MODIFIED_SINCE, "Thu, 01 Jan 1970 00:16:40 GMT"));
        assert!(!fresh(header::IF_MODIFIED_SINCE, "Thu, 01 Jan 1970 00:16:39 GMT"));
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_site(path in "(/|%2e|%2f|\\.|a|%00|%5c){0,12}", dots: bool) {
            if let Some(relative) = relative(&path, dots) {
                let normal = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
                prop_assert!(relative.components().all(normal) && relative.is_relative(), "{path} {relative:?}");
                prop_assert!(dots || !relative.iter().any(|part| part.to_string_lossy().starts_with('.')));
            }
        }
    }

    #[test]
    fn dot_files_are_hidden_unless_hosted() {
        assert_eq!(relative("/.git/config", false), None);
        assert_eq!(relative("/.well-known/x", true).as_deref(), Some(Path::new(".well-known/x")));
        assert_eq!(relative("/a%20b/%C3%A4", false).as_deref(), Some(Path::new("a b/ä")));
        assert_eq!(relative("/a/%2e%2e/b", true), None);
    }
}
