//! User-provided service instances, their bindings, and the empty marketplace.

use expect_test::expect;
use serde_json::{Value, json};

use super::routes::domain;
use super::shape::shape;
use crate::harness;

fn instance(name: &str, extra: Value) -> Value {
    let mut body = json!({
        "type": "user-provided",
        "name": name,
        "relationships": { "space": { "data": { "guid": "space-s" } } },
    });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

fn bind(app: &str, instance: &str) -> Value {
    json!({
        "type": "app",
        "relationships": { "app": { "data": { "guid": app } }, "service_instance": { "data": { "guid": instance } } },
    })
}

#[tokio::test]
async fn an_instance_is_made_bound_and_deleted() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "s").await;
        let secret = json!({ "credentials": { "uri": "sql://secret" }, "tags": ["sql"], "syslog_drain_url": "syslog://logs.test" });
        let made = admin.post("/v3/service_instances", instance("db", secret)).await.expect(201);
        expect![[r#"
            {
              "created_at": "2026-01-31T12:00:00Z",
              "guid": "<1>",
              "last_operation": {
                "created_at": "2026-01-31T12:00:00Z",
                "description": "Operation succeeded",
                "state": "succeeded",
                "type": "create",
                "updated_at": "2026-01-31T12:00:00Z"
              },
              "links": {
                "credentials": {
                  "href": "http://api.test/v3/service_instances/<1>/credentials"
                },
                "self": {
                  "href": "http://api.test/v3/service_instances/<1>"
                },
                "service_credential_bindings": {
                  "href": "http://api.test/v3/service_credential_bindings?service_instance_guids=<1>"
                },
                "service_route_bindings": {
                  "href": "http://api.test/v3/service_route_bindings?service_instance_guids=<1>"
                },
                "space": {
                  "href": "http://api.test/v3/spaces/space-s"
                }
              },
              "metadata": {
                "annotations": {},
                "labels": {}
              },
              "name": "db",
              "relationships": {
                "space": {
                  "data": {
                    "guid": "space-s"
                  }
                }
              },
              "route_service_url": null,
              "syslog_drain_url": "syslog://logs.test",
              "tags": [
                "sql"
              ],
              "type": "user-provided",
              "updated_at": "2026-01-31T12:00:00Z"
            }"#]]
        .assert_eq(&shape(&made));
        let guid = made["guid"].as_str().unwrap();
        expect!["422 CF-UnprocessableEntity: The service instance name is taken: db"].assert_eq(
            &admin.post("/v3/service_instances", instance("db", json!({}))).await.error(),
        );
        let app = admin.app("dora", &space).await;
        let binding =
            admin.post("/v3/service_credential_bindings", bind(&app, guid)).await.expect(201);
        expect!["422 CF-UnprocessableEntity: The app is already bound to the service instance"]
            .assert_eq(
                &admin.post("/v3/service_credential_bindings", bind(&app, guid)).await.error(),
            );
        let key = json!({ "type": "key", "name": "k", "relationships": { "service_instance": { "data": { "guid": guid } } } });
        expect!["422 CF-UnprocessableEntity: Service credential bindings of type 'key' are not supported for user-provided service instances."]
            .assert_eq(&admin.post("/v3/service_credential_bindings", key).await.error());
        let list = admin
            .get(&format!(
                "/v3/service_credential_bindings?app_guids={app}&include=app,service_instance"
            ))
            .await;
        assert_eq!(list.body["included"]["apps"][0]["name"], "dora");
        assert_eq!(list.body["included"]["service_instances"][0]["name"], "db");
        let env = admin.get(&format!("/v3/apps/{app}/env")).await.expect(200);
        assert_eq!(
            env["system_env_json"]["VCAP_SERVICES"]["user-provided"][0]["credentials"]["uri"],
            "sql://secret"
        );

        // Other credentials reach the bindings too.
        let path = format!("/v3/service_instances/{guid}");
        admin
            .patch(&path, json!({ "credentials": { "uri": "sql://new" }, "syslog_drain_url": "" }))
            .await
            .expect(200);
        let details = format!(
            "/v3/service_credential_bindings/{}/details",
            binding["guid"].as_str().unwrap()
        );
        assert_eq!(
            admin.get(&details).await.expect(200),
            json!({ "credentials": { "uri": "sql://new" }, "volume_mounts": [] })
        );
        assert_eq!(
            admin.get(&format!("{path}/credentials")).await.expect(200),
            json!({ "uri": "sql://new" })
        );
        let fields = "fields[space]=name,guid,relationships.organization&fields[space.organization]=name&fields[service_plan]=name";
        let list = admin.get(&format!("/v3/service_instances?names=db&{fields}")).await;
        assert_eq!(list.body["included"]["organizations"], json!([{ "name": "org" }]));
        let events = admin.get(&format!("/v3/audit_events?target_guids={guid}")).await;
        assert!(!events.body.to_string().contains("sql://"), "{}", events.body);

        let one = format!("/v3/service_credential_bindings/{}", binding["guid"].as_str().unwrap());
        admin.delete(&one).await.expect(204);
        admin.post("/v3/service_credential_bindings", bind(&app, guid)).await.expect(201);
        admin.delete(&path).await.expect(204);
        assert_eq!(admin.get("/v3/service_credential_bindings").await.column("guid"), "");
        expect!["404 CF-ResourceNotFound: Service instance not found"]
            .assert_eq(&admin.get(&path).await.error());
    }
}

#[tokio::test]
async fn credentials_are_for_developers() {
    for harness in harness::all().await {
        harness.space("org", "s").await;
        harness.role("dev", "space_developer", "org-org", "space-s").await;
        harness.role("aud", "space_auditor", "org-org", "space-s").await;
        let (developer, auditor) = (harness.user("dev"), harness.user("aud"));
        auditor.post("/v3/service_instances", instance("db", json!({}))).await.expect(403);
        let made = developer
            .post("/v3/service_instances", instance("db", json!({ "credentials": { "a": 1 } })))
            .await
            .expect(201);
        let path = format!("/v3/service_instances/{}", made["guid"].as_str().unwrap());
        auditor.get(&path).await.expect(200);
        auditor.get(&format!("{path}/credentials")).await.expect(403);
        developer.get(&format!("{path}/credentials")).await.expect(200);
        auditor.delete(&path).await.expect(403);
        harness.user("stranger").get(&path).await.expect(404);
        assert_eq!(harness.user("stranger").get("/v3/service_instances").await.column("name"), "");
        assert_eq!(
            auditor.get(&format!("{path}/permissions")).await.expect(200),
            json!({ "read": true, "manage": false })
        );
    }
}

#[tokio::test]
async fn a_route_can_go_through_a_route_service() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "s").await;
        let route = json!({ "host": "x", "relationships": { "space": { "data": { "guid": space } }, "domain": { "data": { "guid": domain(&harness).await } } } });
        let route = admin.post("/v3/routes", route).await.expect(201);
        let service = |name: &str, url: Value| instance(name, json!({ "route_service_url": url }));
        let plain =
            admin.post("/v3/service_instances", service("plain", Value::Null)).await.expect(201);
        let rs = admin
            .post("/v3/service_instances", service("rs", json!("https://rs.test")))
            .await
            .expect(201);
        let body = |instance: &Value| json!({ "relationships": { "route": { "data": { "guid": route["guid"] } }, "service_instance": { "data": { "guid": instance["guid"] } } } });
        expect![
            "422 CF-UnprocessableEntity: This service instance does not support route binding."
        ]
        .assert_eq(&admin.post("/v3/service_route_bindings", body(&plain)).await.error());
        let bound = admin.post("/v3/service_route_bindings", body(&rs)).await.expect(201);
        assert_eq!(bound["route_service_url"], "https://rs.test");
        assert_eq!(
            admin.post("/v3/service_route_bindings", body(&rs)).await.body["errors"][0]["code"],
            130_008
        );
        let list = admin
            .get(&format!(
                "/v3/service_route_bindings?route_guids={}&include=service_instance,route",
                route["guid"].as_str().unwrap()
            ))
            .await;
        assert_eq!(list.body["included"]["service_instances"][0]["name"], "rs");
        assert_eq!(list.body["included"]["routes"][0]["host"], "x");
        admin
            .delete(&format!("/v3/service_route_bindings/{}", bound["guid"].as_str().unwrap()))
            .await
            .expect(204);
        assert_eq!(admin.get("/v3/service_route_bindings").await.column("guid"), "");
    }
}

#[tokio::test]
async fn the_marketplace_is_empty_and_says_so() {
    for harness in harness::all().await {
        let admin = harness.admin();
        for list in [
            "service_brokers",
            "service_offerings",
            "service_plans?available=true&include=service_offering&fields[service_offering.service_broker]=name,guid",
        ] {
            let answer = admin.get(&format!("/v3/{list}")).await.expect(200);
            assert_eq!(answer["pagination"]["total_pages"], 1, "{list}");
            assert_eq!(answer["resources"], json!([]), "{list}");
        }
        harness.nobody().get("/v3/service_plans").await.expect(200);
        expect!["404 CF-ResourceNotFound: Service plan not found"]
            .assert_eq(&admin.get("/v3/service_plans/x").await.error());
    }
}

#[tokio::test]
async fn an_app_that_asks_for_files_gets_them() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "s").await;
        let app = harness.staged_app(&space).await;
        let secret = json!({ "credentials": { "password": "open sesame" } });
        let made = admin.post("/v3/service_instances", instance("db", secret)).await.expect(201);
        let service = made["guid"].as_str().unwrap();
        admin.post("/v3/service_credential_bindings", bind(&app, service)).await.expect(201);
        let feature = format!("/v3/apps/{app}/features/service-binding-k8s");
        admin.patch(&feature, json!({ "enabled": true })).await.expect(200);
        admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
        let lrp = harness
            .bbs
            .desired_when(|all| {
                all.iter().find(|l| l.process_guid.as_str().starts_with(&app)).cloned()
            })
            .await;
        let files = &lrp.run.volume_mounted_files;
        let password = files.iter().find(|file| file.path == "db/password").unwrap();
        assert_eq!(password.content, "open sesame");

        // What cannot be a folder is told before anything is restarted.
        let name = json!({ "name": "My_DB" });
        admin.patch(&format!("/v3/service_instances/{service}"), name).await.expect(200);
        let refused = admin.post(&format!("/v3/apps/{app}/actions/restart"), json!({})).await;
        expect!["422 CF-UnprocessableEntity: Invalid binding name: 'My_DB'. It must be 1 to 253 of the characters a-z, 0-9, - and ."]
            .assert_eq(&refused.error());
    }
}
