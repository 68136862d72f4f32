//! From nothing to the first answer of a pushed app.

use std::time::Instant;

use super::platform::Platform;
use super::{Figures, Report, median, rounded};

const HELLO: [(&str, &str); 3] = [
    ("server.py", include_str!("../../../../examples/hello/server.py")),
    ("requirements.txt", include_str!("../../../../examples/hello/requirements.txt")),
    ("manifest.yml", include_str!("../../../../examples/hello/manifest.yml")),
];

/// What one round took, in seconds; the parts add up to the whole.
struct Phases {
    start: f64,
    login: f64,
    push: f64,
    answer: f64,
}

impl Phases {
    fn whole(&self) -> f64 {
        self.start + self.login + self.push + self.answer
    }
}

pub async fn run(rounds: u32, report: &Report) -> anyhow::Result<Figures> {
    let mut all = Vec::new();
    for round in 1..=rounds {
        let phases = once().await?;
        report.line(&format!(
            "round {round}: start {:.3} s, log in and make a space {:.3} s, push {:.3} s, answer {:.3} s = {:.3} s",
            phases.start,
            phases.login,
            phases.push,
            phases.answer,
            phases.whole()
        ));
        all.push(phases);
    }
    let of = |part: fn(&Phases) -> f64| rounded(median(all.iter().map(part).collect()));
    Ok(Figures::from_iter([
        ("first_app_s".to_owned(), of(Phases::whole)),
        ("first_app_start_s".to_owned(), of(|phases| phases.start)),
        ("first_app_login_s".to_owned(), of(|phases| phases.login)),
        ("first_app_push_s".to_owned(), of(|phases| phases.push)),
        ("first_app_answer_s".to_owned(), of(|phases| phases.answer)),
        ("rounds".to_owned(), rounds.into()),
    ]))
}

async fn once() -> anyhow::Result<Phases> {
    let begun = Instant::now();
    let platform = Platform::start().await?;
    let start = begun.elapsed().as_secs_f64();
    platform.log_in().await?;
    let login = begun.elapsed().as_secs_f64() - start;
    let folder = platform.app("hello", &HELLO)?;
    platform
        .cf(&[
            "push",
            "-f",
            &folder.join("manifest.yml").display().to_string(),
            "-p",
            &folder.display().to_string(),
        ])
        .await?;
    let push = begun.elapsed().as_secs_f64() - start - login;
    platform.wait_for("hello", "Hello from Cupola").await?;
    let answer = begun.elapsed().as_secs_f64() - start - login - push;
    platform.stop().await?;
    Ok(Phases { start, login, push, answer })
}
