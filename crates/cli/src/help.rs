//! `cf help`: the groups, all commands, one command.

use crate::command::{Context, Entry, find, parser};
use crate::table;
use crate::ui::{Ui, say};

/// What most people need most of the time: rows of columns, as they stand in `cf help`.
const COMMON: &[(&str, &[&[&str]])] = &[
    ("Before getting started:", &[&["login", "logout", "target"], &["api", "auth", "help"]]),
    (
        "Application lifecycle:",
        &[
            &["apps", "run-task", "events"],
            &["push", "logs", "set-env"],
            &["start", "tasks", "create-app-manifest"],
            &["stop", "app", "delete"],
            &["restart", "env", "apply-manifest"],
            &["restage", "scale", "rename"],
        ],
    ),
    (
        "Services integration:",
        &[
            &["marketplace", "create-user-provided-service"],
            &["services", "bind-service"],
            &["create-service", "unbind-service"],
            &["service", "delete-service"],
        ],
    ),
    (
        "Route and domain management:",
        &[
            &["routes", "delete-route", "create-private-domain"],
            &["domains", "map-route", "create-shared-domain"],
            &["create-route", "unmap-route", ""],
        ],
    ),
    (
        "Space management:",
        &[
            &["spaces", "create-space", "set-space-role"],
            &["space-users", "delete-space", "unset-space-role"],
        ],
    ),
    (
        "Org management:",
        &[
            &["orgs", "set-org-role"],
            &["org-users", "unset-org-role"],
            &["create-org", "delete-org"],
        ],
    ),
];

/// All commands by subject, in the order they are listed.
const ALL: &[(&str, &[&str])] = &[
    (
        "GETTING STARTED:",
        &["help", "version", "login", "logout", "passwd", "target", "api", "auth"],
    ),
    (
        "APPS:",
        &[
            "apps",
            "app",
            "create-app",
            "push",
            "scale",
            "delete",
            "rename",
            "cancel-deployment",
            "continue-deployment",
            "start",
            "stop",
            "restart",
            "restage",
            "restart-app-instance",
            "run-task",
            "task",
            "tasks",
            "terminate-task",
            "packages",
            "droplets",
            "events",
            "logs",
            "env",
            "set-env",
            "unset-env",
            "stacks",
            "stack",
            "create-app-manifest",
            "enable-ssh",
            "disable-ssh",
            "ssh-enabled",
        ],
    ),
    (
        "SERVICES:",
        &[
            "marketplace",
            "services",
            "service",
            "create-service",
            "delete-service",
            "bind-service",
            "unbind-service",
            "create-user-provided-service",
        ],
    ),
    ("ORGS:", &["orgs", "org", "create-org", "delete-org", "rename-org"]),
    (
        "SPACES:",
        &["spaces", "space", "create-space", "delete-space", "rename-space", "apply-manifest"],
    ),
    (
        "DOMAINS:",
        &[
            "domains",
            "create-private-domain",
            "delete-private-domain",
            "create-shared-domain",
            "delete-shared-domain",
        ],
    ),
    (
        "ROUTES:",
        &[
            "routes",
            "create-route",
            "map-route",
            "unmap-route",
            "delete-route",
            "delete-orphaned-routes",
        ],
    ),
    ("BUILDPACKS:", &["buildpacks"]),
    (
        "USER ADMIN:",
        &[
            "create-user",
            "delete-user",
            "org-users",
            "set-org-role",
            "unset-org-role",
            "space-users",
            "set-space-role",
            "unset-space-role",
        ],
    ),
    (
        "FEATURE FLAGS:",
        &["feature-flags", "feature-flag", "enable-feature-flag", "disable-feature-flag"],
    ),
    ("ADVANCED:", &["curl", "config", "oauth-token"]),
];

/// The first page.
pub fn common(cx: &mut Context) {
    let cf = cx.cf();
    say!(cx.ui, "{cf} version {}, Cloud Foundry command line tool", version());
    say!(cx.ui, "Usage: {cf} [global options] command [arguments...] [command options]");
    for (title, rows) in COMMON {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|name| with_alias(name)).collect()).collect();
        let rows: Vec<Vec<String>> =
            rows.into_iter().filter(|row| row.iter().any(|cell| !cell.is_empty())).collect();
        if rows.is_empty() {
            continue;
        }
        say!(cx.ui, "\n{title}");
        for line in table::layout(&rows) {
            say!(cx.ui, "  {}", line.concat().trim_end());
        }
    }
    global_options(&mut cx.ui);
    say!(cx.ui, "\nTIP: Use '{cf} help -a' to see all commands.");
}

/// Every command with what it does.
pub fn all(cx: &mut Context) {
    let cf = cx.cf();
    say!(cx.ui, "NAME:\n   {cf} - A command line tool to interact with Cloud Foundry\n");
    say!(cx.ui, "USAGE:\n   {cf} [global options] command [arguments...] [command options]\n");
    say!(cx.ui, "VERSION:\n   {}", version());
    for (title, names) in ALL {
        let rows: Vec<Vec<String>> = names
            .iter()
            .filter_map(|name| find(name))
            .map(|entry| vec![entry.spec.name.to_owned(), entry.spec.about.to_owned()])
            .collect();
        if rows.is_empty() {
            continue;
        }
        say!(cx.ui, "\n{title}");
        for row in rows {
            say!(cx.ui, "   {:<42} {}", row[0], row[1]);
        }
    }
    say!(cx.ui, "\nENVIRONMENT VARIABLES:");
    for (name, about) in [
        ("CF_COLOR=false", "Do not colorize output"),
        ("CF_HOME=path/to/dir/", "Where the configuration is kept, in .cf/"),
        ("CF_STAGING_TIMEOUT=15", "Max wait time for staging, in minutes"),
        ("CF_STARTUP_TIMEOUT=5", "Max wait time for app instance startup, in minutes"),
        ("CF_TRACE=true", "Print API request diagnostics to stderr"),
        ("https_proxy=proxy.example.com:8080", "Enable HTTP proxying for API requests"),
    ] {
        say!(cx.ui, "   {name:<42} {about}");
    }
    global_options(&mut cx.ui);
}

fn global_options(ui: &mut Ui) {
    say!(ui, "\nGlobal options:");
    say!(ui, "  {:<34} Show help", "--help, -h");
    say!(ui, "  {:<34} Print API request diagnostics to stderr", "-v");
}

/// One command: name, usage, alias, options, environment, related commands.
pub fn of(cx: &mut Context, entry: &Entry) {
    let text = describe(entry, &cx.cf());
    say!(cx.ui, "{}", text.trim_end());
}

fn describe(entry: &Entry, cf: &str) -> String {
    let spec = entry.spec;
    let usage = indent(&spec.usage.replace("{cf}", cf));
    let mut text = format!("NAME:\n   {} - {}\n\nUSAGE:\n{usage}", spec.name, spec.about);
    if !spec.examples.is_empty() {
        text += &format!("\nEXAMPLES:\n{}", indent(&spec.examples.replace("{cf}", cf)));
    }
    if !spec.alias.is_empty() {
        text += &format!("\nALIAS:\n   {}\n", spec.alias);
    }
    let options = options(entry);
    let width = options.iter().map(|(flag, _)| flag.len()).max().unwrap_or(0) + 6;
    if !options.is_empty() {
        text += "\nOPTIONS:\n";
    }
    for (flag, about) in options {
        text += &format!("   {flag:<width$}{about}\n");
    }
    if !spec.environment.is_empty() {
        text += "\nENVIRONMENT:\n";
    }
    for (name, about) in spec.environment {
        text += &format!("   {name:<29}{about}\n");
    }
    if !spec.see_also.is_empty() {
        text += &format!("\nSEE ALSO:\n   {}\n", spec.see_also.join(", "));
    }
    text
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("   {line}\n") })
        .collect()
}

/// Flags with what they do, sorted as `cf` sorts them: by long name, else by the letter.
fn options(entry: &Entry) -> Vec<(String, String)> {
    let parser = parser(entry);
    let mut options: Vec<(String, String, String)> = parser
        .get_arguments()
        .filter(|arg| !arg.is_positional() && !arg.is_hide_set())
        .map(|arg| {
            let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
            match (arg.get_long(), arg.get_short()) {
                (Some(long), Some(short)) => {
                    (long.to_owned(), format!("--{long}, -{short}"), about)
                }
                (Some(long), None) => (long.to_owned(), format!("--{long}"), about),
                (None, short) => {
                    let short = short.map(String::from).unwrap_or_default();
                    (short.clone(), format!("-{short}"), about)
                }
            }
        })
        .collect();
    options.sort();
    options.into_iter().map(|(_, flag, about)| (flag, about)).collect()
}

fn with_alias(name: &str) -> String {
    match find(name).map(|entry| entry.spec) {
        None => String::new(),
        Some(spec) if spec.alias.is_empty() => spec.name.to_owned(),
        Some(spec) => format!("{},{}", spec.name, spec.alias),
    }
}

/// The version of the command line it behaves like, and its own.
pub fn version() -> String {
    format!("8.18.4+cupola.{}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::commands::COMMANDS;

    #[test]
    fn a_command_describes_itself() {
        expect![[r#"
            NAME:
               delete - Delete an app

            USAGE:
               cf delete APP_NAME [-r] [-f]

            ALIAS:
               d

            OPTIONS:
               -f      Do not ask first
               -r      Also delete any mapped routes

            SEE ALSO:
               apps, scale, stop
        "#]]
        .assert_eq(&describe(find("delete").unwrap(), "cf"));
    }

    #[test]
    fn every_command_is_listed_and_complete() {
        for entry in COMMANDS {
            let spec = entry.spec;
            assert!(
                ALL.iter().any(|(_, names)| names.contains(&spec.name)),
                "{} is in no group",
                spec.name
            );
            assert!(
                !spec.about.is_empty() && spec.usage.contains("{cf} "),
                "{} says too little",
                spec.name
            );
            for option in options(entry) {
                assert!(!option.1.is_empty(), "{} {} is not described", spec.name, option.0);
            }
        }
    }
}
