//! A small app pushed again after one file changed.

use std::time::Instant;

use super::platform::Platform;
use super::{Figures, Report, median, rounded};

const SERVER: &str = include_str!("../../../../examples/hello/server.py");

pub async fn run(rounds: u32, report: &Report) -> anyhow::Result<Figures> {
    let platform = Platform::start().await?;
    let result = measure(&platform, rounds, report).await;
    platform.stop().await?;
    result
}

async fn measure(platform: &Platform, rounds: u32, report: &Report) -> anyhow::Result<Figures> {
    platform.log_in().await?;
    let (mut commands, mut answers) = (Vec::new(), Vec::new());
    // The first push fills the caches and does not count.
    for round in 0..=rounds {
        let version = format!("version {round}");
        let files = [
            ("server.py", SERVER.replace("Hello from Cupola", &version)),
            ("requirements.txt", String::new()),
        ];
        let folder =
            platform.app("app", &files.each_ref().map(|(name, text)| (*name, text.as_str())))?;
        let folder = folder.display().to_string();
        let begun = Instant::now();
        let push = async {
            platform
                .cf(&["push", "app", "-p", &folder, "-c", "python3 server.py", "-m", "64M"])
                .await?;
            anyhow::Ok(begun.elapsed().as_secs_f64())
        };
        let answer = async {
            platform.wait_for("app", &version).await?;
            anyhow::Ok(begun.elapsed().as_secs_f64())
        };
        let (push, answer) = tokio::try_join!(push, answer)?;
        if round > 0 {
            report.line(&format!("round {round}: new version answers after {answer:.3} s, command ends after {push:.3} s"));
            commands.push(push);
            answers.push(answer);
        }
    }
    Ok(Figures::from_iter([
        ("push_s".to_owned(), rounded(median(answers))),
        ("push_command_s".to_owned(), rounded(median(commands))),
        ("rounds".to_owned(), rounds.into()),
    ]))
}
