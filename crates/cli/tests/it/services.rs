//! User-provided services: made, bound to apps and routes, shown.

use expect_test::expect;
use serde_json::{Value, json};

use crate::script::{Answer, World};

fn instance() -> Value {
    json!({ "guid": "instance-guid", "name": "db", "type": "user-provided", "tags": ["a", "b"],
        "syslog_drain_url": "syslog://logs", "route_service_url": null,
        "last_operation": { "type": "create", "state": "succeeded", "created_at": "then", "updated_at": "now" } })
}

fn related(name: &str, guid: &str) -> Value {
    json!({ name: { "data": { "guid": guid } } })
}

/// A world with the app `dora` and the service `db`.
async fn world() -> World {
    let world = World::targeted().await;
    world.with_dora("STARTED");
    world.on("GET /v3/service_instances", Answer::list(json!([instance()])));
    world
}

#[tokio::test]
async fn a_service_is_made_of_what_is_given() {
    let world = world().await;
    world.on("POST /v3/service_instances", Answer::status(201, instance()));
    world.transcript(expect![[r#"
        $ cf cups db -p '{"user":"ada"}' -t 'a, b' -l syslog://logs
        Creating user provided service db in org acme / space dev as ada...
        OK
        > POST /v3/service_instances {"credentials":{"user":"ada"},"name":"db","relationships":{"space":{"data":{"guid":"space-guid"}}},"syslog_drain_url":"syslog://logs","tags":["a","b"],"type":"user-provided"}

        $ cf cups db -p user,password <<< ada\nsecret
        user:
        password:
        Creating user provided service db in org acme / space dev as ada...
        OK
        > POST /v3/service_instances {"credentials":{"password":"secret","user":"ada"},"name":"db","relationships":{"space":{"data":{"guid":"space-guid"}}},"type":"user-provided"}

        < POST /v3/service_instances 422 The service instance name is taken: db.
        $ cf cups db
        Creating user provided service db in org acme / space dev as ada...
        Service instance db already exists
        OK
        > POST /v3/service_instances {"name":"db","relationships":{"space":{"data":{"guid":"space-guid"}}},"type":"user-provided"}
    "#]]).await;
}

#[tokio::test]
async fn a_service_is_changed() {
    let world = world().await;
    world.on("PATCH /v3/service_instances/instance-guid", Answer::ok(instance()));
    world
        .transcript(expect![[r#"
        $ cf uups db -r https://route
        Updating user provided service db in org acme / space dev as ada...
        OK

        TIP: Use 'cf restage' for any bound apps to ensure your env variable changes take effect
        > PATCH /v3/service_instances/instance-guid {"route_service_url":"https://route"}

        $ cf uups db
        Updating user provided service db in org acme / space dev as ada...
        No flags specified. No changes were made.
        OK

        $ cf rename-service db store
        Renaming service db to store in org acme / space dev as ada...
        OK
        > PATCH /v3/service_instances/instance-guid {"name":"store"}

        < GET /v3/service_instances 200 []
        $ cf rename-service nope store
        Renaming service nope to store in org acme / space dev as ada...
        TIP: Use 'cf services' to view all services in this org and space.
        FAILED
        ! Service instance 'nope' not found
        = 1
    "#]])
        .await;
}

#[tokio::test]
async fn services_are_shown_with_their_apps() {
    let world = world().await;
    let mut binding = json!({ "guid": "binding-guid", "name": "primary", "created_at": "then",
        "last_operation": { "type": "create", "state": "succeeded" } });
    binding["relationships"] = related("app", "app-guid");
    binding["relationships"]["service_instance"] = json!({ "data": { "guid": "instance-guid" } });
    let bindings = json!({ "pagination": { "next": null }, "resources": [binding],
        "included": { "apps": [{ "guid": "app-guid", "name": "dora" }] } });
    world.on("GET /v3/service_credential_bindings", Answer::ok(bindings));
    world
        .transcript(expect![[r#"
        $ cf services
        Getting service instances in org acme / space dev as ada...

        name   offering        plan   bound apps   last operation     broker   upgrade available
        db     user-provided          dora         create succeeded

        $ cf services --no-apps
        Getting service instances in org acme / space dev as ada...

        name   offering        plan   last operation     broker   upgrade available
        db     user-provided          create succeeded

        $ cf service db
        Showing info of service db in org acme / space dev as ada...

        name:                db
        guid:                instance-guid
        type:                user-provided
        tags:                a, b
        route service url:
        syslog drain url:    syslog://logs

        Showing status of last operation:
           status:    create succeeded
           message:
           started:   then
           updated:   now

        Showing bound apps:
           name   binding name   status             message   guid           created_at
           dora   primary        create succeeded             binding-guid   then

        $ cf service db --guid
        instance-guid

        < GET /v3/service_instances 200 []
        $ cf services
        Getting service instances in org acme / space dev as ada...

        No service instances found.

        $ cf service nope
        Showing info of service nope in org acme / space dev as ada...

        FAILED
        ! Service instance 'nope' not found
        = 1
    "#]])
        .await;
}

#[tokio::test]
async fn a_service_is_bound_to_an_app() {
    let world = world().await;
    world.transcript(expect![[r#"
        < POST /v3/service_credential_bindings 201 {"guid": "binding-guid"}
        $ cf bind-service dora db --binding-name primary -c '{"a":1}'
        Binding service instance db to app dora in org acme / space dev as ada...
        OK

        TIP: Use 'cf restage dora' to ensure your env variable changes take effect
        > POST /v3/service_credential_bindings {"name":"primary","parameters":{"a":1},"relationships":{"app":{"data":{"guid":"app-guid"}},"service_instance":{"data":{"guid":"instance-guid"}}},"type":"app"}

        < POST /v3/service_credential_bindings 422 The app is already bound to the service instance
        $ cf bind-service dora db
        Binding service instance db to app dora in org acme / space dev as ada...
        App dora is already bound to service instance db.
        OK
        > POST /v3/service_credential_bindings {"relationships":{"app":{"data":{"guid":"app-guid"}},"service_instance":{"data":{"guid":"instance-guid"}}},"type":"app"}

        < GET /v3/service_credential_bindings 200 [{"guid": "binding-guid"}]
        < DELETE /v3/service_credential_bindings/binding-guid 204
        $ cf unbind-service dora db
        Unbinding app dora from service db in org acme / space dev as ada...
        Deleting service binding binding-guid...
        OK
        > DELETE /v3/service_credential_bindings/binding-guid

        $ cf unbind-service dora db --guid other
        Unbinding app dora from service db in org acme / space dev as ada...
        Service binding with GUID other does not exist
        OK

        < GET /v3/service_credential_bindings 200 []
        $ cf unbind-service dora db
        Unbinding app dora from service db in org acme / space dev as ada...
        Binding between db and dora does not exist
        OK
    "#]]).await;
}

#[tokio::test]
async fn a_broker_may_take_its_time() {
    let world = world().await;
    let job = format!("{}/v3/jobs/j", world.url);
    world.on("DELETE /v3/service_instances/instance-guid", Answer::job(&job));
    world.transcript(expect![[r#"
        < GET /v3/jobs/j 200 {"guid": "j", "state": "POLLING"}
        $ cf delete-service db -f
        Deleting service instance db in org acme / space dev as ada...

        Delete in progress. Use 'cf services' or 'cf service db' to check operation status.
        OK
        > DELETE /v3/service_instances/instance-guid

        < GET /v3/jobs/j 200 {"guid": "j", "state": "COMPLETE"}
        $ cf delete-service db -f --wait
        Deleting service instance db in org acme / space dev as ada...

        Service instance db deleted.
        OK
        > DELETE /v3/service_instances/instance-guid

        < GET /v3/jobs/j 200 {"guid": "j", "state": "FAILED", "errors": [{"detail": "the broker refused"}]}
        $ cf delete-service db -f
        Deleting service instance db in org acme / space dev as ada...

        FAILED
        ! Job (j) failed: the broker refused
        > DELETE /v3/service_instances/instance-guid
        = 1

        $ cf delete-service db <<< no
        This action impacts all resources scoped to this service instance, including service bindings, service keys and route bindings.
        This will remove the service instance from any spaces where it has been shared.
        Really delete the service instance db? [yN]: no
        Delete cancelled

        < GET /v3/service_instances 200 []
        $ cf delete-service db -f
        Deleting service instance db in org acme / space dev as ada...

        Service instance db did not exist.
        OK
    "#]]).await;
}

#[tokio::test]
async fn a_route_is_served_by_a_service() {
    let world = world().await;
    world.transcript(expect![[r#"
        < GET /v3/domains 200 [{"guid": "domain-guid", "name": "example.com"}]
        < POST /v3/service_route_bindings 201 {"guid": "binding-guid"}
        $ cf bind-route-service example.com db -n dora --path v2
        Binding route dora.example.com/v2 to service instance db in org acme / space dev as ada...
        OK
        > POST /v3/service_route_bindings {"relationships":{"route":{"data":{"guid":"route-guid"}},"service_instance":{"data":{"guid":"instance-guid"}}}}

        < GET /v3/service_route_bindings 200 [{"guid": "binding-guid"}]
        < DELETE /v3/service_route_bindings/binding-guid 204
        $ cf unbind-route-service example.com db -n dora <<< n
        Really unbind route dora.example.com from service instance db? [yN]: n
        Unbind cancelled

        $ cf unbind-route-service example.com db -n dora -f
        Unbinding route dora.example.com from service instance db in org acme / space dev as ada...
        OK
        > DELETE /v3/service_route_bindings/binding-guid

        < GET /v3/service_route_bindings 200 []
        $ cf unbind-route-service example.com db -n dora -f
        Unbinding route dora.example.com from service instance db in org acme / space dev as ada...
        Route dora.example.com was not bound to service instance db.
        OK

        < GET /v3/routes 200 []
        $ cf bind-route-service example.com db -n nope
        Binding route nope.example.com to service instance db in org acme / space dev as ada...
        FAILED
        ! Route with host 'nope', domain 'example.com', and path '/' not found.
        = 1
    "#]]).await;
}

#[tokio::test]
async fn the_marketplace_shows_offerings_and_plans() {
    let world = world().await;
    let mut plan = json!({ "name": "small", "description": "One", "free": false, "available": true,
        "costs": [{ "amount": 9.5, "currency": "EUR", "unit": "MONTH" }] });
    plan["relationships"] = related("service_offering", "offering-guid");
    let mut offering =
        json!({ "guid": "offering-guid", "name": "db", "description": "A database" });
    offering["relationships"] = related("service_broker", "broker-guid");
    let plans = json!({ "pagination": { "next": null }, "resources": [plan], "included": {
        "service_offerings": [offering], "service_brokers": [{ "guid": "broker-guid", "name": "acme-broker" }] } });
    world.on("GET /v3/service_plans", Answer::ok(plans));
    world.transcript(expect![[r#"
        $ cf marketplace
        Getting all service offerings from marketplace in org acme / space dev as ada...

        offering   plans   description   broker
        db         small   A database    acme-broker

        TIP: Use 'cf marketplace -e SERVICE_OFFERING' to view descriptions of individual plans of a given service offering.

        $ cf m -e db -b acme-broker --show-unavailable
        Getting service plan information for service offering db from service broker acme-broker in org acme / space dev as ada...

        broker: acme-broker
           plan    description   free or paid   costs            available
           small   One           paid           EUR 9.50/MONTH   yes

        $ cf marketplace --no-plans -e db
        FAILED

        (help: marketplace - List available offerings in the marketplace)
        ! Incorrect Usage: The following arguments cannot be used together: --no-plans, -e
        = 1

        < GET /v3/service_plans 200 []
        $ cf marketplace
        Getting all service offerings from marketplace in org acme / space dev as ada...

        No service offerings found.
    "#]]).await;
}
