//! From a request to its answer, rule by rule.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode, Uri};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::file::Body;
use super::request::{Wanted, first, is_fresh, range, relative, takes_gzip, text};
use super::settings::Site;

const INDEXES: [&str; 3] = ["index.html", "index.htm", "Default.htm"];
/// Smaller texts gain nothing from compression, bigger ones would take too much memory at once.
const COMPRESSED_BYTES: std::ops::RangeInclusive<u64> = 1100..=1 << 20;
/// Longer listings are cut, and say so.
const LISTED: usize = 10_000;
const IN_PATH: AsciiSet =
    CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'%').add(b'\\');

pub fn answer(site: &Site, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response<Body> {
    let mut response = match find(site, method, uri, headers) {
        Ok(response) => response,
        Err(status) => failure(site, status, headers),
    };
    if let Some(hsts) = &site.hsts {
        set(&mut response, header::STRICT_TRANSPORT_SECURITY, hsts);
    }
    if method == Method::HEAD {
        let length = hyper::body::Body::size_hint(response.body()).exact().unwrap_or_default();
        set(&mut response, header::CONTENT_LENGTH, &length.to_string());
        *response.body_mut() = Body::empty();
    }
    response
}

type Answer = Result<Response<Body>, StatusCode>;

fn find(site: &Site, method: &Method, uri: &Uri, headers: &HeaderMap) -> Answer {
    if site.force_https && first(headers, "x-forwarded-proto") != "https" {
        return Ok(to_https(uri, headers));
    }
    let relative = relative(uri.path(), site.dot_files).ok_or(StatusCode::NOT_FOUND)?;
    if let Some(users) = &site.users
        && !users.admit(text(headers, header::AUTHORIZATION))
    {
        return Err(StatusCode::UNAUTHORIZED);
    }
    if method != Method::GET && method != Method::HEAD {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let path = site.root.join(&relative);
    match fs::metadata(&path) {
        Ok(facts) if facts.is_dir() => folder(site, &path, uri, headers),
        Ok(facts) if facts.is_file() && !uri.path().ends_with('/') => file(&path, &facts, headers),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(StatusCode::FORBIDDEN),
        _ if site.pushstate => folder(site, &site.root, &Uri::from_static("/"), headers),
        _ => Err(StatusCode::NOT_FOUND),
    }
}

fn folder(site: &Site, path: &Path, uri: &Uri, headers: &HeaderMap) -> Answer {
    if !uri.path().ends_with('/') {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        // A path of two slashes would name another host.
        let own = uri.path().trim_start_matches('/');
        let location =
            format!("{}/{own}/{query}", first(headers, "x-forwarded-prefix").trim_end_matches('/'));
        return Ok(redirect(&location));
    }
    for name in INDEXES {
        let index = path.join(name);
        if let Ok(facts) = fs::metadata(&index)
            && facts.is_file()
        {
            return file(&index, &facts, headers);
        }
    }
    if site.directory { listing(site, path, uri) } else { Err(StatusCode::FORBIDDEN) }
}

fn file(path: &Path, facts: &Metadata, headers: &HeaderMap) -> Answer {
    let denied = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        _ => StatusCode::NOT_FOUND,
    };
    let kind = content_type(path);
    let compressible = is_text(&kind);
    let gzip = takes_gzip(headers) && !headers.contains_key(header::RANGE);
    let ready = PathBuf::from(format!("{}.gz", path.display()));
    if gzip
        && let Ok(facts) = fs::metadata(&ready)
        && facts.is_file()
    {
        let file = File::open(&ready).map_err(denied)?;
        let mut response = whole(file, &facts, headers, &kind)?;
        encoded(&mut response);
        return Ok(response);
    }
    let mut file = File::open(path).map_err(denied)?;
    if gzip && compressible && COMPRESSED_BYTES.contains(&facts.len()) {
        return compressed(&mut file, facts, headers, &kind);
    }
    let (size, modified) = (facts.len(), modified(facts));
    let mut response = match range(headers, size, &tag(facts, ""), modified) {
        Wanted::All => whole(file, facts, headers, &kind)?,
        Wanted::Unsatisfiable => {
            let mut response = page(StatusCode::RANGE_NOT_SATISFIABLE);
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
            return Ok(response);
        }
        Wanted::Part(start, end) => {
            file.seek(SeekFrom::Start(start)).map_err(denied)?;
            let mut response =
                described(Body::File { file, left: end - start }, &kind, &tag(facts, ""), modified);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(&mut response, header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
            response
        }
    };
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    if compressible {
        set(&mut response, header::VARY, "Accept-Encoding");
    }
    Ok(response)
}

fn whole(file: File, facts: &Metadata, headers: &HeaderMap, kind: &str) -> Answer {
    let (tag, modified) = (tag(facts, ""), modified(facts));
    let body = match is_fresh(headers, &tag, modified) {
        true => return Ok(unchanged(kind, &tag, modified)),
        false => Body::File { file, left: facts.len() },
    };
    Ok(described(body, kind, &tag, modified))
}

fn compressed(file: &mut File, facts: &Metadata, headers: &HeaderMap, kind: &str) -> Answer {
    let (tag, modified) = (tag(facts, "z"), modified(facts));
    if is_fresh(headers, &tag, modified) {
        return Ok(unchanged(kind, &tag, modified));
    }
    let mut plain = Vec::new();
    let limit = *COMPRESSED_BYTES.end();
    let packed = file.take(limit).read_to_end(&mut plain).and_then(|_| {
        let mut gzip = GzEncoder::new(Vec::with_capacity(plain.len() / 3), Compression::new(6));
        gzip.write_all(&plain)?;
        gzip.finish()
    });
    let packed = packed.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let mut response = described(Body::Bytes(packed.into()), kind, &tag, modified);
    encoded(&mut response);
    Ok(response)
}

fn encoded(response: &mut Response<Body>) {
    set(response, header::CONTENT_ENCODING, "gzip");
    set(response, header::VARY, "Accept-Encoding");
}

fn described(body: Body, kind: &str, tag: &str, modified: SystemTime) -> Response<Body> {
    let mut response = Response::new(body);
    set(&mut response, header::CONTENT_TYPE, kind);
    set(&mut response, header::ETAG, tag);
    set(&mut response, header::LAST_MODIFIED, &httpdate::fmt_http_date(modified));
    response
}

fn unchanged(kind: &str, tag: &str, modified: SystemTime) -> Response<Body> {
    let mut response = described(Body::empty(), kind, tag, modified);
    response.headers_mut().remove(header::CONTENT_TYPE);
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// Archives may tell no time, and unpackers then write their zero. Such a file is as old as this server, lest a client
/// keep the page of an earlier droplet for ever.
fn modified(facts: &Metadata) -> SystemTime {
    /// 1980-01-02, a day after the zero of zip.
    const OLDEST: Duration = Duration::from_secs(315_619_200);
    let told = facts.modified().ok().filter(|told| *told >= SystemTime::UNIX_EPOCH + OLDEST);
    told.unwrap_or_else(super::started)
}

/// A file that changed has another tag, and so has its compressed form.
fn tag(facts: &Metadata, form: &str) -> String {
    let since = modified(facts).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("\"{:x}-{:x}{form}\"", since.as_nanos(), facts.len())
}

fn content_type(path: &Path) -> String {
    let guess = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
    let is_plain_text = guess.starts_with("text/")
        || matches!(guess, "application/javascript" | "application/json");
    if is_plain_text { format!("{guess}; charset=utf-8") } else { guess.to_owned() }
}

fn is_text(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or(kind);
    let others =
        ["application/javascript", "application/json", "application/xml", "application/wasm"];
    kind.starts_with("text/")
        || others.contains(&kind)
        || kind.ends_with("+xml")
        || kind.ends_with("+json")
}

fn to_https(uri: &Uri, headers: &HeaderMap) -> Response<Body> {
    let forwarded = first(headers, "x-forwarded-host");
    let host = if forwarded.is_empty() { text(headers, header::HOST) } else { forwarded };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    redirect(&format!("https://{host}{}{path}", first(headers, "x-forwarded-prefix")))
}

fn redirect(location: &str) -> Response<Body> {
    let mut response = page(StatusCode::MOVED_PERMANENTLY);
    set(&mut response, header::LOCATION, location);
    response
}

/// The app's own page for this status, if it has one.
fn failure(site: &Site, status: StatusCode, headers: &HeaderMap) -> Response<Body> {
    let own = site.status_pages.get(&status.as_u16()).and_then(|path| {
        let path = site.root.join(relative(path, true)?);
        let facts = fs::metadata(&path).ok().filter(Metadata::is_file)?;
        let mut plain = HeaderMap::new();
        if let Some(encodings) = headers.get(header::ACCEPT_ENCODING) {
            plain.insert(header::ACCEPT_ENCODING, encodings.clone());
        }
        file(&path, &facts, &plain).ok()
    });
    let mut response = own.unwrap_or_else(|| page(status));
    *response.status_mut() = status;
    match status {
        StatusCode::UNAUTHORIZED => {
            set(&mut response, header::WWW_AUTHENTICATE, "Basic realm=\"Restricted\"")
        }
        StatusCode::METHOD_NOT_ALLOWED => set(&mut response, header::ALLOW, "GET, HEAD"),
        _ => {}
    }
    response
}

fn page(status: StatusCode) -> Response<Body> {
    let text = format!("<!doctype html><title>{status}</title><h1>{status}</h1>\n");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "text/html; charset=utf-8");
    response
}

fn listing(site: &Site, path: &Path, uri: &Uri) -> Answer {
    let entries = fs::read_dir(path).map_err(|_| StatusCode::FORBIDDEN)?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let slash = if entry.path().is_dir() { "/" } else { "" };
            Some(format!("{}{slash}", entry.file_name().into_string().ok()?))
        })
        .filter(|name| site.dot_files || !name.starts_with('.'))
        .take(LISTED + 1)
        .collect();
    let cut = if names.len() > LISTED { "<p>…and more\n" } else { "" };
    names.truncate(LISTED);
    names.sort();
    let title = escaped(&percent_encoding::percent_decode_str(uri.path()).decode_utf8_lossy());
    let mut text =
        format!("<!doctype html><title>Index of {title}</title><h1>Index of {title}</h1><ul>\n");
    if path != site.root {
        text.push_str("<li><a href=\"../\">../</a>\n");
    }
    for name in names {
        // `./` keeps a colon in the name from being read as a scheme.
        let link = utf8_percent_encode(&name, &IN_PATH);
        text.push_str(&format!("<li><a href=\"./{link}\">{}</a>\n", escaped(&name)));
    }
    text.push_str("</ul>\n");
    text.push_str(cut);
    let mut response = Response::new(Body::from(text));
    set(&mut response, header::CONTENT_TYPE, "text/html; charset=utf-8");
    Ok(response)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Values come from files and requests too; what cannot be a header is left out.
fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_content() {
        let kinds = ["a.html", "a.js", "a.css", "a.png", "a.json", "a.svg", "noext"]
            .map(|name| content_type(Path::new(name)));
        assert_eq!(kinds[0], "text/html; charset=utf-8");
        assert!(kinds[1].contains("javascript") && is_text(&kinds[1]));
        assert_eq!(kinds[3], "image/png");
        assert!(is_text(&kinds[4]) && is_text(&kinds[5]) && !is_text(&kinds[3]));
        assert_eq!(kinds[6], "application/octet-stream");
    }

    #[test]
    fn names_in_listings_cannot_be_markup() {
        assert_eq!(escaped("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
