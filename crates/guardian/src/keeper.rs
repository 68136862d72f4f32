//! The platform's side of the shim: starting it, and asking the keeper of a container to do things.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use garden::{GardenError, Handle};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use shim::wire::{self, Refusal, Reply, Request, Start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim"));

/// Making a container takes milliseconds; a shim that needs longer than this is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// The shim as a file, which is never changed: running shims keep the one they were started from.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    pub fn install(dir: &Path) -> io::Result<Program> {
        let path = dir.join("shim");
        if fs::read(&path).ok().as_deref() != Some(PROGRAM) {
            let new = dir.join("shim.new");
            fs::write(&new, PROGRAM)?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
            fs::rename(&new, &path)?;
        }
        Ok(Program(path))
    }

    /// A shim that waits for its [`Start`], in the namespaces and the working folder of the calling thread.
    pub fn spawn(&self) -> io::Result<Waiting> {
        let (ours, theirs) = Socket::pair()?;
        let child = Command::new(&self.0)
            // Containers can read it, and learn no path of the host from it.
            .arg0("shim")
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Waiting { pid: child.id(), child: Some(child), socket: Some(ours) })
    }
}

/// A shim that has nothing to do yet. Dropping it ends it.
pub struct Waiting {
    child: Option<Child>,
    pid: u32,
    socket: Option<Socket>,
}

impl Waiting {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Blocks until the container's keeper is there, or says why it is not.
    pub fn start(mut self, start: &Start) -> Result<(), GardenError> {
        let mut socket = self.socket.take().expect("a shim starts once");
        let reply = talk(&mut socket, start)
            .map_err(|error| GardenError::failed("talking to a new shim", error));
        // The maker has done its part, or ends because its socket closes. Its end takes a while, since its mounts go with it.
        drop(socket);
        if let Some(mut child) = self.child.take() {
            tokio::task::spawn_blocking(move || child.wait());
        }
        match reply? {
            Reply::Done(()) => Ok(()),
            Reply::Refused(refusal) => Err(refused(refusal, None)),
            Reply::Running(_) => {
                Err(GardenError::failed("starting a shim", "an answer to another question"))
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.socket.take());
        if let Some(child) = &mut self.child {
            // Without its socket it has nothing to wait for, so this waits for a process that is ending.
            let _ = child.wait();
        }
    }
}

fn talk(socket: &mut Socket, start: &Start) -> io::Result<Reply> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(&wire::encode(start))?;
    let mut bytes = vec![0; 4];
    socket.read_exact(&mut bytes)?;
    let length = message_length(&bytes)?;
    bytes.resize(length, 0);
    socket.read_exact(&mut bytes[4..])?;
    wire::decode(&bytes).ok_or_else(garbled)
}

fn message_length(head: &[u8]) -> io::Result<usize> {
    wire::length(head).ok().flatten().ok_or_else(garbled)
}

fn garbled() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a message of another form; is the shim of another version?",
    )
}

/// What the keeper could not do, in the seam's words.
pub fn refused(refusal: Refusal, handle: Option<(&Handle, &garden::ProcessId)>) -> GardenError {
    match refusal.kind {
        wire::REFUSED_NO_PROGRAM => GardenError::ExecutableNotFound(refusal.what),
        wire::REFUSED_NO_USER => GardenError::UnknownUser(refusal.what),
        wire::REFUSED_NO_FILE => GardenError::FileNotFound(refusal.what),
        kind @ (wire::REFUSED_NO_PROCESS | wire::REFUSED_NO_INPUT) if handle.is_some() => {
            let (handle, process) = handle.expect("just looked");
            let (handle, process) = (handle.clone(), process.clone());
            if kind == wire::REFUSED_NO_INPUT {
                GardenError::NoInput(process, handle)
            } else {
                GardenError::UnknownProcess(process, handle)
            }
        }
        _ if refusal.errno == 0 => GardenError::failed("doing it in the container", refusal.what),
        _ => GardenError::failed(refusal.what, io::Error::from_raw_os_error(refusal.errno)),
    }
}

/// One question to one keeper, which lives in `dir`.
pub async fn ask(dir: BorrowedFd<'_>, request: &Request) -> io::Result<Reply> {
    let stream = connect(dir).await?;
    exchange(stream, &wire::encode(request)).await
}

/// A question that hands over a descriptor. The message is small, so that it goes in one piece.
pub async fn ask_with(
    dir: BorrowedFd<'_>,
    request: &Request,
    passed: OwnedFd,
) -> io::Result<Reply> {
    let stream = connect(dir).await?;
    let message = wire::encode(request);
    stream.writable().await?;
    let sent = stream.try_io(tokio::io::Interest::WRITABLE, || {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [std::os::fd::AsFd::as_fd(&passed)];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        Ok(rustix::net::sendmsg(
            &stream,
            &[io::IoSlice::new(&message)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?)
    })?;
    drop(passed);
    exchange(stream, &message[sent..]).await
}

/// A question whose answer may hand over a descriptor. The answer is small, so that it comes in one piece.
pub async fn ask_for(
    dir: BorrowedFd<'_>,
    request: &Request,
) -> io::Result<(Reply, Option<OwnedFd>)> {
    let mut stream = connect(dir).await?;
    stream.write_all(&wire::encode(request)).await?;
    let mut bytes = vec![0; 4096];
    let (length, passed) = stream
        .async_io(tokio::io::Interest::READABLE, || {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut part = [io::IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got = rustix::net::recvmsg(&stream, &mut part, &mut control, flags)?;
            let mut passed = None;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    passed = descriptors.into_iter().next();
                }
            }
            Ok((got.bytes, passed))
        })
        .await?;
    let reply = wire::decode(&bytes[..length]).ok_or_else(garbled)?;
    Ok((reply, passed))
}

/// The socket is named through the folder's descriptor: its own path may be longer than such names can be.
pub async fn connect(dir: BorrowedFd<'_>) -> io::Result<UnixStream> {
    UnixStream::connect(format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), shim::SOCKET)).await
}

pub async fn exchange(mut stream: UnixStream, message: &[u8]) -> io::Result<Reply> {
    stream.write_all(message).await?;
    let mut bytes = vec![0; 4];
    stream.read_exact(&mut bytes).await?;
    let length = message_length(&bytes)?;
    bytes.resize(length, 0);
    stream.read_exact(&mut bytes[4..]).await?;
    wire::decode(&bytes).ok_or_else(garbled)
}
