//! A suspended organization, or space, can be looked at and not changed, except by administrators.

use axum::http::Method;
use serde_json::{Value, json};

use crate::harness::{self, Harness};

fn to_one(guid: &str) -> Value {
    json!({ "data": { "guid": guid } })
}

/// What a developer does in a day, each with what it is answered.
async fn attempts(harness: &Harness, user: &str, app: &str, route: &str) -> Vec<(String, String)> {
    let client = harness.user(user);
    let space = to_one("space-space");
    let package = harness.admin().get("/v3/packages").await.column("guid");
    let droplet = harness.admin().get("/v3/droplets").await.column("guid");
    let domain = harness.admin().get("/v3/domains?names=apps.test").await.column("guid");
    let (patch, post, delete) = (Method::PATCH, Method::POST, Method::DELETE);
    let web = format!("/v3/apps/{app}/processes/web");
    let list = [
        (
            &post,
            "/v3/apps".to_owned(),
            json!({ "name": "new", "relationships": { "space": space } }),
        ),
        (&patch, format!("/v3/apps/{app}"), json!({ "name": "other" })),
        (&post, format!("/v3/apps/{app}/actions/start"), json!({})),
        (&post, format!("/v3/apps/{app}/actions/stop"), json!({})),
        (&post, format!("/v3/apps/{app}/actions/restart"), json!({})),
        (&post, format!("{web}/actions/scale"), json!({ "instances": 2 })),
        (&patch, web.clone(), json!({ "command": "x" })),
        (&delete, format!("{web}/instances/0"), Value::Null),
        (&patch, format!("/v3/apps/{app}/environment_variables"), json!({ "var": { "A": "b" } })),
        (&patch, format!("/v3/apps/{app}/features/ssh"), json!({ "enabled": false })),
        (
            &post,
            format!("/v3/apps/{app}/sidecars"),
            json!({ "name": "s", "command": "c", "process_types": ["web"] }),
        ),
        (&post, format!("/v3/apps/{app}/tasks"), json!({ "command": "x" })),
        (
            &patch,
            format!("/v3/apps/{app}/relationships/current_droplet"),
            json!({ "data": { "guid": droplet } }),
        ),
        (
            &post,
            "/v3/packages".to_owned(),
            json!({ "type": "bits", "relationships": { "app": to_one(app) } }),
        ),
        (&delete, format!("/v3/packages/{package}"), Value::Null),
        (&post, "/v3/builds".to_owned(), json!({ "package": { "guid": package } })),
        (&delete, format!("/v3/droplets/{droplet}"), Value::Null),
        (&post, "/v3/deployments".to_owned(), json!({ "relationships": { "app": to_one(app) } })),
        (
            &post,
            "/v3/routes".to_owned(),
            json!({ "host": "h", "relationships": { "space": space, "domain": to_one(&domain) } }),
        ),
        (&patch, format!("/v3/routes/{route}"), json!({ "options": {} })),
        (
            &post,
            format!("/v3/routes/{route}/destinations"),
            json!({ "destinations": [{ "app": { "guid": app } }] }),
        ),
        (&delete, format!("/v3/routes/{route}"), Value::Null),
        (&delete, "/v3/spaces/space-space/routes?unmapped=true".to_owned(), Value::Null),
        (
            &post,
            "/v3/service_instances".to_owned(),
            json!({ "type": "user-provided", "name": "db", "relationships": { "space": space } }),
        ),
        (&delete, format!("/v3/apps/{app}"), Value::Null),
    ];
    let mut answers = Vec::new();
    for (method, path, body) in list {
        let body = (!body.is_null()).then_some(body);
        let answer = client.send(method.clone(), &path, body).await;
        answers.push((format!("{method} {path}"), answer.error()));
    }
    let yaml = ("application/x-yaml".to_owned(), b"applications: [{name: a}]".to_vec());
    let path = "/v3/spaces/space-space/actions/apply_manifest";
    let answer = client.raw(Method::POST, path, Some(yaml)).await;
    answers.push((format!("POST {path}"), answer.error()));
    answers
}

#[tokio::test]
async fn what_is_suspended_is_only_looked_at() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        let domain = admin.get("/v3/domains?names=apps.test").await.column("guid");
        let route = json!({ "host": "mine", "relationships": { "domain": to_one(&domain), "space": to_one(&space) } });
        let route =
            admin.post("/v3/routes", route).await.expect(201)["guid"].as_str().unwrap().to_owned();
        harness.role("dev", "space_developer", "org-org", "space-space").await;
        harness.role("om", "organization_manager", "org-org", "").await;
        for (path, refused) in [
            ("/v3/organizations/org-org", "403 CF-OrgSuspended: The organization is suspended"),
            ("/v3/spaces/space-space", "403 CF-SpaceSuspended: The space is suspended"),
        ] {
            admin.patch(path, json!({ "suspended": true })).await.expect(200);
            for (what, answer) in attempts(&harness, "dev", &app, &route).await {
                assert_eq!(answer, refused, "{what}");
            }
            let developer = harness.user("dev");
            assert_eq!(developer.get("/v3/apps").await.column("guid"), app);
            developer.get(&format!("/v3/processes/{app}/stats")).await.expect(200);
            admin.patch(&format!("/v3/apps/{app}"), json!({ "name": "dora" })).await.expect(200);
            admin.patch(path, json!({ "suspended": false })).await.expect(200);
            let path = format!("/v3/apps/{app}");
            developer.patch(&path, json!({ "name": "again" })).await.expect(200);
        }
        // The organization's managers end what they began for a space, and nothing for the organization.
        let manager = harness.user("om");
        let path = "/v3/spaces/space-space";
        manager.patch(path, json!({ "suspended": true })).await.expect(200);
        manager.patch(path, json!({ "suspended": false })).await.expect(200);
        admin.patch("/v3/organizations/org-org", json!({ "suspended": true })).await.expect(200);
        let own = manager.patch("/v3/organizations/org-org", json!({ "suspended": false })).await;
        assert_eq!(own.error(), "403 CF-OrgSuspended: The organization is suspended");
        let space =
            json!({ "name": "more", "relationships": { "organization": to_one("org-org") } });
        let made = manager.post("/v3/spaces", space).await;
        assert_eq!(made.error(), "403 CF-OrgSuspended: The organization is suspended");
    }
}
