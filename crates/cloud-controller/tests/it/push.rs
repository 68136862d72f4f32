//! From a package to a running app: what the API says, what Diego is asked, and what comes back.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diego::actual_lrp::State;
use diego::task::TaskCallback;
use diego::{
    Action, ActualLrp, DesiredLrp, Event, InstanceKey, LrpKey, NetInfo, PortMapping, TaskDefinition,
};
use expect_test::expect;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::harness::{self, Answer, Harness};

pub fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

impl Harness {
    /// Asks the internal listener as a cell would: by an address with a password in it.
    pub async fn cell(&self, method: &str, address: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let address = url::Url::parse(address).unwrap();
        let basic = STANDARD.encode(format!(
            "{}:{}",
            address.username(),
            address.password().unwrap_or_default()
        ));
        let request = Request::builder()
            .method(method)
            .uri(address.path())
            .header("authorization", format!("Basic {basic}"))
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap();
        let response = self.cc.internal().oneshot(request).await.unwrap();
        let status = response.status();
        (status, axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    /// Uploads a package of the app and answers its guid.
    pub async fn package(&self, app: &str) -> String {
        let admin = self.admin();
        let body =
            json!({ "type": "bits", "relationships": { "app": { "data": { "guid": app } } } });
        let package = text(&admin.post("/v3/packages", body).await.expect(201)["guid"]);
        let bits = zip_of(&[("Procfile", b"web: ./run"), ("big", &[7; 70_000])]);
        let uploaded = admin
            .upload(&format!("/v3/packages/{package}/upload"), "bits", &bits, &[])
            .await
            .expect(200);
        assert_eq!(uploaded["state"], "READY");
        package
    }

    /// Starts a build and answers its guid and the task it became.
    pub async fn build(&self, package: &str) -> (String, TaskDefinition) {
        let build = self
            .admin()
            .post("/v3/builds", json!({ "package": { "guid": package } }))
            .await
            .expect(201);
        let guid = text(&build["guid"]);
        let task = self.bbs.task_when(&guid).await;
        (guid, task.definition.clone())
    }

    /// Ends a build's task: the droplet is uploaded, then the outcome is told.
    pub async fn end_build(&self, build: &str, task: &TaskDefinition, failure: Option<&str>) {
        if failure.is_none() {
            let (status, _) = self.cell("POST", &uploads(task)[0], b"the droplet".to_vec()).await;
            assert_eq!(status, StatusCode::OK);
        }
        let result = json!({
            "lifecycle_type": "buildpack",
            "lifecycle_metadata": { "buildpack_key": key(task, 1), "detected_buildpack": "ruby",
                "buildpacks": [{ "key": key(task, 1), "name": "ruby", "version": "1.2.3" }] },
            "process_types": { "web": "./run --port $PORT", "worker": "./work" },
            "execution_metadata": "",
        });
        let callback = TaskCallback {
            task_guid: build.into(),
            failed: failure.is_some(),
            failure_reason: failure.unwrap_or_default().to_owned(),
            result: if failure.is_some() { String::new() } else { result.to_string() },
            annotation: task.annotation.clone(),
            created_at: harness::START,
        };
        let (status, _) = self
            .cell("POST", &task.completion_callback_url, serde_json::to_vec(&callback).unwrap())
            .await;
        assert_eq!(status, StatusCode::OK);
    }

    /// Pushes an app up to a droplet that it is to run.
    pub async fn staged_app(&self, space: &str) -> String {
        let app = self.admin().app("dora", space).await;
        let package = self.package(&app).await;
        let (build, task) = self.build(&package).await;
        self.end_build(&build, &task, None).await;
        let droplet = text(
            &self.admin().get(&format!("/v3/builds/{build}")).await.expect(200)["droplet"]["guid"],
        );
        let assign = format!("/v3/apps/{app}/relationships/current_droplet");
        self.admin().patch(&assign, json!({ "data": { "guid": droplet } })).await.expect(200);
        app
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn find_actions<'a>(action: &'a Action, found: &mut Vec<&'a Action>) {
    found.push(action);
    match action {
        Action::Serial(list) | Action::Parallel(list) | Action::Codependent(list) => {
            list.actions.iter().for_each(|a| find_actions(a, found))
        }
        Action::Timeout(inner) => find_actions(&inner.action, found),
        Action::Try(inner) => find_actions(&inner.action, found),
        Action::EmitProgress(inner) => find_actions(&inner.action, found),
        Action::Run(_) | Action::Download(_) | Action::Upload(_) => {}
    }
}

fn actions(task: &TaskDefinition) -> Vec<&Action> {
    let mut found = Vec::new();
    find_actions(task.run.action.as_ref().unwrap(), &mut found);
    found
}

fn uploads(task: &TaskDefinition) -> Vec<String> {
    actions(task)
        .iter()
        .filter_map(|action| {
            if let Action::Upload(upload) = action { Some(upload.to.clone()) } else { None }
        })
        .collect()
}

fn downloads(task: &TaskDefinition) -> Vec<String> {
    actions(task)
        .iter()
        .filter_map(|action| {
            if let Action::Download(download) = action { Some(download.from.clone()) } else { None }
        })
        .collect()
}

fn key(task: &TaskDefinition, index: usize) -> String {
    task.run.cached_dependencies[index + 1].cache_key.clone()
}

/// What is made up anew in each run is named by what it is.
fn settled(mut text: String, names: &[(&str, &str)]) -> String {
    for (guid, name) in names {
        text = text.replace(guid, name);
    }
    let password = |text: &str| {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("cell:") {
            let (head, tail) = rest.split_at(at + 5);
            out.push_str(head);
            out.push_str("PASSWORD");
            rest = tail.split_once('@').map_or("", |(_, tail)| tail);
            out.push('@');
        }
        out + rest
    };
    password(&text)
}

#[tokio::test]
async fn a_package_becomes_a_droplet_and_the_droplet_an_lrp() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = admin.app("dora", &space).await;
        let refused = admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.error();
        expect!["422 CF-UnprocessableEntity: Assign a droplet before starting this app."]
            .assert_eq(&refused);

        let package = harness.package(&app).await;
        let (build, task) = harness.build(&package).await;
        let again =
            admin.post("/v3/builds", json!({ "package": { "guid": package } })).await.error();
        expect![
            "422 CF-StagingInProgress: Only one build can be STAGING at a time per application."
        ]
        .assert_eq(&again);

        let (status, bits) = harness.cell("GET", &downloads(&task)[0], Vec::new()).await;
        assert_eq!((status, &bits[..2]), (StatusCode::OK, b"PK".as_slice()));
        let wrong = downloads(&task)[0].replace("cell:", "cell:00");
        assert_eq!(harness.cell("GET", &wrong, Vec::new()).await.0, StatusCode::UNAUTHORIZED);
        let (status, zip) =
            harness.cell("GET", &task.run.cached_dependencies[2].from, Vec::new()).await;
        assert_eq!((status, zip), (StatusCode::OK, b"ruby_buildpack".to_vec()));

        // Whoever asks for an unfinished build is answered when it ends.
        let path = format!("/v3/builds/{build}");
        let (held, ()) = tokio::join!(admin.get(&path), harness.end_build(&build, &task, None));
        let held = held.expect(200);
        assert_eq!((&held["state"], &held["error"]), (&json!("STAGED"), &Value::Null));
        let droplet = text(&held["droplet"]["guid"]);

        let assign = format!("/v3/apps/{app}/relationships/current_droplet");
        admin.patch(&assign, json!({ "data": { "guid": droplet } })).await.expect(200);
        let shown = admin.get(&format!("/v3/apps/{app}/droplets/current")).await.expect(200);
        expect![[r#"[{"buildpack_name":"ruby","detect_output":"ruby","name":"ruby_buildpack","version":"1.2.3"}]"#]]
            .assert_eq(&shown["buildpacks"].to_string());
        let processes = admin.get(&format!("/v3/apps/{app}/processes")).await;
        assert_eq!(
            (processes.column("type"), processes.column("instances")),
            ("web worker".to_owned(), "1 0".to_owned())
        );
        let web = admin.get(&format!("/v3/processes/{app}")).await.expect(200);
        assert_eq!(web["command"], "./run --port $PORT");

        admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
        let lrp = harness
            .bbs
            .desired_when(|all| all.iter().find(|lrp| lrp.instances == 1).cloned())
            .await;
        let version =
            text(&admin.get(&format!("/v3/processes/{app}")).await.expect(200)["version"]);
        let golden = serde_json::to_string_pretty(&*lrp).unwrap();
        let lifecycle = lrp.run.cached_dependencies[0].checksum_value.clone();
        expect_test::expect_file!["golden/lrp.json"].assert_eq(&settled(
            golden,
            &[
                (&app, "APP"),
                (&version, "VERSION"),
                (&lifecycle, "LIFECYCLE_SHA256"),
                (&lrp.annotation, "TAGS_DIGEST"),
            ],
        ));
        let kept = serde_json::to_string_pretty(&task).unwrap();
        let names = [(app.as_str(), "APP"), (&build, "BUILD"), (&lifecycle, "LIFECYCLE_SHA256")];
        let keys = [(key(&task, 0), "BINARY_KEY"), (key(&task, 1), "RUBY_KEY")];
        let folders: Vec<String> =
            task.run.cached_dependencies.iter().map(|dependency| dependency.to.clone()).collect();
        let all: Vec<(&str, &str)> = names
            .into_iter()
            .chain(keys.iter().map(|(key, name)| (key.as_str(), *name)))
            .chain([(folders[1].as_str(), "BINARY_FOLDER"), (folders[2].as_str(), "RUBY_FOLDER")])
            .collect();
        expect_test::expect_file!["golden/staging_task.json"]
            .assert_eq(&settled(kept, &all).replace(&sha_of(&task), "PACKAGE_SHA256"));

        let stopped =
            admin.post(&format!("/v3/apps/{app}/actions/stop"), json!({})).await.expect(200);
        assert_eq!(stopped["state"], "STOPPED");
        harness.bbs.desired_when(|all| all.is_empty().then_some(())).await;
    }
}

fn sha_of(task: &TaskDefinition) -> String {
    let found = actions(task).into_iter().find_map(|action| match action {
        Action::Download(download) => Some(download.checksum_value.clone()),
        _ => None,
    });
    found.unwrap()
}

#[tokio::test]
async fn a_build_that_fails_says_why() {
    for harness in harness::all().await {
        let space = harness.space("org", "space").await;
        let app = harness.admin().app("dora", &space).await;
        let package = harness.package(&app).await;
        let mut told = String::new();
        for reason in [
            "STG: Exited with status 222",
            "Exited with status 223",
            "cell disappeared before completion",
        ] {
            let (build, task) = harness.build(&package).await;
            harness.end_build(&build, &task, Some(reason)).await;
            let shown = harness.admin().get(&format!("/v3/builds/{build}")).await.expect(200);
            told += &format!("{} {}\n", text(&shown["state"]), text(&shown["error"]));
        }
        expect![[r#"
            FAILED NoAppDetectedError - An app was not successfully detected by any available buildpack
            FAILED BuildpackCompileFailed - App staging failed in the buildpack compile phase
            FAILED StagingError - Staging error: staging failed
        "#]]
        .assert_eq(&told);
    }
}

pub fn running(process_guid: &str, index: u32) -> ActualLrp {
    let by = InstanceKey {
        instance_guid: format!("instance-{index}").as_str().into(),
        cell_id: "cell-1".into(),
    };
    let ports = vec![PortMapping { container_port: 8080, listen_port: 8080, host_port: 61001 }];
    let net =
        NetInfo { address: [10, 0, 0, 1].into(), instance_address: [10, 255, 0, 2].into(), ports };
    let key = LrpKey { process_guid: process_guid.into(), index, domain: "cf-apps".into() };
    ActualLrp {
        state: State::Running { by, net, routable: true },
        ..ActualLrp::unclaimed(key, harness::START)
    }
}

#[tokio::test]
async fn stats_tell_what_runs_as_soon_as_it_does() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        let stats = format!("/v3/processes/{app}/stats");
        assert_eq!(admin.get(&stats).await.column("state"), "DOWN");
        admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
        admin
            .post(
                &format!("/v3/apps/{app}/processes/web/actions/scale"),
                json!({ "instances": "2" }),
            )
            .await
            .expect(202);
        let lrp = harness
            .bbs
            .desired_when(|all| all.iter().find(|lrp| lrp.instances == 2).cloned())
            .await;

        let up = async {
            tokio::task::yield_now().await;
            harness.bbs.set_actual(running(lrp.process_guid.as_str(), 0));
        };
        let (answer, ()): (Answer, ()) = tokio::join!(admin.get(&stats), up);
        assert_eq!(answer.column("state"), "RUNNING DOWN");
        let first = &answer.body["resources"][0];
        assert_eq!(
            (&first["host"], &first["mem_quota"]),
            (&json!("10.0.0.1"), &json!(1024_i64 << 20))
        );
        assert_eq!(first["instance_ports"][0]["external"], 61001);

        let short = admin.get(&format!("/v3/processes?guids={app}&embed=process_instances")).await;
        assert_eq!(short.body["resources"][0]["process_instances"][0]["state"], "RUNNING");
        assert_eq!(short.column("command"), "[PRIVATE DATA HIDDEN IN LISTS]");

        let key =
            LrpKey { process_guid: lrp.process_guid.clone(), index: 0, domain: "cf-apps".into() };
        let instance = InstanceKey { instance_guid: "instance-0".into(), cell_id: "cell-1".into() };
        let crash_reason = "APP/PROC/WEB: Exited with status 3".to_owned();
        harness.bbs.tell_crash(Event::ActualLrpCrashed {
            key,
            instance,
            crash_count: 1,
            crash_reason,
            since: Timestamp::ZERO,
        });
        harness.line_when("App instance exited with guid").await;
        let crashes = "/v3/audit_events?types=audit.app.process.crash";
        assert_eq!(admin.get(crashes).await.body["pagination"]["total_results"], 1);
        let gone = admin.delete(&format!("/v3/apps/{app}/processes/web/instances/0")).await;
        assert_eq!(gone.status, StatusCode::NO_CONTENT);
        let none = admin.delete(&format!("/v3/apps/{app}/processes/web/instances/7")).await.error();
        expect!["404 CF-ResourceNotFound: Instance not found"].assert_eq(&none);
    }
}

#[tokio::test]
async fn an_instance_on_its_way_back_is_told_at_once() {
    const PATIENCE: Duration = Duration::from_secs(30);
    for db in sql::testing::databases().await {
        let mut config = harness::config();
        config.limits.hold_stats = Duration::from_secs(3600);
        let harness = Harness::open_with(db, config).await;
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
        let web = |lrp: &&Arc<DesiredLrp>| lrp.process_guid.as_str().starts_with(&app);
        let lrp = harness.bbs.desired_when(|all| all.iter().find(web).cloned()).await;
        let stats = format!("/v3/processes/{app}/stats");
        harness.bbs.set_actual(running(lrp.process_guid.as_str(), 0));
        let up = tokio::time::timeout(PATIENCE, admin.get(&stats)).await;
        assert_eq!(up.expect("held until it runs").column("state"), "RUNNING");

        // Whoever restarts an instance sees that it is away, however short a time that is.
        let instance = format!("/v3/processes/{app}/instances/0");
        let killed = tokio::time::timeout(PATIENCE, admin.delete(&instance)).await;
        let killed = killed.expect("it is killed");
        assert_eq!(killed.status, StatusCode::NO_CONTENT);
        let gone = async {
            while admin.get(&stats).await.column("state") != "DOWN" {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("stats are not held");
    }
}

#[tokio::test]
async fn readiness_of_those_that_are_asked_for_it_is_recorded() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        let check = json!({ "readiness_health_check": { "type": "http", "data": { "endpoint": "/ready" } } });
        admin.patch(&format!("/v3/processes/{app}"), check).await.expect(200);
        admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
        let web = |lrp: &&Arc<DesiredLrp>| lrp.process_guid.as_str().starts_with(&app);
        let lrp = harness.bbs.desired_when(|all| all.iter().find(web).cloned()).await;
        let set = |ready: bool| {
            let mut lrp = running(lrp.process_guid.as_str(), 0);
            if let State::Running { routable, .. } = &mut lrp.state {
                *routable = ready;
            }
            harness.bbs.set_actual(lrp);
        };
        [false, false, true, true, false].into_iter().for_each(set);
        let path = "/v3/audit_events?types=audit.app.process.ready,audit.app.process.not-ready&order_by=created_at";
        let told = async {
            loop {
                let events = admin.get(path).await;
                if events.column("type").contains("not-ready") {
                    return events;
                }
                tokio::task::yield_now().await;
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(30), told).await;
        let told = told.expect("it is told");
        assert_eq!(told.column("type"), "audit.app.process.ready audit.app.process.not-ready");
        let data = &told.body["resources"][0]["data"];
        assert_eq!((&data["index"], &data["ready"]), (&json!(0), &json!(true)));
    }
}

#[tokio::test]
async fn a_restart_makes_the_instances_anew() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
        let first = harness
            .bbs
            .desired_when(|all| all.iter().find(|lrp| lrp.instances == 1).cloned())
            .await;
        admin.post(&format!("/v3/apps/{app}/actions/restart"), json!({})).await.expect(200);
        let other = |lrp: &&std::sync::Arc<diego::DesiredLrp>| {
            lrp.process_guid != first.process_guid && lrp.instances == 1
        };
        harness
            .bbs
            .desired_when(|all| (all.len() == 2).then(|| all.iter().find(other).cloned()).flatten())
            .await;
        // Twice started changes nothing.
        let version =
            text(&admin.get(&format!("/v3/processes/{app}")).await.expect(200)["version"]);
        admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
        assert_eq!(
            text(&admin.get(&format!("/v3/processes/{app}")).await.expect(200)["version"]),
            version
        );
        admin.delete(&format!("/v3/apps/{app}")).await.job();
        harness.bbs.desired_when(|all| all.is_empty().then_some(())).await;
    }
}

#[tokio::test]
async fn what_a_restart_cut_off_is_taken_up_again() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = admin.app("dora", &space).await;
        let package = harness.package(&app).await;
        let (done, task) = harness.build(&package).await;
        harness.end_build(&done, &task, None).await;
        let droplet =
            admin.get(&format!("/v3/builds/{done}")).await.body["droplet"]["guid"].clone();
        admin
            .patch(
                &format!("/v3/apps/{app}/relationships/current_droplet"),
                json!({ "data": { "guid": droplet } }),
            )
            .await
            .expect(200);
        let (build, _) = harness.build(&package).await;
        let task = admin.post(&format!("/v3/apps/{app}/tasks"), json!({ "command": "true" })).await;
        let task = text(&task.expect(202)["guid"]);
        // Killed between the row and the brain: the brain never heard of either.
        harness.sql("UPDATE builds SET created_at = created_at - 1").await;
        harness.sql("UPDATE tasks SET created_at = created_at - 1, state = 'PENDING'").await;
        let again =
            Harness::open_on(harness.db.clone(), harness::config(), harness.blobs.clone()).await;
        let definition = again.bbs.task_when(&build).await.definition.clone();
        again.bbs.task_when(&task).await;
        again.end_build(&build, &definition, None).await;
        let staged = again.admin().get(&format!("/v3/builds/{build}")).await;
        assert_eq!(staged.body["state"], "STAGED");
    }
}

#[tokio::test]
async fn a_crash_that_nobody_heard_of_is_recorded_at_the_next_start() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = admin.app("dora", &space).await;
        let process = text(&admin.get(&format!("/v3/apps/{app}/processes/web")).await.body["guid"]);
        let key = LrpKey {
            process_guid: format!("{process}-version").into(),
            index: 0,
            domain: "cf-apps".into(),
        };
        // Started, started again with nothing new, and with one more crash.
        for (count, recorded) in [(1, 1), (1, 1), (2, 2)] {
            let bbs = std::sync::Arc::new(harness::FakeBbs::default());
            bbs.set_actual(ActualLrp {
                state: State::Crashed,
                crash_count: count,
                crash_reason: "APP/PROC/WEB: Exited with status 3".to_owned(),
                ..ActualLrp::unclaimed(key.clone(), Timestamp::ZERO)
            });
            let (db, blobs) = (harness.db.clone(), harness.blobs.clone());
            let again = Harness::open_again(db, harness::config(), blobs, bbs.clone()).await;
            again.crashes_when(recorded).await;
        }
    }
}

impl Harness {
    async fn crashes_when(&self, count: usize) {
        let path = "/v3/audit_events?types=audit.app.process.crash";
        let wait = async {
            loop {
                let found = self.admin().get(path).await.body;
                if found["pagination"]["total_results"] == count {
                    assert_eq!(found["resources"][0]["data"]["exit_status"], 3);
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait)
            .await
            .expect("not that many crashes were recorded");
    }
}
