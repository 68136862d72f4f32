//! `/v3/organization_quotas` and `/v3/space_quotas`.

use expect_test::expect;
use serde_json::{Value, json};

use super::shape::shape;
use crate::harness;

#[tokio::test]
async fn organization_quotas_are_made_applied_and_deleted() {
    for harness in harness::all().await {
        let admin = harness.admin();
        harness.space("org", "s").await;
        assert_eq!(admin.get("/v3/organization_quotas").await.column("name"), "default");
        let made = admin.post("/v3/organization_quotas", json!({ "name": "big", "apps": { "total_memory_in_mb": 10240 }, "routes": { "total_routes": null } })).await.expect(201);
        expect![[r#"
            {
              "apps": {
                "log_rate_limit_in_bytes_per_second": null,
                "per_app_tasks": null,
                "per_process_memory_in_mb": null,
                "total_instances": null,
                "total_memory_in_mb": 10240
              },
              "created_at": "2026-01-31T12:00:00Z",
              "domains": {
                "total_domains": null
              },
              "guid": "<1>",
              "links": {
                "self": {
                  "href": "http://api.test/v3/organization_quotas/<1>"
                }
              },
              "name": "big",
              "relationships": {
                "organizations": {
                  "data": []
                }
              },
              "routes": {
                "total_reserved_ports": null,
                "total_routes": null
              },
              "services": {
                "paid_services_allowed": true,
                "total_service_instances": null,
                "total_service_keys": null
              },
              "updated_at": "2026-01-31T12:00:00Z"
            }"#]]
        .assert_eq(&shape(&made));
        expect!["422 CF-UnprocessableEntity: Organization Quota 'big' already exists."].assert_eq(
            &admin.post("/v3/organization_quotas", json!({ "name": "big" })).await.error(),
        );
        let path = format!("/v3/organization_quotas/{}", made["guid"].as_str().unwrap());
        let orgs = json!({ "data": [{ "guid": "org-org" }] });
        let applied = admin
            .post(&format!("{path}/relationships/organizations"), orgs.clone())
            .await
            .expect(200);
        assert_eq!(applied["data"], orgs["data"]);
        assert_eq!(
            admin.get("/v3/organization_quotas?organization_guids=org-org").await.column("name"),
            "big"
        );
        expect!["422 CF-UnprocessableEntity: This quota is applied to one or more organizations. Apply different quotas to those organizations before deleting."]
            .assert_eq(&admin.delete(&path).await.error());
        expect!["422 CF-UnprocessableEntity: Organizations with guids [\"x\"] do not exist"]
            .assert_eq(
                &admin
                    .post(
                        &format!("{path}/relationships/organizations"),
                        json!({ "data": [{ "guid": "x" }] }),
                    )
                    .await
                    .error(),
            );
        let changed = admin.patch(&path, json!({ "services": { "paid_services_allowed": false }, "apps": { "total_memory_in_mb": null } })).await.expect(200);
        assert_eq!(
            (&changed["services"]["paid_services_allowed"], &changed["apps"]["total_memory_in_mb"]),
            (&json!(false), &json!(null))
        );
        harness
            .user("dev")
            .post("/v3/organization_quotas", json!({ "name": "x" }))
            .await
            .expect(403);
        let default = admin.get("/v3/organization_quotas?names=default").await.column("guid");
        admin
            .post(&format!("/v3/organization_quotas/{default}/relationships/organizations"), orgs)
            .await
            .expect(200);
        let job = admin.delete(&path).await.job();
        assert_eq!(admin.get(&job).await.expect(200)["state"], "COMPLETE");
        admin.get(&path).await.expect(404);
    }
}

#[tokio::test]
async fn space_quotas_belong_to_their_organizations_managers() {
    for harness in harness::all().await {
        harness.space("org", "s").await;
        harness.space("two", "t").await;
        harness.role("om", "organization_manager", "org-org", "").await;
        harness.role("dev", "space_developer", "org-org", "space-s").await;
        let body = |name: &str, org: &str| json!({ "name": name, "relationships": { "organization": { "data": { "guid": org } } } });
        let (manager, developer) = (harness.user("om"), harness.user("dev"));
        developer.post("/v3/space_quotas", body("q", "org-org")).await.expect(403);
        let made = manager.post("/v3/space_quotas", body("q", "org-org")).await.expect(201);
        expect!["422 CF-UnprocessableEntity: Space Quota 'q' already exists."]
            .assert_eq(&manager.post("/v3/space_quotas", body("q", "org-org")).await.error());
        expect!["422 CF-UnprocessableEntity: Organization with guid 'org-two' does not exist, or you do not have access to it."]
            .assert_eq(&manager.post("/v3/space_quotas", body("q", "org-two")).await.error());
        let path = format!("/v3/space_quotas/{}", made["guid"].as_str().unwrap());
        developer.get(&path).await.expect(404);
        let spaces = format!("{path}/relationships/spaces");
        expect!["422 CF-UnprocessableEntity: Space quotas cannot be applied outside of their owning organization."]
            .assert_eq(&harness.admin().post(&spaces, json!({ "data": [{ "guid": "space-t" }] })).await.error());
        manager.post(&spaces, json!({ "data": [{ "guid": "space-s" }] })).await.expect(200);
        assert_eq!(
            developer.get(&path).await.expect(200)["relationships"]["spaces"]["data"],
            json!([{ "guid": "space-s" }])
        );
        assert_eq!(developer.get("/v3/space_quotas").await.column("name"), "q");
        developer.patch(&path, json!({ "name": "z" })).await.expect(403);
        manager.patch(&path, json!({ "name": "z" })).await.expect(200);
        expect!["422 CF-UnprocessableEntity: This quota is applied to one or more spaces. Remove this quota from all spaces before deleting."]
            .assert_eq(&manager.delete(&path).await.error());
        manager.delete(&format!("{spaces}/space-s")).await.expect(204);
        let again = manager.delete(&format!("{spaces}/space-s")).await.error();
        expect!["422 CF-UnprocessableEntity: Unable to remove quota from space with guid 'space-s'. Ensure the space quota is applied to this space."].assert_eq(&again);
        manager.delete(&path).await.expect(202);
    }
}

#[tokio::test]
async fn a_quota_reserves_no_more_ports_than_it_has_routes() {
    for harness in harness::all().await {
        let admin = harness.admin();
        harness.space("one", "s1").await;
        let org = |routes: Value, ports: i64| json!({ "name": "q", "routes": { "total_routes": routes, "total_reserved_ports": ports } });
        let all = "/v3/organization_quotas";
        let told = "422 CF-UnprocessableEntity: Total reserved ports must be -1, 0, or a positive integer, and must be less than or equal to total routes.";
        assert_eq!(admin.post(all, org(json!(1), 2)).await.error(), told);
        let made = admin.post(all, org(Value::Null, 2)).await.expect(201);
        let path = format!("{all}/{}", made["guid"].as_str().unwrap());
        let fewer = json!({ "routes": { "total_routes": 1 } });
        assert_eq!(admin.patch(&path, fewer).await.error(), told);
        let put = json!({ "data": [{ "guid": "org-one" }] });
        admin.post(&format!("{path}/relationships/organizations"), put).await.expect(200);

        let space = |ports: i64| {
            json!({ "name": "sq", "routes": { "total_reserved_ports": ports },
            "relationships": { "organization": { "data": { "guid": "org-one" } } } })
        };
        expect!["422 CF-UnprocessableEntity: Total reserved ports must be -1, 0, or a positive integer, must be less than or equal to total routes, and must be less than or equal to total reserved ports for the organization quota."]
            .assert_eq(&admin.post("/v3/space_quotas", space(3)).await.error());
        admin.post("/v3/space_quotas", space(2)).await.expect(201);
    }
}
