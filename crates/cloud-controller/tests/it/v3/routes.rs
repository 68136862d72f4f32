//! `/v3/routes`.

use expect_test::expect;
use serde_json::{Value, json};

use super::shape::shape;
use crate::harness::{self, Client, Harness};

pub async fn domain(harness: &Harness) -> String {
    let domains = harness.admin().get("/v3/domains?names=apps.test").await.expect(200);
    domains["resources"][0]["guid"].as_str().unwrap().to_owned()
}

fn body(space: &str, domain: &str, host: &str, path: &str) -> Value {
    json!({
        "host": host,
        "path": path,
        "relationships": { "space": { "data": { "guid": space } }, "domain": { "data": { "guid": domain } } },
    })
}

async fn make(client: &Client, space: &str, domain: &str, host: &str) -> String {
    let made = client.post("/v3/routes", body(space, domain, host, "")).await.expect(201);
    made["guid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_route_is_made_mapped_and_deleted() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let domain = domain(&harness).await;
        let app = admin.app("dora", &space).await;
        let made = admin.post("/v3/routes", body(&space, &domain, "Dora", "/v1")).await.expect(201);
        let guid = made["guid"].as_str().unwrap();
        let to_app = json!({ "destinations": [{ "app": { "guid": app } }] });
        let destinations = format!("/v3/routes/{guid}/destinations");
        admin.post(&destinations, to_app.clone()).await.expect(200);
        // The same again changes nothing.
        admin.post(&destinations, to_app).await.expect(200);
        expect![[r#"
            {
              "created_at": "2026-01-31T12:00:00Z",
              "destinations": [
                {
                  "app": {
                    "guid": "<1>",
                    "process": {
                      "type": "web"
                    }
                  },
                  "created_at": "2026-01-31T12:00:00Z",
                  "guid": "<2>",
                  "port": 8080,
                  "protocol": "http1",
                  "updated_at": "2026-01-31T12:00:00Z",
                  "weight": null
                }
              ],
              "guid": "<3>",
              "host": "dora",
              "links": {
                "destinations": {
                  "href": "http://api.test/v3/routes/<3>/destinations"
                },
                "domain": {
                  "href": "http://api.test/v3/domains/<4>"
                },
                "self": {
                  "href": "http://api.test/v3/routes/<3>"
                },
                "space": {
                  "href": "http://api.test/v3/spaces/space-space"
                }
              },
              "metadata": {
                "annotations": {},
                "labels": {}
              },
              "options": {},
              "path": "/v1",
              "port": null,
              "protocol": "http",
              "relationships": {
                "domain": {
                  "data": {
                    "guid": "<4>"
                  }
                },
                "space": {
                  "data": {
                    "guid": "space-space"
                  }
                }
              },
              "updated_at": "2026-01-31T12:00:00Z",
              "url": "dora.apps.test/v1"
            }"#]]
        .assert_eq(&shape(&admin.get(&format!("/v3/routes/{guid}")).await.expect(200)));
        let list =
            admin.get(&format!("/v3/apps/{app}/routes?include=domain,space.organization")).await;
        assert_eq!(list.column("url"), "dora.apps.test/v1");
        assert_eq!(list.body["included"]["domains"][0]["name"], "apps.test");
        for filter in [
            "hosts=dora",
            "paths=%2Fv1",
            &format!("app_guids={app}"),
            &format!("space_guids={space}"),
            "organization_guids=org-org",
        ] {
            assert_eq!(
                admin.get(&format!("/v3/routes?{filter}")).await.column("guid"),
                guid,
                "{filter}"
            );
        }
        assert_eq!(admin.get("/v3/routes?ports=1").await.column("guid"), "");
        let reserved = format!("/v3/domains/{domain}/route_reservations?host=dora&path=/v1");
        assert_eq!(admin.get(&reserved).await.expect(200)["matching_route"], true);

        let found = admin.get(&destinations).await.expect(200);
        let destination = found["destinations"][0]["guid"].as_str().unwrap();
        let one = format!("{destinations}/{destination}");
        assert_eq!(
            admin.patch(&one, json!({ "protocol": "http2" })).await.expect(200)["protocol"],
            "http2"
        );
        admin.delete(&one).await.expect(204);
        expect!["422 CF-UnprocessableEntity: Unable to unmap route from destination. Ensure the route has a destination with this guid."]
            .assert_eq(&admin.delete(&one).await.error());
        let job = admin.delete(&format!("/v3/spaces/{space}/routes?unmapped=true")).await.job();
        assert_eq!(admin.get(&job).await.expect(200)["state"], "COMPLETE");
        admin.get(&format!("/v3/routes/{guid}")).await.expect(404);
        let events = admin
            .get(&format!("/v3/audit_events?target_guids={guid},{app}&order_by=created_at"))
            .await;
        for kind in [
            "audit.route.create",
            "audit.app.map-route",
            "audit.app.unmap-route",
            "audit.route.delete-request",
        ] {
            assert!(events.column("type").contains(kind), "{kind}");
        }
    }
}

#[tokio::test]
async fn destinations_are_replaced_keeping_those_that_stay() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let route = make(&admin, &space, &domain(&harness).await, "x").await;
        let (a, b) = (admin.app("a", &space).await, admin.app("b", &space).await);
        let path = format!("/v3/routes/{route}/destinations");
        let to = |apps: &[&str]| json!({ "destinations": apps.iter().map(|app| json!({ "app": { "guid": app } })).collect::<Vec<_>>() });
        let first = admin.post(&path, to(&[&a])).await.expect(200);
        let after = admin.patch(&path, to(&[&a, &b])).await.expect(200);
        assert_eq!(after["destinations"][0]["guid"], first["destinations"][0]["guid"]);
        assert_eq!(after["destinations"].as_array().unwrap().len(), 2);
        expect!["422 CF-UnprocessableEntity: Destinations cannot contain duplicate entries"]
            .assert_eq(&admin.patch(&path, to(&[&a, &a])).await.error());
        expect!["422 CF-UnprocessableEntity: App(s) with guid(s) \"nope\" do not exist."]
            .assert_eq(&admin.patch(&path, to(&["nope"])).await.error());
        assert_eq!(admin.patch(&path, to(&[])).await.expect(200)["destinations"], json!([]));
    }
}

#[tokio::test]
async fn what_is_taken_or_wrong_is_told_as_clients_expect() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let other = harness.space("org", "other").await;
        let domain = domain(&harness).await;
        make(&admin, &space, &domain, "x").await;
        let told = async |body: Value| admin.post("/v3/routes", body).await.error();
        let lines = [
            told(body(&space, &domain, "x", "")).await,
            told(body(&other, &domain, "x", "/p")).await,
            told(body(&space, &domain, "", "")).await,
            told(body(&space, &domain, "a b", "/")).await,
            told(body(&space, "nope", "y", "")).await,
            told(body("nope", &domain, "y", "")).await,
        ];
        expect![[r#"
            422 CF-UnprocessableEntity: Route already exists with host 'x' for domain 'apps.test'.
            422 CF-UnprocessableEntity: Route already exists with host 'x' for domain 'apps.test'.
            422 CF-UnprocessableEntity: Missing host. Routes in shared domains must have a host defined.
            422 CF-UnprocessableEntity: Host must be either "*" or contain only alphanumeric characters, "_", or "-", Path cannot be exactly /
            422 CF-UnprocessableEntity: Invalid domain. Ensure that the domain exists and you have access to it.
            422 CF-UnprocessableEntity: Invalid space. Ensure that the space exists and you have access to it."#]]
        .assert_eq(&lines.join("\n"));
    }
}

#[tokio::test]
async fn roles_decide_who_sees_and_changes_routes() {
    for harness in harness::all().await {
        let space = harness.space("org", "space").await;
        let domain = domain(&harness).await;
        for (who, role, place) in [
            ("dev", "space_developer", "space-space"),
            ("sup", "space_supporter", "space-space"),
            ("aud", "space_auditor", "space-space"),
            ("oa", "organization_auditor", ""),
            ("ou", "organization_user", ""),
        ] {
            harness.role(who, role, "org-org", place).await;
        }
        let route = make(&harness.user("dev"), &space, &domain, "x").await;
        make(&harness.user("sup"), &space, &domain, "y").await;
        let path = format!("/v3/routes/{route}");
        for (who, see, delete) in
            [("ou", 404, 404), ("oa", 200, 403), ("aud", 200, 403), ("sup", 200, 202)]
        {
            assert_eq!(harness.user(who).get(&path).await.status.as_u16(), see, "{who}");
            assert_eq!(harness.user(who).delete(&path).await.status.as_u16(), delete, "{who}");
        }
        assert_eq!(harness.user("oa").get("/v3/routes").await.column("host"), "y");
        assert_eq!(harness.user("ou").get("/v3/routes").await.column("host"), "");
        let wild =
            harness.user("dev").post("/v3/routes", body(&space, &domain, "*", "")).await.error();
        assert!(
            wild.contains("sufficient permissions to create a route with a wildcard host"),
            "{wild}"
        );
        harness
            .admin()
            .patch("/v3/feature_flags/route_creation", json!({ "enabled": false }))
            .await
            .expect(200);
        expect!["403 CF-FeatureDisabled: Feature Disabled: route_creation"].assert_eq(
            &harness.user("dev").post("/v3/routes", body(&space, &domain, "z", "")).await.error(),
        );
    }
}

#[tokio::test]
async fn options_and_quotas_hold() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let domain = domain(&harness).await;
        let route = make(&admin, &space, &domain, "x").await;
        let path = format!("/v3/routes/{route}");
        let set = admin
            .patch(&path, json!({ "options": { "loadbalancing": "least-connection" } }))
            .await
            .expect(200);
        assert_eq!(set["options"], json!({ "loadbalancing": "least-connection" }));
        let wrong =
            admin.patch(&path, json!({ "options": { "loadbalancing": "dice" } })).await.error();
        expect!["422 CF-UnprocessableEntity: Options Loadbalancing must be one of 'round-robin, least-connection' if present"]
            .assert_eq(&wrong);
        let cleared =
            admin.patch(&path, json!({ "options": { "loadbalancing": null } })).await.expect(200);
        assert_eq!(cleared["options"], json!({}));

        let quota = json!({ "name": "tiny", "routes": { "total_routes": 1 }, "relationships": { "organizations": { "data": [{ "guid": "org-org" }] } } });
        admin.post("/v3/organization_quotas", quota).await.expect(201);
        expect!["422 CF-UnprocessableEntity: Routes quota exceeded for organization 'org'."]
            .assert_eq(&admin.post("/v3/routes", body(&space, &domain, "y", "")).await.error());
        let quota = json!({ "name": "small", "routes": { "total_routes": 1 }, "relationships": {
            "organization": { "data": { "guid": "org-org" } }, "spaces": { "data": [{ "guid": space }] } } });
        admin.post("/v3/space_quotas", quota).await.expect(201);
        expect!["422 CF-UnprocessableEntity: Routes quota exceeded for space 'space'."]
            .assert_eq(&admin.post("/v3/routes", body(&space, &domain, "y", "")).await.error());
        expect!["404 CF-ResourceNotFound: Route not found"]
            .assert_eq(&admin.get("/v3/routes/nowhere").await.error());
    }
}

#[tokio::test]
async fn a_route_can_be_shared_and_handed_over() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let other = harness.space("org", "other").await;
        let route = make(&admin, &space, &domain(&harness).await, "x").await;
        let app = admin.app("theirs", &other).await;
        let to_app = json!({ "destinations": [{ "app": { "guid": app } }] });
        let destinations = format!("/v3/routes/{route}/destinations");
        expect!["422 CF-UnprocessableEntity: Routes destinations must be in either the route's space or the route's shared spaces"]
            .assert_eq(&admin.post(&destinations, to_app.clone()).await.error());
        let shares = format!("/v3/routes/{route}/relationships/shared_spaces");
        admin.post(&shares, json!({ "data": [{ "guid": other }] })).await.expect(200);
        admin.post(&destinations, to_app).await.expect(200);
        let moved = admin
            .patch(
                &format!("/v3/routes/{route}/relationships/space"),
                json!({ "data": { "guid": other } }),
            )
            .await;
        assert_eq!(moved.expect(200), json!({ "status": "ok" }));
        assert_eq!(admin.get(&shares).await.expect(200)["data"], json!([{ "guid": space }]));
        admin.delete(&format!("{shares}/{space}")).await.expect(204);
    }
}
