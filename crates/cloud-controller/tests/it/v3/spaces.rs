//! `/v3/spaces`.

use expect_test::expect;
use serde_json::json;

use super::shape::shape;
use crate::harness;

#[tokio::test]
async fn a_space_is_made_changed_and_deleted() {
    for harness in harness::all().await {
        let admin = harness.admin();
        harness.space("org", "old").await;
        let body = |name: &str| json!({ "name": name, "relationships": { "organization": { "data": { "guid": "org-org" } } } });
        let made = admin.post("/v3/spaces", body("dev")).await.expect(201);
        expect![[r#"
            {
              "created_at": "2026-01-31T12:00:00Z",
              "guid": "<1>",
              "links": {
                "apply_manifest": {
                  "href": "http://api.test/v3/spaces/<1>/actions/apply_manifest",
                  "method": "POST"
                },
                "features": {
                  "href": "http://api.test/v3/spaces/<1>/features"
                },
                "organization": {
                  "href": "http://api.test/v3/organizations/org-org"
                },
                "self": {
                  "href": "http://api.test/v3/spaces/<1>"
                }
              },
              "metadata": {
                "annotations": {},
                "labels": {}
              },
              "name": "dev",
              "relationships": {
                "organization": {
                  "data": {
                    "guid": "org-org"
                  }
                },
                "quota": {
                  "data": null
                }
              },
              "suspended": false,
              "updated_at": "2026-01-31T12:00:00Z"
            }"#]]
        .assert_eq(&shape(&made));
        let path = format!("/v3/spaces/{}", made["guid"].as_str().unwrap());
        let again = admin.post("/v3/spaces", body("dev")).await.error();
        expect!["422 CF-UnprocessableEntity: Name must be unique per organization"]
            .assert_eq(&again);
        let taken = admin.patch(&path, json!({ "name": "old" })).await.error();
        expect!["422 CF-UnprocessableEntity: Organization 'org' already contains a space with name 'old'."].assert_eq(&taken);
        let list = admin.get("/v3/spaces?include=organization&order_by=name").await;
        assert_eq!(list.column("name"), "dev old");
        assert_eq!(list.body["included"]["organizations"][0]["name"], "org");

        assert_eq!(admin.get(&format!("{path}/features/ssh")).await.expect(200)["enabled"], true);
        admin.patch(&format!("{path}/features/ssh"), json!({ "enabled": false })).await.expect(200);
        assert_eq!(
            admin.get(&format!("{path}/features")).await.expect(200)["features"][0]["enabled"],
            false
        );
        expect!["404 CF-ResourceNotFound: Feature not found"]
            .assert_eq(&admin.get(&format!("{path}/features/magic")).await.error());

        let job = admin.delete(&path).await.job();
        assert_eq!(admin.get(&job).await.expect(200)["operation"], "space.delete");
        admin.get(&path).await.expect(404);
    }
}

#[tokio::test]
async fn roles_decide_who_changes_a_space() {
    for harness in harness::all().await {
        harness.space("org", "s").await;
        harness.role("om", "organization_manager", "org-org", "").await;
        harness.role("sm", "space_manager", "org-org", "space-s").await;
        harness.role("dev", "space_developer", "org-org", "space-s").await;
        harness.role("ou", "organization_user", "org-org", "").await;
        let path = "/v3/spaces/space-s";
        for (who, see, rename, delete) in [
            ("ou", 404, 404, 404),
            ("dev", 200, 403, 403),
            ("sm", 200, 200, 403),
            ("om", 200, 200, 202),
        ] {
            let client = harness.user(who);
            assert_eq!(client.get(path).await.status.as_u16(), see, "{who}");
            let renamed = client.patch(path, json!({ "name": format!("by-{who}") })).await;
            assert_eq!(renamed.status.as_u16(), rename, "{who}");
            assert_eq!(client.delete(path).await.status.as_u16(), delete, "{who}");
        }
    }
}
