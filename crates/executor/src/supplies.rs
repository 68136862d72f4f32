//! What a container is made from: its root file system and the read-only layers over it. Each archive is downloaded and
//! unpacked once per cell, however many containers want it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use diego::desired_lrp::{CachedDependency, ImageLayer};
use futures::future::try_join_all;
use garden::Rootfs;
use tokio::sync::{RwLock, RwLockReadGuard};
use tracing::debug;

use crate::cache::Archive;
use crate::checksum::Checksum;
use crate::container::ContainerRequest;
use crate::flights::Flights;
use crate::images::Images;
use crate::transfer::Transfers;

pub(crate) struct Supplies {
    images: Images,
    transfers: Arc<Transfers>,
    flights: Flights,
    /// Held for reading while somebody is about to use a layer that no container names yet.
    evicting: RwLock<()>,
    /// A layer came since the last look at how much they take.
    grown: AtomicBool,
    most_bytes: u64,
}

/// Layers that stay while this is held.
pub(crate) struct Layers<'a> {
    pub paths: Vec<PathBuf>,
    _stay: RwLockReadGuard<'a, ()>,
}

impl Supplies {
    pub fn new(images: Images, transfers: Arc<Transfers>, most_bytes: u64) -> Supplies {
        let (flights, evicting, grown) =
            (Flights::default(), RwLock::new(()), AtomicBool::new(true));
        Supplies { images, transfers, flights, evicting, grown, most_bytes }
    }

    pub async fn rootfs(&self, name: &str) -> anyhow::Result<Rootfs> {
        self.images.rootfs(name).await
    }

    /// Dependencies below, image layers above, each in the order it was named.
    pub async fn layers(&self, request: &ContainerRequest) -> anyhow::Result<Layers<'_>> {
        let stay = self.evicting.read().await;
        let dependencies = try_join_all(
            request.cached_dependencies.iter().map(|dependency| self.dependency(dependency)),
        );
        let layers = try_join_all(request.image_layers.iter().map(|layer| self.layer(layer)));
        let (mut below, above) = tokio::try_join!(dependencies, layers)?;
        below.extend(above);
        Ok(Layers { paths: below, _stay: stay })
    }

    async fn dependency(&self, wanted: &CachedDependency) -> anyhow::Result<PathBuf> {
        let checksum = Checksum::parse(&wanted.checksum_algorithm, &wanted.checksum_value)?;
        if let Some(layer) = checksum.as_ref().and_then(|checksum| self.held(checksum, &wanted.to))
        {
            return Ok(layer);
        }
        let key = if wanted.cache_key.is_empty() { &wanted.from } else { &wanted.cache_key };
        let archive = self.transfers.cache.fetch(&wanted.from, key, checksum.as_ref()).await;
        let archive = archive
            .with_context(|| format!("downloading {}", title(&wanted.name, "a dependency")))?;
        let _turn = self.flights.turn(&format!("{} {}", archive.sha256, wanted.to)).await;
        match self.images.held(&archive.sha256, &wanted.to) {
            Some(layer) => Ok(layer),
            None => self.unpack(&archive, &wanted.to).await,
        }
    }

    /// What is promised by its content and lies here needs no server.
    fn held(&self, checksum: &Checksum, to: &str) -> Option<PathBuf> {
        self.images.held(checksum.sha256()?, to)
    }

    async fn layer(&self, wanted: &ImageLayer) -> anyhow::Result<PathBuf> {
        let name = title(&wanted.name, &wanted.digest_value);
        let checksum = Checksum::parse(&wanted.digest_algorithm, &wanted.digest_value)?;
        let digest = checksum.as_ref().and_then(Checksum::sha256);
        let digest = digest.with_context(|| format!("layer {name} needs a sha256 digest"))?;
        let to = if wanted.destination_path.is_empty() { "/" } else { &wanted.destination_path };
        let _turn = self.flights.turn(&format!("{digest} {to}")).await;
        if let Some(layer) = self.images.held(digest, to) {
            return Ok(layer);
        }
        let archive = self.transfers.cache.fetch(&wanted.url, "", checksum.as_ref()).await;
        let archive = archive.with_context(|| format!("downloading {name}"))?;
        self.unpack(&archive, to).await
    }

    async fn unpack(&self, archive: &Archive, to: &str) -> anyhow::Result<PathBuf> {
        self.grown.store(true, Ordering::Relaxed);
        self.images.layer(&archive.path, &archive.sha256, to).await
    }

    /// Makes room when layers came since the last time and nobody is starting; `in_use` asks which must stay.
    pub async fn evict(&self, in_use: impl FnOnce() -> BTreeSet<PathBuf>) -> anyhow::Result<()> {
        let Ok(_alone) = self.evicting.try_write() else { return Ok(()) };
        if self.grown.swap(false, Ordering::Relaxed) {
            let gone = self.images.evict(self.most_bytes, in_use()).await?;
            debug!(gone, "layers made room");
        }
        Ok(())
    }
}

fn title<'a>(name: &'a str, key: &'a str) -> &'a str {
    if name.is_empty() { key } else { name }
}
