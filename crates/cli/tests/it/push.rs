//! `cf push`, from the first file to the last line.

use expect_test::expect;
use serde_json::json;

use crate::apps::stats;
use crate::script::{Answer, World};

impl World {
    /// All that a push of `dora` asks for; staging and starting need two looks each.
    fn with_push(&self) {
        self.on(
            "POST /v3/spaces/space-guid/manifest_diff",
            Answer::status(201, json!({ "diff": [] })),
        );
        self.on(
            "POST /v3/spaces/space-guid/actions/apply_manifest",
            Answer::job(&format!("{}/v3/jobs/apply", self.url)),
        );
        self.on("GET /v3/jobs/apply", Answer::ok(json!({ "guid": "apply", "state": "COMPLETE" })));
        self.on("POST /v3/resource_matches", Answer::status(201, json!({ "resources": [] })));
        self.on(
            "POST /v3/packages",
            Answer::status(201, json!({ "guid": "package-guid", "state": "AWAITING_UPLOAD" })),
        );
        self.on(
            "POST /v3/packages/package-guid/upload",
            Answer::ok(json!({ "guid": "package-guid", "state": "READY" })),
        );
        self.on(
            "POST /v3/builds",
            Answer::status(201, json!({ "guid": "build-guid", "state": "STAGING" })),
        );
        self.on(
            "GET /v3/builds/build-guid",
            Answer::ok(json!({ "guid": "build-guid", "state": "STAGING" })),
        );
        self.on("PATCH /v3/apps/app-guid/relationships/current_droplet", Answer::ok(json!({})));
        for action in ["restart", "start", "stop"] {
            self.on(&format!("POST /v3/apps/app-guid/actions/{action}"), Answer::ok(json!({})));
        }
    }

    fn with_built(&self) {
        let built = json!({ "guid": "build-guid", "state": "STAGED", "droplet": { "guid": "droplet-guid" } });
        self.on("GET /v3/builds/build-guid", Answer::ok(built));
    }

    fn with_staging_log(&self) {
        let line = json!({ "timestamp": "5000", "source_id": "app-guid", "tags": { "source_type": "STG" }, "log": { "payload": "Q29tcGlsaW5n", "type": "OUT" } });
        let other = json!({ "timestamp": "6000", "source_id": "app-guid", "tags": { "source_type": "API" }, "log": { "payload": "aGlkZGVu", "type": "OUT" } });
        let empty = json!({ "envelopes": { "batch": [] } });
        self.on("GET /api/v1/read/app-guid", Answer::ok(empty));
        self.on(
            "GET /api/v1/read/app-guid",
            Answer::ok(json!({ "envelopes": { "batch": [line, other] } })),
        );
    }
}

#[tokio::test]
async fn a_push_goes_from_files_to_instances() {
    let world = World::targeted().await;
    world.with_push();
    world.with_built();
    world.with_staging_log();
    world.with_dora("STOPPED");
    world.on("GET /v3/processes/process-guid/stats", stats(&["STARTING"]));
    world.on("GET /v3/processes/process-guid/stats", stats(&["RUNNING"]));
    world.file("app.rb", "puts 1");
    world.file(
        "manifest.yml",
        "applications:\n- name: dora\n  memory: ((size))\n  unheard-of: yes\n",
    );
    let ran = world.cf(&["push", "--var", "size=64M"]).await;
    expect![[r#"
        Pushing app dora to org acme / space dev as ada...
        Applying manifest file DIR/manifest.yml...

        Updating with these attributes...
          ---
          applications:
          - name: dora
            memory: 64M
            default-route: true
            unheard-of: yes
        Manifest applied
        Packaging files to upload...
        Uploading files...
        Waiting for API to complete processing files...

        Staging app and tracing logs...
           Compiling

        Waiting for app dora to start...

        Instances starting...

        name:              dora
        requested state:   stopped
        routes:            dora.example.com
        last uploaded:     
        stack:             cflinuxfs4
        buildpacks:        
        	name             version   detect output   buildpack name
        	ruby_buildpack   1.2       ruby            ruby

        type:            web
        sidecars:        
        instances:       1/1
        memory usage:    64M
        start command:   ./run
             state     since                  cpu    memory       disk       logging             cpu entitlement   details   ready
        #0   running   2026-01-31T12:00:00Z   0.0%   16M of 64M   1M of 1G   0B/s of unlimited                               true
    "#]]
    .assert_eq(&ran.out);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (0, "Warning: line 4: unknown key 'unheard-of' of an application is ignored\n")
    );
    expect![[r#"
        POST /v3/spaces/space-guid/manifest_diff
        POST /v3/spaces/space-guid/actions/apply_manifest
        POST /v3/packages
        POST /v3/packages/package-guid/upload
        POST /v3/builds
        PATCH /v3/apps/app-guid/relationships/current_droplet
        POST /v3/apps/app-guid/actions/restart"#]]
    .assert_eq(&world.changes());
    let applied = &world.asked("POST /v3/spaces/space-guid/actions/apply_manifest")[0];
    assert_eq!(
        applied.text(),
        "applications:\n- name: dora\n  memory: 64M\n  unheard-of: yes\n  default-route: true\n"
    );
    let upload = world.asked("POST /v3/packages/package-guid/upload")[0].text();
    assert!(
        upload.contains("name=\"bits\"; filename=\"package.zip\"") && upload.contains("app.rb"),
        "no zip in the upload"
    );
    assert!(!upload.contains("manifest.yml"), "the manifest was uploaded");
}

#[tokio::test]
async fn what_the_server_has_is_not_sent() {
    let world = World::targeted().await;
    world.with_push();
    world.with_built();
    world.with_dora("STOPPED");
    world.on("GET /v3/processes/process-guid/stats", stats(&["RUNNING"]));
    world.file("large", &"x".repeat(70_000));
    let file = json!({ "path": "large", "mode": "644", "size_in_bytes": 70_000, "checksum": { "value": "c470329cc624dc097102eb4fc87a0ecfdf013186" } });
    world.replace("POST /v3/resource_matches", Answer::status(201, json!({ "resources": [file] })));
    let ran = world.cf(&["push", "dora", "--no-start"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("All files found in remote cache; nothing to upload."), "{}", ran.out);
    let upload = world.asked("POST /v3/packages/package-guid/upload")[0].text();
    assert!(!upload.contains("filename=") && upload.contains("c470329c"), "{upload}");
    assert!(world.asked("POST /v3/builds").is_empty());
}

#[tokio::test]
async fn failed_staging_says_why_and_what_next() {
    let world = World::targeted().await;
    world.with_push();
    world.with_dora("STOPPED");
    world.on("GET /v3/builds/build-guid", Answer::ok(json!({ "guid": "build-guid", "state": "FAILED", "error": "BuildpackCompileFailed - exit status 3" })));
    world.file("app.rb", "");
    let ran = world.cf(&["push", "dora"]).await;
    assert_eq!(ran.code, 1);
    expect![[r#"
        Error staging application: BuildpackCompileFailed - exit status 3

        TIP: use 'cf logs dora --recent' for more information
    "#]]
    .assert_eq(&ran.err);
    assert!(ran.out.ends_with("FAILED\n"), "{}", ran.out);
}

#[tokio::test]
async fn an_app_that_crashes_ends_with_its_summary_and_a_tip() {
    let world = World::targeted().await;
    world.with_push();
    world.with_built();
    world.with_dora("STOPPED");
    world.on("GET /v3/processes/process-guid/stats", stats(&["CRASHED"]));
    world.file("app.rb", "");
    let ran = world.cf(&["push", "dora"]).await;
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.err,
        "Start unsuccessful\n\nTIP: use 'cf logs dora --recent' for more information\n"
    );
    assert!(ran.out.contains("#0   crashed"), "{}", ran.out);
}

#[tokio::test]
async fn a_strategy_makes_a_deployment() {
    let world = World::targeted().await;
    world.with_push();
    world.with_built();
    world.with_dora("STARTED");
    world.on("GET /v3/processes/process-guid/stats", stats(&["RUNNING"]));
    let deployment = |value: &str, reason: &str| json!({ "guid": "deployment-guid", "strategy": "rolling", "status": { "value": value, "reason": reason, "details": {} } });
    world.on("POST /v3/deployments", Answer::status(201, deployment("ACTIVE", "DEPLOYING")));
    world.on("GET /v3/deployments/deployment-guid", Answer::ok(deployment("ACTIVE", "DEPLOYING")));
    world
        .on("GET /v3/deployments/deployment-guid", Answer::ok(deployment("FINALIZED", "DEPLOYED")));
    world.file("app.rb", "");
    let ran = world.cf(&["push", "dora", "--strategy", "rolling", "-m", "128M"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let wanted = json!({
        "strategy": "rolling", "droplet": { "guid": "droplet-guid" }, "options": { "memory_in_mb": 128 },
        "relationships": { "app": { "data": { "guid": "app-guid" } } },
    });
    assert_eq!(world.asked("POST /v3/deployments")[0].json(), wanted);
    let applied = world.asked("POST /v3/spaces/space-guid/actions/apply_manifest")[0].text();
    assert_eq!(applied, "applications:\n- name: dora\n  default-route: true\n");
    assert!(world.asked("POST /v3/apps/app-guid/actions/restart").is_empty());
}

#[tokio::test]
async fn mistakes_in_a_manifest_cost_no_request() {
    let world = World::targeted().await;
    world.file("manifest.yml", "applications:\n- name: dora\n  memory: ((size))\n");
    let ran = world.cf(&["push"]).await;
    expect![[r#"
        Expected to find variables: size
        DIR/manifest.yml line 3, key 'memory': ((size)) has no value; give one with --var size=VALUE or --vars-file
    "#]]
    .assert_eq(&ran.err);
    let ran = world.cf(&["push", "--no-manifest"]).await;
    expect![[r#"
        Incorrect Usage: The push command requires an app name. The app name can be supplied as an argument or with a manifest.yml file.
    "#]]
    .assert_eq(&ran.err);
    let ran = world.cf(&["push", "dora", "--no-route", "--random-route"]).await;
    assert_eq!(
        ran.err,
        "Incorrect Usage: The following arguments cannot be used together: --no-route, --random-route\n"
    );
    assert_eq!(world.changes(), "");
}

#[tokio::test]
async fn a_refused_manifest_is_explained() {
    let world = World::targeted().await;
    let refusal = Answer::refusal(
        422,
        "CF-UnprocessableEntity",
        "For application 'dora': Memory must be greater than 0MB",
    );
    world.on("POST /v3/spaces/space-guid/actions/apply_manifest", refusal);
    let ran = world.cf(&["push", "dora", "-m", "0M"]).await;
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (1, "For application 'dora': Memory must be greater than 0MB\n")
    );
}
