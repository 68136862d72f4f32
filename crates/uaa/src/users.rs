//! What other components ask about users and clients.

use crate::config::ClientConfig;
use crate::db::groups::Member;
use crate::db::users::{Account, User};
use crate::error::Error;
use crate::password::UNUSABLE;
use crate::scim::user::{Entry, Message};
use crate::tokens::{self, Revocation};
use crate::{Uaa, db, scim, seed};

/// Why an account cannot be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The guid is that of the account which has the name.
    #[error("the name is taken by {guid}")]
    Taken { guid: String },
    #[error("{0}")]
    Invalid(String),
    #[error("there is no such account")]
    Unknown,
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl From<sqlx::Error> for AccountError {
    fn from(error: sqlx::Error) -> AccountError {
        AccountError::Other(error.into())
    }
}

impl From<Error> for AccountError {
    fn from(error: Error) -> AccountError {
        AccountError::Invalid(error.description)
    }
}

impl Uaa {
    /// In no order; unknown guids are left out.
    pub async fn users_by_ids(&self, guids: &[String]) -> anyhow::Result<Vec<User>> {
        Ok(db::users::by_guids(&mut *self.db().read().await?, guids).await?)
    }

    /// Names are compared without case. Without `origins` a name is found in all of them, the oldest account first.
    pub async fn ids_by_usernames(
        &self,
        names: &[String],
        origins: Option<&[String]>,
    ) -> anyhow::Result<Vec<User>> {
        Ok(db::users::by_names(&mut *self.db().read().await?, names, origins).await?)
    }

    /// Whose names hold one of `parts`, compared without case; at most `most` are looked at, by name.
    pub async fn users_by_parts(
        &self,
        parts: &[String],
        origins: &[String],
        most: usize,
    ) -> anyhow::Result<Vec<User>> {
        let mut found = db::users::by_parts(&mut *self.db().read().await?, parts, most).await?;
        found.retain(|user| origins.is_empty() || origins.contains(&user.origin));
        Ok(found)
    }

    /// Makes an account; without a password nobody logs in with it here (its origin may let it in).
    pub async fn create_user(
        &self,
        name: &str,
        origin: &str,
        password: Option<&str>,
    ) -> Result<User, AccountError> {
        let message = Message {
            user_name: Some(name.to_owned()),
            origin: Some(origin.to_owned()),
            emails: Some(vec![Entry { value: Some(name.to_owned()), primary: true }]),
            ..Message::default()
        };
        let password_hash = match password {
            Some(password) => self.0.passwords.hash(password).await.map_err(Error::from)?,
            None => UNUSABLE.to_owned(),
        };
        let account = message.create(password_hash, self.now())?;
        self.insert_user(&account).await?;
        Ok(User { guid: account.guid, username: account.user_name, origin: account.origin })
    }

    pub(crate) async fn insert_user(&self, account: &Account) -> Result<(), AccountError> {
        let mut tx = self.db().begin().await?;
        match db::users::insert(&mut tx, account).await {
            Ok(()) => Ok(tx.commit().await?),
            Err(error) if sql::is_taken(&error) => {
                drop(tx);
                let mut connection = self.db().read().await?;
                let holder =
                    db::users::find_by_name(&mut connection, &account.user_name, &account.origin)
                        .await?;
                Err(AccountError::Taken {
                    guid: holder.map(|holder| holder.guid).unwrap_or_default(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The account, its memberships and its tokens end. Deleting an unknown user succeeds.
    pub async fn delete_user(&self, guid: &str) -> anyhow::Result<()> {
        let mut tx = self.db().begin().await?;
        db::users::delete(&mut tx, guid).await?;
        tx.commit().await?;
        self.revoke_all(tokens::subject(guid), i64::MAX).await?;
        Ok(())
    }

    /// Puts a user into a group (a scope), making the group when it is new.
    pub async fn grant(&self, user: &str, scope: &str) -> Result<(), AccountError> {
        let mut tx = self.db().begin().await?;
        let account = db::users::find(&mut tx, user).await?.ok_or(AccountError::Unknown)?;
        let group = match db::groups::find_by_name(&mut tx, scope).await? {
            Some(group) => group,
            None => {
                let group = scim::group::new(scope, "", self.now())?;
                db::groups::insert(&mut tx, &group).await?;
                group
            }
        };
        let member = Member { guid: account.guid, kind: "USER".to_owned(), origin: account.origin };
        db::groups::add_member(&mut tx, &group.guid, &member).await?;
        Ok(tx.commit().await?)
    }

    pub async fn client_exists(&self, client_id: &str) -> anyhow::Result<bool> {
        Ok(self.client(client_id).await?.is_some())
    }

    /// Those of `ids` that are clients.
    pub async fn existing_clients(&self, ids: &[String]) -> anyhow::Result<Vec<String>> {
        Ok(db::clients::existing(&mut *self.db().read().await?, ids).await?)
    }

    /// Makes the client, or puts this in its place.
    pub async fn put_client(&self, client: &ClientConfig) -> anyhow::Result<()> {
        let secret_hash = self.0.passwords.hash_secret(client.secret.as_deref()).await?;
        let client = db::clients::Client { secret_hash, ..seed::details(client) };
        let mut tx = self.db().begin().await?;
        match db::clients::find(&mut tx, &client.client_id).await? {
            Some(_) => db::clients::update(&mut tx, &client, self.now()).await?,
            None => db::clients::insert(&mut tx, &client, self.now()).await?,
        }
        tx.commit().await?;
        Ok(())
    }

    /// The client and its tokens end. Deleting an unknown client succeeds.
    pub async fn delete_client(&self, client_id: &str) -> anyhow::Result<()> {
        let mut tx = self.db().begin().await?;
        db::clients::delete(&mut tx, client_id).await?;
        tx.commit().await?;
        self.revoke_all(tokens::client(client_id), self.now().as_secs() + 1).await?;
        Ok(())
    }

    /// Ends all tokens that the ledger knows by `id` and that were issued before the second `before`.
    pub(crate) async fn revoke_all(&self, id: String, before: i64) -> sqlx::Result<()> {
        let now = self.now();
        let longest = self.0.config.refresh_token_seconds.max(self.0.config.access_token_seconds);
        let revocation = Revocation { before, until: now.as_secs().saturating_add(longest) };
        self.0.tokens.revoke(self.db(), id, revocation, now).await
    }
}
