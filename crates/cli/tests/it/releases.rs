//! What becomes of an app after its first push: deployments, revisions, packages, droplets, health checks, ssh.

use expect_test::expect;
use serde_json::json;

use crate::apps::stats;
use crate::script::{Answer, World};

/// A world with the app `dora`, started.
async fn world() -> World {
    let world = World::targeted().await;
    world.with_dora("STARTED");
    world.on("GET /v3/processes/process-guid/stats", stats(&["RUNNING"]));
    world.on("GET /v3/apps/app-guid", Answer::ok(crate::apps::app("STARTED")));
    world
}

fn deployment(value: &str, reason: &str) -> Answer {
    Answer::ok(json!({ "guid": "deployment-guid", "strategy": "rolling",
        "status": { "value": value, "reason": reason }, "new_processes": [{ "guid": "new-guid", "type": "web" }] }))
}

fn revision(version: u64) -> serde_json::Value {
    json!({ "guid": format!("revision-{version}"), "version": version, "description": "New droplet deployed.",
        "deployable": true, "droplet": { "guid": "droplet-guid" }, "created_at": "2026-01-01T00:00:00Z",
        "metadata": { "labels": { "tier": "gold" }, "annotations": {} } })
}

#[tokio::test]
async fn a_deployment_can_be_canceled() {
    let world = world().await;
    world
        .check(
            "cancel-deployment dora",
            expect![[r#"
        Canceling deployment for app dora in org acme / space dev as ada...
        FAILED
        ! No active deployment found for app.
        = 1
    "#]],
        )
        .await;
    world.on("GET /v3/deployments", Answer::list(json!([{ "guid": "deployment-guid" }])));
    world.on("POST /v3/deployments/deployment-guid/actions/cancel", Answer::ok(json!({})));
    world
        .check(
            "cancel-deployment dora",
            expect![[r#"
        Canceling deployment for app dora in org acme / space dev as ada...
        OK

        TIP: Run 'cf app dora' to view app status.
        > POST /v3/deployments/deployment-guid/actions/cancel
    "#]],
        )
        .await;
}

#[tokio::test]
async fn a_canary_goes_on_when_told() {
    let world = world().await;
    world.on("GET /v3/deployments", Answer::list(json!([{ "guid": "deployment-guid" }])));
    world.on("POST /v3/deployments/deployment-guid/actions/continue", Answer::ok(json!({})));
    world.on("GET /v3/deployments/deployment-guid", deployment("FINALIZED", "DEPLOYED"));
    world.check("continue-deployment dora", expect![[r#"
        Continuing deployment for app dora in org acme / space dev as ada...

        Waiting for app to deploy...

        Instances starting...

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
        instances:      1/1
        memory usage:   64M
             state     since                  cpu    memory       disk       logging             cpu entitlement   details   ready
        #0   running   2026-01-31T12:00:00Z   0.0%   16M of 64M   1M of 1G   0B/s of unlimited                               true

        Active deployment with status .
        strategy:

        TIP: Run 'cf app dora' to view app status.
        > POST /v3/deployments/deployment-guid/actions/continue
    "#]]).await;
}

#[tokio::test]
async fn a_restart_rolls() {
    let world = world().await;
    world.on("GET /v3/packages", Answer::list(json!([])));
    world.on("POST /v3/deployments", deployment("ACTIVE", "DEPLOYING"));
    world.on("GET /v3/deployments/deployment-guid", deployment("ACTIVE", "DEPLOYING"));
    world.on("GET /v3/deployments/deployment-guid", deployment("FINALIZED", "DEPLOYED"));
    world.check("restart dora --strategy rolling --max-in-flight 2", expect![[r#"
        Restarting app dora in org acme / space dev as ada...

        Creating deployment for app dora...

        Waiting for app to deploy...

        Instances starting...

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
        instances:      1/1
        memory usage:   64M
             state     since                  cpu    memory       disk       logging             cpu entitlement   details   ready
        #0   running   2026-01-31T12:00:00Z   0.0%   16M of 64M   1M of 1G   0B/s of unlimited                               true
        > POST /v3/deployments {"options":{"max_in_flight":2},"relationships":{"app":{"data":{"guid":"app-guid"}}},"strategy":"rolling"}
    "#]]).await;
}

#[tokio::test]
async fn a_deployment_that_ends_badly_says_why() {
    let world = world().await;
    world.on("GET /v3/packages", Answer::list(json!([])));
    world.on("POST /v3/deployments", deployment("ACTIVE", "DEPLOYING"));
    world.on("GET /v3/deployments/deployment-guid", deployment("ACTIVE", "DEPLOYING"));
    world.on("GET /v3/deployments/deployment-guid", deployment("FINALIZED", "CANCELED"));
    let crashed = json!({ "type": "web", "index": 0, "state": "CRASHED", "details": "APP/PROC/WEB: Exited with status 7" });
    world.on("GET /v3/processes/new-guid/stats", Answer::ok(json!({ "resources": [crashed] })));
    world.check("restart dora --strategy rolling", expect![[r#"
        Restarting app dora in org acme / space dev as ada...

        Creating deployment for app dora...

        Waiting for app to deploy...

        Error starting instances: 'APP/PROC/WEB: Exited with status 7'

        FAILED
        ! Deployment has been canceled
        !
        ! TIP: use 'cf logs dora --recent' for more information
        > POST /v3/deployments {"relationships":{"app":{"data":{"guid":"app-guid"}}},"strategy":"rolling"}
        = 1
    "#]]).await;
}

#[tokio::test]
async fn a_deployment_that_ends_at_once_says_why_too() {
    let world = world().await;
    world.on("GET /v3/packages", Answer::list(json!([])));
    world.on("POST /v3/deployments", deployment("ACTIVE", "DEPLOYING"));
    let canceled = json!({ "guid": "deployment-guid", "created_at": "2026-01-31T12:00:00Z",
        "status": { "value": "FINALIZED", "reason": "CANCELED" } });
    world.on("GET /v3/deployments/deployment-guid", Answer::ok(canceled));
    let crash = |when: &str| {
        let data = json!({ "exit_description": "APP/PROC/WEB: Exited with status 7" });
        Answer::list(
            json!([{ "type": "audit.app.process.crash", "created_at": when, "data": data }]),
        )
    };
    world.on("GET /v3/audit_events", crash("2026-01-31T12:00:01Z"));
    world.check("restart dora --strategy rolling", expect![[r#"
        Restarting app dora in org acme / space dev as ada...

        Creating deployment for app dora...

        Waiting for app to deploy...

        Error starting instances: 'APP/PROC/WEB: Exited with status 7'

        FAILED
        ! Deployment has been canceled
        !
        ! TIP: use 'cf logs dora --recent' for more information
        > POST /v3/deployments {"relationships":{"app":{"data":{"guid":"app-guid"}}},"strategy":"rolling"}
        = 1
    "#]]).await;
    world.replace("GET /v3/audit_events", crash("2026-01-31T11:00:00Z"));
    world.check("restart dora --strategy rolling", expect![[r#"
        Restarting app dora in org acme / space dev as ada...

        Creating deployment for app dora...

        Waiting for app to deploy...


        FAILED
        ! Deployment has been canceled
        !
        ! TIP: use 'cf logs dora --recent' for more information
        > POST /v3/deployments {"relationships":{"app":{"data":{"guid":"app-guid"}}},"strategy":"rolling"}
        = 1
    "#]]).await;
}

#[tokio::test]
async fn a_quota_may_be_in_the_way() {
    let world = world().await;
    world.on("GET /v3/packages", Answer::list(json!([])));
    let refusal = Answer::refusal(422, "CF-UnprocessableEntity", "memory quota_exceeded");
    world.on("POST /v3/deployments", refusal.clone());
    world.on("POST /v3/apps/app-guid/actions/stop", Answer::ok(json!({})));
    world.on("POST /v3/apps/app-guid/actions/start", refusal);
    world.check("restart dora --strategy rolling", expect![[r#"
        Restarting app dora in org acme / space dev as ada...

        Creating deployment for app dora...

        FAILED
        ! memory quota_exceeded
        !
        ! TIP: Use 'cf org acme' and 'cf space dev' to see which quotas apply, and 'cf org-quota' or 'cf space-quota' to see their limits.
        > POST /v3/deployments {"relationships":{"app":{"data":{"guid":"app-guid"}}},"strategy":"rolling"}
        = 1
    "#]]).await;
    world.check("restart dora", expect![[r#"
        Restarting app dora in org acme / space dev as ada...

        Stopping app...

        Waiting for app to start...

        FAILED
        ! memory quota_exceeded
        !
        ! TIP: Use 'cf org acme' and 'cf space dev' to see which quotas apply, and 'cf org-quota' or 'cf space-quota' to see their limits.
        > POST /v3/apps/app-guid/actions/stop
        > POST /v3/apps/app-guid/actions/start
        = 1
    "#]]).await;
}

#[tokio::test]
async fn revisions_tell_which_one_is_deployed() {
    let world = world().await;
    world.on("GET /v3/apps/app-guid/features/revisions", Answer::ok(json!({ "enabled": true })));
    world.on("GET /v3/apps/app-guid/revisions", Answer::list(json!([revision(2), revision(1)])));
    world.on("GET /v3/apps/app-guid/revisions/deployed", Answer::list(json!([revision(2)])));
    world.on(
        "GET /v3/revisions/revision-2/environment_variables",
        Answer::ok(json!({ "var": { "KEY": "value" } })),
    );
    world
        .check(
            "revisions dora",
            expect![[r#"
        Getting revisions for app dora in org acme / space dev as ada...

        revision      description             deployable   revision guid   created at
        2(deployed)   New droplet deployed.   true         revision-2      2026-01-01T00:00:00Z
        1             New droplet deployed.   true         revision-1      2026-01-01T00:00:00Z
    "#]],
        )
        .await;
    world
        .check(
            "revision dora",
            expect![[r#"
        Showing revisions for app dora in org acme / space dev as ada...

        revision:        2
        deployed:        true
        description:     New droplet deployed.
        deployable:      true
        revision GUID:   revision-2
        droplet GUID:    droplet-guid
        created on:      2026-01-01T00:00:00Z

        labels:
        tier:   gold

        annotations:
        application environment variables:
        KEY:   value
    "#]],
        )
        .await;
}

#[tokio::test]
async fn a_rollback_is_a_deployment_of_a_revision() {
    let world = world().await;
    world
        .check(
            "rollback dora",
            expect![[r#"
        (help: rollback - Rollback to the specified revision of an app)
        ! Incorrect Usage: the required flag `--version' was not specified
        = 1
    "#]],
        )
        .await;
    world.on("GET /v3/apps/app-guid/revisions", Answer::list(json!([revision(1)])));
    world.check_with("rollback dora --version 1", "n\n", expect![[r#"
        Rolling 'dora' back to revision '1' will create a new revision. The new revision will use the settings from revision '1'.
        Are you sure you want to continue? [yN]: n
        App 'dora' has not been rolled back to revision '1'.
    "#]]).await;
    world.on("POST /v3/deployments", deployment("ACTIVE", "DEPLOYING"));
    world.on("GET /v3/deployments/deployment-guid", deployment("FINALIZED", "DEPLOYED"));
    world.check("rollback dora --version 1 -f", expect![[r#"
        Rolling back to revision 1 for app dora in org acme / space dev as ada...
        Creating deployment for app dora...

        Waiting for app to deploy...

        Instances starting...

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
        instances:      1/1
        memory usage:   64M
             state     since                  cpu    memory       disk       logging             cpu entitlement   details   ready
        #0   running   2026-01-31T12:00:00Z   0.0%   16M of 64M   1M of 1G   0B/s of unlimited                               true
        OK
        > POST /v3/deployments {"relationships":{"app":{"data":{"guid":"app-guid"}}},"revision":{"guid":"revision-1"},"strategy":"rolling"}
    "#]]).await;
    world.replace("GET /v3/apps/app-guid/revisions", Answer::list(json!([])));
    world
        .check(
            "rollback dora --version 1 -f",
            expect![[r#"
        FAILED
        ! No revisions for app dora
        = 1
    "#]],
        )
        .await;
}

#[tokio::test]
async fn packages_and_droplets_are_listed_and_used() {
    let world = world().await;
    let made = |guid: &str, state: &str| json!([{ "guid": guid, "state": state, "created_at": "", "type": "bits" }]);
    world.on("GET /v3/packages", Answer::list(made("package-guid", "READY")));
    world.on("GET /v3/droplets", Answer::list(made("droplet-guid", "STAGED")));
    world
        .check(
            "packages dora",
            expect![[r#"
        Getting packages of app dora in org acme / space dev as ada...

        guid           state   created
        package-guid   ready
    "#]],
        )
        .await;
    world
        .check(
            "droplets dora",
            expect![[r#"
        Getting droplets of app dora in org acme / space dev as ada...

        guid                     state    created
        droplet-guid (current)   staged
    "#]],
        )
        .await;
    world.on("PATCH /v3/apps/app-guid/relationships/current_droplet", Answer::ok(json!({})));
    world
        .check(
            "set-droplet dora droplet-guid",
            expect![[r#"
        Setting app dora to droplet droplet-guid in org acme / space dev as ada...
        OK
        > PATCH /v3/apps/app-guid/relationships/current_droplet {"data":{"guid":"droplet-guid"}}
    "#]],
        )
        .await;
    world.replace(
        "PATCH /v3/apps/app-guid/relationships/current_droplet",
        Answer::refusal(422, "CF-UnprocessableEntity", "Ensure the droplet exists."),
    );
    world
        .check(
            "set-droplet dora nope",
            expect![[r#"
        Setting app dora to droplet nope in org acme / space dev as ada...
        FAILED
        ! Unable to assign droplet: Ensure the droplet exists.
        > PATCH /v3/apps/app-guid/relationships/current_droplet {"data":{"guid":"nope"}}
        = 1
    "#]],
        )
        .await;
    world.on("GET /v3/droplets/droplet-guid/download", Answer::ok(json!("bits")));
    world
        .check(
            "download-droplet dora",
            expect![[r#"
        Downloading current droplet for app dora in org acme / space dev as ada...
        Droplet downloaded successfully at DIR/droplet_droplet-guid.tgz
        OK
    "#]],
        )
        .await;
    let written = world.dir.path().join("droplet_droplet-guid.tgz");
    assert_eq!(std::fs::read_to_string(written).unwrap(), "\"bits\"");
    world.replace("GET /v3/droplets", Answer::list(json!([])));
    world
        .check(
            "download-droplet dora --droplet nope",
            expect![[r#"
        Downloading droplet nope for app dora in org acme / space dev as ada...
        FAILED
        ! Droplet 'nope' not found for app 'dora'
        = 1
    "#]],
        )
        .await;
}

#[tokio::test]
async fn a_download_follows_where_it_is_sent() {
    let world = world().await;
    world.on(
        "GET /v3/droplets/droplet-guid/download",
        Answer::status(302, json!(null)).with("location", "/blobs/1"),
    );
    world.on("GET /blobs/1", Answer::ok(json!("elsewhere")));
    world
        .check(
            "download-droplet dora -p here.tgz",
            expect![[r#"
        Downloading current droplet for app dora in org acme / space dev as ada...
        Droplet downloaded successfully at DIR/here.tgz
        OK
    "#]],
        )
        .await;
    let written = std::fs::read_to_string(world.dir.path().join("here.tgz")).unwrap();
    assert_eq!(written, "\"elsewhere\"");
}

#[tokio::test]
async fn a_package_is_staged_on_its_own() {
    let world = world().await;
    world.on("GET /v3/packages", Answer::list(json!([])));
    world.check("stage-package dora", expect![[r#"
        Staging package for dora in org acme / space dev as ada...
        FAILED
        ! App 'dora' has no eligible packages.
        !
        ! TIP: Use 'cf packages dora' to list packages in your app. Use 'cf create-package' to create one.
        = 1
    "#]]).await;
    world.on(
        "POST /v3/packages",
        Answer::status(201, json!({ "guid": "package-guid", "state": "READY" })),
    );
    world.check("create-package dora -o cloudfoundry/test", expect![[r#"
        Creating docker package for app dora in org acme / space dev as ada...
        Package with guid 'package-guid' has been created.
        OK
        > POST /v3/packages {"data":{"image":"cloudfoundry/test"},"relationships":{"app":{"data":{"guid":"app-guid"}}},"type":"docker"}
    "#]]).await;
    world
        .check(
            "create-package dora -o x -p y",
            expect![[r#"
        FAILED

        (help: create-package - Uploads a Package)
        ! Incorrect Usage: The following arguments cannot be used together: --docker-image, -o, -p
        = 1
    "#]],
        )
        .await;
    world.on(
        "POST /v3/builds",
        Answer::status(201, json!({ "guid": "build-guid", "state": "STAGING" })),
    );
    let built =
        json!({ "guid": "build-guid", "state": "STAGED", "droplet": { "guid": "droplet-guid" } });
    world.on("GET /v3/builds/build-guid", Answer::ok(built));
    world.on(
        "GET /v3/droplets/droplet-guid",
        Answer::ok(json!({ "guid": "droplet-guid", "state": "STAGED" })),
    );
    world
        .check(
            "stage-package dora --package-guid other",
            expect![[r#"
        Staging package for dora in org acme / space dev as ada...
        FAILED
        ! Package with guid 'other' not found in app 'dora'.
        = 1
    "#]],
        )
        .await;
    world.replace(
        "GET /v3/packages",
        Answer::list(json!([{ "guid": "package-guid", "state": "READY" }])),
    );
    world
        .check(
            "stage-package dora --package-guid package-guid",
            expect![[r#"
        Staging package for dora in org acme / space dev as ada...

        Package staged
        droplet guid:   droplet-guid
        state:          staged
        created:
        > POST /v3/builds {"package":{"guid":"package-guid"}}
    "#]],
        )
        .await;
}

#[tokio::test]
async fn source_is_copied_from_app_to_app() {
    let world = world().await;
    world.on(
        "GET /v3/packages",
        Answer::list(json!([{ "guid": "package-guid", "state": "READY" }])),
    );
    world.on(
        "POST /v3/packages",
        Answer::status(201, json!({ "guid": "copy-guid", "state": "READY" })),
    );
    world.check("copy-source dora other --no-restart", expect![[r#"
        Copying source from app dora to target app other in org acme / space dev as ada...

        OK
        > POST /v3/packages?source_guid=package-guid {"relationships":{"app":{"data":{"guid":"app-guid"}}}}
    "#]]).await;
    world.check("copy-source dora other -o acme", expect![[r#"
        FAILED

        (help: copy-source - Copies the source code of an application to another existing application and restages that application)
        ! Incorrect Usage: '--organization, -o' and '--space, -s' must be used together.
        = 1
    "#]]).await;
    world.check("copy-source dora other --no-restart --strategy rolling", expect![[r#"
        FAILED

        (help: copy-source - Copies the source code of an application to another existing application and restages that application)
        ! Incorrect Usage: The following arguments cannot be used together: --no-restart, --strategy
        = 1
    "#]]).await;
}

#[tokio::test]
async fn health_checks_are_shown_and_changed() {
    let world = world().await;
    let process = json!({ "guid": "process-guid", "type": "web",
        "health_check": { "type": "http", "data": { "endpoint": "/up", "timeout": 9 } },
        "readiness_health_check": { "type": "http", "data": { "endpoint": "/ready", "invocation_timeout": 2, "interval": 5 } } });
    world.replace("GET /v3/apps/app-guid/processes", Answer::list(json!([process])));
    world
        .check(
            "get-health-check dora",
            expect![[r#"
        Getting health check type for app dora in org acme / space dev as ada...

        process   health check   endpoint (for http)   invocation timeout
        web       http           /up                   1
    "#]],
        )
        .await;
    world
        .check(
            "get-readiness-health-check dora",
            expect![[r#"
        Getting readiness health check type for app dora in org acme / space dev as ada...

        process   type   endpoint (for http)   invocation timeout   interval
        web       http   /ready                2                    5
    "#]],
        )
        .await;
    world.on("GET /v3/apps/app-guid/processes/web", Answer::ok(process));
    world.on("PATCH /v3/processes/process-guid", Answer::ok(json!({})));
    world
        .check(
            "set-health-check dora http --endpoint /health --invocation-timeout 3",
            expect![[r#"
                Updating health check type for app dora process web in org acme / space dev as ada...

                OK

                TIP: An app restart is required for the change to take effect.
                > PATCH /v3/processes/process-guid {"health_check":{"data":{"endpoint":"/health","invocation_timeout":3},"type":"http"}}
            "#]],
        )
        .await;
    world
        .check(
            "set-health-check dora port --endpoint /health",
            expect![[r#"
        Updating health check type for app dora process web in org acme / space dev as ada...

        FAILED
        ! Health check type must be 'http' to set a health check HTTP endpoint.
        = 1
    "#]],
        )
        .await;
    world
        .check(
            "set-health-check dora port --process clock",
            expect![[r#"
        Updating health check type for app dora process clock in org acme / space dev as ada...

        FAILED
        ! Process clock not found
        = 1
    "#]],
        )
        .await;
}

#[tokio::test]
async fn ssh_is_allowed_by_app_and_space() {
    let world = world().await;
    world.on(
        "GET /v3/apps/app-guid/features/ssh",
        Answer::ok(json!({ "name": "ssh", "enabled": false })),
    );
    world.on("PATCH /v3/apps/app-guid/features/ssh", Answer::ok(json!({})));
    world.on(
        "GET /v3/apps/app-guid/ssh_enabled",
        Answer::ok(json!({ "enabled": false, "reason": "Disabled for space" })),
    );
    world
        .check(
            "enable-ssh dora",
            expect![[r#"
        Enabling ssh support for app dora as ada...
        OK

        TIP: Ensure ssh is also enabled on the space and global level.
        > PATCH /v3/apps/app-guid/features/ssh {"enabled":true}
    "#]],
        )
        .await;
    world
        .check(
            "disable-ssh dora",
            expect![[r#"
        Disabling ssh support for app dora as ada...
        ssh support for app 'dora' is already disabled.
        OK
        > PATCH /v3/apps/app-guid/features/ssh {"enabled":false}
    "#]],
        )
        .await;
    world
        .check(
            "ssh-enabled dora",
            expect![[r#"
        ssh support is disabled for app 'dora'.
        Disabled for space
    "#]],
        )
        .await;
    world.on(
        "GET /v3/spaces/space-guid/features/ssh",
        Answer::ok(json!({ "name": "ssh", "enabled": true })),
    );
    world.on("PATCH /v3/spaces/space-guid/features/ssh", Answer::ok(json!({})));
    world
        .check(
            "allow-space-ssh dev",
            expect![[r#"
        Enabling ssh support for space dev as ada...
        ssh support for space 'dev' is already enabled.
        OK
    "#]],
        )
        .await;
    world
        .check(
            "disallow-space-ssh dev",
            expect![[r#"
        Disabling ssh support for space dev as ada...
        OK
        > PATCH /v3/spaces/space-guid/features/ssh {"enabled":false}
    "#]],
        )
        .await;
    world
        .check(
            "space-ssh-allowed dev",
            expect![[r#"
        ssh support is enabled in space 'dev'.
    "#]],
        )
        .await;
}
