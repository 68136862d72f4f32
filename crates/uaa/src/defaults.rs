//! What every installation starts with: scopes, clients, and the administrator's rights.

use crate::config::ClientConfig;

/// What every user has.
pub(crate) const USER_GROUPS: &[&str] = &[
    "openid",
    "scim.me",
    "cloud_controller.read",
    "cloud_controller.write",
    "cloud_controller_service_permissions.read",
    "password.write",
    "uaa.user",
    "approvals.me",
    "oauth.approvals",
    "notification_preferences.read",
    "notification_preferences.write",
    "profile",
    "roles",
    "user_attributes",
    "uaa.offline_token",
];

/// What the administrator has besides.
pub(crate) const ADMIN_GROUPS: &[&str] = &[
    "clients.read",
    "cloud_controller.admin",
    "doppler.firehose",
    "network.admin",
    "routing.router_groups.read",
    "routing.router_groups.write",
    "scim.read",
    "scim.write",
];

/// Scopes that operators give.
pub(crate) const OTHER_GROUPS: &[&str] = &[
    "clients.admin",
    "clients.secret",
    "clients.write",
    "cloud_controller.admin_read_only",
    "cloud_controller.global_auditor",
    "groups.update",
    "logs.admin",
    "network.write",
    "routing.routes.read",
    "routing.routes.write",
    "scim.create",
    "scim.userids",
    "uaa.admin",
    "uaa.none",
    "uaa.resource",
];

/// The clients of a Cloud Foundry. Those without a secret here get one from the configuration, or nobody can be them.
pub(crate) fn clients(issuer: &str) -> Vec<ClientConfig> {
    vec![
        ClientConfig {
            secret: Some(String::new()),
            access_token_seconds: Some(1_200),
            refresh_token_seconds: Some(2_592_000),
            ..client(
                "cf",
                "password refresh_token",
                "uaa.none",
                "network.admin network.write cloud_controller.read cloud_controller.write openid password.write \
                 cloud_controller.admin scim.read scim.write doppler.firehose uaa.user routing.router_groups.read \
                 routing.router_groups.write cloud_controller.admin_read_only cloud_controller.global_auditor perm.admin \
                 clients.read",
            )
        },
        ClientConfig {
            redirect_uri: vec![format!("{issuer}/login")],
            autoapprove: true,
            ..client(
                "ssh-proxy",
                "authorization_code",
                "",
                "openid cloud_controller.read cloud_controller.write cloud_controller.admin",
            )
        },
        service(
            "admin",
            "clients.read clients.write clients.secret clients.admin uaa.admin scim.read scim.write password.write",
        ),
        service("doppler", "uaa.resource"),
        service("gorouter", "routing.routes.read"),
        service("tcp_router", "routing.routes.read routing.router_groups.read"),
        service("tcp_emitter", "routing.routes.write routing.routes.read"),
        service(
            "routing_api_client",
            "routing.routes.write routing.routes.read routing.router_groups.read",
        ),
        service("cc_routing", "routing.router_groups.read"),
        service("cloud_controller_username_lookup", "scim.userids scim.read"),
        client(
            "cc-service-dashboards",
            "client_credentials",
            "clients.read clients.write clients.admin",
            "openid cloud_controller_service_permissions.read",
        ),
        service("network-policy", "uaa.resource cloud_controller.admin_read_only"),
        service("cc_service_key_client", "credhub.read credhub.write"),
        service("cf_smoke_tests", "cloud_controller.admin clients.read"),
    ]
}

fn service(client_id: &str, authorities: &str) -> ClientConfig {
    client(client_id, "client_credentials", authorities, "")
}

fn client(client_id: &str, grants: &str, authorities: &str, scope: &str) -> ClientConfig {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    ClientConfig {
        client_id: client_id.to_owned(),
        scope: words(scope),
        authorities: words(authorities),
        authorized_grant_types: words(grants),
        ..ClientConfig::default()
    }
}
