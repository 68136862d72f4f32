//! The ways to a token, and what a token may hold.

mod ticket;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::Uaa;
use crate::claims::Claims;
use crate::db;
use crate::db::clients::Client;
use crate::db::codes::Code;
use crate::db::users::Account;
use crate::defaults;
use crate::error::{Error, Result};
use crate::jti;
use ticket::{Ticket, signature};

/// A code or passcode is good for this long.
const CODE_LIFE: Duration = Duration::from_secs(300);

/// The parameters of a request, however they were sent.
pub(crate) type Form = BTreeMap<String, String>;

/// What an authorization code stands for.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct CodeDetails {
    pub scope: Vec<String>,
    /// As the request gave it; the exchange must give the same.
    pub redirect_uri: Option<String>,
    pub challenge: Option<String>,
    pub challenge_method: Option<String>,
    pub nonce: Option<String>,
    pub auth_time: i64,
}

impl Uaa {
    /// `POST /oauth/token`: the body of the answer.
    pub(crate) async fn grant_token(
        &self,
        credentials: Option<(String, String)>,
        form: &Form,
    ) -> Result<Value> {
        let grant =
            text(form, "grant_type").ok_or_else(|| Error::invalid_request("Missing grant type"))?;
        let client = self.authenticate_client(credentials.as_ref()).await?;
        const KNOWN: [&str; 4] =
            ["password", "refresh_token", "client_credentials", "authorization_code"];
        if !KNOWN.contains(&grant) {
            let description = format!("Unsupported grant type: {grant}");
            return Err(Error::new(
                axum::http::StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                description,
            ));
        }
        if !client.may(grant) {
            return Err(Error::invalid_client(format!("Unauthorized grant type: {grant}")));
        }
        match grant {
            "password" => self.by_password(&client, form).await,
            "refresh_token" => self.by_refresh(&client, form).await,
            "client_credentials" => self.by_client(&client, form).await,
            _ => self.by_code(&client, form).await,
        }
    }

    async fn by_password(&self, client: &Client, form: &Form) -> Result<Value> {
        let account = match text(form, "passcode") {
            Some(passcode) => self.take_passcode(passcode).await?,
            None => {
                let (name, password) = (
                    text(form, "username").unwrap_or(""),
                    form.get("password").map_or("", String::as_str),
                );
                self.login(name, password, login_hint(form).as_deref()).await?
            }
        };
        let requested = requested(form);
        let scope = user_scopes(
            &client.scope,
            &self.scopes_of(&account.guid).await?,
            requested.as_deref(),
        )?;
        let id_token = text(form, "response_type").is_some_and(|kinds| kinds.contains("id_token"));
        let auth_time = self.now().as_secs();
        self.issue(Ticket {
            client,
            account: &account,
            scope,
            grant: "password",
            auth_time,
            nonce: None,
            id_token,
        })
        .await
    }

    async fn by_refresh(&self, client: &Client, form: &Form) -> Result<Value> {
        let token = text(form, "refresh_token")
            .ok_or_else(|| Error::invalid_request("Missing refresh token"))?;
        let ended = || {
            Error::invalid_token("The token expired, was revoked, or the token ID is incorrect.")
        };
        let claims = self.0.tokens.verify_refresh(token, self.now()).map_err(|_| ended())?;
        if claims.client_id != client.client_id
            || self.0.tokens.is_revoked_anywhere(self.db(), &claims).await?
        {
            return Err(ended());
        }
        let account = self.active_account(&claims.sub).await?.ok_or_else(ended)?;
        if claims.rev_sig != signature(&account, client) {
            return Err(ended());
        }
        let held = self.scopes_of(&account.guid).await?;
        let granted: Vec<String> = claims
            .granted_scopes
            .iter()
            .filter(|scope| client.scope.contains(scope))
            .cloned()
            .collect();
        let scope = user_scopes(&granted, &held, requested(form).as_deref())?;
        let grant = if claims.grant_type.is_empty() { "password" } else { &claims.grant_type };
        let auth_time = claims.auth_time.unwrap_or(claims.iat);
        let ticket = Ticket {
            client,
            account: &account,
            scope,
            grant,
            auth_time,
            nonce: None,
            id_token: false,
        };
        let access = self.access_claims(&ticket);
        // The same refresh token goes on: several programs may share it.
        self.answer(access, Some(token.to_owned()), None).await
    }

    async fn by_client(&self, client: &Client, form: &Form) -> Result<Value> {
        let authorities: Vec<String> =
            client.authorities.iter().filter(|scope| *scope != "uaa.none").cloned().collect();
        let scope = match requested(form) {
            Some(requested) => {
                if let Some(scope) = requested.iter().find(|scope| !authorities.contains(scope)) {
                    return Err(Error::invalid_scope(format!(
                        "{scope} is invalid. This client is not allowed it"
                    )));
                }
                requested
            }
            None => authorities.clone(),
        };
        let now = self.now().as_secs();
        let claims = Claims {
            jti: jti::fresh(&client.client_id),
            sub: client.client_id.clone(),
            authorities: scope.clone(),
            grant_type: "client_credentials".to_owned(),
            exp: now + client.access_token_validity.unwrap_or(self.0.config.access_token_seconds),
            ..self.common_claims(client, scope, now)
        };
        self.answer(claims, None, None).await
    }

    async fn by_code(&self, client: &Client, form: &Form) -> Result<Value> {
        let code = text(form, "code")
            .ok_or_else(|| Error::invalid_request("An authorization code must be supplied."))?;
        let (account, details) = self.take_code(client, code).await?;
        let refused = |why: &str| Err(Error::invalid_grant(why));
        if details.redirect_uri.is_some()
            && details.redirect_uri.as_deref() != text(form, "redirect_uri")
        {
            return refused("Redirect URI mismatch.");
        }
        if !challenge_met(&details, text(form, "code_verifier")) {
            return refused("Invalid code verifier");
        }
        let scope = user_scopes(&details.scope, &self.scopes_of(&account.guid).await?, None)?;
        let id_token = scope.iter().any(|scope| scope == "openid");
        let (auth_time, nonce) = (details.auth_time, details.nonce);
        self.issue(Ticket {
            client,
            account: &account,
            scope,
            grant: "authorization_code",
            auth_time,
            nonce,
            id_token,
        })
        .await
    }

    async fn take_code(&self, client: &Client, code: &str) -> Result<(Account, CodeDetails)> {
        let invalid = || Error::invalid_grant(format!("Invalid authorization code: {code}"));
        let mut tx = self.db().begin().await?;
        let found = db::codes::take(&mut tx, "code", code, self.now()).await?;
        tx.commit().await?;
        let (user, client_id, details) = found.ok_or_else(invalid)?;
        if client_id != client.client_id {
            return Err(invalid());
        }
        let account = self.active_account(&user).await?.ok_or_else(invalid)?;
        Ok((account, serde_json::from_str(&details).map_err(anyhow::Error::from)?))
    }

    async fn take_passcode(&self, passcode: &str) -> Result<Account> {
        let refused = || Error::unauthorized("Invalid passcode");
        let mut tx = self.db().begin().await?;
        let found = db::codes::take(&mut tx, "passcode", passcode, self.now()).await?;
        tx.commit().await?;
        let (user, ..) = found.ok_or_else(refused)?;
        self.active_account(&user).await?.ok_or_else(refused)
    }

    /// A code for `client` that becomes a token of this user, once.
    pub(crate) async fn make_code(
        &self,
        account: &str,
        client: &str,
        details: &CodeDetails,
    ) -> Result<String> {
        let details = serde_json::to_string(details).map_err(anyhow::Error::from)?;
        self.put_code("code", account, client, details).await
    }

    /// A code that stands for the user's password; a new one ends the one before.
    pub(crate) async fn make_passcode(&self, account: &str) -> Result<String> {
        self.put_code("passcode", account, "", String::new()).await
    }

    async fn put_code(
        &self,
        kind: &'static str,
        user: &str,
        client: &str,
        details: String,
    ) -> Result<String> {
        let text: String =
            rand::rng().sample_iter(rand::distr::Alphanumeric).take(32).map(char::from).collect();
        let expires_at = self.now() + CODE_LIFE;
        let code = Code {
            kind,
            user_guid: user.to_owned(),
            client_id: client.to_owned(),
            details,
            expires_at,
        };
        let mut tx = self.db().begin().await?;
        if kind == "passcode" {
            db::codes::delete_of_user(&mut tx, kind, user).await?;
        }
        db::codes::insert(&mut tx, &text, &code, self.now()).await?;
        tx.commit().await?;
        Ok(text)
    }

    /// Everything a user's groups allow.
    pub(crate) async fn scopes_of(&self, user: &str) -> Result<BTreeSet<String>> {
        let mut scopes = db::groups::names_of(&mut *self.db().read().await?, user).await?;
        scopes.extend(defaults::USER_GROUPS.iter().map(|name| (*name).to_owned()));
        Ok(scopes)
    }
}

/// What a user's token holds: what client and user both may, and of that what was asked for.
pub(crate) fn user_scopes(
    client: &[String],
    held: &BTreeSet<String>,
    requested: Option<&[String]>,
) -> Result<Vec<String>> {
    let wanted = requested.unwrap_or(client);
    if let Some(scope) = wanted.iter().find(|scope| !client.contains(scope)) {
        return Err(Error::invalid_scope(format!(
            "{scope} is invalid. Please use a valid scope name in the request"
        )));
    }
    let granted: BTreeSet<&String> = wanted.iter().filter(|scope| held.contains(*scope)).collect();
    if granted.is_empty() {
        let description = format!(
            "[{}] is invalid. This user is not allowed any of the requested scopes",
            wanted.join(", ")
        );
        return Err(Error::invalid_scope(description));
    }
    Ok(granted.into_iter().cloned().collect())
}

/// A parameter that is there and not empty.
pub(crate) fn text<'a>(form: &'a Form, name: &str) -> Option<&'a str> {
    form.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

pub(crate) fn requested(form: &Form) -> Option<Vec<String>> {
    text(form, "scope").map(|scope| scope.split_whitespace().map(str::to_owned).collect())
}

/// The origin in `login_hint={"origin":"uaa"}`, which some clients encode twice.
fn login_hint(form: &Form) -> Option<String> {
    let hint = text(form, "login_hint")?;
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    let hint = parse(hint).or_else(|| {
        let decoded =
            url::form_urlencoded::parse(hint.as_bytes()).next().map(|(key, _)| key.into_owned())?;
        parse(&decoded)
    })?;
    hint["origin"].as_str().map(str::to_owned)
}

/// Proof Key for Code Exchange (RFC 7636).
fn challenge_met(details: &CodeDetails, verifier: Option<&str>) -> bool {
    match (&details.challenge, verifier) {
        (None, None) => true,
        (None, Some(_)) | (Some(_), None) => false,
        (Some(challenge), Some(verifier)) => match details.challenge_method.as_deref() {
            Some("S256") => {
                *challenge == URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
            }
            _ => challenge == verifier,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_token_holds_what_both_may() {
        let held = words("a b x").into_iter().collect();
        assert_eq!(user_scopes(&words("c b a"), &held, None).unwrap(), ["a", "b"]);
        assert_eq!(user_scopes(&words("c b a"), &held, Some(&words("b c"))).unwrap(), ["b"]);
        assert_eq!(
            user_scopes(&words("c b a"), &held, Some(&words("x"))).unwrap_err().code,
            "invalid_scope"
        );
        assert_eq!(user_scopes(&words("c"), &held, None).unwrap_err().code, "invalid_scope");
    }

    #[test]
    fn a_hint_is_read_encoded_once_or_twice() {
        for hint in [r#"{"origin":"ldap"}"#, "%7B%22origin%22%3A%22ldap%22%7D"] {
            let form = Form::from([("login_hint".to_owned(), hint.to_owned())]);
            assert_eq!(login_hint(&form).as_deref(), Some("ldap"));
        }
        assert_eq!(
            login_hint(&Form::from([("login_hint".to_owned(), "rubbish".to_owned())])),
            None
        );
    }

    #[test]
    fn the_example_of_rfc_7636() {
        let details = CodeDetails {
            challenge: Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned()),
            challenge_method: Some("S256".to_owned()),
            ..CodeDetails::default()
        };
        assert!(challenge_met(&details, Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")));
        assert!(!challenge_met(&details, Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl")));
        assert!(!challenge_met(&details, None));
        assert!(!challenge_met(&CodeDetails::default(), Some("downgrade")));
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_client_and_user_hold(
            client in "[a-e ]{0,10}", held in "[a-e ]{0,10}", wanted in proptest::option::of("[a-e ]{0,10}"),
        ) {
            let (client, held) = (words(&client.replace("", " ")), words(&held.replace("", " ")));
            let wanted = wanted.map(|wanted| words(&wanted.replace("", " ")));
            if let Ok(granted) = user_scopes(&client, &held.iter().cloned().collect(), wanted.as_deref()) {
                prop_assert!(!granted.is_empty());
                prop_assert!(granted.iter().all(|scope| client.contains(scope) && held.contains(scope)));
                prop_assert!(wanted.is_none_or(|wanted| granted.iter().all(|scope| wanted.contains(scope))));
            }
        }
    }
}
