//! Logging in and out.

use crate::client::Grant;
use crate::command::{Command, Context, Needs, Spec};
use crate::commands::target::{aim, set_org, set_space, spaces_of};
use crate::error::{Error, Result, failed};
use crate::resources::Named;
use crate::table;
use crate::ui::{Choice, say};

const TRIES: usize = 3;

/// `cf login`
#[derive(clap::Args)]
pub struct Login {
    /// API endpoint (e.g. api.example.com)
    #[arg(short = 'a')]
    api: Option<String>,
    /// Org
    #[arg(short = 'o')]
    org: Option<String>,
    /// Password
    #[arg(short = 'p', allow_hyphen_values = true)]
    password: Option<String>,
    /// Space
    #[arg(short = 's')]
    space: Option<String>,
    /// Skip verification of the API endpoint. Not recommended!
    #[arg(long)]
    skip_ssl_validation: bool,
    /// Prompt for a one-time passcode to log in
    #[arg(long)]
    sso: bool,
    /// One-time passcode
    #[arg(long)]
    sso_passcode: Option<String>,
    /// Username
    #[arg(short = 'u')]
    username: Option<String>,
    /// The identity provider to log in with
    #[arg(long)]
    origin: Option<String>,
}

impl Command for Login {
    const SPEC: &'static Spec = &Spec {
        name: "login",
        alias: "l",
        about: "Log user in",
        usage: "{cf} login [-a API_URL] [-u USERNAME] [-p PASSWORD] [-o ORG] [-s SPACE] [--sso | --sso-passcode PASSCODE] [--origin ORIGIN]\n\nWARNING:\n   A password on the command line may be seen by others and kept in your shell's history.",
        examples: "{cf} login (asks for what is missing)\n{cf} login -u name@example.com -p pa55woRD\n{cf} login --sso (tells where to get a one-time passcode)",
        see_also: &["api", "auth", "target"],
        ..Spec::NONE
    };

    async fn run(mut self, cx: &mut Context<'_>) -> Result<()> {
        for (flag, given) in
            [("--sso-passcode", self.sso_passcode.is_some()), ("--origin", self.origin.is_some())]
        {
            if self.sso && given {
                return Err(Error::Usage(format!(
                    "The following arguments cannot be used together: --sso, {flag}"
                )));
            }
        }
        if cx.config().uaa_grant_type == "client_credentials" {
            return failed(
                "Service account currently logged in. Use 'cf logout' to log out service account and try again.",
            );
        }
        self.aim(cx).await?;
        say!(cx.ui);
        let done = self.enter(cx).await;
        status(cx);
        done
    }
}

impl Login {
    async fn aim(&self, cx: &mut Context<'_>) -> Result<()> {
        let (known, skips) = {
            let config = cx.config();
            (config.target.clone(), config.skip_ssl_validation)
        };
        let (api, skip) = match (&self.api, known.is_empty()) {
            (Some(api), _) => (api.clone(), self.skip_ssl_validation),
            (None, false) => (known, skips || self.skip_ssl_validation),
            (None, true) => (String::new(), self.skip_ssl_validation),
        };
        let api = if api.is_empty() {
            cx.ui.text("API endpoint")?
        } else {
            let shown = cx.ui.name(&api);
            say!(cx.ui, "API endpoint: {shown}");
            api
        };
        match aim(cx, &api, skip).await {
            Err(Error::Certificate { url, .. }) => {
                return Err(Error::Certificate { url, command: "login" });
            }
            done => done?,
        }
        if api.starts_with("http:") {
            cx.ui.warn("Warning: Insecure http API endpoint detected: secure https API endpoints are recommended");
        }
        Ok(())
    }

    async fn enter(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.authenticate(cx).await?;
        if let Some(org) = self.choose_org(cx).await? {
            set_org(cx, &org);
            let shown = cx.ui.name(&org.name);
            say!(cx.ui, "Targeted org {shown}.\n");
            if let Some(space) = self.choose_space(cx, &org).await? {
                set_space(cx, &space);
                let shown = cx.ui.name(&space.name);
                say!(cx.ui, "Targeted space {shown}.\n");
            }
        }
        Ok(())
    }

    async fn authenticate(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let prompts = cx.client.prompts().await?.prompts;
        let by_passcode = self.sso || self.sso_passcode.is_some();
        let label = |key: &str, otherwise: &str| {
            prompts.get(key).map_or(otherwise.to_owned(), |(_, label)| label.clone())
        };
        let mut answers = Vec::new();
        if !by_passcode {
            let username = match self.username.take() {
                Some(name) => name,
                None => cx.ui.text(&label("username", "Email"))?,
            };
            answers.push(("username".to_owned(), username));
            for (key, (kind, label)) in &prompts {
                if kind != "password" && key != "username" {
                    answers.push((key.clone(), cx.ui.text(label)?));
                }
            }
        }
        for _ in 0..TRIES {
            let mut answers = answers.clone();
            if by_passcode {
                let passcode = match self.sso_passcode.take() {
                    Some(code) => code,
                    None => cx.ui.password(&label("passcode", "One Time Code"))?,
                };
                answers.push(("passcode".to_owned(), passcode));
            } else {
                let password = match self.password.take() {
                    Some(password) => password,
                    None => cx.ui.password(&label("password", "Password"))?,
                };
                answers.push(("password".to_owned(), password));
                for (key, (kind, label)) in &prompts {
                    if kind == "password" && key != "password" && key != "passcode" {
                        answers.push((key.clone(), cx.ui.password(label)?));
                    }
                }
            }
            say!(cx.ui, "\nAuthenticating...");
            match cx
                .client
                .authenticate(&Grant::Password { answers, origin: self.origin.clone() })
                .await
            {
                Ok(()) => {
                    cx.ui.ok();
                    return Ok(());
                }
                Err(error) => {
                    cx.ui.warn(&error.to_string());
                    say!(cx.ui);
                    if matches!(&error, Error::Uaa(error) if error.is_locked()) {
                        break;
                    }
                }
            }
        }
        failed("Unable to authenticate.")
    }

    /// The named one, the only one, or the one a person picks. With `-s`, only orgs that have such a space count.
    async fn choose_org(&self, cx: &mut Context<'_>) -> Result<Option<Named>> {
        if let Some(name) = &self.org {
            return cx.client.org(name).await.map(Some);
        }
        let mut orgs: Vec<Named> =
            cx.client.list("/v3/organizations", &[("order_by", "name")]).await?.resources;
        if let Some(space) = &self.space {
            let having: Vec<Named> = cx
                .client
                .list("/v3/spaces", &[("names", &crate::client::filter_value(space))])
                .await?
                .resources;
            orgs.retain(|org| {
                having.iter().any(|space| space.related("organization") == Some(&org.guid))
            });
        }
        match pick(cx, "Select an org:", "Org", orgs)? {
            Picked::None => Ok(None),
            Picked::One(org) => Ok(Some(org)),
            Picked::Unknown(name) => match &self.space {
                Some(space) => {
                    failed(format!("Organization '{name}' containing space '{space}' not found."))
                }
                None => failed(format!("Organization '{name}' not found.")),
            },
        }
    }

    async fn choose_space(&self, cx: &mut Context<'_>, org: &Named) -> Result<Option<Named>> {
        if let Some(name) = &self.space {
            return cx.client.space(name, &org.guid).await.map(Some);
        }
        let spaces = spaces_of(cx, &org.guid).await?;
        match pick(cx, "Select a space:", "Space", spaces)? {
            Picked::None => Ok(None),
            Picked::One(space) => Ok(Some(space)),
            Picked::Unknown(name) => failed(format!("Space '{name}' not found.")),
        }
    }
}

enum Picked {
    None,
    One(Named),
    Unknown(String),
}

fn pick(cx: &mut Context, title: &str, prompt: &str, mut from: Vec<Named>) -> Result<Picked> {
    if from.len() < 2 {
        return Ok(from.pop().map_or(Picked::None, Picked::One));
    }
    let names: Vec<String> = from.iter().map(|named| named.name.clone()).collect();
    Ok(match cx.ui.choose(title, prompt, &names)? {
        None => Picked::None,
        Some(Choice::Known(index)) => Picked::One(from.swap_remove(index)),
        Some(Choice::Unknown(name)) => Picked::Unknown(name),
    })
}

/// Where one is after logging in, or after failing to.
fn status(cx: &mut Context) {
    let (cf, config) = (cx.cf(), cx.config().clone());
    let mut rows = vec![
        ("API endpoint:", config.target.clone()),
        ("API version:", config.api_version.clone()),
    ];
    let Some(user) = config.user() else {
        table::key_values(&mut cx.ui, &rows);
        say!(cx.ui, "Not logged in. Use '{cf} login' or '{cf} login --sso' to log in.");
        return;
    };
    rows.push(("user:", user.name));
    if config.org.name.is_empty() {
        table::key_values(&mut cx.ui, &rows);
        say!(cx.ui, "No org or space targeted, use '{cf} target -o ORG -s SPACE'");
        return;
    }
    rows.push(("org:", config.org.name));
    let space = config.space.name;
    rows.push((
        "space:",
        if space.is_empty() {
            format!("No space targeted, use '{cf} target -s SPACE'")
        } else {
            space
        },
    ));
    table::key_values(&mut cx.ui, &rows);
}

/// `cf auth`
#[derive(clap::Args)]
pub struct Auth {
    #[arg(value_name = "USERNAME")]
    username: Option<String>,
    #[arg(value_name = "PASSWORD", allow_hyphen_values = true)]
    password: Option<String>,
    /// Log in as a service account (a UAA client)
    #[arg(long)]
    client_credentials: bool,
    /// The identity provider to log in with
    #[arg(long)]
    origin: Option<String>,
}

impl Command for Auth {
    const SPEC: &'static Spec = &Spec {
        name: "auth",
        about: "Authenticate non-interactively",
        usage: "{cf} auth USERNAME PASSWORD\n{cf} auth USERNAME PASSWORD --origin ORIGIN\n{cf} auth CLIENT_ID CLIENT_SECRET --client-credentials\n\nWARNING:\n   A password on the command line may be seen by others and kept in your shell's history.\n   Consider the environment variable CF_PASSWORD instead.",
        environment: &[
            ("CF_USERNAME=user", "User, when USERNAME is not given"),
            ("CF_PASSWORD=password", "Password, when PASSWORD is not given"),
        ],
        see_also: &["api", "login", "target"],
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if self.client_credentials && self.origin.is_some() {
            return Err(Error::Usage(
                "The following arguments cannot be used together: --client-credentials, --origin"
                    .to_owned(),
            ));
        }
        let given = |argument: Option<String>, name: &str| {
            argument.filter(|text| !text.is_empty()).or_else(|| cx.ui.env(name).map(str::to_owned))
        };
        let (username, password) =
            (given(self.username, "CF_USERNAME"), given(self.password, "CF_PASSWORD"));
        let (username, password) = match (username, password) {
            (Some(username), Some(password)) => (username, password),
            (None, Some(_)) => return failed("Username not provided."),
            (Some(_), None) => return failed("Password not provided."),
            (None, None) => return failed("Username and password not provided."),
        };
        let (cf, target) = (cx.cf(), cx.config().target.clone());
        if target.is_empty() {
            return failed(format!(
                "No API endpoint set. Use '{cf} login' or '{cf} api' to target an endpoint."
            ));
        }
        if !self.client_credentials && cx.config().uaa_grant_type == "client_credentials" {
            return failed(
                "Service account currently logged in. Use 'cf logout' to log out service account and try again.",
            );
        }
        let target = cx.ui.name(target);
        say!(cx.ui, "API endpoint: {target}\n\nAuthenticating...");
        let grant = if self.client_credentials {
            Grant::ClientCredentials { id: username, secret: password }
        } else {
            let answers =
                vec![("username".to_owned(), username), ("password".to_owned(), password)];
            Grant::Password { answers, origin: self.origin }
        };
        cx.config().untarget();
        if let Err(error) = cx.client.authenticate(&grant).await {
            cx.config().log_out();
            return Err(error);
        }
        cx.ui.ok();
        let command = cx.ui.name(format!("{cf} target"));
        say!(cx.ui, "Use '{command}' to view or set your target org and space.");
        Ok(())
    }
}

/// `cf logout`
#[derive(clap::Args)]
pub struct Logout {}

impl Command for Logout {
    const SPEC: &'static Spec = &Spec {
        name: "logout",
        alias: "lo",
        about: "Log user out",
        usage: "{cf} logout",
        see_also: &["login"],
        needs: Needs::Nothing,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let name = cx.config().user().map(|user| user.name).unwrap_or_default();
        let name = cx.ui.name(name);
        say!(cx.ui, "Logging out {name}...");
        if let Err(error) = cx.client.revoke().await {
            // The tokens are forgotten all the same.
            cx.ui.warn(&error.to_string());
        }
        cx.config().log_out();
        cx.ui.ok();
        Ok(())
    }
}
