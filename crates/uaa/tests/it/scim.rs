//! Users and groups.

use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::{Value, json};
use uaa::AccountError;

use crate::harness::*;

fn names(list: &Value) -> Vec<&str> {
    list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["userName"].as_str().unwrap())
        .collect()
}

fn query(path: &str, pairs: &[(&str, &str)]) -> String {
    format!(
        "{path}?{}",
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    )
}

#[tokio::test]
async fn cf_creates_finds_and_deletes_a_user() {
    on_each_database(async |world| {
        let id = world.user("Sam", "pw").await;
        let admin = world.admin().await;
        let body = json!({ "userName": "sAM", "password": "x", "emails": [{ "value": "a@b" }] });
        let taken = world.post("/Users", &admin, body.clone()).await;
        assert_eq!(
            taken.refused(409, "scim_resource_already_exists"),
            "Username already in use: sAM"
        );
        assert_eq!(taken.body["user_id"], id.as_str());
        let found = world
            .get(
                &query("/Users", &[("filter", "userName eq \"sam\" and origin eq \"uaa\"")]),
                &admin,
            )
            .await;
        assert_eq!(
            (&found.ok()["totalResults"], &found.body["resources"][0]["id"]),
            (&json!(1), &json!(id))
        );
        let groups = found.body["resources"][0]["groups"].as_array().unwrap();
        assert!(groups.iter().any(|group| group["display"] == "cloud_controller.read"));
        let sam = world.log_in("sam", "pw").await.body["access_token"].as_str().unwrap().to_owned();
        world.post("/Users", &sam, body).await.refused(403, "insufficient_scope");
        world.get("/Users", &sam).await.refused(403, "insufficient_scope");
        assert_eq!(world.get(&format!("/Users/{id}"), &sam).await.ok()["userName"], "Sam");
        let path = format!("/Users/{id}");
        world
            .call(Method::DELETE, &path, &sam, Value::Null)
            .await
            .refused(403, "insufficient_scope");
        assert_eq!(
            world.call(Method::DELETE, &path, &admin, Value::Null).await.ok()["id"],
            id.as_str()
        );
        world.get(&path, &admin).await.refused(404, "scim_resource_not_found");
        world.log_in("sam", "pw").await.refused(401, "unauthorized");
        world.user("sam", "pw").await;
    })
    .await;
}

#[tokio::test]
async fn bad_users_are_refused() {
    on_each_database(async |world| {
        let admin = world.admin().await;
        for (body, status, error) in [
            (json!({ "userName": "a b", "emails": [{ "value": "x" }] }), 400, "invalid_scim_resource"),
            (json!({ "userName": "ab" }), 400, "invalid_scim_resource"),
            (json!({ "emails": [{ "value": "x" }] }), 400, "invalid_scim_resource"),
            (json!({ "userName": "ab", "emails": [{ "value": "x" }], "password": "y".repeat(300) }), 422, "invalid_password"),
            (json!({ "userName": ["ab"] }), 400, "invalid_request"),
        ] {
            world.post("/Users", &admin, body).await.refused(status, error);
        }
        let bad = world.get(&query("/Users", &[("filter", "userName is 1")]), &admin).await;
        assert!(bad.refused(400, "scim").contains("Invalid filter expression"));
        world.get(&query("/Users", &[("filter", "password_hash eq \"x\"")]), &admin).await.refused(400, "scim");
        world.get(&query("/Users", &[("sortBy", "guid; DROP")]), &admin).await.refused(400, "scim");
    })
    .await;
}

#[tokio::test]
async fn a_list_is_filtered_ordered_and_paged() {
    on_each_database(async |world| {
        let admin = world.admin().await;
        for name in ["ann", "Bob", "c_d", "cxd", "dora%"] {
            world.pass(1);
            if name.contains('%') {
                world.uaa.create_user(name, "ldap", None).await.unwrap();
            } else {
                world.user(name, "pw").await;
            }
        }
        let list = async |pairs: &[(&str, &str)]| {
            let answer = world.get(&query("/Users", pairs), &admin).await;
            answer.ok();
            names(&answer.body).join(" ")
        };
        assert_eq!(list(&[]).await, "admin ann Bob c_d cxd dora%");
        assert_eq!(
            list(&[("sortBy", "userName"), ("sortOrder", "descending")]).await,
            "dora% cxd c_d Bob ann admin"
        );
        assert_eq!(list(&[("startIndex", "2"), ("count", "2")]).await, "ann Bob");
        assert_eq!(list(&[("count", "0")]).await, "");
        assert_eq!(
            list(&[("filter", "userName sw \"C_\"")]).await,
            "c_d",
            "an underscore stands for itself"
        );
        assert_eq!(list(&[("filter", "userName co \"%\"")]).await, "dora%");
        assert_eq!(
            list(&[("filter", "origin eq \"uaa\" and not (userName sw \"a\")")]).await,
            "Bob c_d cxd"
        );
        assert_eq!(list(&[("filter", "userName eq \"ann\" or email eq \"BOB\"")]).await, "ann Bob");
        assert_eq!(list(&[("filter", "verified eq true")]).await, "admin");
        let last =
            world.get("/Users?startIndex=6", &admin).await.body["resources"][0]["meta"]["created"]
                .clone();
        assert_eq!(list(&[("filter", &format!("meta.created ge {last}"))]).await, "dora%");
        let answer = world
            .get(&query("/Users", &[("count", "1"), ("attributes", "id,userName")]), &admin)
            .await;
        assert_eq!(answer.body["totalResults"], 6);
        assert_eq!(answer.body["resources"][0].as_object().unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_user_is_changed_by_put_and_patch() {
    on_each_database(async |world| {
        let admin = world.admin().await;
        let id = world.user("sam", "pw").await;
        let path = format!("/Users/{id}");
        let put = json!({ "userName": "samuel", "emails": [{ "value": "s@x" }], "name": { "familyName": "F" } });
        let send = async |method: Method, version: &str, body: &Value| {
            let request = Request::builder().method(method).uri(&path).header(header::IF_MATCH, version);
            let request = request.header(header::AUTHORIZATION, format!("Bearer {admin}"));
            world.send(request.body(Body::from(body.to_string())).unwrap()).await
        };
        let changed = send(Method::PUT, "0", &put).await;
        assert_eq!((&changed.ok()["userName"], &changed.body["meta"]["version"]), (&json!("samuel"), &json!(1)));
        assert_eq!(send(Method::PUT, "0", &put).await.status, 412);
        let patched = send(Method::PATCH, "\"1\"", &json!({ "active": false })).await;
        assert_eq!((&patched.ok()["active"], &patched.body["name"]["familyName"]), (&json!(false), &json!("F")));
        world.log_in("samuel", "pw").await.refused(401, "unauthorized");
        send(Method::PATCH, "*", &json!({ "active": true })).await.ok();
        let sam = world.log_in("samuel", "pw").await.body["access_token"].as_str().unwrap().to_owned();
        let own = world.call(Method::PATCH, &path, &sam, json!({ "verified": true, "name": { "givenName": "G" } })).await;
        assert_eq!((&own.ok()["verified"], &own.body["name"]["givenName"]), (&json!(false), &json!("G")));
        send(Method::PATCH, "*", &json!({ "userName": "admin" })).await.refused(409, "scim_resource_already_exists");
    })
    .await;
}

#[tokio::test]
async fn an_operator_unlocks_an_account() {
    on_each_database(async |world| {
        let id = world.user("sam", "pw").await;
        for _ in 0..5 {
            world.log_in("sam", "wrong").await;
        }
        assert!(world.log_in("sam", "pw").await.refused(401, "unauthorized").contains("locked"));
        let (path, admin) = (format!("/Users/{id}/status"), world.admin().await);
        world
            .call(Method::PATCH, &path, &admin, json!({ "locked": true }))
            .await
            .refused(400, "invalid_scim_resource");
        world.call(Method::PATCH, &path, &admin, json!({ "locked": false })).await.ok();
        world.log_in("sam", "pw").await.ok();
        world
            .call(Method::PATCH, &path, &admin, json!({ "passwordChangeRequired": true }))
            .await
            .ok();
        world.log_in("sam", "pw").await.refused(401, "unauthorized");
    })
    .await;
}

#[tokio::test]
async fn a_group_gives_its_scope() {
    on_each_database(async |world| {
        let id = world.user("sam", "pw").await;
        let operator = world.client(OPERATOR).await;
        let found = world.get(&query("/Groups", &[("filter", "displayName eq \"cloud_controller.admin\"")]), &operator).await;
        let group = found.ok()["resources"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(found.body["resources"][0]["members"].as_array().unwrap().len(), 1, "the administrator");
        let sam = world.log_in("sam", "pw").await.body["access_token"].as_str().unwrap().to_owned();
        let path = format!("/Groups/{group}/members");
        let member = json!({ "value": id, "type": "USER", "origin": "uaa" });
        world.post(&path, &sam, member.clone()).await.refused(403, "insufficient_scope");
        assert_eq!(world.post(&path, &operator, member.clone()).await.status, 201);
        world.post(&path, &operator, member).await.refused(409, "member_already_exists");
        world.post(&path, &operator, json!({ "value": "nobody" })).await.refused(404, "scim_resource_not_found");
        let scope = async || world.log_in("sam", "pw").await.body["scope"].as_str().unwrap().to_owned();
        assert!(scope().await.contains("cloud_controller.admin"));
        world.get(&format!("{path}/{id}"), &operator).await.ok();
        world.call(Method::DELETE, &format!("{path}/{id}"), &operator, Value::Null).await.ok();
        assert!(!scope().await.contains("cloud_controller.admin"));
        // Groups hold groups.
        let made = world.post("/Groups", &operator, json!({ "displayName": "staff", "members": [{ "value": id }] })).await;
        let staff = made.ok()["id"].as_str().unwrap().to_owned();
        world.post(&path, &operator, json!({ "value": staff, "type": "GROUP" })).await.ok();
        assert!(scope().await.contains("cloud_controller.admin"));
        world.post("/Groups", &operator, json!({ "displayName": "STAFF" })).await.refused(409, "scim_resource_already_exists");
        let patch = json!({ "members": [{ "value": id, "operation": "delete" }] });
        world.call(Method::PATCH, &format!("/Groups/{staff}"), &operator, patch).await.ok();
        assert!(!scope().await.contains("cloud_controller.admin"));
        let put = json!({ "displayName": "crew", "members": [{ "value": id }] });
        assert_eq!(world.call(Method::PUT, &format!("/Groups/{staff}"), &operator, put).await.ok()["displayName"], "crew");
        world.call(Method::DELETE, &format!("/Groups/{staff}"), &operator, Value::Null).await.ok();
        assert!(!scope().await.contains("cloud_controller.admin"));
    })
    .await;
}

#[tokio::test]
async fn cloud_controller_turns_names_into_ids_and_back() {
    on_each_database(async |world| {
        let id = world.user("Sam", "pw").await;
        let twin = world.uaa.create_user("sam", "ldap", None).await.unwrap();
        let taken = world.uaa.create_user("SAM", "ldap", None).await.unwrap_err();
        assert!(matches!(taken, AccountError::Taken { guid } if guid == twin.guid));
        world.log_in("sam", "").await.refused(401, "unauthorized");
        let found = world
            .uaa
            .ids_by_usernames(&["SAM".to_owned(), "nobody".to_owned()], None)
            .await
            .unwrap();
        assert_eq!(found.len(), 2);
        let found = world
            .uaa
            .ids_by_usernames(&["sam".to_owned()], Some(&["uaa".to_owned()]))
            .await
            .unwrap();
        assert_eq!(
            (found.len(), found[0].guid.as_str(), found[0].username.as_str()),
            (1, id.as_str(), "Sam")
        );
        let many: Vec<String> =
            (0..1_200).map(|n| n.to_string()).chain([id.clone(), twin.guid.clone()]).collect();
        assert_eq!(world.uaa.users_by_ids(&many).await.unwrap().len(), 2);
        assert!(world.uaa.users_by_ids(&[]).await.unwrap().is_empty());
        world.uaa.grant(&id, "network.write").await.unwrap();
        world.uaa.grant(&id, "brand.new").await.unwrap();
        assert!(
            world.log_in("sam", "pw").await.body["scope"]
                .as_str()
                .unwrap()
                .contains("network.write")
        );
        let lookup = world.client(("cloud_controller_username_lookup", "lookup-secret")).await;
        let filter = format!("id eq \"{id}\" or username eq \"SAM\" and origin eq \"ldap\"");
        let ids = world.get(&query("/ids/Users", &[("filter", &filter)]), &lookup).await;
        assert_eq!(
            (names(ids.ok()).len(), ids.body["resources"][0].as_object().unwrap().len()),
            (2, 3)
        );
        world
            .get(&query("/ids/Users", &[("filter", "email eq \"x\"")]), &lookup)
            .await
            .refused(400, "scim");
        world.get("/ids/Users", &lookup).await.refused(400, "scim");
    })
    .await;
}
