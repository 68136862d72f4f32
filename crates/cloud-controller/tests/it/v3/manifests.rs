//! Manifests: applied, compared, exported.

use axum::http::Method;
use expect_test::expect;

use crate::harness::{self, Answer, Client};

async fn send(client: &Client, path: &str, yaml: &str) -> Answer {
    let body = Some(("application/x-yaml".to_owned(), yaml.as_bytes().to_vec()));
    client.raw(Method::POST, path, body).await
}

pub async fn apply(client: &Client, space: &str, yaml: &str) -> serde_json::Value {
    let job = send(client, &format!("/v3/spaces/{space}/actions/apply_manifest"), yaml).await.job();
    client.get(&job).await.expect(200)
}

const FULL: &str = r#"
version: 1
applications:
- name: dora
  buildpacks: [ruby_buildpack]
  stack: cflinuxfs4
  env: {GREETING: hello, COUNT: 3}
  instances: 2
  memory: 64M
  health-check-type: http
  health-check-http-endpoint: /ok
  routes:
  - route: dora.apps.test/v1
  - route: other.apps.test
    protocol: http2
  processes:
  - type: worker
    command: work
    memory: 128M
    instances: 1
  sidecars:
  - name: side
    command: ./side
    process_types: [web]
    memory: 32M
  metadata:
    labels: {env: prod}
  features: {ssh: false}
"#;

#[tokio::test]
async fn a_manifest_makes_an_app_and_can_be_had_back() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let job = apply(&admin, &space, FULL).await;
        assert_eq!(
            (&job["state"], &job["operation"]),
            (&"COMPLETE".into(), &"space.apply_manifest".into()),
            "{job}"
        );
        let app = admin.get("/v3/apps?names=dora").await.column("guid");
        let shown = admin.get(&format!("/v3/apps/{app}/manifest")).await;
        expect![[r#"
            applications:
            - name: dora
              lifecycle: buildpack
              stack: cflinuxfs4
              buildpacks:
              - ruby_buildpack
              env:
                COUNT: '3'
                GREETING: hello
              features:
                file-based-vcap-services: false
                revisions: true
                service-binding-k8s: false
                ssh: false
              metadata:
                labels:
                  env: prod
              routes:
              - route: dora.apps.test/v1
                protocol: http1
              - route: other.apps.test
                protocol: http2
              processes:
              - type: web
                disk_quota: 1024M
                health-check-http-endpoint: /ok
                health-check-type: http
                instances: 2
                log-rate-limit-per-second: -1
                memory: 64M
                readiness-health-check-type: process
              - type: worker
                command: work
                disk_quota: 1024M
                health-check-type: process
                instances: 1
                log-rate-limit-per-second: -1
                memory: 128M
                readiness-health-check-type: process
              sidecars:
              - name: side
                command: ./side
                memory: 32M
                process_types:
                - web
        "#]]
        .assert_eq(std::str::from_utf8(&shown.bytes).unwrap());

        // The same again is no change; what comes back can be applied too.
        let diff = format!("/v3/spaces/{space}/manifest_diff");
        let again = send(&admin, &diff, FULL).await.expect(201);
        assert_eq!(again["diff"], serde_json::json!([]));
        let exported = String::from_utf8(shown.bytes).unwrap();
        assert_eq!(apply(&admin, &space, &exported).await["state"], "COMPLETE");
        assert_eq!(
            admin.get(&format!("/v3/apps/{app}/routes")).await.column("url"),
            "dora.apps.test/v1 other.apps.test"
        );
        assert!(
            harness.lines().contains(&format!("[API] Applied manifest to app with guid {app}"))
        );
    }
}

#[tokio::test]
async fn routes_come_by_name_by_chance_or_not_at_all() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        apply(
            &admin,
            &space,
            "applications: [{name: dora, default-route: true}, {name: rnd, random-route: true}]",
        )
        .await;
        let routes = admin.get("/v3/routes").await.column("host");
        let (first, second) = routes.split_once(' ').unwrap();
        assert_eq!(first, "dora");
        assert!(second.starts_with("rnd-") && second.len() > 8, "{second}");
        // Once there is a route no other is made up.
        apply(&admin, &space, "applications: [{name: rnd, random-route: true}]").await;
        assert_eq!(admin.get("/v3/routes").await.body["pagination"]["total_results"], 2);
        apply(&admin, &space, "applications: [{name: dora, no-route: true}]").await;
        let app = admin.get("/v3/apps?names=dora").await.column("guid");
        assert_eq!(admin.get(&format!("/v3/apps/{app}/routes")).await.column("host"), "");
    }
}

#[tokio::test]
async fn a_manifest_that_fails_changes_nothing() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let other = harness.space("org", "other").await;
        let told = async |space: &str, yaml: &str| {
            let job = apply(&admin, space, yaml).await;
            format!(
                "{} {}",
                job["state"].as_str().unwrap(),
                job["errors"][0]["detail"].as_str().unwrap_or("-")
            )
        };
        let lines = [
            told(&space, "applications: [{name: dora, routes: [{route: a.nowhere.test}]}]").await,
            told(&space, "applications: [{name: dora, buildpacks: [nope]}]").await,
            told(&space, "applications: [{name: dora, services: [nope]}]").await,
            told(&space, "applications: [{name: 'a b', default-route: true}]").await,
            told(&space, "applications: [{name: ok, routes: [{route: ok.apps.test}]}]").await,
            told(&other, "applications: [{name: thief, routes: [{route: ok.apps.test}]}]").await,
        ];
        expect![[r#"
            FAILED For application 'dora': No domains exist for route a.nowhere.test
            FAILED For application 'dora': Buildpack "nope" must be an existing admin buildpack or a valid git URI
            FAILED For application 'dora': Service instance 'nope' not found
            FAILED For application 'a b': Failed to create default route from app name: Host must be either "*" or contain only alphanumeric characters, "_", or "-"
            COMPLETE -
            FAILED For application 'thief': Routes cannot be mapped to destinations in different spaces"#]]
        .assert_eq(&lines.join("\n"));
        assert_eq!(admin.get("/v3/apps").await.column("name"), "ok");

        let path = format!("/v3/spaces/{space}/actions/apply_manifest");
        let wrong =
            send(&admin, &path, "applications: [{name: dora, memory: big, instances: x}]").await;
        assert_eq!(wrong.body["errors"].as_array().unwrap().len(), 2);
        expect![[r#"422 CF-UnprocessableEntity: For application 'dora': Process "web": Memory is not a number"#]].assert_eq(&wrong.error());
        let broken =
            send(&admin, &path, "applications:\n- name: dora\n\tmemory: 1G\n").await.error();
        expect!["400 CF-MessageParseError: Request invalid due to parse error: invalid request body: found a tab character that violates indentation at line 3 column 1, while scanning a plain scalar at line 2 column 9"].assert_eq(&broken);
        let alias = send(&admin, &path, "x: &x 1G\napplications: [{name: dora, memory: *x}]").await;
        expect!["400 CF-BadRequest: Bad request: Manifest does not support Anchors and Aliases"]
            .assert_eq(&alias.error());
        let json = admin.post(&path, serde_json::json!({})).await.error();
        expect!["400 CF-BadRequest: Bad request: Content-Type must be yaml"].assert_eq(&json);
        harness.role("aud", "space_auditor", "org-org", "space-space").await;
        send(&harness.user("aud"), &path, "applications: [{name: a}]").await.expect(403);
    }
}
