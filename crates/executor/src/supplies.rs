//! What a container is made from: its root file system and the read-only layers over it. Each archive is downloaded and
//! unpacked once per cell, however many containers want it.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use diego::desired_lrp::{CachedDependency, ImageLayer};
use futures::future::try_join_all;
use garden::Rootfs;
use parking_lot::Mutex;
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
    /// Root file systems as they were found last, and when somebody began to look.
    found: Mutex<HashMap<String, (Instant, Rootfs)>>,
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
        let found = Mutex::default();
        Supplies { images, transfers, flights, evicting, grown, most_bytes, found }
    }

    /// Looked for anew each time, for the host may have changed, and made when it is not there: but whoever waits
    /// while another looks takes what that one finds.
    pub async fn rootfs(&self, name: &str) -> anyhow::Result<Rootfs> {
        let wanted_at = Instant::now();
        let _turn = self.flights.turn(&format!("rootfs {name}")).await;
        if let Some((began, rootfs)) = self.found.lock().get(name)
            && *began >= wanted_at
        {
            return Ok(rootfs.clone());
        }
        let began = Instant::now();
        let rootfs = self.images.rootfs(name).await?;
        self.found.lock().insert(name.to_owned(), (began, rootfs.clone()));
        Ok(rootfs)
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
        let checksum = checksum.with_context(|| format!("layer {name} needs a digest"))?;
        let to = if wanted.destination_path.is_empty() { "/" } else { &wanted.destination_path };
        let _turn = self.flights.turn(&format!("{} {to}", checksum.name())).await;
        if let Some(layer) = self.held(&checksum, to) {
            return Ok(layer);
        }
        // Layers are known here by their sha256; what is known by another digest has to be at hand to be known.
        let key = if checksum.sha256().is_some() { String::new() } else { checksum.name() };
        let archive = self.transfers.cache.fetch(&wanted.url, &key, Some(&checksum)).await;
        let archive = archive.with_context(|| format!("downloading {name}"))?;
        match self.images.held(&archive.sha256, to) {
            Some(layer) => Ok(layer),
            None => self.unpack(&archive, to).await,
        }
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
