//! What becomes of an app after its first push: packages, droplets, copies, health checks, ssh.

use expect_test::expect;
use serde_json::json;

use crate::apps::stats;
use crate::script::{Answer, World};

/// A world with the app `dora`, started.
pub async fn world() -> World {
    let world = World::targeted().await;
    world.with_dora("STARTED");
    world.on("GET /v3/processes/process-guid/stats", stats(&["RUNNING"]));
    world.on("GET /v3/apps/app-guid", Answer::ok(crate::apps::app("STARTED")));
    world
}

#[tokio::test]
async fn packages_and_droplets_are_listed_and_used() {
    let world = world().await;
    let made = |guid: &str, state: &str| json!([{ "guid": guid, "state": state, "created_at": "", "type": "bits" }]);
    world.on("GET /v3/packages", Answer::list(made("package-guid", "READY")));
    world.on("GET /v3/droplets", Answer::list(made("droplet-guid", "STAGED")));
    world
        .transcript(expect![[r#"
        $ cf packages dora
        Getting packages of app dora in org acme / space dev as ada...

        guid           state   created
        package-guid   ready

        $ cf droplets dora
        Getting droplets of app dora in org acme / space dev as ada...

        guid                     state    created
        droplet-guid (current)   staged

        < PATCH /v3/apps/app-guid/relationships/current_droplet 200 {}
        $ cf set-droplet dora droplet-guid
        Setting app dora to droplet droplet-guid in org acme / space dev as ada...
        OK
        > PATCH /v3/apps/app-guid/relationships/current_droplet {"data":{"guid":"droplet-guid"}}

        < PATCH /v3/apps/app-guid/relationships/current_droplet 422 Ensure the droplet exists.
        $ cf set-droplet dora nope
        Setting app dora to droplet nope in org acme / space dev as ada...
        FAILED
        ! Unable to assign droplet: Ensure the droplet exists.
        > PATCH /v3/apps/app-guid/relationships/current_droplet {"data":{"guid":"nope"}}
        = 1

        < GET /v3/droplets/droplet-guid/download 200 "bits"
        $ cf download-droplet dora
        Downloading current droplet for app dora in org acme / space dev as ada...
        Droplet downloaded successfully at DIR/droplet_droplet-guid.tgz
        OK
    "#]])
        .await;
    let written = world.dir.path().join("droplet_droplet-guid.tgz");
    assert_eq!(std::fs::read_to_string(written).unwrap(), "\"bits\"");
    world
        .transcript(expect![[r#"
        < GET /v3/droplets 200 []
        $ cf download-droplet dora --droplet nope
        Downloading droplet nope for app dora in org acme / space dev as ada...
        FAILED
        ! Droplet 'nope' not found for app 'dora'
        = 1
    "#]])
        .await;
}

#[tokio::test]
async fn a_download_follows_where_it_is_sent() {
    let world = world().await;
    world.on(
        "GET /v3/droplets/droplet-guid/download",
        Answer::status(302, json!(null)).with("location", "/blobs/1"),
    );
    world
        .transcript(expect![[r#"
        < GET /blobs/1 200 "elsewhere"
        $ cf download-droplet dora -p here.tgz
        Downloading current droplet for app dora in org acme / space dev as ada...
        Droplet downloaded successfully at DIR/here.tgz
        OK
    "#]])
        .await;
    let written = std::fs::read_to_string(world.dir.path().join("here.tgz")).unwrap();
    assert_eq!(written, "\"elsewhere\"");
}

#[tokio::test]
async fn a_package_is_staged_on_its_own() {
    let world = world().await;
    let built =
        json!({ "guid": "build-guid", "state": "STAGED", "droplet": { "guid": "droplet-guid" } });
    world.on("GET /v3/builds/build-guid", Answer::ok(built));
    world.transcript(expect![[r#"
        < GET /v3/packages 200 []
        $ cf stage-package dora
        Staging package for dora in org acme / space dev as ada...
        FAILED
        ! App 'dora' has no eligible packages.
        !
        ! TIP: Use 'cf packages dora' to list packages in your app. Use 'cf create-package' to create one.
        = 1

        < POST /v3/packages 201 {"guid": "package-guid", "state": "READY"}
        $ cf create-package dora -o cloudfoundry/test
        Creating docker package for app dora in org acme / space dev as ada...
        Package with guid 'package-guid' has been created.
        OK
        > POST /v3/packages {"data":{"image":"cloudfoundry/test"},"relationships":{"app":{"data":{"guid":"app-guid"}}},"type":"docker"}

        $ cf create-package dora -o x -p y
        FAILED

        (help: create-package - Uploads a Package)
        ! Incorrect Usage: The following arguments cannot be used together: --docker-image, -o, -p
        = 1

        $ cf stage-package dora --package-guid other
        Staging package for dora in org acme / space dev as ada...
        FAILED
        ! Package with guid 'other' not found in app 'dora'.
        = 1

        < GET /v3/packages 200 [{"guid": "package-guid", "state": "READY"}]
        < POST /v3/builds 201 {"guid": "build-guid", "state": "STAGING"}
        < GET /v3/droplets/droplet-guid 200 {"guid": "droplet-guid", "state": "STAGED"}
        $ cf stage-package dora --package-guid package-guid
        Staging package for dora in org acme / space dev as ada...

        Package staged
        droplet guid:   droplet-guid
        state:          staged
        created:
        > POST /v3/builds {"package":{"guid":"package-guid"}}
    "#]]).await;
}

#[tokio::test]
async fn source_is_copied_from_app_to_app() {
    let world = world().await;
    world.transcript(expect![[r#"
        < GET /v3/packages 200 [{"guid": "package-guid", "state": "READY"}]
        < POST /v3/packages 201 {"guid": "copy-guid", "state": "READY"}
        $ cf copy-source dora other --no-restart
        Copying source from app dora to target app other in org acme / space dev as ada...

        OK
        > POST /v3/packages?source_guid=package-guid {"relationships":{"app":{"data":{"guid":"app-guid"}}}}

        $ cf copy-source dora other -o acme
        FAILED

        (help: copy-source - Copies the source code of an application to another existing application and restages that application)
        ! Incorrect Usage: '--organization, -o' and '--space, -s' must be used together.
        = 1

        $ cf copy-source dora other --no-restart --strategy rolling
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
    world.on("GET /v3/apps/app-guid/processes/web", Answer::ok(process));
    world.transcript(expect![[r#"
        $ cf get-health-check dora
        Getting health check type for app dora in org acme / space dev as ada...

        process   health check   endpoint (for http)   invocation timeout
        web       http           /up                   1

        $ cf get-readiness-health-check dora
        Getting readiness health check type for app dora in org acme / space dev as ada...

        process   type   endpoint (for http)   invocation timeout   interval
        web       http   /ready                2                    5

        < PATCH /v3/processes/process-guid 200 {}
        $ cf set-health-check dora http --endpoint /health --invocation-timeout 3
        Updating health check type for app dora process web in org acme / space dev as ada...

        OK

        TIP: An app restart is required for the change to take effect.
        > PATCH /v3/processes/process-guid {"health_check":{"data":{"endpoint":"/health","invocation_timeout":3},"type":"http"}}

        $ cf set-health-check dora port --endpoint /health
        Updating health check type for app dora process web in org acme / space dev as ada...

        FAILED
        ! Health check type must be 'http' to set a health check HTTP endpoint.
        = 1

        $ cf set-health-check dora port --process clock
        Updating health check type for app dora process clock in org acme / space dev as ada...

        FAILED
        ! Process clock not found
        = 1
    "#]]).await;
}

#[tokio::test]
async fn ssh_is_allowed_by_app_and_space() {
    let world = world().await;
    world
        .transcript(expect![[r#"
        < GET /v3/apps/app-guid/features/ssh 200 {"name": "ssh", "enabled": false}
        < PATCH /v3/apps/app-guid/features/ssh 200 {}
        < GET /v3/apps/app-guid/ssh_enabled 200 {"enabled": false, "reason": "Disabled for space"}
        $ cf enable-ssh dora
        Enabling ssh support for app dora as ada...
        OK

        TIP: Ensure ssh is also enabled on the space and global level.
        > PATCH /v3/apps/app-guid/features/ssh {"enabled":true}

        $ cf disable-ssh dora
        Disabling ssh support for app dora as ada...
        ssh support for app 'dora' is already disabled.
        OK
        > PATCH /v3/apps/app-guid/features/ssh {"enabled":false}

        $ cf ssh-enabled dora
        ssh support is disabled for app 'dora'.
        Disabled for space

        < GET /v3/spaces/space-guid/features/ssh 200 {"name": "ssh", "enabled": true}
        < PATCH /v3/spaces/space-guid/features/ssh 200 {}
        $ cf allow-space-ssh dev
        Enabling ssh support for space dev as ada...
        ssh support for space 'dev' is already enabled.
        OK

        $ cf disallow-space-ssh dev
        Disabling ssh support for space dev as ada...
        OK
        > PATCH /v3/spaces/space-guid/features/ssh {"enabled":false}

        $ cf space-ssh-allowed dev
        ssh support is enabled in space 'dev'.
    "#]])
        .await;
}
