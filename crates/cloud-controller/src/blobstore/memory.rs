//! Blobs in memory, for tests.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use parking_lot::Mutex;

use super::{Blob, Blobstore};

#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<String, Bytes>>);

#[async_trait]
impl Blobstore for Memory {
    async fn put_file(&self, key: &str, file: &Path) -> anyhow::Result<()> {
        let content =
            tokio::fs::read(file).await.with_context(|| format!("reading {}", file.display()))?;
        self.put(key, content.into()).await
    }

    async fn put(&self, key: &str, content: Bytes) -> anyhow::Result<()> {
        self.0.lock().insert(key.to_owned(), content);
        Ok(())
    }

    async fn get(&self, key: &str) -> anyhow::Result<Option<Blob>> {
        let found = self.0.lock().get(key).cloned();
        Ok(found.map(|content| Blob {
            size: content.len() as u64,
            content: Box::pin(stream::iter([Ok(content)])),
        }))
    }

    async fn exists(&self, key: &str) -> anyhow::Result<bool> {
        Ok(self.0.lock().contains_key(key))
    }

    async fn delete(&self, key: &str) -> anyhow::Result<()> {
        self.0.lock().remove(key);
        Ok(())
    }

    async fn list(&self, kind: &str) -> anyhow::Result<Vec<String>> {
        let blobs = self.0.lock();
        let own = blobs.keys().filter(|key| key.split('/').next() == Some(kind));
        Ok(own.filter_map(|key| key.rsplit('/').next()).map(str::to_owned).collect())
    }

    async fn get_to_file(&self, key: &str, file: &Path) -> anyhow::Result<bool> {
        let found = self.0.lock().get(key).cloned();
        match found {
            Some(content) => tokio::fs::write(file, content)
                .await
                .map(|()| true)
                .context("writing a blob to a file"),
            None => Ok(false),
        }
    }
}
