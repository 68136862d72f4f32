//! One inotify queue for every folder a keeper writes to, so that output and exits wake their readers.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use base::{CancellationToken, TaskTracker};
use futures::StreamExt;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::error;

type Wakers = HashMap<WatchDescriptor, Waker>;

struct Waker {
    changed: watch::Sender<()>,
    readers: usize,
}

/// Wakes whoever follows a folder.
#[derive(Clone)]
pub struct Watches(Arc<Shared>);

struct Shared {
    queue: Mutex<inotify::Watches>,
    wakers: Mutex<Wakers>,
}

/// Says when something in one folder has changed. The folder is no longer watched when the last of these is gone.
pub struct Watched {
    shared: Arc<Shared>,
    descriptor: WatchDescriptor,
    changes: watch::Receiver<()>,
}

impl Watches {
    pub fn start(tasks: &TaskTracker, stop: CancellationToken) -> io::Result<Watches> {
        let queue = Inotify::init()?;
        let shared =
            Arc::new(Shared { queue: Mutex::new(queue.watches()), wakers: Mutex::default() });
        let events = queue.into_event_stream(vec![0; 16 * 1024])?;
        tasks.spawn(dispatch(shared.clone(), events, stop));
        Ok(Watches(shared))
    }

    pub fn watch(&self, folder: &Path) -> io::Result<Watched> {
        let mask = WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO;
        // Under the lock of the wakers, so that the same folder's last reader cannot leave in between.
        let mut wakers = self.0.wakers.lock();
        let descriptor = self.0.queue.lock().add(folder, mask)?;
        let waker = wakers
            .entry(descriptor.clone())
            .or_insert_with(|| Waker { changed: watch::Sender::new(()), readers: 0 });
        waker.readers += 1;
        Ok(Watched { shared: self.0.clone(), descriptor, changes: waker.changed.subscribe() })
    }
}

impl Watched {
    /// Completes after the next change, or at once when there was one since the last call.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The folder is gone; whoever waits has other signs to go by.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut wakers = self.shared.wakers.lock();
        if let Some(waker) = wakers.get_mut(&self.descriptor) {
            waker.readers -= 1;
            if waker.readers == 0 {
                wakers.remove(&self.descriptor);
                // An error says that the folder went first.
                let _ = self.shared.queue.lock().remove(self.descriptor.clone());
            }
        }
    }
}

async fn dispatch(shared: Arc<Shared>, mut events: EventStream<Vec<u8>>, stop: CancellationToken) {
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = stop.cancelled() => return,
        };
        match event {
            Some(Ok(event)) if event.mask.contains(EventMask::Q_OVERFLOW) => {
                shared.wakers.lock().values().for_each(|waker| waker.changed.send_replace(()));
            }
            Some(Ok(event)) => {
                if let Some(waker) = shared.wakers.lock().get(&event.wd) {
                    waker.changed.send_replace(());
                }
            }
            Some(Err(error)) => error!(%error, "no more news of containers' output"),
            None => return,
        }
    }
}
