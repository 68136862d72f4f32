//! `/v3/roles` and `/v3/users`.

use expect_test::expect;
use serde_json::{Value, json};

use super::shape::shape;
use crate::harness;

fn org_role(kind: &str, user: Value) -> Value {
    json!({ "type": kind, "relationships": { "user": { "data": user }, "organization": { "data": { "guid": "org-org" } } } })
}

fn space_role(kind: &str, user: Value) -> Value {
    json!({ "type": kind, "relationships": { "user": { "data": user }, "space": { "data": { "guid": "space-s" } } } })
}

#[tokio::test]
async fn roles_are_granted_by_guid_or_name_and_revoked() {
    for harness in harness::all().await {
        let admin = harness.admin();
        harness.space("org", "s").await;
        harness.identity.add("u1", "alice", "uaa");
        let early = admin
            .post("/v3/roles", space_role("space_developer", json!({ "username": "alice" })))
            .await
            .error();
        expect!["422 CF-UnprocessableEntity: Users cannot be assigned roles in a space if they do not have a role in that space's organization."]
            .assert_eq(&early);
        let made = admin
            .post("/v3/roles", org_role("organization_user", json!({ "username": "alice" })))
            .await
            .expect(201);
        expect![[r#"
            {
              "created_at": "2026-01-31T12:00:00Z",
              "guid": "<1>",
              "links": {
                "organization": {
                  "href": "http://api.test/v3/organizations/org-org"
                },
                "self": {
                  "href": "http://api.test/v3/roles/<1>"
                },
                "user": {
                  "href": "http://api.test/v3/users/u1"
                }
              },
              "relationships": {
                "organization": {
                  "data": {
                    "guid": "org-org"
                  }
                },
                "space": {
                  "data": null
                },
                "user": {
                  "data": {
                    "guid": "u1"
                  }
                }
              },
              "type": "organization_user",
              "updated_at": "2026-01-31T12:00:00Z"
            }"#]]
        .assert_eq(&shape(&made));
        admin
            .post("/v3/roles", space_role("space_developer", json!({ "guid": "u1" })))
            .await
            .expect(201);
        expect!["422 CF-UnprocessableEntity: User 'alice' already has 'space_developer' role in space 's'."]
            .assert_eq(&admin.post("/v3/roles", space_role("space_developer", json!({ "guid": "u1" }))).await.error());

        let list = admin.get("/v3/roles?space_guids=space-s&include=user").await;
        assert_eq!(list.column("type"), "space_developer");
        assert_eq!(list.body["included"]["users"][0]["username"], "alice");
        let orgs = admin.get("/v3/roles?organization_guids=org-org&include=organization").await;
        assert_eq!(orgs.column("type"), "organization_user");
        assert_eq!(harness.user("u1").get("/v3/spaces").await.column("name"), "s");

        let path = format!("/v3/roles/{}", made["guid"].as_str().unwrap());
        expect!["422 CF-UnprocessableEntity: Cannot delete organization_user role while user has roles in spaces in that organization."]
            .assert_eq(&admin.delete(&path).await.error());
        let space = list.column("guid");
        let job = admin.delete(&format!("/v3/roles/{space}")).await.job();
        assert_eq!(admin.get(&job).await.expect(200)["state"], "COMPLETE");
        admin.delete(&path).await.expect(202);
        assert_eq!(harness.user("u1").get("/v3/spaces").await.column("name"), "");
        let events = admin.get("/v3/audit_events?target_guids=u1").await.column("type");
        assert_eq!(
            events,
            "audit.user.organization_user_add audit.user.space_developer_add audit.user.space_developer_remove audit.user.organization_user_remove"
        );
    }
}

#[tokio::test]
async fn only_managers_grant_roles() {
    for harness in harness::all().await {
        harness.space("org", "s").await;
        harness.identity.add("u1", "alice", "uaa");
        harness.identity.add("u2", "bob", "uaa");
        harness.identity.add("u3", "bob", "ldap");
        harness.role("om", "organization_manager", "org-org", "").await;
        harness.role("sm", "space_manager", "org-org", "space-s").await;
        harness.role("dev", "space_developer", "org-org", "space-s").await;
        let body = || org_role("organization_auditor", json!({ "username": "alice" }));
        harness.user("stranger").post("/v3/roles", body()).await.expect(403);
        harness.user("dev").post("/v3/roles", body()).await.expect(403);
        harness.user("sm").post("/v3/roles", body()).await.expect(403);
        harness.user("om").post("/v3/roles", body()).await.expect(201);
        let in_space = || space_role("space_auditor", json!({ "username": "alice" }));
        harness.user("dev").post("/v3/roles", in_space()).await.expect(403);
        harness.user("sm").post("/v3/roles", in_space()).await.expect(201);
        let two = harness
            .user("om")
            .post("/v3/roles", org_role("organization_user", json!({ "username": "bob" })))
            .await
            .error();
        expect!["422 CF-UnprocessableEntity: Ambiguous user. User with username 'bob' exists in the following origins: ldap, uaa. Specify an origin to disambiguate."]
            .assert_eq(&two);
        let ldap = org_role("organization_user", json!({ "username": "bob", "origin": "ldap" }));
        assert_eq!(
            harness.user("om").post("/v3/roles", ldap).await.expect(201)["relationships"]["user"]["data"]
                ["guid"],
            "u3"
        );
        expect!["422 CF-UnprocessableEntity: No user exists with the username 'zoe'."].assert_eq(
            &harness
                .user("om")
                .post("/v3/roles", org_role("organization_user", json!({ "username": "zoe" })))
                .await
                .error(),
        );
        let mixed = json!({ "type": "organization_user", "relationships": { "user": { "data": { "guid": "u1" } }, "space": { "data": { "guid": "space-s" } } } });
        let told = harness.admin().post("/v3/roles", mixed).await.error();
        assert!(
            told.contains(
                "Space cannot be provided with the organization role type: 'organization_user'."
            ),
            "{told}"
        );
    }
}

#[tokio::test]
async fn users_are_known_by_guid_and_named_by_the_identity() {
    for harness in harness::all().await {
        let admin = harness.admin();
        harness.space("org", "s").await;
        harness.identity.add("u1", "alice", "uaa");
        let made = admin.post("/v3/users", json!({ "guid": "u1" })).await.expect(201);
        assert_eq!((&made["username"], &made["origin"]), (&json!("alice"), &json!("uaa")));
        expect!["422 CF-UnprocessableEntity: User with guid 'u1' already exists."]
            .assert_eq(&admin.post("/v3/users", json!({ "guid": "u1" })).await.error());
        let shadow = admin
            .post("/v3/users", json!({ "username": "eve", "origin": "ldap" }))
            .await
            .expect(201);
        assert_eq!(shadow["presentation_name"], "eve");
        assert_eq!(
            admin.get("/v3/users?usernames=alice,eve").await.column("username"),
            "alice eve"
        );
        assert_eq!(admin.get("/v3/users?partial_usernames=LIC").await.column("username"), "alice");
        assert_eq!(admin.get("/v3/users?usernames=eve&origins=uaa").await.column("username"), "");
        let client = admin.post("/v3/users", json!({ "guid": "robot" })).await.expect(201);
        assert_eq!(
            (&client["username"], &client["presentation_name"]),
            (&json!(null), &json!("robot"))
        );
        // Others see only whom they share an organization with.
        harness.role("dev", "space_developer", "org-org", "space-s").await;
        assert_eq!(harness.user("dev").get("/v3/users").await.column("guid"), "");
        harness.role("u1", "organization_user", "org-org", "").await;
        assert_eq!(harness.user("dev").get("/v3/users").await.column("guid"), "u1");
        assert_eq!(admin.get("/v3/organizations/org-org/users").await.column("username"), "alice");
        harness.user("dev").post("/v3/users", json!({ "guid": "x" })).await.expect(403);
        admin.delete("/v3/users/u1").await.expect(202);
        expect!["404 CF-ResourceNotFound: User not found"]
            .assert_eq(&admin.get("/v3/users/u1").await.error());
        assert_eq!(admin.get("/v3/roles?user_guids=u1").await.column("guid"), "");
    }
}
