//! What the brain is known to know of each container, and how often it was told something: what was read from it before
//! it was told is old news.

use std::collections::HashMap;

use garden::Handle;
use parking_lot::Mutex;

use crate::work::Seen;

#[derive(Default)]
pub(crate) struct Book(Mutex<HashMap<Handle, Page>>);

#[derive(Default)]
struct Page {
    seen: Option<Seen>,
    /// Counts what was said to the brain.
    told: u64,
    /// Another instance was asked for, to take over.
    is_to_be_replaced: bool,
}

impl Book {
    pub fn seen(&self, guid: &Handle) -> Option<Seen> {
        self.0.lock().get(guid).and_then(|page| page.seen.clone())
    }

    pub fn take(&self, guid: &Handle) -> Option<Seen> {
        self.0.lock().get_mut(guid).and_then(|page| page.seen.take())
    }

    /// The brain is about to be told something: what is read from now on may be of before or after.
    pub fn telling(&self, guid: &Handle) {
        self.0.lock().entry(guid.clone()).or_default().told += 1;
    }

    /// The brain was told, and knows this now.
    pub fn told(&self, guid: &Handle, seen: Seen) {
        let mut pages = self.0.lock();
        let page = pages.entry(guid.clone()).or_default();
        page.told += 1;
        page.seen = Some(seen);
    }

    /// Whether this is the first time that another instance is asked for in its place.
    pub fn is_first_replacement(&self, guid: &Handle) -> bool {
        let mut pages = self.0.lock();
        !std::mem::replace(&mut pages.entry(guid.clone()).or_default().is_to_be_replaced, true)
    }

    /// To be asked before reading from the brain.
    pub fn version(&self, guid: &Handle) -> u64 {
        self.0.lock().get(guid).map_or(0, |page| page.told)
    }

    /// What was read from the brain; `false` when it was told something since `version`.
    #[must_use]
    pub fn read(&self, guid: &Handle, version: u64, seen: Seen) -> bool {
        let mut pages = self.0.lock();
        let page = pages.entry(guid.clone()).or_default();
        let fresh = page.told == version;
        if fresh {
            page.seen = Some(seen);
        }
        fresh
    }

    pub fn forget(&self, guid: &Handle) {
        self.0.lock().remove(guid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::View;

    #[test]
    fn old_news_is_no_news() {
        let (book, guid) = (Book::default(), Handle::from("a"));
        let before = book.version(&guid);
        assert!(book.read(&guid, before, Seen::Task(View::Pending)));
        book.telling(&guid);
        assert!(!book.read(&guid, before, Seen::Task(View::None)));
        let during = book.version(&guid);
        book.told(&guid, Seen::Task(View::Running { here: true }));
        assert!(!book.read(&guid, during, Seen::Task(View::None)));
        assert!(matches!(book.seen(&guid), Some(Seen::Task(View::Running { here: true }))));
        book.forget(&guid);
        assert!(book.take(&guid).is_none());
    }
}
