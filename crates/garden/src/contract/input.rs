//! What processes read, from a pipe or a terminal.

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::{ECHO, Fixture, PATIENCE, SPEAK, WAIT, gone, made, ready, sh, text};
use crate::{Exit, Garden, GardenError, Process, ProcessId, ProcessSpec, WindowSize};

pub(super) async fn reading(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    let id = ProcessId::from("reads");
    let spec = ProcessSpec { id: Some(id.clone()), stdin: true, ..sh(&fixture.user, ECHO) };
    let mut process = garden.run(&handle, spec).await.expect("a shell starts");
    let mut input = garden.input(&handle, &id).await.expect("it reads");
    input.write_all(b"one ").await.expect("it takes what is written");
    assert_eq!(until(&mut process, "one ").await, "one ");
    // Whoever comes later writes to the same.
    drop(input);
    let mut again = garden.input(&handle, &id).await.expect("it still reads");
    again.write_all(b"two").await.expect("it takes what is written");
    drop(again);
    garden.close_input(&handle, &id).await.expect("it can be closed");
    garden.close_input(&handle, &id).await.expect("closing again is no error");
    assert_eq!(text(&mut process).await, "two");
    let exit = timeout(PATIENCE, process.wait()).await.expect("it ends in time");
    assert_eq!(exit, Some(Exit::Status(0)));
    for script in [SPEAK, WAIT] {
        let mut other =
            garden.run(&handle, sh(&fixture.user, script)).await.expect("a shell starts");
        if script == SPEAK {
            timeout(PATIENCE, other.wait()).await.expect("it ends in time");
        } else {
            ready(&mut other).await;
        }
        let size = WindowSize { columns: 80, rows: 24 };
        for refused in [
            garden.input(&handle, &other.id).await.err(),
            garden.resize(&handle, &other.id, size).await.err(),
        ] {
            assert!(matches!(refused, Some(GardenError::NoInput(..))), "{refused:?}");
        }
    }
    assert!(matches!(garden.input(&handle, &id).await.err(), Some(GardenError::NoInput(..))));
    gone(garden, &handle).await;
}

/// More than a pipe holds, to a reader that takes its time.
pub(super) async fn much_input(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    let spec = ProcessSpec { stdin: true, ..sh(&fixture.user, "sleep 0.3; wc -c") };
    let mut process = garden.run(&handle, spec).await.expect("a shell starts");
    let mut input = garden.input(&handle, &process.id).await.expect("it reads");
    let much = vec![b'x'; 1_000_000];
    timeout(PATIENCE, input.write_all(&much)).await.expect("it reads in time").expect("it reads");
    garden.close_input(&handle, &process.id).await.expect("it can be closed");
    drop(input);
    assert_eq!(text(&mut process).await.trim(), "1000000");
    gone(garden, &handle).await;
}

pub(super) async fn terminals(garden: &dyn Garden, fixture: &Fixture) {
    let handle = made(garden, fixture).await;
    let on = |script: &str| ProcessSpec {
        tty: Some(WindowSize { columns: 101, rows: 33 }),
        ..sh(&fixture.user, script)
    };
    // Some shells' reading ends with the signal, and goes on when asked again.
    let script = "test -t 0 && test -t 1 && test -t 2 && echo terminal; stty size; stty -echo; \
                  trap 'stty size; told=1' WINCH; echo ready; \
                  while read -r line || test -n \"$told\"; do told=; test -n \"$line\" && echo got $line; done; echo end";
    let mut process = garden.run(&handle, on(script)).await.expect("a shell starts");
    assert_eq!(until(&mut process, "ready\r\n").await, "terminal\r\n33 101\r\nready\r\n");
    let size = WindowSize { columns: 60, rows: 20 };
    garden.resize(&handle, &process.id, size).await.expect("it has a size");
    let mut input = garden.input(&handle, &process.id).await.expect("it reads");
    input.write_all(b"words\n").await.expect("it takes what is written");
    let said = until(&mut process, "got words\r\n").await;
    assert!(said.contains("20 60\r\n"), "{said:?}");
    garden.close_input(&handle, &process.id).await.expect("it can be closed");
    let said = text(&mut process).await;
    assert!(said.ends_with("end\r\n"), "{said:?}");

    // What is typed to interrupt reaches whatever runs in front.
    let mut process = garden.run(&handle, on(WAIT)).await.expect("a shell starts");
    until(&mut process, "ready\r\n").await;
    let mut input = garden.input(&handle, &process.id).await.expect("it reads");
    input.write_all(&[3]).await.expect("it takes what is written");
    let exit = timeout(PATIENCE, process.wait()).await.expect("it ends in time");
    assert_eq!(exit, Some(Exit::Signal(2)));
    gone(garden, &handle).await;
}

/// What a process says until it has said `last`.
async fn until(process: &mut Process, last: &str) -> String {
    let mut said = String::new();
    while !said.ends_with(last) {
        let piece = timeout(PATIENCE, process.output.recv()).await.expect("it speaks in time");
        let piece = piece.unwrap_or_else(|| panic!("it ended after {said:?}"));
        said += &String::from_utf8_lossy(&piece.data);
    }
    said
}
