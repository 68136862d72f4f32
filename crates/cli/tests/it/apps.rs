//! Everyday commands on apps.

use expect_test::expect;
use serde_json::{Value, json};

use crate::script::{Answer, World};

pub fn app(state: &str) -> Value {
    json!({ "guid": "app-guid", "name": "dora", "state": state, "lifecycle": { "type": "buildpack", "data": {} } })
}

pub fn stats(states: &[&str]) -> Answer {
    let instance = |(index, state): (usize, &&str)| {
        json!({
            "type": "web", "index": index, "state": state, "uptime": 0, "details": null, "routable": *state == "RUNNING",
            "usage": { "cpu": 0.0, "mem": 16_777_216, "disk": 1_048_576, "log_rate": 0 },
            "mem_quota": 67_108_864, "disk_quota": 1_073_741_824, "log_rate_limit": -1,
        })
    };
    Answer::ok(json!({ "resources": states.iter().enumerate().map(instance).collect::<Vec<_>>() }))
}

impl World {
    /// The app `dora`, with one web process and a route.
    pub fn with_dora(&self, state: &str) {
        let process = json!({ "guid": "process-guid", "type": "web", "memory_in_mb": 64, "command": "./run",
            "relationships": { "app": { "data": { "guid": "app-guid" } } } });
        let route = json!({ "guid": "route-guid", "host": "dora", "path": "", "url": "dora.example.com", "protocol": "http",
            "destinations": [{ "guid": "d", "app": { "guid": "app-guid", "process": { "type": "web" } } }] });
        self.on("GET /v3/apps", Answer::list(json!([app(state)])));
        self.on("GET /v3/apps/app-guid/processes", Answer::list(json!([process])));
        self.on("GET /v3/processes/process-guid", Answer::ok(process));
        self.on("GET /v3/apps/app-guid/routes", Answer::list(json!([route.clone()])));
        self.on("GET /v3/routes", Answer::list(json!([route])));
        self.on(
            "GET /v3/apps/app-guid/droplets/current",
            Answer::ok(json!({ "guid": "droplet-guid", "created_at": "", "stack": "cflinuxfs4",
                "buildpacks": [{ "name": "ruby_buildpack", "version": "1.2", "detect_output": "ruby", "buildpack_name": "ruby" }] })),
        );
    }
}

#[tokio::test]
async fn app_shows_all_there_is() {
    let world = World::targeted().await;
    world.with_dora("STARTED");
    world.on("GET /v3/processes/process-guid/stats", stats(&["RUNNING", "CRASHED"]));
    let ran = world.cf(&["app", "dora"]).await;
    expect![[r#"
        Showing health and status for app dora in org acme / space dev as ada...

        name:              dora
        requested state:   started
        routes:            dora.example.com
        last uploaded:     
        stack:             cflinuxfs4
        buildpacks:        
        	name             version   detect output   buildpack name
        	ruby_buildpack   1.2       ruby            ruby

        type:           web
        sidecars:       
        instances:      1/2
        memory usage:   64M
             state     since                  cpu    memory       disk       logging             cpu entitlement   details   ready
        #0   running   2026-01-31T12:00:00Z   0.0%   16M of 64M   1M of 1G   0B/s of unlimited                               true
        #1   crashed   2026-01-31T12:00:00Z   0.0%   16M of 64M   1M of 1G   0B/s of unlimited                               false
    "#]]
    .assert_eq(&ran.out);
    assert_eq!(world.cf(&["app", "dora", "--guid"]).await.out, "app-guid\n");
}

#[tokio::test]
async fn apps_asks_once_for_all_processes() {
    let world = World::targeted().await;
    world.with_dora("STARTED");
    let process = |kind: &str, states: &[&str]| {
        let instances: Vec<Value> =
            states.iter().map(|state| json!({ "index": 0, "state": state, "since": 1 })).collect();
        json!({ "guid": kind, "type": kind, "process_instances": instances, "relationships": { "app": { "data": { "guid": "app-guid" } } } })
    };
    world.on(
        "GET /v3/processes",
        Answer::list(json!([process("worker", &[]), process("web", &["RUNNING", "DOWN"])])),
    );
    let ran = world.cf(&["a"]).await;
    expect![[r#"
        Getting apps in org acme / space dev as ada...

        name   requested state   processes             routes
        dora   started           web:1/2, worker:0/0   dora.example.com
    "#]]
    .assert_eq(&ran.out);
    assert!(world.asked("GET /v3/processes")[0].query.contains("embed=process_instances"));
}

#[tokio::test]
async fn a_missing_app_is_named() {
    let world = World::targeted().await;
    world.on("GET /v3/apps", Answer::list(json!([])));
    let ran = world.cf(&["app", "nobody"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (1, "App 'nobody' not found.\n"));
    let ran = world.cf(&["delete", "-f", "nobody"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "App 'nobody' does not exist.\n"));
}

#[tokio::test]
async fn delete_asks_first_and_takes_routes_along() {
    let world = World::targeted().await;
    world.with_dora("STARTED");
    let ran = world.cf_with(&["delete", "dora"], "n\n").await;
    assert_eq!(ran.out, "Really delete the app dora? [yN]: n\nApp 'dora' has not been deleted.\n");
    world.on("DELETE /v3/apps/app-guid", Answer::job(&format!("{}/v3/jobs/j", world.url)));
    world.on("DELETE /v3/routes/route-guid", Answer::job(&format!("{}/v3/jobs/j", world.url)));
    world.on("GET /v3/jobs/j", Answer::ok(json!({ "guid": "j", "state": "PROCESSING" })));
    world.on("GET /v3/jobs/j", Answer::ok(json!({ "guid": "j", "state": "COMPLETE" })));
    let ran = world.cf(&["d", "-r", "-f", "dora"]).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "Deleting app dora in org acme / space dev as ada...\nOK\n\n")
    );
    assert_eq!(world.changes(), "DELETE /v3/apps/app-guid\nDELETE /v3/routes/route-guid");
}

#[tokio::test]
async fn scale_restarts_only_for_limits() {
    let world = World::targeted().await;
    world.with_dora("STARTED");
    world.on("GET /v3/processes/process-guid/stats", stats(&["RUNNING"]));
    for action in ["processes/web/actions/scale", "actions/stop", "actions/start"] {
        world.on(&format!("POST /v3/apps/app-guid/{action}"), Answer::ok(json!({})));
    }
    assert_eq!(world.cf(&["scale", "dora", "-i", "3"]).await.code, 0);
    assert_eq!(world.changes(), "POST /v3/apps/app-guid/processes/web/actions/scale");
    assert_eq!(
        world.asked("POST /v3/apps/app-guid/processes/web/actions/scale")[0].json(),
        json!({ "instances": 3 })
    );
    assert_eq!(world.cf(&["scale", "dora", "-m", "1G", "-f"]).await.code, 0);
    assert!(
        world
            .changes()
            .ends_with("POST /v3/apps/app-guid/actions/stop\nPOST /v3/apps/app-guid/actions/start")
    );
}

#[tokio::test]
async fn recent_logs_come_oldest_first() {
    let world = World::targeted().await;
    world.with_dora("STARTED");
    let line = |nanos: &str, text: &str| {
        json!({ "timestamp": nanos, "source_id": "app-guid", "instance_id": "0", "tags": { "source_type": "APP/PROC/WEB" },
            "log": { "payload": text, "type": "OUT" } })
    };
    let batch = json!({ "envelopes": { "batch": [line("2000000000", "c2Vjb25k"), line("1000000000", "Zmlyc3Q=")] } });
    world.on("GET /api/v1/read/app-guid", Answer::ok(batch));
    let ran = world.cf(&["logs", "dora", "--recent"]).await;
    let ends: Vec<&str> =
        ran.out.lines().filter_map(|line| line.split_once(" [")).map(|(_, rest)| rest).collect();
    assert_eq!(ends, ["APP/PROC/WEB/0] OUT first", "APP/PROC/WEB/0] OUT second"]);
}

#[tokio::test]
async fn env_groups_what_an_app_sees() {
    let world = World::targeted().await;
    world.with_dora("STARTED");
    let env = json!({
        "environment_variables": { "KEY": "value", "N": 3 }, "staging_env_json": {}, "running_env_json": { "R": "1" },
        "system_env_json": { "VCAP_SERVICES": {} }, "application_env_json": {},
    });
    world.on("GET /v3/apps/app-guid/env", Answer::ok(env));
    let ran = world.cf(&["e", "dora"]).await;
    expect![[r#"
        Getting env variables for app dora in org acme / space dev as ada...
        System-Provided:
        VCAP_SERVICES: {}


        User-Provided:
        KEY: value
        N: 3

        Running Environment Variable Groups:
        R: 1

        No staging env variables have been set

    "#]]
    .assert_eq(&ran.out);
}
