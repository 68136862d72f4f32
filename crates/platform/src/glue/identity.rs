//! Cloud Controller's users are the UAA's.

use async_trait::async_trait;
use cloud_controller::auth::{Claims, Identity, TokenError, User};
use uaa::Uaa;

pub struct Accounts(pub Uaa);

#[async_trait]
impl Identity for Accounts {
    async fn verify(&self, bearer: &str) -> Result<Claims, TokenError> {
        let claims = self.0.verify(bearer).map_err(|error| match error {
            uaa::TokenError::Missing => TokenError::Missing,
            uaa::TokenError::Invalid => TokenError::Invalid,
            uaa::TokenError::Expired => TokenError::Expired,
        })?;
        Ok(Claims {
            user_id: claims.user_id.clone(),
            user_name: claims.user_name.clone(),
            email: claims.email.clone(),
            client_id: claims.client_id.clone(),
            scopes: claims.scope.clone(),
        })
    }

    async fn users_by_ids(&self, ids: &[String]) -> anyhow::Result<Vec<User>> {
        Ok(self.0.users_by_ids(ids).await?.into_iter().map(user).collect())
    }

    async fn users_by_names(&self, names: &[String], origins: &[String]) -> anyhow::Result<Vec<User>> {
        let origins = (!origins.is_empty()).then_some(origins);
        Ok(self.0.ids_by_usernames(names, origins).await?.into_iter().map(user).collect())
    }

    async fn users_by_parts(&self, parts: &[String], origins: &[String], most: usize) -> anyhow::Result<Vec<User>> {
        Ok(self.0.users_by_parts(parts, origins, most).await?.into_iter().map(user).collect())
    }

    async fn create_user(&self, username: &str, origin: &str) -> anyhow::Result<User> {
        Ok(user(self.0.create_user(username, origin, None).await?))
    }
}

fn user(user: uaa::User) -> User {
    User { guid: user.guid, username: user.username, origin: user.origin }
}
