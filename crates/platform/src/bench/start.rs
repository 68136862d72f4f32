//! From a wish accepted by the API to the first answer through the router: one instance at a time, and many at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::StatusCode;
use serde_json::json;

use super::api::Api;
use super::platform::{PATIENCE, Platform, at_work};
use super::trivial::{self, APP};
use super::{Figures, Report, percentile, rounded};

/// How many start at once in the second part.
const AT_ONCE: u32 = 200;

/// `rounds` are the starts of the first part.
pub async fn run(rounds: u32, report: &Report) -> anyhow::Result<Figures> {
    let platform = Platform::start().await?;
    let result = measure(&platform, rounds, report).await;
    platform.stop().await?;
    result
}

async fn measure(platform: &Platform, rounds: u32, report: &Report) -> anyhow::Result<Figures> {
    let app = trivial::push(platform).await?;
    let api = platform.api().await?;
    let mut starts = Vec::new();
    for _ in 0..rounds {
        scale(&api, &app, 0).await?;
        gone(platform).await?;
        let begun = Instant::now();
        scale(&api, &app, 1).await?;
        answers(platform, &app, 0).await?;
        starts.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    let (p50, p99) = (percentile(&starts, 50), percentile(&starts, 99));
    report.line(&format!("{rounds} starts, one after the other: p50 {p50:.1} ms, p99 {p99:.1} ms"));

    scale(&api, &app, 0).await?;
    gone(platform).await?;
    let begun = Instant::now();
    scale(&api, &app, AT_ONCE).await?;
    for index in 0..AT_ONCE {
        answers(platform, &app, index).await?;
    }
    let all = begun.elapsed().as_secs_f64();
    report.line(&format!("{AT_ONCE} instances at once: the last one answers after {all:.2} s"));
    Ok(Figures::from_iter([
        ("start_p50_ms".to_owned(), rounded(p50)),
        ("start_p99_ms".to_owned(), rounded(p99)),
        ("start_200_s".to_owned(), rounded(all)),
        ("rounds".to_owned(), rounds.into()),
    ]))
}

async fn scale(api: &Api, app: &str, instances: u32) -> anyhow::Result<()> {
    let path = format!("/v3/apps/{app}/processes/web/actions/scale");
    api.post(&path, &json!({ "instances": instances })).await.map(drop)
}

/// The router leads to this very instance.
async fn answers(platform: &Platform, app: &str, index: u32) -> anyhow::Result<()> {
    let instance = format!("{app}:{index}");
    let request = platform.request(APP).header("x-cf-app-instance", instance);
    let begun = Instant::now();
    loop {
        let answer = request.try_clone().context("it has no body")?.send().await?;
        if answer.status() == StatusCode::OK {
            return answer.bytes().await.map(drop).map_err(Into::into);
        }
        ensure!(begun.elapsed() < PATIENCE, "instance {index} answers {}", answer.status());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The router leads nowhere, and the containers are on their way out.
async fn gone(platform: &Platform) -> anyhow::Result<()> {
    let begun = Instant::now();
    while platform.get(APP).await?.0 == StatusCode::OK {
        ensure!(begun.elapsed() < PATIENCE, "the app does not stop");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // What still stops is no part of the next start, nor of its cost.
    while at_work(&platform.data()) > 0 {
        ensure!(begun.elapsed() < PATIENCE, "containers do not go away");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
