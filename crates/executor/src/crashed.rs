//! Crashed containers that are kept for a while, so that somebody can look into them: without processes, without a
//! reservation, and first to go when the host runs short of anything.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base::Timestamp;
use garden::{GardenError, Handle, Stream, Tar};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::config::KeepCrashed;
use crate::container::{OwnerTags, State};
use crate::executor::{Executor, ExecutorError, Result};
use crate::member::{Member, Traces};
use crate::text;

const MEGABYTE: u64 = 1024 * 1024;

/// One that is kept. Lies beside the recipes as JSON, so that it outlives this program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crashed {
    pub guid: Handle,
    /// Whatever the owner takes as one; its members give way to one another first.
    pub group: String,
    pub owner: OwnerTags,
    /// Why it crashed.
    pub reason: String,
    pub crashed_at: Timestamp,
    /// It goes at this moment at the latest.
    pub kept_until: Timestamp,
    /// What its writable layer takes.
    pub bytes: u64,
    /// The read-only layers it stands on, which must stay with it.
    pub(crate) layers: Vec<PathBuf>,
}

impl Executor {
    /// Crashed containers whose files can be read, the latest first.
    pub fn crashed(&self) -> Vec<Crashed> {
        let mut all: Vec<Crashed> = self.crashed.lock().values().cloned().collect();
        all.sort_by(|a, b| b.crashed_at.cmp(&a.crashed_at).then_with(|| a.guid.cmp(&b.guid)));
        all
    }

    /// A tar archive of `path` (a file, or a folder with all below it) of a kept container.
    pub async fn crashed_files(&self, guid: &Handle, path: &str) -> Result<Tar> {
        if !self.crashed.lock().contains_key(guid) {
            return Err(ExecutorError::Unknown(guid.clone()));
        }
        match self.garden.stream_out(guid, path, "root").await {
            Ok(tar) => Ok(tar),
            Err(GardenError::FileNotFound(path)) => Err(ExecutorError::NoFile(path)),
            Err(error) => Err(anyhow::Error::new(error).context(format!("reading {path}")).into()),
        }
    }

    /// As [`Executor::delete`] for a completed container, but its files stay for a while. Its reservation ends at once,
    /// and so do all its processes. What cannot be kept is deleted.
    pub async fn keep(&self, guid: &Handle, group: &str) -> Result<()> {
        let Some(member) = self.member(guid) else { return Ok(()) };
        if let Some((traces, reason)) = self.is_worth_keeping(&member) {
            let _turn = member.deleting.lock().await;
            if self.member(guid).is_none() {
                return Ok(());
            }
            match self.set_aside(&member, &traces, group, reason).await {
                Ok(()) => {
                    self.trim_crashed().await;
                    return Ok(());
                }
                Err(error) => {
                    warn!(container.guid = %guid, error = %format!("{error:#}"), "a crashed container could not be kept");
                }
            }
        }
        self.delete(guid).await
    }

    fn is_worth_keeping(&self, member: &Member) -> Option<(Traces, String)> {
        let State::Completed(outcome) = member.container().state else { return None };
        let traces = member.traces()?;
        let made = traces.journal.progress().created;
        let keeps = self.config.crashed.containers > 0 && !self.config.crashed.time.is_zero();
        (keeps && made && !outcome.stopped && !outcome.retryable)
            .then_some((traces, outcome.reason))
    }

    async fn set_aside(
        &self,
        member: &Member,
        traces: &Traces,
        group: &str,
        reason: String,
    ) -> anyhow::Result<()> {
        let guid = &member.guid;
        self.garden.stop(guid, true).await.context("ending its last processes")?;
        let bytes = self.garden.metrics(guid).await.map_or(0, |metrics| metrics.disk_bytes);
        let crashed_at = member.container().since;
        let one = Crashed {
            guid: guid.clone(),
            group: group.to_owned(),
            owner: member.owner.clone(),
            reason,
            crashed_at,
            kept_until: crashed_at + self.config.crashed.time,
            bytes,
            layers: traces.journal.progress().layers,
        };
        write(&self.crashed_dir(), &one)?;
        // From here on it is kept, whatever happens to this program.
        self.crashed.lock().insert(guid.clone(), one);
        member.mark_deleted();
        // Whoever looks into it later is not to find a key that still opens something.
        self.forget_identity(guid);
        traces.journal.remove().context("removing its recipe")?;
        let span = text::span(self.config.crashed.time);
        let cell = &self.config.cell_id;
        traces.log.say(
            Stream::Stdout,
            format!("Cell {cell} keeping files of crashed instance {guid} for {span}"),
        );
        self.forget(guid);
        Ok(())
    }

    /// Removes a kept container for good. Unknown ones are no error.
    pub async fn discard(&self, guid: &Handle) -> Result<()> {
        if !self.crashed.lock().contains_key(guid) {
            return Ok(());
        }
        self.garden
            .destroy(guid)
            .await
            .with_context(|| format!("destroying crashed container {guid}"))?;
        remove(&self.crashed_dir(), guid)
            .with_context(|| format!("forgetting crashed container {guid}"))?;
        self.crashed.lock().remove(guid);
        info!(container.guid = %guid, "a crashed container is kept no longer");
        Ok(())
    }

    /// Removes every kept container; what cannot be removed is left for housekeeping.
    pub async fn clear_crashed(&self) {
        for one in self.crashed() {
            self.discard_or_leave(&one.guid).await;
        }
    }

    /// Removes what was kept long enough, and what there is no room for.
    pub(crate) async fn trim_crashed(&self) {
        let (kept, now) = (self.crashed(), self.clock.now());
        if kept.is_empty() {
            return;
        }
        let pressure = self.disk_pressure(&kept);
        for guid in surplus(kept, &self.config.crashed, now, pressure) {
            self.discard_or_leave(&guid).await;
        }
    }

    /// Gives up the oldest kept container, for the host has run out of something. `false` when there is none.
    pub(crate) async fn give_way(&self) -> bool {
        match self.crashed().pop() {
            Some(oldest) => self.discard(&oldest.guid).await.is_ok(),
            None => false,
        }
    }

    async fn discard_or_leave(&self, guid: &Handle) {
        if let Err(error) = self.discard(guid).await {
            let error = format!("{:#}", anyhow::Error::new(error));
            warn!(container.guid = %guid, %error, "left for the next round");
        }
    }

    /// Takes up what an earlier life kept; `exists` says whether its container is still there.
    pub(crate) fn take_up_crashed(&self, exists: impl Fn(&Handle) -> bool) -> anyhow::Result<()> {
        let dir = self.crashed_dir();
        for one in read_all(&dir)? {
            if exists(&one.guid) {
                self.crashed.lock().insert(one.guid.clone(), one);
            } else {
                remove(&dir, &one.guid)?;
            }
        }
        Ok(())
    }

    pub(crate) fn crashed_layers(&self) -> Vec<PathBuf> {
        self.crashed.lock().values().flat_map(|one| one.layers.clone()).collect()
    }

    /// How many bytes the kept ones should give back: so that what is promised to others is there, and the disk does
    /// not run full.
    fn disk_pressure(&self, kept: &[Crashed]) -> u64 {
        let remaining = self.remaining().disk_mb * MEGABYTE;
        let promised = kept.iter().map(|one| one.bytes).sum::<u64>().saturating_sub(remaining);
        let wanted_free = self.config.crashed.free_disk_mb * MEGABYTE;
        promised.max(wanted_free.saturating_sub(free_bytes(&self.config.dir)))
    }

    fn crashed_dir(&self) -> PathBuf {
        self.config.dir.join("crashed")
    }
}

/// Which go: those whose time is over, the oldest of a group that has too many, and then the oldest of all until
/// number and bytes are within bounds and `pressure` bytes have become free. Wants the latest first.
fn surplus(kept: Vec<Crashed>, limits: &KeepCrashed, now: Timestamp, pressure: u64) -> Vec<Handle> {
    let most_bytes = limits.mb * MEGABYTE;
    let whole: u64 = kept.iter().map(|one| one.bytes).sum();
    let most_bytes = most_bytes.min(whole.saturating_sub(pressure));
    let (mut of_group, mut count, mut bytes) = (BTreeMap::<String, usize>::new(), 0, 0u64);
    let (mut goes, mut full) = (Vec::new(), false);
    for one in kept {
        let siblings = of_group.entry(one.group.clone()).or_default();
        let over = one.kept_until <= now || *siblings >= limits.of_one_group;
        // Larger than all that may be kept: it goes, and no other for its sake.
        let misfit = one.bytes > limits.mb * MEGABYTE;
        if !over && !misfit {
            full |= count >= limits.containers || bytes + one.bytes > most_bytes;
        }
        if over || misfit || full {
            goes.push(one.guid);
        } else {
            (*siblings, count, bytes) = (*siblings + 1, count + 1, bytes + one.bytes);
        }
    }
    goes.reverse();
    goes
}

/// Of the disk that `dir` lies on; plenty when the host does not tell.
fn free_bytes(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize)
}

fn file(dir: &Path, guid: &Handle) -> PathBuf {
    dir.join(format!("{guid}.json"))
}

fn write(dir: &Path, one: &Crashed) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let path = file(dir, &one.guid);
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(one)?)
        .and_then(|()| fs::rename(&new, &path))
        .with_context(|| format!("writing {}", path.display()))
}

fn remove(dir: &Path, guid: &Handle) -> io::Result<()> {
    match fs::remove_file(file(dir, guid)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What cannot be read is removed; its container then belongs to nobody and goes.
fn read_all(dir: &Path) -> anyhow::Result<Vec<Crashed>> {
    let mut all = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        entries => entries.with_context(|| format!("reading {}", dir.display()))?,
    };
    for entry in entries {
        let path = entry?.path();
        let text = fs::read(&path).unwrap_or_default();
        match serde_json::from_slice(&text) {
            Ok(one) => all.push(one),
            Err(error) => {
                warn!(file = %path.display(), %error, "removing what cannot be read");
                fs::remove_file(&path).ok();
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn one(guid: &str, group: &str, at: i64, mb: u64) -> Crashed {
        Crashed {
            guid: guid.into(),
            group: group.into(),
            owner: OwnerTags::new(),
            reason: String::new(),
            crashed_at: Timestamp::from_secs(at),
            kept_until: Timestamp::from_secs(at + 100),
            bytes: mb * MEGABYTE,
            layers: vec![],
        }
    }

    fn limits() -> KeepCrashed {
        KeepCrashed {
            time: Duration::from_secs(100),
            containers: 3,
            of_one_group: 2,
            mb: 100,
            free_disk_mb: 0,
        }
    }

    #[track_caller]
    fn check(kept: Vec<Crashed>, now: i64, pressure_mb: u64, want: &[&str]) {
        let now = Timestamp::from_secs(now);
        let goes = surplus(kept, &limits(), now, pressure_mb * MEGABYTE);
        assert_eq!(goes.iter().map(Handle::as_str).collect::<Vec<_>>(), want);
    }

    #[test]
    fn time_number_group_and_bytes_are_bounds() {
        check(vec![one("b", "x", 20, 1), one("a", "y", 10, 1)], 50, 0, &[]);
        check(vec![one("b", "x", 20, 1), one("a", "y", 10, 1)], 110, 0, &["a"]);
        let group = vec![one("c", "x", 3, 1), one("b", "x", 2, 1), one("a", "x", 1, 1)];
        check(group, 5, 0, &["a"]);
        let many = vec![
            one("d", "w", 4, 1),
            one("c", "z", 3, 1),
            one("b", "y", 2, 1),
            one("a", "x", 1, 1),
        ];
        check(many.clone(), 5, 0, &["a"]);
        check(many, 5, 2, &["a", "b"]);
        let large = vec![one("c", "z", 3, 60), one("b", "y", 2, 60), one("a", "x", 1, 30)];
        check(large, 5, 0, &["a", "b"]);
        let huge = vec![one("b", "y", 2, 200), one("a", "x", 1, 30)];
        check(huge, 5, 0, &["b"]);
    }

    #[test]
    fn they_are_read_back_and_what_is_torn_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("crashed");
        assert_eq!(read_all(&path).unwrap(), []);
        let kept = one("a", "x", 1, 1);
        write(&path, &kept).unwrap();
        fs::write(path.join("b.json"), "{").unwrap();
        assert_eq!(read_all(&path).unwrap(), [kept]);
        assert!(!path.join("b.json").exists());
        remove(&path, &"a".into()).unwrap();
        remove(&path, &"a".into()).unwrap();
        assert_eq!(read_all(&path).unwrap(), []);
    }
}
