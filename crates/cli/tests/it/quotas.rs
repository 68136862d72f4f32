//! Quotas of organizations and spaces.

use expect_test::expect;
use serde_json::{Value, json};

use crate::script::{Answer, World};

fn quota() -> Value {
    json!([{ "guid": "quota-guid", "name": "small",
        "apps": { "total_memory_in_mb": 2048, "per_process_memory_in_mb": null, "total_instances": 10, "log_rate_limit_in_bytes_per_second": 1024 },
        "services": { "paid_services_allowed": false, "total_service_instances": 0 },
        "routes": { "total_routes": null, "total_reserved_ports": 0 } }])
}

#[tokio::test]
async fn quotas_of_orgs() {
    let world = World::targeted().await;
    world.on("GET /v3/organization_quotas", Answer::list(quota()));
    world.transcript(expect![[r#"
        $ cf org-quotas
        Getting org quotas as ada...

        name    total memory   instance memory   routes      service instances   paid service plans   app instances   route ports   log volume per second
        small   2G             unlimited         unlimited   0                   disallowed           10              0             1K

        $ cf org-quota small
        Getting org quota small as ada...

        total memory:            2G
        instance memory:         unlimited
        routes:                  unlimited
        service instances:       0
        paid service plans:      disallowed
        app instances:           10
        route ports:             0
        log volume per second:   1K

        < POST /v3/organization_quotas 201 {}
        $ cf create-org-quota small -m 2G -i -1 -a 10 -l 1K --allow-paid-service-plans
        Creating org quota small as ada...
        OK
        > POST /v3/organization_quotas {"apps":{"log_rate_limit_in_bytes_per_second":1024,"per_process_memory_in_mb":null,"total_instances":10,"total_memory_in_mb":2048},"name":"small","routes":{"total_reserved_ports":0,"total_routes":0},"services":{"paid_services_allowed":true,"total_service_instances":0}}

        < POST /v3/organization_quotas 422 Organization Quota 'small' already exists.
        $ cf create-quota small
        Creating org quota small as ada...
        OK
        ! Organization Quota 'small' already exists.
        > POST /v3/organization_quotas {"apps":{"total_memory_in_mb":0},"name":"small","routes":{"total_reserved_ports":0,"total_routes":0},"services":{"paid_services_allowed":false,"total_service_instances":0}}

        $ cf create-org-quota small -r many
        (help: create-org-quota - Define a new quota for an organization)
        ! Incorrect Usage: invalid integer limit (expected int >= -1)
        = 1

        < PATCH /v3/organization_quotas/quota-guid 200 {}
        $ cf update-org-quota small -n tiny -r 5 --disallow-paid-service-plans
        Updating org quota small as ada...
        OK
        > PATCH /v3/organization_quotas/quota-guid {"name":"tiny","routes":{"total_routes":5},"services":{"paid_services_allowed":false}}

        $ cf update-org-quota small --allow-paid-service-plans --disallow-paid-service-plans
        FAILED

        (help: update-org-quota - Update an existing organization quota)
        ! Incorrect Usage: The following arguments cannot be used together: --allow-paid-service-plans, --disallow-paid-service-plans
        = 1

        < POST /v3/organization_quotas/quota-guid/relationships/organizations 200 {}
        $ cf set-org-quota acme small
        Setting quota small to org acme as ada...
        OK
        > POST /v3/organization_quotas/quota-guid/relationships/organizations {"data":[{"guid":"org-guid"}]}

        < DELETE /v3/organization_quotas/quota-guid 204
        $ cf delete-org-quota small <<< n
        Really delete the org quota small? [yN]: n
        Organization quota 'small' has not been deleted.

        $ cf delete-org-quota small -f
        Deleting org quota small as ada...
        OK
        > DELETE /v3/organization_quotas/quota-guid

        < GET /v3/organization_quotas 200 []
        $ cf org-quotas
        Getting org quotas as ada...

        No organization quotas found.

        $ cf org-quota nope
        Getting org quota nope as ada...

        FAILED
        ! Organization quota with name 'nope' not found.
        = 1

        $ cf delete-org-quota nope -f
        Deleting org quota nope as ada...
        OK
        ! Organization quota with name 'nope' not found.
    "#]]).await;
}

#[tokio::test]
async fn quotas_of_spaces() {
    let world = World::targeted().await;
    world.on("GET /v3/space_quotas", Answer::list(quota()));
    world.transcript(expect![[r#"
        $ cf space-quotas
        Getting space quotas for org acme as ada...

        name    total memory   instance memory   routes      service instances   paid service plans   app instances   route ports   log volume per second
        small   2G             unlimited         unlimited   0                   disallowed           10              0             1K
    "#]]).await;
    assert!(world.asked("GET /v3/space_quotas")[0].query.contains("organization_guids=org-guid"));
    world.transcript(expect![[r#"
        $ cf space-quota small
        Getting space quota small for org acme as ada...

        total memory:            2G
        instance memory:         unlimited
        routes:                  unlimited
        service instances:       0
        paid service plans:      disallowed
        app instances:           10
        route ports:             0
        log volume per second:   1K

        < POST /v3/space_quotas 201 {}
        $ cf create-space-quota small -r 5 -s 3
        Creating space quota small for org acme as ada...
        OK
        > POST /v3/space_quotas {"apps":{"total_memory_in_mb":0},"name":"small","relationships":{"organization":{"data":{"guid":"org-guid"}}},"routes":{"total_reserved_ports":0,"total_routes":5},"services":{"paid_services_allowed":false,"total_service_instances":3}}

        < PATCH /v3/space_quotas/quota-guid 200 {}
        $ cf update-space-quota small -m 1G
        Updating space quota small for org acme as ada...
        OK
        > PATCH /v3/space_quotas/quota-guid {"apps":{"total_memory_in_mb":1024}}

        < POST /v3/space_quotas/quota-guid/relationships/spaces 200 {}
        $ cf set-space-quota dev small
        Setting space quota small to space dev as ada...
        OK
        > POST /v3/space_quotas/quota-guid/relationships/spaces {"data":[{"guid":"space-guid"}]}

        < DELETE /v3/space_quotas/quota-guid/relationships/spaces/space-guid 204
        $ cf unset-space-quota dev small
        Unassigning space quota small from space dev as ada...
        OK
        > DELETE /v3/space_quotas/quota-guid/relationships/spaces/space-guid

        < DELETE /v3/space_quotas/quota-guid 204
        $ cf delete-space-quota small -f
        Deleting space quota small for org acme as ada...
        OK
        > DELETE /v3/space_quotas/quota-guid

        < GET /v3/space_quotas 200 []
        $ cf set-space-quota dev nope
        Setting space quota nope to space dev as ada...
        FAILED
        ! Space quota with name 'nope' not found.
        = 1
    "#]]).await;
}
