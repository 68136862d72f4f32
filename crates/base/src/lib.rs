//! What every crate stands on: time, guids, retry, reconcile loops, stopping and plain HTTP. No platform noun lives here.

mod backoff;
mod clock;
mod guid;
pub mod http;
pub mod millis;
mod reconcile;
mod shutdown;
pub mod tls;

#[doc(hidden)]
pub use serde;

pub use backoff::Backoff;
pub use clock::{Clock, Timestamp};
pub use guid::new_guid;
pub use reconcile::{Poke, Reconcile};
pub use shutdown::{Shutdown, Signal};
pub use tokio_util::sync::CancellationToken;
pub use tokio_util::task::TaskTracker;
