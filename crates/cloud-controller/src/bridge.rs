//! The way to Diego and back: what should run (nsync), what does run (TPS), how it is made (stager).

pub mod deployer;
pub mod environment;
pub mod explain;
pub mod metrics;
pub mod mirror;
pub mod recipe;
pub mod rollout;
pub mod service_files;
pub mod staging;
pub mod tasks;

mod nsync;
mod tps;

use std::time::Duration;

use base::{Poke, Reconcile};
use tracing::warn;

use crate::{Cc, actions};

/// Apps' LRPs, and staging tasks, at Diego.
pub const APPS_DOMAIN: &str = "cf-apps";
pub const TASKS_DOMAIN: &str = "cf-tasks";
pub const STAGING_DOMAIN: &str = "cf-app-staging";

const EVERY: Duration = Duration::from_secs(30);
const TIDY: Duration = Duration::from_secs(3600);

/// Starts the loops. They end when the Cloud Controller stops.
pub fn start(cc: &Cc) {
    let lane = |name, every, poke| Reconcile { name, every, poke, stop: cc.stop.clone() };
    let own = cc.clone();
    cc.tasks.spawn(
        lane("nsync", EVERY, cc.nsync.clone()).drive(async move || nsync::changes(&own).await),
    );
    let own = cc.clone();
    cc.tasks.spawn(
        lane("nsync of everything", EVERY, Poke::default())
            .drive(async move || nsync::everything(&own).await),
    );
    let own = cc.clone();
    cc.tasks.spawn(
        lane("builds", EVERY, cc.stager.clone()).drive(async move || staging::sweep(&own).await),
    );
    let own = cc.clone();
    cc.tasks.spawn(
        lane("tasks", EVERY, cc.tasks_sync.clone()).drive(async move || tasks::sweep(&own).await),
    );
    let own = cc.clone();
    cc.tasks.spawn(async move {
        if let Err(error) = actions::tidy::note_strays(&own).await {
            warn!(error = %format!("{error:#}"), "blobs that nobody needs may be kept");
        }
        let stop = own.stop.clone();
        let tidy = Reconcile { name: "tidy", every: TIDY, poke: Poke::default(), stop };
        tidy.drive(async move || actions::tidy::run(&own).await).await;
    });
    cc.tasks.spawn(tps::follow(cc.clone()));
    cc.tasks.spawn(deployer::follow(cc.clone()));
}
