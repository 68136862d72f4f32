//! Containers and processes from their beginning to their end.

use std::collections::BTreeSet;

use tokio::time::timeout;

use super::{Fixture, PATIENCE, SPEAK, STUBBORN, WAIT, gone, made, outcome, ready, sh, text};
use crate::{
    ContainerSpec, Exit, Garden, GardenError, Handle, Limits, ProcessId, ProcessSignal,
    ProcessSpec, Result, WindowSize,
};

pub(super) async fn capacity(garden: &dyn Garden) {
    let capacity = garden.capacity().await.expect("it is known");
    assert!(capacity.memory_mb > 0 && capacity.disk_mb > 0 && capacity.containers > 0);
}

pub(super) async fn bulk(garden: &dyn Garden, fixture: &Fixture) {
    let (one, other, nobody) =
        (made(garden, fixture).await, made(garden, fixture).await, Handle::random());
    let asked = [one.clone(), nobody.clone(), other.clone()];
    let known = BTreeSet::from([&one, &other]);
    let infos = garden.bulk_info(&asked).await;
    assert_eq!(infos.len(), 3);
    for (handle, info) in &infos {
        match info {
            Ok(info) => assert!(known.contains(handle) && info.handle == *handle),
            Err(error) => {
                assert!(matches!(error, GardenError::UnknownContainer(one) if *one == nobody))
            }
        }
    }
    let metrics = garden.bulk_metrics(&asked).await;
    assert!(metrics[&one].is_ok() && metrics[&other].is_ok());
    assert!(matches!(metrics[&nobody], Err(GardenError::UnknownContainer(_))));
    gone(garden, &one).await;
    gone(garden, &other).await;
}

pub(super) async fn handles(garden: &dyn Garden, fixture: &Fixture) {
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

pub(super) async fn output_and_exit(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    assert_eq!(
        outcome(garden, &handle, &fixture.user, SPEAK).await,
        ("one\n!two\nthree\n".into(), Exit::Status(7))
    );
    gone(garden, &handle).await;
}

pub(super) async fn taking_up_again(garden: &dyn Garden, fixture: &Fixture) {
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

pub(super) async fn signals(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    use ProcessSignal::{Hangup, Interrupt, Kill, Quit, Terminate, User1, User2};
    for signal in [Terminate, Kill, Hangup, Interrupt, Quit, User1, User2] {
        let number = signal.number();
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

pub(super) async fn stopping(garden: &dyn Garden, fixture: &Fixture) {
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

pub(super) async fn destroying(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    let mut process =
        garden.run(&handle, sh(&fixture.user, STUBBORN)).await.expect("a shell starts");
    ready(&mut process).await;
    gone(garden, &handle).await;
    assert_eq!(timeout(PATIENCE, process.wait()).await.expect("waiting ends"), None);
    garden.destroy(&handle).await.expect("destroying again is no error");
    garden.destroy(&Handle::random()).await.expect("destroying nothing is no error");
}

pub(super) async fn unknown_things(garden: &dyn Garden, fixture: &Fixture) {
    let (nobody, process) = (Handle::random(), ProcessId::random());
    assert!(matches!(
        garden.run(&nobody, sh("", SPEAK)).await,
        Err(GardenError::UnknownContainer(_))
    ));
    assert!(matches!(garden.metrics(&nobody).await, Err(GardenError::UnknownContainer(_))));
    assert!(matches!(garden.stop(&nobody, true).await, Err(GardenError::UnknownContainer(_))));
    for error in about(garden, &nobody, &process).await {
        assert!(
            matches!(&error, Err(GardenError::UnknownContainer(one)) if *one == nobody),
            "{error:?}"
        );
    }
    let handle = made(garden, fixture).await;
    assert!(matches!(
        garden.attach(&handle, &process, 0).await,
        Err(GardenError::UnknownProcess(..))
    ));
    let signalled = garden.signal(&handle, &process, ProcessSignal::Kill).await;
    assert!(matches!(signalled, Err(GardenError::UnknownProcess(..))));
    for error in [
        garden.input(&handle, &process).await.map(drop),
        garden.close_input(&handle, &process).await,
        garden.resize(&handle, &process, WindowSize { columns: 1, rows: 1 }).await,
    ] {
        assert!(matches!(error, Err(GardenError::UnknownProcess(..))), "{error:?}");
    }
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

/// Every other call that names a container.
async fn about(garden: &dyn Garden, handle: &Handle, process: &ProcessId) -> Vec<Result<()>> {
    let size = WindowSize { columns: 1, rows: 1 };
    let archive = || Box::pin(std::io::Cursor::new(vec![0; 1024]));
    vec![
        garden.attach(handle, process, 0).await.map(drop),
        garden.signal(handle, process, ProcessSignal::Kill).await,
        garden.input(handle, process).await.map(drop),
        garden.close_input(handle, process).await,
        garden.resize(handle, process, size).await,
        garden.stream_in(handle, "/tmp/x", "", archive()).await,
        garden.stream_out(handle, "/tmp", "").await.map(drop),
        garden.limits(handle).await.map(drop),
        garden.set_limits(handle, Limits::default()).await,
        garden.net_in(handle, 8080, None).await.map(drop),
        garden.net_out(handle, Vec::new()).await,
        garden.properties(handle).await.map(drop),
        garden.property(handle, "a").await.map(drop),
        garden.set_property(handle, "a", "1").await,
        garden.remove_property(handle, "a").await,
        garden.set_grace_time(handle, None).await,
        garden.snapshot(handle).await.map(drop),
    ]
}
