//! Security groups: made, shown, bound.

use expect_test::expect;
use serde_json::{Value, json};

use crate::script::{Answer, World};

fn group() -> Value {
    json!([{ "guid": "group-guid", "name": "web", "globally_enabled": { "running": true, "staging": false },
        "rules": [{ "protocol": "tcp", "destination": "10.0.0.0/8", "ports": "443", "description": null }],
        "relationships": { "running_spaces": { "data": [{ "guid": "space-guid" }] }, "staging_spaces": { "data": [] } } }])
}

#[tokio::test]
async fn security_groups_are_made_and_shown() {
    let world = World::targeted().await;
    world
        .transcript(expect![[r#"
        < POST /v3/security_groups 201 {}
    "#]])
        .await;
    world.file("rules.json", r#"[{"protocol":"tcp","destination":"10.0.0.0/8","ports":"443"}]"#);
    world.file("bad.json", "{}");
    world.on("GET /v3/security_groups", Answer::list(group()));
    let spaces = json!([{ "guid": "space-guid", "name": "dev", "relationships": { "organization": { "data": { "guid": "org-guid" } } } }]);
    world.transcript(expect![[r#"
        $ cf create-security-group web rules.json
        Creating security group web as ada...

        OK
        > POST /v3/security_groups {"name":"web","rules":[{"destination":"10.0.0.0/8","ports":"443","protocol":"tcp"}]}

        $ cf create-security-group web bad.json
        FAILED
        ! Incorrect json format: DIR/bad.json
        !
        ! Valid json file example:
        ! [
        !   {
        !     "protocol": "tcp",
        !     "destination": "10.244.1.18",
        !     "ports": "3306"
        !   }
        ! ]
        = 1

        < PATCH /v3/security_groups/group-guid 200 {}
        $ cf update-security-group web rules.json
        Updating security group web as ada...

        OK


        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        > PATCH /v3/security_groups/group-guid {"rules":[{"destination":"10.0.0.0/8","ports":"443","protocol":"tcp"}]}
    "#]]).await;
    world.replace(
        "GET /v3/spaces",
        Answer::ok(json!({ "pagination": { "next": null }, "resources": spaces,
        "included": { "organizations": [{ "guid": "org-guid", "name": "acme" }] } })),
    );
    world.transcript(expect![[r#"
        $ cf security-groups
        Getting security groups as ada...

        name   organization   space   lifecycle
        web    <all>          <all>   running
        web    acme           dev     running

        $ cf security-group web
        Getting info for security group web as ada...

        name:    web
        rules:
        [
          {
            "protocol": "tcp",
            "destination": "10.0.0.0/8",
            "ports": "443"
          }
        ]


        organization   space
        acme           dev

        < DELETE /v3/security_groups/group-guid 204
        $ cf delete-security-group web -f
        Deleting security group web as ada...
        OK


        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        > DELETE /v3/security_groups/group-guid

        < GET /v3/security_groups 200 []
        $ cf security-group nope
        Getting info for security group nope as ada...

        FAILED
        ! Security group 'nope' not found.
        = 1

        $ cf delete-security-group nope -f
        Deleting security group nope as ada...
        OK


        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        ! Security group 'nope' does not exist.
    "#]]).await;
}

#[tokio::test]
async fn security_groups_are_bound() {
    let world = World::targeted().await;
    world.on("GET /v3/security_groups", Answer::list(group()));
    world.transcript(expect![[r#"
        < POST /v3/security_groups/group-guid/relationships/running_spaces 200 {}
        < POST /v3/security_groups/group-guid/relationships/staging_spaces 200 {}
        $ cf bind-security-group web acme
        Assigning running security group web to all spaces in org acme as ada...

        Assigning running security group web to space dev in org acme as ada...
        OK

        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        > POST /v3/security_groups/group-guid/relationships/running_spaces {"data":[{"guid":"space-guid"}]}

        $ cf bind-security-group web acme --space dev --lifecycle staging
        Assigning staging security group web to space dev in org acme as ada...
        OK

        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        > POST /v3/security_groups/group-guid/relationships/staging_spaces {"data":[{"guid":"space-guid"}]}

        < DELETE /v3/security_groups/group-guid/relationships/running_spaces/space-guid 422 Unable to unbind. Ensure the space is bound to this security group.
        $ cf unbind-security-group web acme dev
        Unbinding running security group web from org acme / space dev as ada...
        OK

        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        ! Security group web not bound to space dev for lifecycle phase 'running'.
        > DELETE /v3/security_groups/group-guid/relationships/running_spaces/space-guid

        < PATCH /v3/security_groups/group-guid 200 {}
        $ cf bind-running-security-group web
        Binding security group web to running as ada...
        OK

        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        > PATCH /v3/security_groups/group-guid {"globally_enabled":{"running":true}}

        $ cf unbind-staging-security-group web
        Unbinding security group web from defaults for staging as ada...
        OK

        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        > PATCH /v3/security_groups/group-guid {"globally_enabled":{"staging":false}}

        $ cf running-security-groups
        Getting global running security groups as ada...

        name
        web

        < GET /v3/security_groups 200 []
        $ cf staging-security-groups
        Getting global staging security groups as ada...

        No global staging security groups found.

        $ cf unbind-running-security-group nope
        Unbinding security group nope from defaults for running as ada...
        OK
        ! Security group 'nope' not found.

        $ cf bind-staging-security-group nope
        Binding security group nope to staging as ada...
        FAILED
        ! Security group 'nope' not found.
        = 1
    "#]]).await;
}
