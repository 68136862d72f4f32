//! What the executor asks of the image store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use garden::{Rootfs, Tar};

#[derive(Clone)]
pub(crate) struct Images(pub Arc<image::Store>);

impl Images {
    /// `preloaded:STACK`.
    pub async fn rootfs(&self, name: &str) -> anyhow::Result<Rootfs> {
        let stack = name
            .strip_prefix("preloaded:")
            .with_context(|| format!("{name} is no root file system of this cell"))?;
        self.0.stack(stack).await
    }

    /// The layer with this content at this place, if it is unpacked already.
    pub fn held(&self, digest: &str, to: &str) -> Option<PathBuf> {
        self.0.held(digest, to)
    }

    /// Unpacks an archive so that it shows at `to`.
    pub async fn layer(&self, archive: &Path, digest: &str, to: &str) -> anyhow::Result<PathBuf> {
        self.0.layer(archive, digest, to).await
    }

    /// Digests and folders of all that is unpacked, the oldest first.
    pub fn layers(&self) -> anyhow::Result<Vec<(String, PathBuf)>> {
        self.0.layers()
    }

    pub async fn evict(&self, most_bytes: u64, in_use: BTreeSet<PathBuf>) -> anyhow::Result<usize> {
        self.0.evict(most_bytes, in_use).await
    }
}

/// An archive of any kind as a tar stream.
pub(crate) fn tar(archive: &Path) -> Tar {
    image::archive::tar_stream(archive, image::Limits::default())
}
