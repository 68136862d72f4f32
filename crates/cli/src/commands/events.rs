//! `cf events`: what was done to an app lately.

use jiff::tz::TimeZone;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::client::Body;
use crate::command::{Command, Context, Needs, Spec};
use crate::error::Result;
use crate::resources::Event;
use crate::table::{self, row};
use crate::ui::say;

/// Facts of an event worth telling, in this order.
const TOLD: &[&str] = &[
    "index",
    "reason",
    "cell_id",
    "instance",
    "exit_description",
    "exit_status",
    "recursive",
    "disk_quota",
    "instances",
    "memory",
    "state",
    "command",
    "environment_json",
];

/// `cf events`
#[derive(clap::Args)]
pub struct Events {
    #[arg(value_name = "APP_NAME")]
    app: String,
}

impl Command for Events {
    const SPEC: &'static Spec = &Spec {
        name: "events",
        about: "Show recent app events",
        usage: "{cf} events APP_NAME",
        see_also: &["app", "logs", "map-route", "unmap-route"],
        needs: Needs::Space,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        #[derive(Deserialize)]
        struct Page {
            resources: Vec<Event>,
        }
        let (name, place) = (cx.ui.name(&self.app), cx.place()?);
        say!(cx.ui, "Getting events for app {name} in {place}...");
        let app = cx.client.app(&self.app, &cx.space().guid).await?;
        // One page: the newest events are meant, not all there ever were.
        let query =
            [("target_guids", app.guid.as_str()), ("order_by", "-created_at"), ("page", "1")];
        let page: Page =
            cx.client.send(Method::GET, "/v3/audit_events", &query, Body::None).await?.json()?;
        if page.resources.is_empty() {
            say!(cx.ui, "No events found.");
        }
        let mut rows = vec![row!["time", "event", "actor", "description"]];
        for event in page.resources {
            rows.push(row![
                local_time(&event.created_at),
                event.kind,
                event.actor.name.unwrap_or_default(),
                describe(&event.data)
            ]);
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

fn local_time(text: &str) -> String {
    let moment: Option<jiff::Timestamp> = text.parse().ok();
    moment.map_or_else(
        || text.to_owned(),
        |moment| {
            moment.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%2f%z").to_string()
        },
    )
}

/// Pure: the known facts of an event; those of the request that caused it, when there was one.
fn describe(data: &Value) -> String {
    let facts = data.get("request").unwrap_or(data);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let told = TOLD
        .iter()
        .filter_map(|key| Some((key, facts.get(*key).filter(|value| !value.is_null())?)));
    told.map(|(key, value)| format!("{key}: {}", text(value))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_tell_what_is_known() {
        assert_eq!(
            describe(&json!({"request": {"state": "STARTED", "name": "x"}})),
            "state: STARTED"
        );
        assert_eq!(
            describe(&json!({"index": 0, "reason": "CRASHED", "exit_status": 1})),
            "index: 0, reason: CRASHED, exit_status: 1"
        );
        assert_eq!(describe(&Value::Null), "");
    }
}
