use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diego::Action;
use diego::action::{DownloadAction, UploadAction};
use parking_lot::Mutex;

use crate::garden_on_host::tar_of;
use crate::support::{Cell, request, sh};

/// A server of files that counts what it is asked.
#[derive(Default)]
struct Files {
    sent: AtomicU32,
    asked: AtomicU32,
    /// So many requests are answered with an error first.
    broken: AtomicU32,
    /// Answers wait while this holds.
    held: tokio::sync::watch::Sender<bool>,
    uploads: Mutex<Vec<(HeaderMap, Bytes)>>,
}

async fn serve() -> (Arc<Files>, String) {
    let files = Arc::new(Files::default());
    let router = Router::new()
        .route("/archive", get(archive))
        .route("/none", get(|| async { StatusCode::NOT_FOUND }))
        .route("/upload", post(upload))
        .with_state(files.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://me:secret@{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (files, url)
}

fn is_broken(files: &Files) -> bool {
    files
        .broken
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
        .is_ok()
}

async fn archive(State(files): State<Arc<Files>>, headers: HeaderMap) -> axum::response::Response {
    files.asked.fetch_add(1, Ordering::SeqCst);
    // The sender is here.
    let _ = files.held.subscribe().wait_for(|held| !held).await;
    if is_broken(&files) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    assert_eq!(headers["authorization"], format!("Basic {}", STANDARD.encode("me:secret")));
    if headers.get("if-none-match").is_some_and(|tag| tag == "\"v1\"") {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    files.sent.fetch_add(1, Ordering::SeqCst);
    ([("etag", "\"v1\"")], tar_of("hello.txt", b"hello")).into_response()
}

async fn upload(State(files): State<Arc<Files>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if is_broken(&files) {
        return StatusCode::BAD_GATEWAY;
    }
    files.uploads.lock().push((headers, body));
    StatusCode::CREATED
}

fn download(url: &str, cache_key: &str) -> DownloadAction {
    DownloadAction {
        artifact: "app package".into(),
        from: format!("{url}/archive"),
        to: "/app".into(),
        cache_key: cache_key.into(),
        log_source: "STG".into(),
        user: "vcap".into(),
        ..DownloadAction::default()
    }
}

#[tokio::test]
async fn archives_are_unpacked_where_they_are_wanted() {
    let (files, url) = serve().await;
    files.broken.store(2, Ordering::SeqCst);
    let cell = Cell::new().await;
    let action =
        Action::serial(vec![Action::Download(download(&url, "")), sh("cat app/hello.txt")]);
    let guid = cell.start(request(action));
    assert_eq!(cell.outcome(&guid).await.reason, "");
    let own = cell.own_lines();
    assert_eq!(
        own,
        [
            "STG OUT Downloading app package...",
            "STG OUT Downloaded app package (2K)",
            "APP OUT hello",
            "APP OUT Exit status 0"
        ]
    );
    assert_eq!(files.asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn what_is_kept_is_sent_once_and_asked_for_again() {
    let (files, url) = serve().await;
    let cell = Cell::new().await;
    for _ in 0..3 {
        let guid = cell.start(request(Action::parallel(vec![
            Action::Download(download(&url, "key")),
            Action::Download(DownloadAction { to: "/other".into(), ..download(&url, "key") }),
        ])));
        assert_eq!(cell.outcome(&guid).await.reason, "");
    }
    assert_eq!((files.sent.load(Ordering::SeqCst), files.asked.load(Ordering::SeqCst)), (1, 6));
    // A later life finds it too, and a promise that is kept needs no server.
    let cell = cell.restarted().await;
    let sha256 = executor_sha256(&tar_of("hello.txt", b"hello"));
    let promised = DownloadAction {
        checksum_algorithm: "sha256".into(),
        checksum_value: sha256,
        ..download(&url, "key")
    };
    let guid = cell.start(request(Action::Download(promised)));
    assert_eq!(cell.outcome(&guid).await.reason, "");
    assert_eq!(files.asked.load(Ordering::SeqCst), 6);
}

fn executor_sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_download_that_fails_or_lies_is_told() {
    let (_files, url) = serve().await;
    let cell = Cell::new().await;
    let lie = DownloadAction {
        checksum_algorithm: "md5".into(),
        checksum_value: "00000000000000000000000000000000".into(),
        ..download(&url, "")
    };
    let missing = DownloadAction { from: format!("{url}/none"), ..download(&url, "") };
    for action in [lie, missing] {
        let guid = cell.start(request(Action::Download(action)));
        let outcome = cell.outcome(&guid).await;
        assert_eq!(
            (outcome.failed, outcome.reason.as_str()),
            (true, "Downloading app package failed")
        );
    }
    assert!(cell.own_lines().contains(&"STG ERR Downloading app package failed".to_owned()));
    assert!(!cell.lines().iter().any(|line| line.contains("secret")));
}

#[tokio::test]
async fn a_file_is_uploaded_with_its_digests() {
    let (files, url) = serve().await;
    files.broken.store(2, Ordering::SeqCst);
    let cell = Cell::new().await;
    let upload = UploadAction {
        artifact: "droplet".into(),
        from: "/out.bin".into(),
        to: format!("{url}/upload"),
        log_source: "STG".into(),
        user: "vcap".into(),
    };
    let guid = cell.start(request(Action::serial(vec![
        sh("printf droplet > out.bin"),
        Action::Upload(upload),
    ])));
    assert_eq!(cell.outcome(&guid).await.reason, "");
    let uploads = files.uploads.lock();
    let (headers, body) = &uploads[0];
    assert_eq!(body, "droplet");
    assert_eq!(headers["content-type"], "application/octet-stream");
    assert_eq!(headers["content-length"], "7");
    assert_eq!(headers["content-md5"], "1ilQlmxrkjUK0u23XhjmSw==");
    assert!(headers["content-digest"].to_str().unwrap().starts_with("sha-256=:"));
    assert!(cell.own_lines().contains(&"STG OUT Uploaded droplet (7B)".to_owned()));
}

/// It would fill the cell's disk with the zeros that its container's disk never held.
#[tokio::test]
async fn a_file_of_holes_is_not_uploaded() {
    let (files, url) = serve().await;
    let cell = Cell::new().await;
    let upload = |from: &str| {
        let (from, to) = (from.to_owned(), format!("{url}/upload"));
        Action::Upload(UploadAction { from, to, ..UploadAction::default() })
    };
    let script = "truncate -s 2M fits; truncate -s 1T holes";
    let actions = vec![sh(script), upload("/fits"), upload("/holes")];
    let mut request = request(Action::serial(actions));
    request.resources.disk_mb = 2;
    let guid = cell.start(request);
    let reason = cell.outcome(&guid).await.reason;
    assert_eq!(reason, "Failed to establish stream from container");
    let sizes: Vec<_> = files.uploads.lock().iter().map(|(_, body)| body.len()).collect();
    assert_eq!(sizes, [2 << 20]);
}

#[tokio::test]
async fn an_upload_gives_up_after_three_tries() {
    let (files, url) = serve().await;
    files.broken.store(3, Ordering::SeqCst);
    let cell = Cell::new().await;
    let upload = UploadAction {
        artifact: "droplet".into(),
        from: "/x".into(),
        to: format!("{url}/upload"),
        ..UploadAction::default()
    };
    let guid = cell.start(request(Action::serial(vec![sh("echo > x"), Action::Upload(upload)])));
    assert_eq!(cell.outcome(&guid).await.reason, "Failed to upload payload for droplet");
}

#[tokio::test]
async fn layers_are_sent_and_unpacked_once_however_many_want_them() {
    let (files, url) = serve().await;
    let cell = Cell::new().await;
    let digest = executor_sha256(&tar_of("hello.txt", b"hello"));
    let layer = diego::desired_lrp::ImageLayer {
        name: "droplet".into(),
        url: format!("{url}/archive"),
        destination_path: "/home/vcap".into(),
        digest_algorithm: "sha256".into(),
        digest_value: digest.clone(),
    };
    let dependency = diego::desired_lrp::CachedDependency {
        name: "lifecycle".into(),
        from: format!("{url}/archive"),
        to: "/tmp/lifecycle".into(),
        cache_key: "lifecycle".into(),
        ..Default::default()
    };
    let with_both = || executor::ContainerRequest {
        image_layers: vec![layer.clone()],
        cached_dependencies: vec![dependency.clone()],
        ..request(sh("true"))
    };
    let guids: Vec<_> = (0..5).map(|_| cell.start(with_both())).collect();
    for guid in &guids {
        assert_eq!(cell.outcome(guid).await.reason, "");
    }
    // Once as the layer, once as the dependency.
    assert_eq!(files.sent.load(Ordering::SeqCst), 2);
    let cell = cell.restarted().await;
    assert_eq!(cell.executor.layers(), [digest], "known from what runs on");
    let creations = cell.garden.creations.lock();
    assert!(
        creations.iter().all(|spec| spec.layers == creations[0].layers && spec.layers.len() == 2)
    );
    let shown = [
        creations[0].layers[0].join("tmp/lifecycle/hello.txt"),
        creations[0].layers[1].join("home/vcap/hello.txt"),
    ];
    for file in shown {
        assert_eq!(std::fs::read_to_string(file).unwrap(), "hello");
    }
}

#[tokio::test]
async fn fifty_instances_at_once_ask_once_for_what_they_share() {
    let (files, url) = serve().await;
    let many = garden::Capacity { memory_mb: 16_000, disk_mb: 16_000, containers: 60 };
    let cell = Cell::with_capacity(many).await;
    let layer = diego::desired_lrp::ImageLayer {
        name: "droplet".into(),
        url: format!("{url}/archive"),
        destination_path: "/home/vcap".into(),
        digest_algorithm: "sha256".into(),
        digest_value: executor_sha256(&tar_of("hello.txt", b"hello")),
    };
    let dependency = diego::desired_lrp::CachedDependency {
        name: "lifecycle".into(),
        from: format!("{url}/archive"),
        to: "/tmp/lifecycle".into(),
        cache_key: "lifecycle".into(),
        ..Default::default()
    };
    files.held.send_replace(true);
    let guids: Vec<_> = (0..50)
        .map(|_| {
            cell.start(executor::ContainerRequest {
                image_layers: vec![layer.clone()],
                cached_dependencies: vec![dependency.clone()],
                ..request(sh("true"))
            })
        })
        .collect();
    for guid in &guids {
        cell.until(guid, |state| *state == executor::State::Initializing).await;
    }
    // One for the layer and one for the dependency; nobody asks beside them.
    while files.asked.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    files.held.send_replace(false);
    for guid in &guids {
        assert_eq!(cell.outcome(guid).await.reason, "");
    }
    assert_eq!(files.sent.load(Ordering::SeqCst), 2);
    // Without a checksum it has to be asked whether the dependency is still the same: once for all who waited.
    let asked = files.asked.load(Ordering::SeqCst);
    assert!(asked < 50, "{asked} requests");
    let creations = cell.garden.creations.lock();
    assert!(creations.len() == 50 && creations.iter().all(|one| one.layers == creations[0].layers));
}

#[tokio::test]
async fn a_layer_may_be_known_by_its_sha512() {
    let (files, url) = serve().await;
    let cell = Cell::new().await;
    let content = tar_of("hello.txt", b"hello");
    let sha512: String = {
        use sha2::Digest;
        sha2::Sha512::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let layer = diego::desired_lrp::ImageLayer {
        url: format!("{url}/archive"),
        destination_path: "/home/vcap".into(),
        digest_algorithm: "sha512".into(),
        digest_value: sha512,
        ..Default::default()
    };
    for _ in 0..2 {
        let layers = vec![layer.clone()];
        let guid =
            cell.start(executor::ContainerRequest { image_layers: layers, ..request(sh("true")) });
        assert_eq!(cell.outcome(&guid).await.reason, "");
    }
    assert_eq!(files.sent.load(Ordering::SeqCst), 1);
    assert_eq!(cell.executor.layers().concat(), layer.digest_value);
    let creations = cell.garden.creations.lock();
    let file = creations[1].layers[0].join("home/vcap/hello.txt");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "hello");
}

#[tokio::test]
async fn a_layer_that_cannot_be_had_may_be_tried_elsewhere() {
    let (_files, url) = serve().await;
    let cell = Cell::new().await;
    let layer = diego::desired_lrp::ImageLayer {
        url: format!("{url}/none"),
        digest_algorithm: "sha256".into(),
        digest_value: "0".repeat(64),
        ..Default::default()
    };
    let guid =
        cell.start(executor::ContainerRequest { image_layers: vec![layer], ..request(sh("true")) });
    let outcome = cell.outcome(&guid).await;
    assert_eq!(
        (outcome.reason.as_str(), outcome.retryable),
        ("failed to download cached artifacts", true)
    );
}
