//! The variables that apps, their tasks and their staging see. Later ones win.

use diego::action::EnvVar;
use diego::desired_lrp::VolumeMountedFile;
use serde_json::{Map, Value, json};

use super::service_files;
use crate::logs::AppNames;

pub const LANG: (&str, &str) = ("LANG", "en_US.UTF-8");

/// What the variables are made from.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub names: AppNames,
    pub cf_api: String,
    pub uris: Vec<String>,
    /// What all apps get, for running or for staging.
    pub group: Value,
    /// What the user set for this app.
    pub own: Value,
    /// The value of `VCAP_SERVICES`.
    pub services: Value,
    /// Paths in place of `VCAP_SERVICES`, when the app asked for files.
    pub service_files: ServiceFiles,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceFiles {
    #[default]
    None,
    VcapServices,
    Bindings,
}

/// The limits that `VCAP_APPLICATION` tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub memory_mb: i64,
    pub disk_mb: Option<i64>,
    pub fds: Option<u64>,
}

/// A process that runs, as opposed to staging and tasks.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    pub process_guid: &'a str,
    pub process_type: &'a str,
    pub version: &'a str,
}

impl View {
    /// The object under `VCAP_APPLICATION`.
    pub fn vcap_application(&self, limits: Limits, running: Option<Running<'_>>) -> Value {
        let mut shown = Map::new();
        shown.insert("mem".to_owned(), limits.memory_mb.into());
        shown.extend(limits.disk_mb.map(|disk| ("disk".to_owned(), disk.into())));
        shown.extend(limits.fds.map(|fds| ("fds".to_owned(), fds.into())));
        let mut value = json!({
            "cf_api": self.cf_api,
            "limits": shown,
            "application_name": self.names.app_name,
            "application_uris": self.uris,
            "name": self.names.app_name,
            "space_name": self.names.space_name,
            "space_id": self.names.space_guid,
            "organization_id": self.names.org_guid,
            "organization_name": self.names.org_name,
            "uris": self.uris,
            "application_id": self.names.app_guid,
        });
        match running {
            Some(running) => {
                value["process_id"] = running.process_guid.into();
                value["process_type"] = running.process_type.into();
                value["version"] = running.version.into();
                value["application_version"] = running.version.into();
            }
            None => value["users"] = Value::Null,
        }
        value
    }

    /// The files that stand for `VCAP_SERVICES`. Bindings that cannot be files were told of when the app was started.
    pub fn mounted_files(&self) -> Vec<VolumeMountedFile> {
        service_files::files(self.service_files, &self.services).unwrap_or_default()
    }

    /// Everything but ports and what the cell adds. `between` lies over the user's and under the platform's.
    pub fn variables(
        &self,
        between: &[(&str, String)],
        limits: Limits,
        running: Option<Running<'_>>,
    ) -> Vec<EnvVar> {
        let mut merged = Merged::default();
        merged.object(&self.group);
        merged.object(&self.own);
        for (name, value) in between {
            merged.set(name, value.clone());
        }
        merged.set("VCAP_APPLICATION", self.vcap_application(limits, running).to_string());
        merged.set("MEMORY_LIMIT", format!("{}m", limits.memory_mb));
        match self.service_files {
            ServiceFiles::None => merged.set("VCAP_SERVICES", self.services.to_string()),
            ServiceFiles::VcapServices => merged.set(
                "VCAP_SERVICES_FILE_PATH",
                "/etc/cf-service-bindings/vcap_services".to_owned(),
            ),
            ServiceFiles::Bindings => {
                merged.set("SERVICE_BINDING_ROOT", "/etc/cf-service-bindings".to_owned())
            }
        }
        if let Some(url) = database_url(&self.services) {
            merged.set("DATABASE_URL", url);
        }
        merged.0
    }
}

/// In order of first mention, each name once.
#[derive(Default)]
struct Merged(Vec<EnvVar>);

impl Merged {
    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|variable| variable.name == name) {
            Some(variable) => variable.value = value,
            None => self.0.push(EnvVar { name: name.to_owned(), value }),
        }
    }

    fn object(&mut self, variables: &Value) {
        for (name, value) in crate::db::apps::as_texts(variables) {
            self.set(name, value);
        }
    }
}

/// The first bound address of a relational database, by the scheme that frameworks expect.
fn database_url(services: &Value) -> Option<String> {
    let bound =
        services.as_object()?.values().flat_map(|list| list.as_array().into_iter().flatten());
    bound.filter_map(|binding| binding.pointer("/credentials/uri")?.as_str()).find_map(|uri| {
        let (scheme, rest) = uri.split_once("://")?;
        let scheme = match scheme {
            "mysql" | "mysql2" => "mysql2",
            "postgres" | "postgresql" => "postgres",
            _ => return None,
        };
        Some(format!("{scheme}://{rest}"))
    })
}

/// The variables that say where to listen.
pub fn ports(ports: &[u16]) -> Vec<EnvVar> {
    let first = ports.first().copied().unwrap_or(crate::db::routing::DEFAULT_PORT).to_string();
    vec![
        EnvVar::new("PORT", first.clone()),
        EnvVar::new("VCAP_APP_PORT", first),
        EnvVar::new("VCAP_APP_HOST", "0.0.0.0"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ones_win_and_names_come_once() {
        let view = View {
            group: json!({ "A": "group", "B": "group" }),
            own: json!({ "A": "own" }),
            services: json!({ "user-provided": [{ "credentials": { "uri": "postgresql://u@h/d" } }] }),
            ..View::default()
        };
        let variables = view.variables(
            &[("CF_STACK", "s".to_owned())],
            Limits { memory_mb: 64, ..Limits::default() },
            None,
        );
        let text = |name: &str| {
            variables
                .iter()
                .filter(|v| v.name == name)
                .map(|v| v.value.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!((text("A"), text("B")), (vec!["own"], vec!["group"]));
        assert_eq!(
            (text("MEMORY_LIMIT"), text("DATABASE_URL")),
            (vec!["64m"], vec!["postgres://u@h/d"])
        );
    }
}
