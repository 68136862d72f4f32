//! The Receptor API, as its clients of old speak it.

use base::CancellationToken;
use base::http::Secret;
use bbs::Credentials;
use diego::sim::{OnTask, Script};
use futures::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::rig::{Rig, eventually};

/// A Receptor beside a brain, and somebody who asks it.
struct Receptor {
    url: String,
    http: reqwest::Client,
    stop: CancellationToken,
}

impl Drop for Receptor {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Receptor {
    async fn new(rig: &Rig) -> Receptor {
        let (listener, stop) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), CancellationToken::new());
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(base::http::serve(listener, rig.server.receptor(), stop.clone()));
        Receptor { url, http: base::http::client(None), stop }
    }

    /// As the old client does, a request without a body carries `null`.
    async fn ask(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.http.request(method, format!("{}{path}", self.url)).json(&body);
        let answer = request.send().await.unwrap();
        let (status, json) = (answer.status(), answer.headers().contains_key("content-type"));
        let text = answer.text().await.unwrap();
        assert_eq!(json, !text.is_empty(), "an empty answer claims no type");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path, Value::Null).await.1
    }

    #[track_caller]
    fn check(
        &self,
        method: Method,
        path: &str,
        body: Value,
        want: (u16, &str),
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let path = path.to_owned();
        async move {
            let (status, answer) = self.ask(method, &path, body).await;
            let name = answer.get("name").and_then(Value::as_str).unwrap_or_default();
            assert_eq!((status.as_u16(), name), want, "{caller}: {path}: {answer}");
        }
    }
}

fn action() -> Value {
    json!({"run": {"path": "/bin/server", "user": "vcap", "args": null, "env": null, "resource_limits": {}}})
}

fn lrp(guid: &str, instances: u32) -> Value {
    json!({
        "process_guid": guid, "domain": "lattice", "rootfs": "preloaded:base", "instances": instances,
        "setup": null, "monitor": null, "action": action(), "env": null, "start_timeout": 60,
        "memory_mb": 10, "disk_mb": 10, "cpu_weight": 1, "privileged": false, "ports": [8080],
        "routes": {"cf-router": [{"hostnames": ["web.example.com"], "port": 8080}]},
        "log_guid": guid, "log_source": "APP", "metrics_guid": "", "annotation": "a note", "egress_rules": null
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_running_processes() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    let receptor = Receptor::new(&rig).await;
    receptor.check(Method::POST, "/v1/desired_lrps", lrp("web", 2), (201, "")).await;
    receptor
        .check(Method::POST, "/v1/desired_lrps", lrp("web", 2), (409, "DesiredLRPAlreadyExists"))
        .await;
    receptor
        .check(Method::POST, "/v1/desired_lrps", json!({"domain": "x"}), (400, "InvalidLRP"))
        .await;
    receptor.check(Method::POST, "/v1/desired_lrps", json!("x"), (400, "InvalidJSON")).await;
    let negative = json!({"domain": "x", "instances": -1, "memory_mb": 5, "disk_mb": -9});
    let (status, refused) = receptor.ask(Method::POST, "/v1/desired_lrps", negative).await;
    assert_eq!((status.as_u16(), &refused["name"]), (400, &json!("InvalidLRP")));
    assert_eq!(refused["message"], "Invalid field: instances, Invalid field: disk_mb");
    rig.running("web", 2).await;

    let found = receptor.get("/v1/desired_lrps/web").await;
    assert_eq!(
        (&found["instances"], &found["annotation"], &found["setup"]),
        (&json!(2), &json!("a note"), &Value::Null)
    );
    assert_eq!(found["routes"]["cf-router"][0]["port"], 8080);
    assert_eq!(receptor.get("/v1/desired_lrps?domain=lattice").await.as_array().unwrap().len(), 1);
    assert_eq!(receptor.get("/v1/desired_lrps?domain=other").await, json!([]));

    let actual = receptor.get("/v1/actual_lrps/web/index/1").await;
    assert_eq!(
        (&actual["state"], &actual["cell_id"], &actual["evacuating"]),
        (&json!("RUNNING"), &json!("cell-0"), &json!(false))
    );
    assert_eq!(actual["ports"][0]["container_port"], 8080);
    assert_eq!(receptor.get("/v1/actual_lrps?domain=lattice").await.as_array().unwrap().len(), 2);
    assert_eq!(receptor.get("/v1/actual_lrps/nobody").await, json!([]));
    receptor.check(Method::GET, "/v1/actual_lrps/web/index/9", Value::Null, (404, "")).await;
    receptor
        .check(Method::GET, "/v1/actual_lrps/web/index/x", Value::Null, (400, "InvalidRequest"))
        .await;
    receptor
        .check(
            Method::DELETE,
            "/v1/actual_lrps/web/index/9",
            Value::Null,
            (404, "ActualLRPIndexNotFound"),
        )
        .await;
    receptor.check(Method::DELETE, "/v1/actual_lrps/web/index/1", Value::Null, (204, "")).await;
    let replaced =
        |now: &Value| now["state"] == "RUNNING" && now["instance_guid"] != actual["instance_guid"];
    eventually("a new instance", || receptor.get("/v1/actual_lrps/web/index/1"), replaced).await;

    receptor.check(Method::PUT, "/v1/desired_lrps/web", json!({"instances": 1}), (204, "")).await;
    receptor
        .check(Method::PUT, "/v1/desired_lrps/web", json!({"instances": -1}), (500, "UnknownError"))
        .await;
    receptor
        .check(Method::PUT, "/v1/desired_lrps/nobody", json!({}), (404, "DesiredLRPNotFound"))
        .await;
    rig.running("web", 1).await;
    assert_eq!(receptor.get("/v1/desired_lrps/web").await["modification_tag"]["index"], 1);
    receptor.check(Method::DELETE, "/v1/desired_lrps/web", Value::Null, (204, "")).await;
    receptor
        .check(Method::DELETE, "/v1/desired_lrps/web", Value::Null, (404, "DesiredLRPNotFound"))
        .await;
    rig.shows("web", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    let receptor = Receptor::new(&rig).await;
    let task = |guid: &str| json!({"task_guid": guid, "domain": "lattice", "rootfs": "preloaded:base", "action": action(), "result_file": "/r"});
    rig.cells[0].set_script(Script { tasks: OnTask::Run, ..Script::default() });
    receptor.check(Method::POST, "/v1/tasks", task("t"), (201, "")).await;
    receptor.check(Method::POST, "/v1/tasks", task("t"), (409, "TaskGuidAlreadyExists")).await;
    receptor
        .check(Method::POST, "/v1/tasks", json!({"task_guid": "u"}), (400, "InvalidTask"))
        .await;
    receptor.check(Method::POST, "/v1/tasks", json!({"memory_mb": -1}), (400, "InvalidTask")).await;
    let mut big = task("big");
    big["memory_mb"] = json!(1_000_000);
    receptor.check(Method::POST, "/v1/tasks", big, (201, "")).await;
    let waits =
        |task: &Value| task["rejection_reason"].as_str().is_some_and(|why| why.contains("memory"));
    eventually("why it waits", || receptor.get("/v1/tasks/big"), waits).await;
    receptor.check(Method::POST, "/v1/tasks/big/cancel", Value::Null, (200, "")).await;
    receptor.check(Method::DELETE, "/v1/tasks/big", Value::Null, (200, "")).await;
    eventually(
        "running",
        || receptor.get("/v1/tasks/t"),
        |task| task["state"] == "RUNNING" && task["cell_id"] == "cell-0",
    )
    .await;
    receptor.check(Method::DELETE, "/v1/tasks/t", Value::Null, (409, "TaskNotDeletable")).await;
    receptor.check(Method::POST, "/v1/tasks/t/cancel", Value::Null, (200, "")).await;
    receptor.check(Method::POST, "/v1/tasks/t/cancel", Value::Null, (500, "UnknownError")).await;
    let found = receptor.get("/v1/tasks?domain=lattice").await;
    assert_eq!(
        (&found[0]["failed"], &found[0]["failure_reason"]),
        (&json!(true), &json!("task was cancelled"))
    );
    assert_eq!((&found[0]["result_file"], &found[0]["cell_id"]), (&json!(""), &json!("")));
    receptor.check(Method::DELETE, "/v1/tasks/t", Value::Null, (200, "")).await;
    receptor.check(Method::GET, "/v1/tasks/t", Value::Null, (404, "TaskNotFound")).await;
    receptor.check(Method::POST, "/v1/tasks/t/cancel", Value::Null, (404, "TaskNotFound")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_cells_and_domains() {
    let rig = Rig::new(sql::testing::sqlite().await, 1).await;
    let receptor = Receptor::new(&rig).await;
    let stream = receptor.http.get(format!("{}/v1/events", receptor.url)).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream; charset=utf-8");
    let mut chunks = stream.bytes_stream();
    receptor.check(Method::POST, "/v1/desired_lrps", lrp("web", 1), (201, "")).await;
    let mut text = String::new();
    while text.matches("event: actual_lrp_changed").count() < 2 {
        text += std::str::from_utf8(&chunks.next().await.unwrap().unwrap()).unwrap();
    }
    assert!(
        text.starts_with("id: 0\nevent: desired_lrp_created\ndata: {\"desired_lrp\""),
        "{text}"
    );
    assert!(text.contains("id: 1\nevent: actual_lrp_created\n"), "{text}");

    let cells = receptor.get("/v1/cells").await;
    assert_eq!(cells[0]["rootfs_providers"]["preloaded"], json!(["base"]));
    assert_eq!(cells[0]["capacity"]["containers"], 50);
    receptor.check(Method::PUT, "/v1/domains/lattice", Value::Null, (204, "")).await;
    assert_eq!(receptor.get("/v1/domains").await, json!(["lattice"]));
    assert!(receptor.get("/v1/version").await["receptor"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_those_who_know_the_password() {
    let mut rig = Rig::new(sql::testing::sqlite().await, 0).await;
    rig.config.receptor =
        Some(Credentials { user: "user".to_owned(), password: Secret::new("pass") });
    let rig = rig.reopen().await;
    let receptor = Receptor::new(&rig).await;
    receptor.check(Method::GET, "/v1/cells", Value::Null, (401, "Unauthorized")).await;
    receptor.check(Method::GET, "/v1/sync/linux/ltc", Value::Null, (500, "")).await;
    let cells = format!("{}/v1/cells", receptor.url);
    let status =
        async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    assert_eq!(status(receptor.http.get(&cells).basic_auth("user", Some("wrong"))).await, 401);
    assert_eq!(status(receptor.http.get(&cells).basic_auth("user", Some("pass"))).await, 200);
    let trade = receptor
        .http
        .post(format!("{}/v1/auth_cookie", receptor.url))
        .basic_auth("user", Some("pass"));
    let traded = trade.send().await.unwrap();
    let cookie =
        traded.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(status(receptor.http.get(&cells).header("cookie", cookie)).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_origins_may_ask_where_that_is_allowed() {
    let mut rig = Rig::new(sql::testing::sqlite().await, 0).await;
    rig.config.receptor =
        Some(Credentials { user: "user".to_owned(), password: Secret::new("pass") });
    rig.config.receptor_cors = true;
    let rig = rig.reopen().await;
    let receptor = Receptor::new(&rig).await;
    let cells = format!("{}/v1/cells", receptor.url);
    let before = receptor
        .http
        .request(Method::OPTIONS, &cells)
        .header("origin", "http://page.example")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization");
    let before = before.send().await.unwrap();
    assert_eq!(before.status().as_u16(), 200);
    assert_eq!(before.headers()["access-control-allow-methods"], "GET");
    assert_eq!(before.headers()["access-control-allow-headers"], "authorization");
    let refused =
        receptor.http.get(&cells).header("origin", "http://page.example").send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 401);
    assert_eq!(refused.headers()["access-control-allow-origin"], "http://page.example");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_knows_no_limit_of_log_lines_has_none() {
    use diego::Bbs as _;
    let rig = Rig::new(sql::testing::sqlite().await, 0).await;
    let receptor = Receptor::new(&rig).await;
    receptor.check(Method::POST, "/v1/desired_lrps", lrp("web", 1), (201, "")).await;
    assert_eq!(rig.bbs.desired_lrp(&"web".into()).await.unwrap().run.log_rate_limit, -1);
}
