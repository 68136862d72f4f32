//! Targets, logins, tokens.

use expect_test::expect;
use serde_json::json;

use crate::script::{Answer, NOW, World, token};

#[tokio::test]
async fn api_asks_the_root_for_everything_else() {
    let world = World::start().await;
    let ran = world.cf(&["api", &world.url]).await;
    expect![[r#"
        Setting API endpoint to http://api...
        Warning: Insecure http API endpoint detected: secure https API endpoints are recommended
        OK

        API endpoint:   http://api
        API version:    3.228.0

        Not logged in. Use 'cf login' or 'cf login --sso' to log in.
    "#]]
    .assert_eq(&ran.out);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(world.config()["UaaEndpoint"], world.url.as_str());
    assert_eq!(world.config()["LogCacheEndPoint"], world.url.as_str());
    assert_eq!(world.cf(&["api", "--unset"]).await.code, 0);
    assert_eq!(world.config()["Target"], "");
}

#[tokio::test]
async fn an_endpoint_that_is_none_changes_nothing() {
    let world = World::targeted().await;
    let ran = world.cf(&["api", "http://127.0.0.1:1"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("Request error: "), "{}", ran.err);
    assert!(ran.out.ends_with("FAILED\n"), "{}", ran.out);
    assert_eq!(world.config()["Target"], world.url.as_str());
}

#[tokio::test]
async fn a_certificate_of_unknown_origin_needs_consent() {
    let world = World::start().await;
    let secure = world.behind_tls().await;
    let ran = world.cf(&["api", &secure.url]).await;
    assert_eq!(ran.code, 1);
    let tip = "TIP: Use 'cf api --skip-ssl-validation' to continue with an insecure API endpoint\n";
    assert_eq!(ran.err, format!("Invalid SSL Cert for {}\n{tip}", secure.url));
    let ran = world.cf(&["login", "-a", &secure.url, "-u", "ada", "-p", "secret"]).await;
    assert!(ran.err.contains("'cf login --skip-ssl-validation'"), "{}", ran.err);
    let ran = world.cf(&["api", &secure.url, "--skip-ssl-validation"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(world.config()["SSLDisabled"], true);
    assert_eq!(world.cf(&["curl", "/"]).await.code, 0);
}

#[tokio::test]
async fn login_targets_what_there_is_only_one_of() {
    let world = World::start().await;
    let ran = world.cf(&["login", "-a", &world.url, "-u", "ada", "-p", "secret"]).await;
    expect![[r#"
        API endpoint: http://api


        Authenticating...
        OK

        Targeted org acme.

        Targeted space dev.

        API endpoint:   http://api
        API version:    3.228.0
        user:           ada
        org:            acme
        space:          dev
    "#]]
    .assert_eq(&ran.out);
    let asked = world.asked("POST /oauth/token");
    assert_eq!(asked[0].text(), "username=ada&password=secret&grant_type=password");
    assert_eq!(asked[0].token, "Basic Y2Y6");
    let config = world.config();
    assert_eq!(config["OrganizationFields"], json!({ "GUID": "org-guid", "Name": "acme" }));
    assert_eq!(config["SpaceFields"]["GUID"], "space-guid");
    assert!(config["AccessToken"].as_str().unwrap().starts_with("bearer "));
}

#[tokio::test]
async fn login_asks_for_what_is_missing() {
    let world = World::start().await;
    world.on(
        "GET /v3/organizations",
        Answer::list(json!([{ "guid": "o1", "name": "one" }, { "guid": "o2", "name": "two" }])),
    );
    // The first answer of the script is used up by this.
    world.cf(&["login", "-a", &world.url, "-u", "ada", "-p", "secret"]).await;
    let ran = world.cf_with(&["login"], "ada\nsecret\n7\n2\n").await;
    expect![[r#"
        API endpoint: http://api

        Email: Password: 

        Authenticating...
        OK

        Select an org:
        1. one
        2. two

        Org (enter to skip): 
        Select an org:
        1. one
        2. two

        Org (enter to skip): 
        Targeted org two.

        Targeted space dev.

        API endpoint:   http://api
        API version:    3.228.0
        user:           ada
        org:            two
        space:          dev
    "#]]
    .assert_eq(&ran.out);
}

#[tokio::test]
async fn wrong_credentials_get_three_tries() {
    let world = World::start().await;
    let refused = Answer::status(
        401,
        json!({ "error": "unauthorized", "error_description": "Bad credentials" }),
    );
    world.replace("POST /oauth/token", refused);
    let ran = world.cf_with(&["login", "-a", &world.url, "-u", "ada"], "a\nb\nc\n").await;
    assert_eq!(ran.code, 1);
    assert_eq!(world.asked("POST /oauth/token").len(), 3);
    assert_eq!(ran.err.matches("Credentials were rejected, please try again.").count(), 3);
    assert!(ran.err.ends_with("Unable to authenticate.\n"), "{}", ran.err);
}

#[tokio::test]
async fn a_token_close_to_its_end_is_renewed() {
    let world = World::start().await;
    world.replace(
        "POST /oauth/token",
        Answer::ok(json!({ "access_token": token("ada", NOW + 30), "refresh_token": "r1" })),
    );
    world.on(
        "POST /oauth/token",
        Answer::ok(json!({ "access_token": token("bob", NOW + 600), "refresh_token": "r2" })),
    );
    world.cf(&["api", &world.url]).await;
    assert_eq!(world.cf(&["auth", "ada", "secret"]).await.code, 0);
    assert_eq!(world.cf(&["orgs"]).await.code, 0);
    let asked = world.asked("POST /oauth/token");
    assert_eq!(asked[1].text(), "grant_type=refresh_token&refresh_token=r1");
    assert_eq!(
        world.asked("GET /v3/organizations")[0].token,
        format!("bearer {}", token("bob", NOW + 600))
    );
    assert_eq!(world.config()["RefreshToken"], "r2");
}

#[tokio::test]
async fn a_rejected_token_is_renewed_once() {
    let world = World::targeted().await;
    world.replace(
        "GET /v3/organizations",
        Answer::refusal(401, "CF-InvalidAuthToken", "Invalid Auth Token"),
    );
    world.on("GET /v3/organizations", Answer::list(json!([{ "guid": "g", "name": "after" }])));
    let ran = world.cf(&["orgs"]).await;
    expect![[r#"
        Getting orgs as ada...

        name
        after
    "#]]
    .assert_eq(&ran.out);
    assert_eq!(world.asked("POST /oauth/token").len(), 1);
}

#[tokio::test]
async fn commands_say_what_they_need() {
    let world = World::start().await;
    let ran = world.cf(&["apps"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, "FAILED\n"));
    assert_eq!(ran.err, "No API endpoint set. Use 'cf login' or 'cf api' to target an endpoint.\n");
    world.cf(&["api", &world.url]).await;
    let ran = world.cf(&["apps"]).await;
    assert_eq!(ran.err, "Not logged in. Use 'cf login' or 'cf login --sso' to log in.\n");
    world.cf(&["auth", "ada", "secret"]).await;
    let ran = world.cf(&["apps"]).await;
    assert_eq!(ran.err, "No org targeted, use 'cf target -o ORG' to target an org.\n");
}

#[tokio::test]
async fn logout_forgets() {
    let world = World::targeted().await;
    let ran = world.cf(&["logout"]).await;
    assert_eq!(ran.out, "Logging out ada...\nOK\n\n");
    assert_eq!(world.config()["AccessToken"], "");
    assert_eq!(world.config()["SpaceFields"]["Name"], "");
}

#[tokio::test]
async fn warnings_of_the_api_are_shown() {
    let world = World::targeted().await;
    world.replace(
        "GET /v3/organizations",
        Answer::list(json!([])).with("x-cf-warnings", "be%20careful,mind+the+gap"),
    );
    let ran = world.cf(&["orgs"]).await;
    assert_eq!(ran.err, "be careful\nmind the gap\n");
    assert_eq!(ran.out, "Getting orgs as ada...\n\nNo orgs found.\n");
}

#[tokio::test]
async fn curl_shows_whatever_comes() {
    let world = World::targeted().await;
    world.on("POST /v3/things", Answer::refusal(422, "CF-UnprocessableEntity", "no"));
    let ran = world.cf(&["curl", "/v3/things", "-d", "{\"a\":1}", "-H", "X-Mine: yes"]).await;
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains(r#""detail":"no""#), "{}", ran.out);
    assert_eq!(world.asked("POST /v3/things")[0].json(), json!({ "a": 1 }));
    let ran = world.cf(&["curl", "--fail", "/v3/things", "-X", "POST"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (22, "The requested URL returned error: 422\n"));
}

#[tokio::test]
async fn unknown_commands_and_flags_end_with_one() {
    let world = World::start().await;
    let ran = world.cf(&["frob"]).await;
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (1, "'frob' is not a registered command. See 'cf help -a'\n")
    );
    let ran = world.cf(&["app"]).await;
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (1, "Incorrect Usage: the required argument `APP_NAME` was not provided\n\n")
    );
    assert!(ran.out.starts_with("NAME:\n   app - "), "{}", ran.out);
}

#[tokio::test]
async fn every_command_of_the_help_can_be_run() {
    let world = World::start().await;
    let page = world.cf(&["help", "-a"]).await.out;
    let listed =
        page.split("GETTING STARTED:").nth(1).unwrap().split("ENVIRONMENT VARIABLES:").next();
    let names: Vec<&str> = listed
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("   ")?.split_whitespace().next())
        .collect();
    assert!(names.len() > 150 && names.contains(&"push"), "{names:?}");
    for name in names {
        let help = world.cf(&["help", name]).await;
        assert!(
            help.code == 0 && help.out.starts_with(&format!("NAME:\n   {name} - ")),
            "{name}: {}",
            help.out
        );
        let refused = world.cf(&[name, "--no-such-flag"]).await;
        assert_eq!(
            (refused.code, refused.err.trim_end()),
            (1, "Incorrect Usage: unknown flag `no-such-flag'"),
            "{name}"
        );
    }
}
