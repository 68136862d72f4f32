//! Is this the user, is this the client: passwords and secrets against what is stored.

use crate::Uaa;
use crate::db;
use crate::db::clients::Client;
use crate::db::users::Account;
use crate::error::{Error, LOCKED, Result};
use crate::lockout::Lockout;
use crate::password::UNUSABLE;
use crate::scim::user::OWN_ORIGIN;

/// A password is read up to here; more is not one.
const LONGEST: usize = 1024;

impl Uaa {
    /// The account that goes with name and password. Failures count towards a lock, success forgets them.
    pub(crate) async fn login(
        &self,
        name: &str,
        password: &str,
        origin: Option<&str>,
    ) -> Result<Account> {
        if origin.is_some_and(|origin| origin != OWN_ORIGIN) {
            return Err(Error::unauthorized("The origin provided in the login hint is invalid."));
        }
        let account =
            db::users::find_by_name(&mut *self.db().read().await?, name, OWN_ORIGIN).await?;
        if account.as_ref().is_some_and(|account| account.lockout.is_locked(self.now())) {
            return Err(Error::unauthorized(LOCKED));
        }
        let stored = account.as_ref().map_or(UNUSABLE, |account| account.password_hash.as_str());
        let good = password.len() <= LONGEST && self.0.passwords.verify(password, stored).await?;
        let Some(account) = account else { return Err(Error::bad_credentials()) };
        if !good {
            self.count_failure(&account.guid).await?;
            return Err(Error::bad_credentials());
        }
        if !account.active {
            return Err(Error::bad_credentials());
        }
        if account.password_change_required {
            return Err(Error::unauthorized("User password needs to be changed"));
        }
        let mut tx = self.db().begin().await?;
        db::users::logged_on(&mut tx, &account.guid, self.now()).await?;
        tx.commit().await?;
        Ok(Account { lockout: Lockout::default(), ..account })
    }

    async fn count_failure(&self, guid: &str) -> Result<()> {
        let mut tx = self.db().begin().await?;
        if let Some(account) = db::users::find(&mut tx, guid).await? {
            let lockout = account.lockout.after_failure(self.lockout_policy(), self.now());
            db::users::set_lockout(&mut tx, guid, lockout).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The client that goes with id and secret.
    pub(crate) async fn authenticate_client(
        &self,
        credentials: Option<&(String, String)>,
    ) -> Result<Client> {
        let Some((client_id, secret)) = credentials else {
            return Err(Error::unauthorized("Client credentials missing"));
        };
        let refused = || Error::invalid_client("Bad credentials");
        let Some(client) = self.client(client_id).await? else {
            // The same work as for a wrong secret.
            self.0.passwords.verify(secret, UNUSABLE).await?;
            return Err(refused());
        };
        let passwords = &self.0.passwords;
        let first = passwords.verify_secret(secret, &client.secret_hash).await?;
        let second = !first
            && !client.second_hash.is_empty()
            && passwords.verify_secret(secret, &client.second_hash).await?;
        if first || second { Ok(client) } else { Err(refused()) }
    }

    /// An account that still exists and may be used.
    pub(crate) async fn active_account(&self, guid: &str) -> Result<Option<Account>> {
        let account = db::users::find(&mut *self.db().read().await?, guid).await?;
        Ok(account.filter(|account| account.active))
    }
}
