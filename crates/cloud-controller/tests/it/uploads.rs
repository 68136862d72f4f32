//! What goes wrong on the way in: bits that would do harm, that break off, or that find no room.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use cloud_controller::blobstore::{Files, Memory};
use serde_json::{Value, json};
use sha1::Digest as _;
use tower::ServiceExt as _;

use crate::harness::{self, Harness};
use crate::push::zip_of;

async fn new_package(harness: &Harness, app: &str) -> String {
    let body = json!({ "type": "bits", "relationships": { "app": { "data": { "guid": app } } } });
    let made = harness.admin().post("/v3/packages", body).await.expect(201);
    made["guid"].as_str().unwrap().to_owned()
}

async fn state(harness: &Harness, package: &str) -> Value {
    harness.admin().get(&format!("/v3/packages/{package}")).await.expect(200)["state"].clone()
}

fn files_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn an_upload_that_breaks_off_can_be_made_anew() {
    for db in sql::testing::databases().await {
        let folder = tempfile::tempdir().unwrap();
        let mut config = harness::config();
        config.temp_dir = Some(folder.path().join("uploads"));
        std::fs::create_dir(folder.path().join("uploads")).unwrap();
        // As a crash leaves it.
        std::fs::write(folder.path().join("uploads/upload-old"), "half").unwrap();
        let harness = Harness::open_with(db, config).await;
        assert_eq!(files_in(&folder.path().join("uploads")), 0);
        let space = harness.space("org", "space").await;
        let app = harness.admin().app("dora", &space).await;
        let package = new_package(&harness, &app).await;

        let head =
            "--XX\r\nContent-Disposition: form-data; name=\"bits\"; filename=\"f\"\r\n\r\nPK";
        let cut = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let pieces = [Ok(Bytes::from_static(head.as_bytes())), Err(cut)];
        let path = format!("/v3/packages/{package}/upload");
        let request = Request::post(&path)
            .header("authorization", "bearer admin")
            .header("content-type", "multipart/form-data; boundary=XX")
            .body(Body::from_stream(futures::stream::iter(pieces)))
            .unwrap();
        let answer = harness.cc.router().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 400);
        assert_eq!(state(&harness, &package).await, "AWAITING_UPLOAD");
        assert_eq!(files_in(&folder.path().join("uploads")), 0);
        let told = "[API] Uploading bits for package with guid";
        harness.line_when(told).await;
        assert!(harness.lines().iter().any(|line| line.contains("push again")));

        let bits = zip_of(&[("run", b"content")]);
        harness.admin().upload(&path, "bits", &bits, &[]).await.expect(200);
        assert_eq!(state(&harness, &package).await, "READY");
        harness.settled().await;
        assert_eq!(files_in(&folder.path().join("uploads")), 0);
    }
}

#[tokio::test]
async fn two_uploads_at_once_are_one() {
    for harness in harness::all().await {
        let space = harness.space("org", "space").await;
        let app = harness.admin().app("dora", &space).await;
        let package = new_package(&harness, &app).await;
        let path = format!("/v3/packages/{package}/upload");
        let (one, two) = (zip_of(&[("a", b"1")]), zip_of(&[("b", b"2")]));
        let (first, second) = (harness.admin(), harness.admin());
        let (first, second) = tokio::join!(
            first.upload(&path, "bits", &one, &[]),
            second.upload(&path, "bits", &two, &[])
        );
        let mut statuses = [first.status.as_u16(), second.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400]);
        assert_eq!(state(&harness, &package).await, "READY");
    }
}

#[tokio::test]
async fn known_files_are_no_way_around_the_limits() {
    for db in sql::testing::databases().await {
        let mut config = harness::config();
        config.limits.unpacked_bytes = 200_000;
        let harness = Harness::open_with(db, config).await;
        let space = harness.space("org", "space").await;
        let app = harness.admin().app("dora", &space).await;
        let big = vec![7; 70_000];
        let sha1: String = sha1::Sha1::digest(&big).iter().map(|b| format!("{b:02x}")).collect();
        let first = new_package(&harness, &app).await;
        let path = format!("/v3/packages/{first}/upload");
        harness.admin().upload(&path, "bits", &zip_of(&[("big", &big)]), &[]).await.expect(200);
        harness.settled().await;

        let resource = |path: &str| json!({ "path": path, "checksum": { "value": sha1 }, "size_in_bytes": 70_000 });
        let told = async |resources: Value| {
            let package = new_package(&harness, &app).await;
            let path = format!("/v3/packages/{package}/upload");
            let empty = zip_of(&[]);
            let texts = [("resources", resources.to_string())];
            let texts: Vec<(&str, &str)> =
                texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
            let answer = harness.admin().upload(&path, "bits", &empty, &texts).await;
            if answer.status == 200 { "good".to_owned() } else { answer.error() }
        };
        let many: Vec<Value> = (0..3).map(|n| resource(&format!("copy-{n}"))).collect();
        let lines = [
            told(json!([resource("a"), resource("b")])).await,
            told(Value::Array(many)).await,
            told(json!([resource("../out")])).await,
            told(json!([{ "path": "x", "checksum": { "value": "0".repeat(40) }, "size_in_bytes": 1 }])).await,
        ];
        expect_test::expect![[r#"
            good
            400 CF-AppBitsUploadInvalid: The app upload is invalid: unpacked it is larger than 0 MB
            400 CF-AppBitsUploadInvalid: The app upload is invalid: the path "../out" leads out of its folder
            400 CF-AppBitsUploadInvalid: The app upload is invalid: the file x is not known here"#]]
        .assert_eq(&lines.join("\n"));
    }
}

/// A small file system that goes with its guard.
struct Tiny(PathBuf);

impl Tiny {
    /// `None` where nobody may mount.
    fn mount_of(folder: &Path, size: &str) -> Option<Tiny> {
        std::fs::create_dir_all(folder).unwrap();
        let mut mount = std::process::Command::new("mount");
        let size = format!("size={size}");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder);
        let mounted = mount.stderr(std::process::Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Tiny(folder.to_owned()))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing_half_written() {
    for (at, db) in sql::testing::databases().await.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let (store, uploads) = (folder.path().join("store"), folder.path().join("uploads"));
        let tiny = if at == 0 { &store } else { &uploads };
        let Some(tiny) = Tiny::mount_of(tiny, "1m") else {
            eprintln!("SKIPPED: without root no file system can be mounted to be filled");
            return;
        };
        let mut config = harness::config();
        config.temp_dir = Some(uploads.clone());
        let blobs = Arc::new(Files::open(store.clone()).await.unwrap());
        let harness = Harness::open_over(db, config, blobs, Arc::new(Memory::default())).await;
        let space = harness.space("org", "space").await;
        let app = harness.admin().app("dora", &space).await;
        let package = new_package(&harness, &app).await;
        let path = format!("/v3/packages/{package}/upload");
        let bits = zip_of(&[("big", &noise(3 << 20))]);
        let full = harness.admin().upload(&path, "bits", &bits, &[]).await;
        expect_test::expect!["503 CF-ServiceUnavailable: The platform's disk is full, so nothing was changed. Its operator can see more with: cupola status"]
            .assert_eq(&full.error());
        assert_eq!(state(&harness, &package).await, "AWAITING_UPLOAD");
        assert_eq!((files_in(&store.join("incoming")), files_in(&uploads)), (0, 0));
        harness.line_when("is full, so nothing was changed").await;

        // What is small enough still finds room, so nothing was left behind where there is little.
        let small = zip_of(&[("small", &noise(10_000))]);
        harness.admin().upload(&path, "bits", &small, &[]).await.expect(200);
        harness.settled().await;
        drop(harness);
        drop(tiny);
    }
}

/// A gzipped tar of one file.
fn tgz(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_old();
    // As it is; the builder itself would refuse to climb.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(gzip);
    builder.append(&header, content).unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

#[tokio::test]
async fn droplets_and_buildpacks_are_looked_at_as_closely() {
    for db in sql::testing::databases().await {
        let mut config = harness::config();
        config.limits.unpacked_bytes = 1 << 20;
        let harness = Harness::open_with(db, config).await;
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = admin.app("dora", &space).await;
        let body = json!({ "relationships": { "app": { "data": { "guid": app } } } });
        let droplet = admin.post("/v3/droplets", body).await.expect(201);
        let path = format!("/v3/droplets/{}/upload", droplet["guid"].as_str().unwrap());
        let whole = tgz("./app/run", &noise(100_000));
        let mut told = String::new();
        for bits in [
            b"no droplet".to_vec(),
            whole[..whole.len() / 2].to_vec(),
            tgz("../out", b"x"),
            tgz("/etc/passwd", b"x"),
            tgz("zeros", &vec![0; 2 << 20]),
        ] {
            told += &format!("{}\n", admin.upload(&path, "bits", &bits, &[]).await.error());
        }
        expect_test::expect![[r#"
            400 CF-DropletUploadInvalid: The droplet upload is invalid: it is no gzipped tar file (invalid gzip header)
            400 CF-DropletUploadInvalid: The droplet upload is invalid: it is no gzipped tar file (incomplete deflate stream)
            400 CF-DropletUploadInvalid: The droplet upload is invalid: the path "../out" leads out of the droplet
            400 CF-DropletUploadInvalid: The droplet upload is invalid: the path "/etc/passwd" leads out of the droplet
            400 CF-DropletUploadInvalid: The droplet upload is invalid: unpacked it is larger than 1 MB
        "#]].assert_eq(&told);
        // Nothing was lost by trying.
        admin.upload(&path, "bits", &whole, &[]).await.expect(202);

        let made = admin.post("/v3/buildpacks", json!({ "name": "mine" })).await.expect(201);
        let path = format!("/v3/buildpacks/{}/upload", made["guid"].as_str().unwrap());
        let mut told = String::new();
        for bits in
            [b"no zip".to_vec(), zip_of(&[("../out", b"x")]), zip_of(&[("a", &[0; 2 << 20])])]
        {
            told += &format!("{}\n", admin.upload(&path, "bits", &bits, &[]).await.error());
        }
        expect_test::expect![[r#"
            422 CF-UnprocessableEntity: Uploaded buildpack file is invalid: f is not a zip
            422 CF-UnprocessableEntity: Uploaded buildpack file is invalid: the path "../out" leads out of its folder
            422 CF-UnprocessableEntity: Uploaded buildpack file is invalid: unpacked it is larger than 1 MB
        "#]].assert_eq(&told);
        let good = zip_of(&[("bin/detect", b"#!/bin/sh")]);
        admin.upload(&path, "bits", &good, &[]).await.expect(202);
    }
}

#[tokio::test]
async fn a_full_store_is_told_and_nothing_is_half_done() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let Some(tiny) = Tiny::mount_of(&store, "8m") else {
        eprintln!("SKIPPED: without root no file system can be mounted to be filled");
        return;
    };
    let db = sql::Db::open_file(&store.join("cc.db")).await.unwrap();
    let harness = Harness::open_with(db, harness::config()).await;
    let space = harness.space("org", "space").await;
    let filler = store.join("filler");
    // Whatever room is left; the last write fails.
    let _ = std::fs::write(&filler, vec![1; 16 << 20]);
    let mut refused = None;
    for at in 0..200 {
        let body = json!({ "name": format!("app{at}"), "environment_variables": { "A": "x".repeat(10_000) },
            "relationships": { "space": { "data": { "guid": space } } } });
        let answer = harness.admin().post("/v3/apps", body).await;
        if answer.status != 201 {
            refused = Some((at, answer.error()));
            break;
        }
    }
    let (at, error) = refused.expect("a full disk is noticed");
    expect_test::expect!["503 CF-ServiceUnavailable: The platform's disk is full, so nothing was changed. Its operator can see more with: cupola status"]
        .assert_eq(&error);
    std::fs::remove_file(&filler).unwrap();
    let apps = harness.admin().get("/v3/apps").await;
    assert_eq!(apps.body["pagination"]["total_results"], at);
    harness.admin().app("again", &space).await;
    drop(harness);
    drop(tiny);
}
