//! TCP domains and routes, and the Routing API whose ports they have.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request};
use diego::DesiredLrp;
use expect_test::expect;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::manifests::apply;
use super::shape::shape;
use crate::harness::{self, Answer, Client, Harness};
use crate::push::running;

const GROUPS: &str = "/routing/v1/router_groups";
const ALL: &str = "root:routing.router_groups.read,routing.router_groups.write,routing.routes.read,routing.routes.write";

/// The guid of the group that is there from the start.
async fn group(harness: &Harness) -> String {
    let found = harness.user(ALL).get(&format!("{GROUPS}?name=default-tcp")).await.expect(200);
    found[0]["guid"].as_str().unwrap().to_owned()
}

async fn set_ports(harness: &Harness, ports: &str) {
    let path = format!("{GROUPS}/{}", group(harness).await);
    let body = json!({ "reservable_ports": ports });
    harness.user(ALL).send(Method::PUT, &path, Some(body)).await.expect(200);
}

async fn domain(harness: &Harness, name: &str) -> String {
    let body = json!({ "name": name, "router_group": { "guid": group(harness).await } });
    let made = harness.admin().post("/v3/domains", body).await.expect(201);
    made["guid"].as_str().unwrap().to_owned()
}

fn body(domain: &str, port: Option<Value>) -> Value {
    let mut body = json!({
        "relationships": { "space": { "data": { "guid": "space-space" } }, "domain": { "data": { "guid": domain } } },
    });
    if let Some(port) = port {
        body["port"] = port;
    }
    body
}

async fn make(client: &Client, domain: &str, port: Option<Value>) -> Answer {
    client.post("/v3/routes", body(domain, port)).await
}

/// `404 ResourceNotFoundError: router group …`.
fn told(answer: &Answer) -> String {
    let text = |key: &str| answer.body[key].as_str().unwrap_or("?").to_owned();
    format!("{} {}: {}", answer.status.as_u16(), text("name"), text("message"))
}

#[tokio::test]
async fn router_groups_are_read_and_changed_by_scope() {
    for harness in harness::all().await {
        let all = harness.user(ALL);
        let list = all.get(GROUPS).await.expect(200);
        expect![[r#"
            [
              {
                "guid": "<1>",
                "name": "default-tcp",
                "reservable_ports": "1024-1123",
                "type": "tcp"
              }
            ]"#]]
        .assert_eq(&shape(&list));
        let path = format!("{GROUPS}/{}", group(&harness).await);
        assert_eq!(all.get(&path).await.expect(200), list[0]);
        let put = async |ports: &str| {
            all.send(Method::PUT, &path, Some(json!({ "reservable_ports": ports }))).await
        };
        let changed = put("2000-2009,3000").await;
        assert!(changed.headers["x-cf-warnings"].to_str().unwrap().starts_with("Warning%3A+if"));
        assert_eq!(changed.expect(200)["reservable_ports"], "2000-2009,3000");

        let mut said = String::new();
        for ports in ["", "80", "2000-2009,2005", "5-4-3"] {
            said += &format!("{}\n", told(&put(ports).await));
        }
        for (name, kind, ports) in [
            ("", "tcp", "1024"),
            ("x", "", "1024"),
            ("x", "http", "1024"),
            ("default-tcp", "http", ""),
        ] {
            let body = json!({ "name": name, "type": kind, "reservable_ports": ports });
            said += &format!("{}\n", told(&all.post(GROUPS, body).await));
        }
        said += &format!("{}\n", told(&all.get(&format!("{GROUPS}?name=nope")).await));
        said += &format!("{}\n", told(&all.get(&format!("{GROUPS}/nope")).await));
        said += &format!("{}\n", told(&all.get("/routing/v1/nope").await));
        said += &format!("{}\n", told(&all.get("/routing/v1/routes").await));
        said += &format!("{}\n", told(&all.post("/routing/v1/tcp_routes/create", json!([])).await));
        said += &format!("{}\n", told(&harness.nobody().get(GROUPS).await));
        said += &format!("{}\n", told(&harness.user("expired").get(GROUPS).await));
        said += &format!("{}\n", told(&harness.admin().get(GROUPS).await));
        let reader = harness.user("r:routing.router_groups.read");
        reader.get(GROUPS).await.expect(200);
        said += &format!("{}\n", told(&reader.delete(&path).await));
        said += &format!("{}\n", told(&reader.get("/routing/v1/tcp_routes").await));
        expect![[r#"
            400 ProcessRequestError: Cannot process request: missing reservable_ports in router group: default-tcp
            400 ProcessRequestError: Cannot process request: port must be between 1024 and 65535
            400 ProcessRequestError: Cannot process request: Overlapping values: [2000-2009] and 2005
            400 ProcessRequestError: Cannot process request: range (5-4-3) has too many '-' separators
            400 ProcessRequestError: Cannot process request: missing name in router group
            400 ProcessRequestError: Cannot process request: missing type in router group
            400 ProcessRequestError: Cannot process request: reservable ports are not supported for router groups of type http
            400 ProcessRequestError: Cannot process request: router group 'default-tcp' has the type tcp
            404 ResourceNotFoundError: router group 'nope' not found
            404 ResourceNotFoundError: router group 'nope' does not exist
            404 ResourceNotFoundError: Unknown request
            501 ProcessRequestError: Cannot process request: routes are made and told by the platform itself: map a route to an app, and read HTTP routes from /v3/routes
            501 ProcessRequestError: Cannot process request: routes are made and told by the platform itself: map a route to an app, and read HTTP routes from /v3/routes
            401 UnauthorizedError: invalid token format
            401 UnauthorizedError: Token is expired
            401 UnauthorizedError: You are not authorized to perform the requested action
            401 UnauthorizedError: You are not authorized to perform the requested action
            401 UnauthorizedError: You are not authorized to perform the requested action
        "#]].assert_eq(&said);

        // The same again is the one that is there; another one is made and goes.
        let body = json!({ "name": "default-tcp", "type": "tcp", "reservable_ports": "9000" });
        assert_eq!(all.post(GROUPS, body).await.expect(200)["reservable_ports"], "2000-2009,3000");
        let made = all.post(GROUPS, json!({ "name": "web", "type": "http" })).await.expect(201);
        let made = format!("{GROUPS}/{}", made["guid"].as_str().unwrap());
        all.delete(&made).await.expect(204);
        all.delete(&made).await.expect(404);
    }
}

#[tokio::test]
async fn the_operators_ports_hold_until_the_api_says_other_ones() {
    for db in sql::testing::databases().await {
        let ports = async |setting: &str| {
            let mut config = harness::config();
            config.tcp_ports = setting.parse().ok();
            let harness = Harness::open_with(db.clone(), config).await;
            let list = harness.user(ALL).get(GROUPS).await.expect(200);
            let told = list[0]["reservable_ports"].as_str().unwrap_or("none").to_owned();
            (harness, told)
        };
        // Without a setting there is no group.
        assert_eq!(ports("").await.1, "none");
        assert_eq!(ports("1024-1123").await.1, "1024-1123");
        let (harness, told) = ports("2000-2010").await;
        assert_eq!(told, "2000-2010");
        set_ports(&harness, "3000").await;
        drop(harness);
        assert_eq!(ports("2000-2010").await.1, "3000", "the setting is as it was");
        assert_eq!(ports("2000-2011").await.1, "2000-2011");
    }
}

#[tokio::test]
async fn a_domain_of_a_tcp_group_is_a_tcp_domain() {
    for harness in harness::all().await {
        let admin = harness.admin();
        harness.space("org", "space").await;
        let guid = domain(&harness, "tcp.example.com").await;
        expect![[r#"
            {
              "created_at": "2026-01-31T12:00:00Z",
              "guid": "<1>",
              "internal": false,
              "links": {
                "route_reservations": {
                  "href": "http://api.test/v3/domains/<1>/route_reservations"
                },
                "router_group": {
                  "href": "http://api.test/routing/v1/router_groups/<2>"
                },
                "self": {
                  "href": "http://api.test/v3/domains/<1>"
                }
              },
              "metadata": {
                "annotations": {},
                "labels": {}
              },
              "name": "tcp.example.com",
              "relationships": {
                "organization": {
                  "data": null
                },
                "shared_organizations": {
                  "data": []
                }
              },
              "router_group": {
                "guid": "<2>"
              },
              "supported_protocols": [
                "tcp"
              ],
              "updated_at": "2026-01-31T12:00:00Z"
            }"#]]
        .assert_eq(&shape(&admin.get(&format!("/v3/domains/{guid}")).await.expect(200)));
        let mut said = String::new();
        let group = group(&harness).await;
        for (field, value) in [
            ("router_group", json!({ "guid": "nope" })),
            ("router_group", json!({ "guid": 7, "name": "x" })),
            ("router_group", json!("default-tcp")),
            ("internal", json!(true)),
            ("enforce_route_policies", json!(true)),
            ("relationships", json!({ "organization": { "data": { "guid": "org-org" } } })),
        ] {
            let mut body = json!({ "name": "t.example.com", "router_group": { "guid": group } });
            body[field] = value;
            if field == "enforce_route_policies" {
                body["route_policies_scope"] = "any".into();
            }
            said += &format!("{}\n", admin.post("/v3/domains", body).await.error());
        }
        expect![[r#"
            422 CF-UnprocessableEntity: Router group with guid 'nope' not found.
            422 CF-UnprocessableEntity: Router group Unknown field(s): 'name', Router group guid must be a string
            422 CF-UnprocessableEntity: Router group must be an object
            422 CF-UnprocessableEntity: Internal domains cannot be associated to a router group.
            422 CF-UnprocessableEntity: Domains with a router group cannot have route policy enforcement. TCP routes do not support mTLS policy enforcement.
            422 CF-UnprocessableEntity: Domains scoped to an organization cannot be associated to a router group.
        "#]].assert_eq(&said);
        // A group of HTTP changes nothing about the protocol.
        let http = json!({ "name": "web", "type": "http" });
        let http = harness.user(ALL).post(GROUPS, http).await.expect(201);
        let body = json!({ "name": "h.example.com", "router_group": { "guid": http["guid"] } });
        let made = admin.post("/v3/domains", body).await.expect(201);
        assert_eq!(made["supported_protocols"], json!(["http"]));
        let mut route = body_of_host(made["guid"].as_str().unwrap());
        assert_eq!(admin.post("/v3/routes", route.clone()).await.expect(201)["protocol"], "http");
        route["host"] = "b".into();
        route["port"] = 1024.into();
        expect!["422 CF-UnprocessableEntity: Routes with protocol 'http' do not support ports."]
            .assert_eq(&admin.post("/v3/routes", route).await.error());
    }
}

/// The app's web process at Diego: of its processes the one with an instance.
async fn started(harness: &Harness) -> Arc<DesiredLrp> {
    harness.bbs.desired_when(|all| all.iter().find(|lrp| lrp.instances == 1).cloned()).await
}

fn body_of_host(domain: &str) -> Value {
    let mut route = body(domain, None);
    route["host"] = "a".into();
    route
}

#[tokio::test]
async fn a_tcp_route_has_the_port_that_was_asked_for_or_a_free_one() {
    for harness in harness::all().await {
        let admin = harness.admin();
        harness.space("org", "space").await;
        set_ports(&harness, "1024-1026").await;
        let tcp = domain(&harness, "tcp.example.com").await;
        let made = make(&admin, &tcp, Some(json!(1024))).await.expect(201);
        let told = |route: &Value| {
            ["url", "protocol", "port", "host", "path"].map(|key| route[key].to_string()).join(" ")
        };
        assert_eq!(told(&made), r#""tcp.example.com:1024" "tcp" 1024 "" """#);
        let mut chosen: Vec<i64> = Vec::new();
        for _ in 0..2 {
            chosen.push(make(&admin, &tcp, None).await.expect(201)["port"].as_i64().unwrap());
        }
        chosen.sort_unstable();
        assert_eq!(chosen, [1025, 1026]);

        let mut said = format!("{}\n", make(&admin, &tcp, None).await.error());
        for port in [json!(1024), json!(1027), json!(0), Value::Null, json!(70000), json!("x")] {
            said += &format!("{}\n", make(&admin, &tcp, Some(port)).await.error());
        }
        let other = domain(&harness, "other.example.com").await;
        said += &format!("{}\n", make(&admin, &other, Some(json!(1024))).await.error());
        for (field, value) in [("host", "a"), ("path", "/a")] {
            let mut wrong = body(&tcp, Some(json!(1026)));
            wrong[field] = value.into();
            said += &format!("{}\n", admin.post("/v3/routes", wrong).await.error());
        }
        expect![[r#"
            422 CF-UnprocessableEntity: There are no more ports available for this domain.
            422 CF-UnprocessableEntity: Route already exists with port '1024' for domain 'tcp.example.com'.
            422 CF-UnprocessableEntity: Port '1027' is not available. Try a different port or use a different domain.
            422 CF-UnprocessableEntity: Routes with protocol 'tcp' must specify a port.
            422 CF-UnprocessableEntity: Routes with protocol 'tcp' must specify a port.
            422 CF-UnprocessableEntity: Port must be less than or equal to 65535
            422 CF-UnprocessableEntity: Port is not a number
            422 CF-UnprocessableEntity: Port '1024' is not available. Try a different port or use a different domain.
            422 CF-UnprocessableEntity: Hosts are not supported for TCP routes.
            422 CF-UnprocessableEntity: Paths are not supported for TCP routes.
        "#]].assert_eq(&said);

        for (filter, want) in [
            ("ports=1024", "1024"),
            ("ports=1025,1026&hosts=&paths=", "1025 1026"),
            ("ports=9", ""),
        ] {
            let found = admin
                .get(&format!("/v3/routes?domain_guids={tcp}&{filter}&order_by=created_at"))
                .await;
            let mut ports: Vec<String> =
                found.column("port").split(' ').map(str::to_owned).collect();
            ports.sort();
            assert_eq!(ports.join(" "), want, "{filter}");
        }
        let reserved = async |port: u16| {
            let path = format!("/v3/domains/{tcp}/route_reservations?port={port}");
            admin.get(&path).await.expect(200)["matching_route"].clone()
        };
        assert_eq!((reserved(1024).await, reserved(1027).await), (json!(true), json!(false)));
        // What is deleted is free again, and a group that is gone has none.
        let path = format!("/v3/routes/{}", made["guid"].as_str().unwrap());
        admin.delete(&path).await.job();
        assert_eq!(make(&admin, &other, None).await.expect(201)["port"], 1024);
        harness.user(ALL).delete(&format!("{GROUPS}/{}", group(&harness).await)).await.expect(204);
        expect!["422 CF-UnprocessableEntity: Route could not be created because the specified domain does not have a valid router group."].assert_eq(&make(&admin, &tcp, None).await.error());
    }
}

#[tokio::test]
async fn quotas_count_ports() {
    for harness in harness::all().await {
        let admin = harness.admin();
        harness.space("org", "space").await;
        let tcp = domain(&harness, "tcp.example.com").await;
        harness.sql("UPDATE organization_quotas SET total_reserved_ports = 2").await;
        let quota = json!({ "name": "small", "routes": { "total_reserved_ports": 1 }, "relationships": {
            "organization": { "data": { "guid": "org-org" } }, "spaces": { "data": [{ "guid": "space-space" }] } } });
        let quota = admin.post("/v3/space_quotas", quota).await.expect(201);
        make(&admin, &tcp, None).await.expect(201);
        let mut said = format!("{}\n", make(&admin, &tcp, None).await.error());
        let path = format!("/v3/space_quotas/{}", quota["guid"].as_str().unwrap());
        let more = json!({ "routes": { "total_reserved_ports": null } });
        admin.patch(&path, more).await.expect(200);
        make(&admin, &tcp, Some(json!(1100))).await.expect(201);
        said += &format!("{}\n", make(&admin, &tcp, None).await.error());
        expect![[r#"
            422 CF-UnprocessableEntity: Reserved route ports quota exceeded for space 'space'.
            422 CF-UnprocessableEntity: Reserved route ports quota exceeded for organization 'org'.
        "#]]
        .assert_eq(&said);
        // Routes without ports are another matter.
        let web = super::routes::domain(&harness).await;
        admin.post("/v3/routes", body_of_host(&web)).await.expect(201);
        let usage = admin.get("/v3/organizations/org-org/usage_summary").await.expect(200);
        assert_eq!(usage["usage_summary"]["reserved_ports"], 2);
    }
}

#[tokio::test]
async fn destinations_speak_tcp_to_the_apps_port() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        let tcp = domain(&harness, "tcp.example.com").await;
        let route = make(&admin, &tcp, Some(json!(1024))).await.expect(201);
        let guid = route["guid"].as_str().unwrap();
        let destinations = format!("/v3/routes/{guid}/destinations");
        let to = |protocol: Option<&str>| {
            let mut to = json!({ "app": { "guid": app }, "port": 7000 });
            if let Some(protocol) = protocol {
                to["protocol"] = protocol.into();
            }
            json!({ "destinations": [to] })
        };
        let mut said = format!("{}\n", admin.post(&destinations, to(Some("http1"))).await.error());
        let made = admin.post(&destinations, to(None)).await.expect(200);
        let made = &made["destinations"][0];
        assert_eq!((&made["protocol"], &made["port"]), (&json!("tcp"), &json!(7000)));
        let one = format!("{destinations}/{}", made["guid"].as_str().unwrap());
        said += &format!("{}\n", admin.patch(&one, json!({ "protocol": "http2" })).await.error());
        let web = super::routes::domain(&harness).await;
        let http = admin.post("/v3/routes", body_of_host(&web)).await.expect(201);
        let http = format!("/v3/routes/{}/destinations", http["guid"].as_str().unwrap());
        said += &format!("{}\n", admin.post(&http, to(Some("tcp"))).await.error());
        expect![[r#"
            422 CF-UnprocessableEntity: Cannot use 'http1' protocol for tcp routes; valid options are: [tcp].
            422 CF-UnprocessableEntity: Destination protocol must be 'tcp' if the parent route's protocol is 'tcp'
            422 CF-UnprocessableEntity: Cannot use 'tcp' protocol for http routes; valid options are: [http1, http2].
        "#]].assert_eq(&said);

        admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
        let lrp = started(&harness).await;
        let port = json!([{ "router_group_guid": group(&harness).await, "external_port": 1024, "container_port": 7000 }]);
        assert_eq!(lrp.routes["tcp-router"], port);
        assert_eq!(lrp.run.ports, [7000]);
        let environment = admin.get(&format!("/v3/apps/{app}/env")).await.expect(200);
        let uris = &environment["application_env_json"]["VCAP_APPLICATION"]["uris"];
        assert_eq!(uris, &json!(["tcp.example.com:1024"]));
        // The app goes on without its route.
        let lrp_guid = lrp.process_guid.clone();
        admin.delete(&format!("/v3/routes/{guid}")).await.job();
        harness
            .bbs
            .desired_when(|all| {
                let web = all.iter().find(|lrp| lrp.process_guid == lrp_guid)?;
                (!web.routes.contains_key("tcp-router")).then_some(())
            })
            .await;
    }
}

#[tokio::test]
async fn manifests_name_ports() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        domain(&harness, "tcp.example.com").await;
        let manifest =
            |route: &str| format!("applications:\n- name: dora\n  routes:\n  - route: {route}\n");
        for _ in 0..2 {
            let job = apply(&admin, &space, &manifest("tcp.example.com:1030")).await;
            assert_eq!(job["state"], "COMPLETE", "{job}");
        }
        let app = admin.get("/v3/apps?names=dora").await.column("guid");
        let routes = admin.get(&format!("/v3/apps/{app}/routes")).await;
        assert_eq!(routes.column("url"), "tcp.example.com:1030");
        let shown = admin.get(&format!("/v3/apps/{app}/manifest")).await;
        let shown = String::from_utf8(shown.bytes).unwrap();
        assert!(shown.contains("  - route: tcp.example.com:1030\n    protocol: tcp\n"), "{shown}");
        let mut said = String::new();
        for route in [
            "tcp.example.com",
            "tcp.example.com:80",
            "dora.apps.test:1031",
            "tcp.example.com:1032/x",
        ] {
            let job = apply(&admin, &space, &manifest(route)).await;
            said += &format!("{} {}\n", job["state"], job["errors"][0]["detail"]);
        }
        expect![[r#"
            "FAILED" "For application 'dora': For route 'tcp.example.com': Routes with protocol 'tcp' must specify a port."
            "FAILED" "For application 'dora': For route 'tcp.example.com:80': Port '80' is not available. Try a different port or use a different domain."
            "FAILED" "For application 'dora': For route 'dora.apps.test:1031': Routes with protocol 'http' do not support ports."
            "FAILED" "For application 'dora': For route 'tcp.example.com:1032/x': Paths are not supported for TCP routes."
        "#]].assert_eq(&said);
    }
}

#[tokio::test]
async fn tcp_routes_are_told_with_their_backends_and_as_they_change() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let all = harness.user(ALL);
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        let tcp = domain(&harness, "tcp.example.com").await;
        let route = make(&admin, &tcp, Some(json!(1024))).await.expect(201);
        let to = json!({ "destinations": [{ "app": { "guid": app } }] });
        let destinations = format!("/v3/routes/{}/destinations", route["guid"].as_str().unwrap());
        let to = admin.post(&destinations, to).await.expect(200);
        admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
        let lrp = started(&harness).await;
        assert_eq!(all.get("/routing/v1/tcp_routes").await.expect(200), json!([]));

        let request = Request::get("/routing/v1/tcp_routes/events")
            .header("authorization", format!("bearer {ALL}"))
            .body(Body::empty())
            .unwrap();
        let response = harness.cc.router().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut events = response.into_body().into_data_stream();
        let mut next = async || loop {
            let event = tokio::time::timeout(std::time::Duration::from_secs(30), events.next());
            let event = event.await.unwrap().unwrap().unwrap();
            // A line that begins so says only that the stream lives.
            if !event.starts_with(b":") {
                break String::from_utf8(event.to_vec()).unwrap();
            }
        };
        harness.bbs.set_actual(running(lrp.process_guid.as_str(), 0));
        let event = next().await;
        assert!(event.contains("event: Upsert\n") && event.contains(r#""port":1024"#), "{event}");
        let mut list = all.get("/routing/v1/tcp_routes").await.expect(200);
        // Chance.
        list[0]["modification_tag"]["guid"] = Value::Null;
        expect![[r#"
            [
              {
                "backend_ip": "10.0.0.1",
                "backend_port": 61001,
                "backend_tls_port": -1,
                "instance_id": "instance-0",
                "isolation_segment": "",
                "modification_tag": {
                  "guid": null,
                  "index": 0
                },
                "port": 1024,
                "router_group_guid": "<1>",
                "ttl": 120
              }
            ]"#]]
        .assert_eq(&shape(&list));
        for (segment, count) in [("", 1), ("other", 0)] {
            let path = format!("/routing/v1/tcp_routes?isolation_segment={segment}");
            assert_eq!(all.get(&path).await.expect(200).as_array().unwrap().len(), count);
        }
        let one = to["destinations"][0]["guid"].as_str().unwrap();
        admin.delete(&format!("{destinations}/{one}")).await.expect(204);
        let event = next().await;
        assert!(event.contains("event: Delete\n") && event.contains(r#""port":1024"#), "{event}");
    }
}
