//! Lists cost as many questions for many rows as for few.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tracing::{Event, Instrument as _, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use crate::harness::Harness;

/// Counts statements that are made within a span named `measured`.
struct Statements(Arc<AtomicUsize>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let measured = context
            .event_scope(event)
            .is_some_and(|mut scope| scope.any(|span| span.name() == "measured"));
        if measured && event.metadata().target() == "cloud_controller::sql" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

const LISTS: &[&str] = &[
    "/v3/apps?include=space,space.organization",
    "/v3/processes",
    "/v3/processes?embed=process_instances",
    "/v3/routes?include=domain,space,space.organization",
    "/v3/spaces?include=organization",
    "/v3/organizations",
    "/v3/domains",
    "/v3/packages",
    "/v3/droplets",
    "/v3/builds",
    "/v3/deployments",
    "/v3/tasks",
    "/v3/roles?include=user,space,organization",
    "/v3/users",
    "/v3/audit_events",
    "/v3/app_usage_events",
    "/v3/service_instances?fields[space]=name&fields[space.organization]=name",
    "/v3/service_credential_bindings?include=app,service_instance",
    "/v3/organization_quotas",
    "/v3/space_quotas",
    "/v3/security_groups",
    "/v3/isolation_segments",
    "/v3/buildpacks",
    "/v3/stacks",
];

/// One more of everything that is listed; `at` makes its names.
async fn more(harness: &Harness, at: usize) {
    let admin = harness.admin();
    let to_one = |guid: &str| json!({ "data": { "guid": guid } });
    let space = harness.space(&format!("org{at}"), &format!("space{at}")).await;
    let org = format!("org-org{at}");
    let app = harness.staged_app(&space).await;
    for (name, key) in [("app", app.as_str()), ("space", space.as_str())] {
        harness
            .sql(&format!("INSERT INTO labels (resource_type, resource_guid, name, value) VALUES ('{name}', '{key}', 'a', 'b')"))
            .await;
    }
    harness.role(&format!("user{at}"), "organization_user", &org, "").await;
    harness
        .sql(&format!("INSERT INTO users (guid, created_at, updated_at) VALUES ('user{at}', 1, 1)"))
        .await;
    let domain = admin.get("/v3/domains?names=apps.test").await.column("guid");
    let route = json!({ "host": format!("h{at}"), "relationships": { "domain": to_one(&domain), "space": to_one(&space) } });
    let route = admin.post("/v3/routes", route).await.expect(201);
    let path = format!("/v3/routes/{}/destinations", route["guid"].as_str().unwrap());
    admin.post(&path, json!({ "destinations": [{ "app": { "guid": app } }] })).await.expect(200);
    let own = json!({ "name": format!("d{at}.example.com"), "relationships": { "organization": to_one(&org) } });
    admin.post("/v3/domains", own).await.expect(201);
    let quota = json!({ "name": format!("q{at}"), "relationships": { "organizations": { "data": [{ "guid": org }] } } });
    admin.post("/v3/organization_quotas", quota).await.expect(201);
    let quota = json!({ "name": "q", "relationships": { "organization": to_one(&org), "spaces": { "data": [{ "guid": space }] } } });
    admin.post("/v3/space_quotas", quota).await.expect(201);
    let group = json!({ "name": format!("g{at}"), "relationships": { "running_spaces": { "data": [{ "guid": space }] } } });
    admin.post("/v3/security_groups", group).await.expect(201);
    admin.post("/v3/isolation_segments", json!({ "name": format!("s{at}") })).await.expect(201);
    let service = json!({ "type": "user-provided", "name": "db", "relationships": { "space": to_one(&space) } });
    let service = admin.post("/v3/service_instances", service).await.expect(201);
    let service = service["guid"].as_str().unwrap();
    let binding = json!({ "type": "app", "relationships": { "app": to_one(&app), "service_instance": to_one(service) } });
    admin.post("/v3/service_credential_bindings", binding).await.expect(201);
    admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
    admin.post(&format!("/v3/apps/{app}/tasks"), json!({ "command": "x" })).await.expect(202);
    let deployment = json!({ "relationships": { "app": to_one(&app) } });
    admin.post("/v3/deployments", deployment).await.expect(201);
}

#[tokio::test]
async fn a_list_never_costs_a_question_per_row() {
    let count = Arc::new(AtomicUsize::new(0));
    let subscriber = tracing_subscriber::registry().with(Statements(count.clone()));
    // For all tests of this binary: what a thread without one meets first would be off everywhere.
    tracing::subscriber::set_global_default(subscriber).expect("the only one in these tests");
    let db = sql::testing::databases().await.remove(0);
    let harness = Harness::open(db).await;
    let admin = harness.admin();
    let measure = async |path: &str| {
        count.store(0, Ordering::Relaxed);
        let span = tracing::info_span!("measured");
        let answer = admin.get(path).instrument(span).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.error());
        let rows = answer.body["resources"].as_array().unwrap().len();
        (count.load(Ordering::Relaxed), rows)
    };
    let mut few = Vec::new();
    for at in 0..2 {
        more(&harness, at).await;
    }
    for path in LISTS {
        few.push(measure(path).await);
    }
    for at in 2..6 {
        more(&harness, at).await;
    }
    for (path, (asked, rows)) in LISTS.iter().zip(few) {
        let (asked_for_many, many) = measure(path).await;
        assert!(asked > 0, "{path}: no statement was counted");
        let fixed = ["/v3/buildpacks", "/v3/stacks"].contains(path);
        assert!(many > rows || fixed, "{path}: {rows} rows did not become more");
        assert_eq!(asked, asked_for_many, "{path}: {rows} rows, then {many}");
    }
}
