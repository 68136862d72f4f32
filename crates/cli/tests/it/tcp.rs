//! Router groups, TCP domains and TCP routes.

use expect_test::expect;
use serde_json::{Value, json};

use crate::script::{Answer, World};

/// A world with a Routing API, where somebody is logged in.
async fn world() -> World {
    let world = World::start().await;
    let (url, link) = (world.url.clone(), |href: String| json!({ "href": href }));
    let root = json!({ "links": {
        "self": link(url.clone()), "cloud_controller_v3": { "href": format!("{url}/v3"), "meta": { "version": "3.228.0" } },
        "login": link(url.clone()), "uaa": link(url.clone()), "log_cache": link(url.clone()), "logging": null,
        "routing": link(format!("{url}/routing")),
    } });
    world.replace("GET /", Answer::ok(root));
    let ran = world.cf(&["login", "-a", &world.url, "-u", "ada", "-p", "secret"]).await;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    world.forget();
    world
}

fn domain() -> Value {
    json!([{ "guid": "domain-guid", "name": "tcp.example.com", "supported_protocols": ["tcp"],
        "router_group": { "guid": "group-guid" }, "relationships": { "organization": { "data": null } } }])
}

fn route(destinations: Value) -> Value {
    json!({ "guid": "route-guid", "host": "", "path": "", "port": 1024, "protocol": "tcp", "url": "tcp.example.com:1024",
        "destinations": destinations, "relationships": { "domain": { "data": { "guid": "domain-guid" } }, "space": { "data": { "guid": "space-guid" } } } })
}

#[tokio::test]
async fn router_groups_are_listed_and_chosen_by_name() {
    let world = world().await;
    let group = json!([{ "guid": "group-guid", "name": "default-tcp", "type": "tcp", "reservable_ports": "1024-1123" }]);
    world.on("GET /routing/v1/router_groups", Answer::ok(group));
    let missing =
        json!({ "name": "ResourceNotFoundError", "message": "router group 'nope' not found" });
    world.transcript(expect![[r#"
        < POST /v3/domains 201 {}
        $ cf router-groups
        Getting router groups as ada...

        name          type
        default-tcp   tcp

        $ cf create-shared-domain tcp.example.com --router-group default-tcp
        Creating shared domain tcp.example.com as ada...
        OK

        TIP: Domain 'tcp.example.com' is shared with all orgs. Run 'cf domains' to view available domains.
        > POST /v3/domains {"internal":false,"name":"tcp.example.com","router_group":{"guid":"group-guid"}}
    "#]]).await;
    world.replace("GET /routing/v1/router_groups", Answer::status(404, missing));
    let refused = json!({ "name": "UnauthorizedError", "message": "You are not authorized to perform the requested action" });
    world
        .transcript(expect![[r#"
        $ cf create-shared-domain tcp.example.com --router-group nope
        Creating shared domain tcp.example.com as ada...
        FAILED
        ! Router group 'nope' not found.
        = 1
    "#]])
        .await;
    world.replace("GET /routing/v1/router_groups", Answer::status(401, refused));
    world
        .transcript(expect![[r#"
        $ cf router-groups
        Getting router groups as ada...

        FAILED
        ! You are not authorized to perform the requested action
        = 1
    "#]])
        .await;
    world.replace("GET /routing/v1/router_groups", Answer::ok(json!([])));
    world
        .transcript(expect![[r#"
        $ cf router-groups
        Getting router groups as ada...

        No router groups found.
    "#]])
        .await;
}

#[tokio::test]
async fn tcp_routes_are_told_apart_by_their_ports() {
    let world = world().await;
    world.on("GET /v3/domains", Answer::list(domain()));
    world.on("POST /v3/routes", Answer::status(201, route(json!([]))));
    world.transcript(expect![[r#"
        < GET /v3/apps 200 [{"guid": "app-guid", "name": "dora"}]
        < GET /v3/routes 200 []
        < POST /v3/routes/route-guid/destinations 200 {}
        $ cf create-route tcp.example.com
        Creating route tcp.example.com for org acme / space dev as ada...
        Route tcp.example.com:1024 has been created.
        OK
        > POST /v3/routes {"relationships":{"domain":{"data":{"guid":"domain-guid"}},"space":{"data":{"guid":"space-guid"}}}}

        $ cf create-route tcp.example.com --port 1024
        Creating route tcp.example.com:1024 for org acme / space dev as ada...
        Route tcp.example.com:1024 has been created.
        OK
        > POST /v3/routes {"port":1024,"relationships":{"domain":{"data":{"guid":"domain-guid"}},"space":{"data":{"guid":"space-guid"}}}}

        $ cf create-route tcp.example.com --port 0
        Creating route tcp.example.com for org acme / space dev as ada...
        Route tcp.example.com:1024 has been created.
        OK
        > POST /v3/routes {"relationships":{"domain":{"data":{"guid":"domain-guid"}},"space":{"data":{"guid":"space-guid"}}}}
    "#]]).await;
    let queried = || world.asked("GET /v3/routes")[0].query.clone();
    world.transcript(expect![[r#"
        $ cf map-route dora tcp.example.com
        Creating route tcp.example.com for org acme / space dev as ada...
        OK

        Mapping route tcp.example.com:1024 to app dora in org acme / space dev as ada...
        OK
        > POST /v3/routes {"relationships":{"domain":{"data":{"guid":"domain-guid"}},"space":{"data":{"guid":"space-guid"}}}}
        > POST /v3/routes/route-guid/destinations {"destinations":[{"app":{"guid":"app-guid"}}]}
    "#]]).await;
    assert!(queried().contains("ports=0"), "none that is there is meant: {}", queried());
    world
        .transcript(expect![[r#"
        $ cf delete-route tcp.example.com --port 1024 -f
        This action impacts all apps using this route.
        Deleting this route will make apps unreachable via this route.
        Deleting route tcp.example.com:1024...
        Unable to delete. Route with domain 'tcp.example.com' and port 1024 not found.
        OK
    "#]])
        .await;
    assert!(queried().contains("ports=1024"), "{}", queried());

    let to = json!([{ "guid": "destination-guid", "app": { "guid": "app-guid", "process": { "type": "web" } }, "port": 8080, "protocol": "tcp" }]);
    let list = json!({ "pagination": { "next": null }, "resources": [route(to)], "included": {
        "domains": domain(), "spaces": [{ "guid": "space-guid", "name": "dev" }] } });
    world.replace("GET /v3/routes", Answer::ok(list));
    let reserved = Answer::ok(json!({ "matching_route": true }));
    world.on("GET /v3/domains/domain-guid/route_reservations", reserved);
    let taken = Answer::refusal(
        422,
        "CF-UnprocessableEntity",
        "Route already exists with port '1024' for domain 'tcp.example.com'.",
    );
    world.transcript(expect![[r#"
        < DELETE /v3/routes/route-guid/destinations/destination-guid 204
        < DELETE /v3/routes/route-guid 204
        < GET /v3/service_route_bindings 200 []
        $ cf routes
        Getting routes for org acme / space dev as ada...

        space   host   domain            port   path   protocol   app-protocol   app-port   apps   service instance   options
        dev            tcp.example.com   1024          tcp        tcp            8080       dora

        $ cf route tcp.example.com --port 1024
        Showing route tcp.example.com:1024 in org acme / space dev as ada...

        domain:     tcp.example.com
        host:
        port:       1024
        path:
        protocol:   tcp
        options:

        Destinations:
        	app    process   port   app-protocol
        	dora   web       8080   tcp

        $ cf check-route tcp.example.com --port 1024
        Checking for route...
        Route 'tcp.example.com:1024' does exist.
        OK

        $ cf unmap-route dora tcp.example.com --port 1024
        Removing route tcp.example.com:1024 from app dora in org acme / space dev as ada...
        OK
        > DELETE /v3/routes/route-guid/destinations/destination-guid

        $ cf delete-route tcp.example.com --port 1024 -f
        This action impacts all apps using this route.
        Deleting this route will make apps unreachable via this route.
        Deleting route tcp.example.com:1024...
        OK
        > DELETE /v3/routes/route-guid
    "#]]).await;
    world.replace("POST /v3/routes", taken);
    let taken = Answer::refusal(
        422,
        "CF-UnprocessableEntity",
        "Port '80' is not available. Try a different port or use a different domain.",
    );
    world.transcript(expect![[r#"
        $ cf create-route tcp.example.com --port 1024
        Creating route tcp.example.com:1024 for org acme / space dev as ada...
        OK
        ! Route already exists with port '1024' for domain 'tcp.example.com'.
        > POST /v3/routes {"port":1024,"relationships":{"domain":{"data":{"guid":"domain-guid"}},"space":{"data":{"guid":"space-guid"}}}}
    "#]]).await;
    world.replace("POST /v3/routes", taken);
    world.transcript(expect![[r#"
        $ cf create-route tcp.example.com --port 80
        Creating route tcp.example.com:80 for org acme / space dev as ada...
        FAILED
        ! Port '80' is not available. Try a different port or use a different domain.
        > POST /v3/routes {"port":80,"relationships":{"domain":{"data":{"guid":"domain-guid"}},"space":{"data":{"guid":"space-guid"}}}}
        = 1
    "#]]).await;
}
