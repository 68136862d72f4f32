//! Bodies of answers: bytes at hand, or a file read piece by piece.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// A file is read while it is sent; its pages are the kernel's, so a read hardly ever waits.
const PIECE_BYTES: u64 = 32 * 1024;

#[derive(Debug)]
pub enum Body {
    Bytes(Bytes),
    File { file: File, left: u64 },
}

impl Body {
    pub fn empty() -> Body {
        Body::Bytes(Bytes::new())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body::Bytes(text.into())
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match self.get_mut() {
            Body::Bytes(bytes) if bytes.is_empty() => None,
            Body::Bytes(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Body::File { left: 0, .. } => None,
            Body::File { file, left } => {
                let mut piece =
                    vec![0; usize::try_from(PIECE_BYTES.min(*left)).expect("pieces are small")];
                Some(file.read(&mut piece).and_then(|read| match read {
                    // The promised length cannot be kept: the connection must break.
                    0 => Err(io::ErrorKind::UnexpectedEof.into()),
                    read => {
                        *left -= read as u64;
                        piece.truncate(read);
                        Ok(Frame::data(piece.into()))
                    }
                }))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File { left, .. } => *left,
        })
    }
}
