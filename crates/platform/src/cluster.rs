//! Several machines as one platform: the authority they trust, how a cell joins, and how its log lines come home.

mod admission;
mod authority;
mod forward;
mod identity;
mod losses;
mod receive;
mod spool;
mod subject;
mod token;

pub use admission::{Admission, Home, Joined, enter};
pub use authority::Authority;
pub use forward::Forward;
pub use identity::{CellAuthority, InstanceAuthority};
pub use receive::receiver;
pub use token::JoinToken;
