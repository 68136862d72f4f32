//! Hands events to whoever listens. A listener that falls behind is cut off: it subscribes and lists anew.

use diego::Event;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

#[derive(Debug)]
pub(crate) struct Hub {
    buffer: usize,
    listeners: Mutex<Vec<mpsc::Sender<Event>>>,
}

impl Hub {
    pub fn new(buffer: usize) -> Hub {
        Hub { buffer: buffer.max(1), listeners: Mutex::default() }
    }

    /// Everything from now on, in order.
    pub fn subscribe(&self) -> BoxStream<'static, Event> {
        let (sender, receiver) = mpsc::channel(self.buffer);
        self.listeners.lock().push(sender);
        ReceiverStream::new(receiver).boxed()
    }

    pub fn publish(&self, events: &[Event]) {
        let keeps_up = |listener: &mut mpsc::Sender<Event>| {
            events.iter().all(|event| listener.try_send(event.clone()).is_ok())
        };
        self.listeners.lock().retain_mut(keeps_up);
    }

    /// Ends every stream.
    pub fn close(&self) {
        self.listeners.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use diego::{Task, TaskDefinition};

    use super::*;

    fn event(guid: &str) -> Event {
        let task = Task::pending(
            guid.into(),
            "d".into(),
            TaskDefinition::default(),
            base::Timestamp::ZERO,
        );
        Event::TaskCreated { task: Arc::new(task) }
    }

    #[tokio::test]
    async fn the_slow_are_cut_off_and_the_others_are_not() {
        let hub = Hub::new(3);
        let slow = hub.subscribe();
        let mut quick = hub.subscribe();
        let all = [event("a"), event("b"), event("c"), event("d")];
        for each in &all {
            hub.publish(std::slice::from_ref(each));
            assert_eq!(quick.next().await, Some(each.clone()));
        }
        let got: Vec<_> = slow.collect().await;
        assert_eq!(got, all[..3], "what came before the cut is whole and in order");
        hub.close();
        assert_eq!(quick.next().await, None);
    }
}
