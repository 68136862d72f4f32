//! `/v3/organizations`.

use expect_test::expect;
use serde_json::json;

use super::shape::shape;
use crate::harness;

#[tokio::test]
async fn an_organization_is_made_changed_and_deleted_with_all_in_it() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let made = admin.post("/v3/organizations", json!({ "name": "acme" })).await.expect(201);
        expect![[r#"
            {
              "created_at": "2026-01-31T12:00:00Z",
              "guid": "<1>",
              "links": {
                "default_domain": {
                  "href": "http://api.test/v3/organizations/<1>/domains/default"
                },
                "domains": {
                  "href": "http://api.test/v3/organizations/<1>/domains"
                },
                "quota": {
                  "href": "http://api.test/v3/organization_quotas/<2>"
                },
                "self": {
                  "href": "http://api.test/v3/organizations/<1>"
                }
              },
              "metadata": {
                "annotations": {},
                "labels": {}
              },
              "name": "acme",
              "relationships": {
                "quota": {
                  "data": {
                    "guid": "<2>"
                  }
                }
              },
              "suspended": false,
              "updated_at": "2026-01-31T12:00:00Z"
            }"#]]
        .assert_eq(&shape(&made));
        let guid = made["guid"].as_str().unwrap();
        let path = format!("/v3/organizations/{guid}");
        expect!["422 CF-UnprocessableEntity: Organization 'acme' already exists."]
            .assert_eq(&admin.post("/v3/organizations", json!({ "name": "acme" })).await.error());
        let patch = json!({ "name": "acme2", "metadata": { "labels": { "a": "b" } } });
        assert_eq!(admin.patch(&path, patch).await.expect(200)["name"], "acme2");
        assert_eq!(admin.get("/v3/organizations?label_selector=a=b").await.column("name"), "acme2");

        let space = json!({ "name": "s", "relationships": { "organization": { "data": { "guid": guid } } } });
        let space = admin.post("/v3/spaces", space).await.expect(201);
        let space = space["guid"].as_str().unwrap();
        admin.app("dora", space).await;
        let usage = admin.get(&format!("{path}/usage_summary")).await.expect(200);
        assert_eq!(usage["usage_summary"]["started_instances"], 0);
        let domain = admin.get(&format!("{path}/domains/default")).await.expect(200);
        assert_eq!(domain["name"], "apps.test");

        let job = admin.delete(&path).await.job();
        assert_eq!(admin.get(&job).await.expect(200)["state"], "COMPLETE");
        admin.get(&path).await.expect(404);
        admin.get(&format!("/v3/spaces/{space}")).await.expect(404);
        assert_eq!(admin.get("/v3/apps").await.column("name"), "");
        let events = admin.get(&format!("/v3/audit_events?organization_guids={guid}&types=audit.organization.create,audit.organization.update,audit.organization.delete-request")).await;
        assert_eq!(
            events.column("type"),
            "audit.organization.create audit.organization.update audit.organization.delete-request"
        );
    }
}

#[tokio::test]
async fn roles_decide_who_sees_and_changes_an_organization() {
    for harness in harness::all().await {
        harness.space("one", "s1").await;
        harness.space("two", "s2").await;
        harness.role("manager", "organization_manager", "org-one", "").await;
        harness.role("user", "organization_user", "org-one", "").await;
        let (manager, user, stranger) =
            (harness.user("manager"), harness.user("user"), harness.user("stranger"));
        assert_eq!(manager.get("/v3/organizations").await.column("name"), "one");
        assert_eq!(user.get("/v3/organizations").await.column("name"), "one");
        assert_eq!(stranger.get("/v3/organizations").await.column("name"), "");
        stranger.get("/v3/organizations/org-one").await.expect(404);
        let rename = || json!({ "name": "uno" });
        user.patch("/v3/organizations/org-one", rename()).await.expect(403);
        manager.patch("/v3/organizations/org-one", rename()).await.expect(200);
        manager.patch("/v3/organizations/org-one", json!({ "suspended": true })).await.expect(403);
        manager.delete("/v3/organizations/org-one").await.expect(403);
        harness
            .admin()
            .patch("/v3/organizations/org-one", json!({ "suspended": true }))
            .await
            .expect(200);
        expect!["403 CF-OrgSuspended: The organization is suspended"]
            .assert_eq(&manager.patch("/v3/organizations/org-one", rename()).await.error());
        user.post("/v3/organizations", json!({ "name": "mine" })).await.expect(403);
        let flag = json!({ "enabled": true });
        harness.admin().patch("/v3/feature_flags/user_org_creation", flag).await.expect(200);
        user.post("/v3/organizations", json!({ "name": "mine" })).await.expect(201);
        user.get("/v3/organizations?names=mine").await.expect(200);
        assert_eq!(user.get("/v3/organizations?names=mine").await.column("name"), "mine");
        harness.nobody().get("/v3/organizations").await.expect(401);
    }
}
