//! Blobs as files below one folder: written beside, synced, then renamed into place.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use super::{Blob, Blobstore};

/// Reads in pieces of this size.
const PIECE: usize = 64 << 10;

#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// The folder is made when absent; pieces a crash left behind are removed.
    pub async fn open(root: PathBuf) -> anyhow::Result<Files> {
        let incoming = root.join("incoming");
        if let Err(error) = fs::remove_dir_all(&incoming).await
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("clearing {}", incoming.display()));
        }
        fs::create_dir_all(&incoming)
            .await
            .with_context(|| format!("making {}", incoming.display()))?;
        Ok(Files { root })
    }

    fn path(&self, key: &str) -> anyhow::Result<PathBuf> {
        let relative = Path::new(key);
        if key.is_empty() || relative.components().any(|part| !matches!(part, Component::Normal(_)))
        {
            bail!("the blob key {key:?} leads elsewhere");
        }
        Ok(self.root.join("blobs").join(relative))
    }

    /// A name for what is on its way in.
    fn draft(&self) -> Draft {
        Draft(self.root.join("incoming").join(base::new_guid()))
    }

    /// Moves a complete, synced file to its place and makes the move last.
    async fn settle(&self, draft: Draft, key: &str) -> anyhow::Result<()> {
        let path = self.path(key)?;
        let folder = path.parent().context("a blob lies in a folder")?;
        make_folder(folder).await?;
        fs::rename(&draft.0, &path)
            .await
            .with_context(|| format!("moving a blob to {}", path.display()))?;
        sync_folder(folder).await
    }

    /// Whether the blob is there. Then it is there to stay: whoever moved it to its place may not have come to say so.
    async fn is_settled(&self, key: &str) -> anyhow::Result<bool> {
        let path = self.path(key)?;
        let folder = path.parent().context("a blob lies in a folder")?;
        let there = fs::try_exists(&path).await?;
        if there {
            sync_folder(folder).await?;
        }
        Ok(there)
    }
}

/// A file that is gone in the end, unless it was moved to its place: also when writing it failed, or whoever waited
/// for it went away.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[async_trait]
impl Blobstore for Files {
    async fn put_file(&self, key: &str, file: &Path) -> anyhow::Result<()> {
        if self.is_settled(key).await? {
            return Ok(());
        }
        let draft = self.draft();
        // A link costs nothing; another file system needs a copy.
        if fs::hard_link(file, &draft.0).await.is_err() {
            let copied = fs::copy(file, &draft.0).await;
            copied.with_context(|| format!("copying {}", file.display()))?;
        }
        File::open(&draft.0).await?.sync_all().await.context("syncing a blob")?;
        self.settle(draft, key).await
    }

    async fn put(&self, key: &str, content: Bytes) -> anyhow::Result<()> {
        if self.is_settled(key).await? {
            return Ok(());
        }
        let draft = self.draft();
        let made = File::create(&draft.0).await;
        let mut file = made.with_context(|| format!("making {}", draft.0.display()))?;
        file.write_all(&content).await.context("writing a blob")?;
        file.sync_all().await.context("syncing a blob")?;
        self.settle(draft, key).await
    }

    async fn get(&self, key: &str) -> anyhow::Result<Option<Blob>> {
        let file = match File::open(self.path(key)?).await {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("opening the blob {key}")),
        };
        let size = file.metadata().await.context("measuring a blob")?.len();
        Ok(Some(Blob { size, content: Box::pin(ReaderStream::with_capacity(file, PIECE)) }))
    }

    async fn exists(&self, key: &str) -> anyhow::Result<bool> {
        Ok(fs::try_exists(self.path(key)?).await?)
    }

    async fn delete(&self, key: &str) -> anyhow::Result<()> {
        match fs::remove_file(self.path(key)?).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("deleting the blob {key}"))
            }
            _ => Ok(()),
        }
    }

    async fn list(&self, kind: &str) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for folder in entries(&self.path(kind)?).await? {
            for blob in entries(&folder).await? {
                let name = blob.file_name().and_then(|name| name.to_str());
                found.extend(name.map(str::to_owned));
            }
        }
        Ok(found)
    }

    async fn get_to_file(&self, key: &str, file: &Path) -> anyhow::Result<bool> {
        match fs::copy(self.path(key)?, file).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("copying the blob {key}")),
        }
    }
}

/// As `create_dir_all`, and what was made stays: each new folder is an entry in the one above it.
async fn make_folder(folder: &Path) -> anyhow::Result<()> {
    let missing = folder.ancestors().take_while(|path| !path.exists()).count();
    fs::create_dir_all(folder).await.with_context(|| format!("making {}", folder.display()))?;
    for above in folder.ancestors().skip(1).take(missing) {
        sync_folder(above).await?;
    }
    Ok(())
}

async fn sync_folder(folder: &Path) -> anyhow::Result<()> {
    let synced = async { File::open(folder).await?.sync_all().await };
    synced.await.with_context(|| format!("syncing {}", folder.display()))
}

/// What lies in a folder; nothing when there is none.
async fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut reading = match fs::read_dir(folder).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        reading => reading.with_context(|| format!("reading {}", folder.display()))?,
    };
    let mut found = Vec::new();
    while let Some(entry) = reading.next_entry().await? {
        found.push(entry.path());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_blob_is_kept_under_its_key_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path().join("store")).await.unwrap();
        files.put("droplets/ab/abc", Bytes::from_static(b"one")).await.unwrap();
        let copy = folder.path().join("copy");
        std::fs::write(&copy, "two").unwrap();
        files.put_file("droplets/ab/abd", &copy).await.unwrap();
        for (key, want) in [("droplets/ab/abc", "one"), ("droplets/ab/abd", "two")] {
            let pieces: Vec<Bytes> =
                files.get(key).await.unwrap().unwrap().content.try_collect().await.unwrap();
            assert_eq!(pieces.concat(), want.as_bytes());
        }
        assert_eq!(files.list("droplets").await.unwrap().len(), 2);
        assert!(files.list("packages").await.unwrap().is_empty());
        assert!(files.put("../out", Bytes::new()).await.is_err());
        assert!(files.get("/etc/passwd").await.is_err());
        files.delete("droplets/ab/abc").await.unwrap();
        files.delete("droplets/ab/abc").await.unwrap();
        assert!(files.get("droplets/ab/abc").await.unwrap().is_none());
    }
}
