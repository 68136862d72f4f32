//! Logging in and out, refreshing, codes, checking and ending tokens.

use axum::body::Body;
use axum::http::{Method, Request, header};
use base::{Clock, Timestamp};
use serde_json::{Value, json};
use uaa::{TokenError, Uaa};

use crate::harness::*;

#[tokio::test]
async fn a_login_gives_what_cf_reads() {
    on_each_database(async |world| {
        let answer = world.log_in("ADMIN", ADMIN_PASSWORD).await;
        let body = answer.ok();
        assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("bearer"), &json!(1199)));
        let claims = claims(&body["access_token"]);
        assert_eq!(claims["iss"], "https://uaa.example.com/oauth/token");
        assert_eq!(
            (&claims["user_name"], &claims["origin"], &claims["client_id"]),
            (&json!("admin"), &json!("uaa"), &json!("cf"))
        );
        assert_eq!((&claims["revocable"], &claims["zid"]), (&json!(true), &json!("uaa")));
        let scope: Vec<&str> = claims["scope"]
            .as_array()
            .unwrap()
            .iter()
            .map(|scope| scope.as_str().unwrap())
            .collect();
        for wanted in [
            "cloud_controller.admin",
            "cloud_controller.read",
            "scim.write",
            "doppler.firehose",
            "openid",
        ] {
            assert!(scope.contains(&wanted), "{scope:?}");
        }
        assert!(!scope.contains(&"network.write"), "nobody gave it");
        assert!(claims["aud"].as_array().unwrap().contains(&json!("cloud_controller")));
        let verified = world
            .uaa
            .verify(&format!("bearer {}", body["access_token"].as_str().unwrap()))
            .unwrap();
        assert!(verified.has_scope("cloud_controller.admin") && verified.is_user());
        assert_eq!(verified.display_name(), "admin");
    })
    .await;
}

#[tokio::test]
async fn anybody_can_check_a_token_with_the_published_key() {
    on_each_database(async |world| {
        let token = world.admin().await;
        let answer = world.get("/token_keys", "").await;
        let keys = answer.ok();
        let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
        let key =
            keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid.as_str()).unwrap();
        let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
        rules.set_audience(&["cloud_controller"]);
        for decoding in [
            jsonwebtoken::DecodingKey::from_rsa_components(
                key["n"].as_str().unwrap(),
                key["e"].as_str().unwrap(),
            ),
            jsonwebtoken::DecodingKey::from_rsa_pem(key["value"].as_str().unwrap().as_bytes()),
        ] {
            let data = jsonwebtoken::decode::<Value>(&token, &decoding.unwrap(), &rules).unwrap();
            assert_eq!(data.claims["user_name"], "admin");
        }
        let tag = answer.headers[header::ETAG].to_str().unwrap();
        let again = Request::get("/token_keys")
            .header(header::IF_NONE_MATCH, tag)
            .body(Body::empty())
            .unwrap();
        assert_eq!(world.send(again).await.status, 304);
        assert_eq!(world.get("/token_key", "").await.ok()["kid"], kid.as_str());
    })
    .await;
}

#[tokio::test]
async fn tokens_of_before_a_restart_stay_good_and_the_key_stays_sealed() {
    on_each_database(async |world| {
        let token = world.admin().await;
        let again = World::open(world.db.clone(), world.clock.clone()).await;
        again.uaa.verify(&token).unwrap();
        let wrong = uaa::Config { encryption_key: vec![8; 32], ..config() };
        let error = Uaa::open(world.db.clone(), wrong, world.clock.clone()).await.err().unwrap();
        assert!(format!("{error:#}").contains("does not open"), "{error:#}");
        let short = uaa::Config { encryption_key: vec![8; 16], ..config() };
        assert!(Uaa::open(world.db.clone(), short, world.clock.clone()).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn wrong_credentials_are_refused_alike() {
    on_each_database(async |world| {
        for (name, password) in [("admin", "wrong"), ("nobody", "wrong"), ("admin", ""), ("", "")] {
            let answer = world.log_in(name, password).await;
            assert_eq!(answer.refused(401, "unauthorized"), "Bad credentials");
        }
        let form = [("grant_type", "client_credentials")];
        world
            .form("/oauth/token", ("doppler", "wrong"), &form)
            .await
            .refused(401, "invalid_client");
        world.form("/oauth/token", ("nobody", ""), &form).await.refused(401, "invalid_client");
        world.form("/oauth/token", ("gorouter", ""), &form).await.refused(401, "invalid_client");
        world.form("/oauth/token", CF, &form).await.refused(401, "invalid_client");
        world
            .form("/oauth/token", CF, &[("grant_type", "magic")])
            .await
            .refused(400, "unsupported_grant_type");
        world.form("/oauth/token", CF, &[]).await.refused(400, "invalid_request");
    })
    .await;
}

#[tokio::test]
async fn five_wrong_passwords_lock_the_account_for_a_while() {
    on_each_database(async |world| {
        world.user("sam", "pw").await;
        for _ in 0..5 {
            assert_eq!(
                world.log_in("sam", "wrong").await.refused(401, "unauthorized"),
                "Bad credentials"
            );
        }
        let locked = "Your account has been locked because of too many failed attempts to login.";
        assert_eq!(world.log_in("sam", "pw").await.refused(401, "unauthorized"), locked);
        world.admin().await;
        world.pass(301);
        world.log_in("sam", "pw").await.ok();
        for _ in 0..4 {
            world.log_in("sam", "wrong").await.refused(401, "unauthorized");
        }
        world.log_in("sam", "pw").await.ok();
        world.log_in("sam", "wrong").await.refused(401, "unauthorized");
        world.log_in("sam", "pw").await.ok();
    })
    .await;
}

#[tokio::test]
async fn an_access_token_expires_and_is_refreshed() {
    on_each_database(async |world| {
        let first = world.log_in("admin", ADMIN_PASSWORD).await.body;
        let access = first["access_token"].as_str().unwrap();
        let refresh = first["refresh_token"].as_str().unwrap();
        world.pass(1_199);
        world.uaa.verify(access).unwrap();
        world.pass(1);
        assert_eq!(world.uaa.verify(access), Err(TokenError::Expired));
        world.get("/Users", access).await.refused(401, "invalid_token");
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
        let answer = world.form("/oauth/token", CF, &form).await;
        let second = answer.ok();
        assert_eq!(second["refresh_token"], refresh);
        let claims = world.uaa.verify(second["access_token"].as_str().unwrap()).unwrap();
        assert!(claims.has_scope("cloud_controller.admin"));
        assert_eq!(
            world.uaa.verify(refresh),
            Err(TokenError::Invalid),
            "no access with a refresh token"
        );
        let swapped = [
            ("grant_type", "refresh_token"),
            ("refresh_token", second["access_token"].as_str().unwrap()),
        ];
        world.form("/oauth/token", CF, &swapped).await.refused(401, "invalid_token");
        world.pass(30 * 86_400);
        world.form("/oauth/token", CF, &form).await.refused(401, "invalid_token");
    })
    .await;
}

#[tokio::test]
async fn rubbish_is_no_token() {
    on_each_database(async |world| {
        let token = world.admin().await;
        assert_eq!(world.uaa.verify(""), Err(TokenError::Missing));
        assert_eq!(world.uaa.verify("bearer "), Err(TokenError::Missing));
        for bad in [
            "x",
            "basic abc",
            "a.b.c",
            &token[..token.len() - 4],
            &format!("{token}x"),
            &"a".repeat(100_000),
        ] {
            assert_eq!(world.uaa.verify(bad), Err(TokenError::Invalid), "{bad}");
        }
        let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", token.split('.').nth(1).unwrap());
        assert_eq!(world.uaa.verify(&unsigned), Err(TokenError::Invalid));
        // Another installation's token.
        let other = World::open(sql::testing::sqlite().await, world.clock.clone()).await;
        assert_eq!(world.uaa.verify(&other.admin().await), Err(TokenError::Invalid));
        world.get("/Users", "").await.refused(401, "unauthorized");
    })
    .await;
}

#[tokio::test]
async fn cf_logout_ends_both_tokens() {
    on_each_database(async |world| {
        world.user("eve", "pw").await;
        let eve = world.log_in("eve", "pw").await.body["access_token"].as_str().unwrap().to_owned();
        let body = world.log_in("admin", ADMIN_PASSWORD).await.body;
        let access = body["access_token"].as_str().unwrap();
        let ids = [&body["refresh_token"], &body["access_token"]]
            .map(|token| claims(token)["jti"].as_str().unwrap().to_owned());
        assert!(ids[0].ends_with("-r"));
        let path = |id: &str| format!("/oauth/token/revoke/{id}");
        world
            .call(Method::DELETE, &path(&ids[1]), &eve, Value::Null)
            .await
            .refused(403, "insufficient_scope");
        world.uaa.verify(access).unwrap();
        for id in &ids {
            world.call(Method::DELETE, &path(id), access, Value::Null).await.ok();
        }
        assert_eq!(world.uaa.verify(access), Err(TokenError::Invalid));
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", body["refresh_token"].as_str().unwrap()),
        ];
        world.form("/oauth/token", CF, &form).await.refused(401, "invalid_token");
        world.uaa.verify(&eve).unwrap();
        // It is remembered.
        let again = World::open(world.db.clone(), world.clock.clone()).await;
        assert_eq!(again.uaa.verify(access), Err(TokenError::Invalid));
        again.form("/oauth/token", CF, &form).await.refused(401, "invalid_token");
    })
    .await;
}

#[tokio::test]
async fn a_new_password_ends_refresh_tokens() {
    on_each_database(async |world| {
        let id = world.user("sam", "old").await;
        let body = world.log_in("sam", "old").await.body;
        let (access, refresh) =
            (body["access_token"].as_str().unwrap(), body["refresh_token"].as_str().unwrap());
        let path = format!("/Users/{id}/password");
        let wrong = world
            .call(Method::PUT, &path, access, json!({ "oldPassword": "bad", "password": "new" }))
            .await;
        wrong.refused(401, "unauthorized");
        let same = world
            .call(Method::PUT, &path, access, json!({ "oldPassword": "old", "password": "old" }))
            .await;
        same.refused(422, "invalid_password");
        world
            .call(Method::PUT, &path, access, json!({ "oldPassword": "old", "password": "new" }))
            .await
            .ok();
        world.log_in("sam", "old").await.refused(401, "unauthorized");
        world.log_in("sam", "new").await.ok();
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
        world.form("/oauth/token", CF, &form).await.refused(401, "invalid_token");
        // Somebody else's password is for operators, who need not know the old one.
        world.user("eve", "pw").await;
        let eve = world.log_in("eve", "pw").await.body["access_token"].as_str().unwrap().to_owned();
        let change = json!({ "oldPassword": "new", "password": "newer" });
        world.call(Method::PUT, &path, &eve, change).await.refused(403, "insufficient_scope");
        let operator = world.client(OPERATOR).await;
        world.call(Method::PUT, &path, &operator, json!({ "password": "newest" })).await.ok();
        world.log_in("sam", "newest").await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_client_gets_its_authorities() {
    on_each_database(async |world| {
        let token = world.client(SERVICE).await;
        let claims = world.uaa.verify(&token).unwrap();
        assert_eq!(
            (claims.sub.as_str(), claims.scope.as_slice()),
            ("doppler", &["uaa.resource".to_owned()][..])
        );
        assert!(!claims.is_user());
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", "doppler"),
            ("client_secret", "doppler-secret"),
        ];
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let answer =
            world.send(Request::post("/oauth/token").body(Body::from(body)).unwrap()).await;
        assert!(answer.ok().get("refresh_token").is_none());
        let more = [
            ("grant_type", "client_credentials"),
            ("scope", "uaa.resource cloud_controller.admin"),
        ];
        world.form("/oauth/token", SERVICE, &more).await.refused(400, "invalid_scope");
    })
    .await;
}

#[tokio::test]
async fn a_resource_server_checks_tokens() {
    on_each_database(async |world| {
        let id = world.user("sam", "pw").await;
        let sam = world.log_in("sam", "pw").await.body["access_token"].as_str().unwrap().to_owned();
        let checked = world
            .form(
                "/check_token",
                SERVICE,
                &[("token", &sam), ("scopes", "cloud_controller.read,openid")],
            )
            .await;
        let body = checked.ok();
        assert_eq!((&body["user_name"], &body["user_id"]), (&json!("sam"), &json!(id)));
        world
            .form("/check_token", SERVICE, &[("token", &sam), ("scopes", "doppler.firehose")])
            .await
            .refused(400, "invalid_scope");
        world.form("/check_token", SERVICE, &[("token", "x")]).await.refused(400, "invalid_token");
        world.form("/check_token", CF, &[("token", &sam)]).await.refused(403, "insufficient_scope");
        world
            .form("/check_token", ("doppler", "x"), &[("token", &sam)])
            .await
            .refused(401, "invalid_client");
        assert_eq!(
            world.form("/introspect", SERVICE, &[("token", &sam)]).await.ok()["active"],
            true
        );
        world.uaa.delete_user(&id).await.unwrap();
        assert_eq!(
            world.form("/introspect", SERVICE, &[("token", &sam)]).await.ok(),
            &json!({ "active": false })
        );
        assert_eq!(world.uaa.verify(&sam), Err(TokenError::Invalid));
    })
    .await;
}

#[tokio::test]
async fn the_ssh_proxy_trades_a_code_for_a_token_once() {
    on_each_database(async |world| {
        world.user("sam", "pw").await;
        let sam = world.log_in("sam", "pw").await.body["access_token"].as_str().unwrap().to_owned();
        let ask = async || {
            let answer = world.get("/oauth/authorize?response_type=code&grant_type=authorization_code&client_id=ssh-proxy", &sam).await;
            assert_eq!(answer.status, 302, "{}", answer.text);
            let target = url::Url::parse(answer.headers[header::LOCATION].to_str().unwrap()).unwrap();
            assert!(target.as_str().starts_with("https://uaa.example.com/login?code="));
            target.query_pairs().find(|(key, _)| key == "code").unwrap().1.into_owned()
        };
        let code = ask().await;
        let proxy = ("ssh-proxy", "proxy-secret");
        let form = [("grant_type", "authorization_code"), ("code", code.as_str())];
        let answer = world.form("/oauth/token", proxy, &form).await;
        let claims = world.uaa.verify(answer.ok()["access_token"].as_str().unwrap()).unwrap();
        assert_eq!((claims.user_name.as_deref(), claims.client_id.as_str()), (Some("sam"), "ssh-proxy"));
        assert!(claims.has_scope("cloud_controller.read") && !claims.has_scope("cloud_controller.admin"));
        world.form("/oauth/token", proxy, &form).await.refused(400, "invalid_grant");
        let late = ask().await;
        world.pass(301);
        world.form("/oauth/token", proxy, &[("grant_type", "authorization_code"), ("code", &late)]).await.refused(400, "invalid_grant");
        world.get("/oauth/authorize?response_type=code&client_id=cf", &world.admin().await).await.refused(401, "invalid_client");
        let service = world.client(SERVICE).await;
        world.get("/oauth/authorize?response_type=code&client_id=ssh-proxy", &service).await.refused(403, "insufficient_scope");
    })
    .await;
}

#[tokio::test]
async fn a_passcode_stands_for_the_password_once() {
    on_each_database(async |world| {
        let html =
            |request: axum::http::request::Builder| request.header(header::ACCEPT, "text/html");
        let login = world
            .send(html(Request::get("/login?redirect=/passcode")).body(Body::empty()).unwrap())
            .await;
        let cookie = login.headers[header::SET_COOKIE]
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        let csrf = cookie.split_once('=').unwrap().1;
        let form = |csrf: &str| {
            format!("X-Uaa-Csrf={csrf}&username=admin&password=correct+horse&redirect=/passcode")
        };
        let forged = Request::post("/login.do").body(Body::from(form(csrf))).unwrap();
        world.send(forged).await.refused(403, "invalid_csrf");
        let request = Request::post("/login.do").header(header::COOKIE, &cookie);
        let entered = world.send(request.body(Body::from(form(csrf))).unwrap()).await;
        assert_eq!(
            (entered.status.as_u16(), entered.headers[header::LOCATION].to_str().unwrap()),
            (302, "/passcode")
        );
        let session = entered.headers[header::SET_COOKIE]
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        assert_eq!(
            world.uaa.verify(session.split_once('=').unwrap().1),
            Err(TokenError::Invalid),
            "a session is no token"
        );
        let request =
            Request::get("/passcode").header(header::COOKIE, &session).body(Body::empty()).unwrap();
        let passcode = world.send(request).await.ok().as_str().unwrap().to_owned();
        let form = [("grant_type", "password"), ("passcode", passcode.as_str())];
        assert_eq!(
            claims(&world.form("/oauth/token", CF, &form).await.ok()["access_token"])["user_name"],
            "admin"
        );
        world.form("/oauth/token", CF, &form).await.refused(401, "unauthorized");
        assert_eq!(world.get("/passcode", "").await.status, 302);
        world.pass(1_801);
        let request =
            Request::get("/passcode").header(header::COOKIE, &session).body(Body::empty()).unwrap();
        assert_eq!(world.send(request).await.status, 302);
    })
    .await;
}

#[tokio::test]
async fn cf_reads_prompts_and_version_before_login() {
    on_each_database(async |world| {
        let request = Request::get("/login")
            .header(header::HOST, "127.0.0.1:8080")
            .header(header::ACCEPT, "application/json");
        let answer = world
            .send(request.header(header::AUTHORIZATION, "").body(Body::empty()).unwrap())
            .await;
        let body = answer.ok();
        assert_eq!(body["prompts"]["password"], json!(["password", "Password"]));
        assert_eq!(
            (&body["links"]["uaa"], &body["zone_name"]),
            (&json!("http://127.0.0.1:8080"), &json!("uaa"))
        );
        assert!(body["app"]["version"].as_str().unwrap().starts_with("77."));
        let page = Request::get("/login")
            .header(header::ACCEPT, "text/html,*/*")
            .body(Body::empty())
            .unwrap();
        assert!(world.send(page).await.text.contains("<form"));
        let discovery = world.get("/.well-known/openid-configuration", "").await;
        assert_eq!(discovery.ok()["issuer"], "https://uaa.example.com/oauth/token");
        assert_eq!(world.get("/healthz", "").await.text, "ok\n");
        let info = world.get("/userinfo", &world.admin().await).await;
        assert_eq!(info.ok()["user_name"], "admin");
    })
    .await;
}

#[tokio::test]
async fn the_system_clock_does_as_well() {
    let world = World::open(sql::testing::sqlite().await, Clock::system()).await;
    let token = world.admin().await;
    let claims = world.uaa.verify(&token).unwrap();
    assert!(
        claims.exp > Clock::system().now().as_secs()
            && claims.iat > Timestamp::from_secs(1_700_000_000).as_secs()
    );
}
