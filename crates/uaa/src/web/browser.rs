//! What people see in a browser: logging in, the one-time passcode, letting a client act for them.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use rand::Rng as _;
use serde_json::json;
use url::Url;

use super::{Parameters, authorization, pairs};
use crate::Uaa;
use crate::db::clients::Client;
use crate::error::{Error, Result};
use crate::grants::{CodeDetails, Form, requested, text, user_scopes};

const SESSION: &str = "uaa_session";
const CSRF: &str = "X-Uaa-Csrf";
/// A session in a browser ends after this many seconds.
const SESSION_SECONDS: i64 = 1_800;

/// A person who logged in here.
struct Session {
    user: String,
    since: i64,
}

pub(crate) fn login_page(uaa: &Uaa, headers: &HeaderMap, query: &str) -> Response {
    let query = pairs(query.as_bytes());
    let message = if query.contains_key("error") {
        "<p role=alert>Unable to verify email or password. Please try again.</p>"
    } else {
        ""
    };
    let known = if session(uaa, headers).is_some() {
        "<p>You are logged in. <a href=/passcode>Passcode</a> · <a href=/logout.do>Log out</a></p>"
    } else {
        ""
    };
    let csrf = token();
    let form = format!(
        "<h1>Log in</h1>{message}{known}<form method=post action=/login.do>\
         <input type=hidden name={CSRF} value={csrf}><input type=hidden name=redirect value=\"{}\">\
         <label>Email<input name=username autocomplete=username autofocus required></label>\
         <label>Password<input name=password type=password autocomplete=current-password required></label>\
         <button>Log in</button></form>",
        escaped(query.get("redirect").map_or("", String::as_str)),
    );
    let mut response = page(&form);
    set_cookie(&mut response, &cookie(CSRF, &csrf, headers, 3_600));
    response
}

pub(crate) async fn log_in(State(uaa): State<Uaa>, parameters: Parameters) -> Result<Response> {
    let Parameters { form, headers } = parameters;
    same_browser(&form, &headers)?;
    let target = local(form.get("redirect").map_or("", String::as_str));
    let (name, password) =
        (text(&form, "username").unwrap_or(""), form.get("password").map_or("", String::as_str));
    let account = match uaa.login(name, password, None).await {
        Ok(account) => account,
        Err(error) if error.status == StatusCode::UNAUTHORIZED => {
            let back = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("redirect", target)
                .finish();
            return Ok(redirect(&format!("/login?error=login_failure&{back}")));
        }
        Err(error) => return Err(error),
    };
    let now = uaa.now().as_secs();
    let session = json!({ "kind": SESSION, "user": account.guid, "iat": now, "until": now + SESSION_SECONDS });
    let session = uaa.0.tokens.sign(session).await?;
    let mut response = redirect(target);
    set_cookie(&mut response, &cookie(SESSION, &session, &headers, SESSION_SECONDS));
    Ok(response)
}

pub(crate) async fn log_out(
    State(uaa): State<Uaa>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response> {
    let query = pairs(uri.query().unwrap_or("").as_bytes());
    let mut target = "/login".to_owned();
    if let (Some(wanted), Some(id)) = (text(&query, "redirect"), text(&query, "client_id")) {
        let client = uaa.client(id).await?;
        if client.is_some_and(|client| {
            client.redirect_uri.iter().any(|registered| covers(registered, wanted))
        }) {
            wanted.clone_into(&mut target);
        }
    }
    let mut response = redirect(&target);
    set_cookie(&mut response, &cookie(SESSION, "", &headers, 0));
    Ok(response)
}

pub(crate) async fn passcode(State(uaa): State<Uaa>, headers: HeaderMap) -> Result<Response> {
    let Some(session) = session(&uaa, &headers) else {
        return Ok(redirect("/login?redirect=%2Fpasscode"));
    };
    let passcode = uaa.make_passcode(&session.user).await?;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    if accept.contains("text/html") {
        return Ok(page(&format!(
            "<h1>Temporary Authentication Code</h1><p><code>{passcode}</code></p><p>It is good once, for five minutes.</p>"
        )));
    }
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(passcode)).into_response())
}

/// What a request for a code asks, checked.
struct Ask {
    client: Client,
    /// Where the answer goes.
    target: Url,
    state: Option<String>,
    details: CodeDetails,
}

/// With a token (as `cf ssh-code` has) or from a browser's session.
pub(crate) async fn authorize(
    State(uaa): State<Uaa>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response> {
    let query = pairs(uri.query().unwrap_or("").as_bytes());
    let (user, since, in_browser) = match authorization(&headers).trim() {
        "" => match session(&uaa, &headers) {
            Some(session) => (session.user, session.since, true),
            None => {
                let back = url::form_urlencoded::byte_serialize(uri.to_string().as_bytes())
                    .collect::<String>();
                return Ok(redirect(&format!("/login?redirect={back}")));
            }
        },
        bearer => {
            let claims = uaa.verify(bearer)?;
            let user = claims.user_id.clone().filter(|_| claims.has_scope("uaa.user"));
            let user = user.ok_or_else(|| Error::insufficient_scope(&["uaa.user"]))?;
            (user, claims.auth_time.unwrap_or(claims.iat), false)
        }
    };
    let ask = ask(&uaa, &query, &user, since).await?;
    if text(&query, "response_type") != Some("code") {
        return Ok(answer(&ask, &[("error", "unsupported_response_type")]));
    }
    if ask.details.scope.iter().all(|scope| ask.client.approves(scope)) {
        return give_code(&uaa, &user, ask).await;
    }
    if !in_browser {
        return Ok(answer(
            &ask,
            &[("error", "access_denied"), ("error_description", "User approval is required")],
        ));
    }
    Ok(approval_page(&ask, &uri, &headers))
}

/// The answer to the question of the approval page.
pub(crate) async fn approve(State(uaa): State<Uaa>, parameters: Parameters) -> Result<Response> {
    let Parameters { form, headers } = parameters;
    let session = session(&uaa, &headers)
        .ok_or_else(|| Error::unauthorized("The session has ended; log in again."))?;
    same_browser(&form, &headers)?;
    let ask = ask(&uaa, &form, &session.user, session.since).await?;
    if text(&form, "user_oauth_approval") != Some("true") {
        return Ok(answer(
            &ask,
            &[("error", "access_denied"), ("error_description", "User denied access")],
        ));
    }
    give_code(&uaa, &session.user, ask).await
}

async fn ask(uaa: &Uaa, query: &Form, user: &str, since: i64) -> Result<Ask> {
    let id = text(query, "client_id")
        .ok_or_else(|| Error::invalid_request("A client id must be provided"))?;
    let client = uaa.client(id).await?.filter(|client| client.may("authorization_code"));
    let client = client
        .ok_or_else(|| Error::invalid_client(format!("No client with requested id: {id}")))?;
    let wanted = text(query, "redirect_uri");
    let target = match (wanted, client.redirect_uri.as_slice()) {
        (None, [only]) => only.as_str(),
        (Some(wanted), registered)
            if registered.iter().any(|registered| covers(registered, wanted)) =>
        {
            wanted
        }
        _ => {
            return Err(Error::invalid_request(
                "Invalid redirect: it does not match one of the registered values.",
            ));
        }
    };
    let target = Url::parse(target)
        .map_err(|_| Error::invalid_request("Invalid redirect: it is no address."))?;
    if uaa.active_account(user).await?.is_none() {
        return Err(Error::invalid_token("The user no longer exists"));
    }
    let scope =
        user_scopes(&client.scope, &uaa.scopes_of(user).await?, requested(query).as_deref())?;
    let owned = |name: &str| text(query, name).map(str::to_owned);
    let method = owned("code_challenge_method");
    if method.as_deref().is_some_and(|method| method != "S256" && method != "plain") {
        return Err(Error::invalid_request("Unsupported code challenge method."));
    }
    let details = CodeDetails {
        scope,
        redirect_uri: wanted.map(str::to_owned),
        challenge: owned("code_challenge"),
        challenge_method: method,
        nonce: owned("nonce"),
        auth_time: since,
    };
    Ok(Ask { client, target, state: owned("state"), details })
}

async fn give_code(uaa: &Uaa, user: &str, ask: Ask) -> Result<Response> {
    let code = uaa.make_code(user, &ask.client.client_id, &ask.details).await?;
    Ok(answer(&ask, &[("code", &code)]))
}

fn answer(ask: &Ask, pairs: &[(&str, &str)]) -> Response {
    let mut target = ask.target.clone();
    target
        .query_pairs_mut()
        .extend_pairs(pairs)
        .extend_pairs(ask.state.iter().map(|state| ("state", state)));
    redirect(target.as_str())
}

fn approval_page(ask: &Ask, uri: &Uri, headers: &HeaderMap) -> Response {
    let csrf = token();
    let scopes: String =
        ask.details.scope.iter().map(|scope| format!("<li>{}</li>", escaped(scope))).collect();
    let query = escaped(uri.query().unwrap_or(""));
    let mut response = page(&format!(
        "<h1>{} asks to act for you</h1><ul>{scopes}</ul><form method=post action=\"/oauth/authorize?{query}\">\
         <input type=hidden name={CSRF} value={csrf}><button name=user_oauth_approval value=true>Allow</button> \
         <button name=user_oauth_approval value=false>Deny</button></form>",
        escaped(&ask.client.client_id),
    ));
    set_cookie(&mut response, &cookie(CSRF, &csrf, headers, 3_600));
    response
}

/// Whether a registered address stands for `wanted`: the same, or with `*` at the end of its path a longer path.
fn covers(registered: &str, wanted: &str) -> bool {
    if registered == wanted {
        return true;
    }
    let (Ok(pattern), Ok(address)) = (Url::parse(registered), Url::parse(wanted)) else {
        return false;
    };
    let Some(prefix) = pattern.path().strip_suffix("**").or(pattern.path().strip_suffix('*'))
    else {
        return false;
    };
    pattern.origin() == address.origin()
        && pattern.scheme() == address.scheme()
        && address.username().is_empty()
        && address.password().is_none()
        && address.fragment().is_none()
        && address.path().starts_with(prefix)
}

/// A place on this origin; everything else becomes the login page.
fn local(target: &str) -> &str {
    let plain = target.starts_with('/')
        && !target.starts_with("//")
        && !target.contains(['\\', '\r', '\n', '\t']);
    if plain { target } else { "/login" }
}

fn session(uaa: &Uaa, headers: &HeaderMap) -> Option<Session> {
    let session = uaa.0.tokens.open_signed(&read_cookie(headers, SESSION)?)?;
    let alive = session["kind"] == SESSION && session["until"].as_i64()? > uaa.now().as_secs();
    let (user, since) = (session["user"].as_str()?.to_owned(), session["iat"].as_i64()?);
    alive.then_some(Session { user, since })
}

/// A form must carry what the page that it was on put into the browser.
fn same_browser(form: &Form, headers: &HeaderMap) -> Result<()> {
    let shown = read_cookie(headers, CSRF).filter(|csrf| csrf.len() >= 32);
    match shown.is_some() && shown.as_deref() == text(form, CSRF) {
        true => Ok(()),
        false => Err(Error::new(
            StatusCode::FORBIDDEN,
            "invalid_csrf",
            "the form is too old; load the page again",
        )),
    }
}

fn token() -> String {
    rand::rng().sample_iter(rand::distr::Alphanumeric).take(40).map(char::from).collect()
}

fn read_cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

fn cookie(name: &str, value: &str, headers: &HeaderMap, seconds: i64) -> String {
    let secure = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

fn set_cookie(response: &mut Response, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

fn redirect(target: &str) -> Response {
    let target = HeaderValue::from_str(target).unwrap_or(HeaderValue::from_static("/login"));
    (
        StatusCode::FOUND,
        [(header::LOCATION, target), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))],
    )
        .into_response()
}

fn page(content: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>Log in</title>\
         <style>body{{font:16px system-ui;max-width:24rem;margin:4rem auto;padding:0 1rem}}label,input{{display:block;width:100%;\
         margin:.5rem 0;box-sizing:border-box}}button{{margin-top:1rem}}code{{font-size:1.2rem}}</style>{content}</html>"
    );
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
    let headers = [(header::CONTENT_SECURITY_POLICY, policy), (header::CACHE_CONTROL, "no-store")];
    (headers, Html(html)).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_goes_only_where_it_was_registered() {
        for (registered, wanted, good) in [
            ("https://a.example/cb", "https://a.example/cb", true),
            ("https://a.example/cb", "https://a.example/cb2", false),
            ("https://a.example/cb/**", "https://a.example/cb/x/y?z=1", true),
            ("https://a.example/**", "https://a.example.evil/cb", false),
            ("https://a.example/**", "https://a.example@evil/", false),
            ("https://a.example/**", "http://a.example/", false),
            ("https://a.example:8443/*", "https://a.example/", false),
            ("https://*.example/*", "https://b.example/", false),
        ] {
            assert_eq!(covers(registered, wanted), good, "{registered} {wanted}");
        }
    }

    #[test]
    fn after_login_one_stays_here() {
        for target in ["//evil", "https://evil", "/\\evil", "", "javascript:x", "/a\nb"] {
            assert_eq!(local(target), "/login", "{target}");
        }
        assert_eq!(local("/passcode?x=1"), "/passcode?x=1");
    }
}
