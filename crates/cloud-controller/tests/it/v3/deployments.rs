//! `/v3/deployments` and `/v3/revisions`: an app that changes while it serves.

use std::sync::Arc;
use std::time::Duration;

use diego::DesiredLrp;
use diego::actual_lrp::State;
use expect_test::expect;
use serde_json::{Value, json};

use crate::harness::{self, Client, Harness};
use crate::push::running;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

impl Harness {
    /// A started app with `instances` that serve.
    async fn serving_app(&self, space: &str, instances: u32) -> String {
        let (admin, app) = (self.admin(), self.staged_app(space).await);
        let scale = format!("/v3/apps/{app}/processes/web/actions/scale");
        admin.post(&scale, json!({ "instances": instances })).await.expect(202);
        admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
        let lrp = self.lrp(&app, instances).await;
        (0..instances)
            .for_each(|index| self.bbs.set_actual(running(lrp.process_guid.as_str(), index)));
        app
    }

    /// The LRP of a process once it has this many instances.
    async fn lrp(&self, process: &str, instances: u32) -> Arc<DesiredLrp> {
        let fits = |lrp: &&Arc<DesiredLrp>| {
            lrp.process_guid.as_str().starts_with(process) && lrp.instances == instances
        };
        self.bbs.desired_when(|all| all.iter().find(fits).cloned()).await
    }

    /// Waits until only this process of the app is left at Diego.
    async fn alone(&self, process: &str) -> Arc<DesiredLrp> {
        let web = |lrp: &&Arc<DesiredLrp>| lrp.metric_tags["process_type"] == "web";
        let look = |all: &[Arc<DesiredLrp>]| {
            let webs: Vec<_> = all.iter().filter(web).collect();
            (webs.len() == 1 && webs[0].process_guid.as_str().starts_with(process))
                .then(|| webs[0].clone())
        };
        self.bbs.desired_when(look).await
    }
}

async fn deploy(client: &Client, app: &str, more: Value) -> (String, String) {
    let mut body = json!({ "relationships": { "app": { "data": { "guid": app } } } });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = client.post("/v3/deployments", body).await.expect(201);
    (text(&made["guid"]), text(&made["new_processes"][0]["guid"]))
}

fn status(document: &Value) -> String {
    format!("{} {}", text(&document["status"]["value"]), text(&document["status"]["reason"]))
}

#[tokio::test]
async fn a_rolling_deployment_replaces_one_by_one() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.serving_app(&space, 2).await;
        let variables = json!({ "var": { "COLOUR": "green" } });
        admin.patch(&format!("/v3/apps/{app}/environment_variables"), variables).await.expect(200);
        let (guid, new) = deploy(&admin, &app, json!({})).await;
        let lrp = harness.lrp(&new, 1).await;
        assert!(serde_json::to_string(&*lrp).unwrap().contains("COLOUR"));
        assert_eq!(harness.lrp(&app, 2).await.routes, lrp.routes);

        let mut told = String::new();
        let scale = format!("/v3/apps/{app}/processes/web/actions/scale");
        told += &format!("{}\n", admin.post(&scale, json!({ "instances": 3 })).await.error());
        told += &format!(
            "{}\n",
            admin.patch(&format!("/v3/processes/{new}"), json!({ "command": "x" })).await.error()
        );
        told += &format!(
            "{}\n",
            admin.post(&format!("/v3/apps/{app}/actions/stop"), json!({})).await.error()
        );
        expect![[r#"
            422 CF-ScaleDisabledDuringDeployment: Cannot scale this process while a deployment is in flight.
            422 CF-ProcessUpdateDisabledDuringDeployment: Cannot update this process while a deployment is in flight.
            422 CF-StopDisabledDuringDeployment: Cannot stop the app while it is deploying, please cancel the deployment before stopping the app.
        "#]]
        .assert_eq(&told);

        // The first one serves, so the second begins and an old one goes; then the old process goes as a whole.
        harness.bbs.set_actual(running(lrp.process_guid.as_str(), 0));
        harness.lrp(&new, 2).await;
        harness.lrp(&app, 1).await;
        let path = format!("/v3/deployments/{guid}");
        let up = async {
            tokio::task::yield_now().await;
            harness.bbs.set_actual(running(lrp.process_guid.as_str(), 1));
        };
        let (ended, ()) = tokio::join!(admin.get(&path), up);
        assert_eq!(status(&ended.expect(200)), "FINALIZED DEPLOYED");
        harness.alone(&new).await;
        let web = admin.get(&format!("/v3/apps/{app}/processes/web")).await.expect(200);
        assert_eq!((text(&web["guid"]), &web["instances"]), (new, &json!(2)));
        assert_eq!(
            admin.post(&format!("{path}/actions/cancel"), json!({})).await.error(),
            "422 CF-UnprocessableEntity: Cannot cancel a DEPLOYED deployment"
        );
        let listed =
            admin.get(&format!("/v3/deployments?app_guids={app}&status_values=FINALIZED")).await;
        assert_eq!(listed.column("guid"), guid);
    }
}

#[tokio::test]
async fn a_canceled_or_broken_deployment_leaves_the_old_process_serving() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.serving_app(&space, 2).await;
        let before = harness.lrp(&app, 2).await.process_guid.clone();
        let (guid, new) = deploy(&admin, &app, json!({ "options": { "max_in_flight": 2 } })).await;
        let lrp = harness.lrp(&new, 2).await;
        harness.bbs.set_actual(running(lrp.process_guid.as_str(), 0));
        harness.lrp(&app, 1).await;
        let canceled = admin
            .post(&format!("/v3/deployments/{guid}/actions/cancel"), json!({}))
            .await
            .expect(200);
        assert_eq!(status(&canceled), "ACTIVE CANCELING");
        // The new one serves until the old one is whole again.
        harness.lrp(&app, 2).await;
        harness.bbs.set_actual(running(before.as_str(), 1));
        let ended = admin.get(&format!("/v3/deployments/{guid}")).await.expect(200);
        assert_eq!(status(&ended), "FINALIZED CANCELED");
        assert_eq!(harness.alone(&app).await.process_guid, before);

        let (guid, new) = deploy(&admin, &app, json!({})).await;
        let lrp = harness.lrp(&new, 1).await;
        let mut crashed = running(lrp.process_guid.as_str(), 0);
        (crashed.state, crashed.crash_count) = (State::Crashed, 3);
        crashed.crash_reason = "APP/PROC/WEB: Exited with status 1".to_owned();
        harness.bbs.set_actual(crashed);
        let ended = admin.get(&format!("/v3/deployments/{guid}")).await.expect(200);
        assert_eq!(status(&ended), "FINALIZED CANCELED");
        let why = "the new instances crash (APP/PROC/WEB: Exited with status 1)";
        assert_eq!(ended["status"]["details"]["error"], why);
        assert_eq!(harness.alone(&app).await.instances, 2);
        let line = format!(
            "[API] Deployment with guid {guid} is canceled: {why}. The version before goes on serving"
        );
        harness.line_when(&line).await;
    }
}

#[tokio::test]
async fn between_two_steps_is_the_time_that_the_operator_wants() {
    const STEP: Duration = Duration::from_secs(3600);
    for db in sql::testing::databases().await {
        let mut config = harness::config();
        config.timings.deployment_step = STEP;
        config.limits.hold = Duration::from_millis(300);
        let harness = Harness::open_with(db, config).await;
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.serving_app(&space, 1).await;
        let old = harness.lrp(&app, 1).await.process_guid.clone();

        // The new instance serves, and yet the deployment can be seen and taken back.
        let (guid, new) = deploy(&admin, &app, json!({})).await;
        let path = format!("/v3/deployments/{guid}");
        let lrp = harness.lrp(&new, 1).await;
        harness.bbs.set_actual(running(lrp.process_guid.as_str(), 0));
        assert_eq!(status(&admin.get(&path).await.expect(200)), "ACTIVE DEPLOYING");
        admin.post(&format!("{path}/actions/cancel"), json!({})).await.expect(200);
        assert_eq!(harness.alone(&app).await.process_guid, old);

        let (guid, new) = deploy(&admin, &app, json!({})).await;
        let lrp = harness.lrp(&new, 1).await;
        harness.clock.advance(STEP);
        harness.bbs.set_actual(running(lrp.process_guid.as_str(), 0));
        harness.alone(&new).await;
        let ended = admin.get(&format!("/v3/deployments/{guid}")).await.expect(200);
        assert_eq!(status(&ended), "FINALIZED DEPLOYED");
    }
}

#[tokio::test]
async fn a_newer_deployment_supersedes_and_a_canary_waits() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.serving_app(&space, 2).await;
        let (first, interim) = deploy(&admin, &app, json!({})).await;
        harness.lrp(&interim, 1).await;
        let steps = json!({ "canary": { "steps": [{ "instance_weight": 50 }, { "instance_weight": 100 }] } });
        let (second, new) =
            deploy(&admin, &app, json!({ "strategy": "canary", "options": steps })).await;
        let superseded = admin.get(&format!("/v3/deployments/{first}")).await.expect(200);
        assert_eq!(status(&superseded), "FINALIZED SUPERSEDED");
        let lrp = harness.lrp(&new, 1).await;
        let path = format!("/v3/deployments/{second}");
        let mut told = String::new();
        told += &format!(
            "{}\n",
            admin.post(&format!("{path}/actions/continue"), json!({})).await.error()
        );
        harness.bbs.set_actual(running(lrp.process_guid.as_str(), 0));
        let paused = admin.get(&path).await.expect(200);
        told += &format!("{} {}\n", status(&paused), paused["status"]["canary"]);
        admin.post(&format!("{path}/actions/continue"), json!({})).await.expect(200);
        harness.lrp(&new, 2).await;
        harness.bbs.set_actual(running(lrp.process_guid.as_str(), 1));
        let paused = admin.get(&path).await.expect(200);
        told += &format!("{} {}\n", status(&paused), paused["status"]["canary"]);
        admin.post(&format!("{path}/actions/continue"), json!({})).await.expect(200);
        told += &format!("{}\n", status(&admin.get(&path).await.expect(200)));
        expect![[r#"
            422 CF-UnprocessableEntity: Cannot continue a deployment with status: ACTIVE and reason: DEPLOYING
            ACTIVE PAUSED {"steps":{"current":1,"total":2}}
            ACTIVE PAUSED {"steps":{"current":2,"total":2}}
            FINALIZED DEPLOYED
        "#]]
        .assert_eq(&told);
        harness.alone(&new).await;
    }
}

#[tokio::test]
async fn what_ran_can_run_again() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.serving_app(&space, 1).await;
        let variables = format!("/v3/apps/{app}/environment_variables");
        admin.patch(&variables, json!({ "var": { "A": "1" } })).await.expect(200);
        admin
            .patch(&format!("/v3/processes/{app}"), json!({ "command": "./other" }))
            .await
            .expect(200);
        admin.post(&format!("/v3/apps/{app}/actions/restart"), json!({})).await.expect(200);
        // Nothing changed, so nothing is kept.
        admin.post(&format!("/v3/apps/{app}/actions/restart"), json!({})).await.expect(200);
        let revisions = format!("/v3/apps/{app}/revisions");
        let list = admin.get(&revisions).await;
        assert_eq!(list.column("version"), "1 2");
        let (first, second) =
            (list.body["resources"][0].clone(), list.body["resources"][1].clone());
        assert_eq!(admin.get(&format!("{revisions}/deployed")).await.column("version"), "2");
        let env = admin
            .get(&format!("/v3/revisions/{}/environment_variables", text(&second["guid"])))
            .await;
        assert_eq!(env.expect(200)["var"], json!({ "A": "1" }));

        let again = json!({ "revision": { "guid": second["guid"] }, "relationships": { "app": { "data": { "guid": app } } } });
        let mut told = format!("{}\n", admin.post("/v3/deployments", again).await.error());
        let (guid, new) =
            deploy(&admin, &app, json!({ "revision": { "guid": first["guid"] } })).await;
        let lrp = harness.lrp(&new, 1).await;
        harness.bbs.set_actual(running(lrp.process_guid.as_str(), 0));
        let ended = admin.get(&format!("/v3/deployments/{guid}")).await.expect(200);
        assert_eq!(
            (status(&ended), &ended["revision"]["version"]),
            ("FINALIZED DEPLOYED".to_owned(), &json!(3))
        );
        assert_eq!(admin.get(&variables).await.expect(200)["var"], json!({}));
        let process = admin.get(&format!("/v3/processes/{new}")).await.expect(200);
        assert_eq!(process["command"], "./run --port $PORT");
        told += &format!(
            "{}\n",
            admin.get(&revisions).await.column("description").replace(". ", ".\n")
        );
        expect![[r#"
            422 CF-UnprocessableEntity: Unable to rollback. The code and configuration you are rolling back to is the same as the deployed revision.
            Initial revision.
            Custom start command added for 'web' process.
            New environment variables deployed.
            Custom start command removed for 'web' process.
            New environment variables deployed.
            Rolled back to revision 1.
        "#]]
        .assert_eq(&told);
        let labelled = json!({ "metadata": { "labels": { "good": "yes" } } });
        let path = format!("/v3/revisions/{}", text(&first["guid"]));
        assert_eq!(
            admin.patch(&path, labelled).await.expect(200)["metadata"]["labels"]["good"],
            "yes"
        );

        // A stopped app is started with what is deployed, and that is all.
        admin.post(&format!("/v3/apps/{app}/actions/stop"), json!({})).await.expect(200);
        let (guid, same) = deploy(&admin, &app, json!({ "options": { "web_instances": 3 } })).await;
        assert_eq!(same, new);
        assert_eq!(
            status(&admin.get(&format!("/v3/deployments/{guid}")).await.expect(200)),
            "FINALIZED DEPLOYED"
        );
        harness.lrp(&new, 3).await;
    }
}

#[tokio::test]
async fn a_deployment_may_change_the_size_and_nothing_else_is_a_strategy() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.serving_app(&space, 1).await;
        let options = json!({ "memory_in_mb": 256, "disk_in_mb": 512, "web_instances": 2, "max_in_flight": 2,
            "log_rate_limit_in_bytes_per_second": 4096 });
        let (guid, new) = deploy(&admin, &app, json!({ "options": options })).await;
        let lrp = harness.lrp(&new, 2).await;
        let size = (lrp.run.memory_mb, lrp.run.disk_mb, lrp.run.log_rate_limit);
        assert_eq!(size, (256, 512, 4096));
        // What served serves on as it was.
        assert_eq!(harness.lrp(&app, 1).await.run.memory_mb, 1024);
        (0..2).for_each(|at| harness.bbs.set_actual(running(lrp.process_guid.as_str(), at)));
        let ended = admin.get(&format!("/v3/deployments/{guid}")).await.expect(200);
        assert_eq!((status(&ended).as_str(), &ended["options"]), ("FINALIZED DEPLOYED", &options));
        harness.alone(&new).await;

        let mut told = String::new();
        let steps = |steps: Value| json!({ "strategy": "canary", "options": { "canary": { "steps": steps } } });
        for wrong in [
            json!({ "strategy": "recreate" }),
            json!({ "strategy": 7 }),
            json!({ "droplet": { "guid": "x" }, "revision": { "guid": "x" } }),
            json!({ "options": 7 }),
            json!({ "options": { "max_in_flight": 0 } }),
            json!({ "options": { "max_in_flight": "2", "colour": "red" } }),
            json!({ "options": { "web_instances": -1, "memory_in_mb": 0, "disk_in_mb": "x" } }),
            json!({ "options": { "log_rate_limit_in_bytes_per_second": -2 } }),
            json!({ "options": { "canary": 7 } }),
            json!({ "options": { "canary": { "steps": [{ "instance_weight": 10 }] } } }),
            steps(json!(7)),
            steps(json!([7])),
            steps(json!([{ "weight": 7 }])),
            steps(json!([{ "instance_weight": 0 }])),
            steps(json!([{ "instance_weight": 50 }, { "instance_weight": 10 }])),
        ] {
            let mut body = json!({ "relationships": { "app": { "data": { "guid": app } } } });
            body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
            told += &format!("{}\n", admin.post("/v3/deployments", body).await.error());
        }
        expect![[r#"
            422 CF-UnprocessableEntity: Strategy 'recreate' is not a supported deployment strategy
            422 CF-UnprocessableEntity: Strategy '7' is not a supported deployment strategy
            422 CF-UnprocessableEntity: Droplet Cannot set both fields 'droplet' and 'revision'
            422 CF-UnprocessableEntity: Options must be an object
            422 CF-UnprocessableEntity: Max in flight must be an integer greater than 0
            422 CF-UnprocessableEntity: Max in flight must be an integer greater than 0, Options has unsupported key(s): colour
            422 CF-UnprocessableEntity: Web instances must be greater than or equal to 0, Memory in mb must be greater than 0, Disk in mb is not a number
            422 CF-UnprocessableEntity: Log rate limit in bytes per second must be greater than or equal to -1
            422 CF-UnprocessableEntity: Options canary must be an object
            422 CF-UnprocessableEntity: Options canary are only valid for Canary deployments
            422 CF-UnprocessableEntity: Options canary steps must be an array of objects
            422 CF-UnprocessableEntity: Options canary steps must be an array of objects
            422 CF-UnprocessableEntity: Options canary steps has unsupported key(s): weight, Options canary steps missing key: "instance_weight", Options canary steps instance weight must be an Integer between 1-100 (inclusive)
            422 CF-UnprocessableEntity: Options canary steps instance weight must be an Integer between 1-100 (inclusive)
            422 CF-UnprocessableEntity: Options canary steps instance weight must be sorted in ascending order
        "#]]
        .assert_eq(&told);
    }
}
