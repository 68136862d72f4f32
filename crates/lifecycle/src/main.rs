//! One static program that is builder, launcher, health check and static file server, by the name it is called by.

use std::path::Path;
use std::process::ExitCode;

use lifecycle::{PROGRAMS, builder, healthcheck, launcher, staticfile};

fn main() -> ExitCode {
    let mut arguments: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let called =
        arguments.first().and_then(|name| Path::new(name).file_name()?.to_str().map(str::to_owned));
    let program = match called {
        Some(name) if PROGRAMS.contains(&name.as_str()) => name,
        _ if arguments.len() > 1 => {
            arguments.remove(0);
            arguments[0].clone()
        }
        _ => String::new(),
    };
    let arguments = arguments.get(1..).unwrap_or_default();
    match program.as_str() {
        "builder" => builder::main(arguments),
        "launcher" => launcher::main(arguments),
        "healthcheck" => healthcheck::main(arguments),
        "staticfile" => staticfile::main(arguments),
        _ => {
            eprintln!("usage: lifecycle {} …", PROGRAMS.join("|"));
            ExitCode::FAILURE
        }
    }
}
