//! Archives on their way into and out of a container, and what its processes are given to read.
#![expect(unsafe_code, reason = "registering a descriptor")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use garden::{GardenError, Result, Tar};
use shim::wire::{self, Reply, Request};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWrite, Interest};
use tracing::warn;

use super::Container;
use crate::keeper::{self, refused};

impl Container {
    pub(super) async fn unpack(
        self: &Arc<Container>,
        path: &str,
        user: &str,
        mut tar: Tar,
    ) -> Result<()> {
        let _used = self.hold();
        let (theirs, ours) = pipe().map_err(|error| GardenError::failed("making a pipe", error))?;
        let mut ours = tokio::net::unix::pipe::Sender::from_owned_fd(ours)
            .map_err(|error| GardenError::failed("making a pipe", error))?;
        let stream = wire::Stream { path: path.into(), user: user.into() };
        let request = Request::Unpack(stream);
        let asked = keeper::ask_with(self.folder(), &request, theirs);
        let send = async {
            let sent = tokio::io::copy(&mut tar, &mut ours).await;
            drop(ours);
            sent
        };
        let (mut asked, mut send) = (std::pin::pin!(asked), std::pin::pin!(send));
        let (reply, sent) = tokio::select! {
            // Whoever unpacks reads to the end, so an answer before it is a refusal.
            reply = &mut asked => (reply, Ok(0)),
            sent = &mut send => (asked.await, sent),
        };
        match reply.map_err(|error| GardenError::failed("asking the container's keeper", error))? {
            // Its reason is the better one: a broken pipe only follows from it.
            Reply::Refused(refusal) => Err(refused(refusal, None)),
            _ => sent.map(drop).map_err(|error| GardenError::failed("reading the archive", error)),
        }
    }

    /// The archive; an error on the way shows as one at its end. The future must be run beside it.
    pub(super) async fn pack(
        self: Arc<Container>,
        path: &str,
        user: &str,
    ) -> Result<(Tar, impl Future<Output = ()> + use<>)> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let fail = |error| GardenError::failed("packing", error);
        let (ours, theirs) = pipe().map_err(fail)?;
        let mut ours = tokio::net::unix::pipe::Receiver::from_owned_fd(ours).map_err(fail)?;
        let request = Request::Pack(wire::Stream { path: path.into(), user: user.into() });
        let used = self.hold();
        let asking = async move { keeper::ask_with(self.folder(), &request, theirs).await };
        let mut asking = Box::pin(asking);
        // Nothing to pack shows before the first byte, as an error of this call.
        let mut first = vec![0; 512];
        let mut early = None;
        let got = loop {
            tokio::select! {
                got = ours.read(&mut first) => break got.map_err(fail)?,
                reply = &mut asking, if early.is_none() => {
                    if let Reply::Refused(refusal) = reply.map_err(fail)? {
                        return Err(refused(refusal, None));
                    }
                    early = Some(());
                }
            }
        };
        if got == 0
            && early.is_none()
            && let Reply::Refused(refusal) = (&mut asking).await.map_err(fail)?
        {
            return Err(refused(refusal, None));
        }
        let (mut inner, outer) = tokio::io::duplex(64 * 1024);
        let done = async move {
            let _used = used;
            // A reader who goes away before the end wants no more; the packer then ends by a broken pipe.
            let copied = async {
                inner.write_all(&first[..got]).await?;
                tokio::io::copy(&mut ours, &mut inner).await
            };
            if let Err(error) = copied.await
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                warn!(%error, "an archive was not read to its end");
            }
            drop(ours);
            if got > 0
                && early.is_none()
                && let Ok(Reply::Refused(refusal)) = asking.await
            {
                warn!(why = %refusal.what, "an archive ends early");
            }
        };
        Ok((Box::pin(outer), done))
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    // Blocking for the one who unpacks; this side makes its own end non-blocking.
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((read, write))
}

/// The writing end of a pipe or terminal.
pub struct Writer(AsyncFd<OwnedFd>);

impl Writer {
    pub fn new(descriptor: OwnedFd) -> io::Result<Writer> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        // SAFETY: the descriptor is owned here for as long as it is registered.
        let descriptor =
            unsafe { AsyncFd::register_with_interest(descriptor, Interest::WRITABLE) }?;
        Ok(Writer(descriptor))
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(context))?;
            let written =
                ready.try_io(|descriptor| Ok(rustix::io::write(descriptor.as_fd(), bytes)?));
            if let Ok(written) = written {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
