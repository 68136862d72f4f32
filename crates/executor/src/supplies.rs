//! What a container is made from: its root file system and the read-only layers over it. Each archive is downloaded and
//! unpacked once per cell, however many containers want it.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use diego::desired_lrp::{CachedDependency, ImageLayer};
use futures::future::try_join_all;
use garden::Rootfs;
use parking_lot::Mutex;
use tokio::sync::{RwLock, RwLockReadGuard, watch};
use tracing::{debug, warn};

use crate::cache::Archive;
use crate::checksum::Checksum;
use crate::container::ContainerRequest;
use crate::flights::Flights;
use crate::images::Images;
use crate::transfer::Transfers;

/// Layers that are told of, those asked for last first; an auction likes cells that have them. The others lie here all
/// the same.
const MOST_KNOWN: usize = 128;

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
    /// Image layers that were asked for, the latest last: by their digest as it was given, and where they lie.
    known: Mutex<Vec<(String, PathBuf)>>,
    /// Counts how often what is told of became another set.
    told: watch::Sender<u64>,
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
        // What an earlier life unpacked lies here still.
        let mut all = images.layers().unwrap_or_else(|error| {
            warn!(error = %format!("{error:#}"), "layers of an earlier life are found when they are wanted");
            vec![]
        });
        let known = Mutex::new(all.split_off(all.len().saturating_sub(MOST_KNOWN)));
        let (found, told) = Default::default();
        Supplies { images, transfers, flights, evicting, grown, most_bytes, found, known, told }
    }

    /// Digests of the image layers that lie here unpacked, those asked for last first; at most [`MOST_KNOWN`].
    pub fn held_layers(&self) -> Vec<String> {
        let mut known = self.known.lock();
        known.retain(|(_, path)| path.is_dir());
        known.iter().rev().map(|(digest, _)| digest.clone()).collect()
    }

    /// Changes whenever another set of layers is held.
    pub fn layers_told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// What a container of an earlier life stands on is here as well.
    pub fn recall(&self, layer: &ImageLayer) {
        let Ok(Some(checksum)) = Checksum::parse(&layer.digest_algorithm, &layer.digest_value)
        else {
            return;
        };
        if let Some(path) = self.held(&checksum, destination(layer)) {
            self.note(layer, &path);
        }
    }

    fn note(&self, layer: &ImageLayer, path: &Path) {
        let mut known = self.known.lock();
        let before = known.len();
        known.retain(|(digest, _)| *digest != layer.digest_value);
        let fresh = known.len() == before;
        if known.len() == MOST_KNOWN {
            known.remove(0);
        }
        known.push((layer.digest_value.clone(), path.to_owned()));
        drop(known);
        if fresh {
            self.told.send_modify(|times| *times += 1);
        }
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
        let path = self.find_layer(wanted).await?;
        self.note(wanted, &path);
        Ok(path)
    }

    async fn find_layer(&self, wanted: &ImageLayer) -> anyhow::Result<PathBuf> {
        let name = title(&wanted.name, &wanted.digest_value);
        let checksum = Checksum::parse(&wanted.digest_algorithm, &wanted.digest_value)?;
        let checksum = checksum.with_context(|| format!("layer {name} needs a digest"))?;
        let to = destination(wanted);
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
            if gone > 0 {
                debug!(gone, "layers made room");
                self.told.send_modify(|times| *times += 1);
            }
        }
        Ok(())
    }
}

fn destination(layer: &ImageLayer) -> &str {
    if layer.destination_path.is_empty() { "/" } else { &layer.destination_path }
}

fn title<'a>(name: &'a str, key: &'a str) -> &'a str {
    if name.is_empty() { key } else { name }
}
