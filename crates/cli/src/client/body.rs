//! What requests carry, above all uploads that are streamed from disk.

use std::path::PathBuf;

use indicatif::ProgressBar;
use reqwest::multipart::{Form, Part};
use serde_json::Value;
use tokio_util::io::ReaderStream;

use crate::error::{Error, Result};

/// What a request carries.
pub enum Body {
    None,
    Json(Value),
    Yaml(String),
    Upload(Upload),
}

/// A multipart form: texts, then one file that is streamed.
pub struct Upload {
    pub texts: Vec<(&'static str, String)>,
    pub file: Option<File>,
    pub bar: ProgressBar,
}

pub struct File {
    pub field: &'static str,
    pub name: String,
    pub path: PathBuf,
}

impl Upload {
    pub(super) async fn form(&self) -> Result<Form> {
        let mut form = Form::new();
        for (name, text) in &self.texts {
            form = form.part(*name, Part::text(text.clone()));
        }
        let Some(file) = &self.file else { return Ok(form) };
        let reading = |error| Error::Failed(format!("reading {}: {error}", file.path.display()));
        let source = tokio::fs::File::open(&file.path).await.map_err(reading)?;
        let length = source.metadata().await.map_err(reading)?.len();
        self.bar.set_length(length);
        self.bar.set_position(0);
        let bar = self.bar.clone();
        let stream = futures::StreamExt::inspect(
            ReaderStream::with_capacity(source, 64 << 10),
            move |chunk| {
                if let Ok(chunk) = chunk {
                    bar.inc(chunk.len() as u64);
                }
            },
        );
        let part = Part::stream_with_length(reqwest::Body::wrap_stream(stream), length)
            .file_name(file.name.clone())
            .mime_str("application/zip")
            .expect("the type is constant and valid");
        Ok(form.part(file.field, part))
    }
}
