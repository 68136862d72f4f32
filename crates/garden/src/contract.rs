//! What every [`Garden`] must do, as one suite for all of them. A violation panics, so each backend's tests call it.

mod changes;
mod code;
mod input;
mod life;

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    BindMount, ContainerSpec, Exit, Garden, GardenError, Handle, Process, ProcessSpec, Rootfs,
    Stream,
};

/// Says three lines, two on one stream and one on the other, and ends with 7.
pub const SPEAK: &str = "echo one; sleep 0.05; echo two >&2; sleep 0.05; echo three; exit 7";
/// Says that it is ready and ends by the first signal.
pub const WAIT: &str = "echo ready; exec sleep 1000";
/// Only SIGKILL ends it.
pub const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 1000; done";

/// Says what it reads, and ends with 0 at the end of that.
pub const ECHO: &str = "exec cat";

/// Longer than anything here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(180);

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
    life::capacity(garden).await;
    life::handles(garden, fixture).await;
    life::bulk(garden, fixture).await;
    life::output_and_exit(garden, fixture).await;
    life::taking_up_again(garden, fixture).await;
    life::signals(garden, fixture).await;
    life::stopping(garden, fixture).await;
    life::destroying(garden, fixture).await;
    life::unknown_things(garden, fixture).await;
    changes::properties(garden, fixture).await;
    changes::limits(garden, fixture).await;
    changes::ports(garden, fixture).await;
    changes::egress(garden, fixture).await;
    changes::grace_time(garden, fixture).await;
    input::reading(garden, fixture).await;
}

/// What user code sees; `life` and more.
pub async fn everything(garden: &dyn Garden, fixture: &Fixture) {
    life(garden, fixture).await;
    code::environment(garden, fixture).await;
    code::process_limits(garden, fixture).await;
    code::orphans(garden, fixture).await;
    code::much_output(garden, fixture).await;
    code::streams(garden, fixture).await;
    code::measures(garden, fixture).await;
    input::much_input(garden, fixture).await;
    input::terminals(garden, fixture).await;
}

async fn made(garden: &dyn Garden, fixture: &Fixture) -> Handle {
    garden.create(fixture.spec()).await.expect("a container can be made").handle
}

async fn gone(garden: &dyn Garden, handle: &Handle) {
    garden.destroy(handle).await.expect("a container can be destroyed");
    assert!(matches!(garden.info(handle).await, Err(GardenError::UnknownContainer(_))));
}
