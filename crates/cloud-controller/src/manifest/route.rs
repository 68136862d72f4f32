//! Routes as manifests write them: `host.domain/path`, `domain:port`, with or without a scheme.

use serde_json::{Map, Value};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestRoute {
    /// As it was written.
    pub text: String,
    /// Host and domain together.
    pub name: String,
    pub port: Option<i64>,
    pub path: String,
    pub protocol: Option<String>,
    pub options: Map<String, Value>,
}

impl ManifestRoute {
    /// `None` when it is no address.
    pub fn parse(text: &str) -> Option<ManifestRoute> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (name, port) = match authority.split_once(':') {
            Some((name, port)) => (name, Some(port.parse::<u16>().ok()?)),
            None => (authority, None),
        };
        let schemes: &[&str] = if port.is_some() { &["", "tcp"] } else { &["", "http", "https"] };
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '*');
        if name.is_empty() || !name.chars().all(good) || !schemes.contains(&scheme) {
            return None;
        }
        let path = if path == "/" { "" } else { path };
        Some(ManifestRoute {
            text: text.to_owned(),
            name: name.to_ascii_lowercase(),
            port: port.map(i64::from),
            path: path.to_owned(),
            ..ManifestRoute::default()
        })
    }

    /// Host and domain, in the order to try: the whole name as a domain, then its first label as host.
    pub fn candidates(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        if !self.name.starts_with('*') {
            pairs.push((String::new(), self.name.clone()));
        }
        if let Some((host, domain)) = self.name.split_once('.') {
            pairs.push((host.to_owned(), domain.to_owned()));
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_apart() {
        let route = ManifestRoute::parse("https://App.example.com/v1/x").unwrap();
        assert_eq!(
            (route.name.as_str(), route.path.as_str(), route.port),
            ("app.example.com", "/v1/x", None)
        );
        assert_eq!(
            route.candidates(),
            [
                (String::new(), "app.example.com".to_owned()),
                ("app".to_owned(), "example.com".to_owned())
            ]
        );
        assert_eq!(ManifestRoute::parse("tcp.example.com:1234").unwrap().port, Some(1234));
        assert_eq!(ManifestRoute::parse("*.example.com").unwrap().candidates().len(), 1);
        for wrong in ["", "ftp://a.b", "a b.com", "a.b:99999", "http://"] {
            assert_eq!(ManifestRoute::parse(wrong), None, "{wrong}");
        }
    }
}
