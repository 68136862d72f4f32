//! The Cloud Controller as one thing: opened once, cloned freely, asked by every handler.

use std::ops::Deref;
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use base::{CancellationToken, Clock, Poke, TaskTracker, Timestamp};
use diego::Bbs;
use envelope::Sink;
use sql::Db;
use tokio::sync::RwLock;

use crate::actions;
use crate::auth::Identity;
use crate::blobstore::Blobstore;
use crate::bridge;
use crate::bridge::metrics::ContainerMetrics;
use crate::bridge::mirror::Mirror;
use crate::changes::Changes;
use crate::config::Config;
use crate::db::migrations;
use crate::seal::Seal;

/// What the Cloud Controller stands on.
pub struct Deps {
    pub db: Db,
    pub identity: Arc<dyn Identity>,
    pub bbs: Arc<dyn Bbs>,
    pub blobs: Arc<dyn Blobstore>,
    pub sink: Arc<dyn Sink>,
    pub metrics: Arc<dyn ContainerMetrics>,
    pub clock: Clock,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct CloudController(Arc<Inner>);

pub struct Inner {
    pub config: Config,
    pub db: Db,
    pub identity: Arc<dyn Identity>,
    pub bbs: Arc<dyn Bbs>,
    pub blobs: Arc<dyn Blobstore>,
    pub sink: Arc<dyn Sink>,
    pub metrics: Arc<dyn ContainerMetrics>,
    pub clock: Clock,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    /// When this life of it began; what is older and unfinished was begun in another one.
    pub(crate) began: Timestamp,
    pub(crate) seal: Seal,
    pub(crate) changes: Changes,
    /// Wakes the bridge after a change to what should run.
    pub(crate) nsync: Poke,
    /// Wakes what keeps builds and their tasks in step.
    pub(crate) stager: Poke,
    /// Wakes what keeps users' tasks in step.
    pub(crate) tasks_sync: Poke,
    pub(crate) mirror: Mirror,
    /// Wakes what carries deployments out.
    pub(crate) rollouts: Poke,
    /// Held for reading from the storing of a blob until a row names it; for writing while blobs are thrown away.
    pub(crate) blob_gate: RwLock<()>,
}

impl Deref for CloudController {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl CloudController {
    /// Brings the tables up to date, fills what must be there, and starts the bridge's loops on `deps.tasks`.
    /// They end when `deps.stop` is cancelled.
    pub async fn open(config: Config, deps: Deps) -> anyhow::Result<CloudController> {
        deps.db
            .migrate(migrations::OWNER, migrations::ALL)
            .await
            .context("migrating the Cloud Controller's tables")?;
        if let Some(folder) = &config.temp_dir {
            actions::bits::tidy_folder(folder).await?;
        }
        let seal = Seal::new(&config.encryption_key);
        let Deps { db, identity, bbs, blobs, sink, metrics, clock, stop, tasks } = deps;
        let cc = CloudController(Arc::new(Inner {
            began: clock.now(),
            config,
            db,
            identity,
            bbs,
            blobs,
            sink,
            metrics,
            clock,
            stop,
            tasks,
            seal,
            changes: Changes::default(),
            nsync: Poke::default(),
            stager: Poke::default(),
            tasks_sync: Poke::default(),
            mirror: Mirror::default(),
            rollouts: Poke::default(),
            blob_gate: RwLock::default(),
        }));
        actions::seed::run(&cc).await.context("filling the Cloud Controller's tables")?;
        bridge::start(&cc);
        Ok(cc)
    }

    /// Apps were deleted: whatever Diego still does for them ends now.
    pub(crate) fn apps_gone(&self) {
        self.nsync.poke();
        self.stager.poke();
        self.tasks_sync.poke();
    }

    /// The public APIs: `/`, `/v3/…`, `/v2/info`, and `/routing/v1/…`.
    pub fn router(&self) -> axum::Router {
        crate::v3::router(self.clone()).merge(crate::routing_api::router(self.clone()))
    }

    /// For cells alone: what they download, upload and report. Every address carries its own password.
    pub fn internal(&self) -> axum::Router {
        crate::internal::router(self.clone())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl FromRequestParts<CloudController> for CloudController {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        _: &mut Parts,
        cc: &CloudController,
    ) -> Result<CloudController, Self::Rejection> {
        Ok(cc.clone())
    }
}
