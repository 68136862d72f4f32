//! Domains, routes and security groups.

use expect_test::expect;
use serde_json::{Value, json};

use crate::script::{Answer, World};

fn domain(org: Option<&str>) -> Value {
    let owner = org.map(|guid| json!({ "guid": guid }));
    json!([{ "guid": "domain-guid", "name": "example.com", "supported_protocols": ["http"],
        "relationships": { "organization": { "data": owner } } }])
}

#[tokio::test]
async fn private_domains_come_and_go() {
    let world = World::targeted().await;
    world.on("POST /v3/domains", Answer::status(201, json!({})));
    world.check("create-private-domain acme example.com", expect![[r#"
        Creating private domain example.com for org acme as ada...
        OK

        TIP: Domain 'example.com' is a private domain. Run 'cf share-private-domain' to share this domain with a different org.
        > POST /v3/domains {"name":"example.com","relationships":{"organization":{"data":{"guid":"org-guid"}}}}
    "#]]).await;
    world.replace(
        "POST /v3/domains",
        Answer::refusal(
            422,
            "CF-UnprocessableEntity",
            "The domain name \"example.com\" is already in use",
        ),
    );
    world.check("create-private-domain acme example.com", expect![[r#"
        Creating private domain example.com for org acme as ada...
        OK
        ! The domain name "example.com" is already in use
        > POST /v3/domains {"name":"example.com","relationships":{"organization":{"data":{"guid":"org-guid"}}}}
    "#]]).await;
    world.on("GET /v3/domains", Answer::list(domain(Some("org-guid"))));
    world.on("DELETE /v3/domains/domain-guid", Answer::status(204, Value::Null));
    world.check_with("delete-private-domain example.com", "y\n", expect![[r#"
        Deleting private domain example.com as ada...
        Deleting the private domain will remove associated routes which will make apps with this domain unreachable.
        Really delete the private domain example.com? [yN]: y
        Deleting private domain example.com as ada...
        OK

        TIP: Run 'cf domains' to view available domains.
        > DELETE /v3/domains/domain-guid
    "#]]).await;
    world.check("delete-shared-domain example.com -f", expect![[r#"
        This action impacts all orgs using this domain.
        Deleting the domain will remove associated routes which will make apps with this domain, in any org, unreachable.
        Deleting domain example.com as ada...
        FAILED
        ! Domain 'example.com' is a private domain, not a shared domain.
        = 1
    "#]]).await;
    world.on(
        "POST /v3/domains/domain-guid/relationships/shared_organizations",
        Answer::ok(json!({})),
    );
    world.on(
        "DELETE /v3/domains/domain-guid/relationships/shared_organizations/org-guid",
        Answer::status(204, Value::Null),
    );
    world.check("share-private-domain acme example.com", expect![[r#"
        Sharing domain example.com with org acme as ada...
        OK
        > POST /v3/domains/domain-guid/relationships/shared_organizations {"data":[{"guid":"org-guid"}]}
    "#]]).await;
    world
        .check_with(
            "unshare-private-domain acme example.com",
            "y\n",
            expect![[r#"
        Warning: org acme will no longer be able to access private domain example.com
        Really unshare private domain example.com? [yN]: y
        Unsharing domain example.com from org acme as ada...
        OK
        > DELETE /v3/domains/domain-guid/relationships/shared_organizations/org-guid
    "#]],
        )
        .await;
    world.replace("GET /v3/domains", Answer::list(json!([])));
    world
        .check(
            "delete-private-domain example.com -f",
            expect![[r#"
        Deleting private domain example.com as ada...
        OK
        ! Domain 'example.com' does not exist.
    "#]],
        )
        .await;
}

#[tokio::test]
async fn shared_domains_come_and_go() {
    let world = World::targeted().await;
    world.on("POST /v3/domains", Answer::status(201, json!({})));
    world.check("create-shared-domain example.com --internal", expect![[r#"
        Creating shared domain example.com as ada...
        OK

        TIP: Domain 'example.com' is shared with all orgs. Run 'cf domains' to view available domains.
        > POST /v3/domains {"internal":true,"name":"example.com"}
    "#]]).await;
    world
        .check(
            "create-shared-domain example.com --router-group tcp",
            expect![[r#"
        Creating shared domain example.com as ada...
        FAILED
        ! This command requires the Routing API. Your targeted endpoint reports it is not enabled.
        = 1
    "#]],
        )
        .await;
    world.on("GET /v3/domains", Answer::list(domain(None)));
    world.on("DELETE /v3/domains/domain-guid", Answer::status(204, Value::Null));
    world.check("delete-shared-domain example.com -f", expect![[r#"
        This action impacts all orgs using this domain.
        Deleting the domain will remove associated routes which will make apps with this domain, in any org, unreachable.
        Deleting domain example.com as ada...
        OK
        > DELETE /v3/domains/domain-guid
    "#]]).await;
    world
        .check(
            "delete-private-domain example.com -f",
            expect![[r#"
        Deleting private domain example.com as ada...
        FAILED
        ! Domain 'example.com' is a shared domain, not a private domain.
        = 1
    "#]],
        )
        .await;
}

/// A world with the route `dora.example.com` of the app `dora`.
async fn routed() -> World {
    let world = World::targeted().await;
    world.with_dora("STARTED");
    world.on("GET /v3/domains", Answer::list(domain(None)));
    world
}

#[tokio::test]
async fn a_route_is_shown_and_checked_for() {
    let world = routed().await;
    world
        .check(
            "route example.com -n dora",
            expect![[r#"
        Showing route dora.example.com in org acme / space dev as ada...

        domain:     example.com
        host:       dora
        port:
        path:
        protocol:   http
        options:

        Destinations:
        	app    process   port   app-protocol
        	dora   web
    "#]],
        )
        .await;
    world.on(
        "GET /v3/domains/domain-guid/route_reservations",
        Answer::ok(json!({ "matching_route": true })),
    );
    world
        .check(
            "check-route example.com -n dora --path v2",
            expect![[r#"
        Checking for route...
        Route 'dora.example.com/v2' does exist.
        OK
    "#]],
        )
        .await;
    let query = &world.asked("GET /v3/domains/domain-guid/route_reservations")[0].query;
    assert_eq!(query, "host=dora&path=%2Fv2");
    world.replace(
        "GET /v3/domains/domain-guid/route_reservations",
        Answer::ok(json!({ "matching_route": false })),
    );
    world
        .check(
            "check-route example.com --port 1024",
            expect![[r#"
        Checking for route...
        Route 'example.com:1024' does not exist.
        OK
    "#]],
        )
        .await;
    world.replace("GET /v3/routes", Answer::list(json!([])));
    world
        .check(
            "route example.com -n nope",
            expect![[r#"
        Showing route nope.example.com in org acme / space dev as ada...

        FAILED
        ! Route with host 'nope', domain 'example.com', and path '/' not found.
        = 1
    "#]],
        )
        .await;
}

#[tokio::test]
async fn a_route_is_changed() {
    let world = routed().await;
    world.on("PATCH /v3/routes/route-guid", Answer::ok(json!({})));
    world
        .check(
            "update-route example.com -n dora -o loadbalancing=least-connection -r hash_header",
            expect![[r#"
                Updating route dora.example.com for org acme / space dev as ada...
                Route dora.example.com has been updated
                OK
                > PATCH /v3/routes/route-guid {"options":{"hash_header":null,"loadbalancing":"least-connection"}}
            "#]],
        )
        .await;
    world.check("update-route example.com -n dora", expect![[r#"
        FAILED
        ! Route option support: 'No options were specified for the update of the Route dora.example.com'
        = 1
    "#]]).await;
    world.check("update-route example.com -n dora -o nonsense", expect![[r#"
        FAILED
        ! Route option 'nonsense' was specified incorrectly. Please use key-value pair format key=value.
        = 1
    "#]]).await;
    world.on("PATCH /v3/routes/route-guid/destinations/d", Answer::ok(json!({})));
    world
        .check("update-destination dora example.com -n dora --app-protocol http2", expect![[r#"
            Updating destination protocol from  to http2 for route dora.example.com in org acme / space dev as ada...
            OK
            > PATCH /v3/routes/route-guid/destinations/d {"protocol":"http2"}
        "#]])
        .await;
    world
        .check(
            "update-destination dora example.com -n dora --app-protocol tcp",
            expect![[r#"
            FAILED
            ! Destination protocol must be 'http1' or 'http2'
            = 1
        "#]],
        )
        .await;
}

#[tokio::test]
async fn a_route_is_shared_and_moved() {
    let world = routed().await;
    world.on("POST /v3/routes/route-guid/relationships/shared_spaces", Answer::ok(json!({})));
    world.on(
        "DELETE /v3/routes/route-guid/relationships/shared_spaces/space-guid",
        Answer::status(204, Value::Null),
    );
    world.on("PATCH /v3/routes/route-guid/relationships/space", Answer::ok(json!({})));
    world
        .check(
            "share-route example.com -n dora -s dev",
            expect![[r#"
        Sharing route dora.example.com to space dev as ada
        OK
        > POST /v3/routes/route-guid/relationships/shared_spaces {"data":[{"guid":"space-guid"}]}
    "#]],
        )
        .await;
    world
        .check(
            "unshare-route example.com -n dora -s dev -o acme",
            expect![[r#"
        Unsharing route dora.example.com from space dev as ada
        OK
        > DELETE /v3/routes/route-guid/relationships/shared_spaces/space-guid
    "#]],
        )
        .await;
    world
        .check(
            "move-route example.com -n dora -s dev",
            expect![[r#"
        Move ownership of route dora.example.com to space dev as ada
        OK
        > PATCH /v3/routes/route-guid/relationships/space {"data":{"guid":"space-guid"}}
    "#]],
        )
        .await;
    world.replace("GET /v3/spaces", Answer::list(json!([])));
    world
        .check(
            "move-route example.com -n dora -s nope",
            expect![[r#"
        Can not transfer ownership of route:
        FAILED
        ! Space 'nope' not found.
        = 1
    "#]],
        )
        .await;
}

fn group() -> Value {
    json!([{ "guid": "group-guid", "name": "web", "globally_enabled": { "running": true, "staging": false },
        "rules": [{ "protocol": "tcp", "destination": "10.0.0.0/8", "ports": "443", "description": null }],
        "relationships": { "running_spaces": { "data": [{ "guid": "space-guid" }] }, "staging_spaces": { "data": [] } } }])
}

#[tokio::test]
async fn security_groups_are_made_and_shown() {
    let world = World::targeted().await;
    world.on("POST /v3/security_groups", Answer::status(201, json!({})));
    world.file("rules.json", r#"[{"protocol":"tcp","destination":"10.0.0.0/8","ports":"443"}]"#);
    world.file("bad.json", "{}");
    world.check("create-security-group web rules.json", expect![[r#"
        Creating security group web as ada...

        OK
        > POST /v3/security_groups {"name":"web","rules":[{"destination":"10.0.0.0/8","ports":"443","protocol":"tcp"}]}
    "#]]).await;
    world
        .check(
            "create-security-group web bad.json",
            expect![[r#"
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
    "#]],
        )
        .await;
    world.on("GET /v3/security_groups", Answer::list(group()));
    world.on("PATCH /v3/security_groups/group-guid", Answer::ok(json!({})));
    world.check("update-security-group web rules.json", expect![[r#"
        Updating security group web as ada...

        OK


        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        > PATCH /v3/security_groups/group-guid {"rules":[{"destination":"10.0.0.0/8","ports":"443","protocol":"tcp"}]}
    "#]]).await;
    let spaces = json!([{ "guid": "space-guid", "name": "dev", "relationships": { "organization": { "data": { "guid": "org-guid" } } } }]);
    world.replace(
        "GET /v3/spaces",
        Answer::ok(json!({ "pagination": { "next": null }, "resources": spaces,
        "included": { "organizations": [{ "guid": "org-guid", "name": "acme" }] } })),
    );
    world
        .check(
            "security-groups",
            expect![[r#"
        Getting security groups as ada...

        name   organization   space   lifecycle
        web    <all>          <all>   running
        web    acme           dev     running
    "#]],
        )
        .await;
    world
        .check(
            "security-group web",
            expect![[r#"
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
    "#]],
        )
        .await;
    world.on("DELETE /v3/security_groups/group-guid", Answer::status(204, Value::Null));
    world.check("delete-security-group web -f", expect![[r#"
        Deleting security group web as ada...
        OK


        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        > DELETE /v3/security_groups/group-guid
    "#]]).await;
    world.replace("GET /v3/security_groups", Answer::list(json!([])));
    world
        .check(
            "security-group nope",
            expect![[r#"
        Getting info for security group nope as ada...

        FAILED
        ! Security group 'nope' not found.
        = 1
    "#]],
        )
        .await;
    world.check("delete-security-group nope -f", expect![[r#"
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
    world.on(
        "POST /v3/security_groups/group-guid/relationships/running_spaces",
        Answer::ok(json!({})),
    );
    world.on(
        "POST /v3/security_groups/group-guid/relationships/staging_spaces",
        Answer::ok(json!({})),
    );
    world.check("bind-security-group web acme", expect![[r#"
        Assigning running security group web to all spaces in org acme as ada...

        Assigning running security group web to space dev in org acme as ada...
        OK

        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        > POST /v3/security_groups/group-guid/relationships/running_spaces {"data":[{"guid":"space-guid"}]}
    "#]]).await;
    world
        .check("bind-security-group web acme --space dev --lifecycle staging", expect![[r#"
            Assigning staging security group web to space dev in org acme as ada...
            OK

            TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
            > POST /v3/security_groups/group-guid/relationships/staging_spaces {"data":[{"guid":"space-guid"}]}
        "#]])
        .await;
    world.on(
        "DELETE /v3/security_groups/group-guid/relationships/running_spaces/space-guid",
        Answer::refusal(
            422,
            "CF-UnprocessableEntity",
            "Unable to unbind. Ensure the space is bound to this security group.",
        ),
    );
    world.check("unbind-security-group web acme dev", expect![[r#"
        Unbinding running security group web from org acme / space dev as ada...
        OK

        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        ! Security group web not bound to space dev for lifecycle phase 'running'.
        > DELETE /v3/security_groups/group-guid/relationships/running_spaces/space-guid
    "#]]).await;
    world.on("PATCH /v3/security_groups/group-guid", Answer::ok(json!({})));
    world.check("bind-running-security-group web", expect![[r#"
        Binding security group web to running as ada...
        OK

        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        > PATCH /v3/security_groups/group-guid {"globally_enabled":{"running":true}}
    "#]]).await;
    world.check("unbind-staging-security-group web", expect![[r#"
        Unbinding security group web from defaults for staging as ada...
        OK

        TIP: If Dynamic ASG's are enabled, changes will automatically apply for running and staging applications. Otherwise, changes will require an app restart (for running) or restage (for staging) to apply to existing applications.
        > PATCH /v3/security_groups/group-guid {"globally_enabled":{"staging":false}}
    "#]]).await;
    world
        .check(
            "running-security-groups",
            expect![[r#"
        Getting global running security groups as ada...

        name
        web
    "#]],
        )
        .await;
    world.replace("GET /v3/security_groups", Answer::list(json!([])));
    world
        .check(
            "staging-security-groups",
            expect![[r#"
        Getting global staging security groups as ada...

        No global staging security groups found.
    "#]],
        )
        .await;
    world
        .check(
            "unbind-running-security-group nope",
            expect![[r#"
        Unbinding security group nope from defaults for running as ada...
        OK
        ! Security group 'nope' not found.
    "#]],
        )
        .await;
    world
        .check(
            "bind-staging-security-group nope",
            expect![[r#"
        Binding security group nope to staging as ada...
        FAILED
        ! Security group 'nope' not found.
        = 1
    "#]],
        )
        .await;
}
