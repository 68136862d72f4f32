//! Service instances bound to apps, and to routes.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::client::Body;
use crate::command::{Command, Context, Needs, Spec};
use crate::commands::routes::which::Address;
use crate::error::{Error, Result};
use crate::resources::{Binding, Route};
use crate::ui::say;

const BINDINGS: &str = "/v3/service_credential_bindings";
const ROUTE_BINDINGS: &str = "/v3/service_route_bindings";

/// Parameters for a broker: JSON as it stands, or in a file.
fn parameters(cx: &Context, text: Option<&str>) -> Result<Option<Map<String, Value>>> {
    let Some(text) = text else { return Ok(None) };
    let file = std::fs::read_to_string(cx.ui.io.dir.join(text));
    match serde_json::from_str(file.as_deref().unwrap_or(text)) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        _ => Err(Error::Usage(
            "Invalid configuration provided for -c flag. Please provide a valid JSON object or path to a file containing a valid JSON object.".to_owned(),
        )),
    }
}

#[derive(clap::Args)]
struct AppAndService {
    #[arg(value_name = "APP_NAME")]
    app: String,
    #[arg(value_name = "SERVICE_INSTANCE")]
    service: String,
}

fn strategy(text: &str) -> std::result::Result<String, String> {
    match text.to_lowercase().as_str() {
        known @ ("single" | "multiple") => Ok(known.to_owned()),
        _ => Err("STRATEGY must be \"single\" or \"multiple\"".to_owned()),
    }
}

/// `cf bind-service`
#[derive(clap::Args)]
pub struct BindService {
    #[command(flatten)]
    of: AppAndService,
    /// Name to expose service instance to app process with (Default: service instance name)
    #[arg(long)]
    binding_name: Option<String>,
    /// Valid JSON object containing service-specific configuration parameters, provided either in-line or in a file. For a list of supported configuration parameters, see documentation for the particular service offering.
    #[arg(short = 'c')]
    parameters: Option<String>,
    /// Service binding strategy. Valid values are 'single' (default) and 'multiple'.
    #[arg(long, value_parser = strategy)]
    strategy: Option<String>,
    /// Wait for the operation to complete
    #[arg(long, short = 'w')]
    wait: bool,
}

impl Command for BindService {
    const SPEC: &'static Spec = &Spec {
        name: "bind-service",
        alias: "bs",
        about: "Bind a service instance to an app",
        usage: "{cf} bind-service APP_NAME SERVICE_INSTANCE [-c PARAMETERS_AS_JSON] [--binding-name BINDING_NAME]\n\nOptionally provide service-specific configuration parameters as a JSON object, in-line or in a file:\n{cf} bind-service APP_NAME SERVICE_INSTANCE -c '{\"name\":\"value\",\"name\":\"value\"}'\n{cf} bind-service APP_NAME SERVICE_INSTANCE -c PATH_TO_FILE\n\nOptionally provide a binding name for the association between an app and a service instance:\n{cf} bind-service APP_NAME SERVICE_INSTANCE --binding-name BINDING_NAME\n\nOptionally allow several bindings between the same app and service instance, to rotate credentials:\n{cf} bind-service APP_NAME SERVICE_INSTANCE --strategy multiple",
        examples: "{cf} bind-service myapp mydb -c '{\"permissions\":\"read-only\"}'\n{cf} bind-service myapp mydb -c ~/workspace/tmp/instance_config.json --binding-name BINDING_NAME",
        see_also: &["services"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let AppAndService { app: app_name, service: service_name } = self.of;
        let parameters = parameters(cx, self.parameters.as_deref())?;
        let (service, app, place) = (cx.ui.name(&service_name), cx.ui.name(&app_name), cx.place()?);
        say!(cx.ui, "Binding service instance {service} to app {app} in {place}...");
        let space = cx.space().guid;
        let instance = cx.client.service_instance(&service_name, &space).await?;
        let app = cx.client.app(&app_name, &space).await?;
        let mut body = json!({ "type": "app", "relationships": {
            "service_instance": { "data": { "guid": instance.guid } },
            "app": { "data": { "guid": app.guid } },
        } });
        let more = [
            ("name", self.binding_name.map(Value::String)),
            ("strategy", self.strategy.map(Value::String)),
            ("parameters", parameters.map(Value::Object)),
        ];
        for (key, value) in more {
            if let Some(value) = value {
                body[key] = value;
            }
        }
        let reply = match cx.client.post(BINDINGS, body).await {
            Err(error) if is_bound_already(&error) => {
                say!(cx.ui, "App {app_name} is already bound to service instance {service_name}.");
                cx.ui.ok();
                return Ok(());
            }
            reply => reply?,
        };
        let done = cx.client.settle(&reply, self.wait).await?;
        cx.ui.ok();
        let cf = cx.cf();
        if done {
            say!(
                cx.ui,
                "TIP: Use '{cf} restage {app_name}' to ensure your env variable changes take effect"
            );
        } else {
            say!(
                cx.ui,
                "Binding in progress. Use '{cf} service {service_name}' to check operation status.\n"
            );
            say!(
                cx.ui,
                "TIP: Once this operation succeeds, use '{cf} restage {app_name}' to ensure your env variable changes take effect"
            );
        }
        Ok(())
    }
}

fn is_bound_already(error: &Error) -> bool {
    error.api_detail(422).is_some_and(|detail| detail.contains("already bound"))
}

/// `cf unbind-service`
#[derive(clap::Args)]
pub struct UnbindService {
    #[command(flatten)]
    of: AppAndService,
    /// Only delete the service binding with the specified GUID
    #[arg(long)]
    guid: Option<String>,
    /// Wait for the operation to complete
    #[arg(long, short = 'w')]
    wait: bool,
}

impl Command for UnbindService {
    const SPEC: &'static Spec = &Spec {
        name: "unbind-service",
        alias: "us",
        about: "Unbind a service instance from an app",
        usage: "{cf} unbind-service APP_NAME SERVICE_INSTANCE",
        see_also: &["apps", "delete-service", "services"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let AppAndService { app: app_name, service: service_name } = self.of;
        let (app, service, place) = (cx.ui.name(&app_name), cx.ui.name(&service_name), cx.place()?);
        say!(cx.ui, "Unbinding app {app} from service {service} in {place}...");
        let space = cx.space().guid;
        let instance = cx.client.service_instance(&service_name, &space).await?;
        let app = cx.client.app(&app_name, &space).await?;
        let query = [
            ("type", "app"),
            ("service_instance_guids", instance.guid.as_str()),
            ("app_guids", &app.guid),
        ];
        let mut bindings = cx.client.list::<Binding>(BINDINGS, &query).await?.resources;
        let mut missing = format!("Binding between {service_name} and {app_name} does not exist");
        if let Some(guid) = self.guid.as_ref().filter(|_| !bindings.is_empty()) {
            bindings.retain(|binding| binding.guid == *guid);
            missing = format!("Service binding with GUID {guid} does not exist");
        }
        if bindings.is_empty() {
            say!(cx.ui, "{missing}");
            cx.ui.ok();
            return Ok(());
        }
        for binding in bindings {
            say!(cx.ui, "Deleting service binding {}...", binding.guid);
            let path = format!("{BINDINGS}/{}", binding.guid);
            let reply = cx.client.send(Method::DELETE, &path, &[], Body::None).await?;
            let done = cx.client.settle(&reply, self.wait).await?;
            cx.ui.ok();
            if !done {
                let cf = cx.cf();
                say!(
                    cx.ui,
                    "Unbinding in progress. Use '{cf} service {service_name}' to check operation status."
                );
            }
        }
        Ok(())
    }
}

#[derive(clap::Args)]
struct RouteAndService {
    #[arg(value_name = "DOMAIN")]
    domain: String,
    #[arg(value_name = "SERVICE_INSTANCE")]
    service: String,
    #[command(flatten)]
    address: Address,
    /// Wait for the operation to complete
    #[arg(long, short = 'w')]
    wait: bool,
}

impl RouteAndService {
    /// The URL and the service, coloured, and the place.
    fn shown(&self, cx: &Context) -> Result<(String, String, String)> {
        let url = cx.ui.name(self.address.url(&self.domain));
        Ok((url, cx.ui.name(&self.service), cx.place()?))
    }

    async fn find(&self, cx: &Context<'_>) -> Result<(Route, String)> {
        let domain = cx.client.domain(&self.domain).await?;
        let route = self.address.existing(cx, &domain).await?;
        let instance = cx.client.service_instance(&self.service, &cx.space().guid).await?;
        Ok((route, instance.guid))
    }
}

/// `cf bind-route-service`
#[derive(clap::Args)]
pub struct BindRouteService {
    #[command(flatten)]
    of: RouteAndService,
    /// Valid JSON object containing service-specific configuration parameters, provided inline or in a file. For a list of supported configuration parameters, see documentation for the particular service offering.
    #[arg(short = 'c')]
    parameters: Option<String>,
}

impl Command for BindRouteService {
    const SPEC: &'static Spec = &Spec {
        name: "bind-route-service",
        alias: "brs",
        about: "Bind a service instance to an HTTP route",
        usage: "{cf} bind-route-service DOMAIN [--hostname HOSTNAME] [--path PATH] SERVICE_INSTANCE [-c PARAMETERS_AS_JSON]",
        examples: "{cf} bind-route-service example.com --hostname myapp --path foo myratelimiter\n{cf} bind-route-service example.com myratelimiter -c file.json\n{cf} bind-route-service example.com myratelimiter -c '{\"valid\":\"json\"}'",
        see_also: &["routes", "services"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let parameters = parameters(cx, self.parameters.as_deref())?;
        let (url, service, place) = self.of.shown(cx)?;
        say!(cx.ui, "Binding route {url} to service instance {service} in {place}...");
        let (route, instance) = self.of.find(cx).await?;
        let mut body = json!({ "relationships": {
            "service_instance": { "data": { "guid": instance } },
            "route": { "data": { "guid": route.guid } },
        } });
        if let Some(parameters) = parameters {
            body["parameters"] = Value::Object(parameters);
        }
        let reply = match cx.client.post(ROUTE_BINDINGS, body).await {
            Err(error) if is_bound_already(&error) => {
                say!(cx.ui, "Route {url} is already bound to service instance {service}.");
                cx.ui.ok();
                return Ok(());
            }
            reply => reply?,
        };
        let done = cx.client.settle(&reply, self.of.wait).await?;
        cx.ui.ok();
        if !done {
            say!(cx.ui, "Binding in progress.");
        }
        Ok(())
    }
}

/// `cf unbind-route-service`
#[derive(clap::Args)]
pub struct UnbindRouteService {
    #[command(flatten)]
    of: RouteAndService,
    /// Force unbinding without confirmation
    #[arg(short = 'f')]
    force: bool,
}

impl Command for UnbindRouteService {
    const SPEC: &'static Spec = &Spec {
        name: "unbind-route-service",
        alias: "urs",
        about: "Unbind a service instance from an HTTP route",
        usage: "{cf} unbind-route-service DOMAIN [--hostname HOSTNAME] [--path PATH] SERVICE_INSTANCE [-f]",
        examples: "{cf} unbind-route-service example.com --hostname myapp --path foo myratelimiter",
        see_also: &["delete-service", "routes", "services"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (url, service, place) = self.of.shown(cx)?;
        let question = format!("Really unbind route {url} from service instance {service}?");
        if !self.force && !cx.ui.confirm(&question)? {
            say!(cx.ui, "Unbind cancelled");
            return Ok(());
        }
        say!(cx.ui, "Unbinding route {url} from service instance {service} in {place}...");
        let (route, instance) = self.of.find(cx).await?;
        let query = [("route_guids", route.guid.as_str()), ("service_instance_guids", &instance)];
        let found = cx.client.list::<Binding>(ROUTE_BINDINGS, &query).await?.resources;
        let Some(binding) = found.first() else {
            say!(cx.ui, "Route {url} was not bound to service instance {service}.");
            cx.ui.ok();
            return Ok(());
        };
        let path = format!("{ROUTE_BINDINGS}/{}", binding.guid);
        let reply = cx.client.send(Method::DELETE, &path, &[], Body::None).await?;
        let done = cx.client.settle(&reply, self.of.wait).await?;
        cx.ui.ok();
        if !done {
            say!(cx.ui, "Unbinding in progress.");
        }
        Ok(())
    }
}
