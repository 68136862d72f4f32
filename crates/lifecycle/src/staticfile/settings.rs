//! The `Staticfile` and `Staticfile.auth` of an app.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_norway::{Mapping, Value};

use super::auth::Users;

/// Everything that decides an answer.
#[derive(Debug, Default)]
pub struct Site {
    pub root: PathBuf,
    pub dot_files: bool,
    pub directory: bool,
    pub pushstate: bool,
    pub force_https: bool,
    /// The value of `Strict-Transport-Security`.
    pub hsts: Option<String>,
    /// Pages for failures, by status.
    pub status_pages: BTreeMap<u16, String>,
    pub users: Option<Users>,
}

#[derive(Debug, Default, Deserialize)]
struct Staticfile {
    #[serde(default)]
    host_dot_files: Value,
    #[serde(default)]
    directory: Value,
    #[serde(default)]
    pushstate: Value,
    #[serde(default)]
    http_strict_transport_security: Value,
    #[serde(default)]
    http_strict_transport_security_include_subdomains: Value,
    #[serde(default)]
    http_strict_transport_security_preload: Value,
    #[serde(default)]
    force_https: Value,
    #[serde(default)]
    status_codes: Option<Mapping>,
}

/// As the buildpack has always read it: `enabled` or `true`.
fn enabled(value: &Value) -> bool {
    matches!(value, Value::Bool(true))
        || matches!(value, Value::String(text) if text == "enabled" || text == "true")
}

/// Listings are wanted by any word: the documented one is `visible`.
fn named(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && value.as_str() != Some("")
}

impl Site {
    /// Reads the settings of the app in `folder`, whose files lie in `public`.
    pub fn read(folder: &Path) -> Result<Site> {
        let text = optional(&folder.join("Staticfile"))?.unwrap_or_default();
        let auth = optional(&folder.join("Staticfile.auth"))?;
        let site = Site::parse(&text, auth.as_deref())?;
        Ok(Site { root: folder.join("public"), ..site })
    }

    fn parse(text: &str, auth: Option<&str>) -> Result<Site> {
        let file: Option<Staticfile> =
            serde_norway::from_str(text).context("reading Staticfile")?;
        let file = file.unwrap_or_default();
        let hsts = enabled(&file.http_strict_transport_security).then(|| {
            let mut value = "max-age=31536000".to_owned();
            if enabled(&file.http_strict_transport_security_include_subdomains) {
                value.push_str("; includeSubDomains");
            }
            if enabled(&file.http_strict_transport_security_preload) {
                value.push_str("; preload");
            }
            value
        });
        Ok(Site {
            root: PathBuf::new(),
            dot_files: enabled(&file.host_dot_files),
            directory: named(&file.directory),
            pushstate: enabled(&file.pushstate),
            force_https: enabled(&file.force_https),
            hsts,
            status_pages: status_pages(file.status_codes.unwrap_or_default()),
            users: auth.map(Users::parse).transpose().context("reading Staticfile.auth")?,
        })
    }
}

fn optional(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Keys are one status, several in one text, `4xx` or `5xx`. A status of its own wins over its class.
fn status_pages(codes: Mapping) -> BTreeMap<u16, String> {
    let mut pages = BTreeMap::new();
    let texts = codes.into_iter().filter_map(|(key, page)| match (key, page) {
        (Value::String(text), Value::String(page)) => Some((text, page)),
        (Value::Number(number), Value::String(page)) => Some((number.to_string(), page)),
        _ => None,
    });
    let (classes, single): (Vec<_>, Vec<_>) = texts.partition(|(key, _)| key.contains("xx"));
    for (key, page) in classes {
        let class = if key.contains('5') { 500..512 } else { 400..452 };
        pages.extend(class.map(|status| (status, page.clone())));
    }
    for (key, page) in single {
        pages.extend(
            key.split([' ', ',']).filter_map(|status| Some((status.parse().ok()?, page.clone()))),
        );
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_as_documented() {
        let site = Site::parse(
            "root: dist\npushstate: enabled\ndirectory: visible\nhost_dot_files: true\nforce_https: no\nhttp_strict_transport_security: true\nhttp_strict_transport_security_preload: true\nssi: enabled\nlocation_include: x.conf\nstatus_codes:\n  404: /404.html\n  5xx: /oops.html\n  403 405: /no.html\n",
            None,
        )
        .unwrap();
        assert!(site.pushstate && site.directory && site.dot_files && !site.force_https);
        assert_eq!(site.hsts.as_deref(), Some("max-age=31536000; preload"));
        let pages: Vec<_> =
            [404, 503, 403, 405, 401].map(|status| site.status_pages.get(&status)).into();
        let named = |text: &str| Some(text.to_owned());
        let want =
            [named("/404.html"), named("/oops.html"), named("/no.html"), named("/no.html"), None];
        assert_eq!(pages.into_iter().map(Option::<&String>::cloned).collect::<Vec<_>>(), want);
    }

    #[test]
    fn nothing_is_on_by_itself() {
        for text in ["", "root: public", "---\n"] {
            let site = Site::parse(text, None).unwrap();
            assert!(
                !(site.pushstate
                    || site.directory
                    || site.dot_files
                    || site.force_https
                    || site.hsts.is_some())
            );
        }
        assert!(Site::parse("[", None).is_err());
    }
}
