//! Throws away what nobody will ask for again: ended jobs, and blobs that no row names.

use std::time::Duration;

use crate::db::{blobs, jobs};
use crate::{Cc, blobstore};

const KEPT_JOBS: Duration = Duration::from_secs(24 * 3600);

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
    let mut tx = cc.db.begin().await?;
    jobs::prune(&mut tx, cc.now() - KEPT_JOBS).await?;
    tx.commit().await?;
    unneeded_blobs(cc).await
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
