//! What users read when something goes wrong: the reason, and what to do next, in the app's own log.

use std::time::Duration;

use diego::actual_lrp::State;
use diego::{ActualLrp, Event, InstanceKey, LrpKey};
use serde_json::json;
use tokio::time::timeout;

use crate::harness::{self, Harness};
use crate::push::running;

impl Harness {
    /// The one line from `source` that holds `text`.
    async fn told(&self, text: &str) -> String {
        self.line_when(text).await;
        let lines = self.lines();
        let mut found = lines.iter().filter(|line| line.contains(text));
        let line = found.next().unwrap().clone();
        assert_eq!(found.next(), None, "it is told once");
        line
    }
}

#[tokio::test]
async fn a_failed_build_ends_with_its_reason_and_the_next_step() {
    for (reason, want) in [
        (
            "STG: Exited with status 222",
            "[STG] Failed to stage build: An app was not successfully detected by any available buildpack. Push the folder that holds the app's own files (`cf push -p FOLDER`), or name a buildpack (`cf push -b NAME`): `cf buildpacks` lists them.",
        ),
        (
            "STG: Exited with status 223",
            "[STG] Failed to stage build: App staging failed in the buildpack compile phase. The buildpack's output above says what went wrong: correct it and push again.",
        ),
        (
            "exceeded 15m0s timeout; STG: Exited with status 137",
            "[STG] Failed to stage build: Staging time expired: it took longer than 15 min. Make the build quicker, or ask an operator to let builds take longer than 15 min.",
        ),
        (
            "insufficient resources: memory (1 cell lacks memory: needed 1024 MB, most free 380 MB)",
            "[STG] Failed to stage build: Insufficient resources. No cell has 1024 MB of memory and 4096 MB of disk free to stage with (insufficient resources: memory (1 cell lacks memory: needed 1024 MB, most free 380 MB)): stop other apps, or ask an operator for more cells.",
        ),
    ] {
        for harness in harness::all().await {
            let space = harness.space("org", "space").await;
            let app = harness.admin().app("dora", &space).await;
            let package = harness.package(&app).await;
            let (build, task) = harness.build(&package).await;
            harness.end_build(&build, &task, Some(reason)).await;
            assert_eq!(harness.told("Failed to stage build").await, want);
            // The app can be pushed again at once.
            harness.build(&package).await;
        }
    }
}

#[tokio::test]
async fn the_staging_timeout_is_a_setting() {
    for db in sql::testing::databases().await {
        let mut config = harness::config();
        config.limits.staging_timeout = Duration::from_secs(7);
        let harness = Harness::open_with(db, config).await;
        let space = harness.space("org", "space").await;
        let app = harness.admin().app("dora", &space).await;
        let package = harness.package(&app).await;
        let (build, task) = harness.build(&package).await;
        let action = serde_json::to_value(&task.run.action).unwrap();
        assert_eq!(action["timeout"]["timeout_ms"], 7000, "{action}");
        harness.end_build(&build, &task, Some("exceeded 7s timeout")).await;
        let shown = harness.admin().get(&format!("/v3/builds/{build}")).await.expect(200);
        let want = "StagingTimeExpired - Staging time expired: it took longer than 7 s";
        assert_eq!((&shown["state"], &shown["error"]), (&json!("FAILED"), &json!(want)));
    }
}

#[tokio::test]
async fn a_failed_build_is_held_until_its_log_was_shown() {
    let hour = Duration::from_secs(3600);
    let mut config = harness::config();
    config.limits.hold_failure = hour;
    let harness = Harness::open_with(sql::testing::databases().await.remove(0), config).await;
    let space = harness.space("org", "space").await;
    let app = harness.admin().app("dora", &space).await;
    let (build, task) = harness.build(&harness.package(&app).await).await;
    harness.end_build(&build, &task, Some("STG: Exited with status 223")).await;
    let (admin, path) = (harness.admin(), format!("/v3/builds/{build}"));
    assert!(timeout(Duration::from_millis(200), admin.get(&path)).await.is_err(), "it is held");
    harness.clock.advance(hour);
    let shown = timeout(Duration::from_secs(60), admin.get(&path)).await.expect("held no longer");
    assert_eq!(shown.expect(200)["state"], "FAILED");
}

/// The guid at Diego of the app's web process, after it was started.
async fn started(harness: &Harness, app: &str) -> String {
    let path = format!("/v3/apps/{app}/actions/start");
    harness.admin().post(&path, json!({})).await.expect(200);
    let web = harness.bbs.desired_when(|all| all.iter().find(|lrp| lrp.instances == 1).cloned());
    web.await.process_guid.to_string()
}

fn crash(harness: &Harness, process_guid: &str, count: u32, reason: &str) {
    let key = LrpKey { process_guid: process_guid.into(), index: 0, domain: "cf-apps".into() };
    let instance = InstanceKey { instance_guid: "one".into(), cell_id: "cell-1".into() };
    harness.bbs.tell_crash(Event::ActualLrpCrashed {
        key: key.clone(),
        instance,
        crash_count: count,
        crash_reason: reason.to_owned(),
        since: harness::START,
    });
    harness.bbs.set_actual(ActualLrp {
        state: State::Crashed,
        crash_count: count,
        crash_reason: reason.to_owned(),
        ..running(process_guid, 0)
    });
}

#[tokio::test]
async fn a_droplet_that_does_not_start_says_why() {
    for (reason, want) in [
        (
            "APP/PROC/WEB: Exited with status 127",
            "The start command, or a program that it calls, was not found: correct it with `cf push dora -c COMMAND`, or in the Procfile.",
        ),
        (
            "Instance never healthy after 1m0s: Failed to make TCP connection to 127.0.0.1:8080: connection refused",
            "It must listen on 0.0.0.0, on the port in $PORT, within 60 s of its start; one that serves nothing takes `cf set-health-check dora process`.",
        ),
        (
            "APP/PROC/WEB: Exited with status 137 (out of memory)",
            "It needs more than its 1024 MB of memory: give it more with `cf scale dora -m SIZE`.",
        ),
        (
            "APP/PROC/WEB: Exited with status 0",
            "A process must not end: one that is done after a while is a task (`cf run-task dora -c COMMAND`).",
        ),
    ] {
        for harness in harness::all().await {
            let space = harness.space("org", "space").await;
            let app = harness.staged_app(&space).await;
            let process = started(&harness, &app).await;
            crash(&harness, &process, 1, reason);
            let line = harness.told("of process web crashed").await;
            assert_eq!(line, format!("[API] Instance 0 of process web crashed: {reason}. {want}"));
            // The instance's details and the events say it as well.
            let stats = harness.admin().get(&format!("/v3/processes/{app}/stats")).await;
            assert_eq!(
                (stats.column("state"), stats.column("details")),
                ("CRASHED".into(), reason.into())
            );
            let events =
                harness.admin().get("/v3/audit_events?types=audit.app.process.crash").await;
            assert_eq!(events.body["resources"][0]["data"]["exit_description"], reason);
        }
    }
}

#[tokio::test]
async fn an_app_without_a_start_command_is_told_so() {
    for harness in harness::all().await {
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        harness.sql("UPDATE droplets SET process_types = '{}'").await;
        let process = started(&harness, &app).await;
        crash(&harness, &process, 1, "APP/PROC/WEB: Exited with status 1");
        let line = harness.told("of process web crashed").await;
        let want = "It has no start command: give it one with `cf push dora -c COMMAND`, or in a Procfile (web: COMMAND).";
        assert!(line.ends_with(want), "{line}");
    }
}

#[tokio::test]
async fn an_instance_that_no_cell_takes_is_told_of_once() {
    for harness in harness::all().await {
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        let process = started(&harness, &app).await;
        let unplaced = |free: u32| {
            let placement_error = format!(
                "insufficient resources: memory (1 cell lacks memory: needed 1024 MB, most free {free} MB)"
            );
            ActualLrp { state: State::Unclaimed { placement_error }, ..running(&process, 0) }
        };
        harness.bbs.set_actual(unplaced(380));
        harness.bbs.set_actual(unplaced(200));
        harness.bbs.set_actual(running(&process, 1));
        let line = harness.told("has no cell").await;
        expect_test::expect!["[API] Instance 0 of process web has no cell: insufficient resources: memory (1 cell lacks memory: needed 1024 MB, most free 380 MB). Each instance asks for 1024 MB of memory and 1024 MB of disk: ask for less (`cf scale dora -m SIZE -k SIZE`, or fewer instances with -i), or an operator for more cells. It starts as soon as there is room."]
            .assert_eq(&line);
        let stats = harness.admin().get(&format!("/v3/processes/{app}/stats")).await;
        assert_eq!(stats.column("state"), "DOWN");
        assert!(stats.column("details").starts_with("insufficient resources: memory"));
        crash(&harness, &process, 1, "gone");
        harness.line_when("of process web crashed").await;
        assert_eq!(harness.lines().iter().filter(|line| line.contains("has no cell")).count(), 1);
    }
}

#[tokio::test]
async fn a_build_that_no_cell_takes_is_told_of_once() {
    for harness in harness::all().await {
        let space = harness.space("org", "space").await;
        let app = harness.admin().app("dora", &space).await;
        let package = harness.package(&app).await;
        let (build, task) = harness.build(&package).await;
        let reason = "insufficient resources: memory (1 cell lacks memory: needed 1024 MB, most free 380 MB)";
        for _ in 0..3 {
            harness.bbs.reject_task(&build, reason);
        }
        harness.line_when("The build waits").await;
        harness.end_build(&build, &task, Some(reason)).await;
        harness.told("Failed to stage build").await;
        expect_test::expect!["[STG] The build waits, and is tried again for a while. No cell has 1024 MB of memory and 4096 MB of disk free to stage with (insufficient resources: memory (1 cell lacks memory: needed 1024 MB, most free 380 MB)): stop other apps, or ask an operator for more cells."]
            .assert_eq(&harness.told("The build waits").await);
    }
}
