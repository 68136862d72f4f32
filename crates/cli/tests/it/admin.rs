//! What operators do: quotas, buildpacks, stacks, flags, variables, isolation segments, labels.

use expect_test::expect;
use serde_json::{Value, json};

use crate::script::{Answer, World};

fn quota() -> Value {
    json!([{ "guid": "quota-guid", "name": "small",
        "apps": { "total_memory_in_mb": 2048, "per_process_memory_in_mb": null, "total_instances": 10, "log_rate_limit_in_bytes_per_second": 1024 },
        "services": { "paid_services_allowed": false, "total_service_instances": 0 },
        "routes": { "total_routes": null, "total_reserved_ports": 0 } }])
}

#[tokio::test]
async fn quotas_of_orgs() {
    let world = World::targeted().await;
    world.on("GET /v3/organization_quotas", Answer::list(quota()));
    world.check("org-quotas", expect![[r#"
        Getting org quotas as ada...

        name    total memory   instance memory   routes      service instances   paid service plans   app instances   route ports   log volume per second
        small   2G             unlimited         unlimited   0                   disallowed           10              0             1K
    "#]]).await;
    world
        .check(
            "org-quota small",
            expect![[r#"
        Getting org quota small as ada...

        total memory:            2G
        instance memory:         unlimited
        routes:                  unlimited
        service instances:       0
        paid service plans:      disallowed
        app instances:           10
        route ports:             0
        log volume per second:   1K
    "#]],
        )
        .await;
    world.on("POST /v3/organization_quotas", Answer::status(201, json!({})));
    world
        .check(
            "create-org-quota small -m 2G -i -1 -a 10 -l 1K --allow-paid-service-plans",
            expect![[r#"
                Creating org quota small as ada...
                OK
                > POST /v3/organization_quotas {"apps":{"log_rate_limit_in_bytes_per_second":1024,"per_process_memory_in_mb":null,"total_instances":10,"total_memory_in_mb":2048},"name":"small","routes":{"total_reserved_ports":0,"total_routes":0},"services":{"paid_services_allowed":true,"total_service_instances":0}}
            "#]],
        )
        .await;
    world.replace(
        "POST /v3/organization_quotas",
        Answer::refusal(
            422,
            "CF-UnprocessableEntity",
            "Organization Quota 'small' already exists.",
        ),
    );
    world.check("create-quota small", expect![[r#"
        Creating org quota small as ada...
        OK
        ! Organization Quota 'small' already exists.
        > POST /v3/organization_quotas {"apps":{"total_memory_in_mb":0},"name":"small","routes":{"total_reserved_ports":0,"total_routes":0},"services":{"paid_services_allowed":false,"total_service_instances":0}}
    "#]]).await;
    world
        .check(
            "create-org-quota small -r many",
            expect![[r#"
        (help: create-org-quota - Define a new quota for an organization)
        ! Incorrect Usage: invalid integer limit (expected int >= -1)
        = 1
    "#]],
        )
        .await;
    world.on("PATCH /v3/organization_quotas/quota-guid", Answer::ok(json!({})));
    world
        .check("update-org-quota small -n tiny -r 5 --disallow-paid-service-plans", expect![[r#"
            Updating org quota small as ada...
            OK
            > PATCH /v3/organization_quotas/quota-guid {"name":"tiny","routes":{"total_routes":5},"services":{"paid_services_allowed":false}}
        "#]])
        .await;
    world
        .check(
            "update-org-quota small --allow-paid-service-plans --disallow-paid-service-plans",
            expect![[r#"
                FAILED

                (help: update-org-quota - Update an existing organization quota)
                ! Incorrect Usage: The following arguments cannot be used together: --allow-paid-service-plans, --disallow-paid-service-plans
                = 1
            "#]],
        )
        .await;
    world.on(
        "POST /v3/organization_quotas/quota-guid/relationships/organizations",
        Answer::ok(json!({})),
    );
    world.check("set-org-quota acme small", expect![[r#"
        Setting quota small to org acme as ada...
        OK
        > POST /v3/organization_quotas/quota-guid/relationships/organizations {"data":[{"guid":"org-guid"}]}
    "#]]).await;
    world.on("DELETE /v3/organization_quotas/quota-guid", Answer::status(204, Value::Null));
    world
        .check_with(
            "delete-org-quota small",
            "n\n",
            expect![[r#"
        Really delete the org quota small? [yN]: n
        Organization quota 'small' has not been deleted.
    "#]],
        )
        .await;
    world
        .check(
            "delete-org-quota small -f",
            expect![[r#"
        Deleting org quota small as ada...
        OK
        > DELETE /v3/organization_quotas/quota-guid
    "#]],
        )
        .await;
    world.replace("GET /v3/organization_quotas", Answer::list(json!([])));
    world
        .check(
            "org-quotas",
            expect![[r#"
        Getting org quotas as ada...

        No organization quotas found.
    "#]],
        )
        .await;
    world
        .check(
            "org-quota nope",
            expect![[r#"
        Getting org quota nope as ada...

        FAILED
        ! Organization quota with name 'nope' not found.
        = 1
    "#]],
        )
        .await;
    world
        .check(
            "delete-org-quota nope -f",
            expect![[r#"
        Deleting org quota nope as ada...
        OK
        ! Organization quota with name 'nope' not found.
    "#]],
        )
        .await;
}

#[tokio::test]
async fn quotas_of_spaces() {
    let world = World::targeted().await;
    world.on("GET /v3/space_quotas", Answer::list(quota()));
    world.check("space-quotas", expect![[r#"
        Getting space quotas for org acme as ada...

        name    total memory   instance memory   routes      service instances   paid service plans   app instances   route ports   log volume per second
        small   2G             unlimited         unlimited   0                   disallowed           10              0             1K
    "#]]).await;
    assert!(world.asked("GET /v3/space_quotas")[0].query.contains("organization_guids=org-guid"));
    world
        .check(
            "space-quota small",
            expect![[r#"
        Getting space quota small for org acme as ada...

        total memory:            2G
        instance memory:         unlimited
        routes:                  unlimited
        service instances:       0
        paid service plans:      disallowed
        app instances:           10
        route ports:             0
        log volume per second:   1K
    "#]],
        )
        .await;
    world.on("POST /v3/space_quotas", Answer::status(201, json!({})));
    world.check("create-space-quota small -r 5 -s 3", expect![[r#"
        Creating space quota small for org acme as ada...
        OK
        > POST /v3/space_quotas {"apps":{"total_memory_in_mb":0},"name":"small","relationships":{"organization":{"data":{"guid":"org-guid"}}},"routes":{"total_reserved_ports":0,"total_routes":5},"services":{"paid_services_allowed":false,"total_service_instances":3}}
    "#]]).await;
    world.on("PATCH /v3/space_quotas/quota-guid", Answer::ok(json!({})));
    world
        .check(
            "update-space-quota small -m 1G",
            expect![[r#"
        Updating space quota small for org acme as ada...
        OK
        > PATCH /v3/space_quotas/quota-guid {"apps":{"total_memory_in_mb":1024}}
    "#]],
        )
        .await;
    world.on("POST /v3/space_quotas/quota-guid/relationships/spaces", Answer::ok(json!({})));
    world
        .check(
            "set-space-quota dev small",
            expect![[r#"
        Setting space quota small to space dev as ada...
        OK
        > POST /v3/space_quotas/quota-guid/relationships/spaces {"data":[{"guid":"space-guid"}]}
    "#]],
        )
        .await;
    world.on(
        "DELETE /v3/space_quotas/quota-guid/relationships/spaces/space-guid",
        Answer::status(204, Value::Null),
    );
    world
        .check(
            "unset-space-quota dev small",
            expect![[r#"
        Unassigning space quota small from space dev as ada...
        OK
        > DELETE /v3/space_quotas/quota-guid/relationships/spaces/space-guid
    "#]],
        )
        .await;
    world.on("DELETE /v3/space_quotas/quota-guid", Answer::status(204, Value::Null));
    world
        .check(
            "delete-space-quota small -f",
            expect![[r#"
        Deleting space quota small for org acme as ada...
        OK
        > DELETE /v3/space_quotas/quota-guid
    "#]],
        )
        .await;
    world.replace("GET /v3/space_quotas", Answer::list(json!([])));
    world
        .check(
            "set-space-quota dev nope",
            expect![[r#"
        Setting space quota nope to space dev as ada...
        FAILED
        ! Space quota with name 'nope' not found.
        = 1
    "#]],
        )
        .await;
}

#[tokio::test]
async fn buildpacks_are_uploaded() {
    let world = World::targeted().await;
    world.on(
        "POST /v3/buildpacks",
        Answer::status(201, json!({ "guid": "pack-guid", "name": "mine" })),
    );
    let job = format!("{}/v3/jobs/j", world.url);
    world.on("POST /v3/buildpacks/pack-guid/upload", Answer::job(&job));
    world.on("GET /v3/jobs/j", Answer::ok(json!({ "guid": "j", "state": "COMPLETE" })));
    world.file("pack/bin/detect", "#!/bin/sh");
    world.file("pack/manifest.yml", "language: mine");
    world
        .check(
            "create-buildpack mine pack 3 --disable",
            expect![[r#"
        Creating buildpack mine as ada...
        OK

        Uploading buildpack mine as ada...
        OK

        Processing uploaded buildpack mine...
        OK
        > POST /v3/buildpacks {"enabled":false,"name":"mine","position":3}
        > POST /v3/buildpacks/pack-guid/upload (a form)
    "#]],
        )
        .await;
    let upload = world.asked("POST /v3/buildpacks/pack-guid/upload")[0].text();
    assert!(
        upload.contains("filename=\"pack.zip\"") && upload.contains("manifest.yml"),
        "{upload}"
    );
    world
        .check(
            "create-buildpack mine nowhere 3",
            expect![[r#"
        FAILED

        (help: create-buildpack - Create a buildpack)
        ! Incorrect Usage: The specified path 'nowhere' does not exist.
        = 1
    "#]],
        )
        .await;
    world.replace(
        "GET /v3/jobs/j",
        Answer::ok(json!({ "guid": "j", "state": "FAILED", "errors": [{ "detail": "the zip is broken" }] })),
    );
    world.check("create-buildpack mine pack 3", expect![[r#"
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
    world.on("PATCH /v3/buildpacks/pack-guid", Answer::ok(json!({})));
    world
        .check(
            "update-buildpack mine --rename yours -i 2 --lock",
            expect![[r#"
        Renaming buildpack mine to yours as ada...

        Updating buildpack yours as ada...
        OK
        > PATCH /v3/buildpacks/pack-guid {"locked":true,"name":"yours","position":2}
    "#]],
        )
        .await;
    world
        .check(
            "update-buildpack mine --assign-stack cflinuxfs4 --enable",
            expect![[r#"
        Assigning stack cflinuxfs4 to mine as ada...

        Updating buildpack mine with stack cflinuxfs4 as ada...
        OK
        > PATCH /v3/buildpacks/pack-guid {"enabled":true,"stack":"cflinuxfs4"}
    "#]],
        )
        .await;
    world
        .check(
            "update-buildpack mine --enable --disable",
            expect![[r#"
        FAILED

        (help: update-buildpack - Update a buildpack)
        ! Incorrect Usage: The following arguments cannot be used together: --enable, --disable
        = 1
    "#]],
        )
        .await;
    world.on("DELETE /v3/buildpacks/pack-guid", Answer::status(204, Value::Null));
    world
        .check_with(
            "delete-buildpack mine",
            "\n",
            expect![[r#"
        Really delete the buildpack mine? [yN]:
        Delete cancelled
    "#]],
        )
        .await;
    world
        .check(
            "delete-buildpack mine -s cflinuxfs4 -f",
            expect![[r#"
        Deleting buildpack mine with stack cflinuxfs4...
        OK
        > DELETE /v3/buildpacks/pack-guid
    "#]],
        )
        .await;
    world.replace("GET /v3/buildpacks", Answer::list(json!([pack(json!("a")), pack(json!("b"))])));
    world.check("update-buildpack mine --enable", expect![[r#"
        Updating buildpack mine as ada...
        FAILED
        ! Multiple buildpacks named mine found. Specify a stack name by using a '-s' flag and/or lifecycle using a '-l' flag.
        = 1
    "#]]).await;
    world.replace("GET /v3/buildpacks", Answer::list(json!([])));
    world
        .check(
            "update-buildpack nope --enable",
            expect![[r#"
        Updating buildpack nope as ada...
        FAILED
        ! Buildpack 'nope' not found
        = 1
    "#]],
        )
        .await;
    world
        .check(
            "delete-buildpack nope -f",
            expect![[r#"
        Deleting buildpack nope...
        OK
        ! Buildpack 'nope' not found.
    "#]],
        )
        .await;
}

#[tokio::test]
async fn stacks_are_shown_and_retired() {
    let world = World::targeted().await;
    let stack = json!({ "guid": "stack-guid", "name": "cflinuxfs4", "description": "Ubuntu", "state": "ACTIVE" });
    world.on("GET /v3/stacks", Answer::list(json!([stack])));
    world
        .check(
            "stacks",
            expect![[r#"
        Getting stacks as ada...

        name         description   state
        cflinuxfs4   Ubuntu        ACTIVE
    "#]],
        )
        .await;
    world
        .check(
            "stack cflinuxfs4",
            expect![[r#"
        Getting info for stack cflinuxfs4 as ada...

        name:          cflinuxfs4
        description:   Ubuntu
        state:         ACTIVE
    "#]],
        )
        .await;
    world
        .check(
            "stack cflinuxfs4 --guid",
            expect![[r#"
        stack-guid
    "#]],
        )
        .await;
    let retired = json!({ "name": "cflinuxfs4", "description": "Ubuntu", "state": "DEPRECATED", "state_reason": "old" });
    world.on("PATCH /v3/stacks/stack-guid", Answer::ok(retired));
    world
        .check(
            "update-stack cflinuxfs4 --state deprecated --reason old",
            expect![[r#"
        Updating stack cflinuxfs4 as ada...
        OK


        name:          cflinuxfs4
        description:   Ubuntu
        state:         DEPRECATED
        reason:        old
        > PATCH /v3/stacks/stack-guid {"state":"DEPRECATED","state_reason":"old"}
    "#]],
        )
        .await;
    world
        .check(
            "update-stack cflinuxfs4 --state bogus",
            expect![[r#"
        FAILED
        ! Invalid state: bogus. Must be one of: active, restricted, deprecated, disabled
        = 1
    "#]],
        )
        .await;
    world.replace("GET /v3/stacks", Answer::list(json!([])));
    world
        .check(
            "stack nope",
            expect![[r#"
        Getting info for stack nope as ada...

        FAILED
        ! Stack 'nope' not found
        = 1
    "#]],
        )
        .await;
}

#[tokio::test]
async fn feature_flags_are_switched() {
    let world = World::targeted().await;
    let flag = json!({ "name": "diego_docker", "enabled": true });
    world.on("GET /v3/feature_flags", Answer::list(json!([flag])));
    world.on("GET /v3/feature_flags/diego_docker", Answer::ok(flag));
    world.on("PATCH /v3/feature_flags/diego_docker", Answer::ok(json!({})));
    world
        .check(
            "feature-flags",
            expect![[r#"
        Getting feature flags as ada...

        name           state
        diego_docker   enabled
    "#]],
        )
        .await;
    world
        .check(
            "feature-flag diego_docker",
            expect![[r#"
        Getting info for feature flag diego_docker as ada...

        Features       State
        diego_docker   enabled
    "#]],
        )
        .await;
    world
        .check(
            "enable-feature-flag diego_docker",
            expect![[r#"
        Enabling feature flag diego_docker as ada...
        OK
        > PATCH /v3/feature_flags/diego_docker {"enabled":true}
    "#]],
        )
        .await;
    world
        .check(
            "disable-feature-flag diego_docker",
            expect![[r#"
        Disabling feature flag diego_docker as ada...
        OK
        > PATCH /v3/feature_flags/diego_docker {"enabled":false}
    "#]],
        )
        .await;
    world
        .check(
            "feature-flag nope",
            expect![[r#"
        Getting info for feature flag nope as ada...

        FAILED
        ! Feature flag 'nope' not found.
        = 1
    "#]],
        )
        .await;
    world
        .check(
            "enable-feature-flag nope",
            expect![[r#"
        Enabling feature flag nope as ada...
        FAILED
        ! Feature flag 'nope' not found.
        > PATCH /v3/feature_flags/nope {"enabled":true}
        = 1
    "#]],
        )
        .await;
}

#[tokio::test]
async fn variable_groups_are_replaced_whole() {
    let world = World::targeted().await;
    for phase in ["running", "staging"] {
        let path = format!("/v3/environment_variable_groups/{phase}");
        world.on(&format!("GET {path}"), Answer::ok(json!({ "var": { "OLD": "1" } })));
        world.on(&format!("PATCH {path}"), Answer::ok(json!({})));
    }
    world
        .check(
            "running-environment-variable-group",
            expect![[r#"
        Getting the running environment variable group as ada...

        variable name   assigned value
        OLD             1
    "#]],
        )
        .await;
    world
        .check(
            "ssevg '{\"NEW\":\"2\"}'",
            expect![[r#"
        Setting the contents of the staging environment variable group as ada...
        OK
        > PATCH /v3/environment_variable_groups/staging {"var":{"NEW":"2","OLD":null}}
    "#]],
        )
        .await;
    world
        .check(
            "srevg '[1]'",
            expect![[r#"
        Setting the contents of the running environment variable group as ada...
        FAILED
        ! Invalid environment variable group provided. Please provide a valid JSON object.
        = 1
    "#]],
        )
        .await;
    world.replace("GET /v3/environment_variable_groups/staging", Answer::ok(json!({ "var": {} })));
    world
        .check(
            "sevg",
            expect![[r#"
        Getting the staging environment variable group as ada...

        No staging environment variable group has been set.
    "#]],
        )
        .await;
}

#[tokio::test]
async fn isolation_segments_are_given_to_orgs_and_spaces() {
    let world = World::targeted().await;
    world.on(
        "GET /v3/isolation_segments",
        Answer::list(json!([{ "guid": "segment-guid", "name": "gpu" }])),
    );
    world.on(
        "GET /v3/isolation_segments/segment-guid/organizations",
        Answer::list(json!([{ "name": "acme" }, { "name": "umbrella" }])),
    );
    world
        .check(
            "isolation-segments",
            expect![[r#"
        Getting isolation segments as ada...

        name   orgs
        gpu    acme, umbrella
    "#]],
        )
        .await;
    world.on(
        "POST /v3/isolation_segments",
        Answer::refusal(
            422,
            "CF-UnprocessableEntity",
            "Isolation segment names are case insensitive and must be unique",
        ),
    );
    world
        .check(
            "create-isolation-segment gpu",
            expect![[r#"
        Creating isolation segment gpu as ada...
        OK
        ! Isolation segment 'gpu' already exists.
        > POST /v3/isolation_segments {"name":"gpu"}
    "#]],
        )
        .await;
    let orgs = "/v3/isolation_segments/segment-guid/relationships/organizations";
    world.on(&format!("POST {orgs}"), Answer::ok(json!({})));
    world.on(&format!("DELETE {orgs}/org-guid"), Answer::status(204, Value::Null));
    world.check("enable-org-isolation acme gpu", expect![[r#"
        Enabling isolation segment gpu for org acme as ada...
        OK
        > POST /v3/isolation_segments/segment-guid/relationships/organizations {"data":[{"guid":"org-guid"}]}
    "#]]).await;
    world
        .check(
            "disable-org-isolation acme gpu",
            expect![[r#"
        Removing entitlement to isolation segment gpu from org acme as ada...
        OK
        > DELETE /v3/isolation_segments/segment-guid/relationships/organizations/org-guid
    "#]],
        )
        .await;
    let default = "/v3/organizations/org-guid/relationships/default_isolation_segment";
    world.on(&format!("PATCH {default}"), Answer::ok(json!({})));
    world.on(&format!("GET {default}"), Answer::ok(json!({ "data": null })));
    world.check("set-org-default-isolation-segment acme gpu", expect![[r#"
        Setting isolation segment gpu to default on org acme as ada...
        OK

        TIP: Restart applications in this organization to relocate them to this isolation segment.
        > PATCH /v3/organizations/org-guid/relationships/default_isolation_segment {"data":{"guid":"segment-guid"}}
    "#]]).await;
    world.check("reset-org-default-isolation-segment acme", expect![[r#"
        Resetting default isolation segment of org acme as ada...
        OK

        TIP: Restart applications in spaces without assigned isolation segments to move them to the platform default.
        > PATCH /v3/organizations/org-guid/relationships/default_isolation_segment {"data":null}
    "#]]).await;
    world.on("PATCH /v3/spaces/space-guid/relationships/isolation_segment", Answer::ok(json!({})));
    world.check("set-space-isolation-segment dev gpu", expect![[r#"
        Updating isolation segment of space dev in org acme as ada...
        OK

        TIP: Restart applications in this space to relocate them to this isolation segment.
        > PATCH /v3/spaces/space-guid/relationships/isolation_segment {"data":{"guid":"segment-guid"}}
    "#]]).await;
    world
        .check(
            "reset-space-isolation-segment dev",
            expect![[r#"
        Resetting isolation segment assignment of space dev in org acme as ada...
        OK

        TIP: Restart applications in this space to relocate them to the platform default.
        > PATCH /v3/spaces/space-guid/relationships/isolation_segment {"data":null}
    "#]],
        )
        .await;
    world.on("DELETE /v3/isolation_segments/segment-guid", Answer::status(204, Value::Null));
    world
        .check(
            "delete-isolation-segment gpu -f",
            expect![[r#"
        Deleting isolation segment gpu as ada...
        OK
        > DELETE /v3/isolation_segments/segment-guid
    "#]],
        )
        .await;
    world.replace("GET /v3/isolation_segments", Answer::list(json!([])));
    world
        .check(
            "delete-isolation-segment gpu -f",
            expect![[r#"
        Deleting isolation segment gpu as ada...
        OK
        ! Isolation segment gpu does not exist.
    "#]],
        )
        .await;
    world
        .check(
            "enable-org-isolation acme nope",
            expect![[r#"
        Enabling isolation segment nope for org acme as ada...
        FAILED
        ! Isolation segment 'nope' not found.
        = 1
    "#]],
        )
        .await;
}

#[tokio::test]
async fn labels_are_set_and_removed() {
    let world = World::targeted().await;
    world.with_dora("STARTED");
    world.on("PATCH /v3/apps/app-guid", Answer::ok(json!({})));
    world
        .check(
            "set-label app dora env=prod tier=gold",
            expect![[r#"
        Setting label(s) for app dora in org acme / space dev as ada...
        OK
        > PATCH /v3/apps/app-guid {"metadata":{"labels":{"env":"prod","tier":"gold"}}}
    "#]],
        )
        .await;
    world
        .check(
            "unset-label app dora env",
            expect![[r#"
        Removing label(s) for app dora in org acme / space dev as ada...
        OK
        > PATCH /v3/apps/app-guid {"metadata":{"labels":{"env":null}}}
    "#]],
        )
        .await;
    world
        .check(
            "labels app dora",
            expect![[r#"
        Getting labels for app dora in org acme / space dev as ada...

        No labels found.
    "#]],
        )
        .await;
    let org =
        json!({ "guid": "org-guid", "name": "acme", "metadata": { "labels": { "pci": "true" } } });
    world.replace("GET /v3/organizations", Answer::list(json!([org])));
    world
        .check(
            "labels org acme",
            expect![[r#"
        Getting labels for org acme as ada...


        key   value
        pci   true
    "#]],
        )
        .await;
    world.on("PATCH /v3/routes/route-guid", Answer::ok(json!({})));
    world
        .check(
            "set-label route dora.example.com a=b",
            expect![[r#"
        Setting label(s) for route dora.example.com in org acme / space dev as ada...
        OK
        > PATCH /v3/routes/route-guid {"metadata":{"labels":{"a":"b"}}}
    "#]],
        )
        .await;
    world
        .check(
            "set-label route nope.example.com a=b",
            expect![[r#"
        Setting label(s) for route nope.example.com in org acme / space dev as ada...
        FAILED
        ! Route 'nope.example.com' not found.
        = 1
    "#]],
        )
        .await;
    world
        .check(
            "set-label app dora env",
            expect![[r#"
        FAILED
        ! Metadata error: no value provided for label 'env'
        = 1
    "#]],
        )
        .await;
    world
        .check(
            "set-label thing dora a=b",
            expect![[r#"
        FAILED
        ! Unsupported resource type of 'thing'
        = 1
    "#]],
        )
        .await;
    world
        .check(
            "labels app dora -s cflinuxfs4",
            expect![[r#"
        FAILED

        (help: labels - List all labels (key-value pairs) for an API resource)
        ! Incorrect Usage: The following arguments cannot be used together: app, --stack, -s
        = 1
    "#]],
        )
        .await;
}

#[tokio::test]
async fn settings_are_kept() {
    let world = World::targeted().await;
    world
        .check(
            "config --async-timeout 9 --color false --trace true --locale de",
            expect![[r#"
            Setting values in config...
            OK
        "#]],
        )
        .await;
    let config = world.config();
    assert_eq!(config["AsyncTimeout"], 9);
    assert_eq!(config["ColorEnabled"], "false");
    assert_eq!(config["Trace"], "true");
    assert_eq!(config["Locale"], "de");
    assert!(world.cf(&["orgs"]).await.err.contains("REQUEST: ["), "the trace is not shown");
    world
        .check(
            "config --trace trace.log --locale CLEAR",
            expect![[r#"
        Setting values in config...
        OK
    "#]],
        )
        .await;
    assert_eq!(world.config()["Locale"], "");
    assert_eq!(world.cf(&["orgs"]).await.err, "");
    let trace = std::fs::read_to_string(world.dir.path().join("trace.log")).unwrap();
    assert!(trace.contains("GET /v3/organizations") && !trace.contains("refresh"), "{trace}");
    world
        .check(
            "config --color maybe",
            expect![[r#"
        (help: config - Write default values to the config)
        ! Incorrect Usage: COLOR must be "true" or "false"
        = 1
    "#]],
        )
        .await;
}

#[tokio::test]
async fn roles_are_given_and_taken() {
    let world = World::targeted().await;
    world.on("POST /v3/roles", Answer::status(201, json!({})));
    world.check("set-org-role bob acme orgmanager", expect![[r#"
        Assigning role OrgManager to user bob in org acme as ada...
        OK
        > POST /v3/roles {"relationships":{"organization":{"data":{"guid":"org-guid"}},"user":{"data":{"username":"bob"}}},"type":"organization_manager"}
    "#]]).await;
    world.check("set-space-role bob acme dev SpaceDeveloper --origin ldap", expect![[r#"
        Assigning role SpaceDeveloper to user bob in org acme / space dev as ada...
        OK
        > POST /v3/roles {"relationships":{"organization":{"data":{"guid":"org-guid"}},"user":{"data":{"origin":"ldap","username":"bob"}}},"type":"organization_user"}
        > POST /v3/roles {"relationships":{"space":{"data":{"guid":"space-guid"}},"user":{"data":{"origin":"ldap","username":"bob"}}},"type":"space_developer"}
    "#]]).await;
    world.replace(
        "POST /v3/roles",
        Answer::refusal(
            422,
            "CF-UnprocessableEntity",
            "User 'bob' already has 'organization_manager' role in organization 'acme'.",
        ),
    );
    world.check("set-org-role bob acme OrgManager", expect![[r#"
        Assigning role OrgManager to user bob in org acme as ada...
        OK
        ! User 'bob' already has role 'OrgManager' in org 'acme'.
        > POST /v3/roles {"relationships":{"organization":{"data":{"guid":"org-guid"}},"user":{"data":{"username":"bob"}}},"type":"organization_manager"}
    "#]]).await;
    world
        .check(
            "set-org-role bob acme OrgManager --client --origin ldap",
            expect![[r#"
                FAILED

                (help: set-org-role - Assign an org role to a user)
                ! Incorrect Usage: The following arguments cannot be used together: --client, --origin
                = 1
            "#]],
        )
        .await;
    world.on("GET /v3/users", Answer::list(json!([{ "guid": "bob-guid", "origin": "uaa" }])));
    world.on("GET /v3/roles", Answer::list(json!([{ "guid": "role-guid" }])));
    world.on("DELETE /v3/roles/role-guid", Answer::status(204, Value::Null));
    world
        .check(
            "unset-org-role bob acme OrgManager",
            expect![[r#"
        Removing role OrgManager from user bob in org acme as ada...
        OK
        > DELETE /v3/roles/role-guid
    "#]],
        )
        .await;
    world
        .check(
            "unset-space-role bob acme dev SpaceDeveloper",
            expect![[r#"
        Removing role SpaceDeveloper from user bob in org acme / space dev as ada...
        OK
        > DELETE /v3/roles/role-guid
    "#]],
        )
        .await;
    world.replace("GET /v3/users", Answer::list(json!([])));
    world
        .check(
            "unset-space-role nobody acme dev SpaceDeveloper",
            expect![[r#"
        Removing role SpaceDeveloper from user nobody in org acme / space dev as ada...
        FAILED
        ! User 'nobody' does not exist.
        = 1
    "#]],
        )
        .await;
    world.check("set-space-role bob acme dev Boss", expect![[r#"
        (help: set-space-role - Assign a space role to a user)
        ! Incorrect Usage: ROLE must be "SpaceManager", "SpaceDeveloper", "SpaceAuditor" or "SpaceSupporter"
        = 1
    "#]]).await;
}
