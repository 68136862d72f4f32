//! The shim: parent of everything in one container. It makes the namespaces, becomes their first process, starts
//! processes when told through its socket, and keeps their output and exits on disk, so that nothing of a container
//! depends on the life of the program that asked for it. It knows nothing of networks, limits or images.
#![cfg_attr(not(test), no_main)]

mod archive;
mod exec;
mod mounts;
mod output;
mod place;
mod rest;
mod serve;
mod start;
mod sys;
mod user;

use shim::wire::{self, Refusal, Reply, Start};

/// The standard library's own start-up is left out: it would cost more memory than all the rest.
#[cfg(not(test))]
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the C library calls this by name")]
pub extern "C" fn main(_: libc::c_int, _: *const *const libc::c_char) -> libc::c_int {
    run()
}

/// Waits for its one message on standard input; without one (the platform went away) there is nothing to do.
#[cfg_attr(test, expect(dead_code, reason = "the program's entry"))]
fn run() -> i32 {
    start::prepare();
    let Some(start) = receive() else { return 1 };
    match start::start(&start) {
        Ok(()) => 0,
        Err(fault) => {
            refuse(&fault);
            1
        }
    }
}

fn receive() -> Option<Start> {
    let mut head = [0; 4];
    fill(&mut head)?;
    let length = wire::length(&head).ok()??;
    let mut bytes = vec![0; length];
    bytes[..4].copy_from_slice(&head);
    fill(&mut bytes[4..])?;
    wire::decode(&bytes)
}

fn fill(mut buffer: &mut [u8]) -> Option<()> {
    while !buffer.is_empty() {
        let got = usize::try_from(sys::read(0, buffer)).ok().filter(|got| *got > 0)?;
        buffer = &mut buffer[got..];
    }
    Some(())
}

/// Says on standard input, which is a socket, why there will be no container.
fn refuse(fault: &sys::Fault) {
    let refusal =
        Refusal { kind: wire::REFUSED_OTHER, errno: fault.errno, what: fault.what.clone() };
    // Nobody listening is no reason to do anything else than end.
    let _ = sys::write_all(0, &wire::encode(&Reply::Refused(refusal)));
}
