//! User-provided service instances: credentials, drains and route services that no broker knows.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result, failed};
use crate::ui::say;

#[derive(clap::Args)]
struct Properties {
    #[arg(value_name = "SERVICE_INSTANCE")]
    name: String,
    /// URL to which logs for bound applications will be streamed
    #[arg(short = 'l', allow_hyphen_values = true)]
    syslog_drain_url: Option<String>,
    /// Credentials, provided inline or in a file, to be exposed in the VCAP_SERVICES environment variable for bound applications
    #[arg(short = 'p', allow_hyphen_values = true)]
    credentials: Option<String>,
    /// URL to which requests for bound routes will be forwarded. Scheme for this URL must be https
    #[arg(short = 'r', allow_hyphen_values = true)]
    route_service_url: Option<String>,
    /// User provided tags
    #[arg(short = 't')]
    tags: Option<String>,
}

impl Properties {
    /// What was given, as it is sent.
    fn body(&self, cx: &mut Context) -> Result<Map<String, Value>> {
        let credentials = match &self.credentials {
            None => None,
            Some(text) => Some(match credentials(&cx.ui.io.dir, text)? {
                Credentials::Known(object) => Value::Object(object),
                Credentials::Asked(names) => {
                    let mut object = Map::new();
                    for name in names {
                        let answer = cx.ui.password(&name)?;
                        object.insert(name, json!(answer));
                    }
                    Value::Object(object)
                }
            }),
        };
        let fields = [
            ("credentials", credentials),
            ("tags", self.tags.as_deref().map(|text| json!(list(text)))),
            ("syslog_drain_url", self.syslog_drain_url.as_ref().map(|url| json!(url))),
            ("route_service_url", self.route_service_url.as_ref().map(|url| json!(url))),
        ];
        Ok(fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
    }
}

#[derive(Debug, PartialEq)]
enum Credentials {
    Known(Map<String, Value>),
    /// Names whose values a person types in.
    Asked(Vec<String>),
}

/// Pure but for the file: JSON as it stands, JSON in a file, or names to ask for.
fn credentials(dir: &Path, text: &str) -> Result<Credentials> {
    if text.trim().is_empty() {
        return Ok(Credentials::Known(Map::new()));
    }
    if let Ok(Value::Object(object)) = serde_json::from_str(text) {
        return Ok(Credentials::Known(object));
    }
    let path = dir.join(text);
    if path.is_file() {
        let content = std::fs::read_to_string(&path)
            .map_err(|error| Error::Failed(format!("{}: {error}", path.display())))?;
        return match serde_json::from_str(&content) {
            Ok(Value::Object(object)) => Ok(Credentials::Known(object)),
            _ => failed(format!("The file contains invalid JSON: {text}")),
        };
    }
    Ok(Credentials::Asked(list(text)))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The ways to give credentials, for both commands.
macro_rules! usage {
    ($name:literal) => {
        concat!(
            "{cf} ",
            $name,
            " SERVICE_INSTANCE [-p CREDENTIALS] [-l SYSLOG_DRAIN_URL] [-r ROUTE_SERVICE_URL] [-t TAGS]\n\nPass comma separated credential parameter names to be asked for their values:\n{cf} ",
            $name,
            " SERVICE_INSTANCE -p \"comma, separated, parameter, names\"\n\nPass credential parameters as JSON, or the path to a file of JSON:\n{cf} ",
            $name,
            " SERVICE_INSTANCE -p '{\"key1\":\"value1\",\"key2\":\"value2\"}'\n{cf} ",
            $name,
            " SERVICE_INSTANCE -p PATH_TO_FILE"
        )
    };
}

/// `cf create-user-provided-service`
#[derive(clap::Args)]
pub struct CreateUserProvidedService {
    #[command(flatten)]
    properties: Properties,
}

impl Command for CreateUserProvidedService {
    const SPEC: &'static Spec = &Spec {
        name: "create-user-provided-service",
        alias: "cups",
        about: "Make a user-provided service instance available to CF apps",
        usage: usage!("create-user-provided-service"),
        examples: "{cf} create-user-provided-service my-db-mine -p \"username, password\"\n{cf} create-user-provided-service my-db-mine -p /path/to/credentials.json\n{cf} create-user-provided-service my-db-mine -t \"list, of, tags\"\n{cf} create-user-provided-service my-drain-service -l syslog://example.com\n{cf} create-user-provided-service my-route-service -r https://example.com",
        see_also: &["bind-service", "services"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let mut body = self.properties.body(cx)?;
        let (name, place) = (cx.ui.name(&self.properties.name), cx.place()?);
        say!(cx.ui, "Creating user provided service {name} in {place}...");
        body.insert("type".to_owned(), json!("user-provided"));
        body.insert("name".to_owned(), json!(self.properties.name));
        let space = json!({ "space": { "data": { "guid": cx.space().guid } } });
        body.insert("relationships".to_owned(), space);
        match cx.client.post("/v3/service_instances", Value::Object(body)).await {
            Err(error)
                if error.api_detail(422).is_some_and(|detail| detail.contains("is taken")) =>
            {
                say!(cx.ui, "Service instance {name} already exists");
            }
            done => drop(done?),
        }
        cx.ui.ok();
        Ok(())
    }
}

/// `cf update-user-provided-service`
#[derive(clap::Args)]
pub struct UpdateUserProvidedService {
    #[command(flatten)]
    properties: Properties,
}

impl Command for UpdateUserProvidedService {
    const SPEC: &'static Spec = &Spec {
        name: "update-user-provided-service",
        alias: "uups",
        about: "Update user-provided service instance",
        usage: usage!("update-user-provided-service"),
        examples: "{cf} update-user-provided-service my-db-mine -p '{\"username\":\"admin\", \"password\":\"pa55woRD\"}'\n{cf} update-user-provided-service my-db-mine -p /path/to/credentials.json\n{cf} update-user-provided-service my-drain-service -l syslog://example.com\n{cf} update-user-provided-service my-route-service -r https://example.com",
        see_also: &["rename-service", "services"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let body = self.properties.body(cx)?;
        let (name, place) = (cx.ui.name(&self.properties.name), cx.place()?);
        say!(cx.ui, "Updating user provided service {name} in {place}...");
        if body.is_empty() {
            say!(cx.ui, "No flags specified. No changes were made.");
            cx.ui.ok();
            return Ok(());
        }
        let instance = cx.client.service_instance(&self.properties.name, &cx.space().guid).await?;
        if instance.kind != "user-provided" {
            return failed(format!(
                "The service instance '{}' is not user-provided",
                self.properties.name
            ));
        }
        let path = format!("/v3/service_instances/{}", instance.guid);
        cx.client.patch(&path, Value::Object(body)).await?;
        cx.ui.ok();
        let cf = cx.cf();
        say!(
            cx.ui,
            "TIP: Use '{cf} restage' for any bound apps to ensure your env variable changes take effect"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_in_three_ways() {
        let dir = tempfile::tempdir().unwrap();
        let of = |text: &str| credentials(dir.path(), text);
        let known = |value: Value| Credentials::Known(value.as_object().unwrap().clone());
        assert_eq!(of(r#"{"a":1}"#).unwrap(), known(json!({ "a": 1 })));
        assert_eq!(of("").unwrap(), known(json!({})));
        let names = vec!["user".to_owned(), "password".to_owned()];
        assert_eq!(of("user, password").unwrap(), Credentials::Asked(names));
        std::fs::write(dir.path().join("good.json"), r#"{"b":2}"#).unwrap();
        std::fs::write(dir.path().join("bad.json"), "[").unwrap();
        assert_eq!(of("good.json").unwrap(), known(json!({ "b": 2 })));
        assert_eq!(
            of("bad.json").unwrap_err().to_string(),
            "The file contains invalid JSON: bad.json"
        );
    }
}
