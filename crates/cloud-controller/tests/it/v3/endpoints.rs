//! Every endpoint of the API, asked wrongly: whatever is sent, the answer is one of Cloud Foundry's errors, and the platform's own never.

use std::collections::BTreeMap;

use axum::http::Method;
use serde_json::{Value, json};

use crate::harness::{self, Answer, Client, Harness};

const ENDPOINTS: &str = include_str!("endpoints.tsv");

/// What this platform does not have (yet): asked for, they are unknown.
const ABSENT: &[&str] = &[
    "POST /v3/admin/actions/clear_buildpack_cache",
    "POST /v3/app_usage_events/actions/destructively_purge_all_and_reseed",
    "GET /v3/info/usage_summary",
    "GET /v3/route_policies",
    "POST /v3/route_policies",
    "GET /v3/route_policies/:guid",
    "PATCH /v3/route_policies/:guid",
    "POST /v3/service_brokers",
    "PATCH /v3/service_brokers/:guid",
    "PATCH /v3/service_offerings/:guid",
    "PATCH /v3/service_plans/:guid/visibility",
    "POST /v3/service_plans/:guid/visibility",
    "PATCH /v3/service_plans/:guid",
    "POST /v3/service_usage_events/actions/destructively_purge_all_and_reseed",
    "PATCH /v3/internal/builds/:guid",
    "DELETE /v3/route_policies/:guid",
    "DELETE /v3/service_brokers/:guid",
    "DELETE /v3/service_instances/:guid/relationships/shared_spaces/:space_guid",
    "DELETE /v3/service_offerings/:guid",
    "DELETE /v3/service_plans/:guid/visibility/:organization_guid",
    "DELETE /v3/service_plans/:guid",
];

struct Endpoint {
    method: Method,
    path: &'static str,
    fields: Vec<&'static str>,
    query: Vec<&'static str>,
}

impl Endpoint {
    fn read(line: &'static str) -> Endpoint {
        let columns: Vec<&str> = line.split('\t').collect();
        let list = |text: &'static str| text.split(',').filter(|name| *name != "-").collect();
        Endpoint {
            method: columns[0].parse().unwrap(),
            path: columns[1],
            fields: list(columns[2]),
            query: list(columns[3]),
        }
    }

    /// The path with each name in it replaced: what follows a collection by one of its members.
    fn at(&self, name: impl Fn(&str, &str) -> String) -> String {
        let mut before = "";
        let mut path = String::new();
        for part in self.path.split('/').skip(1) {
            path.push('/');
            match part.strip_prefix(':') {
                Some(kind) => path.push_str(&name(before, kind)),
                None => path.push_str(part),
            }
            before = part;
        }
        path
    }
}

/// In the order in which what is deleted is not missed.
fn endpoints() -> Vec<Endpoint> {
    let mut all: Vec<Endpoint> = ENDPOINTS.lines().skip(1).map(Endpoint::read).collect();
    all.sort_by_key(|one| one.method == Method::DELETE);
    all
}

/// One of everything, by the collection's name.
struct World(BTreeMap<String, String>);

impl World {
    async fn make(harness: &Harness) -> World {
        let space = harness.space("org", "s").await;
        let app = harness.staged_app(&space).await;
        let admin = harness.admin();
        let to = |guid: &str| json!({ "data": { "guid": guid } });
        let apps = json!({ "app": to(&app) });
        let domain = first(&admin.get("/v3/domains").await);
        let made = async |path: &str, body: Value| {
            let made = admin.post(path, body).await;
            assert!(made.status.is_success(), "{path}: {}", made.error());
            made.body["guid"].as_str().unwrap_or_default().to_owned()
        };
        let relationships = json!({ "space": to(&space), "domain": to(&domain) });
        let route = json!({ "host": "dora", "relationships": relationships });
        let route = made("/v3/routes", route).await;
        let destinations = json!({ "destinations": [{ "app": { "guid": app } }] });
        made(&format!("/v3/routes/{route}/destinations"), destinations).await;
        let instance = json!({ "type": "user-provided", "name": "up", "relationships": { "space": to(&space) },
                    "route_service_url": "https://route.test" });
        let instance = made("/v3/service_instances", instance).await;
        let binding = json!({ "app": to(&app), "service_instance": to(&instance) });
        let binding = json!({ "type": "app", "relationships": binding });
        made("/v3/service_credential_bindings", binding).await;
        let binding = json!({ "route": to(&route), "service_instance": to(&instance) });
        made("/v3/service_route_bindings", json!({ "relationships": binding })).await;
        made("/v3/security_groups", json!({ "name": "group" })).await;
        made("/v3/isolation_segments", json!({ "name": "segment" })).await;
        let org = json!({ "organization": to("org-org") });
        made("/v3/space_quotas", json!({ "name": "quota", "relationships": org })).await;
        made(&format!("/v3/apps/{app}/actions/start"), json!({})).await;
        made(&format!("/v3/apps/{app}/tasks"), json!({ "command": "true" })).await;
        let sidecar = json!({ "name": "side", "command": "true", "process_types": ["web"] });
        made(&format!("/v3/apps/{app}/sidecars"), sidecar).await;
        made("/v3/deployments", json!({ "relationships": apps })).await;
        made("/v3/users", json!({ "guid": "somebody" })).await;
        harness.role("somebody", "space_developer", "org-org", "space-s").await;
        let mut world = World(BTreeMap::new());
        for endpoint in endpoints().iter().filter(|one| one.path.matches('/').count() == 2) {
            let list = admin.get(&format!("{}?per_page=1", endpoint.path)).await;
            let name = endpoint.path.rsplit('/').next().unwrap_or_default();
            world.0.insert(name.to_owned(), first(&list));
        }
        let revision = admin.get(&format!("/v3/apps/{app}/revisions")).await;
        world.0.insert("revisions".to_owned(), first(&revision));
        let sidecar = admin.get(&format!("/v3/apps/{app}/sidecars")).await;
        world.0.insert("sidecars".to_owned(), first(&sidecar));
        world.0.insert("apps".to_owned(), app);
        world.0.insert("routes".to_owned(), route);
        world
    }

    /// What stands for `:KIND` after a collection's name.
    fn name(&self, collection: &str, kind: &str) -> String {
        match (collection, kind) {
            ("environment_variable_groups", _) => "running".to_owned(),
            ("feature_flags", _) => "diego_docker".to_owned(),
            ("features", _) => "ssh".to_owned(),
            (_, "type") => "web".to_owned(),
            (_, "index") => "0".to_owned(),
            (_, "space_guid") => "space-s".to_owned(),
            (_, "org_guid" | "organization_guid") => "org-org".to_owned(),
            _ => self.0.get(collection).cloned().unwrap_or_else(|| "unknown".to_owned()),
        }
    }
}

/// The guid of the first one of a list, if there is any.
fn first(list: &Answer) -> String {
    list.body["resources"][0]["guid"].as_str().unwrap_or("unknown").to_owned()
}

/// Whatever somebody may write where something else was expected.
fn odd() -> Vec<Value> {
    let mut deep = json!(1);
    for _ in 0..60 {
        deep = json!([deep]);
    }
    let mut values = odd_to_databases();
    values.extend([
        json!(null),
        json!(true),
        json!(-2),
        json!(1e300),
        json!(""),
        json!("x"),
        json!([]),
        json!(["x", 7, {}]),
        json!({}),
        json!({ "data": null }),
        json!({ "data": { "guid": 7 } }),
        json!({ "data": { "guid": "unknown" } }),
        json!({ "type": "x", "data": {} }),
        deep,
    ]);
    values
}

/// What one engine takes and the other does not, or neither.
fn odd_to_databases() -> Vec<Value> {
    vec![
        json!(-1),
        json!(i64::MAX),
        json!("a\u{0}b"),
        json!("\u{1F980}'\"%;--"),
        json!("x".repeat(70_000)),
        json!({ "a\u{0}": "b\u{0}" }),
        json!({ "data": { "guid": "\u{0}" } }),
    ]
}

/// Adds what is below a path to an object.
fn put(object: &mut Value, path: &str, value: &Value) {
    let mut place = object;
    for key in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[key];
    }
    *place = value.clone();
}

/// Why an answer is none that a client could read, if so.
fn unfit(answer: &Answer) -> Option<String> {
    let status = answer.status.as_u16();
    let told = answer.body["errors"].as_array().is_some_and(|errors| {
        let whole = |error: &Value| {
            error["code"].is_i64() && error["title"].is_string() && error["detail"].is_string()
        };
        !errors.is_empty() && errors.iter().all(whole)
    });
    let fit = status < 400 || (status < 500 && told);
    (!fit).then(|| format!("{status} {}", String::from_utf8_lossy(&answer.bytes)))
}

/// Asks, and keeps what should not have been answered.
struct Judge {
    client: Client,
    wrong: BTreeMap<String, String>,
}

impl Judge {
    async fn ask(
        &mut self,
        endpoint: &Endpoint,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Answer {
        let sent = body.as_ref().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned());
        let body = body.map(|(kind, bytes)| (kind.to_owned(), bytes));
        let answer = self.client.raw(endpoint.method.clone(), path, body).await;
        if let Some(why) = unfit(&answer) {
            let asked =
                format!("{} {path:.120} {:.160}", endpoint.method, sent.unwrap_or_default());
            self.wrong
                .entry(format!("{} {}: {why}", endpoint.method, endpoint.path))
                .or_insert(asked);
        }
        answer
    }

    async fn query(&mut self, endpoint: &Endpoint, path: &str, query: &str) {
        let query = query.replace('[', "%5B").replace(']', "%5D").replace(' ', "+");
        self.ask(endpoint, &format!("{path}?{query}"), None).await;
    }

    async fn json(&mut self, endpoint: &Endpoint, path: &str, body: &Value) {
        self.ask(endpoint, path, Some(("application/json", body.to_string().into_bytes()))).await;
    }

    fn verdict(&self) {
        let lines: Vec<String> =
            self.wrong.iter().map(|(what, sent)| format!("{what}\n    {sent}")).collect();
        assert!(lines.is_empty(), "{} wrong answers:\n{}", lines.len(), lines.join("\n"));
    }
}

fn config() -> cloud_controller::Config {
    let mut config = harness::config();
    config.limits.hold = std::time::Duration::ZERO;
    config.limits.hold_stats = std::time::Duration::ZERO;
    config
}

async fn worlds() -> Vec<(Harness, World)> {
    let mut worlds = Vec::new();
    for db in sql::testing::databases().await {
        let harness = Harness::open_with(db, config()).await;
        let world = World::make(&harness).await;
        worlds.push((harness, world));
    }
    worlds
}

#[tokio::test]
async fn what_is_asked_for_in_vain_is_told_by_cloud_foundrys_errors() {
    for (harness, world) in worlds().await {
        let mut judge = Judge { client: harness.admin(), wrong: BTreeMap::new() };
        let mut absent = Vec::new();
        for endpoint in &endpoints() {
            let long = "x".repeat(3000);
            for guid in ["unknown", "%00", "%ff", "%2e%2e%2f", "..", "-1", "1%27", &long] {
                let path = endpoint.at(|_, _| guid.to_owned());
                let answer = judge.ask(endpoint, &path, None).await;
                if guid == "unknown" && answer.error().ends_with("Unknown request") {
                    absent.push(format!("{} {}", endpoint.method, endpoint.path));
                }
            }
            let whole = endpoint.at(|collection, kind| world.name(collection, kind));
            if endpoint.method == Method::GET && !endpoint.path.contains(':') {
                judge.ask(endpoint, &format!("{whole}?nonsense=1"), None).await;
            }
        }
        judge.verdict();
        assert_eq!(absent, ABSENT);
        for (method, path) in
            [(Method::PUT, "/v3/apps"), (Method::GET, "/v3/nothing"), (Method::GET, "/v2/apps")]
        {
            let answer = harness.admin().send(method, path, None).await;
            assert_eq!(answer.error(), "404 CF-NotFound: Unknown request", "{path}");
        }
    }
}

#[tokio::test]
async fn bodies_of_any_kind_end_in_an_error_of_the_one_who_sent_them() {
    for (engine, (harness, world)) in worlds().await.into_iter().enumerate() {
        let mut judge = Judge { client: harness.admin(), wrong: BTreeMap::new() };
        for endpoint in endpoints().iter().filter(|one| one.method != Method::GET) {
            let path = endpoint.at(|collection, kind| world.name(collection, kind));
            if engine == 0 {
                for (kind, body) in broken() {
                    judge.ask(endpoint, &path, Some((kind, body))).await;
                }
            }
            let values = if engine == 0 { odd() } else { odd_to_databases() };
            for field in &endpoint.fields {
                for value in &values {
                    let mut body = fine(endpoint, &world);
                    put(&mut body, field, value);
                    judge.json(endpoint, &path, &body).await;
                }
            }
        }
        judge.verdict();
    }
}

/// What is no JSON, YAML or multipart at all, or too much of it.
fn broken() -> Vec<(&'static str, Vec<u8>)> {
    let (json, yaml) = ("application/json", "application/x-yaml");
    let deep = [b"[".repeat(50_000), b"]".repeat(50_000)].concat();
    let objects = [b"{\"a\":".repeat(50_000), b"1".to_vec(), b"}".repeat(50_000)].concat();
    let mut bodies: Vec<(&str, Vec<u8>)> =
        vec![(json, deep.clone()), (json, objects.clone()), (yaml, deep), (yaml, objects)];
    let short: [&[u8]; 9] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\"x\"",
        b"7",
        b"\xff\xfe\x00{}",
        b"{\"name\":\"\xff\"}",
        b"a: &a [*a]\nb: *c\n",
    ];
    for body in short {
        bodies.extend([json, yaml].map(|kind| (kind, body.to_vec())));
    }
    for body in [b"".as_slice(), b"--XX\r\n\r\n", b"--XX--\r\n", b"\xff"] {
        bodies.push(("multipart/form-data; boundary=XX", body.to_vec()));
    }
    bodies.push(("multipart/form-data", b"--XX\r\n".to_vec()));
    bodies.push(("x", b"{}".to_vec()));
    bodies
}

/// A body that could be meant, for what cannot be made without.
fn fine(endpoint: &Endpoint, world: &World) -> Value {
    let to = |guid: String| json!({ "data": { "guid": guid } });
    let of = |name: &str| world.name(name, "guid");
    let mut body = json!({});
    for field in &endpoint.fields {
        let value = match *field {
            "name" => json!(format!("n{}", base::new_guid())),
            "command" => json!("true"),
            "type" if endpoint.path == "/v3/packages" => json!("bits"),
            "type" if endpoint.path == "/v3/roles" => json!("space_developer"),
            "type" => json!("user-provided"),
            "process_types" => json!(["web"]),
            "enabled" => json!(true),
            "package.guid" => json!(of("packages")),
            "relationships.app" => to(of("apps")),
            "relationships.space" => to("space-s".to_owned()),
            "relationships.organization" if endpoint.path != "/v3/roles" => {
                to("org-org".to_owned())
            }
            "relationships.user" => to("somebody".to_owned()),
            "relationships.domain" => to(of("domains")),
            "relationships.route" => to(of("routes")),
            "relationships.service_instance" => to(of("service_instances")),
            _ => continue,
        };
        put(&mut body, field, &value);
    }
    body
}

#[tokio::test]
async fn queries_of_any_kind_end_in_an_error_of_the_one_who_sent_them() {
    const COMMON: [&str; 12] = [
        "page",
        "per_page",
        "order_by",
        "guids",
        "created_ats",
        "updated_ats",
        "created_ats[lt]",
        "updated_ats[nonsense]",
        "label_selector",
        "include",
        "embed",
        "fields[x]",
    ];
    for (harness, world) in worlds().await {
        let mut judge = Judge { client: harness.admin(), wrong: BTreeMap::new() };
        let long = "x".repeat(5000);
        let many = vec!["x"; 3000].join(",");
        let values = [
            "",
            "x",
            "-1",
            "1",
            "9999999999999999999999",
            "9223372036854775807",
            "%2500",
            "a in (",
            "!",
            "name",
            "%27%22;--",
            "2026-01-01T00:00:00Z",
            "9999-99-99T99:99:99Z",
            "space.organization",
        ];
        for endpoint in endpoints().iter().filter(|one| one.method == Method::GET) {
            let path = endpoint.at(|collection, kind| world.name(collection, kind));
            for name in COMMON.iter().chain(&endpoint.query) {
                for value in values {
                    judge.query(endpoint, &path, &format!("{name}={value}")).await;
                }
                if *name == "guids" {
                    judge.query(endpoint, &path, &format!("guids={long}")).await;
                    judge.query(endpoint, &path, &format!("guids={many}")).await;
                }
                let odd = format!("{name}&{name}={name}&{name}[]=1&{name}[not]=x&&=&");
                judge.query(endpoint, &path, &odd).await;
            }
        }
        judge.verdict();
    }
}
