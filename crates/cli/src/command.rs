//! From arguments to a command: finding it, reading its flags, checking what it needs, running it, reporting.

use std::ffi::OsString;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};

use crate::client::{Client, Settings, Trace};
use crate::commands::COMMANDS;
use crate::config::{Config, Place, SpacePlace, User};
use crate::error::{Error, Result, failed};
use crate::help;
use crate::ui::{Io, Ui};

/// What is said about a command, beside its flags.
pub struct Spec {
    pub name: &'static str,
    pub alias: &'static str,
    pub about: &'static str,
    /// Lines as they follow `USAGE:`; `{cf}` stands for the program.
    pub usage: &'static str,
    /// Advice that follows the usage.
    pub tip: &'static str,
    pub examples: &'static str,
    /// What `RESOURCE` may be, a name a line.
    pub resources: &'static str,
    /// What `ROLE` may be, one a line.
    pub roles: &'static str,
    pub environment: &'static [(&'static str, &'static str)],
    pub see_also: &'static [&'static str],
    pub needs: Needs,
}

impl Spec {
    /// Nothing said yet, for the `..` of a real one.
    pub const NONE: Spec = Spec {
        name: "",
        alias: "",
        about: "",
        usage: "",
        tip: "",
        examples: "",
        resources: "",
        roles: "",
        environment: &[],
        see_also: &[],
        needs: Needs::Nothing,
    };
}

/// What must be targeted before a command starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    Nothing,
    Login,
    Org,
    Space,
}

/// A command: its flags are the fields.
pub trait Command: clap::Args {
    const SPEC: &'static Spec;
    async fn run(self, cx: &mut Context) -> Result<()>;
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A command as the registry holds it.
pub struct Entry {
    pub spec: &'static Spec,
    pub flags: fn(clap::Command) -> clap::Command,
    start: for<'a, 'io> fn(&'a mut Context<'io>, ArgMatches) -> Running<'a>,
}

pub const fn entry<C: Command + 'static>() -> Entry {
    Entry { spec: C::SPEC, flags: C::augment_args, start: start::<C> }
}

fn start<'a, C: Command + 'static>(cx: &'a mut Context<'_>, matches: ArgMatches) -> Running<'a> {
    Box::pin(async move {
        let command =
            C::from_arg_matches(&matches).map_err(|error| Error::Usage(usage_message(&error)))?;
        command.run(cx).await
    })
}

/// All a command works with.
pub struct Context<'io> {
    pub ui: Ui<'io>,
    pub client: Client,
    pub trace: Trace,
}

impl Context<'_> {
    /// The configuration; never held over a wait.
    pub fn config(&self) -> std::sync::MutexGuard<'_, Config> {
        self.client.config.lock().expect("no holder of this lock panics")
    }

    /// A client for the API that is targeted now.
    pub fn reconnect(&mut self) -> Result<()> {
        let (config, notices) = (self.client.config.clone(), self.ui.notices.clone());
        let clock = self.ui.io.clock.clone();
        self.client = Client::new(Settings { config, notices, clock, trace: self.trace.clone() })?;
        Ok(())
    }

    /// The program as it stands in tips.
    pub fn cf(&self) -> String {
        self.ui.io.program.clone()
    }

    pub fn org(&self) -> Place {
        self.config().org.clone()
    }

    pub fn space(&self) -> SpacePlace {
        self.config().space.clone()
    }

    pub fn user(&self) -> Result<User> {
        let user = self.config().user();
        user.map_or_else(
            || failed("The access token cannot be read. Please log back in to re-authenticate."),
            Ok,
        )
    }

    /// The user's name, coloured, for the end of a sentence.
    pub fn me(&self) -> Result<String> {
        Ok(self.ui.name(self.user()?.name))
    }

    /// `org O / space S as U`, coloured, for the sentence a command begins with.
    pub fn place(&self) -> Result<String> {
        let (org, space, user) = (self.org().name, self.space().name, self.user()?.name);
        let ui = &self.ui;
        Ok(format!("org {} / space {} as {}", ui.name(org), ui.name(space), ui.name(user)))
    }

    /// Minutes from the environment.
    pub fn minutes(&self, name: &str, default: u64) -> Duration {
        let minutes = self
            .ui
            .env(name)
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|minutes| *minutes > 0.0);
        minutes
            .and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok())
            .unwrap_or(Duration::from_secs(default * 60))
    }

    pub fn require(&self, needs: Needs) -> Result<()> {
        let (config, cf) = (self.config(), self.cf());
        if needs > Needs::Nothing && config.target.is_empty() {
            return failed(format!(
                "No API endpoint set. Use '{cf} login' or '{cf} api' to target an endpoint."
            ));
        }
        if needs > Needs::Nothing && !config.is_logged_in() {
            return failed(format!(
                "Not logged in. Use '{cf} login' or '{cf} login --sso' to log in."
            ));
        }
        if needs >= Needs::Org && config.org.guid.is_empty() {
            return failed(format!("No org targeted, use '{cf} target -o ORG' to target an org."));
        }
        if needs >= Needs::Space && config.space.guid.is_empty() {
            return failed(format!(
                "No space targeted, use '{cf} target -s SPACE' to target a space."
            ));
        }
        Ok(())
    }
}

pub fn find(name: &str) -> Option<&'static Entry> {
    COMMANDS.iter().find(|entry| {
        entry.spec.name == name || (!entry.spec.alias.is_empty() && entry.spec.alias == name)
    })
}

/// The whole run: its exit code is what the process ends with.
pub async fn dispatch(args: Vec<OsString>, io: &mut Io) -> i32 {
    let path = Config::path(io);
    let (config, broken) = match Config::load(&path) {
        Ok(config) => (config, None),
        Err(error) => (Config::default(), Some(error)),
    };
    let mut ui = Ui::new(io, &config.color_enabled);
    if let Some(error) = broken {
        ui.failed(&error.to_string());
        return 1;
    }
    let Request { name, args, verbose } = read(args);
    let mut trace = Trace::default();
    trace.add(ui.env("CF_TRACE").unwrap_or(&config.trace), &ui.io.dir);
    trace.screen |= verbose;
    let before = config.clone();
    let settings = Settings {
        config: Arc::new(Mutex::new(config)),
        notices: ui.notices.clone(),
        clock: ui.io.clock.clone(),
        trace: trace.clone(),
    };
    let client = match Client::new(settings) {
        Ok(client) => client,
        Err(error) => {
            ui.failed(&error.to_string());
            return 1;
        }
    };
    let mut cx = Context { ui, client, trace };
    let code = match find(&name) {
        Some(entry) => run(entry, args, &mut cx).await,
        None => {
            let cf = cx.cf();
            cx.ui.warn(&format!("'{name}' is not a registered command. See '{cf} help -a'"));
            1
        }
    };
    cx.ui.flush_notices();
    let after = cx.config().clone();
    if (after != before || !path.exists())
        && let Err(error) = after.save(&path)
    {
        cx.ui.warn(&format!("Error writing config: {error} for {}", path.display()));
        return 1;
    }
    code
}

async fn run(entry: &'static Entry, args: Vec<OsString>, cx: &mut Context<'_>) -> i32 {
    let parser = parser(entry);
    let matches = match parser.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            let message = format!("Incorrect Usage: {}", usage_message(&error));
            if error.kind() == ErrorKind::UnknownArgument && !message.contains("flag") {
                cx.ui.failed(&message);
                crate::ui::say!(cx.ui);
            } else {
                cx.ui.warn(&format!("{message}\n"));
            }
            help::of(cx, entry);
            return 1;
        }
    };
    let done = match cx.require(entry.spec.needs) {
        Ok(()) => (entry.start)(cx, matches).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            cx.ui.failed(&error.to_string());
            if let Error::Usage(_) = error {
                crate::ui::say!(cx.ui);
                help::of(cx, entry);
            }
            error.exit_code()
        }
    }
}

/// The flags of a command; a flag given twice counts as last given.
pub fn parser(entry: &Entry) -> clap::Command {
    let parser = clap::Command::new(entry.spec.name)
        .no_binary_name(true)
        .disable_help_flag(true)
        .args_override_self(true);
    let verbose = Arg::new("request diagnostics").short('v').action(ArgAction::Count).hide(true);
    (entry.flags)(parser).arg(verbose)
}

/// What was asked for, once names and global flags are told apart from the rest.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    name: String,
    args: Vec<OsString>,
    verbose: bool,
}

/// Pure: no command is `help`, `-v` alone is `version`, and `--help` anywhere before `--` is help for the command.
fn read(args: Vec<OsString>) -> Request {
    let text = |arg: &OsString| arg.to_string_lossy().into_owned();
    let is_verbose = |arg: &OsString| arg == "-v";
    let flags = args.iter().take_while(|arg| *arg != "--");
    let (mut wants_help, mut verbose) = (false, false);
    for arg in flags {
        wants_help |= arg == "--help" || arg == "-h";
        verbose |= is_verbose(arg);
    }
    let at = args.iter().position(|arg| !arg.to_string_lossy().starts_with('-'));
    let Some(at) = at else {
        let version = !wants_help && (verbose || args.iter().any(|arg| arg == "--version"));
        let unknown = args.iter().find(|arg| {
            !["--help", "-h", "-v", "--version", "-a"].iter().any(|known| *arg == *known)
        });
        return match unknown {
            Some(flag) => Request { name: text(flag), args: Vec::new(), verbose: false },
            None if version => {
                Request { name: "version".to_owned(), args: Vec::new(), verbose: false }
            }
            None => {
                let all = args.into_iter().filter(|arg| arg == "-a").collect();
                Request { name: "help".to_owned(), args: all, verbose: false }
            }
        };
    };
    let name = text(&args[at]);
    if wants_help && name != "help" {
        return Request { name: "help".to_owned(), args: vec![name.into()], verbose: false };
    }
    Request {
        name,
        args: args.into_iter().skip(at + 1).filter(|arg| arg != "--help" && arg != "-h").collect(),
        verbose,
    }
}

/// Pure: a parser's complaint in the words of `cf`.
fn usage_message(error: &clap::Error) -> String {
    let about = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    };
    let arguments = about(ContextKind::InvalidArg);
    let first = arguments.first().map(String::as_str).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if first.starts_with('-') => {
            format!("unknown flag `{}'", first.trim_start_matches('-'))
        }
        ErrorKind::UnknownArgument => format!("unexpected argument \"{first}\""),
        ErrorKind::MissingRequiredArgument => {
            if let Some(name) = arguments.iter().find(|name| name.starts_with('-')) {
                return format!("the required flag `{}' was not specified", flag(name));
            }
            let names: Vec<String> = arguments
                .iter()
                .map(|name| format!("`{}`", name.trim_end_matches("...").trim_matches(['<', '>'])))
                .collect();
            match names.as_slice() {
                [one] => format!("the required argument {one} was not provided"),
                [one, two] => format!("the required arguments {one} and {two} were not provided"),
                [rest @ .., last] => format!(
                    "the required arguments {}, and {last} were not provided",
                    rest.join(", ")
                ),
                [] => "a required argument was not provided".to_owned(),
            }
        }
        ErrorKind::InvalidValue
            if about(ContextKind::InvalidValue).first().is_none_or(String::is_empty) =>
        {
            format!("expected argument for flag `{}'", flag(first))
        }
        ErrorKind::InvalidValue => {
            let value = about(ContextKind::InvalidValue).join(" ");
            let allowed = about(ContextKind::ValidValue);
            let allowed = match allowed.as_slice() {
                [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                all => all.join(", "),
            };
            let option = flag(first);
            format!("Invalid value `{value}' for option `{option}'. Allowed values are: {allowed}")
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            match why.filter(|why| {
                why.starts_with(|c: char| c.is_uppercase()) || why.starts_with("invalid integer")
            }) {
                // Said in the right words by the flag's own reader.
                Some(sentence) => sentence,
                None => {
                    format!("invalid argument for flag `{}' (expected int > 0)", flag(first))
                }
            }
        }
        _ => error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned(),
    }
}

/// `--instances <N>` without its placeholder.
fn flag(text: &str) -> &str {
    text.split(" <").next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn request(line: &str) -> Request {
        read(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn global_flags_stand_anywhere() {
        assert_eq!(request("").name, "help");
        assert_eq!(request("-v").name, "version");
        assert_eq!(request("--version").name, "version");
        assert!(request("apps -v").verbose);
        assert_eq!(
            request("push --help"),
            Request { name: "help".to_owned(), args: vec!["push".into()], verbose: false }
        );
        assert_eq!(request("run-task app -- --help").name, "run-task");
        assert_eq!(request("--bogus").name, "--bogus");
    }

    #[track_caller]
    fn check(line: &str, want: Expect) {
        let request = request(line);
        let error =
            parser(find(&request.name).unwrap()).try_get_matches_from(request.args).unwrap_err();
        want.assert_eq(&usage_message(&error));
    }

    #[test]
    fn complaints_sound_familiar() {
        check("app", expect!["the required argument `APP_NAME` was not provided"]);
        check(
            "set-env a",
            expect!["the required arguments `ENV_VAR_NAME` and `ENV_VAR_VALUE` were not provided"],
        );
        check("app a b", expect![[r#"unexpected argument "b""#]]);
        check("push --bogus", expect!["unknown flag `bogus'"]);
        check("rollback a", expect!["the required flag `--version' was not specified"]);
        check(
            "set-health-check a x",
            expect![[r#"HEALTH_CHECK_TYPE must be "port", "process", or "http""#]],
        );
        check(
            "scale a -i x",
            expect!["invalid argument for flag `--instances' (expected int > 0)"],
        );
        check(
            "push a -i -1",
            expect!["invalid argument for flag `--instances' (expected int > 0)"],
        );
        check("push a -f", expect!["expected argument for flag `--manifest'"]);
        check(
            "scale a -m 3",
            expect![
                "Byte quantity must be an integer with a unit of measurement like M, MB, G, or GB"
            ],
        );
    }

    #[test]
    fn names_and_aliases_are_unique() {
        let mut names: Vec<&str> = COMMANDS
            .iter()
            .flat_map(|entry| [entry.spec.name, entry.spec.alias])
            .filter(|name| !name.is_empty())
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_parser_is_sound() {
        for entry in COMMANDS {
            parser(entry).debug_assert();
        }
    }
}
