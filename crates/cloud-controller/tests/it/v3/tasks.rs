//! `/v3/tasks`, and the usage events of what runs.

use axum::http::{Method, StatusCode};
use diego::task::TaskCallback;
use diego::{Action, TaskDefinition};
use expect_test::expect;
use serde_json::{Value, json};

use crate::harness::{self, Harness};

impl Harness {
    /// A task's end as a cell's brain tells it.
    async fn end_task(&self, guid: &str, task: &TaskDefinition, failure: Option<&str>) {
        let callback = TaskCallback {
            task_guid: guid.into(),
            failed: failure.is_some(),
            failure_reason: failure.unwrap_or_default().to_owned(),
            result: String::new(),
            annotation: String::new(),
            created_at: harness::START,
        };
        let body = serde_json::to_vec(&callback).unwrap();
        let (status, _) = self.cell("POST", &task.completion_callback_url, body).await;
        assert_eq!(status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_task_runs_the_droplet_once() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let bare = admin.app("bare", &space).await;
        let refused =
            admin.post(&format!("/v3/apps/{bare}/tasks"), json!({ "command": "true" })).await;
        expect![
            "422 CF-UnprocessableEntity: Task must have a droplet. Assign current droplet to app."
        ]
        .assert_eq(&refused.error());

        let app = harness.staged_app(&space).await;
        let tasks = format!("/v3/apps/{app}/tasks");
        let wanted = json!({ "name": "migrate", "command": "rake db", "memory_in_mb": 64, "disk_in_mb": 128,
            "log_rate_limit_in_bytes_per_second": 1000, "metadata": { "labels": { "a": "b" } } });
        let made = admin.post(&tasks, wanted).await.expect(202);
        let guid = made["guid"].as_str().unwrap().to_owned();
        assert_eq!((&made["sequence_id"], &made["state"]), (&json!(1), &json!("RUNNING")));
        let task = harness.bbs.task_when(&guid).await;
        assert_eq!(task.domain.as_str(), "cf-tasks");
        let run = &task.definition.run;
        assert_eq!((run.memory_mb, run.disk_mb, run.log_rate_limit), (64, 128, 1000));
        assert_eq!(
            (run.log_source.as_str(), run.log_guid.as_str()),
            ("APP/TASK/migrate", app.as_str())
        );
        assert_eq!(run.image_layers.len(), 1);
        let Some(Action::Run(action)) = &run.action else { panic!("no command") };
        assert_eq!(action.args[..2], ["app", "rake db"]);
        let names: Vec<&str> = action.env.iter().map(|variable| variable.name.as_str()).collect();
        expect![[r#"["VCAP_APPLICATION", "MEMORY_LIMIT", "VCAP_SERVICES"]"#]]
            .assert_eq(&format!("{names:?}"));

        let from_template = json!({ "template": { "process": { "guid": app } } });
        let second = admin.post(&tasks, from_template).await.expect(202);
        assert_eq!(
            (&second["sequence_id"], &second["command"]),
            (&json!(2), &json!("./run --port $PORT"))
        );
        let second = second["guid"].as_str().unwrap();

        harness.end_task(&guid, &task.definition, None).await;
        let other = harness.bbs.task_when(second).await;
        harness.end_task(second, &other.definition, Some("APP/TASK/x: Exited with status 7")).await;
        let list = admin.get(&format!("{tasks}?order_by=-created_at")).await;
        assert_eq!(list.column("state"), "FAILED SUCCEEDED");
        assert_eq!(
            list.body["resources"][0]["result"]["failure_reason"],
            "APP/TASK/x: Exited with status 7"
        );
        assert_eq!(admin.get(&format!("{tasks}?sequence_ids=1")).await.column("name"), "migrate");
        assert_eq!(
            admin.get("/v3/tasks?label_selector=a=b").await.column("command"),
            "[PRIVATE DATA HIDDEN IN LISTS]"
        );
        let labelled = admin
            .patch(&format!("/v3/tasks/{guid}"), json!({ "metadata": { "labels": { "a": null } } }))
            .await;
        assert_eq!(labelled.expect(200)["metadata"]["labels"], json!({}));

        let events = admin.get("/v3/app_usage_events?per_page=200").await.body;
        let events = events["resources"].as_array().unwrap();
        let shown: Vec<String> = events.iter().map(told).collect();
        let unnamed = second.replace('-', "")[..8].to_owned();
        expect![[r#"
            STAGING_STARTED
            STAGING_STOPPED ruby_buildpack
            BUILDPACK_SET ruby_buildpack
            BUILDPACK_SET ruby_buildpack
            TASK_STARTED migrate
            TASK_STARTED UNNAMED
            TASK_STOPPED migrate
            TASK_STOPPED UNNAMED
        "#]]
        .assert_eq(&(shown.join("\n") + "\n").replace(&unnamed, "UNNAMED"));
        let fifth = events[4]["guid"].as_str().unwrap();
        let rest = admin.get(&format!("/v3/app_usage_events?after_guid={fifth}")).await;
        assert_eq!(rest.body["pagination"]["total_results"], 3);
        assert_eq!(
            admin.get(&format!("/v3/app_usage_events/{fifth}")).await.expect(200)["task"]["guid"],
            json!(guid)
        );
        expect!["400 CF-BadQueryParameter: The query parameter is invalid: After guid filter must be a valid event guid."]
            .assert_eq(&admin.get("/v3/app_usage_events?after_guid=none").await.error());
        assert_eq!(admin.get("/v3/service_usage_events").await.expect(200)["resources"], json!([]));
        harness.role("dev", "space_developer", "org-org", &space).await;
        assert_eq!(
            harness.user("dev").get("/v3/app_usage_events").await.expect(200)["resources"],
            json!([])
        );
    }
}

fn told(event: &Value) -> String {
    let name = |key: &str| event[key]["name"].as_str().unwrap_or_default();
    let text = format!(
        "{} {}{}",
        event["state"]["current"].as_str().unwrap(),
        name("buildpack"),
        name("task")
    );
    text.trim_end().to_owned()
}

#[tokio::test]
async fn what_a_deleted_app_stages_and_does_ends_with_it() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        let task = json!({ "command": "sleep 900" });
        let made = admin.post(&format!("/v3/apps/{app}/tasks"), task).await.expect(202);
        let package = harness.package(&app).await;
        let (build, _) = harness.build(&package).await;
        let task = made["guid"].as_str().unwrap();
        harness.bbs.task_when(task).await;
        harness.bbs.task_when(&build).await;
        // Another app's build goes on.
        let other = admin.app("other", &space).await;
        let package = harness.package(&other).await;
        let (kept, _) = harness.build(&package).await;

        admin.delete(&format!("/v3/apps/{app}")).await.expect(202);
        harness.bbs.no_task_when(task).await;
        harness.bbs.no_task_when(&build).await;
        harness.bbs.task_when(&kept).await;
    }
}

#[tokio::test]
async fn a_task_can_be_canceled_until_it_ended() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        let made = admin
            .post(&format!("/v3/apps/{app}/tasks"), json!({ "command": "sleep 9" }))
            .await
            .expect(202);
        let guid = made["guid"].as_str().unwrap().to_owned();
        let task = harness.bbs.task_when(&guid).await;
        let cancel = format!("/v3/tasks/{guid}/cancel");
        assert_eq!(admin.send(Method::PUT, &cancel, None).await.expect(202)["state"], "CANCELING");
        harness.bbs.no_task_when(&guid).await;
        harness.end_task(&guid, &task.definition, Some("task was cancelled")).await;
        let ended = admin.get(&format!("/v3/tasks/{guid}")).await.expect(200);
        assert_eq!(
            (&ended["state"], &ended["result"]["failure_reason"]),
            (&json!("FAILED"), &json!("task was cancelled"))
        );
        // Told again, nothing changes.
        harness.end_task(&guid, &task.definition, None).await;
        assert_eq!(admin.get(&format!("/v3/tasks/{guid}")).await.expect(200)["state"], "FAILED");
        expect![
            "422 CF-UnprocessableEntity: Task state is FAILED and therefore cannot be canceled"
        ]
        .assert_eq(
            &admin.post(&format!("/v3/tasks/{guid}/actions/cancel"), json!({})).await.error(),
        );
        let kinds = admin
            .get(&format!("/v3/audit_events?target_guids={app}&order_by=-created_at&per_page=2"))
            .await;
        assert_eq!(kinds.column("type"), "audit.app.task.cancel audit.app.task.create");
    }
}

#[tokio::test]
async fn who_may_run_tasks_and_how_many() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        let tasks = format!("/v3/apps/{app}/tasks");
        harness.role("dev", "space_developer", "org-org", &space).await;
        harness.role("supporter", "space_supporter", "org-org", &space).await;
        harness.role("auditor", "space_auditor", "org-org", &space).await;
        let body = || json!({ "command": "true" });
        let mut told = String::new();
        for user in ["dev", "supporter", "auditor", "stranger"] {
            let client = harness.user(user);
            let made = client.post(&tasks, body()).await.status.as_u16();
            let listed = client.get(&tasks).await;
            let command = listed.body["resources"][0]["command"].as_str().unwrap_or("-").to_owned();
            told += &format!("{user}: {made} {command}\n");
        }
        expect![[r#"
            dev: 202 true
            supporter: 403 true
            auditor: 403 [PRIVATE DATA HIDDEN]
            stranger: 404 -
        "#]]
        .assert_eq(&told);
        let mut told = String::new();
        for (change, wanted) in [
            ("per_app_tasks = 1", body()),
            ("per_app_tasks = NULL, total_memory_in_mb = 2000", body()),
            ("total_memory_in_mb = NULL, per_process_memory_in_mb = 100", body()),
            ("per_process_memory_in_mb = NULL, log_rate_limit_in_bytes_per_second = 10", body()),
            (
                "log_rate_limit_in_bytes_per_second = NULL",
                json!({ "disk_in_mb": 99_999, "command": "true" }),
            ),
            ("log_rate_limit_in_bytes_per_second = NULL", json!({})),
        ] {
            harness.sql(&format!("UPDATE organization_quotas SET {change}")).await;
            told += &format!("{}\n", admin.post(&tasks, wanted).await.error());
        }
        harness.sql("INSERT INTO feature_flags (name, enabled, updated_at) VALUES ('task_creation', 0, 1)").await;
        told += &format!("{}\n", harness.user("dev").post(&tasks, body()).await.error());
        expect![[r#"
            422 CF-UnprocessableEntity: app_task_limit quota exceeded
            422 CF-UnprocessableEntity: memory_in_mb exceeds organization memory quota
            422 CF-UnprocessableEntity: memory_in_mb exceeds organization instance memory quota
            422 CF-UnprocessableEntity: log_rate_limit cannot be unlimited in organization 'org'.
            422 CF-UnprocessableEntity: Cannot request disk_in_mb greater than 10240
            422 CF-UnprocessableEntity: No command or template provided
            403 CF-FeatureDisabled: Feature Disabled: task_creation
        "#]]
        .assert_eq(&told);
    }
}
