//! Bytes both ways between two sockets, until both sides have ended or nothing moves any more.

use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::Instant;

/// Taken while bytes move, so that a quiet connection holds no buffer.
const BUFFER: usize = 32 * 1024;

/// An end of one side is passed on, and the other side may go on until it ends too.
///
/// # Errors
/// What broke one of the two connections, or that nothing moved for `idle`.
pub(super) async fn relay(
    client: &mut TcpStream,
    backend: &mut TcpStream,
    idle: Duration,
) -> Result<()> {
    let seen = Seen { since: Instant::now(), last: AtomicU64::new(0) };
    let ((from_client, to_client), (from_backend, to_backend)) = (client.split(), backend.split());
    let both = async {
        tokio::try_join!(pump(from_client, to_backend, &seen), pump(from_backend, to_client, &seen))
    };
    tokio::select! {
        ended = both => ended.map(drop),
        () = seen.quiet_for(idle) => Err(Error::new(ErrorKind::TimedOut, "nothing moved for too long")),
    }
}

async fn pump(from: ReadHalf<'_>, mut to: WriteHalf<'_>, seen: &Seen) -> Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match from.try_read(&mut buffer) {
                Ok(0) => {
                    seen.now();
                    // Who went away altogether needs not be told; the other direction finds out.
                    let _ = to.shutdown().await;
                    return Ok(());
                }
                Ok(count) => {
                    seen.now();
                    to.write_all(&buffer[..count]).await?;
                    seen.now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// When something moved last, in milliseconds since the beginning.
struct Seen {
    since: Instant,
    last: AtomicU64,
}

impl Seen {
    fn now(&self) {
        let passed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }

    /// Wakes once per `idle` at most, however much moves.
    async fn quiet_for(&self, idle: Duration) {
        loop {
            let last = self.since + Duration::from_millis(self.last.load(Ordering::Relaxed));
            if last.elapsed() >= idle {
                return;
            }
            tokio::time::sleep_until(last + idle).await;
        }
    }
}
