//! `/v3/security_groups`.

use expect_test::expect;
use serde_json::json;

use super::shape::shape;
use crate::harness;

#[tokio::test]
async fn groups_are_made_bound_and_seen() {
    for harness in harness::all().await {
        let admin = harness.admin();
        harness.space("org", "s").await;
        harness.role("sm", "space_manager", "org-org", "space-s").await;
        harness.role("dev", "space_developer", "org-org", "space-s").await;
        assert_eq!(
            admin.get("/v3/security_groups?globally_enabled_running=true").await.column("name"),
            "public_networks dns"
        );
        let rules = json!([{ "protocol": "tcp", "destination": "10.0.0.1", "ports": "443" }]);
        let made = admin
            .post("/v3/security_groups", json!({ "name": "db", "rules": rules }))
            .await
            .expect(201);
        expect![[r#"
            {
              "created_at": "2026-01-31T12:00:00Z",
              "globally_enabled": {
                "running": false,
                "staging": false
              },
              "guid": "<1>",
              "links": {
                "self": {
                  "href": "http://api.test/v3/security_groups/<1>"
                }
              },
              "name": "db",
              "relationships": {
                "running_spaces": {
                  "data": []
                },
                "staging_spaces": {
                  "data": []
                }
              },
              "rules": [
                {
                  "destination": "10.0.0.1",
                  "ports": "443",
                  "protocol": "tcp"
                }
              ],
              "updated_at": "2026-01-31T12:00:00Z"
            }"#]]
        .assert_eq(&shape(&made));
        expect!["422 CF-UnprocessableEntity: Security group with name 'db' already exists."]
            .assert_eq(&admin.post("/v3/security_groups", json!({ "name": "db" })).await.error());
        expect!["422 CF-UnprocessableEntity: Rules[0]: ports are required for protocols of type TCP and UDP"]
            .assert_eq(&admin.post("/v3/security_groups", json!({ "name": "x", "rules": [{ "protocol": "tcp", "destination": "1.1.1.1" }] })).await.error());

        let path = format!("/v3/security_groups/{}", made["guid"].as_str().unwrap());
        let (manager, developer) = (harness.user("sm"), harness.user("dev"));
        developer.get(&path).await.expect(404);
        let running = format!("{path}/relationships/running_spaces");
        let space = json!({ "data": [{ "guid": "space-s" }] });
        assert_eq!(admin.post(&running, space.clone()).await.expect(200)["data"], space["data"]);
        developer.get(&path).await.expect(200);
        assert_eq!(
            developer.get("/v3/spaces/space-s/running_security_groups").await.column("name"),
            "public_networks dns db"
        );
        assert_eq!(
            developer.get("/v3/spaces/space-s/staging_security_groups").await.column("name"),
            "public_networks dns"
        );
        developer
            .post(&format!("{path}/relationships/staging_spaces"), space.clone())
            .await
            .expect(403);
        manager.post(&format!("{path}/relationships/staging_spaces"), space).await.expect(200);
        assert_eq!(
            admin.get("/v3/security_groups?staging_space_guids=space-s").await.column("name"),
            "db"
        );
        manager.delete(&format!("{running}/space-s")).await.expect(204);
        expect!["422 CF-UnprocessableEntity: Unable to unbind security group from space with guid 'space-s'. Ensure the space is bound to this security group."]
            .assert_eq(&manager.delete(&format!("{running}/space-s")).await.error());
        let everywhere = admin
            .patch(&path, json!({ "globally_enabled": { "running": true } }))
            .await
            .expect(200);
        assert_eq!(everywhere["globally_enabled"], json!({ "running": true, "staging": false }));
        manager.patch(&path, json!({ "name": "y" })).await.expect(403);
        let job = admin.delete(&path).await.job();
        assert_eq!(admin.get(&job).await.expect(200)["state"], "COMPLETE");
    }
}
