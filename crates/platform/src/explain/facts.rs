//! What was found out about one app. Everything the verdict rests on is in here.

use base::Timestamp;
use diego::actual_lrp::State;
use serde::Serialize;

use crate::operator::Line;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    pub now: Timestamp,
    /// As it was asked for.
    pub name: String,
    /// When there is no such app: those with a name like it, or the places of those with exactly this name.
    pub candidates: Vec<String>,
    pub app: Option<App>,
    /// The newest.
    pub package: Option<Package>,
    /// The newest.
    pub build: Option<Build>,
    /// When the droplet in use was made.
    pub droplet: Option<Timestamp>,
    pub processes: Vec<Process>,
    pub routes: Vec<Route>,
    /// The route with the app's own name, where it leads to somebody else.
    pub taken_route: Option<TakenRoute>,
    /// What stands in the way of starting it, if it is stopped.
    pub quotas: Vec<Quota>,
    pub deployment: Option<Deployment>,
    /// How many cells there are.
    pub cells: usize,
    /// The newest lines of what the app and its cell said, oldest first.
    pub log: Vec<Line>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct App {
    pub guid: String,
    pub org: String,
    pub space: String,
    pub started: bool,
    pub org_suspended: bool,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Package {
    /// As Cloud Controller says it: `AWAITING_UPLOAD`, `READY`, …
    pub state: String,
    pub at: Timestamp,
    pub error: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Build {
    /// `STAGING`, `STAGED` or `FAILED`.
    pub state: String,
    pub at: Timestamp,
    pub error: Option<String>,
    /// Why its task waits, while it does.
    pub waits_for: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Process {
    /// `web`, `worker`, …
    pub kind: String,
    pub lrp_guid: String,
    pub command: Option<String>,
    pub instances: u32,
    pub memory_mb: u64,
    pub health: Health,
    /// What the BBS was told: so many instances. `None` while it was told nothing.
    pub desired: Option<u32>,
    pub actual: Vec<Instance>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Health {
    /// `port`, `http` or `process`.
    pub kind: String,
    pub endpoint: Option<String>,
    pub timeout_s: Option<u64>,
    /// Of the readiness check.
    pub readiness: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Instance {
    pub index: u32,
    #[serde(flatten)]
    pub state: State,
    pub since: Timestamp,
    pub crash_count: u32,
    pub crash_reason: String,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Route {
    /// `host.domain/path`.
    pub url: String,
    /// Which process it leads to, and to which of its ports.
    pub process: String,
    pub port: u16,
    /// Instances of this app behind it, in the router's table.
    pub endpoints: usize,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct TakenRoute {
    pub url: String,
    /// The apps it leads to; none when it is only reserved.
    pub by: Vec<String>,
    pub space: String,
}

impl TakenRoute {
    /// Nobody's, and in the app's own space: there to be mapped.
    pub fn is_at_home(&self, facts: &Facts) -> bool {
        let home = facts.app.as_ref().map(|app| format!("{}/{}", app.org, app.space));
        self.by.is_empty() && home.as_ref() == Some(&self.space)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quota {
    /// `org acme` or `space dev`.
    pub of: String,
    pub name: String,
    /// `MB of memory` or `instances`.
    pub what: &'static str,
    pub limit: u64,
    pub used: u64,
    pub needed: u64,
}

impl Quota {
    pub fn is_short(&self) -> bool {
        self.used + self.needed > self.limit
    }
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Deployment {
    pub strategy: String,
    /// `DEPLOYING`, `PAUSED`, `CANCELING`.
    pub status: String,
    pub since: Timestamp,
}
