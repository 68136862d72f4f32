//! What programs inside find and may do.

use tokio::time::timeout;

use super::{Fixture, PATIENCE, gone, made, outcome, sh, text};
use crate::{ContainerSpec, Exit, Garden, ProcessSpec, ResourceLimits, Tar};

/// The user, the folder and the kernel's limits of one process are its own.
pub(super) async fn process_limits(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    let limits = ResourceLimits {
        cpu_seconds: Some(1000),
        file_bytes: Some(1 << 20),
        stack_bytes: Some(4 << 20),
        ..ResourceLimits::default()
    };
    let script = "pwd; ulimit -t; ulimit -f; ulimit -s";
    let spec = ProcessSpec { dir: "/tmp".into(), limits, ..sh(&fixture.user, script) };
    let mut process = garden.run(&handle, spec).await.expect("a shell starts");
    let said = text(&mut process).await;
    let (dir, rest) = said.split_once('\n').expect("it says where it is");
    assert!(dir.ends_with("/tmp"), "{dir}");
    assert_eq!(rest, "1000\n2048\n4096\n");
    let (said, _) =
        outcome(garden, &handle, &fixture.user, "ulimit -c; id -un 2> /dev/null || id -u").await;
    assert!(said.starts_with("0\n"), "no dumps unless they are asked for: {said}");
    gone(garden, &handle).await;
}

/// What a container uses shows in its measures, and its age grows.
pub(super) async fn measures(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    let before = garden.metrics(&handle).await.expect("it is measured");
    let script = "head -c 3000000 /dev/zero > /tmp/zeros; i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done; echo ready; exec sleep 1000";
    let mut process = garden.run(&handle, sh(&fixture.user, script)).await.expect("a shell starts");
    super::ready(&mut process).await;
    let after = garden.metrics(&handle).await.expect("it is measured");
    assert!(after.disk_bytes >= before.disk_bytes + 2_900_000, "{before:?} {after:?}");
    assert!(after.cpu_nanos > before.cpu_nanos && after.age > before.age, "{before:?} {after:?}");
    assert!(after.pids == 1 && after.memory_bytes > 0, "{after:?}");
    gone(garden, &handle).await;
}

pub(super) async fn environment(garden: &dyn Garden, fixture: &Fixture) {
    let spec = ContainerSpec {
        env: vec![("A".into(), "1".into()), ("B".into(), "2".into())],
        ..fixture.spec()
    };
    let handle = garden.create(spec).await.expect("a container can be made").handle;
    let process = ProcessSpec {
        env: vec![("B".into(), "3 and more".into())],
        ..sh(
            &fixture.user,
            "echo \"$A/$B/$(test -n \"$HOME\" && echo home)\"; cat; pwd -P | grep -q . && ulimit -n",
        )
    };
    let mut process = garden
        .run(&handle, ProcessSpec { nofile: Some(123), ..process })
        .await
        .expect("a shell starts");
    assert_eq!(text(&mut process).await, "1/3 and more/home\n123\n");
    gone(garden, &handle).await;
}

/// A process that ends leaves its children running, and they do not hold up its exit; they end with the container.
pub(super) async fn orphans(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    let (said, exit) = outcome(garden, &handle, &fixture.user, "sleep 1000 & echo away").await;
    assert_eq!((said.as_str(), exit), ("away\n", Exit::Status(0)));
    timeout(PATIENCE, garden.stop(&handle, false))
        .await
        .expect("orphans stop too")
        .expect("it can be stopped");
    gone(garden, &handle).await;
}

/// More than any buffer on the way holds, read slowly, comes whole or with its losses counted.
pub(super) async fn much_output(garden: &dyn Garden, fixture: &Fixture) {
    const BYTES: u64 = 3_000_000;
    let handle = made(garden, fixture).await;
    let script = format!("head -c {BYTES} /dev/zero | tr '\\0' 'x'");
    let mut process =
        garden.run(&handle, sh(&fixture.user, &script)).await.expect("a shell starts");
    // The process ends whether anybody reads or not.
    assert_eq!(
        timeout(PATIENCE, process.wait()).await.expect("it ends in time"),
        Some(Exit::Status(0))
    );
    let (mut got, mut end) = (0, 0);
    while let Some(piece) =
        timeout(PATIENCE, process.output.recv()).await.expect("output ends in time")
    {
        got += piece.data.len() as u64 + piece.lost;
        end = piece.end;
    }
    assert_eq!((got, end), (BYTES, BYTES));
    gone(garden, &handle).await;
}

pub(super) async fn streams(garden: &dyn Garden, fixture: &Fixture) {
    let (one, two) = (made(garden, fixture).await, made(garden, fixture).await);
    let make = "mkdir -p /tmp/x/sub && echo deep > /tmp/x/sub/file && ln -s sub/file /tmp/x/link && chmod 750 /tmp/x/sub/file";
    assert_eq!(outcome(garden, &one, &fixture.user, make).await, (String::new(), Exit::Status(0)));
    let packed: Tar =
        garden.stream_out(&one, "/tmp/x", &fixture.user).await.expect("a folder can be packed");
    garden.stream_in(&two, "/tmp/y", &fixture.user, packed).await.expect("what was packed unpacks");
    let look = "cat /tmp/y/sub/file /tmp/y/link && stat -c %a /tmp/y/sub/file";
    assert_eq!(
        outcome(garden, &two, &fixture.user, look).await,
        ("deep\ndeep\n750\n".into(), Exit::Status(0))
    );
    let garbage: Tar = Box::pin(std::io::Cursor::new(vec![7_u8; 4096]));
    assert!(garden.stream_in(&two, "/tmp/z", &fixture.user, garbage).await.is_err());
    gone(garden, &one).await;
    gone(garden, &two).await;
}
