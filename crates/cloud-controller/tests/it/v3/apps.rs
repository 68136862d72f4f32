//! `/v3/apps`.

use expect_test::expect;
use serde_json::json;

use crate::harness;

#[tokio::test]
async fn an_app_is_made_listed_changed_and_deleted() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let guid = admin.app("dora", &space).await;
        admin.app("other", &space).await;

        let list = admin.get("/v3/apps?names=dora&include=space.organization,space").await;
        assert_eq!(list.column("guid"), guid);
        assert_eq!(list.body["included"]["spaces"][0]["name"], "space");
        assert_eq!(list.body["included"]["organizations"][0]["name"], "org");
        assert_eq!(list.body["pagination"]["total_results"], 1);

        let page = admin.get("/v3/apps?order_by=-name&per_page=1").await;
        assert_eq!(page.column("name"), "other");
        assert_eq!(
            page.body["pagination"]["next"]["href"],
            "http://api.test/v3/apps?order_by=-name&page=2&per_page=1"
        );
        let beyond = admin.get("/v3/apps?page=9").await;
        assert_eq!(beyond.body["pagination"]["total_results"], 2);

        let change = json!({ "name": "nora", "metadata": { "labels": { "env": "prod" }, "annotations": { "note": "x y" } } });
        let changed = admin.patch(&format!("/v3/apps/{guid}"), change).await.expect(200);
        assert_eq!(
            (&changed["name"], &changed["metadata"]["labels"]["env"]),
            (&json!("nora"), &json!("prod"))
        );
        assert_eq!(
            admin.get("/v3/apps?label_selector=env%20in%20(prod,test)").await.column("name"),
            "nora"
        );
        assert_eq!(admin.get("/v3/apps?label_selector=env!=prod").await.column("name"), "other");

        let job = admin.delete(&format!("/v3/apps/{guid}")).await.job();
        assert_eq!(admin.get(&job).await.expect(200)["state"], "COMPLETE");
        expect!["404 CF-ResourceNotFound: App not found"]
            .assert_eq(&admin.get(&format!("/v3/apps/{guid}")).await.error());
        assert!(harness.lines().contains(&format!("[API] Created app with guid {guid}")));
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_app_is_told_as_cloud_foundry_tells_it() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        admin.app("dora", &space).await;
        let make = |extra: serde_json::Value| {
            let mut body = json!({ "name": "dora", "relationships": { "space": { "data": { "guid": space } } } });
            body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            body
        };
        let mut told = String::new();
        for body in [
            make(json!({})),
            make(json!({ "name": "" })),
            make(json!({ "colour": 1 })),
            make(json!({ "relationships": {} })),
            make(json!({ "relationships": { "space": { "data": { "guid": "nowhere" } } } })),
            make(json!({ "environment_variables": { "PORT": "1" } })),
            make(
                json!({ "name": "n", "lifecycle": { "type": "buildpack", "data": { "buildpacks": ["no such"] } } }),
            ),
            make(
                json!({ "name": "n", "lifecycle": { "type": "buildpack", "data": { "stack": "none" } } }),
            ),
        ] {
            told += &format!("{}\n", admin.post("/v3/apps", body).await.error());
        }
        told += &format!(
            "{}\n",
            admin.get("/v3/apps?foo=1").await.error().split(". Valid").next().unwrap()
        );
        told += &format!("{}\n", harness.nobody().get("/v3/apps").await.error());
        told += &format!("{}\n", harness.user("expired").get("/v3/apps").await.error());
        told += &format!(
            "{}\n",
            harness.user("u:cloud_controller.read").post("/v3/apps", json!({})).await.error()
        );
        told += &format!("{}\n", admin.get("/v3/nothing").await.error());
        expect![[r#"
            422 CF-UniquenessError: App with the name 'dora' already exists.
            422 CF-UnprocessableEntity: Name can't be blank
            422 CF-UnprocessableEntity: Unknown field(s): 'colour'
            422 CF-UnprocessableEntity: Relationships Space can't be blank
            422 CF-UnprocessableEntity: Invalid space. Ensure that the space exists and you have access to it.
            422 CF-UnprocessableEntity: Environment variables cannot set PORT
            422 CF-UnprocessableEntity: Buildpack "no such" must be an existing admin buildpack or a valid git URI
            422 CF-UnprocessableEntity: Stack must be an existing stack
            400 CF-BadQueryParameter: The query parameter is invalid: Unknown query parameter(s): 'foo'
            401 CF-NotAuthenticated: Authentication error
            401 CF-InvalidAuthToken: Invalid Auth Token
            403 CF-NotAuthorized: You are not authorized to perform the requested action
            404 CF-NotFound: Unknown request
        "#]]
        .assert_eq(&told);
    }
}

#[tokio::test]
async fn roles_decide_who_sees_and_who_changes() {
    for harness in harness::all().await {
        let space = harness.space("org", "space").await;
        harness.space("org", "else").await;
        let guid = harness.admin().app("dora", &space).await;
        harness.role("dev", "space_developer", "org-org", &space).await;
        harness.role("auditor", "space_auditor", "org-org", &space).await;
        harness.role("supporter", "space_supporter", "org-org", &space).await;
        harness.role("manager", "organization_manager", "org-org", "").await;
        harness.role("member", "organization_user", "org-org", "").await;
        harness.role("neighbour", "space_developer", "org-org", "space-else").await;
        let mut told = String::new();
        for user in ["admin", "dev", "auditor", "supporter", "manager", "member", "neighbour"] {
            let client = harness.user(user);
            let listed = client.get("/v3/apps").await.body["pagination"]["total_results"].clone();
            let found = client.get(&format!("/v3/apps/{guid}")).await.status.as_u16();
            let renamed = client
                .patch(&format!("/v3/apps/{guid}"), json!({ "name": "dora" }))
                .await
                .status
                .as_u16();
            let stopped = client
                .post(&format!("/v3/apps/{guid}/actions/stop"), json!({}))
                .await
                .status
                .as_u16();
            told += &format!(
                "{user}: lists {listed}, find {found}, rename {renamed}, stop {stopped}\n"
            );
        }
        expect![[r#"
            admin: lists 1, find 200, rename 200, stop 200
            dev: lists 1, find 200, rename 200, stop 200
            auditor: lists 1, find 200, rename 403, stop 403
            supporter: lists 1, find 200, rename 403, stop 200
            manager: lists 1, find 200, rename 403, stop 403
            member: lists 0, find 404, rename 404, stop 404
            neighbour: lists 0, find 404, rename 404, stop 404
        "#]]
        .assert_eq(&told);
        harness.sql("UPDATE organizations SET suspended = 1").await;
        let refused =
            harness.user("dev").patch(&format!("/v3/apps/{guid}"), json!({})).await.error();
        expect!["403 CF-OrgSuspended: The organization is suspended"].assert_eq(&refused);
    }
}

#[tokio::test]
async fn a_new_name_reaches_what_runs_without_a_restart() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
        let running = async |name: &str, value: &str| {
            let fits = |lrp: &&std::sync::Arc<diego::DesiredLrp>| lrp.metric_tags[name] == value;
            let web = |all: &[std::sync::Arc<diego::DesiredLrp>]| {
                all.iter().find(|lrp| lrp.instances == 1).filter(fits).cloned()
            };
            harness.bbs.desired_when(web).await
        };
        let first = running("app_name", "dora").await;
        for (path, tag) in [
            (format!("/v3/apps/{app}"), "app_name"),
            (format!("/v3/spaces/{space}"), "space_name"),
            ("/v3/organizations/org-org".to_owned(), "organization_name"),
        ] {
            admin.patch(&path, json!({ "name": "renamed" })).await.expect(200);
            let lrp = running(tag, "renamed").await;
            // Another guid would mean other instances.
            assert_eq!(lrp.process_guid, first.process_guid);
        }
    }
}

#[tokio::test]
async fn labels_and_annotations_have_a_limit() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = admin.app("dora", &space).await;
        let many = |count: usize| {
            let all: serde_json::Map<String, serde_json::Value> =
                (0..count).map(|at| (format!("key-{at}"), json!("x"))).collect();
            all
        };
        let path = format!("/v3/apps/{app}");
        for (metadata, title) in [
            (json!({ "labels": many(51) }), "CF-LabelLimitExceeded"),
            (json!({ "annotations": many(201) }), "CF-AnnotationLimitExceeded"),
        ] {
            let refused = admin.patch(&path, json!({ "metadata": metadata })).await;
            assert_eq!(refused.expect(422)["errors"][0]["title"], title);
        }
        admin.patch(&path, json!({ "metadata": { "labels": many(50) } })).await.expect(200);
    }
}
