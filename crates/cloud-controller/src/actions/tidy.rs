//! Throws away what nobody will ask for again: old events, what ended long ago, and blobs that no row names or that
//! were of no use for long.

use std::time::Duration;

use crate::config::Kept;
use crate::db::prune::{self, Rule};
use crate::db::{self, blobs, resources};
use crate::{Cc, blobstore};

const KEPT_JOBS: Duration = Duration::from_secs(24 * 3600);
/// A file that was matched is fetched soon after; until then it must not go.
const YOUNG: Duration = Duration::from_secs(3600);

/// Once at the start: an upload that a crash cut off may have left a blob that no row came to name.
pub async fn note_strays(cc: &Cc) -> anyhow::Result<()> {
    for kind in blobs::KINDS {
        let _gate = cc.blob_gate.write().await;
        let there = cc.blobs.list(kind).await?;
        let mut tx = cc.db.begin().await?;
        blobs::note_strays(&mut tx, cc.now(), kind, there).await?;
        tx.commit().await?;
    }
    Ok(())
}

pub async fn run(cc: &Cc) -> anyhow::Result<()> {
    for (rule, age) in ages(&cc.config.kept) {
        loop {
            let mut tx = cc.db.begin().await?;
            let more = prune::old(&mut tx, rule, cc.now() - age).await?;
            tx.commit().await?;
            if !more {
                break;
            }
        }
    }
    loop {
        let mut tx = cc.db.begin().await?;
        let more = prune::surplus(&mut tx).await?;
        tx.commit().await?;
        if !more {
            break;
        }
    }
    unused_resources(cc).await?;
    unneeded_blobs(cc).await
}

/// How old each table's rows become.
fn ages(kept: &Kept) -> [(Rule, Duration); 5] {
    [
        (prune::JOBS, KEPT_JOBS),
        (prune::AUDIT_EVENTS, kept.audit_events),
        (prune::APP_USAGE_EVENTS, kept.app_usage_events),
        (prune::SERVICE_USAGE_EVENTS, kept.service_usage_events),
        (prune::TASKS, kept.completed_tasks),
    ]
}

/// Forgets first and deletes after, so that nobody is told of a file that is gone; a crash in between leaves a file
/// that the next push of it finds in place.
async fn unused_resources(cc: &Cc) -> anyhow::Result<()> {
    loop {
        let _gate = cc.blob_gate.write().await;
        let mut tx = cc.db.begin().await?;
        let (most, young) = (cc.config.kept.resource_bytes, cc.now() - YOUNG);
        let gone = resources::surplus(&mut tx, most, young).await?;
        if gone.is_empty() {
            return Ok(());
        }
        for sha1 in &gone {
            db::delete(&mut tx, "resources", "sha1", sha1).await?;
        }
        tx.commit().await?;
        for sha1 in &gone {
            cc.blobs.delete(&blobstore::key("resources", sha1)).await?;
        }
    }
}

/// Deletes first and forgets after: a crash in between costs another look.
async fn unneeded_blobs(cc: &Cc) -> anyhow::Result<()> {
    loop {
        // Nothing can come to name a blob between the look and the deletion.
        let _gate = cc.blob_gate.write().await;
        let mut tx = cc.db.begin().await?;
        let candidates = blobs::candidates(&mut tx).await?;
        if candidates.is_empty() {
            return Ok(());
        }
        for candidate in candidates {
            if !blobs::is_needed(&mut tx, &candidate).await? {
                cc.blobs.delete(&blobstore::key(&candidate.kind, &candidate.digest)).await?;
            }
            blobs::forget(&mut tx, &candidate).await?;
        }
        tx.commit().await?;
    }
}
