//! Bodies on their way through: a request's that can be sent again while nobody has read from it, and a response's
//! that tells when it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;

use crate::access_log::Pending;

/// The client's body. Each attempt gets a handle on it; only the first that reads moves it on.
pub(crate) struct RequestBody {
    inner: Option<Arc<Mutex<Incoming>>>,
    read: Arc<AtomicU64>,
}

impl RequestBody {
    pub(crate) fn new(body: Incoming) -> RequestBody {
        let inner = if body.is_end_stream() { None } else { Some(Arc::new(Mutex::new(body))) };
        RequestBody { inner, read: Arc::default() }
    }

    pub(crate) fn attempt(&self) -> Attempt {
        Attempt { inner: self.inner.clone(), read: self.read.clone() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inner.is_none()
    }

    /// Bytes that an attempt has taken so far; while there are none, another attempt may send the whole.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

pub(crate) struct Attempt {
    inner: Option<Arc<Mutex<Incoming>>>,
    read: Arc<AtomicU64>,
}

impl Body for Attempt {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = &self.inner else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *inner.lock()).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(1, |data| data.len() as u64);
            self.read.fetch_add(bytes, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(|inner| inner.lock().is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), |inner| inner.lock().size_hint())
    }
}

/// The app's body. When it is dropped, read to the end or not, the request is over and its log line is written.
pub(crate) struct ResponseBody {
    pub(crate) inner: Incoming,
    pub(crate) pending: Pending,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.pending.sent(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
