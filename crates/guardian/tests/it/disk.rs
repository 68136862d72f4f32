//! Each way of keeping containers from filling the disk, as far as this host has it.

use garden::contract::{self, outcome};
use garden::{Exit, Garden};
use guardian::linux::{DiskLimits, LinuxGarden};

use crate::bed::{Bed, is_root};

const LIMIT: u64 = 20 << 20;

/// Runs `test` with exactly this way of limiting, or says that this host does not have it.
async fn with(
    way: DiskLimits,
    test: impl AsyncFnOnce(&LinuxGarden, &contract::Fixture) + Send + 'static,
) {
    if !is_root() {
        return;
    }
    let mut bed = Bed::new();
    bed.config.disk_limits = way;
    bed.config.disk_mb = Some(1024);
    bed.config.disk_look = std::time::Duration::from_millis(200);
    match LinuxGarden::open(bed.config.clone()).await {
        Ok(garden) => {
            test(&garden, &bed.fixture).await;
            garden.shutdown(true).await.unwrap();
        }
        Err(error) => eprintln!("skipped: this host has no {}: {error:#}", way.name()),
    }
    bed.assert_nothing_left();
    let state = std::fs::read_dir(&bed.config.state_dir).unwrap().flatten();
    let names = state.filter_map(|entry| entry.file_name().into_string().ok());
    let left: Vec<_> = names.filter(|name| !["c", "lock", "shim"].contains(&&**name)).collect();
    assert!(left.is_empty(), "left in the state folder: {left:?}");
}

async fn limited(garden: &LinuxGarden, fixture: &contract::Fixture) -> garden::Handle {
    limited_to(LIMIT, garden, fixture).await
}

async fn limited_to(
    bytes: u64,
    garden: &LinuxGarden,
    fixture: &contract::Fixture,
) -> garden::Handle {
    let mut spec = fixture.spec();
    spec.limits.disk_bytes = bytes;
    garden.create(spec).await.unwrap().handle
}

/// A write that does not fit fails with the right words, files without content are bounded too, and a neighbour has all its room.
async fn enforced(garden: &LinuxGarden, fixture: &contract::Fixture) {
    assert!(garden.disk_limits().starts_with("enforced"), "{}", garden.disk_limits());
    let (one, other) = (limited(garden, fixture).await, limited(garden, fixture).await);
    let full = |said: &str| said.contains("quota exceeded") || said.contains("No space left");
    let fill = "exec 2>&1; head -c 10000000 /dev/urandom > ~/a && echo some; sync; head -c 30000000 /dev/urandom > ~/b && echo all";
    let (said, _) = outcome(garden, &one, &fixture.user, fill).await;
    assert!(said.starts_with("some\n") && full(&said) && !said.contains("all"), "{said}");
    let used = garden.metrics(&one).await.unwrap().disk_bytes;
    assert!((LIMIT / 2..=LIMIT + (2 << 20)).contains(&used), "{used}");
    let (said, _) =
        outcome(garden, &one, &fixture.user, "rm ~/a ~/b; sync; echo again > ~/c && cat ~/c").await;
    assert_eq!(said, "again\n");

    let (said, _) =
        outcome(garden, &other, &fixture.user, "head -c 15000000 /dev/zero > ~/a && wc -c < ~/a")
            .await;
    assert_eq!(said, "15000000\n");
    let many = "exec 2>&1; cd; perl -e 'for my $n (1..400000) { open(my $f, q(>), qq(f$n)) or print(qq($n $!\\n)), exit }; print qq(all\\n)'";
    let small = limited_to(4 << 20, garden, fixture).await;
    let (said, _) = outcome(garden, &small, &fixture.user, many).await;
    assert!(full(&said), "{said}");
    for handle in [one, other, small] {
        garden.destroy(&handle).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn btrfs_quotas_stop_a_write_that_is_too_much() {
    with(DiskLimits::Btrfs, enforced).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn project_quotas_stop_a_write_that_is_too_much() {
    with(DiskLimits::ProjectQuotas, enforced).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_stop_a_write_that_is_too_much() {
    with(DiskLimits::Images, enforced).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_keep_the_contract() {
    with(DiskLimits::Images, async |garden, fixture| contract::everything(garden, fixture).await)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn btrfs_keeps_the_contract() {
    with(DiskLimits::Btrfs, async |garden, fixture| contract::everything(garden, fixture).await)
        .await;
}

/// The write succeeds; then everything in the container ends, and nothing of its neighbour does.
#[tokio::test(flavor = "multi_thread")]
async fn who_watches_kills_who_has_written_too_much() {
    with(DiskLimits::Watched, async |garden, fixture| {
        assert!(garden.disk_limits().starts_with("counted"), "{}", garden.disk_limits());
        let (one, other) = (limited(garden, fixture).await, limited(garden, fixture).await);
        let modest = "head -c 1000000 /dev/zero > ~/a; echo ready; exec sleep 1000";
        let mut modest = garden.run(&other, contract::sh(&fixture.user, modest)).await.unwrap();
        modest.output.recv().await.unwrap();
        for fill in [
            "head -c 30000000 /dev/urandom > ~/b && echo all && exec sleep 1000",
            "exec 2> /dev/null; rm -f ~/b; mkdir -p ~/d; cd ~/d; perl -e 'for my $n (1..8000) { open(my $f, q(>), $n) }'; echo all; exec sleep 1000",
        ] {
            let (said, exit) = outcome(garden, &one, &fixture.user, fill).await;
            // It may be seen before it has written all.
            assert!(["", "all\n"].contains(&said.as_str()), "{said}");
            assert_eq!(exit, Exit::Signal(9));
            // Who tidies up may be killed too, as long as there is too much.
            while outcome(garden, &one, &fixture.user, "rm -rf ~/b ~/d").await.1 != Exit::Status(0)
            {}
        }
        assert!(modest.exit.borrow().is_none(), "the neighbour runs on");
    })
    .await;
}

/// Containers go on under the limits they were made with, and nobody may ask for others meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn limits_outlive_the_platform() {
    if !is_root() {
        return;
    }
    for way in [DiskLimits::Btrfs, DiskLimits::Images] {
        let mut bed = Bed::new();
        bed.config.disk_limits = way;
        bed.config.disk_mb = Some(1024);
        let garden = match LinuxGarden::open(bed.config.clone()).await {
            Ok(garden) => garden,
            Err(error) => {
                eprintln!("skipped: this host has no {}: {error:#}", way.name());
                continue;
            }
        };
        let handle = limited(&garden, &bed.fixture).await;
        garden.shutdown(false).await.unwrap();
        drop(garden);
        bed.config.disk_limits = DiskLimits::Watched;
        let refused = LinuxGarden::open(bed.config.clone()).await.err().unwrap();
        assert!(format!("{refused:#}").contains("still run"), "{refused:#}");
        bed.config.disk_limits = DiskLimits::Best;
        let garden = bed.open().await;
        let fill = "exec 2>&1; head -c 30000000 /dev/urandom > ~/b && echo all";
        let (said, _) = outcome(&*garden, &handle, "vcap", fill).await;
        assert!(said.contains("quota exceeded") || said.contains("No space left"), "{said}");
        garden.shutdown(true).await.unwrap();
        bed.assert_nothing_left();
    }
}
