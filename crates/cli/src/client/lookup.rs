//! Finding things by name, with the sentence that says when there is none.

use serde::de::DeserializeOwned;

use super::{Client, filter_value};
use crate::error::{Error, Result};
use crate::resources::{App, Domain, Named, Route, SecurityGroup, ServiceInstance, Stack};

impl Client {
    pub async fn org(&self, name: &str) -> Result<Named> {
        self.only("/v3/organizations", &[("names", &filter_value(name))], || {
            format!("Organization '{name}' not found.")
        })
        .await
    }

    pub async fn space(&self, name: &str, org: &str) -> Result<Named> {
        let query = [("names", filter_value(name)), ("organization_guids", org.to_owned())];
        self.only("/v3/spaces", &query, || format!("Space '{name}' not found.")).await
    }

    pub async fn app(&self, name: &str, space: &str) -> Result<App> {
        let query = [("names", filter_value(name)), ("space_guids", space.to_owned())];
        self.only("/v3/apps", &query, || format!("App '{name}' not found.")).await
    }

    pub async fn domain(&self, name: &str) -> Result<Domain> {
        self.only("/v3/domains", &[("names", &filter_value(name))], || {
            format!("Domain '{name}' not found.")
        })
        .await
    }

    /// The route with exactly this host, path and port.
    pub async fn route(
        &self,
        domain: &Domain,
        host: &str,
        path: &str,
        port: Option<u16>,
    ) -> Result<Option<Route>> {
        // Without a port no TCP route is meant.
        let port = port.unwrap_or(0).to_string();
        let mut query = vec![("domain_guids", domain.guid.as_str())];
        if domain.is_tcp() {
            query.push(("ports", &port));
        } else {
            query.extend([("hosts", host), ("paths", path)]);
        }
        Ok(self.list::<Route>("/v3/routes", &query).await?.resources.into_iter().next())
    }

    pub async fn stack(&self, name: &str) -> Result<Stack> {
        self.only("/v3/stacks", &[("names", &filter_value(name))], || {
            format!("Stack '{name}' not found")
        })
        .await
    }

    pub async fn security_group(&self, name: &str) -> Result<SecurityGroup> {
        self.only("/v3/security_groups", &[("names", &filter_value(name))], || {
            format!("Security group '{name}' not found.")
        })
        .await
    }

    pub async fn isolation_segment(&self, name: &str) -> Result<Named> {
        self.only("/v3/isolation_segments", &[("names", &filter_value(name))], || {
            format!("Isolation segment '{name}' not found.")
        })
        .await
    }

    pub async fn service_instance(&self, name: &str, space: &str) -> Result<ServiceInstance> {
        let query = [("names", filter_value(name)), ("space_guids", space.to_owned())];
        self.only("/v3/service_instances", &query, || {
            format!("Service instance '{name}' not found")
        })
        .await
    }

    /// The first of a list, or the sentence that says there is none.
    pub async fn only<T: DeserializeOwned, V: AsRef<str>>(
        &self,
        path: &str,
        query: &[(&str, V)],
        missing: impl Fn() -> String,
    ) -> Result<T> {
        let query: Vec<(&str, &str)> =
            query.iter().map(|(name, value)| (*name, value.as_ref())).collect();
        match self.list(path, &query).await?.resources.into_iter().next() {
            Some(found) => Ok(found),
            None => Err(Error::Missing(missing())),
        }
    }
}
