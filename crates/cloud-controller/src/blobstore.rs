//! Where packages, droplets, buildpacks and caches lie. Keys are paths that this crate makes up (`droplets/ab/abcd…`).

mod files;
mod memory;

use std::path::Path;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;

pub use files::Files;
pub use memory::Memory;

/// A blob's content, and how long it is.
pub struct Blob {
    pub size: u64,
    pub content: Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>,
}

/// Files on one machine, S3 on many; in memory for tests.
#[async_trait]
pub trait Blobstore: Send + Sync {
    /// Takes over the content of `file`. A reader sees all of a blob or nothing; when this returns it is on disk. Keys
    /// name their content, so what is there already is left as it is.
    async fn put_file(&self, key: &str, file: &Path) -> anyhow::Result<()>;
    async fn put(&self, key: &str, content: Bytes) -> anyhow::Result<()>;
    /// `None` when there is none.
    async fn get(&self, key: &str) -> anyhow::Result<Option<Blob>>;
    async fn exists(&self, key: &str) -> anyhow::Result<bool>;
    /// Deleting an unknown key succeeds, so callers may retry blindly.
    async fn delete(&self, key: &str) -> anyhow::Result<()>;
    /// The digests of all blobs of one kind.
    async fn list(&self, kind: &str) -> anyhow::Result<Vec<String>>;
    /// All of a blob in a file of its own.
    async fn get_to_file(&self, key: &str, file: &Path) -> anyhow::Result<bool>;
}

/// `droplets/ab/abcdef…`: folders stay small.
pub fn key(kind: &str, digest: &str) -> String {
    format!("{kind}/{}/{digest}", digest.get(..2).unwrap_or("__"))
}
