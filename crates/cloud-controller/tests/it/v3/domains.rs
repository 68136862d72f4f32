//! `/v3/domains`.

use expect_test::expect;
use serde_json::json;

use super::shape::shape;
use crate::harness;

#[tokio::test]
async fn domains_are_shared_by_all_or_owned() {
    for harness in harness::all().await {
        let admin = harness.admin();
        harness.space("one", "s1").await;
        harness.space("two", "s2").await;
        let private = json!({
            "name": "One.example.com",
            "relationships": { "organization": { "data": { "guid": "org-one" } } },
        });
        let made = admin.post("/v3/domains", private.clone()).await.expect(201);
        expect![[r#"
            {
              "created_at": "2026-01-31T12:00:00Z",
              "guid": "<1>",
              "internal": false,
              "links": {
                "organization": {
                  "href": "http://api.test/v3/organizations/org-one"
                },
                "route_reservations": {
                  "href": "http://api.test/v3/domains/<1>/route_reservations"
                },
                "self": {
                  "href": "http://api.test/v3/domains/<1>"
                },
                "shared_organizations": {
                  "href": "http://api.test/v3/domains/<1>/relationships/shared_organizations"
                }
              },
              "metadata": {
                "annotations": {},
                "labels": {}
              },
              "name": "one.example.com",
              "relationships": {
                "organization": {
                  "data": {
                    "guid": "org-one"
                  }
                },
                "shared_organizations": {
                  "data": []
                }
              },
              "router_group": null,
              "supported_protocols": [
                "http"
              ],
              "updated_at": "2026-01-31T12:00:00Z"
            }"#]]
        .assert_eq(&shape(&made));
        expect![[
            r#"422 CF-UnprocessableEntity: The domain name "one.example.com" is already in use"#
        ]]
        .assert_eq(&admin.post("/v3/domains", private).await.error());
        let group = json!({ "name": "tcp.example.com", "router_group": { "guid": "g" } });
        expect!["422 CF-UnprocessableEntity: Router group with guid 'g' not found."]
            .assert_eq(&admin.post("/v3/domains", group).await.error());
        expect![[r#"422 CF-UnprocessableEntity: Name does not comply with RFC 1035 standards, Name must contain at least one ".", Name must consist of alphanumeric characters and hyphens"#]]
            .assert_eq(&admin.post("/v3/domains", json!({ "name": "a_b" })).await.error());

        let path = format!("/v3/domains/{}", made["guid"].as_str().unwrap());
        assert_eq!(
            admin.get("/v3/organizations/org-one/domains").await.column("name"),
            "apps.test one.example.com"
        );
        assert_eq!(
            admin.get("/v3/organizations/org-two/domains").await.column("name"),
            "apps.test"
        );
        let share = json!({ "data": [{ "guid": "org-two" }] });
        let shares = format!("{path}/relationships/shared_organizations");
        admin.post(&shares, share).await.expect(200);
        assert_eq!(
            admin.get("/v3/organizations/org-two/domains").await.column("name"),
            "apps.test one.example.com"
        );
        expect!["422 CF-UnprocessableEntity: This domain is shared with other organizations. Unshare before deleting."]
            .assert_eq(&admin.delete(&path).await.error());
        admin.delete(&format!("{shares}/org-two")).await.expect(204);
        expect!["422 CF-UnprocessableEntity: Unable to unshare domain from organization with name 'two'. Ensure the domain is shared to this organization."]
            .assert_eq(&admin.delete(&format!("{shares}/org-two")).await.error());
        let job = admin.delete(&path).await.job();
        assert_eq!(admin.get(&job).await.expect(200)["state"], "COMPLETE");
    }
}

#[tokio::test]
async fn private_domains_are_seen_by_their_organization_alone() {
    for harness in harness::all().await {
        harness.space("one", "s1").await;
        harness.role("om", "organization_manager", "org-one", "").await;
        harness.role("bm", "organization_billing_manager", "org-one", "").await;
        let body = json!({ "name": "one.example.com", "relationships": { "organization": { "data": { "guid": "org-one" } } } });
        let (manager, billing) = (harness.user("om"), harness.user("bm"));
        billing.post("/v3/domains", body.clone()).await.expect(403);
        manager.post("/v3/domains", body).await.expect(201);
        manager.post("/v3/domains", json!({ "name": "all.example.com" })).await.expect(403);
        assert_eq!(manager.get("/v3/domains").await.column("name"), "apps.test one.example.com");
        assert_eq!(billing.get("/v3/domains").await.column("name"), "apps.test");
        assert_eq!(harness.user("x").get("/v3/domains").await.column("name"), "apps.test");
    }
}

#[tokio::test]
async fn names_that_are_reserved_are_nobodys() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("one", "s1").await;
        harness.space("two", "s2").await;
        let domain = async |name: &str, org: &str| {
            let mut body = json!({ "name": name });
            if !org.is_empty() {
                body["relationships"] = json!({ "organization": { "data": { "guid": org } } });
            }
            admin.post("/v3/domains", body).await
        };
        let owned = domain("one.test", "org-one").await.expect(201);
        for (name, org, want) in [
            (
                "x.one.test",
                "org-two",
                r#"The domain name "x.one.test" cannot be created because "one.test" is already reserved by another domain"#,
            ),
            (
                "a.b.one.test",
                "",
                r#"The domain name "a.b.one.test" cannot be created because "one.test" is already reserved by another domain"#,
            ),
            (
                "api.apps.test",
                "",
                r#"The "api.apps.test" domain is reserved and cannot be used for shared domains."#,
            ),
            (
                "api.apps.test",
                "org-one",
                r#"The "api.apps.test" domain is reserved and cannot be used for org-scoped domains."#,
            ),
            ("-x.test", "", "Name does not comply with RFC 1035 standards"),
            ("x..test", "", "Name does not comply with RFC 1035 standards"),
        ] {
            let want = format!("422 CF-UnprocessableEntity: {want}");
            assert_eq!(domain(name, org).await.error(), want);
        }
        domain("x.one.test", "org-one").await.expect(201);
        domain("mine.apps.test", "org-two").await.expect(201);

        let route = async |host: &str, domain: &str| {
            let body = json!({ "host": host, "relationships": {
                "space": { "data": { "guid": space } }, "domain": { "data": { "guid": domain } } } });
            admin.post("/v3/routes", body).await
        };
        let shared = admin.get("/v3/domains?names=apps.test").await.expect(200);
        let shared = shared["resources"][0]["guid"].as_str().unwrap().to_owned();
        assert_eq!(
            route("api", &shared).await.error(),
            "422 CF-UnprocessableEntity: Route conflicts with a reserved system route."
        );
        route("web", owned["guid"].as_str().unwrap()).await.expect(201);
        let below = domain("x.web.one.test", "org-one").await;
        expect![[r#"422 CF-UnprocessableEntity: The domain name "x.web.one.test" cannot be created because "web.one.test" is already reserved by a route"#]]
            .assert_eq(&below.error());
    }
}
