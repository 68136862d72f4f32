CREATE TABLE organizations (
    id $ID, guid TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, suspended BIGINT NOT NULL DEFAULT 0,
    quota_guid TEXT NOT NULL, default_isolation_segment_guid TEXT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE INDEX organizations_by_quota ON organizations (quota_guid);

CREATE TABLE organization_quotas (
    id $ID, guid TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE,
    total_memory_in_mb BIGINT, per_process_memory_in_mb BIGINT, log_rate_limit_in_bytes_per_second BIGINT,
    total_instances BIGINT, per_app_tasks BIGINT,
    paid_services_allowed BIGINT NOT NULL DEFAULT 1, total_service_instances BIGINT, total_service_keys BIGINT,
    total_routes BIGINT, total_reserved_ports BIGINT, total_domains BIGINT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);

CREATE TABLE space_quotas (
    id $ID, guid TEXT NOT NULL UNIQUE, name TEXT NOT NULL, org_guid TEXT NOT NULL,
    total_memory_in_mb BIGINT, per_process_memory_in_mb BIGINT, log_rate_limit_in_bytes_per_second BIGINT,
    total_instances BIGINT, per_app_tasks BIGINT,
    paid_services_allowed BIGINT NOT NULL DEFAULT 1, total_service_instances BIGINT, total_service_keys BIGINT,
    total_routes BIGINT, total_reserved_ports BIGINT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, UNIQUE (org_guid, name));

CREATE TABLE spaces (
    id $ID, guid TEXT NOT NULL UNIQUE, name TEXT NOT NULL, org_guid TEXT NOT NULL REFERENCES organizations (guid),
    quota_guid TEXT, isolation_segment_guid TEXT, allow_ssh BIGINT NOT NULL DEFAULT 1, suspended BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, UNIQUE (org_guid, name));
CREATE INDEX spaces_by_quota ON spaces (quota_guid);

CREATE TABLE users (
    id $ID, guid TEXT NOT NULL UNIQUE, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);

-- A space role carries its organization too; an organization role has an empty space.
CREATE TABLE roles (
    id $ID, guid TEXT NOT NULL UNIQUE, type TEXT NOT NULL, user_guid TEXT NOT NULL,
    org_guid TEXT NOT NULL, space_guid TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, UNIQUE (user_guid, org_guid, space_guid, type));
CREATE INDEX roles_by_space ON roles (space_guid, type);
CREATE INDEX roles_by_org ON roles (org_guid, type);

CREATE TABLE isolation_segments (
    id $ID, guid TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE TABLE isolation_segment_organizations (
    isolation_segment_guid TEXT NOT NULL, org_guid TEXT NOT NULL, PRIMARY KEY (isolation_segment_guid, org_guid));

-- Shared when it has no owning organization.
CREATE TABLE domains (
    id $ID, guid TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, org_guid TEXT, internal BIGINT NOT NULL DEFAULT 0,
    router_group_guid TEXT, enforce_route_policies BIGINT NOT NULL DEFAULT 0, route_policies_scope TEXT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE INDEX domains_by_org ON domains (org_guid);
CREATE TABLE domain_shares (domain_guid TEXT NOT NULL, org_guid TEXT NOT NULL, PRIMARY KEY (domain_guid, org_guid));

-- No host and no path are empty texts, no port is 0.
CREATE TABLE routes (
    id $ID, guid TEXT NOT NULL UNIQUE, host TEXT NOT NULL DEFAULT '', path TEXT NOT NULL DEFAULT '', port BIGINT NOT NULL DEFAULT 0,
    domain_guid TEXT NOT NULL REFERENCES domains (guid), space_guid TEXT NOT NULL REFERENCES spaces (guid),
    options TEXT NOT NULL DEFAULT '{}',
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, UNIQUE (domain_guid, host, path, port));
CREATE INDEX routes_by_space ON routes (space_guid);
CREATE TABLE route_shares (route_guid TEXT NOT NULL, space_guid TEXT NOT NULL, PRIMARY KEY (route_guid, space_guid));

-- No port is 0: the process's own, 8080 as a rule.
CREATE TABLE route_destinations (
    id $ID, guid TEXT NOT NULL UNIQUE, route_guid TEXT NOT NULL REFERENCES routes (guid), app_guid TEXT NOT NULL,
    process_type TEXT NOT NULL, port BIGINT NOT NULL DEFAULT 0, weight BIGINT, protocol TEXT NOT NULL DEFAULT 'http1',
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, UNIQUE (route_guid, app_guid, process_type, port));
CREATE INDEX route_destinations_by_app ON route_destinations (app_guid);

CREATE TABLE apps (
    id $ID, guid TEXT NOT NULL UNIQUE, name TEXT NOT NULL, space_guid TEXT NOT NULL REFERENCES spaces (guid),
    state TEXT NOT NULL DEFAULT 'STOPPED', lifecycle TEXT NOT NULL, stack TEXT, buildpacks TEXT NOT NULL DEFAULT '[]',
    sealed_env TEXT, droplet_guid TEXT, enable_ssh BIGINT, revisions_enabled BIGINT NOT NULL DEFAULT 1,
    service_binding_k8s BIGINT NOT NULL DEFAULT 0, file_based_vcap_services BIGINT NOT NULL DEFAULT 0,
    buildpack_cache TEXT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, UNIQUE (space_guid, name));
CREATE INDEX apps_by_droplet ON apps (droplet_guid);

-- `version` changes whenever its instances must be made anew.
CREATE TABLE processes (
    id $ID, guid TEXT NOT NULL UNIQUE, app_guid TEXT NOT NULL REFERENCES apps (guid), type TEXT NOT NULL, version TEXT NOT NULL,
    command TEXT, run_as TEXT, instances BIGINT NOT NULL, memory_mb BIGINT NOT NULL, disk_mb BIGINT NOT NULL,
    log_rate BIGINT NOT NULL,
    health_check_type TEXT NOT NULL, health_check_endpoint TEXT, health_check_timeout BIGINT,
    health_check_invocation_timeout BIGINT, health_check_interval BIGINT,
    readiness_type TEXT NOT NULL DEFAULT 'process', readiness_endpoint TEXT,
    readiness_invocation_timeout BIGINT, readiness_interval BIGINT,
    revision_guid TEXT, deployment_guid TEXT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE INDEX processes_by_app ON processes (app_guid, type);

-- What the bridge has to bring in step with Diego; written with the change itself.
CREATE TABLE lrp_changes (id $ID, process_guid TEXT NOT NULL, version TEXT NOT NULL);

CREATE TABLE sidecars (
    id $ID, guid TEXT NOT NULL UNIQUE, app_guid TEXT NOT NULL REFERENCES apps (guid), name TEXT NOT NULL, command TEXT NOT NULL,
    process_types TEXT NOT NULL, memory_mb BIGINT, origin TEXT NOT NULL DEFAULT 'user',
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, UNIQUE (app_guid, name));

CREATE TABLE packages (
    id $ID, guid TEXT NOT NULL UNIQUE, app_guid TEXT NOT NULL REFERENCES apps (guid), type TEXT NOT NULL, state TEXT NOT NULL,
    sha256 TEXT, error TEXT, docker_image TEXT, docker_username TEXT, sealed_docker_password TEXT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE INDEX packages_by_app ON packages (app_guid);

CREATE TABLE builds (
    id $ID, guid TEXT NOT NULL UNIQUE, app_guid TEXT NOT NULL REFERENCES apps (guid), package_guid TEXT NOT NULL,
    droplet_guid TEXT, state TEXT NOT NULL, error_id TEXT, error_description TEXT,
    lifecycle TEXT NOT NULL, stack TEXT, buildpacks TEXT NOT NULL DEFAULT '[]',
    memory_mb BIGINT NOT NULL, disk_mb BIGINT NOT NULL, log_rate BIGINT NOT NULL,
    created_by_guid TEXT, created_by_name TEXT, created_by_email TEXT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE INDEX builds_by_app ON builds (app_guid, state);
CREATE INDEX builds_by_package ON builds (package_guid);

CREATE TABLE droplets (
    id $ID, guid TEXT NOT NULL UNIQUE, app_guid TEXT NOT NULL REFERENCES apps (guid), package_guid TEXT, build_guid TEXT,
    state TEXT NOT NULL, error TEXT, lifecycle TEXT NOT NULL, stack TEXT, buildpacks TEXT NOT NULL DEFAULT '[]',
    process_types TEXT, sidecars TEXT NOT NULL DEFAULT '[]', execution_metadata TEXT NOT NULL DEFAULT '',
    sha256 TEXT, docker_image TEXT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE INDEX droplets_by_app ON droplets (app_guid, state);
CREATE INDEX droplets_by_package ON droplets (package_guid);

CREATE TABLE stacks (
    id $ID, guid TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, description TEXT, state TEXT NOT NULL DEFAULT 'ACTIVE',
    state_reason TEXT, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);

-- No stack is an empty text. `system` ones are kept as the program brings them until somebody uploads another.
CREATE TABLE buildpacks (
    id $ID, guid TEXT NOT NULL UNIQUE, name TEXT NOT NULL, stack TEXT NOT NULL DEFAULT '', lifecycle TEXT NOT NULL DEFAULT 'buildpack',
    state TEXT NOT NULL, filename TEXT, sha256 TEXT, position BIGINT NOT NULL, enabled BIGINT NOT NULL DEFAULT 1,
    locked BIGINT NOT NULL DEFAULT 0, system_sha256 TEXT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, UNIQUE (name, stack, lifecycle));

CREATE TABLE revisions (
    id $ID, guid TEXT NOT NULL UNIQUE, app_guid TEXT NOT NULL REFERENCES apps (guid), version BIGINT NOT NULL, droplet_guid TEXT,
    sealed_env TEXT, commands TEXT NOT NULL DEFAULT '{}', sidecars TEXT NOT NULL DEFAULT '[]', description TEXT NOT NULL,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE INDEX revisions_by_app ON revisions (app_guid, version);

CREATE TABLE deployments (
    id $ID, guid TEXT NOT NULL UNIQUE, app_guid TEXT NOT NULL REFERENCES apps (guid), strategy TEXT NOT NULL,
    status_value TEXT NOT NULL, status_reason TEXT NOT NULL, state TEXT NOT NULL,
    droplet_guid TEXT, previous_droplet_guid TEXT, revision_guid TEXT, revision_version BIGINT,
    web_process_guid TEXT, original_web_instances BIGINT NOT NULL DEFAULT 1, options TEXT NOT NULL DEFAULT '{}',
    canary_step BIGINT NOT NULL DEFAULT 0, status_changed_at BIGINT, last_healthy_at BIGINT, error TEXT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE INDEX deployments_by_app ON deployments (app_guid, status_value);
CREATE TABLE deployment_processes (
    id $ID, deployment_guid TEXT NOT NULL, process_guid TEXT NOT NULL, process_type TEXT NOT NULL);
CREATE INDEX deployment_processes_by_deployment ON deployment_processes (deployment_guid);

CREATE TABLE tasks (
    id $ID, guid TEXT NOT NULL UNIQUE, app_guid TEXT NOT NULL REFERENCES apps (guid), sequence_id BIGINT NOT NULL, name TEXT NOT NULL,
    command TEXT NOT NULL, run_as TEXT, state TEXT NOT NULL, memory_mb BIGINT NOT NULL, disk_mb BIGINT NOT NULL, log_rate BIGINT NOT NULL,
    droplet_guid TEXT NOT NULL, failure_reason TEXT, sealed_env TEXT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, UNIQUE (app_guid, sequence_id));

CREATE TABLE service_instances (
    id $ID, guid TEXT NOT NULL UNIQUE, name TEXT NOT NULL, space_guid TEXT NOT NULL REFERENCES spaces (guid), type TEXT NOT NULL,
    tags TEXT NOT NULL DEFAULT '[]', sealed_credentials TEXT, syslog_drain_url TEXT, route_service_url TEXT,
    plan_guid TEXT, dashboard_url TEXT, maintenance_info TEXT, upgrade_available BIGINT NOT NULL DEFAULT 0,
    operation_type TEXT NOT NULL DEFAULT 'create', operation_state TEXT NOT NULL DEFAULT 'succeeded', operation_description TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, UNIQUE (space_guid, name));
CREATE INDEX service_instances_by_plan ON service_instances (plan_guid);
CREATE TABLE service_instance_shares (service_instance_guid TEXT NOT NULL, space_guid TEXT NOT NULL, PRIMARY KEY (service_instance_guid, space_guid));

-- Bindings to apps have an app, keys have none (an empty text).
CREATE TABLE service_credential_bindings (
    id $ID, guid TEXT NOT NULL UNIQUE, type TEXT NOT NULL, name TEXT, service_instance_guid TEXT NOT NULL REFERENCES service_instances (guid),
    app_guid TEXT NOT NULL DEFAULT '', sealed_credentials TEXT, syslog_drain_url TEXT, volume_mounts TEXT NOT NULL DEFAULT '[]',
    operation_type TEXT NOT NULL DEFAULT 'create', operation_state TEXT NOT NULL DEFAULT 'succeeded', operation_description TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE INDEX service_credential_bindings_by_app ON service_credential_bindings (app_guid);
CREATE INDEX service_credential_bindings_by_instance ON service_credential_bindings (service_instance_guid);
CREATE TABLE service_route_bindings (
    id $ID, guid TEXT NOT NULL UNIQUE, route_guid TEXT NOT NULL UNIQUE, service_instance_guid TEXT NOT NULL,
    route_service_url TEXT, operation_type TEXT NOT NULL DEFAULT 'create', operation_state TEXT NOT NULL DEFAULT 'succeeded',
    operation_description TEXT NOT NULL DEFAULT '', created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);

CREATE TABLE security_groups (
    id $ID, guid TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, rules TEXT NOT NULL DEFAULT '[]',
    running_default BIGINT NOT NULL DEFAULT 0, staging_default BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
-- `phase` is running or staging.
CREATE TABLE security_group_spaces (
    security_group_guid TEXT NOT NULL, space_guid TEXT NOT NULL, phase TEXT NOT NULL, PRIMARY KEY (security_group_guid, space_guid, phase));
CREATE INDEX security_group_spaces_by_space ON security_group_spaces (space_guid, phase);

CREATE TABLE feature_flags (name TEXT PRIMARY KEY, enabled BIGINT NOT NULL, custom_error_message TEXT, updated_at BIGINT NOT NULL);
CREATE TABLE environment_variable_groups (name TEXT PRIMARY KEY, sealed_env TEXT, updated_at BIGINT NOT NULL);

CREATE TABLE labels (
    resource_type TEXT NOT NULL, resource_guid TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (resource_type, resource_guid, name));
CREATE INDEX labels_by_name ON labels (resource_type, name, value);
CREATE TABLE annotations (
    resource_type TEXT NOT NULL, resource_guid TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (resource_type, resource_guid, name));

CREATE TABLE jobs (
    id $ID, guid TEXT NOT NULL UNIQUE, operation TEXT NOT NULL, state TEXT NOT NULL, resource_type TEXT NOT NULL, resource_guid TEXT NOT NULL,
    errors TEXT NOT NULL, warnings TEXT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);

CREATE TABLE audit_events (
    id $ID, guid TEXT NOT NULL UNIQUE, type TEXT NOT NULL, actor_guid TEXT NOT NULL, actor_type TEXT NOT NULL, actor_name TEXT NOT NULL,
    target_guid TEXT NOT NULL, target_type TEXT NOT NULL, target_name TEXT NOT NULL, data TEXT NOT NULL,
    space_guid TEXT, org_guid TEXT, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE INDEX audit_events_by_target ON audit_events (target_guid, id);
CREATE INDEX audit_events_by_space ON audit_events (space_guid, id);
CREATE INDEX audit_events_by_org ON audit_events (org_guid, id);
CREATE INDEX audit_events_by_time ON audit_events (created_at);

-- `data` holds the document that is answered, but for guid and times.
CREATE TABLE app_usage_events (
    id $ID, guid TEXT NOT NULL UNIQUE, state TEXT NOT NULL, app_guid TEXT NOT NULL, process_guid TEXT NOT NULL, data TEXT NOT NULL,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE TABLE service_usage_events (
    id $ID, guid TEXT NOT NULL UNIQUE, state TEXT NOT NULL, service_instance_guid TEXT NOT NULL, service_instance_type TEXT NOT NULL,
    service_offering_guid TEXT NOT NULL DEFAULT '', data TEXT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);

-- Blobs that may be needed no more; looked at later, and deleted when no row names them.
CREATE TABLE blob_candidates (id $ID, kind TEXT NOT NULL, digest TEXT NOT NULL, noted_at BIGINT NOT NULL);
CREATE INDEX packages_by_digest ON packages (sha256);
CREATE INDEX droplets_by_digest ON droplets (sha256);
CREATE INDEX apps_by_cache ON apps (buildpack_cache);
CREATE INDEX tasks_by_state ON tasks (state);
CREATE INDEX deployments_by_status ON deployments (status_value);
CREATE INDEX app_usage_events_by_process ON app_usage_events (process_guid);
