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
            422 CF-UnprocessableEntity: Disk quota requested too much disk (requested 999999 MB - must be less than 10240 MB)
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
