//! Stand-ins for tests: users whose tokens say who they are, and containers nobody measures.

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::auth::{Claims, Identity, TokenError, User};
use crate::bridge::metrics::{ContainerMetrics, Usage};

/// Takes `bearer admin` and `bearer GUID` (a user named `name-GUID`); `bearer GUID:scope,scope` chooses the scopes;
/// `bearer expired` has expired.
#[derive(Debug, Default)]
pub struct FakeIdentity {
    users: Mutex<Vec<User>>,
}

impl FakeIdentity {
    pub fn add(&self, guid: &str, username: &str, origin: &str) {
        self.users.lock().push(User {
            guid: guid.to_owned(),
            username: username.to_owned(),
            origin: origin.to_owned(),
        });
    }
}

#[async_trait]
impl Identity for FakeIdentity {
    async fn verify(&self, bearer: &str) -> Result<Claims, TokenError> {
        let token = bearer.strip_prefix("bearer ").or_else(|| bearer.strip_prefix("Bearer "));
        let (guid, scopes) = match token.ok_or(TokenError::Missing)? {
            "" => return Err(TokenError::Invalid),
            "expired" => return Err(TokenError::Expired),
            "admin" => {
                ("admin", "cloud_controller.admin,cloud_controller.read,cloud_controller.write")
            }
            token => token
                .split_once(':')
                .unwrap_or((token, "cloud_controller.read,cloud_controller.write")),
        };
        Ok(Claims {
            user_id: Some(guid.to_owned()),
            user_name: Some(format!("name-{guid}")),
            email: Some(format!("{guid}@example.com")),
            client_id: "cf".to_owned(),
            scopes: scopes.split(',').map(str::to_owned).collect(),
        })
    }

    async fn users_by_ids(&self, ids: &[String]) -> anyhow::Result<Vec<User>> {
        Ok(self.users.lock().iter().filter(|user| ids.contains(&user.guid)).cloned().collect())
    }

    async fn users_by_names(
        &self,
        names: &[String],
        origins: &[String],
    ) -> anyhow::Result<Vec<User>> {
        let fits = |user: &&User| {
            names.contains(&user.username) && (origins.is_empty() || origins.contains(&user.origin))
        };
        Ok(self.users.lock().iter().filter(fits).cloned().collect())
    }

    async fn users_by_parts(
        &self,
        parts: &[String],
        origins: &[String],
        most: usize,
    ) -> anyhow::Result<Vec<User>> {
        let fits = |user: &&User| {
            let name = user.username.to_lowercase();
            let origin = origins.is_empty() || origins.contains(&user.origin);
            origin && parts.iter().any(|part| name.contains(&part.to_lowercase()))
        };
        Ok(self.users.lock().iter().filter(fits).take(most).cloned().collect())
    }

    async fn create_user(&self, username: &str, origin: &str) -> anyhow::Result<User> {
        let user = User {
            guid: base::new_guid(),
            username: username.to_owned(),
            origin: origin.to_owned(),
        };
        self.users.lock().push(user.clone());
        Ok(user)
    }
}

/// Knows of no container.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMetrics;

impl ContainerMetrics for NoMetrics {
    fn latest(&self, _: &str, _: &str, _: u32) -> Option<Usage> {
        None
    }
}
