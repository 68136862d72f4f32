//! Archives that were downloaded before, kept by key. One fetch per key at a time; the least recently used give way.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use base::{Clock, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::TempPath;
use tokio::sync::Semaphore;
use tracing::warn;

use crate::checksum::{Checksum, hex};
use crate::fetch::{Fetched, Fetcher, Version};
use crate::flights::Flights;

/// A file to read from while it is held.
#[derive(Clone)]
pub(crate) struct Archive {
    pub path: PathBuf,
    pub size: u64,
    /// Of its content, in hexadecimal.
    pub sha256: String,
    /// Keeps the file where it is: a kept one from being dropped for room, another one from being removed.
    _hold: Hold,
}

#[derive(Clone)]
#[expect(dead_code, reason = "held for what happens when it goes")]
enum Hold {
    Kept(Arc<()>),
    Once(Arc<TempPath>),
}

pub(crate) struct Cache {
    dir: PathBuf,
    most_bytes: u64,
    fetcher: Fetcher,
    slots: Semaphore,
    clock: Clock,
    kept: Mutex<HashMap<String, Kept>>,
    flights: Flights,
}

/// What is known of a kept file; lies beside it as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    /// The digest of the key, and the file's name.
    key: String,
    size: u64,
    sha256: String,
    #[serde(default)]
    version: Version,
    /// Names of further checksums it was found to have.
    #[serde(default)]
    checked: Vec<String>,
    used_at: Timestamp,
    #[serde(skip)]
    holders: Arc<()>,
    /// When the server was last asked for it, in this life of the program.
    #[serde(skip)]
    asked_at: Option<Instant>,
}

impl Kept {
    /// It is known to have this checksum.
    fn keeps(&self, checksum: &Checksum) -> bool {
        self.checked.contains(&checksum.name()) || checksum.is_sha256(&self.sha256)
    }

    fn is_held(&self) -> bool {
        Arc::strong_count(&self.holders) > 1
    }
}

impl Cache {
    pub fn open(
        dir: &Path,
        most_bytes: u64,
        at_once: usize,
        fetcher: Fetcher,
        clock: Clock,
    ) -> anyhow::Result<Cache> {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let mut kept = HashMap::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            match read_kept(&path) {
                Some(one) => drop(kept.insert(one.key.clone(), one)),
                // The archive of a description, or the remains of a download.
                None if path.with_extension("json").exists() && path.extension().is_none() => {}
                None => drop(std::fs::remove_file(&path)),
            }
        }
        let slots = Semaphore::new(at_once.max(1));
        let (dir, kept, flights) = (dir.to_owned(), Mutex::new(kept), Flights::default());
        Ok(Cache { dir, most_bytes, fetcher, slots, clock, kept, flights })
    }

    /// The archive at `url`; kept under `key` unless that is empty.
    pub async fn fetch(
        &self,
        url: &str,
        key: &str,
        checksum: Option<&Checksum>,
    ) -> anyhow::Result<Archive> {
        if key.is_empty() {
            return self.once(url, checksum).await;
        }
        // A key may hold secrets, as URLs do; what is written down does not tell it.
        let key = &hex(&Sha256::digest(key));
        let wanted_at = Instant::now();
        let _turn = self.flights.turn(key).await;
        let held = self.held(key);
        // Who had to wait for a turn is answered as well by whoever asked meanwhile.
        if let Some((kept, archive)) = &held
            && kept.asked_at.is_some_and(|asked_at| asked_at >= wanted_at)
            && checksum.is_none_or(|checksum| kept.keeps(checksum))
        {
            return Ok(archive.clone());
        }
        if let (Some((kept, archive)), Some(checksum)) = (&held, checksum)
            && kept.keeps(checksum)
        {
            return Ok(archive.clone());
        }
        let version = held.as_ref().map(|(kept, _)| kept.version.clone()).unwrap_or_default();
        let temp = self.temp()?;
        let _slot = self.slots.acquire().await.context("waiting for a download slot")?;
        let asked_at = Some(Instant::now());
        match (self.fetcher.fetch(url, &version, &temp).await?, held) {
            (Fetched::Unchanged, Some((kept, archive))) => {
                if let Some(checksum) = checksum {
                    verify(checksum, &archive.sha256, &archive.path).await?;
                    self.keep(Kept { checked: vec![checksum.name()], asked_at, ..kept })?;
                } else if let Some(kept) = self.kept.lock().get_mut(key) {
                    kept.asked_at = asked_at;
                }
                Ok(archive)
            }
            (Fetched::Unchanged, None) => anyhow::bail!("the server sent nothing"),
            (Fetched::File { size, sha256, version }, _) => {
                let mut checked = vec![];
                if let Some(checksum) = checksum {
                    verify(checksum, &sha256, &temp).await?;
                    checked.push(checksum.name());
                }
                let holders = Arc::new(());
                let hold = Hold::Kept(holders.clone());
                self.make_room(size);
                let path = self.path(key);
                temp.persist(&path).with_context(|| format!("keeping {}", path.display()))?;
                let (key, used_at) = (key.to_owned(), self.clock.now());
                self.keep(Kept {
                    key,
                    size,
                    sha256: sha256.clone(),
                    version,
                    checked,
                    used_at,
                    holders,
                    asked_at,
                })?;
                Ok(Archive { path, size, sha256, _hold: hold })
            }
        }
    }

    async fn once(&self, url: &str, checksum: Option<&Checksum>) -> anyhow::Result<Archive> {
        let temp = self.temp()?;
        let _slot = self.slots.acquire().await.context("waiting for a download slot")?;
        let Fetched::File { size, sha256, .. } =
            self.fetcher.fetch(url, &Version::default(), &temp).await?
        else {
            anyhow::bail!("the server sent nothing");
        };
        if let Some(checksum) = checksum {
            verify(checksum, &sha256, &temp).await?;
        }
        Ok(Archive { path: temp.to_path_buf(), size, sha256, _hold: Hold::Once(Arc::new(temp)) })
    }

    fn held(&self, key: &str) -> Option<(Kept, Archive)> {
        let mut all = self.kept.lock();
        let kept = all.get_mut(key)?;
        let path = self.path(key);
        if !path.exists() {
            all.remove(key);
            return None;
        }
        kept.used_at = self.clock.now();
        let archive = Archive {
            path,
            size: kept.size,
            sha256: kept.sha256.clone(),
            _hold: Hold::Kept(kept.holders.clone()),
        };
        Some((kept.clone(), archive))
    }

    fn keep(&self, kept: Kept) -> anyhow::Result<()> {
        std::fs::write(self.path(&kept.key).with_extension("json"), serde_json::to_vec(&kept)?)?;
        self.kept.lock().insert(kept.key.clone(), kept);
        Ok(())
    }

    fn make_room(&self, size: u64) {
        let mut kept = self.kept.lock();
        for key in surplus(&kept, size, self.most_bytes) {
            kept.remove(&key);
            let path = self.path(&key);
            if let Err(error) =
                std::fs::remove_file(path.with_extension("json")).and(std::fs::remove_file(&path))
            {
                warn!(file = %path.display(), %error, "an old download could not be removed");
            }
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.dir.join(key)
    }

    fn temp(&self) -> anyhow::Result<TempPath> {
        let file = tempfile::Builder::new().suffix(".part").tempfile_in(&self.dir);
        Ok(file.context("making room for a download")?.into_temp_path())
    }
}

/// Which files go, oldest first, so that `size` more bytes fit. Those in use stay.
fn surplus(kept: &HashMap<String, Kept>, size: u64, most: u64) -> Vec<String> {
    let mut total = size + kept.values().map(|kept| kept.size).sum::<u64>();
    let mut idle: Vec<&Kept> = kept.values().filter(|kept| !kept.is_held()).collect();
    idle.sort_by_key(|kept| kept.used_at);
    let goes = idle.into_iter().take_while(|kept| {
        let too_much = total > most;
        total = total.saturating_sub(kept.size);
        too_much
    });
    goes.map(|kept| kept.key.clone()).collect()
}

fn read_kept(path: &Path) -> Option<Kept> {
    let json = path.extension().is_some_and(|extension| extension == "json");
    let kept: Kept = serde_json::from_slice(&std::fs::read(path).ok().filter(|_| json)?).ok()?;
    path.with_extension("").exists().then_some(kept)
}

async fn verify(checksum: &Checksum, sha256: &str, path: &Path) -> anyhow::Result<()> {
    if checksum.is_sha256(sha256) {
        return Ok(());
    }
    let (checksum, path) = (checksum.clone(), path.to_owned());
    tokio::task::spawn_blocking(move || checksum.verify(&path)).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(key: &str, size: u64, used: i64) -> (String, Kept) {
        let kept = Kept {
            key: key.to_owned(),
            size,
            sha256: String::new(),
            version: Version::default(),
            checked: vec![],
            used_at: Timestamp::from_secs(used),
            holders: Arc::default(),
            asked_at: None,
        };
        (key.to_owned(), kept)
    }

    #[test]
    fn the_least_recently_used_go_first_and_held_ones_stay() {
        let all: HashMap<_, _> =
            [kept("old", 40, 1), kept("held", 40, 2), kept("new", 40, 3)].into();
        let _holder = all["held"].holders.clone();
        assert_eq!(surplus(&all, 0, 120), Vec::<String>::new());
        assert_eq!(surplus(&all, 10, 120), ["old"]);
        assert_eq!(surplus(&all, 50, 120), ["old", "new"]);
    }
}
