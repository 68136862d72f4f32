//! Labels of everything that can have them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::client::filter_value;
use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result, failed};
use crate::resources::Metadata;
use crate::table::{self, row};
use crate::ui::say;

const RESOURCES: &str = "app\nbuildpack\ndomain\norg\nroute\nservice-broker\nservice-instance\nservice-offering\nservice-plan\nspace\nstack";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    App,
    Buildpack,
    Domain,
    Org,
    Route,
    ServiceBroker,
    ServiceInstance,
    ServiceOffering,
    ServicePlan,
    Space,
    Stack,
}

use Kind::*;

impl Kind {
    /// By the name people type, in any case.
    fn of(name: &str) -> Option<Kind> {
        let known = [
            ("app", App),
            ("buildpack", Buildpack),
            ("domain", Domain),
            ("org", Org),
            ("route", Route),
            ("service-broker", ServiceBroker),
            ("service-instance", ServiceInstance),
            ("service-offering", ServiceOffering),
            ("service-plan", ServicePlan),
            ("space", Space),
            ("stack", Stack),
        ];
        known.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, kind)| *kind)
    }

    fn path(self) -> &'static str {
        match self {
            App => "/v3/apps",
            Buildpack => "/v3/buildpacks",
            Domain => "/v3/domains",
            Org => "/v3/organizations",
            Route => "/v3/routes",
            ServiceBroker => "/v3/service_brokers",
            ServiceInstance => "/v3/service_instances",
            ServiceOffering => "/v3/service_offerings",
            ServicePlan => "/v3/service_plans",
            Space => "/v3/spaces",
            Stack => "/v3/stacks",
        }
    }

    fn needs(self) -> Needs {
        match self {
            App | Route | ServiceInstance => Needs::Space,
            Space => Needs::Org,
            _ => Needs::Login,
        }
    }
}

/// The resource whose labels are meant.
#[derive(clap::Args)]
struct Which {
    #[arg(value_name = "RESOURCE")]
    kind: String,
    #[arg(value_name = "RESOURCE_NAME")]
    name: String,
    /// Specify stack to disambiguate buildpacks with the same name
    #[arg(long, short = 's')]
    stack: Option<String>,
    /// Specify lifecycle to disambiguate buildpacks with the same name
    #[arg(long, short = 'l')]
    lifecycle: Option<String>,
    /// Specify a service broker to disambiguate service offerings or service plans with the same name.
    #[arg(long, short = 'b')]
    broker: Option<String>,
    /// Specify a service offering to disambiguate service plans with the same name.
    #[arg(long, short = 'e')]
    offering: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Labelled {
    guid: String,
    url: String,
    stack: Option<String>,
    metadata: Metadata,
}

impl Which {
    /// The kind, once the flags fit it and all it needs is targeted.
    fn check(&self, cx: &Context) -> Result<Kind> {
        let Some(kind) = Kind::of(&self.kind) else {
            return failed(format!("Unsupported resource type of '{}'", self.kind));
        };
        let wrong = [
            (self.stack.is_some() && kind != Buildpack, "--stack, -s"),
            (self.lifecycle.is_some() && kind != Buildpack, "--lifecycle, -l"),
            (
                self.broker.is_some() && !matches!(kind, ServiceOffering | ServicePlan),
                "--broker, -b",
            ),
            (self.offering.is_some() && kind != ServicePlan, "--offering, -e"),
        ];
        if let Some((_, flag)) = wrong.iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(Error::together(&[&self.kind, flag]));
        }
        cx.require(kind.needs())?;
        Ok(kind)
    }

    /// `app dora in org acme / space dev as ada`, coloured.
    fn shown(&self, cx: &Context, kind: Kind) -> Result<String> {
        let (name, me) = (cx.ui.name(&self.name), cx.me()?);
        let part = |before: &str, of: &Option<String>| {
            of.as_ref().map(|text| format!("{before} {}", cx.ui.name(text))).unwrap_or_default()
        };
        let place = match kind.needs() {
            Needs::Space => return Ok(format!("{} {name} in {}", self.kind, cx.place()?)),
            Needs::Org => format!(" in org {}", cx.ui.name(cx.org().name)),
            _ => String::new(),
        };
        let packs = part(" with stack", &self.stack) + &part(" with lifecycle", &self.lifecycle);
        let services = match (&self.offering, &self.broker) {
            (None, None) => String::new(),
            (offering, broker) => {
                let slash = if offering.is_some() && broker.is_some() { " /" } else { "" };
                let (offering, broker) =
                    (part(" service offering", offering), part(" service broker", broker));
                format!(" from{offering}{slash}{broker}")
            }
        };
        Ok(format!("{} {name}{place}{packs}{services} as {me}", self.kind))
    }

    async fn find(&self, cx: &Context<'_>, kind: Kind) -> Result<Labelled> {
        let (org, space) = (cx.org().guid, cx.space().guid);
        let name = filter_value(&self.name);
        let mut query: Vec<(&str, &str)> = match kind {
            Route => vec![("space_guids", &space)],
            App | ServiceInstance => vec![("names", &name), ("space_guids", &space)],
            Space => vec![("names", &name), ("organization_guids", &org)],
            _ => vec![("names", &name)],
        };
        let filters = [
            ("stacks", &self.stack),
            ("lifecycle", &self.lifecycle),
            ("service_broker_names", &self.broker),
            ("service_offering_names", &self.offering),
        ];
        query.extend(filters.iter().filter_map(|(key, of)| Some((*key, of.as_deref()?))));
        let mut found = cx.client.list::<Labelled>(kind.path(), &query).await?.resources;
        if kind == Route {
            let url = self.name.trim_end_matches('/');
            found.retain(|route| route.url == url);
        }
        if kind == Buildpack && found.len() > 1 {
            found.sort_by_key(|pack| pack.stack.is_some());
            if found[0].stack.is_some() || found[1].stack.is_none() {
                return failed(format!(
                    "Multiple buildpacks named {} found. Specify a stack name by using a '-s' flag and/or lifecycle using a '-l' flag.",
                    self.name
                ));
            }
        }
        found.into_iter().next().ok_or_else(|| Error::Missing(self.missing(kind)))
    }

    /// Pure: said when there is no such resource.
    fn missing(&self, kind: Kind) -> String {
        let name = &self.name;
        match kind {
            App => format!("App '{name}' not found."),
            Buildpack => format!("Buildpack '{name}' not found"),
            Domain => format!("Domain '{name}' not found."),
            Org => format!("Organization '{name}' not found."),
            Route => format!("Route '{name}' not found."),
            ServiceBroker => format!("Service broker '{name}' not found"),
            ServiceInstance => format!("Service instance '{name}' not found"),
            ServiceOffering => format!("Service offering '{name}' not found"),
            ServicePlan => format!("The plan '{name}' could not be found."),
            Space => format!("Space '{name}' not found."),
            Stack => format!("Stack '{name}' not found"),
        }
    }
}

/// `cf labels`
#[derive(clap::Args)]
pub struct Labels {
    #[command(flatten)]
    which: Which,
}

impl Command for Labels {
    const SPEC: &'static Spec = &Spec {
        name: "labels",
        about: "List all labels (key-value pairs) for an API resource",
        usage: "{cf} labels RESOURCE RESOURCE_NAME",
        examples: "{cf} labels app dora\n{cf} labels org business\n{cf} labels buildpack go_buildpack --stack cflinuxfs4",
        resources: RESOURCES,
        see_also: &["set-label", "unset-label"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let kind = self.which.check(cx)?;
        let shown = self.which.shown(cx, kind)?;
        say!(cx.ui, "Getting labels for {shown}...");
        if matches!(kind, Domain | Org | ServiceBroker | Stack) {
            say!(cx.ui);
        }
        let labels: BTreeMap<String, String> = self.which.find(cx, kind).await?.metadata.labels;
        say!(cx.ui);
        if labels.is_empty() {
            say!(cx.ui, "No labels found.");
            return Ok(());
        }
        let mut rows = vec![row!["key", "value"]];
        rows.extend(labels.into_iter().map(|(key, value)| vec![key, value]));
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// `cf set-label`
#[derive(clap::Args)]
pub struct SetLabel {
    #[command(flatten)]
    which: Which,
    #[arg(value_name = "KEY=VALUE", required = true)]
    labels: Vec<String>,
}

impl Command for SetLabel {
    const SPEC: &'static Spec = &Spec {
        name: "set-label",
        about: "Set a label (key-value pairs) for an API resource",
        usage: "{cf} set-label RESOURCE RESOURCE_NAME KEY=VALUE...",
        examples: "{cf} set-label app dora env=production\n{cf} set-label org business pci=true public-facing=false\n{cf} set-label buildpack go_buildpack go=1.12 -s cflinuxfs4",
        resources: RESOURCES,
        see_also: &["labels", "unset-label"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let labels = pairs(&self.labels)?;
        change(cx, &self.which, "Setting", labels).await
    }
}

/// Pure: `key=value` texts.
fn pairs(texts: &[String]) -> Result<Map<String, Value>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), json!(value))),
        None => failed(format!("Metadata error: no value provided for label '{text}'")),
    };
    texts.iter().map(pair).collect()
}

/// `cf unset-label`
#[derive(clap::Args)]
pub struct UnsetLabel {
    #[command(flatten)]
    which: Which,
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
}

impl Command for UnsetLabel {
    const SPEC: &'static Spec = &Spec {
        name: "unset-label",
        about: "Unset a label (key-value pairs) for an API resource",
        usage: "{cf} unset-label RESOURCE RESOURCE_NAME KEY...",
        examples: "{cf} unset-label app dora ci_signature_sha2\n{cf} unset-label org business pci public-facing\n{cf} unset-label buildpack go_buildpack go -s cflinuxfs4",
        resources: RESOURCES,
        see_also: &["labels", "set-label"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let labels = self.keys.iter().map(|key| (key.clone(), Value::Null)).collect();
        change(cx, &self.which, "Removing", labels).await
    }
}

async fn change(
    cx: &mut Context<'_>,
    which: &Which,
    doing: &str,
    labels: Map<String, Value>,
) -> Result<()> {
    let kind = which.check(cx)?;
    let shown = which.shown(cx, kind)?;
    say!(cx.ui, "{doing} label(s) for {shown}...");
    let found = which.find(cx, kind).await?;
    let path = format!("{}/{}", kind.path(), found.guid);
    let reply = cx.client.patch(&path, json!({ "metadata": { "labels": labels } })).await?;
    cx.client.finish(&reply).await?;
    cx.ui.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_in_the_help_is_known() {
        for name in RESOURCES.lines() {
            assert!(Kind::of(name).is_some(), "{name}");
        }
        assert_eq!(Kind::of("APP"), Some(App));
        assert_eq!(Kind::of("task"), None);
    }

    #[test]
    fn labels_have_values() {
        assert_eq!(pairs(&["a=b=c".to_owned()]).unwrap()["a"], "b=c");
        assert_eq!(
            pairs(&["a".to_owned()]).unwrap_err().to_string(),
            "Metadata error: no value provided for label 'a'"
        );
    }
}
