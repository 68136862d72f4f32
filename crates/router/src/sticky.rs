//! Sessions that stay with the instance that began them.

use http::header::{HeaderMap, HeaderValue, SET_COOKIE};

/// Names the instance of a session, beside the app's own session cookie.
const VCAP_ID: &str = "__VCAP_ID__";

/// The instance of the session, when the request carries both the app's session cookie and ours.
pub(crate) fn session<'a>(
    cookies: impl Iterator<Item = &'a str>,
    names: &[String],
) -> Option<String> {
    let pairs: Vec<(&str, &str)> = cookies
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .collect();
    if !pairs.iter().any(|(name, _)| names.iter().any(|sticky| sticky == name)) {
        return None;
    }
    pairs.iter().find(|(name, _)| *name == VCAP_ID).map(|(_, instance)| (*instance).to_owned())
}

/// Adds our cookie to a response that begins a session. `moved` says that the request had a session at another instance.
pub(crate) fn stick(
    headers: &mut HeaderMap,
    names: &[String],
    instance: &str,
    path: &str,
    moved: bool,
) {
    let set: Vec<String> = headers
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect();
    let begins = |cookie: &String, name: &str| {
        cookie.split_once('=').is_some_and(|(given, _)| given.trim() == name)
    };
    if set.iter().any(|cookie| begins(cookie, VCAP_ID)) {
        return;
    }
    let session = set.iter().find(|cookie| names.iter().any(|name| begins(cookie, name)));
    if session.is_none() && !moved {
        return;
    }
    let path = if path.is_empty() { "/" } else { path };
    let kept = session.map(|cookie| attributes(cookie)).unwrap_or_default();
    if let Ok(value) =
        HeaderValue::from_str(&format!("{VCAP_ID}={instance}; Path={path}; HttpOnly{kept}"))
    {
        headers.append(SET_COOKIE, value);
    }
}

/// The attributes that our cookie shares with the app's.
fn attributes(cookie: &str) -> String {
    let shared = ["secure", "samesite", "expires", "partitioned", "max-age"];
    let name = |attribute: &str| {
        attribute.split('=').next().unwrap_or_default().trim().to_ascii_lowercase()
    };
    cookie
        .split(';')
        .skip(1)
        .filter(|attribute| shared.contains(&name(attribute).as_str()))
        .map(|attribute| format!("; {}", attribute.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["JSESSIONID".to_owned()]
    }

    #[test]
    fn a_session_needs_both_cookies() {
        let of = |cookies: &str| session([cookies].into_iter(), &names());
        assert_eq!(of("JSESSIONID=x; __VCAP_ID__=i1"), Some("i1".to_owned()));
        assert_eq!(of("__VCAP_ID__=i1"), None);
        assert_eq!(of("JSESSIONID=x"), None);
    }

    #[test]
    fn the_cookie_follows_the_apps_session_cookie() {
        let mut headers = HeaderMap::new();
        stick(&mut headers, &names(), "i1", "", false);
        assert!(headers.is_empty());
        headers.insert(
            SET_COOKIE,
            HeaderValue::from_static("JSESSIONID=x; Secure; SameSite=Lax; Domain=d"),
        );
        stick(&mut headers, &names(), "i1", "/v1", false);
        let all: Vec<_> =
            headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(all[1], "__VCAP_ID__=i1; Path=/v1; HttpOnly; Secure; SameSite=Lax");
    }
}
