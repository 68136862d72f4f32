//! What every [`Garden`] must do, as one suite for all of them. A violation panics, so each backend's tests call it.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    BindMount, ContainerSpec, Exit, Garden, GardenError, Handle, Process, ProcessId, ProcessSignal,
    ProcessSpec, Rootfs, Stream, Tar,
};

/// Says three lines, two on one stream and one on the other, and ends with 7.
pub const SPEAK: &str = "echo one; sleep 0.05; echo two >&2; sleep 0.05; echo three; exit 7";
/// Says that it is ready and ends by the first signal.
pub const WAIT: &str = "echo ready; exec sleep 1000";
/// Only SIGKILL ends it.
pub const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 1000; done";

/// Longer than anything here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a backend needs to run a shell.
#[derive(Clone, Debug, Default)]
pub struct Fixture {
    pub rootfs: Rootfs,
    pub mounts: Vec<BindMount>,
    /// A user there is in the root file system.
    pub user: String,
}

impl Fixture {
    pub fn spec(&self) -> ContainerSpec {
        let handle = Some(Handle::random());
        ContainerSpec {
            handle,
            rootfs: self.rootfs.clone(),
            mounts: self.mounts.clone(),
            ..ContainerSpec::default()
        }
    }
}

/// A shell's script as a process.
pub fn sh(user: &str, script: &str) -> ProcessSpec {
    let args = vec!["-c".into(), script.into()];
    ProcessSpec { path: "sh".into(), args, user: user.into(), ..ProcessSpec::default() }
}

/// All output of a process to its end; `!` stands before each piece of standard error.
pub async fn text(process: &mut Process) -> String {
    let mut all = String::new();
    while let Some(piece) =
        timeout(PATIENCE, process.output.recv()).await.expect("output ends in time")
    {
        if piece.lost > 0 {
            all += &format!("({} lost)", piece.lost);
        }
        if piece.stream == Stream::Stderr {
            all.push('!');
        }
        all += &String::from_utf8_lossy(&piece.data);
    }
    all
}

/// Runs a script to its end: output and exit.
pub async fn outcome(
    garden: &dyn Garden,
    handle: &Handle,
    user: &str,
    script: &str,
) -> (String, Exit) {
    let mut process = garden.run(handle, sh(user, script)).await.expect("a shell starts");
    let said = text(&mut process).await;
    (
        said,
        timeout(PATIENCE, process.wait()).await.expect("it ends in time").expect("it has an exit"),
    )
}

async fn ready(process: &mut Process) -> u64 {
    let piece = timeout(PATIENCE, process.output.recv())
        .await
        .expect("it speaks in time")
        .expect("it speaks");
    assert_eq!(&piece.data[..], b"ready\n");
    piece.end
}

/// What also holds where no user code runs.
pub async fn life(garden: &dyn Garden, fixture: &Fixture) {
    handles(garden, fixture).await;
    properties(garden, fixture).await;
    output_and_exit(garden, fixture).await;
    taking_up_again(garden, fixture).await;
    signals(garden, fixture).await;
    stopping(garden, fixture).await;
    destroying(garden, fixture).await;
    unknown_things(garden, fixture).await;
}

/// What user code sees; `life` and more.
pub async fn everything(garden: &dyn Garden, fixture: &Fixture) {
    life(garden, fixture).await;
    environment(garden, fixture).await;
    orphans(garden, fixture).await;
    much_output(garden, fixture).await;
    streams(garden, fixture).await;
}

async fn made(garden: &dyn Garden, fixture: &Fixture) -> Handle {
    garden.create(fixture.spec()).await.expect("a container can be made").handle
}

async fn gone(garden: &dyn Garden, handle: &Handle) {
    garden.destroy(handle).await.expect("a container can be destroyed");
    assert!(matches!(garden.info(handle).await, Err(GardenError::UnknownContainer(_))));
}

async fn handles(garden: &dyn Garden, fixture: &Fixture) {
    let spec = ContainerSpec { ports: vec![8080, 2222], ..fixture.spec() };
    let info = garden.create(spec.clone()).await.expect("a container can be made");
    assert_eq!(Some(&info.handle), spec.handle.as_ref());
    assert_eq!(info.ports.iter().map(|port| port.asked_port).collect::<Vec<_>>(), [8080, 2222]);
    assert_ne!(info.ports[0].host_port, info.ports[1].host_port);
    assert!(matches!(garden.create(spec).await, Err(GardenError::HandleTaken(_))));
    assert_eq!(garden.info(&info.handle).await.expect("it is there"), info);
    assert!(garden.containers().await.expect("they are listed").contains(&info));
    gone(garden, &info.handle).await;
    assert!(
        !garden
            .containers()
            .await
            .expect("they are listed")
            .iter()
            .any(|one| one.handle == info.handle)
    );
}

async fn properties(garden: &dyn Garden, fixture: &Fixture) {
    let mut spec = fixture.spec();
    spec.properties.insert("a".into(), "1".into());
    let handle = garden.create(spec).await.expect("a container can be made").handle;
    garden.set_property(&handle, "b", "2").await.expect("a property can be set");
    garden.set_property(&handle, "a", "3").await.expect("a property can be changed");
    let properties = garden.info(&handle).await.expect("it is there").properties;
    assert_eq!(
        properties.into_iter().collect::<Vec<_>>(),
        [("a".into(), "3".into()), ("b".into(), "2".into())]
    );
    gone(garden, &handle).await;
}

async fn output_and_exit(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    assert_eq!(
        outcome(garden, &handle, &fixture.user, SPEAK).await,
        ("one\n!two\nthree\n".into(), Exit::Status(7))
    );
    gone(garden, &handle).await;
}

async fn taking_up_again(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    let id = ProcessId::from("named");
    let spec = ProcessSpec { id: Some(id.clone()), ..sh(&fixture.user, SPEAK) };
    let mut first = garden.run(&handle, spec.clone()).await.expect("a shell starts");
    assert_eq!(first.id, id);
    assert!(garden.run(&handle, spec).await.is_err(), "a process's id is its own");
    timeout(PATIENCE, first.wait()).await.expect("it ends in time");
    let mut all = garden.attach(&handle, &id, 0).await.expect("it can be taken up");
    assert_eq!(text(&mut all).await, "one\n!two\nthree\n");
    assert_eq!(all.wait().await, Some(Exit::Status(7)));
    let mut rest = garden.attach(&handle, &id, 6).await.expect("it can be taken up");
    assert_eq!(text(&mut rest).await, "!o\nthree\n");
    let mut nothing = garden.attach(&handle, &id, 14).await.expect("it can be taken up");
    assert_eq!(text(&mut nothing).await, "");
    assert!(garden.info(&handle).await.expect("it is there").processes.contains(&id));
    gone(garden, &handle).await;
}

async fn signals(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    for (signal, number) in [(ProcessSignal::Terminate, 15), (ProcessSignal::Kill, 9)] {
        let mut process =
            garden.run(&handle, sh(&fixture.user, WAIT)).await.expect("a shell starts");
        ready(&mut process).await;
        garden.signal(&handle, &process.id, signal).await.expect("it can be signalled");
        let exit = timeout(PATIENCE, process.wait())
            .await
            .expect("it ends in time")
            .expect("it has an exit");
        assert_eq!((&exit, exit.status()), (&Exit::Signal(number), 128 + number));
        garden
            .signal(&handle, &process.id, signal)
            .await
            .expect("signalling what has ended is no error");
    }
    gone(garden, &handle).await;
}

async fn stopping(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    garden.stop(&handle, false).await.expect("stopping nothing is no error");
    for (script, kill) in [(WAIT, false), (STUBBORN, true)] {
        let (mut one, mut other) = (
            garden.run(&handle, sh(&fixture.user, script)).await.expect("a shell starts"),
            garden.run(&handle, sh(&fixture.user, script)).await.expect("a shell starts"),
        );
        ready(&mut one).await;
        ready(&mut other).await;
        timeout(PATIENCE, garden.stop(&handle, kill))
            .await
            .expect("it stops in time")
            .expect("it can be stopped");
        for process in [&mut one, &mut other] {
            let exit = timeout(PATIENCE, process.wait()).await.expect("it ends in time");
            assert_eq!(exit, Some(Exit::Signal(if kill { 9 } else { 15 })));
        }
    }
    gone(garden, &handle).await;
}

async fn destroying(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    let mut process =
        garden.run(&handle, sh(&fixture.user, STUBBORN)).await.expect("a shell starts");
    ready(&mut process).await;
    gone(garden, &handle).await;
    assert_eq!(timeout(PATIENCE, process.wait()).await.expect("waiting ends"), None);
    garden.destroy(&handle).await.expect("destroying again is no error");
    garden.destroy(&Handle::random()).await.expect("destroying nothing is no error");
}

async fn unknown_things(garden: &dyn Garden, fixture: &Fixture) {
    let (nobody, process) = (Handle::random(), ProcessId::random());
    assert!(matches!(
        garden.run(&nobody, sh("", SPEAK)).await,
        Err(GardenError::UnknownContainer(_))
    ));
    assert!(matches!(garden.metrics(&nobody).await, Err(GardenError::UnknownContainer(_))));
    assert!(matches!(garden.stop(&nobody, true).await, Err(GardenError::UnknownContainer(_))));
    let handle = made(garden, fixture).await;
    assert!(matches!(
        garden.attach(&handle, &process, 0).await,
        Err(GardenError::UnknownProcess(..))
    ));
    let signalled = garden.signal(&handle, &process, ProcessSignal::Kill).await;
    assert!(matches!(signalled, Err(GardenError::UnknownProcess(..))));
    let missing = ProcessSpec {
        path: "no-such-program".into(),
        user: fixture.user.clone(),
        ..ProcessSpec::default()
    };
    let missing = garden.run(&handle, missing).await;
    assert!(matches!(&missing, Err(GardenError::ExecutableNotFound(_))), "{missing:?}");
    let out = garden.stream_out(&handle, "/tmp/nothing-here", &fixture.user).await;
    let out = out.err();
    assert!(matches!(&out, Some(GardenError::FileNotFound(_))), "{out:?}");
    gone(garden, &handle).await;
}

async fn environment(garden: &dyn Garden, fixture: &Fixture) {
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
async fn orphans(garden: &dyn Garden, fixture: &Fixture) {
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
async fn much_output(garden: &dyn Garden, fixture: &Fixture) {
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

async fn streams(garden: &dyn Garden, fixture: &Fixture) {
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
