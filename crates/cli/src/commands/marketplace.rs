//! `cf marketplace`: the service offerings that instances can be made of.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result};
use crate::resources::{Named, Related, related};
use crate::table::{self, row};
use crate::ui::say;

/// `cf marketplace`
#[derive(clap::Args)]
pub struct Marketplace {
    /// Show plan details for a particular service offering
    #[arg(short = 'e')]
    offering: Option<String>,
    /// Only show details for a particular service broker
    #[arg(short = 'b')]
    broker: Option<String>,
    /// Hide plan information for service offerings
    #[arg(long)]
    no_plans: bool,
    /// Show plans that are not available for use
    #[arg(long)]
    show_unavailable: bool,
}

impl Command for Marketplace {
    const SPEC: &'static Spec = &Spec {
        name: "marketplace",
        alias: "m",
        about: "List available offerings in the marketplace",
        usage: "{cf} marketplace [-e SERVICE_OFFERING] [-b SERVICE_BROKER] [--no-plans]",
        see_also: &["services"],
        needs: Needs::Nothing,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if self.no_plans && self.offering.is_some() {
            return Err(Error::together(&["--no-plans", "-e"]));
        }
        // Without a login, what is open to everybody is shown.
        let is_logged_in = cx.config().is_logged_in();
        let place = if is_logged_in {
            cx.require(Needs::Space)?;
            format!(" in {}", cx.place()?)
        } else {
            String::new()
        };
        let broker = self.broker.as_ref().map(|name| cx.ui.name(name));
        match (&self.offering, broker) {
            (None, None) => say!(cx.ui, "Getting all service offerings from marketplace{place}..."),
            (None, Some(broker)) => say!(
                cx.ui,
                "Getting all service offerings from marketplace for service broker {broker}{place}..."
            ),
            (Some(offering), broker) => {
                let offering = cx.ui.name(offering);
                let from = broker.map(|broker| format!(" from service broker {broker}"));
                say!(
                    cx.ui,
                    "Getting service plan information for service offering {offering}{}{place}...",
                    from.unwrap_or_default()
                );
            }
        }
        let offerings = self.offerings(cx).await?;
        say!(cx.ui);
        if offerings.is_empty() {
            say!(cx.ui, "No service offerings found.");
            return Ok(());
        }
        if self.offering.is_some() {
            self.show_plans(cx, &offerings);
        } else {
            self.show_offerings(cx, &offerings);
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Plan {
    name: String,
    description: String,
    free: bool,
    available: bool,
    costs: Vec<Cost>,
    relationships: BTreeMap<String, Related>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Cost {
    amount: f64,
    currency: String,
    unit: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Offering {
    guid: String,
    name: String,
    description: String,
    relationships: BTreeMap<String, Related>,
    #[serde(skip)]
    broker: String,
    #[serde(skip)]
    plans: Vec<Plan>,
}

/// Pure: plans under their offerings, each with the name of its broker, in the order of their names.
fn grouped(plans: Vec<Plan>, included: &Value) -> Vec<Offering> {
    let brokers: Vec<Named> =
        serde_json::from_value(included["service_brokers"].clone()).unwrap_or_default();
    let mut offerings: Vec<Offering> =
        serde_json::from_value(included["service_offerings"].clone()).unwrap_or_default();
    for offering in &mut offerings {
        let guid = related(&offering.relationships, "service_broker");
        let broker = brokers.iter().find(|broker| Some(broker.guid.as_str()) == guid);
        offering.broker = broker.map(|broker| broker.name.clone()).unwrap_or_default();
        let of = |plan: &&Plan| {
            related(&plan.relationships, "service_offering") == Some(offering.guid.as_str())
        };
        offering.plans = plans.iter().filter(of).cloned().collect();
    }
    offerings.sort_by(|a, b| (&a.name, &a.broker).cmp(&(&b.name, &b.broker)));
    offerings
}

impl Marketplace {
    async fn offerings(&self, cx: &Context<'_>) -> Result<Vec<Offering>> {
        let space = cx.space().guid;
        let mut query = vec![
            ("include", "service_offering"),
            ("fields[service_offering.service_broker]", "name,guid"),
        ];
        query.extend((!space.is_empty()).then_some(("space_guids", space.as_str())));
        query.extend((!self.show_unavailable).then_some(("available", "true")));
        query.extend(self.offering.as_deref().map(|name| ("service_offering_names", name)));
        query.extend(self.broker.as_deref().map(|name| ("service_broker_names", name)));
        let list = cx.client.list::<Plan>("/v3/service_plans", &query).await?;
        Ok(grouped(list.resources, &list.included))
    }

    fn show_offerings(&self, cx: &mut Context, offerings: &[Offering]) {
        let mut rows = vec![row!["offering"]];
        rows[0].extend((!self.no_plans).then(|| "plans".to_owned()));
        rows[0].extend(row!["description", "broker"]);
        for offering in offerings {
            let plans: Vec<&str> = offering.plans.iter().map(|plan| plan.name.as_str()).collect();
            let mut row = row![offering.name];
            row.extend((!self.no_plans).then(|| plans.join(", ")));
            row.extend(row![offering.description, offering.broker]);
            rows.push(row);
        }
        table::with_header(&mut cx.ui, "", &rows);
        let cf = cx.cf();
        say!(
            cx.ui,
            "\nTIP: Use '{cf} marketplace -e SERVICE_OFFERING' to view descriptions of individual plans of a given service offering."
        );
    }

    fn show_plans(&self, cx: &mut Context, offerings: &[Offering]) {
        for offering in offerings {
            let broker = cx.ui.name(&offering.broker);
            say!(cx.ui, "broker: {broker}");
            let mut rows = vec![row!["plan", "description", "free or paid", "costs"]];
            rows[0].extend(self.show_unavailable.then(|| "available".to_owned()));
            for plan in &offering.plans {
                let costs = plan.costs.iter();
                let costs: Vec<String> = costs
                    .map(|cost| format!("{} {:.2}/{}", cost.currency, cost.amount, cost.unit))
                    .collect();
                let price = if plan.free { "free" } else { "paid" };
                let mut row = row![plan.name, plan.description, price, costs.join(", ")];
                let available = if plan.available { "yes" } else { "no" };
                row.extend(self.show_unavailable.then(|| available.to_owned()));
                rows.push(row);
            }
            table::with_header(&mut cx.ui, "   ", &rows);
        }
    }
}
