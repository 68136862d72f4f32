//! Environment variables, and the rest that hangs on one app.

use expect_test::expect;
use serde_json::json;
use sqlx::Row as _;

use crate::harness;

#[tokio::test]
async fn variables_are_merged_shown_to_few_and_sealed_at_rest() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = admin.app("dora", &space).await;
        let path = format!("/v3/apps/{app}/environment_variables");
        admin.patch(&path, json!({ "var": { "A": "secret", "B": "2" } })).await.expect(200);
        let merged =
            admin.patch(&path, json!({ "var": { "B": null, "C": "3" } })).await.expect(200);
        assert_eq!(merged["var"], json!({ "A": "secret", "C": "3" }));
        let refused = admin.patch(&path, json!({ "var": { "VCAP_X": "1" } })).await.error();
        expect!["422 CF-UnprocessableEntity: Environment variables cannot start with VCAP_"]
            .assert_eq(&refused);

        let env = admin.get(&format!("/v3/apps/{app}/env")).await.expect(200);
        assert_eq!(env["environment_variables"]["A"], "secret");
        assert_eq!(env["system_env_json"], json!({ "VCAP_SERVICES": {} }));
        assert_eq!(env["application_env_json"]["VCAP_APPLICATION"]["application_name"], "dora");

        harness.role("auditor", "space_auditor", "org-org", &space).await;
        assert_eq!(harness.user("auditor").get(&path).await.status.as_u16(), 403);
        let mut connection = harness.db.read().await.unwrap();
        let row =
            sqlx::query("SELECT sealed_env FROM apps").fetch_one(&mut *connection).await.unwrap();
        assert!(!row.get::<String, _>(0).contains("secret"));
        assert!(!harness.lines().join("\n").contains("secret"));
    }
}

#[tokio::test]
async fn features_sidecars_revisions_and_deployments_are_there_to_be_asked() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = admin.app("dora", &space).await;
        let ssh = format!("/v3/apps/{app}/features/ssh");
        assert_eq!(
            admin.patch(&ssh, json!({ "enabled": false })).await.expect(200)["enabled"],
            false
        );
        assert_eq!(
            admin.get(&format!("/v3/apps/{app}/ssh_enabled")).await.expect(200)["reason"],
            "Disabled globally"
        );
        assert_eq!(
            admin.get(&format!("/v3/apps/{app}/features/nope")).await.error(),
            "404 CF-ResourceNotFound: Feature not found"
        );

        let sidecar = json!({ "name": "auth", "command": "./auth", "process_types": ["web"], "memory_in_mb": 64 });
        admin.post(&format!("/v3/apps/{app}/sidecars"), sidecar.clone()).await.expect(201);
        let twice = admin.post(&format!("/v3/apps/{app}/sidecars"), sidecar).await.error();
        expect![
            "422 CF-UnprocessableEntity: Sidecar with name 'auth' already exists for given app"
        ]
        .assert_eq(&twice);
        assert_eq!(
            admin.get(&format!("/v3/processes/{app}/sidecars")).await.column("name"),
            "auth"
        );
        for path in [
            format!("/v3/deployments?app_guids={app}&order_by=-created_at"),
            format!("/v3/apps/{app}/revisions"),
            format!("/v3/apps/{app}/revisions/deployed"),
        ] {
            assert_eq!(admin.get(&path).await.expect(200)["pagination"]["total_results"], 0);
        }
        let root = harness.nobody().get("/").await.expect(200);
        assert_eq!(root["links"]["cloud_controller_v3"]["href"], "http://api.test/v3");
        assert_eq!(root["links"]["logging"]["href"], "ws://api.test");
        harness.nobody().get("/v3/info").await.expect(200);
    }
}

#[tokio::test]
async fn a_droplet_is_uploaded_copied_and_fetched() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let (app, other) = (admin.app("dora", &space).await, admin.app("other", &space).await);
        let to = |app: &str| json!({ "relationships": { "app": { "data": { "guid": app } } }, "process_types": { "web": "./run" } });
        let droplet = admin.post("/v3/droplets", to(&app)).await.expect(201)["guid"]
            .as_str()
            .unwrap()
            .to_owned();
        let upload = format!("/v3/droplets/{droplet}/upload");
        assert!(
            admin
                .upload(&upload, "bits", b"no tar", &[])
                .await
                .error()
                .starts_with("400 CF-DropletUploadInvalid")
        );
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
            Vec::new(),
            flate2::Compression::fast(),
        ));
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        tar.append_data(&mut header, "app/x", b"x".as_slice()).unwrap();
        let bits = tar.into_inner().unwrap().finish().unwrap();
        let job = admin.upload(&upload, "bits", &bits, &[]).await.job();
        assert_eq!(admin.get(&job).await.expect(200)["state"], "COMPLETE");
        assert_eq!(admin.get(&format!("/v3/droplets/{droplet}/download")).await.bytes, bits);
        let copy = json!({ "relationships": { "app": { "data": { "guid": other } } } });
        let copied =
            admin.post(&format!("/v3/droplets?source_guid={droplet}"), copy).await.expect(201);
        assert_eq!(
            (&copied["state"], &copied["process_types"]),
            (&json!("STAGED"), &json!({ "web": "./run" }))
        );
        assert_eq!(
            admin.get(&format!("/v3/droplets?app_guids={app},{other}")).await.column("state"),
            "STAGED STAGED"
        );
    }
}
