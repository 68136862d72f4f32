//! What an operator sets for all: buildpacks, stacks, flags, variable groups, segments, events.

use std::io::Write as _;

use expect_test::expect;
use serde_json::json;

use crate::harness;

fn zip(manifest: &str) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("manifest.yml", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(manifest.as_bytes()).unwrap();
    writer.finish().unwrap().into_inner()
}

#[tokio::test]
async fn buildpacks_keep_their_order_and_take_bits() {
    for harness in harness::all().await {
        let admin = harness.admin();
        assert_eq!(
            admin.get("/v3/buildpacks").await.column("name"),
            "binary_buildpack ruby_buildpack"
        );
        let made = admin
            .post("/v3/buildpacks", json!({ "name": "mine", "position": 2 }))
            .await
            .expect(201);
        assert_eq!(
            (&made["state"], &made["stack"], &made["position"]),
            (&json!("AWAITING_UPLOAD"), &json!(null), &json!(2))
        );
        assert_eq!(
            admin.get("/v3/buildpacks?order_by=position").await.column("name"),
            "binary_buildpack mine ruby_buildpack"
        );
        expect!["422 CF-UnprocessableEntity: Buildpack with name 'mine' and an unassigned stack already exists"]
            .assert_eq(&admin.post("/v3/buildpacks", json!({ "name": "mine" })).await.error());
        expect!["422 CF-UnprocessableEntity: Stack 'nope' does not exist"].assert_eq(
            &admin.post("/v3/buildpacks", json!({ "name": "x", "stack": "nope" })).await.error(),
        );

        let path = format!("/v3/buildpacks/{}", made["guid"].as_str().unwrap());
        let upload = format!("{path}/upload");
        expect!["422 CF-UnprocessableEntity: Uploaded buildpack file is invalid: f is not a zip"]
            .assert_eq(&admin.upload(&upload, "bits", b"no zip", &[]).await.error());
        let answer = admin.upload(&upload, "bits", &zip("stack: cflinuxfs4\n"), &[]).await;
        let job = answer.job();
        assert_eq!(
            (&answer.body["state"], &answer.body["stack"]),
            (&json!("READY"), &json!("cflinuxfs4"))
        );
        assert_eq!(admin.get(&job).await.expect(200)["operation"], "buildpack.upload");
        let other = admin.upload(&upload, "bits", &zip("stack: windows\n"), &[]).await.job();
        let job = admin.get(&other).await.expect(200);
        assert_eq!(job["errors"][0]["title"], "CF-BuildpackStacksDontMatch");
        assert_eq!(admin.get("/v3/buildpacks?stacks=cflinuxfs4").await.column("name"), "mine");
        assert_eq!(
            admin.get("/v3/buildpacks?stacks=").await.column("name"),
            "binary_buildpack ruby_buildpack"
        );

        let moved = admin
            .patch(&path, json!({ "position": 1, "locked": true, "enabled": false }))
            .await
            .expect(200);
        assert_eq!(
            (&moved["position"], &moved["locked"], &moved["enabled"]),
            (&json!(1), &json!(true), &json!(false))
        );
        expect!["422 CF-UnprocessableEntity: Buildpack is locked"]
            .assert_eq(&admin.upload(&upload, "bits", &zip(""), &[]).await.error());
        let job = admin.delete(&path).await.job();
        assert_eq!(admin.get(&job).await.expect(200)["state"], "COMPLETE");
        let list = admin.get("/v3/buildpacks").await;
        assert_eq!(
            (list.column("name"), list.column("position")),
            ("binary_buildpack ruby_buildpack".to_owned(), "1 2".to_owned())
        );
        harness.user("dev").post("/v3/buildpacks", json!({ "name": "x" })).await.expect(403);
        assert_eq!(
            harness.user("dev").get("/v3/buildpacks?names=ruby_buildpack").await.column("state"),
            "READY"
        );
    }
}

#[tokio::test]
async fn stacks_are_listed_and_guarded() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let list = admin.get("/v3/stacks?default=true").await;
        assert_eq!(
            (list.column("name"), list.column("default")),
            ("cflinuxfs4".to_owned(), "true".to_owned())
        );
        let made = admin
            .post("/v3/stacks", json!({ "name": "other", "description": "d" }))
            .await
            .expect(201);
        expect!["422 CF-UnprocessableEntity: Name must be unique"]
            .assert_eq(&admin.post("/v3/stacks", json!({ "name": "other" })).await.error());
        let space = harness.space("org", "s").await;
        admin.app("dora", &space).await;
        let guid = list.column("guid");
        assert_eq!(admin.get(&format!("/v3/stacks/{guid}/apps")).await.column("name"), "dora");
        expect!["422 CF-UnprocessableEntity: Cannot delete stack 'cflinuxfs4' because apps are currently using the stack."]
            .assert_eq(&admin.delete(&format!("/v3/stacks/{guid}")).await.error());
        let path = format!("/v3/stacks/{}", made["guid"].as_str().unwrap());
        let changed = admin
            .patch(&path, json!({ "state": "DEPRECATED", "metadata": { "labels": { "a": "b" } } }))
            .await
            .expect(200);
        assert_eq!(changed["state"], "DEPRECATED");
        harness.user("dev").patch(&path, json!({})).await.expect(403);
        admin.delete(&path).await.expect(204);
    }
}

#[tokio::test]
async fn flags_stand_as_cloud_foundry_has_them_until_turned() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let list = admin.get("/v3/feature_flags?per_page=100").await;
        assert_eq!(list.body["pagination"]["total_results"], 19);
        assert!(
            list.column("name").starts_with("app_bits_upload app_scaling diego_cnb diego_docker")
        );
        let set = admin
            .patch(
                "/v3/feature_flags/diego_docker",
                json!({ "enabled": true, "custom_error_message": "ask us" }),
            )
            .await
            .expect(200);
        assert_eq!(
            (&set["enabled"], &set["updated_at"]),
            (&json!(true), &json!("2026-01-31T12:00:00Z"))
        );
        assert_eq!(
            admin.get("/v3/feature_flags/diego_docker").await.expect(200)["custom_error_message"],
            "ask us"
        );
        expect!["404 CF-ResourceNotFound: Feature flag not found"]
            .assert_eq(&admin.get("/v3/feature_flags/x").await.error());
        let page = admin.get("/v3/feature_flags?per_page=2&page=2&order_by=-name").await;
        assert_eq!(page.column("name"), "task_creation space_scoped_private_broker_creation");
        harness.user("dev").patch("/v3/feature_flags/diego_docker", json!({})).await.expect(403);
        harness.user("dev").get("/v3/feature_flags").await.expect(200);
    }
}

#[tokio::test]
async fn variable_groups_are_merged_and_sealed() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let path = "/v3/environment_variable_groups/running";
        assert_eq!(admin.get(path).await.expect(200)["var"], json!({}));
        admin.patch(path, json!({ "var": { "A": "1", "B": "2" } })).await.expect(200);
        let after = admin.patch(path, json!({ "var": { "A": null, "C": "3" } })).await.expect(200);
        assert_eq!(after["var"], json!({ "B": "2", "C": "3" }));
        let wrong = admin.patch(path, json!({ "var": { "PORT": "1" } })).await.error();
        assert!(wrong.contains("cannot set PORT"), "{wrong}");
        expect!["404 CF-ResourceNotFound: Environment variable group not found"]
            .assert_eq(&admin.get("/v3/environment_variable_groups/x").await.error());
        harness.user("dev").patch(path, json!({ "var": {} })).await.expect(403);
    }
}

#[tokio::test]
async fn segments_are_entitled_assigned_and_revoked() {
    for harness in harness::all().await {
        let admin = harness.admin();
        harness.space("org", "s").await;
        assert_eq!(
            admin.get("/v3/isolation_segments").await.column("guid"),
            "933b4c58-120b-499a-b85d-4b6fc9e2903b"
        );
        let made = admin.post("/v3/isolation_segments", json!({ "name": "iso" })).await.expect(201);
        expect!["422 CF-UnprocessableEntity: Isolation Segment names are case insensitive and must be unique"]
            .assert_eq(&admin.post("/v3/isolation_segments", json!({ "name": "ISO" })).await.error());
        let guid = made["guid"].as_str().unwrap();
        let path = format!("/v3/isolation_segments/{guid}");
        let to = json!({ "data": { "guid": guid } });
        let early = admin
            .patch("/v3/spaces/space-s/relationships/isolation_segment", to.clone())
            .await
            .error();
        assert!(
            early.contains(
                "Ensure it has been entitled to the organization that this space belongs to."
            ),
            "{early}"
        );
        admin
            .post(
                &format!("{path}/relationships/organizations"),
                json!({ "data": [{ "guid": "org-org" }] }),
            )
            .await
            .expect(200);
        admin
            .patch("/v3/spaces/space-s/relationships/isolation_segment", to.clone())
            .await
            .expect(200);
        admin
            .patch("/v3/organizations/org-org/relationships/default_isolation_segment", to)
            .await
            .expect(200);
        let seen =
            admin.get("/v3/spaces/space-s/relationships/isolation_segment").await.expect(200);
        assert_eq!(seen["data"]["guid"], guid);
        assert_eq!(admin.get(&format!("{path}/organizations")).await.column("name"), "org");
        assert_eq!(
            admin.get(&format!("{path}/relationships/spaces")).await.expect(200)["data"],
            json!([{ "guid": "space-s" }])
        );
        let one = format!("{path}/relationships/organizations/org-org");
        let told = admin.delete(&one).await.error();
        assert!(told.contains("assigned as the Default Isolation Segment"), "{told}");
        let none = json!({ "data": null });
        admin
            .patch(
                "/v3/organizations/org-org/relationships/default_isolation_segment",
                none.clone(),
            )
            .await
            .expect(200);
        expect!["422 CF-UnprocessableEntity: Cannot remove the entitlement while this Isolation Segment is assigned to any Spaces. Currently assigned to: 's'"]
            .assert_eq(&admin.delete(&one).await.error());
        admin.patch("/v3/spaces/space-s/relationships/isolation_segment", none).await.expect(200);
        expect!["422 CF-UnprocessableEntity: Revoke the Organization entitlements for your Isolation Segment."]
            .assert_eq(&admin.delete(&path).await.error());
        admin.delete(&one).await.expect(204);
        admin.delete(&path).await.expect(204);
        harness
            .user("dev")
            .post("/v3/isolation_segments", json!({ "name": "x" }))
            .await
            .expect(403);
    }
}

#[tokio::test]
async fn events_are_for_those_who_may_read_them() {
    for harness in harness::all().await {
        let space = harness.space("org", "s").await;
        harness.role("dev", "space_developer", "org-org", "space-s").await;
        harness.role("sm", "space_manager", "org-org", "space-s").await;
        harness.role("oa", "organization_auditor", "org-org", "").await;
        let app = harness.user("dev").app("dora", &space).await;
        let types = "types=audit.app.create";
        for (who, sees) in
            [("dev", true), ("oa", true), ("sm", false), ("stranger", false), ("admin", true)]
        {
            let list = harness
                .user(who)
                .get(&format!("/v3/audit_events?{types}&target_guids={app}"))
                .await;
            assert_eq!(list.column("type"), if sees { "audit.app.create" } else { "" }, "{who}");
        }
        let others =
            harness.admin().get(&format!("/v3/audit_events?target_guids[not]={app}&{types}")).await;
        assert_eq!(others.column("guid"), "");
        let list =
            harness.admin().get(&format!("/v3/audit_events?{types}&space_guids={space}")).await;
        let one = harness
            .admin()
            .get(&format!("/v3/audit_events/{}", list.column("guid")))
            .await
            .expect(200);
        assert_eq!(
            (&one["actor"]["name"], &one["organization"]["guid"]),
            (&json!("name-dev"), &json!("org-org"))
        );
        harness
            .user("sm")
            .get(&format!("/v3/audit_events/{}", list.column("guid")))
            .await
            .expect(404);
    }
}
