//! Requests as they come in, and their answers.

use std::os::fd::RawFd;

use shim::wire::{self, Reply, Request};

use crate::sys::{self, close};

pub(super) struct Connection {
    pub fd: RawFd,
    pub bytes: Vec<u8>,
    /// A descriptor that came with a message.
    pub passed: RawFd,
    /// Waits until nothing runs.
    pub waits: bool,
}

pub(super) enum Received {
    More,
    Closed,
    Message(Request),
}

/// Takes in what has come, with a descriptor that may travel along.
pub(super) fn read_message(connection: &mut Connection) -> Received {
    let mut chunk = [0_u8; 4096];
    let mut control = [0_u64; 4];
    let mut part = libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: chunk.len() };
    // SAFETY: the header points at the buffers above with their sizes; control messages are walked as the macros do.
    let got = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        let got = libc::recvmsg(connection.fd, &raw mut header, libc::MSG_CMSG_CLOEXEC);
        if got > 0 {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            if !first.is_null() && (*first).cmsg_type == libc::SCM_RIGHTS {
                close(connection.passed);
                connection.passed =
                    std::ptr::read_unaligned(libc::CMSG_DATA(first).cast::<RawFd>());
            }
        }
        got
    };
    if got < 0 && matches!(sys::errno(), libc::EAGAIN | libc::EINTR) {
        return Received::More;
    }
    if got <= 0 {
        return Received::Closed;
    }
    connection.bytes.extend_from_slice(&chunk[..got as usize]);
    match wire::length(&connection.bytes) {
        Ok(Some(length)) if length <= connection.bytes.len() => {
            let message = wire::decode(&connection.bytes[..length]);
            connection.bytes = Vec::new();
            message.map_or(Received::Closed, Received::Message)
        }
        Ok(_) => Received::More,
        Err(wire::TooLong) => Received::Closed,
    }
}

pub(super) fn answer(fd: RawFd, reply: &Reply) {
    if fd >= 0 {
        // Whoever does not take its small answer has gone away.
        let _ = sys::write_all(fd, &wire::encode(reply));
    }
}

/// An answer that hands over a copy of a descriptor. It is small, so that it goes in one piece.
pub(super) fn answer_with(fd: RawFd, reply: &Reply, passed: RawFd) {
    let mut bytes = wire::encode(reply);
    let mut control = [0_u64; 4];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: the header points at the buffers above, and the one control message fits, as the macros count.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        let size = size_of::<RawFd>() as u32;
        header.msg_controllen = libc::CMSG_SPACE(size) as _;
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(size) as _;
        std::ptr::write_unaligned(libc::CMSG_DATA(first).cast::<RawFd>(), passed);
        // Whoever does not take it has gone away.
        libc::sendmsg(fd, &raw const header, libc::MSG_NOSIGNAL);
    }
}
