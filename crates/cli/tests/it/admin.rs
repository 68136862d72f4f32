//! What operators do: flags, variables, isolation segments, labels, settings, roles.

use expect_test::expect;
use serde_json::{Value, json};

use crate::script::{Answer, World};

#[tokio::test]
async fn feature_flags_are_switched() {
    let world = World::targeted().await;
    let flag = json!({ "name": "diego_docker", "enabled": true });
    world.on("GET /v3/feature_flags", Answer::list(json!([flag])));
    world.on("GET /v3/feature_flags/diego_docker", Answer::ok(flag));
    world
        .transcript(expect![[r#"
        < PATCH /v3/feature_flags/diego_docker 200 {}
        $ cf feature-flags
        Getting feature flags as ada...

        name           state
        diego_docker   enabled

        $ cf feature-flag diego_docker
        Getting info for feature flag diego_docker as ada...

        Features       State
        diego_docker   enabled

        $ cf enable-feature-flag diego_docker
        Enabling feature flag diego_docker as ada...
        OK
        > PATCH /v3/feature_flags/diego_docker {"enabled":true}

        $ cf disable-feature-flag diego_docker
        Disabling feature flag diego_docker as ada...
        OK
        > PATCH /v3/feature_flags/diego_docker {"enabled":false}

        $ cf feature-flag nope
        Getting info for feature flag nope as ada...

        FAILED
        ! Feature flag 'nope' not found.
        = 1

        $ cf enable-feature-flag nope
        Enabling feature flag nope as ada...
        FAILED
        ! Feature flag 'nope' not found.
        > PATCH /v3/feature_flags/nope {"enabled":true}
        = 1
    "#]])
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
        .transcript(expect![[r#"
        $ cf running-environment-variable-group
        Getting the running environment variable group as ada...

        variable name   assigned value
        OLD             1

        $ cf ssevg '{"NEW":"2"}'
        Setting the contents of the staging environment variable group as ada...
        OK
        > PATCH /v3/environment_variable_groups/staging {"var":{"NEW":"2","OLD":null}}

        $ cf srevg '[1]'
        Setting the contents of the running environment variable group as ada...
        FAILED
        ! Invalid environment variable group provided. Please provide a valid JSON object.
        = 1

        < GET /v3/environment_variable_groups/staging 200 {"var": {}}
        $ cf sevg
        Getting the staging environment variable group as ada...

        No staging environment variable group has been set.
    "#]])
        .await;
}

#[tokio::test]
async fn isolation_segments_are_given_to_orgs_and_spaces() {
    let world = World::targeted().await;
    let orgs = "/v3/isolation_segments/segment-guid/relationships/organizations";
    world.transcript(expect![[r#"
        < GET /v3/isolation_segments 200 [{"guid": "segment-guid", "name": "gpu"}]
        < GET /v3/isolation_segments/segment-guid/organizations 200 [{"name": "acme"}, {"name": "umbrella"}]
        $ cf isolation-segments
        Getting isolation segments as ada...

        name   orgs
        gpu    acme, umbrella

        < POST /v3/isolation_segments 422 Isolation segment names are case insensitive and must be unique
        $ cf create-isolation-segment gpu
        Creating isolation segment gpu as ada...
        OK
        ! Isolation segment 'gpu' already exists.
        > POST /v3/isolation_segments {"name":"gpu"}
    "#]]).await;
    world.on(&format!("POST {orgs}"), Answer::ok(json!({})));
    world.on(&format!("DELETE {orgs}/org-guid"), Answer::status(204, Value::Null));
    let default = "/v3/organizations/org-guid/relationships/default_isolation_segment";
    world.transcript(expect![[r#"
        $ cf enable-org-isolation acme gpu
        Enabling isolation segment gpu for org acme as ada...
        OK
        > POST /v3/isolation_segments/segment-guid/relationships/organizations {"data":[{"guid":"org-guid"}]}

        $ cf disable-org-isolation acme gpu
        Removing entitlement to isolation segment gpu from org acme as ada...
        OK
        > DELETE /v3/isolation_segments/segment-guid/relationships/organizations/org-guid
    "#]]).await;
    world.on(&format!("PATCH {default}"), Answer::ok(json!({})));
    world.on(&format!("GET {default}"), Answer::ok(json!({ "data": null })));
    world.transcript(expect![[r#"
        $ cf set-org-default-isolation-segment acme gpu
        Setting isolation segment gpu to default on org acme as ada...
        OK

        TIP: Restart applications in this organization to relocate them to this isolation segment.
        > PATCH /v3/organizations/org-guid/relationships/default_isolation_segment {"data":{"guid":"segment-guid"}}

        $ cf reset-org-default-isolation-segment acme
        Resetting default isolation segment of org acme as ada...
        OK

        TIP: Restart applications in spaces without assigned isolation segments to move them to the platform default.
        > PATCH /v3/organizations/org-guid/relationships/default_isolation_segment {"data":null}

        < PATCH /v3/spaces/space-guid/relationships/isolation_segment 200 {}
        $ cf set-space-isolation-segment dev gpu
        Updating isolation segment of space dev in org acme as ada...
        OK

        TIP: Restart applications in this space to relocate them to this isolation segment.
        > PATCH /v3/spaces/space-guid/relationships/isolation_segment {"data":{"guid":"segment-guid"}}

        $ cf reset-space-isolation-segment dev
        Resetting isolation segment assignment of space dev in org acme as ada...
        OK

        TIP: Restart applications in this space to relocate them to the platform default.
        > PATCH /v3/spaces/space-guid/relationships/isolation_segment {"data":null}

        < DELETE /v3/isolation_segments/segment-guid 204
        $ cf delete-isolation-segment gpu -f
        Deleting isolation segment gpu as ada...
        OK
        > DELETE /v3/isolation_segments/segment-guid

        < GET /v3/isolation_segments 200 []
        $ cf delete-isolation-segment gpu -f
        Deleting isolation segment gpu as ada...
        OK
        ! Isolation segment gpu does not exist.

        $ cf enable-org-isolation acme nope
        Enabling isolation segment nope for org acme as ada...
        FAILED
        ! Isolation segment 'nope' not found.
        = 1
    "#]]).await;
}

#[tokio::test]
async fn labels_are_set_and_removed() {
    let world = World::targeted().await;
    world.with_dora("STARTED");
    let org =
        json!({ "guid": "org-guid", "name": "acme", "metadata": { "labels": { "pci": "true" } } });
    world
        .transcript(expect![[r#"
        < PATCH /v3/apps/app-guid 200 {}
        $ cf set-label app dora env=prod tier=gold
        Setting label(s) for app dora in org acme / space dev as ada...
        OK
        > PATCH /v3/apps/app-guid {"metadata":{"labels":{"env":"prod","tier":"gold"}}}

        $ cf unset-label app dora env
        Removing label(s) for app dora in org acme / space dev as ada...
        OK
        > PATCH /v3/apps/app-guid {"metadata":{"labels":{"env":null}}}

        $ cf labels app dora
        Getting labels for app dora in org acme / space dev as ada...

        No labels found.
    "#]])
        .await;
    world.replace("GET /v3/organizations", Answer::list(json!([org])));
    world
        .transcript(expect![[r#"
        $ cf labels org acme
        Getting labels for org acme as ada...


        key   value
        pci   true

        < PATCH /v3/routes/route-guid 200 {}
        $ cf set-label route dora.example.com a=b
        Setting label(s) for route dora.example.com in org acme / space dev as ada...
        OK
        > PATCH /v3/routes/route-guid {"metadata":{"labels":{"a":"b"}}}

        $ cf set-label route nope.example.com a=b
        Setting label(s) for route nope.example.com in org acme / space dev as ada...
        FAILED
        ! Route 'nope.example.com' not found.
        = 1

        $ cf set-label app dora env
        FAILED
        ! Metadata error: no value provided for label 'env'
        = 1

        $ cf set-label thing dora a=b
        FAILED
        ! Unsupported resource type of 'thing'
        = 1

        $ cf labels app dora -s cflinuxfs4
        FAILED

        (help: labels - List all labels (key-value pairs) for an API resource)
        ! Incorrect Usage: The following arguments cannot be used together: app, --stack, -s
        = 1
    "#]])
        .await;
}

#[tokio::test]
async fn settings_are_kept() {
    let world = World::targeted().await;
    world
        .transcript(expect![[r#"
        $ cf config --async-timeout 9 --color false --trace true --locale de
        Setting values in config...
        OK
    "#]])
        .await;
    let config = world.config();
    assert_eq!(config["AsyncTimeout"], 9);
    assert_eq!(config["ColorEnabled"], "false");
    assert_eq!(config["Trace"], "true");
    assert_eq!(config["Locale"], "de");
    assert!(world.cf(&["orgs"]).await.err.contains("REQUEST: ["), "the trace is not shown");
    world
        .transcript(expect![[r#"
        $ cf config --trace trace.log --locale CLEAR
        Setting values in config...
        OK
    "#]])
        .await;
    assert_eq!(world.config()["Locale"], "");
    assert_eq!(world.cf(&["orgs"]).await.err, "");
    let trace = std::fs::read_to_string(world.dir.path().join("trace.log")).unwrap();
    assert!(trace.contains("GET /v3/organizations") && !trace.contains("refresh"), "{trace}");
    world
        .transcript(expect![[r#"
        $ cf config --color maybe
        (help: config - Write default values to the config)
        ! Incorrect Usage: COLOR must be "true" or "false"
        = 1
    "#]])
        .await;
}

#[tokio::test]
async fn roles_are_given_and_taken() {
    let world = World::targeted().await;
    world.transcript(expect![[r#"
        < POST /v3/roles 201 {}
        $ cf set-org-role bob acme orgmanager
        Assigning role OrgManager to user bob in org acme as ada...
        OK
        > POST /v3/roles {"relationships":{"organization":{"data":{"guid":"org-guid"}},"user":{"data":{"username":"bob"}}},"type":"organization_manager"}

        $ cf set-space-role bob acme dev SpaceDeveloper --origin ldap
        Assigning role SpaceDeveloper to user bob in org acme / space dev as ada...
        OK
        > POST /v3/roles {"relationships":{"organization":{"data":{"guid":"org-guid"}},"user":{"data":{"origin":"ldap","username":"bob"}}},"type":"organization_user"}
        > POST /v3/roles {"relationships":{"space":{"data":{"guid":"space-guid"}},"user":{"data":{"origin":"ldap","username":"bob"}}},"type":"space_developer"}

        < POST /v3/roles 422 User 'bob' already has 'organization_manager' role in organization 'acme'.
        $ cf set-org-role bob acme OrgManager
        Assigning role OrgManager to user bob in org acme as ada...
        OK
        ! User 'bob' already has role 'OrgManager' in org 'acme'.
        > POST /v3/roles {"relationships":{"organization":{"data":{"guid":"org-guid"}},"user":{"data":{"username":"bob"}}},"type":"organization_manager"}

        $ cf set-org-role bob acme OrgManager --client --origin ldap
        FAILED

        (help: set-org-role - Assign an org role to a user)
        ! Incorrect Usage: The following arguments cannot be used together: --client, --origin
        = 1

        < GET /v3/users 200 [{"guid": "bob-guid", "origin": "uaa"}]
        < GET /v3/roles 200 [{"guid": "role-guid"}]
        < DELETE /v3/roles/role-guid 204
        $ cf unset-org-role bob acme OrgManager
        Removing role OrgManager from user bob in org acme as ada...
        OK
        > DELETE /v3/roles/role-guid

        $ cf unset-space-role bob acme dev SpaceDeveloper
        Removing role SpaceDeveloper from user bob in org acme / space dev as ada...
        OK
        > DELETE /v3/roles/role-guid

        < GET /v3/users 200 []
        $ cf unset-space-role nobody acme dev SpaceDeveloper
        Removing role SpaceDeveloper from user nobody in org acme / space dev as ada...
        FAILED
        ! User 'nobody' does not exist.
        = 1

        $ cf set-space-role bob acme dev Boss
        (help: set-space-role - Assign a space role to a user)
        ! Incorrect Usage: ROLE must be "SpaceManager", "SpaceDeveloper", "SpaceAuditor" or "SpaceSupporter"
        = 1
    "#]]).await;
}
