//! `cf help`: the groups, all commands, one command.

use crate::command::{Context, Entry, find, parser};
use crate::table;
use crate::ui::{Ui, say};

/// What most people need most of the time: rows of columns, as they stand in `cf help`.
const COMMON: &[(&str, &[&[&str]])] = &[
    ("Before getting started:", &[&["config", "login", "target"], &["help", "logout", ""]]),
    (
        "Application lifecycle:",
        &[
            &["apps", "run-task", "events"],
            &["push", "logs", "set-env"],
            &["start", "tasks", "create-app-manifest"],
            &["stop", "app", "delete"],
            &["restart", "env", "apply-manifest"],
            &["restage", "scale", "revisions"],
        ],
    ),
    (
        "Services integration:",
        &[
            &["marketplace", "create-user-provided-service"],
            &["services", "update-user-provided-service"],
            &["service", "bind-route-service"],
            &["bind-service", "unbind-route-service"],
            &["unbind-service", "delete-service"],
        ],
    ),
    (
        "Route and domain management:",
        &[
            &["routes", "delete-route", "create-private-domain"],
            &["domains", "map-route", ""],
            &["create-route", "unmap-route", ""],
        ],
    ),
    (
        "Space management:",
        &[
            &["spaces", "create-space", "set-space-role"],
            &["space-users", "delete-space", "unset-space-role"],
            &["apply-manifest", "", ""],
        ],
    ),
    ("Org management:", &[&["orgs", "set-org-role"], &["org-users", "unset-org-role"]]),
];

/// All commands by subject, in the order and the batches they are listed in.
const ALL: &[(&str, &[&[&str]])] = &[
    (
        "GETTING STARTED:",
        &[&["help", "version", "login", "logout", "passwd", "target"], &["api", "auth"]],
    ),
    (
        "APPS:",
        &[
            &["apps", "app", "create-app"],
            &["push", "scale", "delete", "rename"],
            &["cancel-deployment", "continue-deployment"],
            &["start", "stop", "restart", "stage-package", "restage", "restart-app-instance"],
            &["run-task", "task", "tasks", "terminate-task"],
            &["packages", "create-package"],
            &["revision", "revisions", "rollback"],
            &["droplets", "set-droplet", "download-droplet"],
            &["events", "logs"],
            &["env", "set-env", "unset-env"],
            &["stacks", "stack", "update-stack"],
            &["copy-source", "create-app-manifest"],
            &["get-health-check", "set-health-check", "get-readiness-health-check"],
            &["enable-ssh", "disable-ssh", "ssh-enabled"],
        ],
    ),
    (
        "SERVICES:",
        &[
            &["marketplace", "services", "service"],
            &["delete-service", "rename-service"],
            &["bind-service", "unbind-service"],
            &["bind-route-service", "unbind-route-service"],
            &["create-user-provided-service", "update-user-provided-service"],
        ],
    ),
    ("ORGS:", &[&["orgs", "org"], &["create-org", "delete-org", "rename-org"]]),
    (
        "SPACES:",
        &[
            &["spaces", "space"],
            &["create-space", "delete-space", "rename-space", "apply-manifest"],
            &["allow-space-ssh", "disallow-space-ssh", "space-ssh-allowed"],
        ],
    ),
    (
        "DOMAINS:",
        &[
            &["domains"],
            &["create-private-domain", "delete-private-domain"],
            &["create-shared-domain", "delete-shared-domain"],
            &["router-groups"],
        ],
    ),
    (
        "ROUTES:",
        &[
            &["routes", "route"],
            &[
                "create-route",
                "update-route",
                "check-route",
                "map-route",
                "unmap-route",
                "delete-route",
            ],
            &["delete-orphaned-routes"],
            &["update-destination"],
            &["share-route", "unshare-route"],
            &["move-route"],
        ],
    ),
    (
        "BUILDPACKS:",
        &[&["buildpacks", "create-buildpack", "update-buildpack"], &["delete-buildpack"]],
    ),
    (
        "USER ADMIN:",
        &[
            &["create-user", "delete-user"],
            &["org-users", "set-org-role", "unset-org-role"],
            &["space-users", "set-space-role", "unset-space-role"],
        ],
    ),
    (
        "ORG ADMIN:",
        &[
            &["org-quotas", "org-quota", "set-org-quota"],
            &["create-org-quota", "delete-org-quota", "update-org-quota"],
            &["share-private-domain", "unshare-private-domain"],
        ],
    ),
    (
        "SPACE ADMIN:",
        &[
            &["space-quotas", "space-quota"],
            &["create-space-quota", "update-space-quota", "delete-space-quota"],
            &["set-space-quota", "unset-space-quota"],
        ],
    ),
    (
        "SECURITY GROUP:",
        &[
            &[
                "security-group",
                "security-groups",
                "create-security-group",
                "update-security-group",
                "delete-security-group",
                "bind-security-group",
                "unbind-security-group",
            ],
            &[
                "bind-staging-security-group",
                "staging-security-groups",
                "unbind-staging-security-group",
            ],
            &[
                "bind-running-security-group",
                "running-security-groups",
                "unbind-running-security-group",
            ],
        ],
    ),
    (
        "ENVIRONMENT VARIABLE GROUPS:",
        &[&[
            "running-environment-variable-group",
            "staging-environment-variable-group",
            "set-staging-environment-variable-group",
            "set-running-environment-variable-group",
        ]],
    ),
    (
        "ISOLATION SEGMENTS:",
        &[&[
            "isolation-segments",
            "create-isolation-segment",
            "delete-isolation-segment",
            "enable-org-isolation",
            "disable-org-isolation",
            "set-org-default-isolation-segment",
            "reset-org-default-isolation-segment",
            "set-space-isolation-segment",
            "reset-space-isolation-segment",
        ]],
    ),
    (
        "FEATURE FLAGS:",
        &[&["feature-flags", "feature-flag", "enable-feature-flag", "disable-feature-flag"]],
    ),
    ("METADATA:", &[&["labels", "set-label", "unset-label"]]),
    ("ADVANCED:", &[&["curl", "config", "oauth-token"]]),
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
        for line in table::layout(&rows, table::GAP) {
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
    for (title, batches) in ALL {
        say!(cx.ui, "\n{title}");
        for (index, batch) in batches.iter().enumerate() {
            if index > 0 {
                say!(cx.ui);
            }
            for spec in batch.iter().filter_map(|name| find(name)).map(|entry| entry.spec) {
                say!(cx.ui, "   {:<38} {}", spec.name, spec.about);
            }
        }
    }
    say!(cx.ui, "\nENVIRONMENT VARIABLES:");
    for (name, about) in [
        ("CF_COLOR=false", "Do not colorize output"),
        ("CF_HOME=path/to/dir/", "Override path to default config directory"),
        ("CF_STAGING_TIMEOUT=15", "Max wait time for staging, in minutes"),
        ("CF_STARTUP_TIMEOUT=5", "Max wait time for app instance startup, in minutes"),
        ("CF_TRACE=true", "Print API request diagnostics to stderr"),
        ("CF_TRACE=path/to/trace.log", "Append API request diagnostics to a log file"),
        (
            "all_proxy=proxy.example.com:8080",
            "Specify a proxy server to enable proxying for all requests",
        ),
        ("https_proxy=proxy.example.com:8080", "Enable proxying for HTTP requests"),
    ] {
        say!(cx.ui, "   {name:<34} {about}");
    }
    say!(cx.ui, "\nGLOBAL OPTIONS:");
    say!(cx.ui, "   {:<34} Show help", "--help, -h");
    say!(cx.ui, "   {:<34} Print API request diagnostics to stderr", "-v");
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
    for (title, said) in [
        ("ROLES", spec.roles),
        ("TIP", spec.tip),
        ("EXAMPLES", spec.examples),
        ("RESOURCES", spec.resources),
    ] {
        if !said.is_empty() {
            text += &format!("\n{title}:\n{}", indent(&said.replace("{cf}", cf)));
        }
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

/// Flags with what they do, in the order in which the command names them.
fn options(entry: &Entry) -> Vec<(String, String)> {
    let flags = parser(entry);
    let flags = flags.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set());
    flags
        .map(|arg| {
            let mut about = arg.get_help().map(ToString::to_string).unwrap_or_default();
            if let Some(default) = arg.get_default_values().first() {
                about += &format!(" (Default: {})", default.to_string_lossy());
            }
            match (arg.get_long(), arg.get_short()) {
                (Some(long), Some(short)) => (format!("--{long}, -{short}"), about),
                (Some(long), None) => (format!("--{long}"), about),
                (None, short) => {
                    (format!("-{}", short.map(String::from).unwrap_or_default()), about)
                }
            }
        })
        .filter(|(flag, _)| flag != "-")
        .collect()
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
    use expect_test::{expect, expect_file};

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
    fn the_reference_is_what_the_help_says() {
        let mut page = "# cf: the commands\n\nWhat `cf help COMMAND` says of each command, in the order of `cf help -a`.\nThis page is written by a test of the `cli` crate: `UPDATE_EXPECT=1 cargo test -p cli`.\n".to_owned();
        for (title, batches) in ALL {
            page += &format!("\n## {}\n", title.trim_end_matches(':').to_lowercase());
            for name in batches.iter().copied().flatten() {
                let entry = find(name).expect("the help lists commands only");
                page += &format!("\n```text\n{}\n```\n", describe(entry, "cf").trim_end());
            }
        }
        expect_file!["../../../docs/cf.md"].assert_eq(&page);
    }

    /// Names in a page of help.
    fn listed(page: &[(&str, &'static [&'static [&'static str]])]) -> Vec<&'static str> {
        let names = page.iter().flat_map(|(_, rows)| rows.iter().copied().flatten().copied());
        names.filter(|name| !name.is_empty()).collect()
    }

    #[test]
    fn help_and_registry_hold_the_same_commands() {
        let known: Vec<&str> = COMMANDS.iter().map(|entry| entry.spec.name).collect();
        for name in listed(ALL).into_iter().chain(listed(COMMON)) {
            assert!(known.contains(&name), "{name} is in the help, but no command");
        }
        for name in &known {
            let count = listed(ALL).iter().filter(|listed| *listed == name).count();
            assert_eq!(count, 1, "{name} is in {count} groups of the help");
        }
    }

    #[test]
    fn every_command_says_enough() {
        for entry in COMMANDS {
            let spec = entry.spec;
            let is_called = spec.usage.contains(&format!("{{cf}} {}", spec.name));
            assert!(is_called && !spec.about.is_empty(), "{} says too little", spec.name);
            for option in options(entry) {
                assert!(!option.1.is_empty(), "{} {} is not described", spec.name, option.0);
            }
            for name in spec.see_also {
                assert!(find(name).is_some(), "{} points to {name}, no command", spec.name);
            }
        }
    }
}
