//! `/v3/processes`.

use expect_test::expect;
use serde_json::json;

use crate::harness;

#[tokio::test]
async fn a_process_is_scaled_and_changed() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = admin.app("dora", &space).await;
        let scale = format!("/v3/apps/{app}/processes/web/actions/scale");
        let scaled =
            admin.post(&scale, json!({ "memory_in_mb": "256", "instances": 3 })).await.expect(202);
        assert_eq!((&scaled["memory_in_mb"], &scaled["instances"]), (&json!(256), &json!(3)));

        let check = json!({ "health_check": { "type": "http", "data": { "endpoint": "/health", "timeout": 90 } }, "command": "./go" });
        let changed = admin.patch(&format!("/v3/processes/{app}"), check).await.expect(200);
        expect![[r#"{"data":{"endpoint":"/health","interval":null,"invocation_timeout":null,"timeout":90},"type":"http"}"#]]
            .assert_eq(&changed["health_check"].to_string());
        let cleared = admin
            .patch(
                &format!("/v3/processes/{app}"),
                json!({ "command": null, "health_check": { "type": "port" } }),
            )
            .await;
        let cleared = cleared.expect(200);
        assert_eq!(
            (&cleared["command"], &cleared["health_check"]["data"]["endpoint"]),
            (&json!(null), &json!(null))
        );

        let mut told = String::new();
        for body in [
            json!({ "instances": -1 }),
            json!({ "memory_in_mb": 0 }),
            json!({ "memory_in_mb": "x" }),
            json!({ "disk_in_mb": 999_999 }),
        ] {
            told += &format!("{}\n", admin.post(&scale, body).await.error());
        }
        told += &format!(
            "{}\n",
            admin
                .patch(
                    &format!("/v3/processes/{app}"),
                    json!({ "health_check": { "type": "tcp" } })
                )
                .await
                .error()
        );
        told +=
            &format!("{}\n", admin.get(&format!("/v3/apps/{app}/processes/nope")).await.error());
        expect![[r#"
            422 CF-UnprocessableEntity: Instances must be greater than or equal to 0
            422 CF-UnprocessableEntity: Memory in mb must be greater than 0
            422 CF-UnprocessableEntity: Memory in mb is not a number
            422 CF-UnprocessableEntity: disk_quota too much disk requested (requested 999999 MB - must be less than 10240 MB)
            422 CF-UnprocessableEntity: Health check type must be "port", "process", or "http"
            404 CF-ResourceNotFound: Process not found
        "#]]
        .assert_eq(&told);
    }
}

#[tokio::test]
async fn a_quota_limits_what_runs() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
        harness.sql("UPDATE organization_quotas SET total_memory_in_mb = 2048").await;
        let scale = format!("/v3/apps/{app}/processes/web/actions/scale");
        admin.post(&scale, json!({ "instances": 2 })).await.expect(202);
        expect!["422 CF-UnprocessableEntity: memory quota_exceeded"]
            .assert_eq(&admin.post(&scale, json!({ "instances": 3 })).await.error());
        admin.post(&scale, json!({ "instances": 1 })).await.expect(202);
        admin.post(&format!("/v3/apps/{app}/actions/stop"), json!({})).await.expect(200);
        harness.sql("UPDATE organization_quotas SET total_memory_in_mb = 1000").await;
        let refused = admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.error();
        assert_eq!(refused, "422 CF-UnprocessableEntity: memory quota_exceeded");
        assert_eq!(admin.get(&format!("/v3/apps/{app}")).await.expect(200)["state"], "STOPPED");
    }
}

#[tokio::test]
async fn every_limit_of_both_quotas_is_told_in_cloud_foundrys_words() {
    for harness in harness::all().await {
        let admin = harness.admin();
        let space = harness.space("org", "space").await;
        let app = harness.staged_app(&space).await;
        admin.post(&format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
        let quota = json!({ "name": "small", "relationships": {
            "organization": { "data": { "guid": "org-org" } }, "spaces": { "data": [{ "guid": space }] } } });
        admin.post("/v3/space_quotas", quota).await.expect(201);
        let scale = format!("/v3/apps/{app}/processes/web/actions/scale");
        let mut told = String::new();
        for (limit, most, wanted) in [
            ("total_memory_in_mb", 1500, json!({ "instances": 2 })),
            ("total_instances", 1, json!({ "instances": 2 })),
            ("per_process_memory_in_mb", 1500, json!({ "memory_in_mb": 2000 })),
            (
                "log_rate_limit_in_bytes_per_second",
                1000,
                json!({ "log_rate_limit_in_bytes_per_second": 2000 }),
            ),
            ("log_rate_limit_in_bytes_per_second", 1000, json!({ "instances": 2 })),
        ] {
            for table in ["space_quotas", "organization_quotas"] {
                harness.sql(&format!("UPDATE {table} SET {limit} = {most}")).await;
                told += &format!("{}\n", admin.post(&scale, wanted.clone()).await.error());
                harness.sql(&format!("UPDATE {table} SET {limit} = NULL")).await;
            }
        }
        expect![[r#"
            422 CF-UnprocessableEntity: memory space_quota_exceeded
            422 CF-UnprocessableEntity: memory quota_exceeded
            422 CF-UnprocessableEntity: app_instance_limit space_app_instance_limit_exceeded
            422 CF-UnprocessableEntity: app_instance_limit app_instance_limit_exceeded
            422 CF-UnprocessableEntity: memory space_instance_memory_limit_exceeded
            422 CF-UnprocessableEntity: memory instance_memory_limit_exceeded
            422 CF-UnprocessableEntity: log_rate_limit exceeds space log rate quota
            422 CF-UnprocessableEntity: log_rate_limit exceeds organization log rate quota
            422 CF-UnprocessableEntity: log_rate_limit cannot be unlimited in space 'space'.
            422 CF-UnprocessableEntity: log_rate_limit cannot be unlimited in organization 'org'.
        "#]]
        .assert_eq(&told);
        admin.post(&scale, json!({ "instances": 2, "memory_in_mb": 2000 })).await.expect(202);

        // What a deployment needs beside what runs is named as such.
        harness.sql("UPDATE organization_quotas SET total_instances = 2").await;
        let body = json!({ "relationships": { "app": { "data": { "guid": app } } } });
        let refused = admin.post("/v3/deployments", body).await.error();
        expect!["422 CF-UnprocessableEntity: app_instance_limit app_instance_limit_exceeded for organization org. This organization's quota may not be large enough to support rolling deployments or your configured max-in-flight."].assert_eq(&refused);
    }
}
