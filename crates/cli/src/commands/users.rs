//! Users: made in the UAA, known to the Cloud Controller.

use crate::command::{Command, Context, Needs, Spec};
use crate::commands::roles::register;
use crate::error::{Error, Result, failed};
use crate::ui::say;

const HOME_ORIGIN: &str = "uaa";

/// `cf create-user`
#[derive(clap::Args)]
pub struct CreateUser {
    #[arg(value_name = "USERNAME")]
    name: String,
    #[arg(value_name = "PASSWORD", allow_hyphen_values = true)]
    password: Option<String>,
    /// The identity provider the user comes from
    #[arg(long)]
    origin: Option<String>,
    /// Prompt for the password
    #[arg(long)]
    password_prompt: bool,
}

impl Command for CreateUser {
    const SPEC: &'static Spec = &Spec {
        name: "create-user",
        about: "Create a new user",
        usage: "{cf} create-user USERNAME PASSWORD\n{cf} create-user USERNAME [--origin ORIGIN]\n{cf} create-user USERNAME --password-prompt",
        see_also: &["passwd", "set-org-role", "set-space-role"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let origin = self.origin.as_deref().unwrap_or(HOME_ORIGIN);
        if origin.eq_ignore_ascii_case(HOME_ORIGIN)
            && self.password.is_none()
            && !self.password_prompt
        {
            return Err(Error::Usage(
                "the required argument `PASSWORD` was not provided".to_owned(),
            ));
        }
        let password = if self.password_prompt {
            cx.ui.password("Password")?
        } else {
            self.password.clone().unwrap_or_default()
        };
        let shown = cx.ui.name(&self.name);
        say!(cx.ui, "Creating user {shown}...");
        let exists = match cx.client.create_user(&self.name, &password, origin).await {
            Ok(user) => {
                register(cx, &user.id).await?;
                false
            }
            Err(Error::Uaa(error)) if error.status == 409 => true,
            Err(error) => return Err(error),
        };
        if exists {
            cx.ui.warn(&format!("User '{}' already exists.", self.name));
            cx.ui.ok();
            return Ok(());
        }
        cx.ui.ok();
        let cf = cx.cf();
        say!(cx.ui, "TIP: Assign roles with '{cf} set-org-role' and '{cf} set-space-role'.");
        Ok(())
    }
}

/// `cf delete-user`
#[derive(clap::Args)]
pub struct DeleteUser {
    #[arg(value_name = "USERNAME")]
    name: String,
    /// Do not ask first
    #[arg(short = 'f')]
    force: bool,
    /// The identity provider the user comes from
    #[arg(long)]
    origin: Option<String>,
}

impl Command for DeleteUser {
    const SPEC: &'static Spec = &Spec {
        name: "delete-user",
        about: "Delete a user",
        usage: "{cf} delete-user USERNAME [-f] [--origin ORIGIN]",
        see_also: &["org-users"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if !self.force && !cx.ui.confirm(&format!("Really delete the user {}?", self.name))? {
            say!(cx.ui, "User '{}' has not been deleted.", self.name);
            cx.ui.ok();
            return Ok(());
        }
        let (name, me) = (cx.ui.name(&self.name), cx.ui.name(cx.user()?.name));
        say!(cx.ui, "Deleting user {name} as {me}...");
        let found = cx.client.users(&self.name, self.origin.as_deref()).await?;
        match found.as_slice() {
            [] => say!(cx.ui, "User '{}' does not exist.", self.name),
            [user] => {
                // The Cloud Controller may never have heard of the user.
                match cx.client.delete(&format!("/v3/users/{}", user.id)).await {
                    Err(error) if error.is_not_found() => {}
                    done => done?,
                }
                cx.client.delete_user(&user.id).await?;
            }
            many => {
                let origins: Vec<&str> = many.iter().map(|user| user.origin.as_str()).collect();
                return failed(format!(
                    "The username '{}' is found in multiple origins: {}.",
                    self.name,
                    origins.join(", ")
                ));
            }
        }
        cx.ui.ok();
        Ok(())
    }
}

/// `cf passwd`
#[derive(clap::Args)]
pub struct Passwd {}

impl Command for Passwd {
    const SPEC: &'static Spec = &Spec {
        name: "passwd",
        alias: "pw",
        about: "Change user password",
        usage: "{cf} passwd",
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let old = cx.ui.password("Current password")?;
        let new = cx.ui.password("New password")?;
        if new != cx.ui.password("Verify password")? {
            return failed("Password verification does not match.");
        }
        let user = cx.user()?;
        let name = cx.ui.name(&user.name);
        say!(cx.ui, "Changing password for user {name}...");
        cx.client.change_password(&user.guid, &old, &new).await?;
        cx.ui.ok();
        cx.config().log_out();
        say!(cx.ui, "Please log in again.");
        Ok(())
    }
}
