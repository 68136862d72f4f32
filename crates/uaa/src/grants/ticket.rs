//! The tokens that an accepted grant is answered with.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Uaa;
use crate::claims::{Claims, audience};
use crate::db::clients::Client;
use crate::db::users::Account;
use crate::error::Result;
use crate::jti;

/// What a token is issued for.
pub(super) struct Ticket<'a> {
    pub client: &'a Client,
    pub account: &'a Account,
    pub scope: Vec<String>,
    pub grant: &'a str,
    pub auth_time: i64,
    pub nonce: Option<String>,
    pub id_token: bool,
}

impl Uaa {
    pub(super) async fn issue(&self, ticket: Ticket<'_>) -> Result<Value> {
        let access = self.access_claims(&ticket);
        let id_token = match ticket.id_token {
            true => Some(self.0.tokens.sign(self.identity(&ticket, &access)).await?),
            false => None,
        };
        let refresh = match ticket.client.may("refresh_token") {
            true => Some(self.0.tokens.sign(self.refresh_claims(&ticket, &access)).await?),
            false => None,
        };
        self.answer(access, refresh, id_token).await
    }

    pub(super) fn common_claims(&self, client: &Client, scope: Vec<String>, now: i64) -> Claims {
        Claims {
            client_id: client.client_id.clone(),
            cid: client.client_id.clone(),
            azp: client.client_id.clone(),
            aud: audience(&scope, &client.client_id),
            scope,
            iat: now,
            iss: self.0.tokens.issuer().to_owned(),
            zid: "uaa".to_owned(),
            revocable: true,
            ..Claims::default()
        }
    }

    pub(super) fn access_claims(&self, ticket: &Ticket<'_>) -> Claims {
        let Ticket { client, account, .. } = ticket;
        let now = self.now().as_secs();
        Claims {
            jti: jti::fresh(&account.guid),
            sub: account.guid.clone(),
            user_id: Some(account.guid.clone()),
            user_name: Some(account.user_name.clone()),
            email: Some(account.email.clone()),
            origin: Some(account.origin.clone()),
            auth_time: Some(ticket.auth_time),
            grant_type: ticket.grant.to_owned(),
            rev_sig: signature(account, client),
            exp: now + client.access_token_validity.unwrap_or(self.0.config.access_token_seconds),
            ..self.common_claims(client, ticket.scope.clone(), now)
        }
    }

    fn refresh_claims(&self, ticket: &Ticket<'_>, access: &Claims) -> Claims {
        let life =
            ticket.client.refresh_token_validity.unwrap_or(self.0.config.refresh_token_seconds);
        Claims {
            jti: jti::refresh(&access.jti),
            exp: access.iat + life,
            granted_scopes: access.scope.clone(),
            scope: Vec::new(),
            ..access.clone()
        }
    }

    fn identity(&self, ticket: &Ticket<'_>, access: &Claims) -> Value {
        let account = ticket.account;
        json!({
            "sub": access.sub, "user_id": access.sub, "iss": access.iss, "aud": [access.client_id], "azp": access.client_id,
            "client_id": access.client_id, "iat": access.iat, "exp": access.exp, "auth_time": access.auth_time,
            "user_name": account.user_name, "email": account.email, "email_verified": account.verified,
            "given_name": account.given_name, "family_name": account.family_name, "origin": account.origin,
            "nonce": ticket.nonce, "zid": "uaa", "amr": ["pwd"],
        })
    }

    pub(super) async fn answer(
        &self,
        access: Claims,
        refresh: Option<String>,
        id_token: Option<String>,
    ) -> Result<Value> {
        let mut body = json!({
            "token_type": "bearer",
            "expires_in": access.exp - access.iat - 1,
            "scope": access.scope.join(" "),
            "jti": access.jti,
        });
        body["access_token"] = self.0.tokens.sign(access).await?.into();
        for (name, token) in [("refresh_token", refresh), ("id_token", id_token)] {
            if let Some(token) = token {
                body[name] = token.into();
            }
        }
        Ok(body)
    }
}

/// Changes when the user's password or the client's secret does, and so ends refresh tokens.
pub(super) fn signature(account: &Account, client: &Client) -> String {
    let mut digest = Sha256::new();
    for part in [&account.guid, &account.password_hash, &client.client_id, &client.secret_hash] {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    jti::hex(&digest.finalize()[..4])
}
