//! Which route is meant: its host, path and port.

use serde_json::{Map, Value, json};

use crate::command::Context;
use crate::error::{Error, Result};
use crate::resources::{Domain, Route};

/// The flags that tell one HTTP route of a domain from another.
#[derive(Clone, Default, clap::Args)]
pub struct Address {
    /// Hostname for the HTTP route (required for shared domains)
    #[arg(long, short = 'n')]
    hostname: Option<String>,
    /// Path for the HTTP route
    #[arg(long)]
    path: Option<String>,
}

impl Address {
    pub fn host(&self) -> &str {
        self.hostname.as_deref().unwrap_or_default()
    }

    /// A path begins with a slash, also when a person leaves it out.
    pub fn path(&self) -> String {
        match self.path.as_deref() {
            None | Some("") => String::new(),
            Some(path) => format!("/{}", path.trim_start_matches('/')),
        }
    }

    /// As people write it, before the server has a say.
    pub fn url(&self, domain: &str) -> String {
        let host = if self.host().is_empty() { String::new() } else { format!("{}.", self.host()) };
        format!("{host}{domain}{}", self.path())
    }

    /// The route, which must be there.
    pub async fn existing(&self, cx: &Context<'_>, domain: &Domain) -> Result<Route> {
        Which { address: self.clone(), port: None }.existing(cx, domain).await
    }
}

/// The flags that tell one route of a domain from another.
#[derive(Clone, Default, clap::Args)]
pub struct Which {
    #[command(flatten)]
    pub address: Address,
    /// Port for the TCP route (default: random port)
    #[arg(long)]
    port: Option<u16>,
}

impl Which {
    fn host(&self) -> &str {
        self.address.host()
    }

    fn path(&self) -> String {
        self.address.path()
    }

    /// A port of 0 is none, as for those who do not name one.
    pub fn port(&self) -> Option<u16> {
        self.port.filter(|port| *port != 0)
    }

    pub fn url(&self, domain: &str) -> String {
        let port = self.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", self.address.url(domain))
    }

    pub async fn find(&self, cx: &Context<'_>, domain: &Domain) -> Result<Option<Route>> {
        cx.client.route(domain, self.host(), &self.path(), self.port()).await
    }

    /// The route, which must be there.
    pub async fn existing(&self, cx: &Context<'_>, domain: &Domain) -> Result<Route> {
        let found = self.find(cx, domain).await?;
        found.ok_or_else(|| Error::Missing(self.missing(&domain.name)))
    }

    /// Said when there is no such route.
    pub fn missing(&self, domain: &str) -> String {
        match self.port() {
            Some(port) => format!("Route with domain '{domain}' and port {port} not found."),
            None => {
                let path = if self.path().is_empty() { "/".to_owned() } else { self.path() };
                format!(
                    "Route with host '{}', domain '{domain}', and path '{path}' not found.",
                    self.host()
                )
            }
        }
    }

    pub async fn create(
        &self,
        cx: &Context<'_>,
        domain: &Domain,
        options: &[String],
    ) -> Result<Route> {
        let mut body = json!({ "relationships": {
            "space": { "data": { "guid": cx.space().guid } },
            "domain": { "data": { "guid": domain.guid } },
        } });
        if !self.host().is_empty() {
            body["host"] = json!(self.host());
        }
        if !self.path().is_empty() {
            body["path"] = json!(self.path());
        }
        if let Some(port) = self.port() {
            body["port"] = json!(port);
        }
        if !options.is_empty() {
            body["options"] = Value::Object(route_options(options)?);
        }
        cx.client.post("/v3/routes", body).await?.json()
    }
}

/// Pure: `key=value` texts.
pub fn route_options(texts: &[String]) -> Result<Map<String, Value>> {
    let pair = |text: &String| {
        let wrong = || {
            Error::Failed(format!(
                "Route option '{text}' was specified incorrectly. Please use key-value pair format key=value."
            ))
        };
        text.split_once('=').map(|(key, value)| (key.to_owned(), json!(value))).ok_or_else(wrong)
    };
    texts.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_put_together() {
        let which = |host: Option<&str>, path: Option<&str>, port| Which {
            address: Address { hostname: host.map(str::to_owned), path: path.map(str::to_owned) },
            port,
        };
        assert_eq!(which(Some("app"), Some("v2"), None).url("example.com"), "app.example.com/v2");
        assert_eq!(which(None, None, Some(1024)).url("tcp.example.com"), "tcp.example.com:1024");
        assert_eq!(
            which(None, Some("/a"), None).missing("d"),
            "Route with host '', domain 'd', and path '/a' not found."
        );
    }

    #[test]
    fn options_are_pairs() {
        assert_eq!(route_options(&["a=b=c".to_owned()]).unwrap()["a"], "b=c");
        assert!(route_options(&["a".to_owned()]).is_err());
    }
}
