//! OAuth clients.

use axum::http::Method;
use serde_json::{Value, json};
use uaa::{ClientConfig, TokenError};

use crate::harness::*;

fn sample(id: &str) -> Value {
    json!({
        "client_id": id, "client_secret": "s", "authorized_grant_types": ["client_credentials"],
        "authorities": ["cloud_controller.read"], "name": "A client", "access_token_validity": 60,
    })
}

#[tokio::test]
async fn a_client_is_made_used_changed_and_deleted() {
    on_each_database(async |world| {
        let operator = world.client(OPERATOR).await;
        let made = world.post("/oauth/clients", &operator, sample("app")).await;
        assert_eq!((made.status.as_u16(), &made.body["name"]), (201, &json!("A client")), "{}", made.text);
        assert!(!made.text.contains("secret"), "{}", made.text);
        world.post("/oauth/clients", &operator, sample("app")).await.refused(409, "invalid_client");
        assert!(world.uaa.client_exists("app").await.unwrap());
        assert_eq!(world.uaa.existing_clients(&["app".to_owned(), "x".to_owned()]).await.unwrap(), ["app"]);
        let token = world.client(("app", "s")).await;
        assert!(world.uaa.verify(&token).unwrap().has_scope("cloud_controller.read"));
        world.pass(60);
        assert_eq!(world.uaa.verify(&token), Err(TokenError::Expired));
        let operator = world.client(OPERATOR).await;
        let change = json!({ "client_id": "app", "authorized_grant_types": "client_credentials", "authorities": "uaa.resource" });
        world.call(Method::PUT, "/oauth/clients/app", &operator, change).await.ok();
        assert!(world.uaa.verify(&world.client(("app", "s")).await).unwrap().has_scope("uaa.resource"));
        let add = json!({ "secret": "s2", "changeMode": "ADD" });
        world.call(Method::PUT, "/oauth/clients/app/secret", &operator, add).await.ok();
        world.client(("app", "s")).await;
        world.client(("app", "s2")).await;
        let delete = json!({ "changeMode": "DELETE" });
        world.call(Method::PUT, "/oauth/clients/app/secret", &operator, delete).await.ok();
        let last = world.client(("app", "s2")).await;
        let form = [("grant_type", "client_credentials")];
        world.form("/oauth/token", ("app", "s"), &form).await.refused(401, "invalid_client");
        world.call(Method::DELETE, "/oauth/clients/app", &operator, Value::Null).await.ok();
        world.get("/oauth/clients/app", &operator).await.refused(404, "not_found");
        assert_eq!(world.uaa.verify(&last), Err(TokenError::Invalid));
    })
    .await;
}

#[tokio::test]
async fn who_may_see_and_change_clients() {
    on_each_database(async |world| {
        world.user("sam", "pw").await;
        let sam = world.log_in("sam", "pw").await.body["access_token"].as_str().unwrap().to_owned();
        let (admin, operator) = (world.admin().await, world.client(OPERATOR).await);
        world.get("/oauth/clients/cf", &sam).await.refused(403, "insufficient_scope");
        assert_eq!(world.get("/oauth/clients/cf", &admin).await.ok()["client_id"], "cf");
        world.post("/oauth/clients", &admin, sample("app")).await.refused(403, "insufficient_scope");
        let filtered = world.get("/oauth/clients?filter=client_id+eq+%22doppler%22", &operator).await;
        assert_eq!(filtered.ok()["totalResults"], 1);
        assert!(world.get("/oauth/clients?count=2", &operator).await.ok()["totalResults"].as_i64().unwrap() > 10);
        // A writer cannot make a client that may more than itself.
        let writer = ClientConfig {
            client_id: "writer".to_owned(),
            secret: Some("w".to_owned()),
            authorities: vec!["clients.write".to_owned()],
            authorized_grant_types: vec!["client_credentials".to_owned()],
            ..ClientConfig::default()
        };
        world.uaa.put_client(&writer).await.unwrap();
        let writer = world.client(("writer", "w")).await;
        world.post("/oauth/clients", &writer, sample("app")).await.refused(400, "invalid_client");
        let own = json!({ "client_id": "app", "client_secret": "s", "authorized_grant_types": ["client_credentials"], "authorities": ["app.read"] });
        world.post("/oauth/clients", &writer, own).await.ok();
        let hijack = json!({ "secret": "mine" });
        world.call(Method::PUT, "/oauth/clients/admin/secret", &writer, hijack).await.refused(403, "insufficient_scope");
    })
    .await;
}

#[tokio::test]
async fn many_change_together_or_not_at_all() {
    on_each_database(async |world| {
        let operator = world.client(OPERATOR).await;
        let with = |mut client: Value, action: &str| {
            client["action"] = action.into();
            client
        };
        let both = json!([with(sample("a"), "add"), with(sample("b"), "add")]);
        world.post("/oauth/clients/tx/modify", &operator, both).await.ok();
        let half = json!([with(sample("a"), "delete"), with(sample("c"), "delete")]);
        world.post("/oauth/clients/tx/modify", &operator, half).await.refused(404, "not_found");
        assert!(world.uaa.client_exists("a").await.unwrap());
        let secret = json!({ "client_id": "b", "client_secret": "new", "action": "secret" });
        let mixed = json!([with(sample("a"), "delete"), secret]);
        world.post("/oauth/clients/tx/modify", &operator, mixed).await.ok();
        assert!(!world.uaa.client_exists("a").await.unwrap());
        world.client(("b", "new")).await;
        let bad =
            json!([{ "client_id": "x", "authorized_grant_types": ["magic"], "action": "add" }]);
        world.post("/oauth/clients/tx/modify", &operator, bad).await.refused(400, "invalid_client");
    })
    .await;
}

#[tokio::test]
async fn configured_clients_follow_the_configuration() {
    on_each_database(async |world| {
        let changed = uaa::Config {
            clients: vec![ClientConfig {
                client_id: SERVICE.0.to_owned(),
                secret: Some("changed".to_owned()),
                ..ClientConfig::default()
            }],
            ..config()
        };
        uaa::Uaa::open(world.db.clone(), changed, world.clock.clone()).await.unwrap();
        world.client((SERVICE.0, "changed")).await;
        let form = [("grant_type", "client_credentials")];
        world.form("/oauth/token", SERVICE, &form).await.refused(401, "invalid_client");
    })
    .await;
}
