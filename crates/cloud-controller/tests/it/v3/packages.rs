//! `/v3/packages` and `/v3/resource_matches`.

use axum::http::Method;
use expect_test::expect;
use serde_json::{Value, json};
use sha1::Digest as _;

use crate::harness::{self, Harness};
use crate::push::zip_of;
use cloud_controller::Blobstore as _;

async fn new_package(harness: &Harness, app: &str) -> String {
    let body = json!({ "type": "bits", "relationships": { "app": { "data": { "guid": app } } } });
    harness.admin().post("/v3/packages", body).await.expect(201)["guid"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn what_would_do_harm_when_unpacked_is_refused() {
    for harness in harness::all().await {
        let space = harness.space("org", "space").await;
        let app = harness.admin().app("dora", &space).await;
        let mut link = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        link.add_symlink("etc", "/etc", zip::write::SimpleFileOptions::default()).unwrap();
        let mut told = String::new();
        for (name, bits) in [
            ("broken", b"no zip".to_vec()),
            ("climbs", zip_of(&[("../out", b"x")])),
            ("absolute", zip_of(&[("/etc/passwd", b"x")])),
            ("link", link.finish().unwrap().into_inner()),
        ] {
            let package = new_package(&harness, &app).await;
            let answer = harness
                .admin()
                .upload(&format!("/v3/packages/{package}/upload"), "bits", &bits, &[])
                .await;
            told += &format!("{name}: {}\n", answer.error());
            let shown = harness.admin().get(&format!("/v3/packages/{package}")).await.expect(200);
            let error = &answer.body["errors"][0]["detail"];
            assert_eq!((&shown["state"], &shown["data"]["error"]), (&json!("FAILED"), error));
        }
        expect![[r#"
            broken: 400 CF-AppBitsUploadInvalid: The app upload is invalid: it is no whole zip archive (Could not find EOCD)
            climbs: 400 CF-AppBitsUploadInvalid: The app upload is invalid: the path "../out" leads out of its folder
            absolute: 400 CF-AppBitsUploadInvalid: The app upload is invalid: the path "/etc/passwd" leads out of its folder
            link: 400 CF-AppBitsUploadInvalid: The app upload is invalid: the link "etc" leads out of its folder
        "#]]
        .assert_eq(&told);
    }
}

#[tokio::test]
async fn files_that_are_known_need_not_be_sent_again() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = admin.app("dora", &space).await;
        let big = vec![7; 70_000];
        let sha1: String =
            sha1::Sha1::digest(&big).iter().map(|byte| format!("{byte:02x}")).collect();
        let resource = json!({ "path": "lib/big", "mode": "755", "checksum": { "value": sha1 }, "size_in_bytes": big.len() });
        let ask = json!({ "resources": [resource.clone()] });
        assert_eq!(
            admin.post("/v3/resource_matches", ask.clone()).await.expect(201)["resources"],
            json!([])
        );

        let first = new_package(&harness, &app).await;
        let bits = zip_of(&[("lib/big", &big), ("small", b"x")]);
        admin.upload(&format!("/v3/packages/{first}/upload"), "bits", &bits, &[]).await.expect(200);
        harness.settled().await;
        assert_eq!(
            admin.post("/v3/resource_matches", ask).await.expect(201)["resources"],
            json!([resource.clone()])
        );

        let second = new_package(&harness, &app).await;
        let known = json!([resource]).to_string();
        let small = zip_of(&[("small", b"y")]);
        let path = format!("/v3/packages/{second}/upload");
        let uploaded =
            admin.upload(&path, "bits", &small, &[("resources", &known)]).await.expect(200);
        assert_eq!(
            (&uploaded["state"], &uploaded["data"]["checksum"]["type"]),
            (&json!("READY"), &json!("sha256"))
        );
        let again = admin.upload(&path, "bits", &small, &[]).await.error();
        assert!(again.starts_with("400 CF-PackageBitsAlreadyUploaded"), "{again}");

        let download = admin.get(&format!("/v3/packages/{second}/download")).await;
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(download.bytes)).unwrap();
        let mut names: Vec<String> = archive.file_names().map(str::to_owned).collect();
        names.sort();
        assert_eq!(names, ["lib/big", "small"]);
        assert_eq!(archive.by_name("lib/big").unwrap().unix_mode().unwrap() & 0o777, 0o755);

        let other = admin.app("copy", &space).await;
        let to = json!({ "relationships": { "app": { "data": { "guid": other } } } });
        let copy = admin.post(&format!("/v3/packages/?source_guid={second}"), to).await.expect(201);
        assert_eq!(copy["data"], uploaded["data"]);
        let list = admin.get(&format!("/v3/packages?app_guids={other}&states=READY")).await;
        assert_eq!(list.body["pagination"]["total_results"], 1);
        assert_ne!(copy["guid"], Value::Null);
    }
}

#[tokio::test]
async fn a_blob_goes_when_no_row_names_it_any_more() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let (app, other) = (admin.app("dora", &space).await, admin.app("other", &space).await);
        let mut keys = Vec::new();
        for content in ["kept by a copy", "kept by nobody"] {
            let package = new_package(&harness, &app).await;
            let path = format!("/v3/packages/{package}/upload");
            let uploaded = admin
                .upload(&path, "bits", &zip_of(&[("x", content.as_bytes())]), &[])
                .await
                .expect(200);
            let digest = uploaded["data"]["checksum"]["value"].as_str().unwrap().to_owned();
            if keys.is_empty() {
                let to = json!({ "relationships": { "app": { "data": { "guid": other } } } });
                admin.post(&format!("/v3/packages?source_guid={package}"), to).await.expect(201);
            }
            keys.push(cloud_controller::blobstore::key("packages", &digest));
            assert!(harness.blobs.exists(keys.last().unwrap()).await.unwrap());
        }
        // As an upload leaves it that was cut off before its row was written.
        let stray = cloud_controller::blobstore::key("packages", "abcdef");
        harness.blobs.put(&stray, "half".into()).await.unwrap();
        admin.delete(&format!("/v3/apps/{app}")).await.job();
        let again =
            Harness::open_on(harness.db.clone(), harness::config(), harness.blobs.clone()).await;
        let gone = async {
            while again.blobs.exists(&keys[1]).await.unwrap()
                || again.blobs.exists(&stray).await.unwrap()
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), gone)
            .await
            .expect("the blob never went");
        assert!(again.blobs.exists(&keys[0]).await.unwrap());
    }
}

#[tokio::test]
async fn images_are_refused_by_flag_and_then_by_the_stager() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = json!({ "name": "image", "lifecycle": { "type": "docker", "data": {} },
            "relationships": { "space": { "data": { "guid": space } } } });
        let flag = "/v3/feature_flags/diego_docker";
        let mut told = format!("{}\n", admin.post("/v3/apps", app.clone()).await.error());
        let why = json!({ "custom_error_message": "ask the operators" });
        admin.patch(flag, why).await.expect(200);
        told += &format!("{}\n", admin.post("/v3/apps", app.clone()).await.error());
        let manifest = b"applications: [{ name: image, docker: { image: nginx } }]".to_vec();
        let apply = format!("/v3/spaces/{space}/actions/apply_manifest");
        let yaml = ("application/x-yaml".to_owned(), manifest);
        told += &format!("{}\n", admin.raw(Method::POST, &apply, Some(yaml)).await.error());

        admin.patch(flag, json!({ "enabled": true })).await.expect(200);
        let made = admin.post("/v3/apps", app).await.expect(201);
        let package = json!({ "type": "docker", "data": { "image": "nginx" },
            "relationships": { "app": { "data": { "guid": made["guid"] } } } });
        let package = admin.post("/v3/packages", package).await.expect(201);
        let build = json!({ "package": { "guid": package["guid"] } });
        told += &format!("{}\n", admin.post("/v3/builds", build.clone()).await.error());
        admin.patch(flag, json!({ "enabled": false })).await.expect(200);
        told += &format!("{}\n", admin.post("/v3/builds", build).await.error());
        expect![[r#"
            403 CF-FeatureDisabled: Feature Disabled: diego_docker
            403 CF-FeatureDisabled: Feature Disabled: ask the operators
            403 CF-FeatureDisabled: Feature Disabled: ask the operators
            422 CF-UnprocessableEntity: Docker images are not supported by this platform yet. Push the app's source or its binary with a buildpack instead.
            403 CF-FeatureDisabled: Feature Disabled: ask the operators
        "#]]
        .assert_eq(&told);
    }
}

#[tokio::test]
async fn a_build_must_fit_into_the_quotas() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = admin.app("dora", &space).await;
        let package = harness.package(&app).await;
        let build = |size: Value| {
            let mut body = json!({ "package": { "guid": package } });
            body.as_object_mut().unwrap().extend(size.as_object().unwrap().clone());
            body
        };
        harness.sql("UPDATE organization_quotas SET total_memory_in_mb = 2000, log_rate_limit_in_bytes_per_second = 5").await;
        let mut told = String::new();
        for size in [
            json!({ "staging_memory_in_mb": 2001 }),
            json!({ "staging_disk_in_mb": 10_241 }),
            json!({ "staging_log_rate_limit_bytes_per_second": 6 }),
        ] {
            told += &format!("{}\n", admin.post("/v3/builds", build(size)).await.error());
        }
        expect![[r#"
            422 CF-UnprocessableEntity: organization's memory limit exceeded: staging requires 2001M memory
            422 CF-UnprocessableEntity: disk limit exceeded
            422 CF-UnprocessableEntity: organization's log rate limit exceeded: staging requires 6 bytes per second
        "#]]
        .assert_eq(&told);
        expect![[r#"
            [STG] Failed to stage build: organization's memory limit exceeded: staging requires 2001M memory. Ask for less (`cf push dora -m SIZE`, or fewer instances with -i), stop other apps, or ask an operator for more: `cf org-quotas` and `cf space-quotas` list the limits.
            [STG] Failed to stage build: disk limit exceeded.
            [STG] Failed to stage build: organization's log rate limit exceeded: staging requires 6 bytes per second. Ask for less (`cf scale dora -l RATE`), or an operator for more: `cf org-quotas` and `cf space-quotas` list the limits."#]]
        .assert_eq(&refusals(&harness, "STG"));
        let size = json!({ "staging_memory_in_mb": 7, "staging_disk_in_mb": 5000 });
        let made = admin.post("/v3/builds", build(size)).await.expect(201);
        let sizes = (&made["staging_memory_in_mb"], &made["staging_disk_in_mb"]);
        assert_eq!(sizes, (&json!(1024), &json!(5000)));
    }
}

/// What an app's log says of refusals.
fn refusals(harness: &Harness, source: &str) -> String {
    let begin = format!("[{source}] Failed to");
    harness
        .lines()
        .into_iter()
        .filter(|line| line.starts_with(&begin))
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test]
async fn a_start_that_a_quota_refuses_stands_in_the_apps_log() {
    for harness in harness::all().await {
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        harness.sql("UPDATE organization_quotas SET total_memory_in_mb = 7").await;
        let start = format!("/v3/apps/{app}/actions/start");
        let told = harness.admin().post(&start, json!({})).await.error();
        assert_eq!(told, "422 CF-UnprocessableEntity: memory quota_exceeded");
        expect!["[API] Failed to start app: memory quota_exceeded. Ask for less (`cf push dora -m SIZE`, or fewer instances with -i), stop other apps, or ask an operator for more: `cf org-quotas` and `cf space-quotas` list the limits."]
            .assert_eq(&refusals(&harness, "API"));
    }
}

#[tokio::test]
async fn uploads_and_matches_can_be_switched_off() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        harness.role("dev", "space_developer", "org-org", &space).await;
        let dev = harness.user("dev");
        let app = admin.app("dora", &space).await;
        let package = new_package(&harness, &app).await;
        let flag = async |name: &str| {
            let path = format!("/v3/feature_flags/{name}");
            admin.patch(&path, json!({ "enabled": false })).await.expect(200);
        };
        let big = vec![7; 70_000];
        let sha1: String =
            sha1::Sha1::digest(&big).iter().map(|byte| format!("{byte:02x}")).collect();
        let ask = json!({ "resources": [{ "path": "big", "checksum": { "value": sha1 }, "size_in_bytes": big.len() }] });
        let upload = format!("/v3/packages/{package}/upload");
        let bits = zip_of(&[("big", &big)]);

        flag("app_bits_upload").await;
        let told = "403 CF-FeatureDisabled: Feature Disabled: app_bits_upload";
        assert_eq!(dev.upload(&upload, "bits", &bits, &[]).await.error(), told);
        assert_eq!(dev.post("/v3/resource_matches", ask.clone()).await.error(), told);

        admin.upload(&upload, "bits", &bits, &[]).await.expect(200);
        harness.settled().await;
        let known = admin.post("/v3/resource_matches", ask.clone()).await.expect(201);
        assert_eq!(known["resources"].as_array().unwrap().len(), 1);
        flag("resource_matching").await;
        let known = admin.post("/v3/resource_matches", ask).await.expect(201);
        assert_eq!(known["resources"], json!([]));
    }
}
