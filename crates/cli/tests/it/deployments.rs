//! Deployments and revisions.

use expect_test::expect;
use serde_json::json;

use crate::releases::world;
use crate::script::Answer;

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
        .transcript(expect![[r#"
        $ cf cancel-deployment dora
        Canceling deployment for app dora in org acme / space dev as ada...
        FAILED
        ! No active deployment found for app.
        = 1

        < GET /v3/deployments 200 [{"guid": "deployment-guid"}]
        < POST /v3/deployments/deployment-guid/actions/cancel 200 {}
        $ cf cancel-deployment dora
        Canceling deployment for app dora in org acme / space dev as ada...
        OK

        TIP: Run 'cf app dora' to view app status.
        > POST /v3/deployments/deployment-guid/actions/cancel
    "#]])
        .await;
}

#[tokio::test]
async fn a_canary_goes_on_when_told() {
    let world = world().await;
    world.on("GET /v3/deployments/deployment-guid", deployment("FINALIZED", "DEPLOYED"));
    world.transcript(expect![[r#"
        < GET /v3/deployments 200 [{"guid": "deployment-guid"}]
        < POST /v3/deployments/deployment-guid/actions/continue 200 {}
        $ cf continue-deployment dora
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
    world.on("POST /v3/deployments", deployment("ACTIVE", "DEPLOYING"));
    world.on("GET /v3/deployments/deployment-guid", deployment("ACTIVE", "DEPLOYING"));
    world
        .transcript(expect![[r#"
        < GET /v3/packages 200 []
    "#]])
        .await;
    world.on("GET /v3/deployments/deployment-guid", deployment("FINALIZED", "DEPLOYED"));
    world.transcript(expect![[r#"
        $ cf restart dora --strategy rolling --max-in-flight 2
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
    world.on("POST /v3/deployments", deployment("ACTIVE", "DEPLOYING"));
    world.on("GET /v3/deployments/deployment-guid", deployment("ACTIVE", "DEPLOYING"));
    world
        .transcript(expect![[r#"
        < GET /v3/packages 200 []
    "#]])
        .await;
    world.on("GET /v3/deployments/deployment-guid", deployment("FINALIZED", "CANCELED"));
    let crashed = json!({ "type": "web", "index": 0, "state": "CRASHED", "details": "APP/PROC/WEB: Exited with status 7" });
    world.on("GET /v3/processes/new-guid/stats", Answer::ok(json!({ "resources": [crashed] })));
    world.transcript(expect![[r#"
        $ cf restart dora --strategy rolling
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
    world.transcript(expect![[r#"
        < GET /v3/packages 200 []
        $ cf restart dora --strategy rolling
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
    world.transcript(expect![[r#"
        $ cf restart dora --strategy rolling
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
    let refusal = Answer::refusal(422, "CF-UnprocessableEntity", "memory quota_exceeded");
    world.on("POST /v3/deployments", refusal.clone());
    world.on("POST /v3/apps/app-guid/actions/start", refusal);
    world.transcript(expect![[r#"
        < GET /v3/packages 200 []
        < POST /v3/apps/app-guid/actions/stop 200 {}
        $ cf restart dora --strategy rolling
        Restarting app dora in org acme / space dev as ada...

        Creating deployment for app dora...

        FAILED
        ! memory quota_exceeded
        !
        ! TIP: Use 'cf org acme' and 'cf space dev' to see which quotas apply, and 'cf org-quota' or 'cf space-quota' to see their limits.
        > POST /v3/deployments {"relationships":{"app":{"data":{"guid":"app-guid"}}},"strategy":"rolling"}
        = 1

        $ cf restart dora
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
    world.on("GET /v3/apps/app-guid/revisions", Answer::list(json!([revision(2), revision(1)])));
    world.on("GET /v3/apps/app-guid/revisions/deployed", Answer::list(json!([revision(2)])));
    world
        .transcript(expect![[r#"
        < GET /v3/apps/app-guid/features/revisions 200 {"enabled": true}
        < GET /v3/revisions/revision-2/environment_variables 200 {"var": {"KEY": "value"}}
        $ cf revisions dora
        Getting revisions for app dora in org acme / space dev as ada...

        revision      description             deployable   revision guid   created at
        2(deployed)   New droplet deployed.   true         revision-2      2026-01-01T00:00:00Z
        1             New droplet deployed.   true         revision-1      2026-01-01T00:00:00Z

        $ cf revision dora
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
    "#]])
        .await;
}

#[tokio::test]
async fn a_rollback_is_a_deployment_of_a_revision() {
    let world = world().await;
    world.on("GET /v3/apps/app-guid/revisions", Answer::list(json!([revision(1)])));
    world.on("POST /v3/deployments", deployment("ACTIVE", "DEPLOYING"));
    world.on("GET /v3/deployments/deployment-guid", deployment("FINALIZED", "DEPLOYED"));
    world.transcript(expect![[r#"
        $ cf rollback dora
        (help: rollback - Rollback to the specified revision of an app)
        ! Incorrect Usage: the required flag `--version' was not specified
        = 1

        $ cf rollback dora --version 1 <<< n
        Rolling 'dora' back to revision '1' will create a new revision. The new revision will use the settings from revision '1'.
        Are you sure you want to continue? [yN]: n
        App 'dora' has not been rolled back to revision '1'.

        $ cf rollback dora --version 1 -f
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

        < GET /v3/apps/app-guid/revisions 200 []
        $ cf rollback dora --version 1 -f
        FAILED
        ! No revisions for app dora
        = 1
    "#]]).await;
}
