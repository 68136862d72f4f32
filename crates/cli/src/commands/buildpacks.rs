//! Buildpacks that stage apps: listed, uploaded, ordered.

mod bits;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::bits::Bits;
use crate::client::filter_value;
use crate::command::{Command, Context, Needs, Spec};
use crate::error::{Error, Result, failed};
use crate::table::{self, row};
use crate::ui::say;

/// How `PATH` and `POSITION` are meant.
const TIP: &str = "PATH is a zip file, a URL of a zip file, or a local directory; with the lifecycle 'cnb', a cnb file or a gzipped OCI image. POSITION is a positive integer; the lowest comes first.";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Buildpack {
    guid: String,
    name: String,
    position: u64,
    stack: Option<String>,
    enabled: bool,
    locked: bool,
    state: String,
    filename: Option<String>,
    lifecycle: String,
}

/// `cf buildpacks`
#[derive(clap::Args)]
pub struct Buildpacks {
    /// Selector to filter buildpacks by labels
    #[arg(long)]
    labels: Option<String>,
    /// Only buildpacks of this lifecycle ('buildpack' or 'cnb')
    #[arg(long)]
    lifecycle: Option<String>,
}

impl Command for Buildpacks {
    const SPEC: &'static Spec = &Spec {
        name: "buildpacks",
        about: "List all buildpacks",
        usage: "{cf} buildpacks [--labels SELECTOR] [--lifecycle buildpack|cnb]",
        examples: "{cf} buildpacks\n{cf} buildpacks --labels 'environment in (production,staging),tier in (backend)'\n{cf} buildpacks --labels 'env=dev,!chargeback-code,tier in (backend,worker)'\n{cf} buildpacks --lifecycle cnb",
        see_also: &["create-buildpack", "delete-buildpack", "update-buildpack"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let user = cx.ui.name(cx.user()?.name);
        say!(cx.ui, "Getting buildpacks as {user}...\n");
        let mut query = vec![("order_by", "position")];
        query.extend(self.labels.as_deref().map(|labels| ("label_selector", labels)));
        query.extend(self.lifecycle.as_deref().map(|lifecycle| ("lifecycle", lifecycle)));
        let buildpacks: Vec<Buildpack> = cx.client.list("/v3/buildpacks", &query).await?.resources;
        if buildpacks.is_empty() {
            say!(cx.ui, "No buildpacks found");
            return Ok(());
        }
        let mut rows = vec![row![
            "position",
            "name",
            "stack",
            "enabled",
            "locked",
            "state",
            "filename",
            "lifecycle"
        ]];
        for pack in buildpacks {
            let (stack, filename) =
                (pack.stack.unwrap_or_default(), pack.filename.unwrap_or_default());
            rows.push(row![
                pack.position,
                pack.name,
                stack,
                pack.enabled,
                pack.locked,
                pack.state,
                filename,
                pack.lifecycle
            ]);
        }
        table::with_header(&mut cx.ui, "", &rows);
        Ok(())
    }
}

/// Which of the buildpacks that share a name is meant.
#[derive(clap::Args)]
struct Which {
    #[arg(value_name = "BUILDPACK")]
    name: String,
    /// Specify stack to disambiguate buildpacks with the same name
    #[arg(long, short = 's')]
    stack: Option<String>,
    /// Specify lifecycle to disambiguate buildpacks with the same name
    #[arg(long, short = 'l')]
    lifecycle: Option<String>,
}

impl Which {
    /// Of several, the one without a stack; else a person must say which.
    async fn find(&self, cx: &Context<'_>) -> Result<Buildpack> {
        let name = filter_value(&self.name);
        let mut query = vec![("names", name.as_str())];
        query.extend(self.stack.as_deref().map(|stack| ("stacks", stack)));
        query.extend(self.lifecycle.as_deref().map(|lifecycle| ("lifecycle", lifecycle)));
        let mut found = cx.client.list::<Buildpack>("/v3/buildpacks", &query).await?.resources;
        if found.len() > 1 && self.stack.is_none() {
            let bare = found.iter().position(|pack| pack.stack.is_none());
            if let Some(bare) = bare {
                found = vec![found.swap_remove(bare)];
            }
        }
        match found.len() {
            0 => Err(Error::Missing(format!("Buildpack {} not found", self.shown("'")))),
            1 => Ok(found.remove(0)),
            _ => failed(format!(
                "Multiple buildpacks named {} found. Specify a stack name by using a '-s' flag and/or lifecycle using a '-l' flag.",
                self.name
            )),
        }
    }

    /// The name with what else tells it apart.
    fn shown(&self, quote: &str) -> String {
        let more = |word: &str, of: &Option<String>| {
            of.as_ref().map(|text| format!(" with {word} {quote}{text}{quote}")).unwrap_or_default()
        };
        let (stack, lifecycle) = (more("stack", &self.stack), more("lifecycle", &self.lifecycle));
        format!("{quote}{}{quote}{stack}{lifecycle}", self.name)
    }
}

/// `cf create-buildpack`
#[derive(clap::Args)]
pub struct CreateBuildpack {
    #[arg(value_name = "BUILDPACK")]
    name: String,
    #[arg(value_name = "PATH")]
    path: String,
    #[arg(value_name = "POSITION", value_parser = clap::value_parser!(u64).range(1..))]
    position: u64,
    /// Disable the buildpack from being used for staging
    #[arg(long)]
    disable: bool,
    /// Lifecycle that the buildpack will use ('buildpack' or 'cnb')
    #[arg(long, short = 'l')]
    lifecycle: Option<String>,
}

impl Command for CreateBuildpack {
    const SPEC: &'static Spec = &Spec {
        name: "create-buildpack",
        about: "Create a buildpack",
        usage: "{cf} create-buildpack BUILDPACK PATH POSITION [--disable] [--lifecycle buildpack|cnb]",
        tip: TIP,
        see_also: &["buildpacks", "push"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let (name, me) = (cx.ui.name(&self.name), cx.me()?);
        Bits::check(cx, &self.path)?;
        say!(cx.ui, "Creating buildpack {name} as {me}...");
        let bits = Bits::prepare(cx, &self.path).await?;
        let mut body =
            json!({ "name": self.name, "position": self.position, "enabled": !self.disable });
        if let Some(lifecycle) = &self.lifecycle {
            body["lifecycle"] = json!(lifecycle);
        }
        let created: Buildpack = cx.client.post("/v3/buildpacks", body).await?.json()?;
        cx.ui.ok();
        let cf = cx.cf();
        bits.upload(cx, &self.name, &created.guid).await.map_err(|error| {
            Error::Failed(format!(
                "{error}\nTIP: A buildpack with name '{}' and nil stack has been created. Use '{cf} delete-buildpack' to delete it or '{cf} update-buildpack' to try again.",
                self.name
            ))
        })
    }
}

/// `cf update-buildpack`
#[derive(clap::Args)]
pub struct UpdateBuildpack {
    #[command(flatten)]
    which: Which,
    /// Assign a stack to a buildpack that does not have a stack association
    #[arg(long)]
    assign_stack: Option<String>,
    /// Disable the buildpack from being used for staging
    #[arg(long)]
    disable: bool,
    /// Enable the buildpack to be used for staging
    #[arg(long)]
    enable: bool,
    /// Lock the buildpack to prevent updates
    #[arg(long)]
    lock: bool,
    /// Path to directory or zip file
    #[arg(long, short = 'p')]
    path: Option<String>,
    /// The order in which the buildpacks are checked during buildpack auto-detection
    #[arg(long, short = 'i', value_parser = clap::value_parser!(u64).range(1..))]
    position: Option<u64>,
    /// Rename an existing buildpack
    #[arg(long)]
    rename: Option<String>,
    /// Unlock the buildpack to enable updates
    #[arg(long)]
    unlock: bool,
}

impl Command for UpdateBuildpack {
    const SPEC: &'static Spec = &Spec {
        name: "update-buildpack",
        about: "Update a buildpack",
        usage: "{cf} update-buildpack BUILDPACK [-p PATH | -s STACK | --assign-stack NEW_STACK] [-i POSITION] [--rename NEW_NAME] [--enable|--disable] [--lock|--unlock]",
        tip: "PATH and POSITION are as in create-buildpack.\n\nA stack that the buildpack does not support makes staging fail, and once assigned it stays: use '--assign-stack' with caution.",
        see_also: &["buildpacks", "create-buildpack", "delete-buildpack"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        self.check()?;
        self.path.as_ref().map_or(Ok(()), |path| Bits::check(cx, path))?;
        self.announce(cx)?;
        let bits = match &self.path {
            Some(path) => Some(Bits::prepare(cx, path).await?),
            None => None,
        };
        let pack = self.which.find(cx).await?;
        let body = self.body();
        if !body.is_empty() {
            let path = format!("/v3/buildpacks/{}", pack.guid);
            cx.client.patch(&path, Value::Object(body)).await?;
        }
        cx.ui.ok();
        match bits {
            Some(bits) => bits.upload(cx, &self.which.name, &pack.guid).await,
            None => Ok(()),
        }
    }
}

impl UpdateBuildpack {
    fn check(&self) -> Result<()> {
        let (path, assign) = (self.path.is_some(), self.assign_stack.is_some());
        let wrong = [
            (self.lock && self.unlock, ["--lock", "--unlock"]),
            (self.enable && self.disable, ["--enable", "--disable"]),
            (path && self.lock, ["--path", "--lock"]),
            (path && assign, ["--path", "--assign-stack"]),
            (self.which.stack.is_some() && assign, ["--stack", "--assign-stack"]),
        ];
        wrong
            .iter()
            .find(|(is_wrong, _)| *is_wrong)
            .map_or(Ok(()), |(_, flags)| Err(Error::together(flags)))
    }

    fn announce(&self, cx: &mut Context) -> Result<()> {
        let me = cx.me()?;
        let mut name = cx.ui.name(&self.which.name);
        if let Some(new) = &self.rename {
            let new = cx.ui.name(new);
            say!(cx.ui, "Renaming buildpack {name} to {new} as {me}...\n");
            name = new;
        }
        let with = |word: &str, of: &Option<String>, cx: &Context| {
            of.as_ref().map(|text| format!(" with {word} {}", cx.ui.name(text))).unwrap_or_default()
        };
        let lifecycle = with("lifecycle", &self.which.lifecycle, cx);
        let Some(assigned) = &self.assign_stack else {
            let stack = with("stack", &self.which.stack, cx);
            say!(cx.ui, "Updating buildpack {name}{stack}{lifecycle} as {me}...");
            return Ok(());
        };
        let shown = cx.ui.name(assigned);
        say!(cx.ui, "Assigning stack {shown} to {name} as {me}...");
        if self.position.is_some() || self.lock || self.unlock || self.enable || self.disable {
            say!(cx.ui, "\nUpdating buildpack {name} with stack {shown}{lifecycle} as {me}...");
        }
        Ok(())
    }

    fn body(&self) -> Map<String, Value> {
        let fields = [
            ("name", self.rename.as_ref().map(|name| json!(name))),
            ("stack", self.assign_stack.as_ref().map(|stack| json!(stack))),
            ("position", self.position.map(|position| json!(position))),
            ("enabled", (self.enable || self.disable).then(|| json!(self.enable))),
            ("locked", (self.lock || self.unlock).then(|| json!(self.lock))),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// `cf delete-buildpack`
#[derive(clap::Args)]
pub struct DeleteBuildpack {
    #[command(flatten)]
    which: Which,
    /// Force deletion without confirmation
    #[arg(long, short = 'f')]
    force: bool,
}

impl Command for DeleteBuildpack {
    const SPEC: &'static Spec = &Spec {
        name: "delete-buildpack",
        about: "Delete a buildpack",
        usage: "{cf} delete-buildpack BUILDPACK [-f] [-s STACK] [-l LIFECYCLE]",
        see_also: &["buildpacks"],
        needs: Needs::Login,
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        let question = format!("Really delete the buildpack {}?", self.which.name);
        if !self.force && !cx.ui.confirm(&question)? {
            say!(cx.ui, "Delete cancelled");
            return Ok(());
        }
        say!(cx.ui, "Deleting buildpack {}...", self.which.shown(""));
        match self.which.find(cx).await {
            Err(Error::Missing(_)) => {
                let end = if self.which.stack.is_some() && self.which.lifecycle.is_some() {
                    "does not exist."
                } else {
                    "not found."
                };
                cx.ui.warn(&format!("Buildpack {} {end}", self.which.shown("'")));
            }
            pack => cx.client.delete(&format!("/v3/buildpacks/{}", pack?.guid)).await?,
        }
        cx.ui.ok();
        Ok(())
    }
}
