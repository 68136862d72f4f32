use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use base::Timestamp;
use executor::{ContainerRequest, Credentials, Identities, Subject};
use garden::Handle;

use crate::support::{Cell, request, sh};

/// Numbers what it makes.
struct Made {
    count: AtomicU32,
    good_for: Duration,
    away: AtomicBool,
}

impl Made {
    fn for_a(good_for: Duration) -> Arc<Made> {
        Arc::new(Made { count: AtomicU32::new(0), good_for, away: AtomicBool::new(false) })
    }

    fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }
}

impl Identities for Made {
    fn issue(&self, subject: &Subject, now: Timestamp) -> anyhow::Result<Credentials> {
        anyhow::ensure!(!self.away.load(Ordering::SeqCst), "nobody signs at the moment");
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        let Subject { guid, units, .. } = subject;
        Ok(Credentials {
            certificate: format!("certificate {number} of {guid} in {}", units.join(" ")),
            key: format!("key {number}"),
            until: now + self.good_for,
        })
    }

    fn authority(&self) -> &str {
        "the authority"
    }
}

fn wanted() -> ContainerRequest {
    ContainerRequest { units: vec!["app:a".into(), "space:s".into()], ..request(sh("sleep 600")) }
}

/// The folder that the container sees at `target`, and whether it may write there.
fn mounted(cell: &Cell, guid: &Handle, target: &str) -> (PathBuf, bool) {
    let creations = cell.garden.creations.lock();
    let spec = creations.iter().rfind(|spec| spec.handle.as_ref() == Some(guid)).unwrap();
    let mount = spec.mounts.iter().find(|mount| mount.target.as_os_str() == target).unwrap();
    (mount.source.clone(), mount.writable)
}

const FOLDER: &str = "/etc/cf-instance-credentials";

fn read(folder: &std::path::Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
}

#[tokio::test]
async fn a_container_has_a_certificate_before_it_runs_and_until_it_goes() {
    let made = Made::for_a(Duration::from_secs(3600));
    let cell = Cell::identified(made.clone()).await;
    let guid = cell.start(wanted());
    cell.running(&guid).await;
    let (folder, writable) = mounted(&cell, &guid, FOLDER);
    assert!(!writable);
    assert_eq!(read(&folder, "instance.crt"), format!("certificate 1 of {guid} in app:a space:s"));
    assert_eq!(read(&folder, "instance.key"), "key 1");
    let (trusted, writable) = mounted(&cell, &guid, "/etc/cf-system-certificates");
    assert!(!writable);
    assert_eq!(read(&trusted, "instance-identity-ca.crt"), "the authority");
    let env = cell.garden.creations.lock()[0].env.clone();
    for (name, path) in [
        ("CF_INSTANCE_CERT", "/etc/cf-instance-credentials/instance.crt"),
        ("CF_INSTANCE_KEY", "/etc/cf-instance-credentials/instance.key"),
        ("CF_SYSTEM_CERT_PATH", "/etc/cf-system-certificates"),
    ] {
        assert!(env.contains(&(name.to_owned(), path.to_owned())), "{name} in {env:?}");
    }
    // A restart of the platform is no reason for another.
    let cell = cell.restarted().await;
    cell.running(&guid).await;
    cell.executor.delete(&guid).await.unwrap();
    assert!(!folder.exists());
    assert_eq!(made.count(), 1);
}

#[tokio::test]
async fn the_next_one_comes_before_the_last_one_ends_also_after_a_restart() {
    let made = Made::for_a(Duration::from_secs(2));
    let cell = Cell::identified(made.clone()).await;
    let guid = cell.start(wanted());
    cell.running(&guid).await;
    let (folder, _) = mounted(&cell, &guid, FOLDER);
    until(|| made.count() >= 2).await;
    // While nobody signs, the old one stays, and it is asked again.
    made.away.store(true, Ordering::SeqCst);
    let before = made.count();
    let cell = cell.restarted().await;
    cell.running(&guid).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(made.count(), before);
    made.away.store(false, Ordering::SeqCst);
    until(|| made.count() > before).await;
    let newest =
        || read(&folder, "instance.crt").starts_with(&format!("certificate {} ", made.count()));
    until(newest).await;
}

#[tokio::test]
async fn without_a_certificate_a_container_does_not_run() {
    let made = Made::for_a(Duration::from_secs(3600));
    made.away.store(true, Ordering::SeqCst);
    let cell = Cell::identified(made.clone()).await;
    let guid = cell.start(wanted());
    let outcome = cell.outcome(&guid).await;
    assert!(outcome.retryable && outcome.reason.contains("making a certificate"), "{outcome:?}");
    cell.executor.delete(&guid).await.unwrap();
    let folder = mounted(&cell, &guid, FOLDER).0;
    assert!(!folder.exists());
}

#[tokio::test]
async fn what_is_kept_of_a_crashed_one_holds_no_key() {
    let made = Made::for_a(Duration::from_secs(3600));
    let cell = Cell::identified(made.clone()).await;
    let guid = cell.start(ContainerRequest { action: sh("exit 3"), ..wanted() });
    cell.outcome(&guid).await;
    let folder = mounted(&cell, &guid, FOLDER).0;
    assert!(folder.exists());
    cell.executor.keep(&guid, "group").await.unwrap();
    assert_eq!(cell.executor.crashed().len(), 1);
    assert!(!folder.exists());
}
