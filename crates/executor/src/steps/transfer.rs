//! Downloads into the container and uploads from it.

use diego::action::{DownloadAction, UploadAction};
use garden::Stream;
use tracing::warn;

use super::{Outcome, Place};
use crate::checksum::Checksum;
use crate::failure::Failure;
use crate::scene::Scene;
use crate::{full_disk, images, text};

pub(super) async fn download(scene: &Scene, place: &Place, action: &DownloadAction) -> Outcome {
    let named = !action.artifact.is_empty();
    if named {
        place.say(Stream::Stdout, format!("Downloading {}...", action.artifact));
    }
    let fetch = async {
        let checksum = Checksum::parse(&action.checksum_algorithm, &action.checksum_value)?;
        scene.transfers.cache.fetch(&action.from, &action.cache_key, checksum.as_ref()).await
    };
    let archive = unless_cancelled(place, fetch).await?.map_err(|error| {
        warn!(container.guid = %scene.handle, error = %format!("{error:#}"), "download failed");
        let what = if named {
            format!("Downloading {} failed", action.artifact)
        } else {
            "Downloading failed".to_owned()
        };
        told(place, full_disk::told(&what, &error))
    })?;
    let unpack = async {
        let tar = images::tar(&archive.path);
        scene
            .garden
            .stream_in(&scene.handle, &action.to, &action.user, tar)
            .await
            .map_err(anyhow::Error::new)
    };
    unless_cancelled(place, unpack).await?.map_err(|error| {
        let what = if named { format!("{} ", action.artifact) } else { String::new() };
        let error = format!("{error:#}");
        let why = match full_disk::is_below(&error, &scene.transfers.temp_dir) {
            true => full_disk::TOLD,
            false => &error,
        };
        told(
            place,
            text::shortened(&format!("Copying {what}into the container failed: {why}"), 1024),
        )
    })?;
    if named {
        place.say(
            Stream::Stdout,
            format!("Downloaded {} ({})", action.artifact, text::size(archive.size)),
        );
    }
    Ok(())
}

pub(super) async fn upload(scene: &Scene, place: &Place, action: &UploadAction) -> Outcome {
    let named = !action.artifact.is_empty();
    let failed = |what: &str, error: anyhow::Error| {
        warn!(container.guid = %scene.handle, error = %format!("{error:#}"), "upload failed");
        let text = if named { format!("{what} for {}", action.artifact) } else { what.to_owned() };
        let text = full_disk::told(&text, &error);
        if named {
            place.say(Stream::Stderr, &text);
        }
        Failure::Told(text)
    };
    if named {
        place.say(Stream::Stdout, format!("Uploading {}...", action.artifact));
    }
    let take = async {
        let tar = scene.garden.stream_out(&scene.handle, &action.from, &action.user).await?;
        scene.transfers.first_file(tar, scene.disk_bytes).await
    };
    let file = unless_cancelled(place, take)
        .await?
        .map_err(|error| failed("Failed to establish stream from container", error))?;
    let size = unless_cancelled(place, scene.transfers.upload(file, &action.to))
        .await?
        .map_err(|error| failed("Failed to upload payload", error))?;
    if named {
        place.say(Stream::Stdout, format!("Uploaded {} ({})", action.artifact, text::size(size)));
    }
    Ok(())
}

fn told(place: &Place, text: String) -> Failure {
    place.say(Stream::Stderr, &text);
    Failure::Told(text)
}

async fn unless_cancelled<T>(place: &Place, work: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = place.cancel.cancelled() => Err(Failure::Cancelled),
        done = work => Ok(done),
    }
}
