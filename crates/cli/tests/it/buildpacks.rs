//! Buildpacks and stacks.

use expect_test::expect;
use serde_json::{Value, json};

use crate::script::{Answer, World};

#[tokio::test]
async fn buildpacks_are_uploaded() {
    let world = World::targeted().await;
    world
        .transcript(expect![[r#"
        < POST /v3/buildpacks 201 {"guid": "pack-guid", "name": "mine"}
    "#]])
        .await;
    let job = format!("{}/v3/jobs/j", world.url);
    world.on("POST /v3/buildpacks/pack-guid/upload", Answer::job(&job));
    world
        .transcript(expect![[r#"
        < GET /v3/jobs/j 200 {"guid": "j", "state": "COMPLETE"}
    "#]])
        .await;
    world.file("pack/bin/detect", "#!/bin/sh");
    world.file("pack/manifest.yml", "language: mine");
    world
        .transcript(expect![[r#"
        $ cf create-buildpack mine pack 3 --disable
        Creating buildpack mine as ada...
        OK

        Uploading buildpack mine as ada...
        OK

        Processing uploaded buildpack mine...
        OK
        > POST /v3/buildpacks {"enabled":false,"name":"mine","position":3}
        > POST /v3/buildpacks/pack-guid/upload (a form)
    "#]])
        .await;
    let upload = world.asked("POST /v3/buildpacks/pack-guid/upload")[0].text();
    assert!(
        upload.contains("filename=\"pack.zip\"") && upload.contains("manifest.yml"),
        "{upload}"
    );
    world.transcript(expect![[r#"
        $ cf create-buildpack mine nowhere 3
        FAILED

        (help: create-buildpack - Create a buildpack)
        ! Incorrect Usage: The specified path 'nowhere' does not exist.
        = 1

        < GET /v3/jobs/j 200 {"guid": "j", "state": "FAILED", "errors": [{"detail": "the zip is broken"}]}
        $ cf create-buildpack mine pack 3
        Creating buildpack mine as ada...
        OK

        Uploading buildpack mine as ada...
        OK

        Processing uploaded buildpack mine...
        FAILED
        ! Job (j) failed: the zip is broken
        ! TIP: A buildpack with name 'mine' and nil stack has been created. Use 'cf delete-buildpack' to delete it or 'cf update-buildpack' to try again.
        > POST /v3/buildpacks {"enabled":true,"name":"mine","position":3}
        > POST /v3/buildpacks/pack-guid/upload (a form)
        = 1
    "#]]).await;
}

#[tokio::test]
async fn a_buildpack_comes_from_a_url() {
    let world = World::targeted().await;
    world.on(
        "POST /v3/buildpacks",
        Answer::status(201, json!({ "guid": "pack-guid", "name": "mine" })),
    );
    world.on("POST /v3/buildpacks/pack-guid/upload", Answer::ok(json!({})));
    world.on("GET /packs/mine-v1.zip", Answer::ok(json!("zip")));
    let made = world
        .cf(&["create-buildpack", "mine", &format!("{}/packs/mine-v1.zip?x=1", world.url), "1"])
        .await;
    assert_eq!((made.code, made.err.as_str()), (0, ""));
    let upload = world.asked("POST /v3/buildpacks/pack-guid/upload")[0].text();
    assert!(upload.contains("filename=\"mine-v1.zip\""), "{upload}");
    let missing = world
        .cf(&["create-buildpack", "mine", &format!("{}/packs/none.zip", world.url), "1"])
        .await;
    assert_eq!(missing.code, 1);
    assert!(
        missing.err.starts_with("Download attempt failed; server returned 404"),
        "{}",
        missing.err
    );
}

#[tokio::test]
async fn buildpacks_are_changed_and_deleted() {
    let world = World::targeted().await;
    let pack = |stack: Value| json!({ "guid": "pack-guid", "name": "mine", "stack": stack });
    world.on("GET /v3/buildpacks", Answer::list(json!([pack(json!("cflinuxfs4"))])));
    world
        .transcript(expect![[r#"
        < PATCH /v3/buildpacks/pack-guid 200 {}
        $ cf update-buildpack mine --rename yours -i 2 --lock
        Renaming buildpack mine to yours as ada...

        Updating buildpack yours as ada...
        OK
        > PATCH /v3/buildpacks/pack-guid {"locked":true,"name":"yours","position":2}

        $ cf update-buildpack mine --assign-stack cflinuxfs4 --enable
        Assigning stack cflinuxfs4 to mine as ada...

        Updating buildpack mine with stack cflinuxfs4 as ada...
        OK
        > PATCH /v3/buildpacks/pack-guid {"enabled":true,"stack":"cflinuxfs4"}

        $ cf update-buildpack mine --enable --disable
        FAILED

        (help: update-buildpack - Update a buildpack)
        ! Incorrect Usage: The following arguments cannot be used together: --enable, --disable
        = 1

        < DELETE /v3/buildpacks/pack-guid 204
        $ cf delete-buildpack mine <<<
        Really delete the buildpack mine? [yN]:
        Delete cancelled

        $ cf delete-buildpack mine -s cflinuxfs4 -f
        Deleting buildpack mine with stack cflinuxfs4...
        OK
        > DELETE /v3/buildpacks/pack-guid
    "#]])
        .await;
    world.replace("GET /v3/buildpacks", Answer::list(json!([pack(json!("a")), pack(json!("b"))])));
    world.transcript(expect![[r#"
        $ cf update-buildpack mine --enable
        Updating buildpack mine as ada...
        FAILED
        ! Multiple buildpacks named mine found. Specify a stack name by using a '-s' flag and/or lifecycle using a '-l' flag.
        = 1

        < GET /v3/buildpacks 200 []
        $ cf update-buildpack nope --enable
        Updating buildpack nope as ada...
        FAILED
        ! Buildpack 'nope' not found
        = 1

        $ cf delete-buildpack nope -f
        Deleting buildpack nope...
        OK
        ! Buildpack 'nope' not found.
    "#]]).await;
}

#[tokio::test]
async fn stacks_are_shown_and_retired() {
    let world = World::targeted().await;
    let stack = json!({ "guid": "stack-guid", "name": "cflinuxfs4", "description": "Ubuntu", "state": "ACTIVE" });
    world.on("GET /v3/stacks", Answer::list(json!([stack])));
    let retired = json!({ "name": "cflinuxfs4", "description": "Ubuntu", "state": "DEPRECATED", "state_reason": "old" });
    world.on("PATCH /v3/stacks/stack-guid", Answer::ok(retired));
    world
        .transcript(expect![[r#"
        $ cf stacks
        Getting stacks as ada...

        name         description   state
        cflinuxfs4   Ubuntu        ACTIVE

        $ cf stack cflinuxfs4
        Getting info for stack cflinuxfs4 as ada...

        name:          cflinuxfs4
        description:   Ubuntu
        state:         ACTIVE

        $ cf stack cflinuxfs4 --guid
        stack-guid

        $ cf update-stack cflinuxfs4 --state deprecated --reason old
        Updating stack cflinuxfs4 as ada...
        OK


        name:          cflinuxfs4
        description:   Ubuntu
        state:         DEPRECATED
        reason:        old
        > PATCH /v3/stacks/stack-guid {"state":"DEPRECATED","state_reason":"old"}

        $ cf update-stack cflinuxfs4 --state bogus
        FAILED
        ! Invalid state: bogus. Must be one of: active, restricted, deprecated, disabled
        = 1

        < GET /v3/stacks 200 []
        $ cf stack nope
        Getting info for stack nope as ada...

        FAILED
        ! Stack 'nope' not found
        = 1
    "#]])
        .await;
}
