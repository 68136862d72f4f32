//! What the router reads from a request's headers and what it writes into them.

use std::net::SocketAddr;

use base::Timestamp;
use diego::routing::Endpoint;
use http::header::{CONNECTION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE, UPGRADE};
use http::{Request, Version};

use crate::balance::Wish;
use crate::error::RouterError;
use crate::server::Scheme;

pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const VCAP_REQUEST_ID: HeaderName = HeaderName::from_static("x-vcap-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");
const APP_INSTANCE: HeaderName = HeaderName::from_static("x-cf-app-instance");
const PROCESS_INSTANCE: HeaderName = HeaderName::from_static("x-cf-process-instance");
const APPLICATION_ID: HeaderName = HeaderName::from_static("x-cf-applicationid");
const INSTANCE_ID: HeaderName = HeaderName::from_static("x-cf-instanceid");
const INSTANCE_INDEX: HeaderName = HeaderName::from_static("x-cf-instanceindex");
/// Meaningful between two neighbours only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The name the client asked for: HTTP/2's authority or the `Host` header, lower case, without port.
pub(crate) fn host<B>(request: &Request<B>) -> String {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let header = || request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let whole = authority.or_else(header).unwrap_or_default().to_ascii_lowercase();
    match whole.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name.to_owned(),
        _ => whole,
    }
}

/// HTTP/2 has the host in the request line; apps and the platform look for the header.
pub(crate) fn keep_host<B>(request: &mut Request<B>) {
    if !request.headers().contains_key(HOST)
        && let Some(authority) = request.uri().authority()
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, value);
    }
}

/// Tells who asked and how, as every proxy does for the next one.
pub(crate) fn forward(headers: &mut HeaderMap, client: SocketAddr, scheme: Scheme) {
    let address = client.ip().to_canonical().to_string();
    let chain = match headers.get(FORWARDED_FOR).and_then(|value| value.to_str().ok()) {
        Some(before) => format!("{before}, {address}"),
        None => address,
    };
    set(headers, FORWARDED_FOR, &chain);
    if !headers.contains_key(FORWARDED_PROTO) {
        set(headers, FORWARDED_PROTO, scheme.name());
    }
}

/// Gives the request its id and the time it came; the id answers for it in every log.
pub(crate) fn identify(headers: &mut HeaderMap, id: &str, now: Timestamp) {
    set(headers, VCAP_REQUEST_ID, id);
    if !headers.contains_key(REQUEST_ID) {
        set(headers, REQUEST_ID, id);
    }
    if !headers.contains_key(REQUEST_START) {
        set(headers, REQUEST_START, &now.as_millis().to_string());
    }
}

/// Names the endpoint; what a client claims about it is overwritten.
pub(crate) fn address(headers: &mut HeaderMap, endpoint: &Endpoint) {
    set(headers, APPLICATION_ID, &endpoint.log_guid);
    set(headers, INSTANCE_ID, endpoint.instance_guid.as_str());
    set(headers, INSTANCE_INDEX, &endpoint.key.index.to_string());
}

/// Removes what is meant for the neighbour only. An upgrade keeps `Connection: Upgrade` and its protocol.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A client must not take from the app what the router tells it.
        .filter(|name| {
            *name != FORWARDED_FOR && *name != FORWARDED_PROTO && *name != VCAP_REQUEST_ID
        })
        .collect();
    let upgrade = upgrade(headers);
    let trailers =
        headers.get(TE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    named.iter().for_each(|name| drop(headers.remove(name)));
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(*name)));
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// The protocol a client wants to change to, or a server has changed to.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|list| list.split(',').any(|item| item.trim().eq_ignore_ascii_case("upgrade")));
    if asks { headers.get(UPGRADE).cloned() } else { None }
}

/// Takes the instance headers and the sticky cookies out as a wish.
pub(crate) fn wish(headers: &mut HeaderMap, sticky: &[String]) -> Result<Wish, RouterError> {
    let text = |value: HeaderValue| value.to_str().unwrap_or_default().to_owned();
    if let Some(value) = headers.remove(APP_INSTANCE).map(text) {
        let (app, index) = value.split_once(':').ok_or(RouterError::InvalidAppInstance)?;
        let index = index.parse().map_err(|_| RouterError::InvalidAppInstance)?;
        return if app.is_empty() {
            Err(RouterError::InvalidAppInstance)
        } else {
            Ok(Wish::App { app: app.to_owned(), index })
        };
    }
    if let Some(value) = headers.remove(PROCESS_INSTANCE).map(text) {
        let (process, index) = match value.split_once(':') {
            Some((process, index)) => {
                (process, Some(index.parse().map_err(|_| RouterError::InvalidProcessInstance)?))
            }
            None => (value.as_str(), None),
        };
        return if process.is_empty() {
            Err(RouterError::InvalidProcessInstance)
        } else {
            Ok(Wish::Process { process: process.to_owned(), index })
        };
    }
    let cookies = || headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    Ok(crate::sticky::session(cookies(), sticky).map_or(Wish::Any, Wish::Session))
}

pub(crate) fn version_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => drop(headers.insert(name, value)),
        Err(_) => drop(headers.remove(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn hop_by_hop_headers_stop_here_but_the_routers_own_cannot_be_stripped() {
        let mut given = headers(&[
            ("connection", "close, x-secret, x-forwarded-for"),
            ("x-secret", "1"),
            ("x-forwarded-for", "1.1.1.1"),
            ("keep-alive", "5"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut given);
        assert_eq!(names(&given), ["accept", "x-forwarded-for"]);
    }

    #[test]
    fn an_upgrade_survives() {
        let mut given = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        strip_hop_by_hop(&mut given);
        assert_eq!(names(&given), ["connection", "upgrade"]);
    }

    #[test]
    fn the_chain_of_proxies_grows_and_the_first_scheme_stays() {
        let mut given = headers(&[("x-forwarded-for", "9.9.9.9"), ("x-forwarded-proto", "https")]);
        forward(&mut given, "[::ffff:10.0.0.1]:5".parse().unwrap(), Scheme::Http);
        assert_eq!(given["x-forwarded-for"], "9.9.9.9, 10.0.0.1");
        assert_eq!(given["x-forwarded-proto"], "https");
    }

    #[test]
    fn malformed_instance_headers_are_refused() {
        for bad in ["", "guid", "guid:", ":1", "guid:x"] {
            let mut given =
                HeaderMap::from_iter([(APP_INSTANCE, HeaderValue::from_str(bad).unwrap())]);
            assert_eq!(wish(&mut given, &[]), Err(RouterError::InvalidAppInstance), "{bad}");
        }
        let mut given = headers(&[("x-cf-process-instance", "guid")]);
        assert_eq!(
            wish(&mut given, &[]),
            Ok(Wish::Process { process: "guid".into(), index: None })
        );
    }

    #[test]
    fn the_host_has_no_port() {
        for (given, want) in [
            ("App.Example.com:8080", "app.example.com"),
            ("a.b", "a.b"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            let request = Request::builder().uri("/").header("host", given).body(()).unwrap();
            assert_eq!(host(&request), want);
        }
    }
}
