//! Keeps the table of settings in `docs/operating.md` true: `UPDATE_EXPECT=1` rewrites it, a difference fails.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Args as _, Command};

use super::{Given, UpArgs, file};

const BEGIN: &str = "<!-- settings: written by a test from the code: UPDATE_EXPECT=1 cargo test -p platform settings -->\n";
const END: &str = "<!-- settings end -->\n";

fn row(argument: &Arg) -> String {
    let flag = argument.get_long().expect("settings are long flags");
    let names: Vec<_> = argument.get_value_names().into_iter().flatten().collect();
    let value = names.first().map_or("", |name| name.as_str());
    let variable = argument.get_env().map(|name| name.to_string_lossy()).unwrap_or_default();
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let (help, default) =
        help.trim_end_matches(']').split_once(" [default: ").unwrap_or((&help, ""));
    let key = argument.get_id().as_str();
    let key = if file::keys().iter().any(|known| known == key) {
        format!("`{key}`")
    } else {
        String::new()
    };
    format!("| `--{flag} {value}` | `{variable}` | {key} | {help} | {default} |\n")
}

fn table() -> String {
    let command = UpArgs::augment_args(Command::new("up"));
    let mut text = "\n| flag | environment variable | in the file | what it says | default |\n|---|---|---|---|---|\n".to_owned();
    for argument in command.get_arguments() {
        let _ = write!(text, "{}", row(argument));
    }
    text + "\n"
}

#[test]
fn the_table_in_the_docs_is_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the table's begin");
    let (now, after) = rest.split_once(END).expect("the page has the table's end");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
    } else {
        assert_eq!(now, table(), "run UPDATE_EXPECT=1 cargo test -p platform settings");
    }
}

#[test]
fn every_setting_can_be_said_in_three_ways() {
    let command = Given::augment_args(Command::new("up"));
    for argument in command.get_arguments() {
        assert!(argument.get_env().is_some(), "{} has no variable", argument.get_id());
        assert!(argument.get_help().is_some(), "{} is not explained", argument.get_id());
    }
}
