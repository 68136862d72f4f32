//! What becomes of the past: old rows and unused files go, what still means something stays.

use std::time::Duration;

use cloud_controller::Blobstore as _;
use serde_json::json;

use crate::harness::{self, Harness};
use crate::push::zip_of;

const DAY: i64 = 24 * 3600 * 1_000_000_000;

impl Harness {
    /// The first column of all rows, joined by spaces.
    async fn rows(&self, text: &str) -> String {
        let mut connection = self.db.read().await.unwrap();
        let rows: Vec<(String,)> = sqlx::query_as(sqlx::AssertSqlSafe(text.to_owned()))
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        rows.into_iter().map(|(value,)| value).collect::<Vec<_>>().join(" ")
    }

    /// As after a restart, when all is tidied up.
    async fn again(&self, config: cloud_controller::Config) -> Harness {
        Harness::open_on(self.db.clone(), config, self.blobs.clone()).await
    }

    async fn rows_become(&self, text: &str, want: &str) {
        let wait = async {
            while self.rows(text).await != want {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(30), wait).await.is_err() {
            panic!("{text}: {} never became {want}", self.rows(text).await);
        }
    }
}

#[tokio::test]
async fn what_happened_long_ago_is_forgotten() {
    for harness in harness::all().await {
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        let start = harness::START.as_nanos();
        let event = |guid: &str, days: i64| {
            let at = start - days * DAY;
            format!(
                "INSERT INTO audit_events (guid, type, actor_guid, actor_type, actor_name, target_guid, target_type, \
                 target_name, data, created_at, updated_at) VALUES ('{guid}', 'x', '', '', '', '', '', '', '{{}}', {at}, {at})"
            )
        };
        let usage = |guid: &str, process: &str, state: &str, days: i64| {
            let at = start - days * DAY;
            format!(
                "INSERT INTO app_usage_events (guid, state, app_guid, process_guid, data, created_at, updated_at) \
                 VALUES ('{guid}', '{state}', 'a', '{process}', '{{}}', {at}, {at})"
            )
        };
        let task = |guid: &str, number: i64, state: &str, days: i64| {
            let at = start - days * DAY;
            format!(
                "INSERT INTO tasks (guid, app_guid, sequence_id, name, command, state, memory_mb, disk_mb, log_rate, \
                 droplet_guid, created_at, updated_at) VALUES ('{guid}', '{app}', {number}, '', '', '{state}', 1, 1, 1, '', {at}, {at})"
            )
        };
        for text in [
            event("old", 32),
            event("young", 30),
            usage("began", "gone", "STARTED", 60),
            usage("ended", "gone", "STOPPED", 59),
            usage("runs", "alive", "STARTED", 60),
            task("done", 1, "SUCCEEDED", 32),
            task("fresh", 2, "FAILED", 30),
            task("stuck", 3, "CANCELING", 32),
            "INSERT INTO labels (resource_type, resource_guid, name, value) VALUES ('task', 'done', 'a', 'b'), \
             ('task', 'fresh', 'a', 'b')"
                .to_owned(),
            "UPDATE audit_events SET updated_at = updated_at".to_owned(),
        ] {
            harness.sql(&text).await;
        }
        let again = harness.again(harness::config()).await;
        again.rows_become("SELECT guid FROM audit_events WHERE type = 'x'", "young").await;
        let usage = "SELECT guid FROM app_usage_events WHERE app_guid = 'a' ORDER BY id";
        again.rows_become(usage, "runs").await;
        again.rows_become("SELECT guid FROM tasks WHERE guid = 'done'", "").await;
        // What is neither canceled nor lost yet is swept by others, and not forgotten.
        again
            .rows_become("SELECT guid FROM tasks WHERE guid <> 'done' ORDER BY id", "fresh stuck")
            .await;
        again.rows_become("SELECT resource_guid FROM labels", "fresh").await;
    }
}

#[tokio::test]
async fn an_app_keeps_its_latest_hundred_builds() {
    for harness in harness::all().await {
        let space = harness.space("org", "space").await;
        let app = harness.admin().app("dora", &space).await;
        let mut rows = Vec::new();
        for number in 0..105 {
            let state = if number == 0 { "STAGING" } else { "FAILED" };
            rows.push(format!(
                "('build-{number}', '{app}', '', '{state}', '', 1, 1, 1, {at}, {at})",
                at = harness::START.as_nanos()
            ));
        }
        harness
            .sql(&format!(
                "INSERT INTO builds (guid, app_guid, package_guid, state, lifecycle, memory_mb, disk_mb, log_rate, \
                 created_at, updated_at) VALUES {}",
                rows.join(", ")
            ))
            .await;
        let again = harness.again(harness::config()).await;
        let count = "SELECT CAST(COUNT(*) AS TEXT) FROM builds";
        again.rows_become(count, "101").await;
        let oldest = "SELECT guid FROM builds ORDER BY id LIMIT 2";
        again.rows_become(oldest, "build-0 build-5").await;
    }
}

#[tokio::test]
async fn of_known_files_the_longest_unused_goes() {
    for harness in harness::all().await {
        let space = harness.space("org", "space").await;
        let app = harness.admin().app("dora", &space).await;
        let body =
            json!({ "type": "bits", "relationships": { "app": { "data": { "guid": app } } } });
        let package = harness.admin().post("/v3/packages", body).await.expect(201);
        let path = format!("/v3/packages/{}/upload", package["guid"].as_str().unwrap());
        let files: Vec<Vec<u8>> = (0..3).map(|content| vec![content; 70_000]).collect();
        let bits = zip_of(&[("a", &files[0]), ("b", &files[1]), ("c", &files[2])]);
        harness.admin().upload(&path, "bits", &bits, &[]).await.expect(200);
        harness.settled().await;
        let sha1 = |content: &[u8]| -> String {
            use sha1::Digest as _;
            sha1::Sha1::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let digests: Vec<String> = files.iter().map(|file| sha1(file)).collect();
        // The second was of use lately, the first before the third.
        let long_ago = harness::START.as_nanos() - DAY;
        for (digest, at) in [(&digests[0], long_ago), (&digests[2], long_ago + 1)] {
            harness
                .sql(&format!("UPDATE resources SET used_at = {at} WHERE sha1 = '{digest}'"))
                .await;
        }
        let mut config = harness::config();
        config.kept.resource_bytes = 150_000;
        let again = harness.again(config).await;
        let left = "SELECT sha1 FROM resources ORDER BY used_at";
        again.rows_become(left, &format!("{} {}", digests[2], digests[1])).await;
        let key = |digest: &str| cloud_controller::blobstore::key("resources", digest);
        let gone = async {
            while again.blobs.exists(&key(&digests[0])).await.unwrap() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the file never went");
        assert!(again.blobs.exists(&key(&digests[2])).await.unwrap());
        // Asked for, it is of use.
        let ask = json!({ "resources": [{ "path": "c", "checksum": { "value": digests[2] }, "size_in_bytes": 70_000 }] });
        let matched = again.admin().post("/v3/resource_matches", ask).await.expect(201);
        assert_eq!(matched["resources"].as_array().unwrap().len(), 1);
        let used =
            format!("SELECT CAST(used_at AS TEXT) FROM resources WHERE sha1 = '{}'", digests[2]);
        assert_eq!(again.rows(&used).await, harness::START.as_nanos().to_string());
    }
}

#[tokio::test]
async fn what_was_deleted_stays_deleted_at_the_next_start() {
    for harness in harness::all().await {
        let admin = harness.admin();
        for path in ["domains", "buildpacks", "security_groups"] {
            let all = admin.get(&format!("/v3/{path}?per_page=100")).await.expect(200);
            for one in all["resources"].as_array().unwrap() {
                admin.delete(&format!("/v3/{path}/{}", one["guid"].as_str().unwrap())).await.job();
            }
        }
        let quota = admin.get("/v3/organization_quotas").await.expect(200);
        let quota = quota["resources"][0]["guid"].as_str().unwrap().to_owned();
        let path = format!("/v3/organization_quotas/{quota}");
        admin.patch(&path, json!({ "name": "ours" })).await.expect(200);

        let mut config = harness::config();
        config.app_domains.push("new.test".to_owned());
        let again = harness.again(config).await;
        let names = async |path: &str| again.admin().get(path).await.column("name");
        assert_eq!(names("/v3/domains").await, "new.test");
        assert_eq!(names("/v3/buildpacks").await, "");
        assert_eq!(names("/v3/security_groups").await, "");
        assert_eq!(names("/v3/organization_quotas").await, "ours");
        assert_eq!(names("/v3/stacks").await, "cflinuxfs4");
    }
}
