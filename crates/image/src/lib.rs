//! What containers are made of, as it lies on the cell: stacks (root file systems) and unpacked, shared, read-only
//! layers. Knows no container.

pub mod archive;
mod etc;
mod layers;
mod stack;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use garden::Rootfs;

pub use archive::Limits;

/// The user that apps run as: Cloud Foundry's `vcap`.
pub const VCAP: u32 = 2000;

#[derive(Clone, Debug)]
pub struct Config {
    pub dir: PathBuf,
    /// Names under which this machine's own `/usr` is offered.
    pub stacks: BTreeSet<String>,
    pub limits: Limits,
}

/// Everything in it can be made again, so nothing is synced to disk; after a reboot of the machine it starts empty.
#[derive(Debug)]
pub struct Store {
    config: Config,
    /// Where things are put together before they are renamed to their place.
    workshop: PathBuf,
    /// Held while a stack is made: whoever comes meanwhile waits for that one.
    making: Arc<Mutex<()>>,
}

impl Store {
    pub fn open(config: Config) -> anyhow::Result<Store> {
        let workshop = config.dir.join("tmp");
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let seen = config.dir.join("boot");
        if std::fs::read_to_string(&seen).unwrap_or_default() != boot {
            remove(&config.dir.join("layers"))?;
            remove(&config.dir.join("stacks"))?;
        }
        remove(&workshop)?;
        for folder in [&workshop, &config.dir.join("layers"), &config.dir.join("stacks")] {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("making {}", folder.display()))?;
        }
        std::fs::write(seen, boot)?;
        Ok(Store { config, workshop, making: Arc::default() })
    }

    /// The root file system of a stack, made when absent or when the machine has changed.
    ///
    /// # Errors
    /// When no stack has that name.
    pub async fn stack(&self, name: &str) -> anyhow::Result<Rootfs> {
        if !self.config.stacks.contains(name) {
            let known: Vec<&str> = self.config.stacks.iter().map(String::as_str).collect();
            bail!("no stack {name} here: there is {}", known.join(", "));
        }
        let (stacks, workshop) = (self.config.dir.join("stacks"), self.workshop.clone());
        let making = self.making.clone();
        blocking(move || {
            let _turn = making.lock().unwrap_or_else(PoisonError::into_inner);
            stack::host(&stacks, &workshop)
        })
        .await
    }

    /// The layer with this content at this place, if it is unpacked already.
    pub fn held(&self, digest: &str, to: &str) -> Option<PathBuf> {
        let path = self.layer_path(digest, to);
        path.is_dir().then_some(path)
    }

    /// All layers that lie here, each with the digest it was unpacked by, those made first coming first.
    pub fn layers(&self) -> anyhow::Result<Vec<(String, PathBuf)>> {
        layers::list(&self.config.dir.join("layers"))
    }

    /// Unpacks an archive (tgz, tar or zip) so that it shows at `to`, and returns the folder rooted at `/`. Callers
    /// see that one layer is not unpacked twice at once; if it is, one of the two wins and both are right.
    pub async fn layer(&self, archive: &Path, digest: &str, to: &str) -> anyhow::Result<PathBuf> {
        let (archive, to, place) = (archive.to_owned(), to.to_owned(), self.layer_path(digest, to));
        let (workshop, limits) = (self.workshop.clone(), self.config.limits);
        blocking(move || layers::unpack(&archive, &to, &place, &workshop, limits).map(|()| place))
            .await
    }

    /// Removes the layers that were made first until the rest takes at most `most` bytes; those `in_use` stay.
    /// Returns how many went.
    pub async fn evict(&self, most: u64, in_use: BTreeSet<PathBuf>) -> anyhow::Result<usize> {
        let (layers, workshop) = (self.config.dir.join("layers"), self.workshop.clone());
        blocking(move || layers::evict(&layers, &workshop, most, &in_use)).await
    }

    fn layer_path(&self, digest: &str, to: &str) -> PathBuf {
        self.config.dir.join("layers").join(layers::name(digest, to))
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("unpacking was interrupted")?
}
