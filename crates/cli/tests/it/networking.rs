//! Domains and routes.

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
    world.on("GET /v3/domains", Answer::list(domain(Some("org-guid"))));
    world.transcript(expect![[r#"
        < POST /v3/domains 201 {}
        $ cf create-private-domain acme example.com
        Creating private domain example.com for org acme as ada...
        OK

        TIP: Domain 'example.com' is a private domain. Run 'cf share-private-domain' to share this domain with a different org.
        > POST /v3/domains {"name":"example.com","relationships":{"organization":{"data":{"guid":"org-guid"}}}}

        < POST /v3/domains 422 The domain name "example.com" is already in use
        $ cf create-private-domain acme example.com
        Creating private domain example.com for org acme as ada...
        OK
        ! The domain name "example.com" is already in use
        > POST /v3/domains {"name":"example.com","relationships":{"organization":{"data":{"guid":"org-guid"}}}}

        < DELETE /v3/domains/domain-guid 204
        $ cf delete-private-domain example.com <<< y
        Deleting private domain example.com as ada...
        Deleting the private domain will remove associated routes which will make apps with this domain unreachable.
        Really delete the private domain example.com? [yN]: y
        Deleting private domain example.com as ada...
        OK

        TIP: Run 'cf domains' to view available domains.
        > DELETE /v3/domains/domain-guid

        $ cf delete-shared-domain example.com -f
        This action impacts all orgs using this domain.
        Deleting the domain will remove associated routes which will make apps with this domain, in any org, unreachable.
        Deleting domain example.com as ada...
        FAILED
        ! Domain 'example.com' is a private domain, not a shared domain.
        = 1

        < POST /v3/domains/domain-guid/relationships/shared_organizations 200 {}
        < DELETE /v3/domains/domain-guid/relationships/shared_organizations/org-guid 204
        $ cf share-private-domain acme example.com
        Sharing domain example.com with org acme as ada...
        OK
        > POST /v3/domains/domain-guid/relationships/shared_organizations {"data":[{"guid":"org-guid"}]}

        $ cf unshare-private-domain acme example.com <<< y
        Warning: org acme will no longer be able to access private domain example.com
        Really unshare private domain example.com? [yN]: y
        Unsharing domain example.com from org acme as ada...
        OK
        > DELETE /v3/domains/domain-guid/relationships/shared_organizations/org-guid

        < GET /v3/domains 200 []
        $ cf delete-private-domain example.com -f
        Deleting private domain example.com as ada...
        OK
        ! Domain 'example.com' does not exist.
    "#]]).await;
}

#[tokio::test]
async fn shared_domains_come_and_go() {
    let world = World::targeted().await;
    world.on("GET /v3/domains", Answer::list(domain(None)));
    world.transcript(expect![[r#"
        < POST /v3/domains 201 {}
        $ cf create-shared-domain example.com --internal
        Creating shared domain example.com as ada...
        OK

        TIP: Domain 'example.com' is shared with all orgs. Run 'cf domains' to view available domains.
        > POST /v3/domains {"internal":true,"name":"example.com"}

        $ cf create-shared-domain example.com --router-group tcp
        Creating shared domain example.com as ada...
        FAILED
        ! This command requires the Routing API. Your targeted endpoint reports it is not enabled.
        = 1

        < DELETE /v3/domains/domain-guid 204
        $ cf delete-shared-domain example.com -f
        This action impacts all orgs using this domain.
        Deleting the domain will remove associated routes which will make apps with this domain, in any org, unreachable.
        Deleting domain example.com as ada...
        OK
        > DELETE /v3/domains/domain-guid

        $ cf delete-private-domain example.com -f
        Deleting private domain example.com as ada...
        FAILED
        ! Domain 'example.com' is a shared domain, not a private domain.
        = 1
    "#]]).await;
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
        .transcript(expect![[r#"
        $ cf route example.com -n dora
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

        < GET /v3/domains/domain-guid/route_reservations 200 {"matching_route": true}
        $ cf check-route example.com -n dora --path v2
        Checking for route...
        Route 'dora.example.com/v2' does exist.
        OK
    "#]])
        .await;
    let query = &world.asked("GET /v3/domains/domain-guid/route_reservations")[0].query;
    assert_eq!(query, "host=dora&path=%2Fv2");
    world
        .transcript(expect![[r#"
        < GET /v3/domains/domain-guid/route_reservations 200 {"matching_route": false}
        $ cf check-route example.com --port 1024
        Checking for route...
        Route 'example.com:1024' does not exist.
        OK

        < GET /v3/routes 200 []
        $ cf route example.com -n nope
        Showing route nope.example.com in org acme / space dev as ada...

        FAILED
        ! Route with host 'nope', domain 'example.com', and path '/' not found.
        = 1
    "#]])
        .await;
}

#[tokio::test]
async fn a_route_is_changed() {
    let world = routed().await;
    world.transcript(expect![[r#"
        < PATCH /v3/routes/route-guid 200 {}
        $ cf update-route example.com -n dora -o loadbalancing=least-connection -r hash_header
        Updating route dora.example.com for org acme / space dev as ada...
        Route dora.example.com has been updated
        OK
        > PATCH /v3/routes/route-guid {"options":{"hash_header":null,"loadbalancing":"least-connection"}}

        $ cf update-route example.com -n dora
        FAILED
        ! Route option support: 'No options were specified for the update of the Route dora.example.com'
        = 1

        $ cf update-route example.com -n dora -o nonsense
        FAILED
        ! Route option 'nonsense' was specified incorrectly. Please use key-value pair format key=value.
        = 1

        < PATCH /v3/routes/route-guid/destinations/d 200 {}
        $ cf update-destination dora example.com -n dora --app-protocol http2
        Updating destination protocol from  to http2 for route dora.example.com in org acme / space dev as ada...
        OK
        > PATCH /v3/routes/route-guid/destinations/d {"protocol":"http2"}

        $ cf update-destination dora example.com -n dora --app-protocol tcp
        FAILED
        ! Destination protocol must be 'http1' or 'http2'
        = 1
    "#]]).await;
}

#[tokio::test]
async fn a_route_is_shared_and_moved() {
    let world = routed().await;
    world
        .transcript(expect![[r#"
        < POST /v3/routes/route-guid/relationships/shared_spaces 200 {}
        < DELETE /v3/routes/route-guid/relationships/shared_spaces/space-guid 204
        < PATCH /v3/routes/route-guid/relationships/space 200 {}
        $ cf share-route example.com -n dora -s dev
        Sharing route dora.example.com to space dev as ada
        OK
        > POST /v3/routes/route-guid/relationships/shared_spaces {"data":[{"guid":"space-guid"}]}

        $ cf unshare-route example.com -n dora -s dev -o acme
        Unsharing route dora.example.com from space dev as ada
        OK
        > DELETE /v3/routes/route-guid/relationships/shared_spaces/space-guid

        $ cf move-route example.com -n dora -s dev
        Move ownership of route dora.example.com to space dev as ada
        OK
        > PATCH /v3/routes/route-guid/relationships/space {"data":{"guid":"space-guid"}}

        < GET /v3/spaces 200 []
        $ cf move-route example.com -n dora -s nope
        Can not transfer ownership of route:
        FAILED
        ! Space 'nope' not found.
        = 1
    "#]])
        .await;
}
