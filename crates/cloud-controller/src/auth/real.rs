//! The platform's own UAA, asked in the same process.

use async_trait::async_trait;
use uaa::{AccountError, Uaa};

use super::{Claims, Identity, TokenError, User};

fn user(user: uaa::User) -> User {
    User { guid: user.guid, username: user.username, origin: user.origin }
}

#[async_trait]
impl Identity for Uaa {
    async fn verify(&self, bearer: &str) -> Result<Claims, TokenError> {
        let claims = Uaa::verify(self, bearer).map_err(|error| match error {
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
        Ok(Uaa::users_by_ids(self, ids).await?.into_iter().map(user).collect())
    }

    async fn users_by_names(
        &self,
        names: &[String],
        origins: &[String],
    ) -> anyhow::Result<Vec<User>> {
        let origins = (!origins.is_empty()).then_some(origins);
        Ok(self.ids_by_usernames(names, origins).await?.into_iter().map(user).collect())
    }

    async fn users_by_parts(
        &self,
        parts: &[String],
        origins: &[String],
        most: usize,
    ) -> anyhow::Result<Vec<User>> {
        Ok(Uaa::users_by_parts(self, parts, origins, most).await?.into_iter().map(user).collect())
    }

    async fn create_user(&self, username: &str, origin: &str) -> anyhow::Result<User> {
        match Uaa::create_user(self, username, origin, None).await {
            Ok(made) => Ok(user(made)),
            Err(AccountError::Taken { guid }) => {
                Ok(User { guid, username: username.to_owned(), origin: origin.to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }
}
